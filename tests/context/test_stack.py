"""The closed-form stack on graphs of every kind."""

import dgl
import numpy as np
import pytest
import torch
from block_graphs import accuracy, blocks, with_masks
from scipy.optimize import approx_fprime
from sklearn.metrics import roc_auc_score

import lipzoo
from lipzoo.context import ClosedFormStack, closed_form_evidence, operators
from lipzoo.context.evidence import Context
from lipzoo.context.operators import Neighbourhood, structural_feat
from lipzoo.context.stack import stack_weights
from lipzoo.datasets import GraphTask
from lipzoo.errors import ConfigError, DataError


@pytest.mark.parametrize("same", [0.9, 0.05])
def test_it_learns_from_neighbours_that_are_like_and_unlike(same):
    task = blocks(same=same)
    stack = ClosedFormStack().fit(task)
    proba = stack.predict_proba()
    assert proba.shape == (300, 3)
    torch.testing.assert_close(proba.sum(1), torch.ones(300))
    assert torch.equal(proba.argmax(1), stack.predict())
    # Features alone reach about 0.55.
    assert accuracy(task, stack.predict()) > 0.7
    assert all(weight >= 0 for weight in stack.weights_.values())


def test_only_training_labels_are_read():
    task = blocks()
    first = ClosedFormStack().fit(task).predict_proba()
    graph = task.graph.clone()
    labels = task.labels.clone()
    labels[~task.train_mask] = (labels[~task.train_mask] + 1) % 3
    graph.ndata["label"] = labels
    second = ClosedFormStack().fit(GraphTask.from_graph(graph, num_classes=3)).predict_proba()
    assert torch.equal(first, second)


def shared_neighbourhoods():
    """The sum over a node's neighbours, less what it gives itself, is the same for many."""
    n = 240

    def star(size):
        leaf = np.arange(n)
        return leaf[leaf % size > 0] // size * size, leaf[leaf % size > 0]

    def clique(size):
        pairs = np.array([(a, b) for a in range(n) for b in range(a) if a // size == b // size])
        return pairs[:, 0], pairs[:, 1]

    yield pytest.param(*star(n), 1.0, id="a star")
    yield pytest.param(*star(n), 0.5, id="a star, half of it labelled")
    yield pytest.param(*star(8), 0.13, id="stars, few labels")
    yield pytest.param(*clique(80), 1.0, id="cliques")
    yield pytest.param(*clique(n), 0.5, id="a clique")


@pytest.mark.parametrize("classes", [2, 6])
@pytest.mark.parametrize(("src", "dst", "share"), list(shared_neighbourhoods()))
def test_labels_at_random_say_nothing(src, dst, share, classes):
    rng = np.random.default_rng(0)
    graph = dgl.graph((np.r_[src, dst], np.r_[dst, src]), num_nodes=240)
    label = rng.integers(0, classes, 240)
    task = with_masks(graph, rng.standard_normal((240, 4)), label, rng, (share, 0.0))
    evidence = closed_form_evidence(task)
    # What the best of some sixty settings seems to gain by chance.
    assert evidence.gain.max() < 0.1 + 4 / task.train_mask.sum()
    said = ClosedFormStack().fit(task).predict() == task.labels
    assert said[task.train_mask].float().mean() < 1 / classes + 0.25


def test_parts_of_the_context_have_the_same_labels():
    context = Context.of(blocks())
    for part in np.unique(context.fold):
        share = context.onehot[context.fold == part].mean(0)
        np.testing.assert_allclose(share, context.onehot.mean(0), atol=0.05)


def test_isolated_nodes_leave_the_spectrum_to_the_others():
    task = blocks(n=320, classes=4, same=0.97, noise=50.0)
    bigger = dgl.add_nodes(task.graph, 200)
    gains = [
        dict(zip(e.names, e.gain, strict=True))["spectrum"]
        for e in map(closed_form_evidence, (task, GraphTask.from_graph(bigger)))
    ]
    assert min(gains) > 0.5


@pytest.mark.parametrize("scale", [1e-30, 1e-10, 1e19, 1e37])
def test_the_size_of_many_features_does_not_matter(scale):
    task = blocks(columns=100, same=0.3, noise=1.0)
    graph = task.graph.clone()
    graph.ndata["feat"] = graph.ndata["feat"] * scale
    scaled = ClosedFormStack().fit(GraphTask.from_graph(graph))
    assert accuracy(task, scaled.predict()) > 0.95


def test_triangles_are_counted_some_rows_at_a_time(monkeypatch):
    near = Neighbourhood.of(blocks())
    whole = structural_feat(near)
    monkeypatch.setattr(operators, "_STEPS_AT_ONCE", 100)
    np.testing.assert_array_equal(structural_feat(near), whole)


def test_the_same_for_the_same_seed_and_for_classes_in_another_order():
    task = blocks()
    first = ClosedFormStack(seed=3).fit(task).predict_proba()
    assert torch.equal(first, ClosedFormStack(seed=3).fit(task).predict_proba())
    order = torch.tensor([2, 0, 1])
    graph = task.graph.clone()
    graph.ndata["label"] = order[task.labels]
    swapped = ClosedFormStack(seed=3).fit(GraphTask.from_graph(graph)).predict_proba()
    # Random features read the neighbours' labels: a class is another column to them.
    assert (swapped[:, order].argmax(1) == first.argmax(1)).float().mean() > 0.9


def test_one_label_a_class():
    """Left out, it cannot be said by anything: no reason to distrust all predictors."""
    task = blocks(n=300, same=0.95, noise=0.5)
    graph = task.graph.clone()
    train = torch.zeros(300, dtype=torch.bool)
    for label in range(3):
        train[(task.labels == label).nonzero()[0]] = True
    graph.ndata["train_mask"] = train
    for name in ("val_mask", "test_mask"):
        graph.ndata[name] = graph.ndata[name] & ~train
    few = GraphTask.from_graph(graph)
    assert not Context.of(few).judged.any()
    stack = ClosedFormStack().fit(few)
    assert accuracy(few, stack.predict()) > 0.8
    assert len({round(weight, 6) for weight in stack.weights_.values()}) == 1


def test_several_labels_a_node():
    task = blocks(n=400, columns=6, noise=1.0)
    onehot = torch.nn.functional.one_hot(task.labels, 3)
    graph = task.graph.clone()
    several = torch.stack([onehot[:, 0] | onehot[:, 1], onehot[:, 2]], 1).float()
    graph.ndata["label"] = several
    multi = GraphTask.from_graph(graph)
    stack = ClosedFormStack().fit(multi)
    proba = stack.predict_proba()
    assert proba.shape == (400, 2)
    assert stack.predict_log_proba().shape == (400, 2, 2)
    assert set(stack.predict().unique().tolist()) == {0, 1}
    test = multi.test_mask
    assert roc_auc_score(several[test].numpy(), proba[test].numpy()) > 0.9


def odd_tasks():
    rng = np.random.default_rng(0)
    label = np.arange(10) % 2

    def of(name, src, dst, feat, label, n=10, shares=(0.4, 0.3)):
        graph = dgl.graph((np.array(src, int), np.array(dst, int)), num_nodes=n)
        return pytest.param(with_masks(graph, feat, label, rng, shares), id=name)

    path = range(9), range(1, 10)
    yield of("ten nodes", *path, rng.standard_normal((10, 2)), label)
    yield of("no edges", [], [], rng.standard_normal((10, 3)), label)
    yield of("constant features", *path, np.ones((10, 4)), label)
    yield of("self-loops and repeats", [0, 0, 0, 1, 1], [0, 1, 1, 1, 1], np.eye(10), label)
    yield of("one context node", *path, rng.standard_normal((10, 2)), label, shares=(0.1, 0.4))
    yield of("a class with one label", *path, rng.standard_normal((10, 2)), np.r_[2, label[1:]])
    yield of("a class without a label", *path, np.eye(10), np.where(np.arange(10) == 9, 5, label))
    yield of("wide, dense, negative", *path, rng.standard_normal((10, 90)), label)
    yield of("wide, words", *path, rng.integers(0, 2, (10, 90)), label)
    yield of("wide, one row of zeros", *path, np.r_[np.zeros((1, 90)), np.ones((9, 90))], label)
    yield of("huge features", *path, 1e30 * rng.standard_normal((10, 2)), label)
    yield of("a star", [0] * 9, range(1, 10), np.eye(10), label)
    yield of("two nodes", [0], [1], np.eye(2), np.array([0, 1]), 2, (0.5, 0.5))


@pytest.mark.parametrize("task", list(odd_tasks()))
def test_odd_graphs_have_probabilities(task):
    proba = ClosedFormStack().fit(task).predict_proba()
    assert proba.shape == (task.graph.num_nodes(), task.num_classes)
    assert torch.isfinite(proba).all()
    torch.testing.assert_close(proba.sum(1), torch.ones(len(proba)))


def test_without_training_nodes_it_says_so():
    task = blocks(n=30)
    task.graph.ndata["train_mask"][:] = False
    with pytest.raises(DataError, match="no training node"):
        ClosedFormStack().fit(task)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": torch.full((30,), -1)}, "without a label"),
        ({"label": None}, "no labels"),
        ({"train_mask": None}, "has no train_mask"),
        ({"feat": torch.full((30, 5), torch.nan)}, "feat"),
        ({"train_mask": torch.ones(30, 2, dtype=torch.bool)}, "mask"),
    ],
)
def test_what_cannot_be_a_context_is_refused(change, message):
    task = blocks(n=30)
    for name, value in change.items():
        if value is None:
            del task.graph.ndata[name]
        else:
            task.graph.ndata[name] = value
    with pytest.raises(DataError, match=message):
        ClosedFormStack().fit(task)


@pytest.mark.parametrize(
    "arguments",
    [
        *({"penalty": p} for p in (0, -1.0, np.nan, "5")),
        *({"width": w} for w in (0, 2.5, True)),
        *({"seed": s} for s in (-1, None, 2**32)),
    ],
)
def test_arguments(arguments):
    with pytest.raises(ConfigError, match=next(iter(arguments))):
        ClosedFormStack(**arguments)


def test_it_has_to_be_fitted():
    with pytest.raises(ConfigError, match="fit"):
        ClosedFormStack().predict()


def test_weights_are_a_minimum():
    task = blocks(n=150)
    evidence = closed_form_evidence(task)
    context, weights = evidence.context, stack_weights(evidence, 5.0)
    said = np.maximum(evidence.log_proba[:, context.index, 0], -9.0).astype(np.float64)

    def loss(w):
        z = np.tensordot(w, said, 1)
        right = z[np.arange(len(z)), context.labels[:, 0]]
        return (np.log(np.exp(z).sum(1)) - right).sum() + 5 * ((w - 1 / len(w)) ** 2).sum()

    slope = approx_fprime(weights, loss, 1e-6)
    assert abs(slope[weights > 1e-6]).max() < 0.05
    assert (slope[weights <= 1e-6] > -0.05).all()


def test_structure_of_a_triangle_with_a_tail():
    src, dst = [0, 1, 2, 2], [1, 2, 0, 3]
    graph = dgl.graph((src + dst, dst + src), num_nodes=4)
    graph.ndata["feat"] = torch.zeros(4, 1)
    near = Neighbourhood.of(GraphTask.from_graph(graph))
    np.testing.assert_array_equal(near.degree, [2, 2, 3, 1])
    # Node 3 is back after two steps with 1/3, node 0 with (1/2 + 1/3) / 2.
    np.testing.assert_allclose(near.returns, [5 / 12, 5 / 12, 2 / 3, 1 / 3], rtol=1e-6)
    clustering = structural_feat(near)[:, 2]
    expected = np.array([1, 1, 1 / 3, 0])
    np.testing.assert_allclose(clustering, (expected - expected.mean()) / expected.std(), atol=1e-5)


def test_cora(raw_dir):
    task = lipzoo.load_dataset("cora", raw_dir=raw_dir)
    stack = ClosedFormStack().fit(task)
    assert accuracy(task, stack.predict()) > 0.80


@pytest.mark.parametrize("columns", [63, 64, 65, 66, 90])
def test_units_of_columns_do_not_matter(columns):
    """Few columns or many: a salary is read as an age is."""
    task = blocks(same=1 / 3, columns=columns, noise=4.0)
    rng = np.random.default_rng(1)
    unit = torch.from_numpy(10 ** rng.uniform(-3, 6, columns))
    shift = torch.from_numpy(rng.normal(size=columns)) * unit
    other = task.with_ndata(feat=(unit * task.feat.double() + shift).float())
    proba = [ClosedFormStack().fit(each).predict_proba() for each in (other, task)]
    torch.testing.assert_close(*proba, rtol=0, atol=1e-3)


def test_units_beside_many_flags():
    task, rng = blocks(same=1 / 3), np.random.default_rng(1)
    flags = torch.from_numpy(rng.random((task.num_nodes, 80)) < 0.1).float()
    told_of = torch.from_numpy(rng.random(task.num_nodes) < 0.7)
    flags[torch.arange(task.num_nodes), task.labels] = told_of.float()
    money = torch.from_numpy(rng.lognormal(10, 1.5, (task.num_nodes, 3))).float()
    units = {"small": money / money.mean(0), "large": money * torch.tensor([1, 9, 99])}
    found = {}
    for name, unit in units.items():
        told = task.with_ndata(feat=torch.cat([flags, unit], 1))
        found[name] = accuracy(told, ClosedFormStack().fit(told).predict())
    assert found["large"] > found["small"] - 0.05
    assert found["small"] > 0.5
