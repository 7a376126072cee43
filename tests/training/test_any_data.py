"""Fine-tuning, evaluating and predicting take whatever carries a graph, features and labels."""

import csv

import networkx as nx
import numpy as np
import pytest
import torch

import lipzoo
from lipzoo._dgl import dgl
from lipzoo.cli import main
from lipzoo.datasets import GraphTask, save_npz
from lipzoo.datasets.names import node_ids
from lipzoo.errors import DataError, UnknownNameError
from lipzoo.training import evaluate, predict, write_predictions

N = 60
NAMES = ["ham", "spam", "eggs"]
QUICK = {"epochs": 3, "verbose": False}


@pytest.fixture(scope="module")
def graph():
    """A ring of 60 nodes; classes in runs of five, which the four features show."""
    node = torch.arange(N)
    made = dgl.graph((node, (node + 1) % N))
    made.ndata["label"] = node // 5 % 3
    noise = torch.randn(N, 4, generator=torch.Generator().manual_seed(0)) / 4
    made.ndata["feat"] = torch.nn.functional.one_hot(made.ndata["label"], 4).float() + noise
    for place, mask in enumerate(("train_mask", "val_mask", "test_mask")):
        made.ndata[mask] = node % 3 == place
    return made


def as_data(graph):
    data = pytest.importorskip("torch_geometric.data")
    masks = {key: graph.ndata[key] for key in ("train_mask", "val_mask", "test_mask")}
    index = torch.stack(graph.edges())
    return data.Data(edge_index=index, x=graph.ndata["feat"], y=graph.ndata["label"], **masks)


def as_networkx(graph, names=None):
    made = nx.DiGraph()
    for node in range(N):
        label = int(graph.ndata["label"][node])
        split = ("train", "val", "test")[node % 3]
        attributes = {"label": label if names is None else names[label], "split": split}
        made.add_node(f"node {node}", feat=graph.ndata["feat"][node].tolist(), **attributes)
    made.add_edges_from(
        (f"node {u}", f"node {v}") for u, v in zip(*map(torch.Tensor.tolist, graph.edges()))
    )
    return made


def test_finetune_evaluate_and_predict_give_the_same(tiny_source, graph, tmp_path):
    task = GraphTask.from_graph(graph)
    path = save_npz(task, tmp_path / "ring.npz")
    wanted = lipzoo.finetune(tiny_source, task, **QUICK)
    for data in (graph, as_data(graph), as_networkx(graph), path, str(path)):
        found = lipzoo.finetune(tiny_source, data, **QUICK)
        assert found.metrics == wanted.metrics
        assert evaluate(found.model, data) == evaluate(wanted.model, task)
        assert torch.equal(predict(found.model, data), predict(wanted.model, task))


@pytest.mark.parametrize(
    ("data", "fault", "words"),
    [
        (3, DataError, "expected a GraphTask, a dataset's name, a path, a DGLGraph"),
        (torch.zeros(2, 1, dtype=torch.long), DataError, "from_edges"),
        ("irsi", UnknownNameError, "did you mean 'iris'"),
        (nx.path_graph(3), DataError, "there are no features"),
    ],
)
def test_what_it_cannot_take(tiny_source, data, fault, words):
    model = lipzoo.load_pretrained(tiny_source)
    for use in (
        lambda: lipzoo.finetune(tiny_source, data, **QUICK),
        lambda: evaluate(model, data),
        lambda: predict(model, data),
    ):
        with pytest.raises(fault, match=words):
            use()


def test_a_graph_without_labels_is_enough_to_predict(tiny_source, graph):
    bare = dgl.graph(graph.edges())
    bare.ndata["feat"] = graph.ndata["feat"]
    model = lipzoo.load_pretrained(tiny_source)
    assert torch.equal(predict(model, bare), predict(model, GraphTask.from_graph(graph)))
    with pytest.raises(DataError, match="no labels"):
        lipzoo.finetune(tiny_source, bare, **QUICK)


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def named(tiny_source, graph, tmp_path_factory):
    """Weights whose classes have names: eggs, ham, spam."""
    out = tmp_path_factory.mktemp("named") / "weights"
    options = {**QUICK, "epochs": 30, "lr": 0.05}
    lipzoo.finetune(tiny_source, as_networkx(graph, NAMES), out=out, **options)
    return out


def test_predictions_name_nodes_and_classes(named, graph, tmp_path, capsys):
    """The data to predict on bring ids of their own, and no class at all."""
    card = lipzoo.load_pretrained(named).card
    assert card.dataset.class_names == ["eggs", "ham", "spam"]
    folder, out = tmp_path / "mine", tmp_path / "p.csv"
    folder.mkdir()
    feat = graph.ndata["feat"].numpy()
    order = np.random.default_rng(0).permutation(N)
    lines = [f"node {i}," + ",".join(f"{x:.9g}" for x in feat[i]) for i in order]
    (folder / "nodes.csv").write_text("\n".join(["id,a,b,c,d", *lines]) + "\n")
    lines = [f"node {i},node {(i + 1) % N}" for i in range(N)]
    (folder / "edges.csv").write_text("\n".join(["source,target", *lines]) + "\n")
    assert main(["predict", str(named), "--data", str(folder), "--out", str(out)]) == 0
    rows = rows_of(out)
    assert [row["node"] for row in rows] == [f"node {i}" for i in order]
    assert list(rows[0]) == ["node", "class", "p_eggs", "p_ham", "p_spam"]
    chances = predict(lipzoo.load_pretrained(named), GraphTask.from_graph(graph)).tolist()
    for row in rows:
        wanted = chances[int(row["node"].split()[1])]
        found = [float(row[f"p_{name}"]) for name in ("eggs", "ham", "spam")]
        assert found == pytest.approx(wanted, abs=1e-5)
        assert row["class"] == ("eggs", "ham", "spam")[int(np.argmax(wanted))]


def test_classes_are_told_apart_by_their_names(named, graph):
    """A graph that lacks a class counts those it has otherwise."""
    model = lipzoo.load_pretrained(named)
    whole = as_networkx(graph, NAMES)
    wanted = evaluate(model, whole)
    assert wanted["train_accuracy"] > 0.9
    some = whole.copy()
    for _, attributes in some.nodes(data=True):
        if attributes["label"] == "eggs":
            attributes["label"] = attributes["split"] = None
    task = GraphTask.from_networkx(some)
    assert task.class_names == ("ham", "spam")
    right = predict(model, whole).argmax(1) == torch.tensor(
        [(1, 2, 0)[i // 5 % 3] for i in range(N)]
    )
    known = task.train_mask
    assert evaluate(model, task)["train_accuracy"] == pytest.approx(
        right[known].float().mean().item()
    )
    with pytest.raises(DataError, match="the weights know no class 'beans'"):
        evaluate(model, as_networkx(graph, ["ham", "spam", "beans"]))


def test_other_names_are_fine_to_learn(named, graph):
    result = lipzoo.finetune(named, as_networkx(graph, ["ham", "spam", "beans"]), **QUICK)
    assert "head" in result.replaced
    assert result.model.card.dataset.class_names == ["beans", "ham", "spam"]
    again = lipzoo.finetune(named, as_networkx(graph, NAMES), **QUICK)
    assert "head" in again.kept, "the very data that it was trained on"


def test_weights_in_context_name_the_classes_of_the_task(graph, tmp_path, capsys):
    task = GraphTask.from_networkx(as_networkx(graph, NAMES))
    path, out = save_npz(task, tmp_path / "ring.npz"), tmp_path / "p.csv"
    argv = ["predict", "gat_lip_context_8", "--data", str(path), "--out", str(out)]
    assert main(argv) == 0
    rows = rows_of(out)
    assert {row["class"] for row in rows} <= set(NAMES)
    right = [row["class"] == NAMES[i // 5 % 3] for i, row in enumerate(rows)]
    assert np.mean(right) > 0.8
    assert [row["node"] for row in rows] == [f"node {i}" for i in range(N)]


def test_names_that_csv_must_quote(tmp_path):
    path = write_predictions(
        tmp_path / "p.csv",
        torch.tensor([[0.25, 0.75]]),
        multilabel=False,
        nodes=['a "b", c'],
        classes=("x, y", "=1+1"),
    )
    (row,) = rows_of(path)
    assert row == {"node": 'a "b", c', "class": "=1+1", "p_x, y": "0.25", "p_=1+1": "0.75"}


def test_ids_of_a_dgl_graph_are_still_read(graph):
    with graph.local_scope():
        graph.ndata["node_id"] = torch.arange(N) * 7
        assert node_ids(GraphTask.from_graph(graph))[-1] == 413
    assert node_ids(GraphTask.from_graph(graph)) == list(range(N))


def test_a_task_without_masks_is_split_as_the_graph_is(tiny_source, graph):
    bare = graph.local_var()
    for mask in ("train_mask", "val_mask", "test_mask"):
        del bare.ndata[mask]
    task = GraphTask.from_graph(bare)
    one, other = (lipzoo.finetune(tiny_source, data, **QUICK) for data in (bare, task))
    assert one.metrics == other.metrics
    assert evaluate(one.model, task) == evaluate(one.model, bare)
    fitted = lipzoo.ClosedFormStack().fit(task).predict()
    assert torch.equal(fitted, lipzoo.ClosedFormStack().fit(bare).predict())
    assert not task.has_any_mask
    assert lipzoo.datasets.as_task(task, require_labels=False) is task
