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


# ---------------------------------------------------------- of other libraries


def as_data(**fields):
    geometric = pytest.importorskip("torch_geometric")
    index = torch.tensor([SRC, DST])
    return geometric.data.Data(**{"edge_index": index, "x": graph_of().ndata["feat"], **fields})


@pytest.mark.parametrize(
    "edge",
    [EDGE, EDGE.double(), EDGE.half().float(), EDGE.numpy(), EDGE.tolist(), EDGE.to_sparse()],
)
def test_edge_attr_of_pyg(edge):
    wanted = GraphTask.from_graph(graph_of(torch.as_tensor(edge).to_dense()))
    for data in (as_data(edge_attr=edge), as_data(edge_attr=edge).to_dict()):
        task = GraphTask.from_pyg(data)
        assert torch.equal(task.edge_feat, wanted.edge_feat)
    assert GraphTask.from_pyg(as_data(edge_attr=torch.arange(6))).edge_feat.shape == (6, 1)
    assert GraphTask.from_pyg(data, edge_features=[]).edge_feat is None


def test_weights_are_no_features_unless_one_says_so():
    data = as_data(edge_weight=torch.ones(6), edge_attr=EDGE, feat=torch.ones(3))
    assert GraphTask.from_pyg(data).edge_feats == 2
    both = GraphTask.from_pyg(data, edge_features=["edge_weight", "edge_attr"]).edge_feat
    assert torch.equal(both, torch.cat([torch.ones(6, 1), EDGE], 1))
    index = torch.tensor([DST, SRC])
    valued = torch.sparse_coo_tensor(index, torch.arange(6.0), (5, 5), check_invariants=True)
    assert GraphTask.from_pyg(as_data(edge_index=None, adj_t=valued)).edge_feat is None
    of_entries = GraphTask.from_pyg(as_data(edge_index=None, adj_t=valued, edge_attr=EDGE))
    assert torch.equal(of_entries.edge_feat, EDGE)
    assert [ends.tolist() for ends in of_entries.graph.edges()] == [SRC, DST]


@pytest.mark.parametrize(
    ("fields", "asked", "words"),
    [
        ({"edge_attr": EDGE[:5]}, None, r"edge_feat is \(5, 2\), but there are 6 edges; give it"),
        ({"edge_attr": EDGE[..., None]}, None, r"edge_feat is \(6, 2, 1\), but"),
        (
            {"edge_attr": ["red"] * 6},
            None,
            r"edges, edge 0, column 'edge_attr': 'red' is no number.*leave .* out: edge_features=",
        ),
        ({"edge_attr": EDGE.to(torch.complex64)}, None, "edge_feat must be numbers, but is comple"),
        ({"edge_w": EDGE}, ["edge_v"], "edges: there is no column 'edge_v'; did you mean 'edge_w'"),
        ({"edge_w": EDGE}, ["num_nodes"], "there is no column 'num_nodes'"),
        ({"edge_w": EDGE}, "edge_w", "edge_features is 'edge_w'; give a list of names"),
        ({"edge_w": EDGE}, 3, "edge_features is 3; give a list of names"),
        ({"edge_attr": torch.tensor(3.0)}, None, "column 'edge_attr' is one Tensor; give a cell"),
        ({"edge_attr": "red"}, None, "column 'edge_attr' is one str; give a cell a row"),
        ({"edge_w": EDGE}, ["edge_w", "x"], "different numbers of rows .edge_w 6, x 5"),
    ],
)
def test_edge_attr_that_does_not_fit(fields, asked, words):
    with pytest.raises(DataError, match=words) as caught:
        GraphTask.from_pyg(as_data(num_nodes=5, **fields), edge_features=asked)
    assert "\n" not in str(caught.value)


def road(make):
    """Roads between five towns, one of them twice where that can be, and one round a town."""
    graph = make()
    for town in "abcde":
        graph.add_node(town, feat=[1.0, 2.0])
    roads = zip(["a", "b", "c", "a", "a", "e"], ["b", "c", "a", "b", "d", "e"])
    for number, (u, v) in enumerate(roads):
        graph.add_edge(u, v, feat=[number, 0.5], length=10 * number, lanes=2, name=f"B{number}")
    return graph


@pytest.mark.parametrize("kind", ["Graph", "DiGraph", "MultiGraph", "MultiDiGraph"])
def test_attributes_of_networkx(kind):
    nx = pytest.importorskip("networkx")
    graph = road(getattr(nx, kind))
    wanted = []
    for u, v, held in graph.edges(data=True):
        wanted.append((u, v, *held["feat"], held["length"]))
        if not graph.is_directed() and u != v:
            wanted.append((v, u, *held["feat"], held["length"]))

    def rows(task):
        ends = [[task.node_ids[node] for node in each.tolist()] for each in task.graph.edges()]
        return list(zip(*ends, task.edge_feat.tolist()))

    found = rows(GraphTask.from_networkx(graph))
    assert sorted(found) == sorted((u, v, [a, b]) for u, v, a, b, _ in wanted)
    found = rows(GraphTask.from_networkx(graph, edge_features=["lanes", "length"]))
    assert sorted(found) == sorted((u, v, [2, length]) for u, v, _, _, length in wanted)
    assert GraphTask.from_networkx(graph, edge_features=[]).edge_feat is None
    with pytest.raises(DataError, match=r"edges, 'a' -> 'b', column 'name': 'B\d' is no number"):
        GraphTask.from_networkx(graph, edge_features=["name"])
    with pytest.raises(DataError, match="no column 'lenght'; did you mean 'length'"):
        GraphTask.from_networkx(graph, edge_features=["lenght"])


def test_attributes_that_are_not_asked_for_or_not_everywhere():
    nx = pytest.importorskip("networkx")
    graph = road(nx.DiGraph)
    for _, _, held in graph.edges(data=True):
        del held["feat"]
    assert GraphTask.from_networkx(graph).edge_feat is None
    some = road(nx.DiGraph)
    del some.edges["b", "c"]["feat"], some.edges["c", "a"]["length"]
    for asked in (None, ["feat"], ["length"]):
        task = GraphTask.from_networkx(some, edge_features=asked)
        with pytest.raises(DataError, match="edge features are NaN or infinite on edge"):
            task.validate(require_labels=False)
    bare = nx.create_empty_copy(some)
    assert GraphTask.from_networkx(bare, edge_features=["length", "lanes"]).edge_feats == 2
    assert GraphTask.from_networkx(bare).edge_feat is None


def test_columns_of_edges():
    edges = {"source": SRC, "target": DST, "feat": EDGE.tolist(), "w": range(6), "kind": ["a"] * 6}
    nodes = {"feat": graph_of().ndata["feat"], "label": [0, 1, 0, 1, 1]}
    task = GraphTask.from_edges(edges, nodes)
    assert task.fingerprint == GraphTask.from_graph(graph_of(EDGE)).fingerprint
    task = GraphTask.from_edges(edges, nodes, edge_features=["w"])
    assert task.edge_feat.flatten().tolist() == [0, 1, 2, 3, 4, 5]
    del edges["feat"]
    assert GraphTask.from_edges(edges, nodes).edge_feat is None
    with pytest.raises(DataError, match="edges, row 0, column 'kind': 'a' is no number"):
        GraphTask.from_edges(edges, nodes, edge_features=["kind"])
    assert GraphTask.from_edges([SRC, DST], nodes).edge_feat is None
    with pytest.raises(DataError, match="edges: there is no column 'w'"):
        GraphTask.from_edges([SRC, DST], nodes, edge_features=["w"])
    for rows in (0, 1):  # hardly anything
        few = {"src": [0] * rows, "dst": [0] * rows, "w": [1] * rows, "v": [2] * rows}
        few = GraphTask.from_edges(few, {"a": [1], "b": [2]}, edge_features=["w", "v"])
        assert few.edge_feat.tolist() == [[1, 2]] * rows
    nobody = GraphTask.from_edges({"src": [], "dst": []}, {"id": [], "a": [], "b": []})
    assert nobody.feat.shape == (0, 2)


def test_files_of_networkx_and_tables(tmp_path):
    nx = pytest.importorskip("networkx")
    graph = nx.DiGraph()
    lines = ["source,target,feat,length"]
    for u, v, (a, b) in zip(SRC[:3], DST[:3], EDGE.tolist()):
        graph.add_edge(f"n{u}", f"n{v}", feat=[a, b], length=u + v)
        lines.append(f'n{u},n{v},"{a}, {b}",{u + v}')
    for node in graph:
        graph.nodes[node]["a"] = 1.0
    nx.write_gml(graph, tmp_path / "x.gml")
    for _, _, held in graph.edges(data=True):
        held["feat"] = str(held["feat"])[1:-1]  # GraphML has no lists
    nx.write_graphml(graph, tmp_path / "x.graphml")
    (tmp_path / "nodes.csv").write_text("id,a\nn0,1\nn1,1\nn2,1\n")
    (tmp_path / "edges.csv").write_text("\n".join(lines) + "\n")
    for path in (tmp_path / "x.gml", tmp_path / "x.graphml", tmp_path):
        assert torch.equal(load(path).edge_feat, EDGE[:3])
        task = lipzoo.load_dataset(path, edge_features=["length"], require_labels=False)
        assert task.edge_feat.flatten().tolist() == [1, 3, 2]
        assert task.options == {"edge_features": ["length"]}
        again = lipzoo.load_dataset(task.name, **task.options, require_labels=False)
        assert again.fingerprint == task.fingerprint
    (tmp_path / "edges.csv").unlink()
    (tmp_path / "graph.mtx").write_text(
        "%%MatrixMarket matrix coordinate real general\n3 3 1\n1 2 7\n"
    )
    assert load(tmp_path).edge_feat is None
    with pytest.raises(DataError, match=r"graph.mtx: a matrix has no columns.* write edges.csv"):
        lipzoo.load_dataset(tmp_path, edge_features=["length"], require_labels=False)


def test_tensors_of_pyg_in_a_file(tmp_path):
    torch.save(as_data(edge_attr=EDGE).to_dict(), tmp_path / "x.pt")
    assert torch.equal(load(tmp_path / "x.pt").edge_feat, EDGE)


def test_what_reads_none_leaves_them_alone():
    """Data of another library whose edges carry something go on working."""
    label = torch.tensor([0, 1, 0, 1, 1])
    with_edges = GraphTask.from_pyg(as_data(edge_attr=EDGE, y=label))
    without = GraphTask.from_pyg(as_data(edge_attr=EDGE, y=label), edge_features=[])
    model = lipzoo.create_model("gat_lip_2", in_feats=2, num_classes=2).eval()
    proba = lipzoo.training.predict(model, with_edges)
    assert torch.equal(proba, lipzoo.training.predict(model, without))
    reader = lipzoo.create_model("gat_lip_2", in_feats=2, num_classes=2, edge_feats=2).eval()
    logits = reader(with_edges.graph, with_edges.feat)
    assert torch.equal(logits, reader(graph_of(EDGE), graph_of().ndata["feat"]))
