"""Any graph: each form of it gives the edges, and to the bit the result, that DGL's gives."""

import gc
import sys
import types
import warnings
import weakref
from functools import partial

import networkx as nx
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from graph_zoo import GRAPHS, directed, homogeneous

import lipzoo
from lipzoo._dgl import dgl
from lipzoo._edges import read_edges
from lipzoo.attention import Structure, as_structure, structure_of
from lipzoo.errors import DataError
from lipzoo.lipschitz import estimate, robustness
from lipzoo.models import DeepGAT, DeepGraphTransformer
from lipzoo.nn import GATConv, GATv2Conv, TransformerConv

geometric = pytest.importorskip("torch_geometric")
Data = geometric.data.Data


class SparseTensor:
    """As much of torch_sparse's as is read, under its name."""

    def __init__(self, row, col, sizes):
        self.entries, self.sizes = (row, col, None), sizes

    def coo(self):
        return self.entries

    def sparse_sizes(self):
        return self.sizes


SparseTensor.__module__ = "torch_sparse.tensor"


def ends(graph):
    src, dst = graph.edges(order="eid")
    return src.long(), dst.long()


def as_edge_index(graph):
    return torch.stack(ends(graph))


def as_data(graph):
    return Data(edge_index=as_edge_index(graph), num_nodes=graph.num_nodes())


def as_adj_t(graph, layout=torch.sparse_coo):
    src, dst = ends(graph)
    n = graph.num_nodes()
    adj_t = torch.sparse_coo_tensor(torch.stack([dst, src]), torch.zeros(len(src)), (n, n))
    if layout is torch.sparse_coo:
        return adj_t
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return adj_t.to_sparse(layout=layout)


def as_sparse_tensor(graph):
    src, dst = ends(graph)
    return SparseTensor(dst, src, (graph.num_nodes(),) * 2)


def as_scipy(graph):
    src, dst = (x.numpy() for x in ends(graph))
    return sp.coo_array((np.zeros(len(src)), (src, dst)), (graph.num_nodes(),) * 2)


def as_networkx(graph):
    made = nx.MultiDiGraph()
    made.add_nodes_from(f"node {n}" for n in range(graph.num_nodes()))
    for u, v in zip(*(x.tolist() for x in ends(graph))):
        made.add_edge(f"node {u}", f"node {v}")
    return made


FORMS = {
    "edge_index": as_edge_index,
    "int32": lambda graph: as_edge_index(graph).int(),
    "Data": as_data,
    "Data with adj_t": lambda graph: Data(adj_t=as_adj_t(graph)),
    "adj_t coo": as_adj_t,
    "adj_t csr": lambda graph: as_adj_t(graph, torch.sparse_csr),
    "adj_t csc": lambda graph: as_adj_t(graph, torch.sparse_csc),
    "SparseTensor": as_sparse_tensor,
    "scipy coo": as_scipy,
    "scipy csr": lambda graph: as_scipy(graph).tocsr(),
    "scipy matrix": lambda graph: sp.csc_matrix(as_scipy(graph)),
    "networkx": as_networkx,
}
#: Those that hold the edges in the order they were given.
ORDERED = (
    "edge_index",
    "int32",
    "Data",
    "Data with adj_t",
    "adj_t coo",
    "SparseTensor",
    "scipy coo",
)
#: Those whose formats hold an entry once.
ONCE = ("adj_t csr", "adj_t csc", "scipy csr", "scipy matrix")
PLAIN = [name for name in GRAPHS if name not in ("block", "bipartite")]


def pairs(structure):
    return list(zip(structure.src.tolist(), structure.dst.tolist()))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", PLAIN)
def test_the_edges_are_those_of_dgl(form, name):
    graph = GRAPHS[name]()
    feat = torch.ones(graph.num_nodes(), 1)
    found, wanted = as_structure(FORMS[form](graph), feat=feat), as_structure(graph)
    if form in ORDERED:
        assert pairs(found) == pairs(wanted)
    if form in ONCE:
        assert sorted(pairs(found)) == sorted(set(pairs(wanted)))
    else:
        assert sorted(pairs(found)) == sorted(pairs(wanted))
    assert found.num_src == found.num_dst == graph.num_nodes()
    assert found.src.dtype == torch.int64


LAYERS = {
    "GATConv": lambda **o: GATConv(4, 3, 2, score_norm="lipschitz", allow_zero_in_degree=True, **o),
    "GATv2Conv": lambda **o: GATv2Conv(4, 3, 2, allow_zero_in_degree=True, **o),
    "TransformerConv": lambda **o: TransformerConv(4, 3, 2, allow_zero_in_degree=True, **o),
    "DeepGAT": lambda **o: DeepGAT(4, 3, 2, hidden_feats=8, num_heads=2, **o),
    "DeepGraphTransformer": lambda **o: DeepGraphTransformer(
        4, 3, 2, hidden_feats=8, num_heads=2, **o
    ),
}


@pytest.mark.parametrize("backend", ["torch", "fused"])
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("form", FORMS)
def test_the_same_result_to_the_bit(layer, backend, form):
    torch.manual_seed(0)
    module = LAYERS[layer](backend=backend).eval()
    graph, feat = GRAPHS["isolated"](), torch.randn(6, 4)
    other = FORMS[form](graph)
    s = as_structure(other, feat=feat)
    same = dgl.graph((s.src, s.dst), num_nodes=6)  # the edges in the order of this form
    assert torch.equal(module(other, feat), module(same, feat))
    assert torch.allclose(module(other, feat), module(graph, feat), atol=1e-6)


def test_what_dgl_makes_of_scipy_and_networkx():
    matrix = as_scipy(directed()).tocsr()
    assert pairs(as_structure(matrix)) == pairs(as_structure(dgl.from_scipy(sp.csr_matrix(matrix))))
    for make in (nx.path_graph, nx.cycle_graph, nx.star_graph):
        graph = make(5)
        graph.add_edge(1, 1)
        found, wanted = as_structure(graph), as_structure(dgl.from_networkx(graph))
        assert sorted(pairs(found)) == sorted(pairs(wanted))
        again = geometric.utils.from_networkx(graph).edge_index
        assert pairs(found) == list(zip(*again.tolist()))


# ------------------------------------------------------------------ directions


def test_messages_flow_from_source_to_target():
    """Only node 1 hears of node 0."""
    feat = torch.tensor([[1.0], [0.0]])
    one_way = torch.tensor([[0], [1]])
    reached = {
        "edge_index": one_way,
        "adj_t": torch.sparse_coo_tensor([[1], [0]], [1.0], (2, 2)),
        "scipy": sp.coo_array(([1.0], ([0], [1])), (2, 2)),
        "networkx": nx.DiGraph([(0, 1)]),
        "Data": Data(edge_index=one_way),
    }
    layer = GATConv(1, 1, 1, allow_zero_in_degree=True)
    for name, graph in reached.items():
        out = layer(graph, feat).flatten()
        assert out[0] == 0, name
        assert out[1] != 0, name


def test_pyg_reads_the_same_direction():
    index, feat = torch.tensor([[0, 2], [1, 1]]), torch.randn(3, 2)
    adj_t = torch.sparse_coo_tensor(index.flip(0), torch.ones(2), (3, 3)).to_sparse_csr()
    conv = geometric.nn.SimpleConv()
    assert torch.equal(conv(feat, index), conv(feat, adj_t))
    assert pairs(as_structure(index, feat=feat)) == pairs(as_structure(adj_t))


def test_an_undirected_networkx_graph_gives_both_directions_and_a_loop_once():
    graph = nx.Graph([("b", "a"), ("a", "a")])
    assert list(graph) == ["b", "a"]
    assert sorted(pairs(as_structure(graph))) == [(0, 1), (1, 0), (1, 1)]
    several = nx.MultiGraph([(0, 1), (0, 1)])
    assert sorted(pairs(as_structure(several))) == [(0, 1), (0, 1), (1, 0), (1, 0)]


def test_nodes_of_networkx_are_counted_as_networkx_does():
    graph = nx.DiGraph([(7, 2), (2, "x")])
    assert pairs(as_structure(graph)) == [(0, 1), (1, 2)]
    again = as_structure(nx.to_scipy_sparse_array(graph))
    assert pairs(as_structure(graph)) == pairs(again)


def test_whatever_is_stored_is_an_edge():
    twice = sp.coo_array(([0.0, 1.0, np.nan], ([0, 0, 1], [1, 1, 1])), (2, 2))
    assert pairs(as_structure(twice)) == [(0, 1), (0, 1), (1, 1)]
    assert as_structure(dgl.from_scipy(sp.coo_matrix(twice))).num_edges == 3
    uncoalesced = torch.sparse_coo_tensor([[1, 1], [0, 0]], [0.0, 1.0], (2, 2))
    assert pairs(as_structure(uncoalesced)) == [(0, 1), (0, 1)]
    assert not uncoalesced.is_coalesced()


# --------------------------------------------------------------- number of nodes


def test_isolated_nodes_at_the_end_count():
    index, feat = torch.tensor([[0, 1], [1, 0]]), torch.randn(5, 4)
    model = DeepGAT(4, 3, 2, hidden_feats=8).eval()
    for graph in (index, Data(edge_index=index), Data(edge_index=index, x=feat)):
        assert model(graph, feat).shape == (5, 3)
    assert torch.equal(model(index, feat), model(dgl.graph(tuple(index), num_nodes=5), feat))
    assert torch.equal(model(index, feat[:2]), model(dgl.graph(tuple(index)), feat[:2]))
    assert as_structure(index).num_src == 2


@pytest.mark.parametrize("n", [0, 1, 3])
def test_no_edges(n):
    feat = torch.randn(n, 4)
    model = DeepGAT(4, 3, 2, hidden_feats=8).eval()
    empty = torch.empty(2, 0, dtype=torch.long)
    for graph in (empty, Data(edge_index=empty), sp.coo_array((n, n)) if n else empty):
        assert torch.equal(model(graph, feat), model(dgl.graph(([], []), num_nodes=n), feat))


def test_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        graph = Data(edge_index=torch.tensor([[0], [1]]))
        as_structure(graph)
        as_structure(nx.path_graph(3))


# ------------------------------------------------------------------------ cache


def changed_by_torch(index):
    index[1, 0] = 2


def changed_through_data(index):
    index.data[1, 0] = 2


def changed_through_numpy(index):
    index.numpy()[1, 0] = 2


def changed_in_inference_mode(index):
    with torch.inference_mode():
        index[1, 0] = 2


def changed_size(index):
    index.resize_(2, 2)


CHANGES = [
    changed_by_torch,
    changed_through_data,
    changed_through_numpy,
    changed_in_inference_mode,
    changed_size,
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("loops", [False, True])
def test_a_tensor_that_was_changed_in_place(change, loops):
    index, feat = torch.tensor([[0, 1, 2], [1, 0, 0]]), torch.randn(3, 4)
    before = as_structure(index, loops, feat)
    seen, compressed = pairs(before), before.csc[1].tolist()
    model = DeepGAT(4, 3, 2, hidden_feats=8, add_self_loops=loops).eval()
    model(index, feat) if loops else None
    change(index)
    after = as_structure(index, loops, feat)
    assert pairs(after)[: index.shape[1]] == list(zip(*index.tolist()))
    assert pairs(before) == seen, "what follows from the old edges still goes with them"
    assert before.csc[1].tolist() == compressed
    if loops:
        assert torch.equal(model(index, feat), model(dgl.graph(tuple(index), num_nodes=3), feat))


def test_data_networkx_and_scipy_that_were_changed():
    data, feat = Data(edge_index=torch.tensor([[0], [1]])), torch.ones(3, 1)
    assert pairs(as_structure(data, feat=feat)) == [(0, 1)]
    data.edge_index = torch.tensor([[0], [2]])
    assert pairs(as_structure(data, feat=feat)) == [(0, 2)]
    graph = nx.DiGraph([(0, 1)])
    assert as_structure(graph).num_edges == 1
    graph.add_edge(1, 0)
    assert as_structure(graph).num_edges == 2
    matrix = sp.csr_array(([1.0], ([0], [1])), (3, 3))
    assert pairs(as_structure(matrix)) == [(0, 1)]
    matrix.indices[0] = 2
    assert pairs(as_structure(matrix)) == [(0, 2)]


@pytest.mark.parametrize("form", FORMS)
def test_one_structure_while_nothing_changes(form):
    graph = FORMS[form](homogeneous())
    feat = torch.ones(10, 1)
    found = as_structure(graph, True, feat)
    assert as_structure(graph, True, feat) is found
    assert as_structure(graph, False, feat).with_self_loops() is found


def test_other_features_other_nodes():
    index = torch.tensor([[0], [1]])
    assert as_structure(index, feat=torch.ones(2, 1)).num_src == 2
    assert as_structure(index, feat=torch.ones(4, 1)).num_src == 4
    assert as_structure(index).num_src == 2  # whatever was asked before
    with pytest.raises(DataError, match="names node 1, and there are 1 nodes"):
        as_structure(index, feat=torch.ones(1, 1))


@pytest.mark.parametrize("form", FORMS)
def test_the_cache_keeps_nothing_alive(form):
    graph = FORMS[form](homogeneous())
    made = weakref.ref(as_structure(graph, True, torch.ones(10, 1)))
    entries = len(structure_of._OTHERS)
    del graph
    gc.collect()
    assert made() is None
    assert len(structure_of._OTHERS) < entries


def test_a_structure_that_needs_no_loops_goes_with_its_graph():
    """Without the collector: it must not refer to itself."""
    index = as_edge_index(homogeneous())
    made = weakref.ref(as_structure(index, True))
    assert made().with_self_loops() is made()
    gc.disable()
    try:
        del index
        assert made() is None
    finally:
        gc.enable()


def test_made_in_the_middle_of_anything_it_lasts():
    with torch.inference_mode():
        index = torch.tensor([[0, 1], [1, 0]])
        as_structure(index, True)
    other = index.clone()
    torch.func.vmap(lambda x: as_structure(other, True).src * 1 + x)(torch.ones(2, 1))
    for graph in (index, other):
        s = as_structure(graph, True)
        assert not s.src.is_inference()
        feat = torch.ones(2, 1, requires_grad=True)
        feat[s.src].square().sum().backward()


# -------------------------------------------------------------------- refusals


INDEX = torch.tensor([[0, 1], [1, 0]])
WRONG = {
    "features first": (torch.ones(4, 3), "the graph comes first, then the features"),
    "sparse features first": (torch.ones(4, 3).to_sparse(), r"must be \(N, N\).*comes first"),
    "float": (INDEX.float(), r"whole numbers \(2, E\), got Tensor of torch.float32 \(2, 2\)"),
    "bool": (INDEX.bool(), r"got Tensor of torch.bool"),
    "dense": (torch.eye(3), r"adjacency\.nonzero\(\)\.t\(\)"),
    "turned": (torch.zeros(5, 2, dtype=torch.long), r"edge_index\.t\(\)"),
    "flat": (torch.arange(4), r"\(2, E\), got Tensor of torch.int64 \(4,\)"),
    "negative": (INDEX - 1, "names node -1; nodes are numbered from 0"),
    "huge": (INDEX + 2**62, "names node 4611686018427387905, and there are 2 nodes"),
    "numpy": (INDEX.numpy(), "got ndarray; torch.from_numpy"),
    "list": (([0, 1], [1, 0]), "got tuple"),
    "string": ("cora", "expected a DGLGraph.* got str"),
    "rectangular": (sp.coo_array((3, 4)), r"an adjacency matrix must be \(N, N\), and is \(3, 4\)"),
    "vector": (sp.coo_array(np.ones(3)), r"must be \(N, N\), and is \(3,\)"),
    "no edges in Data": (Data(x=torch.ones(3, 1)), "neither edge_index nor adj_t .found: x"),
    "hetero": (geometric.data.HeteroData(), r"got HeteroData; data\.to_homogeneous\(\)"),
    "three-dimensional": (torch.ones(2, 2, 2).to_sparse(), "expected a sparse adjacency matrix"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_graph_is_refused_in_words(name):
    graph, words = WRONG[name]
    feat = torch.ones(2, 4)
    layer = GATConv(4, 2, 2, allow_zero_in_degree=True)
    with pytest.raises(DataError, match=words) as caught:
        layer(graph, feat)
    assert "\n" not in str(caught.value)
    if not isinstance(graph, (list, tuple)):
        with pytest.raises(DataError, match=words):
            DeepGAT(4, 3, 2, hidden_feats=8)(graph, feat)


@pytest.mark.parametrize("graph", [INDEX, Data(edge_index=INDEX), nx.path_graph(2), directed()])
def test_pyg_s_order_is_refused_in_words(graph):
    feat = torch.ones(4, 4)
    for module in (GATConv(4, 2, 2), DeepGAT(4, 3, 2, hidden_feats=8)):
        with pytest.raises(DataError, match=r"the graph comes first.*model\(graph, feat\)"):
            module(feat, graph)


@pytest.mark.parametrize("make", [np.array, list, pd.DataFrame])
def test_features_that_are_no_tensor(make):
    feat, graph = make(np.ones((4, 4), np.float32)), dgl.add_self_loop(dgl.rand_graph(4, 6))
    model = DeepGAT(4, 3, 2, hidden_feats=8)
    words = r"features must be a tensor, got \w+; torch.tensor\(features\)"
    for call in (model, GATConv(4, 2, 2), model.forward_features, partial(robustness, model)):
        with pytest.raises(DataError, match=words):
            call(graph, feat)
    with pytest.raises(DataError, match=words):
        estimate(model, graph, feat)
    with pytest.raises(DataError, match=words):
        model([graph, graph], feat)


def test_features_of_another_number_of_nodes():
    with pytest.raises(DataError, match=r"features are \(3, 4\).*\(2, 4\)"):
        DeepGAT(4, 3, 2, hidden_feats=8)(nx.path_graph(2), torch.ones(3, 4))


# ------------------------------------------------------------------- elsewhere


def test_lipschitz_takes_them():
    torch.manual_seed(0)
    index, feat = torch.tensor([[0, 1, 2], [1, 2, 0]]), torch.randn(5, 4)
    graph = dgl.graph(tuple(index), num_nodes=5)
    model = DeepGAT(4, 3, 2, hidden_feats=8, score_norm="lipschitz").eval()
    labels = torch.tensor([0, 1, 2, 0, 1])
    lipschitz = lipzoo.lipschitz
    assert float(lipschitz.bound(model, index)) == float(lipschitz.bound(model, graph))
    options = {"iterations": 3}
    one, other = (lipschitz.estimate(model, g, feat, **options) for g in (index, graph))
    assert float(one) == float(other)
    one, other = (lipschitz.gradient_flow(model, g, feat, labels) for g in (index, graph))
    assert str(one) == str(other)
    one, other = (lipschitz.robustness(model, g, feat) for g in (index, graph))
    assert torch.equal(one.radius, other.radius)


def test_certified_radii_know_the_nodes_that_no_edge_names():
    torch.manual_seed(0)
    index, feat = torch.tensor([[0, 1, 2], [1, 2, 0]]), torch.randn(50, 4)
    graph = dgl.graph(tuple(index), num_nodes=50)
    model = DeepGAT(4, 3, 2, hidden_feats=8, score_norm="lipschitz", feature_norm="pairnorm").eval()
    wanted = lipzoo.lipschitz.robustness(model, graph, feat, method="global").radius
    for call in range(2):  # the second finds the structure of the first
        found = lipzoo.lipschitz.robustness(model, index, feat, method="global").radius
        assert torch.equal(found, wanted), call
        assert as_structure(index).num_src == 3


def test_lipschitzified_and_in_context_take_them():
    index, feat = torch.tensor([[0, 1, 2], [1, 2, 0]]), torch.randn(3, 4)
    graph = dgl.graph(tuple(index))
    layer = lipzoo.lipschitzify(dgl.nn.GATConv(4, 2, 2))
    assert torch.equal(layer(index, feat), layer(graph, feat))
    model = lipzoo.models.InContextGATv2(5, num_layers=1, hidden_feats=6).eval()
    rows = torch.randn(3, 2, 5)
    assert torch.equal(model(index, rows), model(graph, rows))


def test_blocks_and_structures_are_as_before():
    s = Structure(torch.tensor([0]), torch.tensor([1]), 2, 2)
    assert as_structure(s, feat=torch.ones(9, 1)) is s


def test_a_type_is_recognised_without_its_package():
    """A class that says it is of networkx, in a process that has none."""
    module = types.ModuleType("networkx.classes.graph")
    assert "networkx" in sys.modules  # this file imports it; the class below is none of its
    made = type("Graph", (), {"__module__": module.__name__})
    from lipzoo._edges import graph_kind

    assert graph_kind(made()) == "networkx"
    assert graph_kind(object()) is None


# ------------------------------------------------------------------ absurd sizes


ABSURD = {
    "edge_index": lambda: torch.tensor([[0, 1], [1, 10**12]]),
    "the largest number": lambda: torch.tensor([[0], [2**63 - 1]]),
    "Data": lambda: Data(edge_index=torch.tensor([[0], [10**12]])),
    "Data that says it": lambda: Data(edge_index=torch.tensor([[0], [1]]), num_nodes=10**12),
    "scipy": lambda: sp.coo_array(([1.0], ([0], [1])), (10**12, 10**12)),
    "dgl": lambda: dgl.graph(([0], [1]), num_nodes=10**12),
}


@pytest.mark.parametrize("form", ABSURD)
def test_terabytes_are_not_asked_for(form):
    model = LAYERS["DeepGAT"]().eval()
    graph = ABSURD[form]()
    for run in (lipzoo.lipschitz.bound, lambda model, graph: model(graph, torch.ones(5, 4))):
        with pytest.raises(DataError, match=r"far beyond what .* lets expect|there are 5 nodes"):
            run(model, graph)


def test_what_is_merely_large_is_taken():
    """A node in a thousand with an edge, or ten million without."""
    assert read_edges(torch.tensor([[0], [10**7]])).count() == 10**7 + 1
    many = torch.stack([torch.zeros(10**6, dtype=torch.int64), torch.arange(10**6) * 1000])
    assert read_edges(many).count() == 10**9 - 999
    with pytest.raises(DataError, match=r"number the nodes 0\.\.N-1: torch.unique"):
        read_edges(torch.tensor([[0], [2 * 10**7]])).count()
    # The features' rows are believed.
    assert read_edges(torch.tensor([[0], [2 * 10**7]])).count(10**8) == 10**8
    lone = sp.coo_array((2**31, 2**31))
    assert read_edges(lone).count() == 2**31
