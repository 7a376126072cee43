"""Training in parts: what a batch holds, that all of an epoch is the whole, and what is refused."""

import copy
import ctypes
import warnings
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from graph_zoo import star

import lipzoo
from lipzoo._dgl import dgl
from lipzoo._schema import validate
from lipzoo.attention import Structure, as_structure
from lipzoo.datasets import GraphTask
from lipzoo.datasets.loading import as_task
from lipzoo.encoding import encode_for
from lipzoo.errors import ConfigError, DataError, LipzooError
from lipzoo.nn.degrees import degree_roots
from lipzoo.settings import FinetuneSettings
from lipzoo.training import finetune, fit, predict, tune
from lipzoo.training.batching import infer_sampled, make_batches, train_epoch
from lipzoo.training.batching_clusters import clusters_of
from lipzoo.training.batching_rows import sparse_rows
from lipzoo.training.metrics import infer, model_feat, task_loss
from lipzoo.training.recipe import FitSettings
from lipzoo.training.run_seed import settled
from lipzoo.training.search_space import make_space, own_values
from lipzoo.training.tasks import load_task

#: Batches that together hold all that the whole graph does, for models of three layers.
WHOLE = {
    "one cluster": {"name": "clusters", "parts": 1},
    "all clusters": {"name": "clusters", "parts": 5, "per_batch": 5},
    "all by number": {"name": "clusters", "parts": 5, "per_batch": 5, "method": "contiguous"},
    "labor": {"name": "neighbours", "fanouts": -1, "batch_size": 7},
    "uniform": {"name": "neighbours", "sampler": "uniform", "fanouts": [-1, 1000, -1]},
    "shadow": {"name": "shadow", "hops": 3, "fanout": -1, "batch_size": 7},
}
#: Batches that hold less.
PARTS = {
    "clusters": {"name": "clusters", "parts": 6, "per_batch": 2},
    "by number": {"name": "clusters", "parts": 6, "per_batch": 2, "method": "contiguous"},
    "labor": {"name": "neighbours", "fanouts": 2, "batch_size": 5},
    "uniform": {"name": "neighbours", "sampler": "uniform", "fanouts": 2, "batch_size": 5},
    "shadow": {"name": "shadow", "fanout": 2, "batch_size": 5},
}


def settings(batching, **changes):
    return FitSettings.model_validate({"epochs": 4, "batching": batching, **changes})


def batching(options):
    return settings(options).batching


def drawn(num_nodes=40, num_edges=160, *, edge_feats=0, multilabel=False, sparse=False):
    """A multigraph with self-loops and lonely nodes; of its first half every third learns."""
    random = torch.Generator().manual_seed(0)
    graph = dgl.graph(tuple(torch.randint(num_nodes - 2, (2, num_edges), generator=random)))
    graph = dgl.add_nodes(graph, num_nodes - graph.num_nodes())
    feat = torch.randn(num_nodes, 6, generator=random)
    if sparse:
        feat = (torch.rand(num_nodes, 80, generator=random) < 0.04).float()
    node = torch.arange(num_nodes)
    graph.ndata["feat"], graph.ndata["label"] = feat, node % 3
    if multilabel:
        graph.ndata["label"] = (torch.rand(num_nodes, 4, generator=random) > 0.5).float()
    for place, name in enumerate(("train", "val", "test")):
        graph.ndata[f"{name}_mask"] = (node % 3 == place) & (node < num_nodes // 2)
    if edge_feats:
        graph.edata["feat"] = torch.randn(num_edges, edge_feats, generator=random)
    return GraphTask.from_graph(graph, "drawn")


def model(task, name="gat_lip_2", **overrides):
    torch.manual_seed(0)
    sizes = {"hidden_feats": 8, "num_heads": 2, "num_layers": 3, "edge_feats": task.edge_feats}
    sizes = {key: value for key, value in sizes.items() if value}
    overrides = {**sizes, **overrides}
    return lipzoo.create_model(
        name, in_feats=task.in_feats, num_classes=task.num_classes, **overrides
    )


def gradients(net, part, task, class_weight=None):
    """Of the mean loss of the training nodes."""
    net.zero_grad()
    logits, mask = net(part.graph, model_feat(net, part)), part.train_mask
    task_loss(
        logits[mask], part.labels[mask], task.multilabel, class_weight=class_weight
    ).backward()
    return [p.grad.clone() for p in net.parameters() if p.grad is not None]


def mean_gradients(net, task, batches, class_weight=None):
    """Of an epoch, with the batches' shares."""
    made = list(batches(task))
    found = [
        [part.share.loss * g for g in gradients(net, part, task, class_weight)] for part in made
    ]
    return [sum(each) / len(made) for each in zip(*found, strict=True)]


def made(net, task, options, class_weight=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a batch reads nearly all of such a small graph
        return make_batches(net, task, batching(options), class_weight)


# ------------------------------------------------------------------ all of it is the whole


@pytest.mark.parametrize("options", WHOLE.values(), ids=WHOLE)
@pytest.mark.parametrize(
    ("name", "overrides", "kind"),
    [
        ("gat_lip_2", {}, {}),
        ("gat_lip_2", {}, {"multilabel": True}),
        ("gat_lip_res_16", {"degree_norm": "symmetric"}, {"edge_feats": 3}),
        ("gat_lip_rev_16", {"feature_norm": "layernorm"}, {}),
        ("gt_lip_2", {"checkpoint_layers": True}, {"edge_feats": 3}),
        ("gat_lip_sep_2", {"degree_norm": "symmetric"}, {}),
    ],
)
def test_batches_that_hold_all_have_the_gradients_of_the_whole(name, overrides, options, kind):
    task = drawn(**kind)
    task = task.with_ndata(feat=task.feat.double())
    net = model(task, name, **overrides).double().eval()
    expected = gradients(net, task, task)
    got = mean_gradients(net, task, made(net, task, options))
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("options", WHOLE.values(), ids=WHOLE)
def test_weights_of_classes_weigh_as_in_the_whole(options):
    """One of weight 0, which alone some batches have."""
    task, weight = drawn(), torch.tensor([0.0, 3.0, 0.5], dtype=torch.float64)
    task = task.with_ndata(feat=task.feat.double(), label=torch.arange(40) // 5 % 3)
    net = model(task).double().eval()
    expected = gradients(net, task, task, weight)
    got = mean_gradients(net, task, made(net, task, options, weight), weight)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_an_epoch_has_the_mean_gradient_of_the_graph_without_the_edges_between_batches():
    """Batches of very different numbers of training nodes: the equation of the module."""
    task = drawn()
    task = task.with_ndata(feat=task.feat.double(), train_mask=torch.arange(40) < 15)
    net = model(task).double().eval()
    options = {"name": "clusters", "parts": 4, "per_batch": 1, "method": "contiguous"}
    src, dst = task.graph.edges()
    inside = src // 10 == dst // 10
    cut = dgl.graph((src[inside], dst[inside]), num_nodes=40)
    cut.ndata.update(task.graph.ndata)
    expected = gradients(net, replace(task, graph=cut), task)
    batches = made(net, task, options)
    assert len(list(batches(task))) == 2  # 10 and 5 training nodes; two batches have none
    for a, b in zip(mean_gradients(net, task, batches), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("consistency", [None, {"passes": 2, "warmup": 1}])
def test_a_step_on_all_clusters_is_that_on_the_whole_graph(consistency):
    task = drawn()
    task = task.with_ndata(feat=task.feat.double())
    losses, nets = [], []
    for options in ({"name": "full"}, WHOLE["all clusters"]):
        chosen = settings(options, consistency=consistency, grad_clip=0.1, label_smoothing=0.1)
        net = model(task, input_drop=0.0, feat_drop=0.0, head_drop=0.0, attn_drop=0.0).double()
        optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
        batches = make_batches(net, task, chosen.batching)
        losses.append([train_epoch(net, task, batches, optimizer, chosen, None, e) for e in (1, 2)])
        nets.append(net)
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)
    for a, b in zip(*(net.parameters() for net in nets), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


# ------------------------------------------------------------------- what a batch holds


@pytest.mark.parametrize("method", ["metis", "contiguous"])
@pytest.mark.parametrize("per_batch", [1, 2, 6])
def test_clusters_are_induced_graphs_that_share_out_the_nodes(method, per_batch):
    task = drawn(edge_feats=2)
    task = task.with_ndata(train_mask=torch.ones(40, dtype=torch.bool))
    options = {"name": "clusters", "parts": 6, "per_batch": per_batch, "method": method}
    parts = list(made(model(task), task, options)(task))
    nodes = torch.cat([part.graph.ndata[dgl.NID] for part in parts])
    assert torch.equal(nodes.sort().values, torch.arange(40))
    src, dst = (ends.numpy() for ends in task.graph.edges())
    for part in parts:
        own = part.graph.ndata[dgl.NID].numpy()
        inside = np.isin(src, own) & np.isin(dst, own)
        edges = own[np.stack([ends.numpy() for ends in part.graph.edges()])]
        rows = np.column_stack([edges.T, part.graph.edata["feat"].numpy()])
        wanted = np.column_stack([src, dst, task.edge_feat.numpy()])[inside]
        assert np.array_equal(rows[np.lexsort(rows.T)], wanted[np.lexsort(wanted.T)])
        assert torch.equal(part.labels, task.labels[own])
        assert torch.equal(part.feat, task.feat[own])
    assert sum(part.graph.num_edges() for part in parts) <= task.num_edges


def test_each_epoch_puts_other_clusters_together_as_the_generator_says():
    task = drawn()
    batches = made(model(task), task, PARTS["clusters"])
    torch.manual_seed(0)
    first, second = ([p.graph.ndata[dgl.NID].tolist() for p in batches(task)] for _ in range(2))
    torch.manual_seed(0)
    assert [p.graph.ndata[dgl.NID].tolist() for p in batches(task)] == first != second


@pytest.mark.parametrize("options", PARTS.values(), ids=PARTS)
def test_each_training_node_counts_once_an_epoch(options):
    task = drawn()
    counted = []
    for part in made(model(task), task, options)(task):
        blocks = isinstance(part.graph, list)
        nodes = (part.graph[-1].dstdata if blocks else part.graph.ndata)[dgl.NID]
        counted += nodes[part.train_mask].tolist()
    assert sorted(counted) == torch.nonzero(task.train_mask).flatten().tolist()


@pytest.mark.parametrize("options", PARTS.values(), ids=PARTS)
@pytest.mark.parametrize("loops", [True, False])
def test_degrees_are_those_of_the_whole_graph(options, loops):
    task = drawn()
    net = model(task, degree_norm="symmetric", add_self_loops=loops)
    whole = degree_roots(as_structure(task.graph, add_self_loops=loops), torch.float64)
    for part in made(net, task, options)(task):
        for graph in part.graph if isinstance(part.graph, list) else [part.graph]:
            own = degree_roots(as_structure(graph, add_self_loops=loops), torch.float64)
            assert torch.equal(own, whole[graph.srcdata[dgl.NID]])


@pytest.mark.parametrize("options", PARTS.values(), ids=PARTS)
def test_sparse_features_stay_sparse(options):
    task = drawn(sparse=True)
    assert task.sparse_feat is not None
    for part in made(model(task), task, options)(task):
        assert part.feat is None
        graph = part.graph[0] if isinstance(part.graph, list) else part.graph
        assert torch.equal(part.sparse_feat.to_dense(), task.feat[graph.srcdata[dgl.NID]])


@pytest.mark.parametrize("nodes", [[], [2], [4, 0, 4], [1, 3]])
def test_rows_of_a_sparse_matrix(nodes):
    dense = torch.tensor([[0.0, 1, 0], [0, 0, 0], [2, 0, 3], [0, 0, 0], [0, 4, 0]])
    nodes = torch.tensor(nodes, dtype=torch.long)
    assert torch.equal(sparse_rows(dense.to_sparse_csr(), nodes).to_dense(), dense[nodes])


@pytest.mark.parametrize("idtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("options", PARTS.values(), ids=PARTS)
def test_edges_of_parts_are_edges_of_the_graph(options, idtype):
    """DGL's fused sampler makes others of 32 bits."""
    task = drawn(edge_feats=2)
    task = GraphTask.from_graph(task.graph.int() if idtype is torch.int32 else task.graph, "int32")
    ends = torch.stack(task.graph.edges()).float()
    task.graph.edata["feat"] = ends.T.contiguous()
    found = 0
    for part in made(model(task), task, options)(task):
        for graph in part.graph if isinstance(part.graph, list) else [part.graph]:
            assert graph.idtype is idtype
            src, dst = graph.edges()
            assert torch.equal(
                graph.srcdata[dgl.NID][src.long()].float(), graph.edata["feat"][:, 0]
            )
            assert torch.equal(
                graph.srcdata[dgl.NID][dst.long()].float(), graph.edata["feat"][:, 1]
            )
            found += src.numel()
    assert found


def test_metis_says_nothing_and_copes_with_what_takes_it_down(capfd):
    """A star of edges that are there several times, with a self-loop."""
    graph = dgl.graph((torch.zeros(50, dtype=torch.long), torch.arange(50) % 10))
    for each, parts in ((graph, 5), (star(), 20), (dgl.graph(([], []), num_nodes=4), 2)):
        task = GraphTask.from_graph(each, "star")
        nodes = task.num_nodes
        task = task.with_ndata(
            feat=torch.ones(nodes, 2),
            label=torch.arange(nodes) % 2,
            train_mask=torch.ones(nodes, dtype=torch.bool),
        )
        options = {"name": "clusters", "parts": parts, "per_batch": 1}
        found = list(made(model(task), task, options)(task))
        assert sum(part.labels.numel() for part in found) == nodes
    assert capfd.readouterr() == ("", "")


def test_metis_makes_the_same_clusters_whatever_the_memory_held():
    """Freed memory full of other things, as libraries and other threads leave it."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    draw = np.random.default_rng(0)
    src = torch.from_numpy(draw.integers(30, size=150))
    dst = (src + torch.from_numpy(draw.integers(1, 8, size=150))) % 30
    found = []
    for _ in range(6):
        structure = Structure(src, dst, 30, 30)
        sizes = draw.integers(16, 4096, size=3000).tolist()
        held = [libc.malloc(size) for size in sizes]
        for place, size in zip(held, sizes, strict=True):
            ctypes.memmove(place, draw.bytes(size), size)
        for place in draw.permutation(held).tolist():
            libc.free(place)
        found.append([nodes.tolist() for nodes in clusters_of(structure, "metis", 4)])
    assert all(each == found[0] for each in found)


# ------------------------------------------------------------------------------ training


@pytest.mark.slow
@pytest.mark.parametrize("options", PARTS.values(), ids=PARTS)
def test_learns(iris, options):
    options = {**options, "batch_size": 20} if "batch_size" in options else options
    net = lipzoo.create_model("test_tiny", in_feats=4, num_classes=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = fit(net, iris, settings(options, epochs=40), verbose=False)
    assert result.metrics["test_accuracy"] > 0.8


@pytest.mark.many
@pytest.mark.parametrize("options", PARTS.values(), ids=PARTS)
@pytest.mark.filterwarnings("ignore:batching")
def test_a_resumed_run_is_bit_identical(tmp_path, options):
    task = drawn()
    chosen = settings(options, epochs=7, ema_decay=0.5)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir(), parts.mkdir()
    undisturbed = model(task)
    expected = fit(undisturbed, task, chosen, folder=whole, verbose=False, save_every=2)

    class Killed(Exception):
        pass

    def die(epoch):
        if epoch == 6:
            raise Killed

    kept = {"folder": parts, "resume": True, "verbose": False, "save_every": 2}
    with pytest.raises(Killed):
        fit(model(task), task, chosen, on_epoch=die, **kept)
    torch.manual_seed(1234)
    dgl.seed(1234)
    net = model(task)
    assert fit(net, task, chosen, **kept) == expected
    for a, b in zip(undisturbed.parameters(), net.parameters(), strict=True):
        assert torch.equal(a, b)


def test_full_is_what_it_was(iris):
    """The loop of before, step for step, to the bit."""
    net, other = (lipzoo.create_model("test_tiny", in_feats=4, num_classes=3) for _ in range(2))
    other.load_state_dict(copy.deepcopy(net.state_dict()))
    torch.manual_seed(5)
    fit(net, iris, settings("full", epochs=3), verbose=False, splits=("train",))
    torch.manual_seed(5)
    optimizer = torch.optim.Adam(other.parameters(), lr=0.005, weight_decay=5e-4)
    for _ in range(3):
        other.train()
        optimizer.zero_grad()
        logits = other(iris.graph, iris.feat)[iris.train_mask]
        F.cross_entropy(logits, iris.labels[iris.train_mask]).backward()
        optimizer.step()
    for a, b in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_cards_and_recipes_of_the_whole_graph_do_not_name_it(tiny_source, iris, recipe):
    assert "batching" not in recipe().to_dict()
    assert "batching" not in recipe(batching="full").to_dict()
    assert "batching" not in finetune(tiny_source, iris, epochs=1, verbose=False).model.card.recipe
    options = {"name": "clusters", "parts": 5}
    assert recipe(batching=options).to_dict()["batching"] == options
    result = finetune(tiny_source, iris, epochs=1, batching=options, verbose=False)
    assert result.model.card.recipe["batching"]["parts"] == 5


@pytest.mark.filterwarnings("ignore:batching")
@pytest.mark.parametrize("options", PARTS.values(), ids=PARTS)
@pytest.mark.parametrize("how", [{}, {"freeze": "all-but-head"}, {"start": "stack"}])
def test_fine_tuning_in_parts(tiny_source, iris, options, how):
    result = finetune(tiny_source, iris, epochs=2, batching=options, verbose=False, **how)
    assert np.isfinite(list(result.metrics.values())).all()
    assert len(result.history) == 2


def test_the_network_in_context_learns_in_clusters(iris):
    options = {"name": "clusters", "parts": 4, "per_batch": 2}
    result = finetune("gat_lip_context_8", iris, epochs=1, batching=options, verbose=False)
    assert np.isfinite(result.metrics["val_loss"])


@pytest.mark.parametrize("feature_norm", ["pairnorm", "batchnorm", "neighbornorm", "layernorm"])
def test_feature_norms_and_one_node_at_the_end(feature_norm):
    """Nine clusters of a node or so, two a batch."""
    task = drawn(9, 20)
    options = {"name": "clusters", "parts": 9, "per_batch": 2}
    net = model(task, feature_norm=feature_norm)
    result = fit(net, task, settings(options), verbose=False)
    assert np.isfinite([row["train_loss"] for row in result.history]).all()


# --------------------------------------------------------------------- chosen nodes alone


@pytest.mark.parametrize("name", ["labor", "uniform", "shadow"])
def test_chosen_nodes_have_the_logits_of_the_whole_graph_where_all_is_read(name):
    task = drawn()
    net = model(task, degree_norm="symmetric").train()
    nodes = torch.tensor([39, 3, 3, 17, 0, 8, 21, 30, 12])
    torch.manual_seed(3)
    before = torch.get_rng_state()
    got = infer_sampled(net, task, nodes, batching(WHOLE[name]))
    assert torch.equal(torch.get_rng_state(), before)
    assert net.training
    torch.testing.assert_close(got, infer(net, task)[nodes], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["shadow", "uniform", "labor"])
def test_predictions_of_chosen_nodes_are_those_of_the_whole_graph(name):
    """Where a sample has all neighbours for as many hops as there are layers."""
    task = drawn()
    net, nodes = model(task, degree_norm="symmetric").eval(), [5, 0, 5, 33]
    whole = predict(net, task)
    options = {**WHOLE[name], "batch_size": 2}
    close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-5)
    close(predict(net, task, nodes, batching=options), whole[nodes])
    close(predict(net, task, batching=options), whole)
    assert torch.equal(predict(net, task, torch.tensor(nodes)), whole[nodes])
    assert predict(net, task, [], batching="shadow").shape == (0, whole.shape[1])


def test_predictions_of_a_sample_are_those_of_the_seed():
    task = drawn()
    net, options = model(task).eval(), PARTS["shadow"]
    first, again, other = (
        predict(net, task, [3], batching=options, seed=seed) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("nodes", "options", "kind", "words"),
    [
        ([0], "clusters", ConfigError, "say full, which reads all, or shadow"),
        ([0], "shadw", ConfigError, "did you mean 'shadow'"),
        ([0], {"name": "shadow", "hops": 0}, ConfigError, "hops"),
        ([10**6], "full", DataError, "those of the graph are 0"),
        ([-1], "shadow", DataError, "those of the graph are 0"),
        ([0.5], "full", DataError, "must be whole numbers"),
        ([True, False], "shadow", DataError, r"mask\.nonzero"),
    ],
)
def test_predictions_that_cannot_be(nodes, options, kind, words):
    task = drawn()
    with pytest.raises(kind, match=words):
        predict(model(task), task, nodes, batching=options)


def test_chosen_nodes_of_a_sample_depend_on_the_seed_alone():
    task = drawn(num_edges=900)
    net, nodes = model(task), torch.arange(10)
    first, second, other = (
        infer_sampled(net, task, nodes, batching(PARTS["shadow"]), seed=seed) for seed in (0, 0, 1)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert infer_sampled(net, task, torch.empty(0, dtype=torch.long)).shape == (0, 3)


def test_chosen_nodes_of_a_graph_without_labels_by_weights_with_a_card():
    """The card says how features are scaled."""
    wine = lipzoo.load_dataset("wine")
    net = finetune("gat_lip_2", wine, epochs=1, verbose=False).model
    graph = dgl.graph(wine.graph.edges())
    graph.ndata["feat"] = wine.feat * 3 + 1
    nodes, options = [5, 0, 5], batching({"name": "neighbours", "fanouts": -1})
    got = infer_sampled(net, graph, nodes, options)
    expected = infer(net, encode_for(net, as_task(graph, require_labels=False)))[nodes]
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(DataError, match=r"nodes 3\.\.178 are asked for"):
        infer_sampled(net, graph, [3, 178])


# ----------------------------------------------------------------------------- in words


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("cluster", "did you mean 'clusters'"),
        ({"parts": 3}, "needs a key 'name'"),
        ({"name": 3}, "no batching 3"),
        ({"name": "clusters", "part": 3}, "did you mean 'parts'"),
        ({"name": "clusters", "parts": 0}, "parts: input should be greater than or equal to 1"),
        ({"name": "clusters", "parts": 2, "per_batch": 3}, "per_batch is 3"),
        ({"name": "clusters", "method": "random"}, "'metis' or 'contiguous'"),
        ({"name": "neighbours", "batch_size": 0}, "batch_size"),
        ({"name": "neighbours", "fanouts": [5, 0]}, "must draw something"),
        ({"name": "neighbours", "fanouts": []}, "must draw something"),
        ({"name": "neighbours", "fanouts": -2}, "greater than or equal to -1"),
        ({"name": "shadow", "hops": 0}, "hops"),
        ({"name": "shadow", "fanout": 0}, "must draw something"),
    ],
)
def test_settings_that_there_are_not(options, words):
    with pytest.raises(ConfigError) as fault:
        validate(FinetuneSettings, {"batching": options}, "here")
    assert words in str(fault.value)
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize(
    ("options", "overrides", "words"),
    [
        ({"name": "clusters", "parts": 41}, {}, "40 nodes, which cannot be cut into 41 parts"),
        ({"name": "neighbours", "fanouts": [2, 2]}, {}, "for 2 layers, and the model has 3"),
        ({"name": "neighbours"}, {"feature_norm": "neighbornorm"}, "neighbornorm"),
        (
            {"name": "clusters", "parts": 40, "per_batch": 1},
            {"feature_norm": "batchnorm"},
            "batches of one node",
        ),
        ({"name": "shadow", "batch_size": 1}, {"feature_norm": "batchnorm"}, "batches of one"),
    ],
)
def test_what_model_and_task_do_not_take(options, overrides, words):
    task = drawn()
    with pytest.raises(ConfigError, match=words):
        fit(model(task, **overrides), task, settings(options), verbose=False)


def test_a_class_that_does_not_say_its_layers_takes_a_list():
    class Mine(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = model(drawn())

        def forward(self, graph, feat):
            return self.net(graph, feat)

    with pytest.raises(ConfigError, match="give fanouts as a list"):
        fit(Mine(), drawn(), settings("neighbours"), verbose=False)
    options = {"name": "neighbours", "fanouts": [1, 1, 1], "batch_size": 2}
    fit(Mine(), drawn(), settings(options), verbose=False)


def test_nothing_is_lost_where_it_is_refused(tiny_source, iris, tmp_path, recipe):
    """The folder of a run, or of a fine-tuning, is as it was."""
    lipzoo.training.train(recipe(epochs=1, seeds=[0]), tmp_path / "run", verbose=False)
    finetune(tiny_source, iris, epochs=1, out=tmp_path / "tuned", verbose=False)
    files = {f: f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()}
    options = {"name": "clusters", "parts": 1000}
    changed, run = recipe(epochs=1, seeds=[0], batching=options), tmp_path / "run"
    with pytest.raises(ConfigError, match="cannot be cut"):
        lipzoo.training.train(changed, run, overwrite=True, verbose=False)
    tuned = tmp_path / "tuned"
    with pytest.raises(ConfigError, match="cannot be cut"):
        finetune(tiny_source, iris, batching=options, out=tuned, overwrite=True, verbose=False)
    assert {f: f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()} == files


def test_together_it_is_refused(tmp_path, recipe):
    changed = recipe(batching="clusters")
    with pytest.raises(ConfigError, match="batching: 'clusters' cannot be trained together"):
        lipzoo.training.train(changed, tmp_path / "run", device="cpu", verbose=False)
    assert not (tmp_path / "run").exists()


def test_a_search_honours_it_and_refuses_what_there_is_not(tmp_path, recipe):
    space = make_space({"batching.name": ["clusters", "full"]}, "test")
    task = load_task(recipe())
    own = own_values(recipe(), space, partial(settled, task=task))
    assert own == {"batching.name": '"full"'}
    clusters = recipe(batching={"name": "clusters", "parts": 8}, epochs=2)
    space = make_space({"batching.parts": [4, 8]}, "test")
    found = tune(clusters, space, tmp_path / "found", trials=2, seeds=[0], verbose=False)
    assert found["values"]["batching.parts"] in (4, 8)
    space = make_space({"batching.parts": [4, 800]}, "test")
    with pytest.raises(ConfigError, match="cannot be cut into 800 parts"):
        tune(clusters, space, tmp_path / "none", trials=2, seeds=[0], verbose=False)
    assert not (tmp_path / "none").exists()


def test_a_batch_that_reads_nearly_all_says_so_once():
    task = drawn()
    chosen = settings({"name": "neighbours", "fanouts": -1})
    with pytest.warns(UserWarning, match=r"reads \d+ % of the nodes of drawn through 3") as found:
        fit(model(task), task, chosen, verbose=False)
    assert len([w for w in found if "batching" in str(w.message)]) == 1
    chosen = settings({"name": "neighbours", "fanouts": 1, "batch_size": 1})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(model(task), task, chosen, verbose=False)


def test_without_dgl_it_says_what_does_without(monkeypatch):
    task = drawn()
    monkeypatch.setattr("lipzoo._dgl._found", lambda: (None, ""))
    for options in ("neighbours", "shadow"):
        with pytest.raises(LipzooError, match=r"clusters.*needs DGL, which is not installed"):
            fit(model(task), task, settings(options), verbose=False)
