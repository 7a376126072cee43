"""Structures: index tensors of a graph, cached, with the self-loops that are missing."""

import gc
import weakref

import pytest
import torch
from graph_zoo import GRAPHS, bipartite, block, directed, homogeneous, multigraph

from lipzoo._dgl import dgl
from lipzoo.attention import Structure, as_structure, compact, structure_of
from lipzoo.errors import DataError


@pytest.mark.parametrize("name", GRAPHS)
def test_edges_are_those_of_the_graph_in_their_order(name):
    graph = GRAPHS[name]()
    s = as_structure(graph)
    src, dst = graph.edges(order="eid")
    assert torch.equal(s.src, src.long())
    assert torch.equal(s.dst, dst.long())
    assert s.src.dtype == s.dst.dtype == torch.int64
    assert (s.num_src, s.num_dst) == (graph.num_src_nodes(), graph.num_dst_nodes())
    assert torch.equal(s.in_degrees, graph.in_degrees().long())
    assert s.has_zero_in_degree == bool((graph.in_degrees() == 0).any())


@pytest.mark.parametrize("only", ["coo", "csr", "csc", ["csr", "csc"]])
@pytest.mark.parametrize("name", GRAPHS)
def test_of_a_graph_that_is_kept_to_one_format(name, only):
    graph, wanted = GRAPHS[name]().formats(only), as_structure(GRAPHS[name]())
    before = graph.formats()
    for _ in range(2):
        s = as_structure(graph)
        assert torch.equal(s.src, wanted.src)
        assert torch.equal(s.dst, wanted.dst)
        assert (s.num_src, s.num_dst) == (wanted.num_src, wanted.num_dst)
        assert s.is_bipartite == wanted.is_bipartite
    assert as_structure(graph) is s
    assert graph.formats() == before


@pytest.mark.parametrize("name", GRAPHS)
def test_csc_and_csr(name):
    graph = GRAPHS[name]()
    s = as_structure(graph)
    for (indptr, other, edges), ends, others, count in (
        (s.csc, s.dst, s.src, s.num_dst),
        (s.csr, s.src, s.dst, s.num_src),
    ):
        assert indptr.shape == (count + 1,)
        for node in range(count):
            mine = slice(indptr[node], indptr[node + 1])
            wanted = (ends == node).nonzero().squeeze(1)
            assert torch.equal(edges[mine], wanted)
            assert torch.equal(other[mine], others[wanted])


def test_self_loops_are_appended_only_where_they_are_missing():
    s = as_structure(directed(), add_self_loops=True)
    # Node 0 has one already.
    assert list(zip(s.src.tolist(), s.dst.tolist()))[6:] == [(1, 1), (2, 2), (3, 3)]
    assert torch.equal(s.src[:6], directed().edges()[0])
    assert s.with_self_loops() is s


def test_self_loops_of_a_block_are_those_of_its_destination_nodes():
    graph = dgl.to_block(dgl.graph(([0, 1, 2, 2], [2, 2, 1, 2])), torch.tensor([2, 1]))
    s = as_structure(graph, add_self_loops=True)
    # 2 is destination 0 and reaches itself; 1 is destination 1 and does not.
    assert s.num_edges == 5
    assert (s.src[-1], s.dst[-1]) == (1, 1)
    assert (s.num_src, s.num_dst) == (3, 2)


def test_the_graph_is_not_touched():
    graph = directed()
    graph.ndata["x"], graph.edata["w"] = torch.rand(4, 2), torch.rand(6)
    x, w = graph.ndata["x"], graph.edata["w"]
    as_structure(graph, add_self_loops=True)
    assert graph.num_edges() == 6
    assert set(graph.ndata) == {"x"}
    assert set(graph.edata) == {"w"}
    assert graph.ndata["x"] is x
    assert torch.equal(graph.edata["w"], w)


def test_self_loops_have_no_meaning_on_a_bipartite_graph():
    with pytest.raises(DataError, match="bipartite"):
        as_structure(bipartite(), add_self_loops=True)


def test_a_block_is_not_bipartite_and_a_relation_between_two_types_is():
    assert not as_structure(block()).is_bipartite
    assert as_structure(bipartite()).is_bipartite
    same = dgl.heterograph({("user", "follows", "user"): ([0, 1], [1, 2])})
    assert not as_structure(same).is_bipartite


def test_several_relations_are_refused():
    edges = {("a", "r", "b"): ([0], [0]), ("b", "s", "a"): ([0], [0])}
    graph = dgl.heterograph(edges)
    with pytest.raises(DataError, match="2 relations"):
        as_structure(graph)
    assert as_structure(graph["r"]).num_edges == 1


@pytest.mark.parametrize("wrong", [None, [1, 2], torch.eye(3)])
def test_what_is_no_graph(wrong):
    with pytest.raises(DataError, match=f"got {type(wrong).__name__}"):
        as_structure(wrong)


# ---------------------------------------------------------------------- cache


@pytest.mark.parametrize("loops", [False, True])
def test_one_structure_a_graph(loops):
    graph = homogeneous()
    assert as_structure(graph, loops) is as_structure(graph, loops)
    assert as_structure(homogeneous(), loops) is not as_structure(graph, loops)


def test_features_do_not_invalidate_the_cache():
    graph = homogeneous()
    before = as_structure(graph)
    graph.ndata["x"] = torch.rand(10, 2)
    with graph.local_scope():
        graph.edata["w"] = torch.rand(graph.num_edges())
    assert as_structure(graph) is before


@pytest.mark.parametrize(
    ("change", "num_edges", "num_nodes"),
    [
        (lambda g: g.add_edges([3, 3], [1, 2]), 8, 4),
        (lambda g: g.remove_edges([0]), 5, 4),
        (lambda g: g.add_nodes(2), 6, 6),
        (lambda g: g.remove_nodes([1]), 4, 3),
    ],
    ids=["add_edges", "remove_edges", "add_nodes", "remove_nodes"],
)
@pytest.mark.parametrize("loops", [False, True])
def test_a_change_in_place_invalidates_the_cache(change, num_edges, num_nodes, loops):
    graph = directed()
    as_structure(graph, loops)
    change(graph)
    s = as_structure(graph, loops)
    missing = num_nodes - 1 if loops else 0  # node 0 keeps its self-loop throughout
    assert (s.num_edges, s.num_dst) == (num_edges + missing, num_nodes)


def test_the_cache_keeps_no_graph_alive():
    graph = homogeneous()
    as_structure(graph, add_self_loops=True)
    gone = weakref.ref(graph)
    entries = len(structure_of._CACHE)
    del graph
    gc.collect()
    assert gone() is None
    assert len(structure_of._CACHE) < entries


def test_a_structure_is_taken_as_it_is():
    s = as_structure(directed())
    assert as_structure(s) is s
    assert as_structure(s, add_self_loops=True).num_edges == 9


def in_inference_mode(run):
    with torch.inference_mode():
        run(torch.ones(1))


@pytest.mark.parametrize(
    "around",
    [
        in_inference_mode,
        lambda run: torch.func.vmap(run)(torch.ones(2, 1)),
        lambda run: torch.func.grad(lambda x: run(x).sum())(torch.ones(1)),
        lambda run: torch.func.jacfwd(torch.func.jacrev(run))(torch.ones(1)),
    ],
    ids=["inference_mode", "vmap", "grad", "jacfwd of jacrev"],
)
def test_made_in_the_middle_of_anything_it_lasts(around):
    """The first to see a graph may be a transform, or inference; training must work after it."""
    graph = directed()

    def make_everything(x):
        s = as_structure(graph, add_self_loops=True)
        for name in ("in_degrees", "csc", "csr", "dgl_block", "has_zero_in_degree"):
            getattr(s, name)
        return x * 1

    around(make_everything)
    s = as_structure(graph, add_self_loops=True)
    for tensor in (s.src, s.dst, s.in_degrees, *s.csc, *s.csr):
        assert not tensor.is_inference()
        assert not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    feat = torch.ones(4, 1, requires_grad=True)
    feat[s.src].square().sum().backward()
    assert s.dgl_block.num_edges() == 9


def test_to_another_device_is_done_once():
    s = as_structure(multigraph())
    assert s.to("cpu") is s
    moved = s.to("meta")
    assert moved.device.type == "meta"
    assert s.to(torch.device("meta")) is moved


def test_edge_features_go_along_with_the_edges():
    src, dst = torch.tensor([1, 0, 1]), torch.tensor([0, 1, 1])
    s = Structure(src, dst, 2, 2, edge_feat=torch.randn(3, 2))
    assert s.to("meta").edge_feat.device.type == "meta"
    small = compact(s)
    assert torch.equal(small.src, s.src)
    assert small.edge_feat is s.edge_feat


def test_repr():
    s = Structure(torch.tensor([0, 1]), torch.tensor([1, 0]), 2, 2)
    assert repr(s) == "Structure(num_src=2, num_dst=2, num_edges=2, device=cpu)"
