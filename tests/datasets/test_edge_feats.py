"""Edge features of a task: read, written, checked, hashed, batched."""

import numpy as np
import pytest
import torch

import lipzoo
from lipzoo._dgl import dgl
from lipzoo.datasets import GraphTask, save_npz
from lipzoo.errors import DataError

SRC, DST = [0, 1, 2, 0, 0, 4], [1, 2, 0, 1, 3, 4]


def graph_of(edge=None, src=SRC, dst=DST):
    graph = dgl.graph((src, dst), num_nodes=5)
    graph.ndata["feat"] = torch.arange(10.0).view(5, 2)
    graph.ndata["label"] = torch.tensor([0, 1, 0, 1, 1])
    if edge is not None:
        graph.edata["feat"] = edge
    return graph


EDGE = torch.arange(12.0).view(6, 2) / 7


def load(path):
    return lipzoo.load_dataset(path, require_labels=False)


def test_bin(tmp_path):
    path = tmp_path / "mine.bin"
    dgl.save_graphs(str(path), [graph_of(EDGE.double())])
    task = load(path)
    assert task.edge_feats == 2
    assert task.edge_feat.dtype == torch.float32
    assert torch.equal(task.edge_feat, EDGE)
    assert [ends.tolist() for ends in task.graph.edges(order="eid")] == [SRC, DST]


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.int64, np.uint8, bool])
def test_npz_there_and_back(tmp_path, kind):
    path = tmp_path / "mine.npz"
    edge = np.arange(12).reshape(6, 2).astype(kind)
    np.savez(path, src=SRC, dst=DST, feat=np.zeros((5, 2)), edge_feat=edge)
    task = load(path)
    assert torch.equal(task.edge_feat, torch.from_numpy(edge.astype(np.float32)))
    again = load(save_npz(task, tmp_path / "again.npz"))
    assert torch.equal(again.edge_feat, task.edge_feat)
    assert again.fingerprint == task.fingerprint
    one = tmp_path / "one.npz"
    np.savez(one, src=SRC, dst=DST, feat=np.zeros((5, 2)), edge_feat=np.arange(6))
    assert load(one).edge_feat.shape == (6, 1), "a number an edge"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (np.zeros((5, 2)), "edge_feat is .5, 2., but there are 6 edges; give it one row an edge"),
        (np.zeros((6, 2, 1)), "edge_feat is"),
        (np.array(["a"] * 6), "edge_feat must be numbers"),
        (np.full((6, 1), np.nan), r"edge features are NaN or infinite on 6 edges .first: edge 0."),
        (np.full((6, 1), 1e300), "edge features are NaN or infinite"),
    ],
)
def test_npz_of_another_shape(tmp_path, wrong, words):
    path = tmp_path / "mine.npz"
    np.savez(path, src=SRC, dst=DST, feat=np.zeros((5, 2)), edge_feat=wrong)
    with pytest.raises(DataError, match=words):
        load(path)


def test_csv(tmp_path):
    (tmp_path / "meta.yaml").write_text(
        "dataset_name: mine\nedge_data:\n- file_name: edges.csv\n"
        "node_data:\n- file_name: nodes.csv\n"
    )
    (tmp_path / "nodes.csv").write_text('node_id,feat\n0,"1, 2"\n1,"3, 4"\n')
    edges = tmp_path / "edges.csv"
    edges.write_text('src_id,dst_id,feat\n0,1,"0.5, 1"\n1,0,"2, 3"\n1,1,"4, 5"\n')
    task = load(tmp_path)
    assert task.edge_feat.tolist() == [[0.5, 1], [2, 3], [4, 5]]
    edges.write_text('src_id,dst_id,feat\n0,1,"0.5, 1"\n1,0,red\n')
    with pytest.raises(DataError, match=r"edges.csv, row 3, column 'feat': 'red' is no number"):
        load(tmp_path)


def test_what_is_wrong_is_said_beside_the_rest():
    graph = graph_of(EDGE.clone())
    graph.edata["feat"][4, 1] = torch.inf
    graph.ndata["feat"][2] = torch.nan
    with pytest.raises(
        DataError, match=r"on node 2; .*edge features are NaN or infinite on edge 4"
    ):
        GraphTask.from_graph(graph).validate(require_labels=False)
    for wrong in (EDGE.double(), EDGE.unsqueeze(2), EDGE[:, :0], EDGE.long()):
        with pytest.raises(DataError, match="edge features must be float"):
            GraphTask("g", graph_of(wrong), 2).validate(require_labels=False)
    with pytest.raises(DataError, match="of the edges: the features are complex"):
        GraphTask.from_graph(graph_of(EDGE.to(torch.complex64)))


def test_a_task_without_them():
    task = GraphTask.from_graph(graph_of())
    assert task.edge_feat is None
    assert task.edge_feats == 0
    empty = dgl.graph(([], []), num_nodes=5)
    empty.ndata["feat"], empty.edata["feat"] = torch.zeros(5, 2), torch.zeros(0, 3)
    task = GraphTask.from_graph(empty).validate(require_labels=False)
    assert task.edge_feats == 3
    assert task.fingerprint != GraphTask.from_graph(dgl.graph(([], []), num_nodes=5)).fingerprint


def test_the_fingerprint_is_of_the_edges_features_in_any_order():
    task = GraphTask.from_graph(graph_of(EDGE))
    order = torch.tensor([3, 5, 0, 4, 2, 1])  # also of 0→1, which is there twice
    src, dst = torch.tensor(SRC)[order], torch.tensor(DST)[order]
    other = GraphTask.from_graph(graph_of(EDGE[order], src, dst))
    assert other.fingerprint == task.fingerprint
    assert other.data_fingerprint == task.data_fingerprint
    swapped = EDGE[[3, 1, 2, 0, 4, 5]]  # between the two 0→1: the same data
    assert GraphTask.from_graph(graph_of(swapped)).fingerprint == task.fingerprint
    swapped = EDGE[[1, 0, 2, 3, 4, 5]]
    assert GraphTask.from_graph(graph_of(swapped)).fingerprint != task.fingerprint
    assert GraphTask.from_graph(graph_of()).fingerprint != task.fingerprint
    assert GraphTask.from_graph(graph_of(EDGE[:, :1])).fingerprint != task.fingerprint


def test_without_edge_features_the_fingerprint_is_what_it_was():
    """That of cards: SHA-256 of sorted edges, features, labels."""
    found = GraphTask.from_graph(graph_of()).fingerprint
    assert found == "8187c66daa8c52188c136d68b43b9a71c1f349370bdaeb96184c69359381be96"


def test_copies_keep_them():
    task = GraphTask.from_graph(graph_of(EDGE))
    assert task.with_ndata(feat=torch.zeros(5, 3)).edge_feats == 2
    assert task.with_feat(torch.zeros(5, 3)).edge_feats == 2
    assert task.to("cpu").edge_feats == 2


def test_several_graphs():
    graphs = [graph_of(EDGE + number) for number in range(3)]
    task = GraphTask.from_graphs(*[[graph] for graph in graphs])
    assert torch.equal(task.edge_feat, torch.cat([graph.edata["feat"] for graph in graphs]))
    for odd, words in (
        (graph_of(), "the first graph has edge features, .* and it none"),
        (graph_of(EDGE[:, :1]), "'feat' of its edges is .E, 1., but .E, 2. in the first graph"),
    ):
        with pytest.raises(DataError, match=f"graph 0 of val: {words}"):
            GraphTask.from_graphs([graphs[0]], [odd], [graphs[2]])
    with pytest.raises(
        DataError, match=r"graph 0 of test: it has edge features, .* first graph non"
    ):
        GraphTask.from_graphs([graph_of()], [graph_of()], [graphs[2]])
