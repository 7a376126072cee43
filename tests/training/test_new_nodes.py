"""New nodes: exact against the whole grown graph, and from nothing but what they can see."""

import dgl
import numpy as np
import pytest
import torch
from checkpoints import card

import lipzoo
from lipzoo.datasets import GraphTask, erase_features, grown, scale_features
from lipzoo.errors import ConfigError, DataError
from lipzoo.training import predict, predict_new

SIZES = {"in_feats": 6, "num_classes": 3, "hidden_feats": 8, "num_heads": 2}
OLD, NEW = 60, 5


def old_task(seed=0, edge_feats=0, num_edges=150):
    generator = torch.Generator().manual_seed(seed)
    src, dst = torch.randint(OLD, (2, num_edges), generator=generator)
    graph = dgl.graph((src, dst), num_nodes=OLD)
    graph.ndata["feat"] = torch.randn(OLD, 6, generator=generator)
    graph.ndata["label"] = torch.randint(3, (OLD,), generator=generator)
    graph.ndata["train_mask"] = torch.arange(OLD) < 20
    if edge_feats:
        graph.edata["feat"] = torch.randn(num_edges, edge_feats, generator=generator)
    return GraphTask.from_graph(graph, "old")


def growth(edge_feats=0, seed=1, num_edges=14):
    """New nodes with edges to and from old ones, among each other, loops and a second edge."""
    generator = torch.Generator().manual_seed(seed)
    feat = torch.randn(NEW, 6, generator=generator)
    edges = torch.randint(OLD - 10, OLD + NEW, (2, num_edges), generator=generator)
    edges = torch.cat([edges, edges[:, :1], torch.tensor([[OLD], [OLD]])], 1)
    more = {"edge_feat_new": torch.randn(edges.shape[1], edge_feats)} if edge_feats else {}
    return feat, edges, more


NETWORKS = {
    "gat": {"model": "gat_lip_2"},
    "deep": {"model": "gat_lip_16", "num_layers": 5},
    "linear": {"model": "gat_lip_lin_4"},
    "residual": {"model": "gat_lip_res_16", "num_layers": 4},
    "sep": {"model": "gat_lip_sep_2"},
    "degrees": {"model": "gat_lip_lin_3", "degree_norm": "symmetric"},
    "sep, degrees": {"model": "gat_lip_sep_2", "degree_norm": "symmetric"},
    "no loops": {"model": "gat_lip_lin_3", "degree_norm": "symmetric", "add_self_loops": False},
    "transformer": {"model": "gt_lip_8", "num_layers": 3},
    "gatv2": {"model": "gatv2_lip_2"},
    "edges": {"model": "gat_lip_lin_3", "edge_feats": 2},
    "edges, transformer": {"model": "gt_lip_2", "edge_feats": 2, "edge_values": True},
}


def network(name, seed=0):
    torch.manual_seed(seed)
    args = dict(NETWORKS[name])
    model = lipzoo.create_model(args.pop("model"), **SIZES, **args)
    for buffer_name, buffer in model.named_buffers():
        if buffer_name.endswith("running_mean"):
            buffer.normal_()
        elif buffer_name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    return model.double().eval()


def in_double(task):
    graph = task.graph.clone()
    graph.ndata["feat"] = graph.ndata["feat"].double()
    return GraphTask(task.name, graph, task.num_classes)


@pytest.mark.parametrize("name", NETWORKS)
def test_new_nodes_are_those_of_the_whole_graph(name):
    model = network(name)
    width = model.edge_feats
    task = old_task(edge_feats=width)
    feat, edges, more = growth(width)
    found = predict_new(model, in_double(task), feat, edges, **more, with_affected=True)
    whole = predict(model, in_double(grown(task, feat, edges, **more)))
    assert found.proba.shape == (NEW, 3)
    torch.testing.assert_close(found.proba, whole[OLD:], atol=1e-12, rtol=1e-9)
    torch.testing.assert_close(found.affected_proba, whole[found.affected], atol=1e-12, rtol=1e-9)
    before = predict(model, in_double(task))
    others = torch.ones(OLD, dtype=torch.bool)
    others[found.affected] = False
    assert others.any()
    torch.testing.assert_close(before[others], whole[:OLD][others], atol=1e-12, rtol=1e-9)
    assert (before - whole[:OLD])[found.affected].abs().max() > 1e-6


@pytest.mark.parametrize("name", ["linear", "degrees", "edges"])
def test_nothing_else_is_read(name):
    model = network(name)
    task = old_task(num_edges=60, edge_feats=model.edge_feats)
    feat, edges, more = growth(model.edge_feats, num_edges=4)
    wanted = predict_new(model, in_double(task), feat, edges, **more).proba
    graph = dgl.graph(grown(task, feat, edges, **more).graph.edges(), num_nodes=OLD + NEW)
    far = torch.ones(OLD + NEW, dtype=torch.bool)
    near = torch.arange(OLD, OLD + NEW)
    for _ in range(model.num_layers + 1):
        far[near] = False
        near = torch.cat([near, graph.in_edges(near)[0]])
    far = far[:OLD]
    assert far.any()
    hidden = in_double(task)
    hidden.graph.ndata["feat"][far] = torch.nan
    assert predict_new(model, hidden, feat, edges, **more).proba.equal(wanted)


def test_without_edges_back_no_old_node_changes():
    model, task = network("deep").float(), old_task()
    edges = torch.tensor([[3, 5, 61], [60, 61, 62]])
    found = predict_new(model, task, torch.randn(NEW, 6), edges, with_affected=True)
    assert found.affected.numel() == 0
    assert found.affected_proba.shape == (0, 3)


def test_no_node_and_no_edge():
    model, task = network("linear").float(), old_task()
    found = predict_new(model, task, np.zeros((0, 6)), np.zeros((2, 0), dtype=np.int64))
    assert found.proba.shape == (0, 3)
    alone = predict_new(model, task, np.ones((2, 6)), [[], []]).proba
    whole = predict(model, grown(task, np.ones((2, 6)), [[], []]))
    torch.testing.assert_close(alone, whole[OLD:])
    only_edges = predict_new(model, task, np.zeros((0, 6)), [[0], [1]], with_affected=True)
    assert 1 in only_edges.affected


def test_the_mode_and_the_task_stay():
    model, task = network("linear").float().train(), old_task()
    feat, edges, _ = growth()
    predict_new(model, task, feat, edges)
    assert model.training
    assert task.num_nodes == OLD
    assert task.num_edges == 150
    assert task.fingerprint == old_task().fingerprint


def test_rows_are_scaled_as_the_weights_were_trained():
    model = network("linear").float()
    model.card = card(dataset={"name": "x", "options": {"scaling": "row"}, "fingerprint": ""})
    model.card.architecture.args["in_feats"] = 6
    task = old_task()
    task.graph.ndata["feat"] = task.graph.ndata["feat"].abs() * 5
    feat, edges, _ = growth()
    found = predict_new(model, task, feat.abs() * 7, edges).proba
    whole = predict(model, grown(task, feat.abs() * 7, edges))
    torch.testing.assert_close(found, whole[OLD:])


def test_a_grown_task():
    task = old_task()
    feat, edges, _ = growth()
    made = grown(task, feat, edges)
    assert made.num_nodes == OLD + NEW
    assert made.labels[OLD:].tolist() == [-1] * NEW
    assert made.train_mask.sum() == 20
    src, dst = made.graph.edges(order="eid")
    assert torch.stack([src, dst])[:, 150:].equal(edges)
    named = GraphTask.from_graph(task.graph, "named", node_ids=[f"n{k}" for k in range(OLD)])
    ids = [f"new{k}" for k in range(NEW)]
    assert grown(named, feat, edges, node_ids_new=ids).node_ids[OLD - 1 :] == ["n59", *ids]
    with pytest.raises(DataError, match="5 ids that are not taken"):
        grown(named, feat, edges, node_ids_new=["n0", *ids[1:]])
    with pytest.raises(DataError, match="pass node_ids_new, 5 more"):
        grown(named, feat, edges)
    with pytest.raises(DataError, match="leave node_ids_new out"):
        grown(task, feat, edges, node_ids_new=ids)
    counted = GraphTask.from_graph(task.graph, "counted", node_ids=range(1, OLD + 1))
    assert grown(counted, feat, edges).node_ids[-2:] == [OLD + NEW - 1, OLD + NEW]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda task: scale_features(task, "row"), "scaling"),
        (lambda task: scale_features(task, "standard"), "scaling"),
        (lambda task: erase_features(task, 0.5, fill="propagate"), "missing_fill"),
        (lambda task: erase_features(task, 0.5, fill="propagate-svd"), "missing_fill"),
    ],
)
def test_features_that_were_made_of_the_data_s_are_refused(change, words):
    task = old_task()
    task.graph.ndata["feat"] = task.graph.ndata["feat"].abs()
    task = change(task)
    feat, edges, _ = growth()
    for make in (
        lambda: grown(task, feat, edges),
        lambda: predict_new(network("gat").float(), task, feat, edges),
    ):
        with pytest.raises(DataError, match=rf"\({words}\).*pass the raw task"):
            make()


def test_whatever_holds_a_graph_grows():
    model, task = network("gat").float(), old_task()
    feat, edges, _ = growth()
    found = predict_new(model, task.graph, feat.to_sparse_csr(), edges.tolist()).proba
    assert found.equal(predict_new(model, task, feat, edges).proba)


@pytest.mark.parametrize(
    ("feat", "edges", "words"),
    [
        (torch.zeros(2, 5), [[0], [1]], r"feat_new is \(2, 5\); it must be \(M, 6\)"),
        (torch.zeros(6), [[0], [1]], r"it must be \(M, 6\)"),
        (torch.full((1, 6), torch.nan), [[0], [1]], "NaN"),
        ([["a"] * 6], [[0], [1]], "feat_new must be numbers, but is"),
        (torch.zeros(2, 6), [[0, 1, 2]], "sources, destinations"),
        (torch.zeros(2, 6), torch.zeros(2, 3), "whole numbers"),
        (torch.zeros(2, 6), [[0], [62]], r"0\.\.62, but the nodes of the grown graph are 0\.\.61"),
        (torch.zeros(2, 6), [[-1], [0]], r"holds -1\.\.0"),
        (torch.zeros(2, 6), [[True], [False]], "whole numbers"),
        (torch.zeros(2, 6), [["u1"], ["u2"]], "whole numbers"),
        (torch.zeros(2, 6), [[0, 1], [2]], "whole numbers"),
        (torch.zeros(2, 6), None, "got a NoneType"),
    ],
)
def test_growth_that_does_not_fit(feat, edges, words):
    with pytest.raises(DataError, match=words):
        predict_new(network("gat").float(), old_task(), feat, edges)


def test_edge_features_are_needed_where_there_are_some():
    feat, edges, more = growth(2)
    model = network("edges").float()
    with pytest.raises(DataError, match="pass edge_feat_new"):
        predict_new(model, old_task(edge_feats=2), feat, edges)
    with pytest.raises(DataError, match=r"it must be \(16, 2\)"):
        predict_new(model, old_task(edge_feats=2), feat, edges, edge_feat_new=torch.zeros(3, 2))
    with pytest.raises(DataError, match="leave edge_feat_new out"):
        predict_new(network("gat").float(), old_task(), feat, edges, **more)


def test_edge_features_that_nobody_reads():
    feat, edges, more = growth(2)
    model = network("linear").float()
    task, bare = old_task(edge_feats=2), old_task()
    assert predict_new(model, task, feat, edges).proba.equal(
        predict_new(model, bare, feat, edges).proba
    )
    with pytest.raises(DataError, match="the network reads no edge features"):
        predict_new(model, task, feat, edges, **more)
    with pytest.raises(DataError, match="pass the raw task"):
        predict_new(model, scale_features(task, "standard"), feat, edges)


def with_hook():
    model = network("gat")
    model.layers[0].register_score_hook(lambda layer, structure, scores: scores)
    return model


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: lipzoo.create_model("gat_pairnorm_2", **SIZES), "PairNorm looks at more"),
        (
            lambda: lipzoo.create_model(
                "gt_lip_2", **SIZES, score_norm={"name": "dot_lipschitz", "scope": "graph"}
            ),
            "looks at all edges",
        ),
        (with_hook, "looks at all edges"),
        (lambda: lipzoo.models.DeepGAT(51, 3, start_logits=True), "made of all labels"),
        (lambda: lipzoo.load_pretrained("gat_lip_context_8"), "nobody knows how far"),
        (lambda: lipzoo.create_model("gat_lip_2", in_feats=6, num_classes=0), "head"),
    ],
)
def test_networks_that_look_at_all_nodes(make, words):
    feat, edges, _ = growth()
    with pytest.raises(ConfigError, match=words):
        predict_new(make(), old_task(), feat, edges)
