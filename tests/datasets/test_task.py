import numpy as np
import pytest
import torch

import lipzoo
from lipzoo._dgl import dgl
from lipzoo._graph import make_graph
from lipzoo.datasets import GraphTask
from lipzoo.errors import DataError
from lipzoo.training import predict


def test_from_graph_knows_sizes_and_leaves_the_graph_alone(graph):
    graph.ndata["feat"] = graph.ndata["feat"].double()
    task = GraphTask.from_graph(graph, "ring")
    assert (task.num_nodes, task.num_edges, task.in_feats, task.num_classes) == (6, 6, 2, 3)
    assert (task.metric, task.multilabel, task.has_split) == ("accuracy", False, True)
    assert task.feat.dtype == torch.float32
    assert graph.ndata["feat"].dtype == torch.float64


def test_repr_and_summary(task):
    assert repr(task) == ("GraphTask('ring', nodes=6, edges=6, features=2, classes=3, split=2/2/2)")
    assert task.summary()["val"] == 2


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32])
def test_masks_of_zeros_and_ones_become_bool(graph, dtype):
    graph.ndata["train_mask"] = graph.ndata["train_mask"].to(dtype)
    task = GraphTask.from_graph(graph).validate()
    assert task.train_mask.dtype == torch.bool
    assert task.train_mask.tolist() == [True, True, False, False, False, False]


@pytest.mark.parametrize("dtype", [torch.int32, torch.float64, torch.bfloat16, torch.bool])
def test_features_become_float32(graph, dtype):
    graph.ndata["feat"] = graph.ndata["feat"].to(dtype)
    assert GraphTask.from_graph(graph).validate().feat.dtype == torch.float32


def read_from(kind, graph, feat, folder):
    """A task of the graph with these features, which come from there."""
    src, dst = graph.edges()
    if kind in ("dgl", "whole"):
        graph.ndata["feat"] = feat.long() if kind == "whole" else feat
        return GraphTask.from_graph(graph)
    if kind in ("arrays", "table"):
        one, moment = feat.T.tolist()
        columns = {"one": one, "moment": moment} if kind == "table" else {"feat": feat.numpy()}
        return GraphTask.from_edges((src, dst), columns)
    if kind == "npz":
        np.savez(folder / "own.npz", src=src, dst=dst, feat=feat)
        return lipzoo.load_dataset(folder / "own.npz", require_labels=False)
    nodes = "".join(f"{node},{one},{moment}\n" for node, (one, moment) in enumerate(feat.tolist()))
    edges = "".join(f"{a},{b}\n" for a, b in zip(src.tolist(), dst.tolist()))
    (folder / "nodes.csv").write_text(f"id,one,moment\n{nodes}")
    (folder / "edges.csv").write_text(f"src,dst\n{edges}")
    return lipzoo.load_dataset(folder, require_labels=False)


@pytest.mark.parametrize("kind", ["dgl", "whole", "arrays", "table", "npz", "csv"])
def test_what_float32_loses_is_said(graph, tmp_path, kind):
    """Whatever the features come from: of moments within six seconds nothing is left."""
    moments = 1.7e9 + torch.arange(6, dtype=torch.float64)
    feat = torch.stack([torch.full((6,), 1.5, dtype=torch.float64), moments], 1)
    with pytest.warns(UserWarning, match="feature 1 goes from 1700000000 to 1700000005: float32"):
        read_from(kind, graph, feat, tmp_path)


@pytest.mark.filterwarnings("error")
def test_what_float32_keeps_is_not_spoken_of(graph):
    days = 1.7e9 + 86400 * torch.arange(6, dtype=torch.float64).unsqueeze(1)
    for feat in (days, torch.full((6, 2), 1e12, dtype=torch.float64), days[:, :0]):
        graph.ndata["feat"] = feat
        GraphTask.from_graph(graph)


def test_one_number_a_node_is_a_feature_of_width_one(graph):
    graph.ndata["feat"] = torch.arange(6)
    assert GraphTask.from_graph(graph).feat.shape == (6, 1)


def test_labels_as_whole_floats_or_a_column_are_class_numbers(graph):
    graph.ndata["label"] = graph.ndata["label"].double().unsqueeze(1)
    task = GraphTask.from_graph(graph)
    assert task.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert task.labels.dtype == torch.int64


def test_multilabel(graph):
    graph.ndata["label"] = torch.eye(6)[:, :4].long()
    task = GraphTask.from_graph(graph).validate()
    assert (task.multilabel, task.num_classes, task.metric) == (True, 4, "micro_f1")
    assert task.labels.dtype == torch.float32


@pytest.mark.parametrize("label", [0.5, float("nan")])
def test_a_label_that_is_no_class_number_is_named(graph, label):
    graph.ndata["label"] = torch.tensor([0, 1, 2, label, 1, 2])
    with pytest.raises(DataError, match=f"label of node 3 is {label}"):
        GraphTask.from_graph(graph)


def test_heterogeneous_graphs_are_refused():
    graph = dgl.heterograph({("a", "to", "b"): ([0], [1]), ("b", "back", "a"): ([1], [0])})
    with pytest.raises(DataError, match="2 node types and 2 edge types"):
        GraphTask.from_graph(graph)


def test_a_mask_of_other_numbers_is_refused(graph):
    graph.ndata["val_mask"] = torch.arange(6)
    with pytest.raises(DataError, match="val_mask holds other values than 0 and 1"):
        GraphTask.from_graph(graph)


def test_to_keeps_everything(task):
    moved = task.to("cpu")
    assert moved.fingerprint == task.fingerprint
    assert moved.device.type == "cpu"


def test_with_ndata_copies(task):
    other = task.with_ndata(feat=torch.zeros(6, 2))
    assert task.feat.sum() > 0
    assert other.feat.sum() == 0
    assert other.fingerprint != task.fingerprint


def test_fingerprint_is_the_same_on_every_machine(task):
    assert task.fingerprint == ("9abe7401de61dc5dfe075b235e91675cbb798a7f58732ae71f87376155dee2ca")


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_fingerprint_is_independent_of_edge_order_and_index_type(graph, seed, dtype):
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
    src, dst = (ends[order].to(dtype) for ends in graph.edges())
    shuffled = dgl.graph((src, dst), num_nodes=6)
    shuffled.ndata.update(graph.ndata)
    same = GraphTask.from_graph(shuffled).fingerprint
    assert same == GraphTask.from_graph(graph).fingerprint


@pytest.mark.parametrize("change", ["edges", "feat", "label", "train_mask", "nodes"])
def test_fingerprint_depends_on_everything_that_training_sees(graph, change):
    before = GraphTask.from_graph(graph).fingerprint
    if change == "edges":
        graph.add_edges([0], [3])
    elif change == "nodes":
        graph.add_nodes(1)
    elif change == "train_mask":
        graph.ndata["train_mask"] = ~graph.ndata["train_mask"]
    else:
        graph.ndata[change] = graph.ndata[change] + 1
    assert GraphTask.from_graph(graph).fingerprint != before


@pytest.mark.parametrize("only", ["coo", "csr", "csc"])
def test_a_graph_that_is_kept_to_one_format(graph, only):
    """It is the same task, to the bit, and stays as it is."""
    order = torch.tensor([3, 5, 0, 4, 2, 1])
    src, dst = (ends[order].tolist() for ends in graph.edges())
    mixed = dgl.graph((src, dst), num_nodes=6)
    mixed.ndata.update(graph.ndata)
    mixed.edata["feat"] = torch.arange(6.0)[:, None]
    wanted, kept = GraphTask.from_graph(mixed), mixed.formats(only)
    task = GraphTask.from_graph(kept)
    assert task.fingerprint == wanted.fingerprint == GraphTask("g", kept, 3).fingerprint
    model = lipzoo.create_model("gat_lip_2", in_feats=2, num_classes=3, edge_feats=1).eval()
    logits = model(wanted.graph, wanted.feat)
    for other in (kept, task.graph):
        edge_feat = task.edge_feat if other is kept else None
        assert torch.equal(model(other, task.feat, edge_feat=edge_feat), logits)
    assert lipzoo.training.evaluate(model, kept) == lipzoo.training.evaluate(model, wanted)
    several = GraphTask.from_graphs([kept], [kept], [kept])
    assert several.fingerprint == GraphTask.from_graphs([mixed], [mixed], [mixed]).fingerprint
    assert [x.tolist() for x in GraphTask("g", kept, 3).graph.edges()] == [src, dst]
    assert kept.formats() == {"created": [only], "not created": []}


def test_a_graph_without_nodes_has_a_fingerprint():
    label = torch.zeros(0, dtype=torch.int64)
    nodes = {"feat": torch.zeros(0, 2), "label": label}
    task = GraphTask.from_edges(torch.zeros(2, 0, dtype=torch.int64), nodes)
    assert len(task.fingerprint) == 64


def test_a_task_without_features_is_shown_and_refused_with_words():
    bare = lipzoo.GraphTask.from_graph(make_graph(torch.tensor([0]), torch.tensor([1]), 3))
    bare.graph.ndata.pop("feat", None)
    assert "features=0" in repr(bare)
    model = lipzoo.create_model("gat_lip_2", in_feats=4, num_classes=2)
    with pytest.raises(DataError, match="no node features"):
        predict(model, bare)


def test_a_split_index_is_a_plain_number():
    graph = make_graph(torch.tensor([0, 1, 2]), torch.tensor([1, 2, 0]), 3)
    graph.ndata["feat"], graph.ndata["label"] = torch.rand(3, 2), torch.arange(3)
    for i, name in enumerate(("train", "val", "test")):
        graph.ndata[f"{name}_mask"] = (torch.arange(3) == i).unsqueeze(1).expand(3, 2)
    task = lipzoo.GraphTask.from_graph(graph)
    assert type(task.with_split(np.int64(1)).options["split_index"]) is int
