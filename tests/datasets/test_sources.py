"""Tasks of what other libraries hold, each held against the same task made of a DGL graph."""

import networkx as nx
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

from lipzoo._dgl import dgl
from lipzoo.datasets import GraphTask, load_dataset, save_npz
from lipzoo.datasets.convert import MASKS
from lipzoo.datasets.loading import as_task
from lipzoo.errors import DataError, UnknownNameError
from lipzoo.sklearn.labels import hidden

pa = pytest.importorskip("pyarrow")
geometric = pytest.importorskip("torch_geometric")
Data = geometric.data.Data

IDS = ["fay", "bob", "cyd", "ann", "eve", "dan"]
WORDS = ["spam", "ham", "eggs"]


def same(made, wanted):
    """Edges in any order, features, labels, masks: to the bit."""
    assert made.fingerprint == wanted.fingerprint
    assert (made.num_classes, made.multilabel) == (wanted.num_classes, wanted.multilabel)


# ------------------------------------------------------------------------- PyG


def as_data(graph, **changes):
    data = graph.ndata
    fields = {
        "edge_index": torch.stack(graph.edges()),
        "x": data["feat"],
        "y": data["label"],
        **{mask: data[mask] for mask in MASKS},
    }
    return Data(**{k: v for k, v in {**fields, **changes}.items() if v is not None})


def test_pyg(graph, task):
    data = as_data(graph)
    for made in (GraphTask.from_pyg(data), GraphTask.of(data), GraphTask.from_pyg(data.to_dict())):
        same(made, task)
    assert made.node_ids is None
    adj_t = torch.sparse_coo_tensor(torch.stack(graph.edges()).flip(0), torch.ones(6), (6, 6))
    same(GraphTask.from_pyg(as_data(graph, edge_index=None, adj_t=adj_t)), task)
    sparse = as_data(graph, x=graph.ndata["feat"].double().to_sparse(), y=task.labels[:, None])
    same(GraphTask.from_pyg(sparse), task)


def test_pyg_of_several_splits_and_labels(graph, task):
    masks = {m: torch.stack([graph.ndata[m], graph.ndata[m].flip(0)], 1) for m in MASKS}
    made = GraphTask.from_pyg(as_data(graph, **masks))
    assert made.num_splits == 2
    assert made.with_split(1).train_mask.tolist() == graph.ndata["train_mask"].flip(0).tolist()
    # As many splits as nodes are (N, S) still.
    square = {m: torch.stack([graph.ndata[m].roll(k) for k in range(6)], 1) for m in MASKS}
    made = GraphTask.from_pyg(as_data(graph, **square))
    assert made.with_split(2).val_mask.tolist() == graph.ndata["val_mask"].roll(2).tolist()
    several = torch.nn.functional.one_hot(task.labels, 4).float()
    made = GraphTask.from_pyg(as_data(graph, y=several), metric="macro_f1")
    assert (made.multilabel, made.num_classes, made.metric) == (True, 4, "macro_f1")


def test_isolated_nodes_of_pyg(graph):
    index = torch.tensor([[0], [1]])
    data = as_data(graph, edge_index=index)
    assert GraphTask.from_pyg(data).num_nodes == 6
    with pytest.raises(DataError, match=r"graph: feat is \(6, 2\), but there are 9 nodes"):
        GraphTask.from_pyg(as_data(graph, num_nodes=9))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"x": None}, "no node features x .found: edge_index, test_mask"),
        ({"edge_index": None}, "neither edge_index nor adj_t"),
        ({"edge_index": torch.rand(2, 3)}, "graph: expected an edge_index of whole numbers"),
        ({"edge_index": torch.tensor([[0], [6]])}, r"dst\[0\] is 6, but nodes are numbered 0..5"),
        ({"edge_index": torch.tensor([[-1], [1]])}, r"src\[0\] is -1, but nodes are numbered"),
        ({"y": torch.tensor([1])}, r"label is \(1,\), but there are 6 nodes"),
        ({"y": torch.full((6,), 0.5)}, "the label of node 0 is 0.5; number the classes"),
        ({"train_mask": torch.ones(5, dtype=torch.bool)}, r"train_mask is \(5,\), but there are 6"),
        ({"x": torch.ones(6, 2, dtype=torch.complex64)}, "feat must be numbers, but is complex64"),
    ],
)
def test_what_is_wrong_with_pyg(graph, changes, words):
    with pytest.raises(DataError, match=words) as caught:
        GraphTask.from_pyg(as_data(graph, **changes))
    assert "\n" not in str(caught.value)


# -------------------------------------------------------------------- networkx


def as_networkx(graph, make=nx.DiGraph, **attributes):
    made = make()
    for node, name in enumerate(IDS):
        made.add_node(name, **{key: values[node] for key, values in attributes.items()})
    src, dst = (ends.tolist() for ends in graph.edges())
    made.add_edges_from((IDS[u], IDS[v]) for u, v in zip(src, dst))
    return made


def test_networkx(graph, task):
    feat, label = task.feat.tolist(), task.labels.tolist()
    masks = {mask: graph.ndata[mask].tolist() for mask in MASKS}
    split = ["train", "train", "val", "val", "test", "test"]
    made = GraphTask.from_networkx(as_networkx(graph, feat=feat, label=label, **masks))
    same(made, task)
    assert made.node_ids == IDS
    same(GraphTask.of(as_networkx(graph, x=feat, y=label, split=split, color=["red"] * 6)), task)
    arrays = [np.array(row) for row in feat]
    same(GraphTask.from_networkx(as_networkx(graph, x=arrays, y=label, split=split)), task)
    a, b = zip(*feat)
    columns = as_networkx(graph, a=a, b=b, label=label, split=split)
    same(GraphTask.from_networkx(columns), task)
    swapped = GraphTask.from_networkx(columns, features=["b", "a"])
    assert torch.equal(swapped.feat, task.feat.flip(1))


def test_coordinates_are_not_the_features_alone(graph):
    """x and y of a drawing, with the class under its own name."""
    drawn = as_networkx(graph, x=[1.0] * 6, y=[2.0] * 6, size=[3] * 6, label=[0, 1] * 3)
    made = GraphTask.from_networkx(drawn)
    assert made.feat.tolist() == [[1, 2, 3]] * 6
    assert made.labels.tolist() == [0, 1] * 3


def test_an_undirected_graph_goes_both_ways(graph, task):
    label = task.labels.tolist()
    made = GraphTask.from_networkx(as_networkx(graph, nx.Graph, feat=task.feat.tolist(), y=label))
    assert made.num_edges == 12
    assert torch.equal(*(torch.sort(ends).values for ends in made.graph.edges()))


def test_labels_that_are_words_and_some_that_are_missing(graph):
    words = [WORDS[i % 3] for i in range(6)]
    made = GraphTask.from_networkx(as_networkx(graph, feat=[[1]] * 6, label=words))
    assert made.class_names == ("eggs", "ham", "spam")
    assert made.labels.tolist() == [2, 1, 0, 2, 1, 0]
    some = as_networkx(graph, feat=[[1]] * 6, label=words)
    del some.nodes["bob"]["label"]
    some.nodes["ann"]["label"] = None
    made = GraphTask.from_networkx(some)
    assert made.labels.tolist() == [2, -1, 0, -1, 1, 0]
    assert made.num_classes == 3


def test_names_of_any_kind(graph):
    odd = nx.Graph()
    for node in (7, "a", (1, 2)):
        odd.add_node(node, feat=[1.0])
    assert GraphTask.from_networkx(odd).node_ids == [7, "a", "(1, 2)"]
    odd.add_node(np.int64(8), feat=[1.0])
    assert GraphTask.from_networkx(odd).node_ids == [7, "a", "(1, 2)", 8]


@pytest.mark.parametrize("pair", [(1, "1"), ((1, 2), "(1, 2)"), (0.5, "0.5")])
def test_names_that_are_one_in_a_file(pair):
    graph = nx.Graph()
    graph.add_nodes_from([("zoe", {"feat": [1]}), *((node, {"feat": [1]}) for node in pair)])
    with pytest.raises(DataError, match=r"graph: nodes 1 and 2 are both called '.*rename one"):
        GraphTask.from_networkx(graph)
    table = {"id": np.array([pair[0], "zoe", str(pair[0])], object), "feat": [1, 2, 3]}
    if isinstance(pair[0], int):
        with pytest.raises(DataError, match=r"nodes 0 and 2 are both called '1'"):
            GraphTask.from_edges({"src": [], "dst": []}, table)


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"label": [0] * 6}, r"there are no features .found: label.*features=\[\.\.\.\]"),
        ({"a": [1, 2, "old", 4, 5, 6]}, "graph, node 'cyd', column 'a': 'old' is no number"),
        (
            {"a": [1] * 6, "split": ["train"] * 5 + ["tset"]},
            "node 'dan', column 'split': 'tset' is",
        ),
        ({"feat": [[1]] * 5 + [[1, 2]]}, "the lists in column 'feat' differ in length: .1, 2."),
        ({"feat": [[1]] * 6, "trian_mask": [1] * 6}, "unknown mask 'trian_mask'; did you mean 'tr"),
        ({"feat": [[1]] * 6, "val_mask": [2] * 6}, "val_mask holds other values than 0 and 1"),
        ({"feat": [[1]] * 6, "val_mask": [1] * 6, "split": ["val"] * 6}, "masks and a split"),
        ({"feat": [[1]] * 6, "label": [0.5] * 6}, "the label of node 0 is 0.5; number the classes"),
    ],
)
def test_what_is_wrong_with_networkx(graph, attributes, words):
    with pytest.raises(DataError, match=words) as caught:
        GraphTask.from_networkx(as_networkx(graph, **attributes))
    assert "\n" not in str(caught.value)


def test_no_such_features(graph):
    some = as_networkx(graph, age=[1] * 6, height=[2] * 6)
    with pytest.raises(DataError, match="no column 'hieght'; did you mean 'height'"):
        GraphTask.from_networkx(some, features=["hieght"])
    with pytest.raises(DataError, match="no features"):
        GraphTask.from_networkx(some, features="age")
    with pytest.raises(DataError, match="no features"):
        GraphTask.from_networkx(some, features=3)


# ----------------------------------------------------------------------- SciPy


def as_scipy(graph):
    src, dst = (ends.numpy() for ends in graph.edges())
    return sp.coo_array((np.ones(len(src)), (src, dst)), (6, 6)).tocsr()


def test_scipy(graph, task):
    masks = {mask: graph.ndata[mask] for mask in MASKS}
    for feat in (task.feat, task.feat.numpy(), sp.csr_array(task.feat.numpy()), task.feat.tolist()):
        same(GraphTask.from_scipy(as_scipy(graph), feat, task.labels, **masks), task)
    bare = GraphTask.from_scipy(as_scipy(graph), task.feat)
    assert bare.labels is None
    named = GraphTask.from_scipy(as_scipy(graph), task.feat, np.array(WORDS * 2))
    assert named.class_names == ("eggs", "ham", "spam")
    assert named.labels.tolist() == [2, 1, 0] * 2


@pytest.mark.parametrize(
    ("adjacency", "feat", "label", "words"),
    [
        (sp.eye_array(6, 5), np.ones((6, 2)), None, r"adjacency matrix must be \(N, N\), and is"),
        (np.eye(6), np.ones((6, 2)), None, "expected a sparse matrix of SciPy, got ndarray"),
        (sp.eye_array(6), np.ones((5, 2)), None, r"feat is \(5, 2\), but there are 6 nodes"),
        (sp.eye_array(6), np.ones((6, 2)), [0] * 5, "different numbers of rows .feat 6, label 5"),
        (sp.eye_array(6), np.ones((6, 2)), "spam", "column 'label' is one str; give a cell a row"),
    ],
)
def test_what_is_wrong_with_scipy(adjacency, feat, label, words):
    with pytest.raises(DataError, match=words):
        GraphTask.from_scipy(adjacency, feat, label)


# ---------------------------------------------------------------------- tables


def tables(graph, task):
    src, dst = (ends.tolist() for ends in graph.edges())
    edges = {"source": [IDS[u] for u in src], "target": [IDS[v] for v in dst], "weight": [0.5] * 6}
    a, b = task.feat.T.tolist()
    split = ["train", "train", "val", "val", "test", "test"]
    label = task.labels.tolist()
    return edges, {"id": IDS, "a": a, "label": label, "b": b, "split": split}


FORMS = {
    "dict": dict,
    "pandas": pd.DataFrame,
    "pandas with pyarrow": lambda table: pd.DataFrame(table).convert_dtypes(
        dtype_backend="pyarrow"
    ),
    "pandas nullable": lambda table: pd.DataFrame(table).convert_dtypes(),
    "pandas categories": lambda table: pd.DataFrame(table).astype(
        {name: "category" for name in ("id", "source", "split") if name in table}
    ),
    "pyarrow": pa.table,
    "pyarrow dictionary": lambda table: pa.table(
        {
            name: pa.array(column).dictionary_encode() if isinstance(column[0], str) else column
            for name, column in table.items()
        }
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_tables(form, graph, task):
    edges, nodes = tables(graph, task)
    make = FORMS[form]
    made = GraphTask.from_edges(make(edges), make(nodes))
    same(made, task)
    assert made.node_ids == IDS
    # Missing cells, words as labels, numbers as ids.
    numbers = {"src": list(range(6)), "dst": [1, 2, 3, 4, 5, 0]}
    more = {"node": [5, 4, 3, 2, 1, 0], "f": [1.5] * 6, "label": ["b", None, "a", "b", "a", None]}
    made = GraphTask.from_edges(make(numbers), make(more))
    assert made.node_ids == [5, 4, 3, 2, 1, 0]
    assert all(type(node) is int for node in made.node_ids)
    assert made.graph.edges()[0].tolist() == [5, 4, 3, 2, 1, 0]
    assert (made.class_names, made.labels.tolist()) == (("a", "b"), [1, -1, 0, 1, 0, -1])


def test_lists_in_a_column(graph, task):
    edges, nodes = tables(graph, task)
    nodes = {"id": IDS, "feat": task.feat.tolist(), "y": nodes["label"], "split": nodes["split"]}
    for make in (dict, pd.DataFrame, pa.table):
        same(GraphTask.from_edges(make(edges), make(nodes)), task)


def test_arrays_of_edges(graph, task):
    nodes = {"feat": task.feat, "label": task.labels, **{m: graph.ndata[m] for m in MASKS}}
    index = torch.stack(graph.edges())
    for edges in (index, index.numpy(), index.tolist()):
        same(GraphTask.from_edges(edges, nodes), task)
    named = np.array(IDS, object)[index.numpy()]
    same(GraphTask.from_edges(named, {**nodes, "id": IDS}), task)
    with pytest.raises(DataError, match=r"edges: must be \(2, E\).* but are \(6, 2\); transpose"):
        GraphTask.from_edges(index.t(), nodes)


def test_names_of_columns(graph, task):
    edges, nodes = tables(graph, task)
    edges = {"who": edges["source"], "whom": edges["target"], "source": ["?"] * 6}
    nodes["name"] = nodes.pop("id")
    made = GraphTask.from_edges(
        edges,
        nodes,
        source="who",
        target="whom",
        node_id="name",
        features=["b", "a"],
        metric="macro_f1",
    )
    assert torch.equal(made.feat, task.feat.flip(1))
    assert (made.node_ids, made.metric) == (IDS, "macro_f1")
    with pytest.raises(DataError, match="no column 'hwom'; did you mean 'whom'"):
        GraphTask.from_edges(edges, nodes, source="who", target="hwom", node_id="name")


WRONG_TABLES = [
    ({}, {"id": ["fay", *IDS[:5]]}, "nodes, row 1: node 'fay' is there twice; ids must differ"),
    (
        {"source": ["zoe"] * 6},
        {},
        "edges, row 0: source 'zoe' is not among the 6 ids of the nodes;",
    ),
    ({"source": list(range(6))}, {}, "'0' is not among .* numbers, those of the other words"),
    ({"source": [None, *IDS[1:]]}, {}, "edges, row 0, column 'source': the id is missing"),
    ({"source": [np.nan, *range(5)]}, {}, "column 'source': the id is missing"),
    ({}, {"id": [None, *IDS[1:]]}, "nodes, row 0, column 'id': the id is missing"),
    ({}, {"a": ["x"] * 6}, r"nodes, row 0, column 'a': 'x' is no number.*features=\[\.\.\.\]"),
    (
        {"source": IDS[:5]},
        {},
        "edges: the columns have different numbers of rows .source 5, target",
    ),
]


@pytest.mark.parametrize(("of_edges", "of_nodes", "words"), WRONG_TABLES)
def test_what_is_wrong_with_tables(graph, task, of_edges, of_nodes, words):
    edges, nodes = tables(graph, task)
    with pytest.raises(DataError, match=words) as caught:
        GraphTask.from_edges({**edges, **of_edges}, {**nodes, **of_nodes})
    assert "\n" not in str(caught.value)


def test_features_that_are_missing_are_found_when_it_is_checked(graph, task):
    edges, nodes = tables(graph, task)
    made = GraphTask.from_edges(edges, pd.DataFrame({**nodes, "a": [1.0, None, 3, 4, 5, 6]}))
    with pytest.raises(DataError, match="features are NaN or infinite on node 1"):
        made.validate()


def test_what_is_no_table(graph, task):
    edges, nodes = tables(graph, task)
    with pytest.raises(DataError, match=r"edges: expected a DataFrame .* got int"):
        GraphTask.from_edges(3, nodes)
    with pytest.raises(DataError, match=r"nodes: expected a DataFrame .* got list"):
        GraphTask.from_edges(edges, [1])
    del edges["source"]
    with pytest.raises(DataError, match=r"no columns of sources and targets \(found: target"):
        GraphTask.from_edges(edges, nodes)
    twice = pd.DataFrame(np.ones((6, 2)), columns=["a", "a"])
    with pytest.raises(DataError, match="two columns have the same name"):
        GraphTask.from_edges(np.zeros((2, 0), int), twice)


def test_half_a_million_edges():
    n, e = 1000, 500_000
    ends = np.random.default_rng(0).integers(n, size=(2, e))
    names = np.array([f"n{i}" for i in range(n)], object)
    edges = pd.DataFrame({"src": names[ends[0]], "dst": names[ends[1]]})
    made = GraphTask.from_edges(edges, pd.DataFrame({"id": names, "a": np.arange(n)}))
    assert [x.tolist() for x in made.graph.edges()] == ends.tolist()


@pytest.mark.parametrize("n", [0, 1])
def test_hardly_anything(n):
    empty = torch.empty(2, 0, dtype=torch.long)
    nodes = {"id": IDS[:n], "feat": torch.ones(n, 3)}
    for made in (
        GraphTask.from_pyg(Data(edge_index=empty, x=torch.ones(n, 3))),
        GraphTask.from_edges(empty, nodes),
        GraphTask.from_edges({"src": [], "dst": []}, nodes),
    ):
        assert (made.num_nodes, made.num_edges) == (n, 0)


# ------------------------------------------------------------------- any of them


def test_what_is_passed_as_data(graph, task, tmp_path):
    assert as_task(task) is task
    same(as_task(graph), task)
    same(as_task(as_data(graph)), task)
    same(as_task(save_npz(task, tmp_path / "ring.npz")), task)
    assert as_task("iris").fingerprint == load_dataset("iris").fingerprint
    with pytest.raises(UnknownNameError, match="did you mean 'iris'"):
        as_task("irsi")


def test_a_split_is_drawn_where_there_is_none(graph):
    many = dgl.batch([graph] * 10)
    for mask in MASKS:
        del many.ndata[mask]
    made = as_task(many)
    assert made.has_split
    assert made.options == {"split": "random", "split_seed": 0}
    assert not as_task(many, require_labels=False).has_any_mask


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (torch.zeros(2, 3, dtype=torch.long), r"from_edges\(edge_index, "),
        (sp.eye_array(3), r"from_scipy\(adjacency, feat, label\)"),
        (
            pd.DataFrame({"source": [1]}),
            r"one table is no graph; GraphTask\.from_edges\(edges, nod",
        ),
        (geometric.data.HeteroData(), "expected a GraphTask, .* got HeteroData"),
        (None, "expected a GraphTask, a dataset's name, a path, .* got NoneType"),
        (Data(edge_index=torch.tensor([[0], [1]])), "there are no node features x"),
        (nx.path_graph(3), "there are no features"),
    ],
)
def test_what_carries_no_features_and_labels(data, words):
    with pytest.raises(DataError, match=words):
        as_task(data)


@pytest.mark.parametrize(
    ("data", "maker"),
    [
        (Data(), "from_pyg"),
        (nx.Graph(), "from_networkx"),
        (sp.eye_array(3), "from_scipy"),
        (torch.ones(2, 2), "from_edges"),
    ],
)
def test_from_graph_says_which_other_takes_it(data, maker):
    with pytest.raises(DataError, match=rf"expected a DGLGraph, got .*; GraphTask\.{maker} takes"):
        GraphTask.from_graph(data)


def test_names_are_kept(graph, task, tmp_path):
    words = [WORDS[i % 3] for i in range(6)]
    split = ["train", "train", "train", "val", "test", "test"]
    made = GraphTask.from_networkx(as_networkx(graph, feat=[[1]] * 6, label=words, split=split))
    again = load_dataset(save_npz(made, tmp_path / "named.npz"))
    for other in (again, made.to("cpu"), made.with_ndata(feat=torch.ones(6, 2)), made.source):
        assert other.class_names == ("eggs", "ham", "spam")
        assert list(other.node_ids) == IDS
    same(again, made)
    numbers = GraphTask.from_edges({"src": [], "dst": []}, {"id": [7, 3], "feat": [[1], [2]]})
    read = load_dataset(save_npz(numbers, tmp_path / "ids.npz"), require_labels=False)
    assert read.node_ids == [7, 3]


def test_classes_counted_as_others_count_them(graph):
    words = ["ham", "spam", None] * 2
    made = GraphTask.from_networkx(as_networkx(graph, feat=[[1]] * 6, label=words))
    turned = made.with_classes(("spam", "eggs", "ham"))
    assert turned.labels.tolist() == [2, 0, -1] * 2
    assert (turned.num_classes, turned.class_names) == (3, ("spam", "eggs", "ham"))
    assert made.labels.tolist() == [0, 1, -1] * 2
    assert made.with_classes(("ham", "spam")) is made
    with pytest.raises(DataError, match="the weights know no class 'spam'; did you mean 'span'"):
        made.with_classes(("ham", "span"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"node_ids": np.arange(5)}, r"node_ids is \(5,\), but there are 6 nodes"),
        ({"node_ids": np.array(["a"] * 6)}, "node_ids holds a name twice"),
        (
            {"node_ids": np.ones(6)},
            "node_ids must be a list of whole numbers or words, but is float",
        ),
        ({"class_names": np.arange(3)}, "class_names must be a list of words, but is int64"),
    ],
)
def test_names_in_a_file_that_are_none(task, tmp_path, changes, words):
    path = save_npz(task, tmp_path / "ring.npz")
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **{**arrays, **changes})
    with pytest.raises(DataError, match=words):
        load_dataset(path)


# ------------------------------------------------------------------- what cells say

MISSING = [None, "", float("nan"), "NaN", "nan", -1, -1.0, "-1", "-1.0"]


@pytest.mark.parametrize("missing", MISSING)
def test_a_label_that_is_missing_beside_words(missing):
    nodes = {"a": [1.0, 2, 3], "label": ["x", missing, "y"]}
    made = GraphTask.from_edges(np.zeros((2, 0), int), nodes)
    assert (made.class_names, made.labels.tolist()) == (("x", "y"), [0, -1, 1])
    assert hidden(np.array(nodes["label"], object)).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["01001", "02139", "94110"], ("01001", "02139", "94110")),
        (["+1", "1", "2"], ("+1", "1", "2")),
        (["0", "1", "-1"], ()),
        (["1.0", "0.0", ""], ()),
    ],
)
def test_labels_that_look_like_numbers(labels, names):
    made = GraphTask.from_edges(np.zeros((2, 0), int), {"a": [1.0, 2, 3], "label": labels})
    assert made.class_names == names


def test_years_as_labels_are_noted():
    nodes = {"a": [1.0, 2, 3], "label": [1990, 2000, 2010]}
    words = "2,011 classes are counted, of which 3 occur .1990, 2000, 2010.: .*as words"
    with pytest.warns(UserWarning, match=words):
        assert GraphTask.from_edges(np.zeros((2, 0), int), nodes).num_classes == 2011
    nodes["label"] = list(map(str, nodes["label"]))
    nodes["label"][0] += "s"
    assert GraphTask.from_edges(np.zeros((2, 0), int), nodes).num_classes == 3


@pytest.mark.parametrize(
    ("ids", "ends", "kept"),
    [
        (["u1", "u2", "1001"], ["1001"], ["u1", "u2", "1001"]),
        (["u1", "u2", "1001"], [1001], ["u1", "u2", "1001"]),
        (["7", "07", "007"], ["007"], ["7", "07", "007"]),
        (["3", "5", "10"], ["10"], [3, 5, 10]),
        (["3", "5", "10"], [10.0], [3, 5, 10]),
        ([3, 5, 10], ["10"], [3, 5, 10]),
    ],
)
def test_ids_decide_how_ends_are_read(ids, ends, kept, tmp_path):
    nodes = {"id": ids, "a": [1.0, 2, 3]}
    made = GraphTask.from_edges({"source": ends, "target": ends}, nodes)
    assert made.node_ids == kept
    assert [each.tolist() for each in made.graph.edges()] == [[2], [2]]
    # So do DGL's folders.
    (tmp_path / "meta.yaml").write_text(
        "{node_data: [{file_name: n.csv}], edge_data: [{file_name: e.csv}]}"
    )
    rows = "".join(f"\n{each},{row}" for row, each in enumerate(ids))
    (tmp_path / "n.csv").write_text(f"node_id,feat{rows}\n")
    end = "10" if ends == [10.0] else ends[0]
    (tmp_path / "e.csv").write_text(f"src_id,dst_id\n{end},{ids[0]}\n")
    made = load_dataset(tmp_path, require_labels=False)
    assert made.node_ids == sorted(kept)
    assert made.feat[made.graph.edges()[0]].tolist() == [[2.0]]


@pytest.mark.parametrize(
    ("ids", "end", "words"),
    [
        (["007", "008"], "7", "'7' is not among .*; '007' is, and ids are compared as they are wr"),
        (["007", "008"], 7, "'7' is not among .*; '007' is"),
        (["1", "2"], "1.0", "'1.0' is not among .*; '1' is"),
        (["a", "b"], 7, "one table are numbers"),
        (["1", "b"], 7, "add a row for it"),
    ],
)
def test_ids_that_are_written_otherwise(ids, end, words):
    with pytest.raises(DataError, match=words):
        GraphTask.from_edges({"src": [end], "dst": [ids[0]]}, {"id": ids, "a": [1.0, 2]})


def test_masks_of_floats_and_features_of_a_table():
    feat = pd.DataFrame(np.arange(6.0).reshape(3, 2), columns=["b", "a"])
    mask = pd.Series([1, np.nan, 0])
    made = GraphTask.from_scipy(sp.coo_array((3, 3)), feat, [0, 1, 0], train_mask=mask)
    assert made.feat.tolist() == feat.to_numpy().tolist()
    assert made.train_mask.tolist() == [True, False, False]
    nodes = pd.DataFrame({"a": [1.0, 2, 3], "train_mask": mask})
    made = GraphTask.from_edges(np.zeros((2, 0), int), nodes)
    assert made.train_mask.tolist() == [True, False, False]
    square = pd.DataFrame(np.eye(3)[::-1])  # whose names are numbers, as many as there are nodes
    made = GraphTask.from_scipy(sp.coo_array((3, 3)), square)
    assert made.feat.tolist() == np.eye(3)[::-1].tolist()


@pytest.mark.parametrize("write", [str.title, str.upper])
def test_capital_letters_in_names_of_columns(graph, task, write):
    edges, nodes = tables(graph, task)
    edges = {write(name): column for name, column in edges.items()}
    nodes = {name if len(name) == 1 else write(name): column for name, column in nodes.items()}
    same(GraphTask.from_edges(edges, nodes), task)
    with pytest.raises(DataError, match=r"the columns .* differ in capital letters; rename one"):
        GraphTask.from_edges(edges, {**nodes, "label": [0] * 6})


def test_large_coordinates_are_features():
    made = GraphTask.from_edges(np.zeros((2, 0), int), {"X": [1.5, 2], "Y": [3.5, 4]})
    assert made.feat.tolist() == [[1.5, 3.5], [2, 4]]
    assert made.labels is None


def turned(graph, task):
    """`tables` of the nodes from last to first, their ids where a DataFrame has its index."""
    edges, nodes = tables(graph, task)
    return edges, pd.DataFrame(nodes).set_index("id")[::-1]


def test_an_index_is_the_ids(graph, task, tmp_path):
    edges, nodes = turned(graph, task)
    wanted = GraphTask.from_edges(edges, nodes.reset_index())
    found = GraphTask.from_edges(edges, nodes)
    same(found, wanted)
    assert found.node_ids == IDS[::-1]
    numbered = nodes.set_axis(range(6)[::-1])
    ends = np.array([[IDS.index(each) for each in edges[end]] for end in ("source", "target")])
    for table in (numbered, pa.Table.from_pandas(numbered)):
        found = GraphTask.from_edges(ends, table)
        assert torch.equal(found.feat[found.graph.edges()[0]], task.feat[graph.edges()[0]])
        assert (found.in_feats, found.node_ids) == (2, [5, 4, 3, 2, 1, 0])
    # As pandas writes it by default.
    numbered.to_csv(tmp_path / "nodes.csv")
    pd.DataFrame({"source": ends[0], "target": ends[1]}).to_csv(tmp_path / "edges.csv")
    found = load_dataset(tmp_path, require_labels=False)
    assert (found.in_feats, found.node_ids) == (2, [5, 4, 3, 2, 1, 0])


def test_an_index_that_is_no_ids(graph, task):
    edges, nodes = turned(graph, task)
    with pytest.raises(DataError, match=r"'fay' is there twice; .* index of the table"):
        GraphTask.from_edges(edges, nodes.set_axis(["fay"] * 6))
    with pytest.raises(DataError, match="whole numbers or words; for want of a column node_id"):
        GraphTask.from_edges(edges, nodes.set_axis(pd.date_range("2020", periods=6)))
    counted = nodes.reset_index(drop=True)
    assert GraphTask.from_edges(np.zeros((2, 1), int), counted).node_ids == list(range(6))
    with pytest.raises(DataError, match=r"'eve' is not .*no column node_id, id or node, so that"):
        GraphTask.from_edges({"src": ["eve"], "dst": [0]}, counted)
    named = counted.assign(user_id=range(100, 106))
    with pytest.raises(DataError, match=r"from 0; 'user_id' holds it: .* call the column id"):
        GraphTask.from_edges(np.array([[0], [104]]), named)
    kept = named[named.user_id > 101]
    with pytest.raises(DataError, match=r"'1' is not .* the ids are the index of the table"):
        GraphTask.from_edges(np.array([[2], [1]]), kept)
