"""The index of the CPU kernels: what it holds, in which order, in how many bits."""

import gc
import weakref

import numpy as np
import pytest
import torch
from graph_zoo import GRAPHS, bipartite, directed, homogeneous, multigraph
from kinds import HEADS, KINDS, WIDTH

from lipzoo._dgl import dgl
from lipzoo.attention import Structure, as_structure, compact, graph_attention, held_edges
from lipzoo.attention.fused import index as index_module
from lipzoo.attention.fused.index import kernel_index
from lipzoo.errors import DataError
from lipzoo.models import DeepGAT

LOOPS = {
    "as they are": lambda s: s,
    "with": lambda s: s if s.is_bipartite else s.with_self_loops(),
    "without": lambda s: s.without_self_loops(),
    "anew": lambda s: s if s.is_bipartite else s.without_self_loops().with_self_loops(),
    "taken back": lambda s: s if s.is_bipartite else s.with_self_loops().without_self_loops(),
}


def edges_of(graph, loops):
    """The edges one by one, in Python."""
    edges = list(zip(*(ends.tolist() for ends in graph.edges(order="eid"))))
    is_square = not as_structure(graph).is_bipartite
    if loops in ("without", "anew", "taken back") and is_square:
        edges = [(j, i) for j, i in edges if j != i]
    if loops in ("with", "anew") and is_square:
        edges += [(i, i) for i in range(graph.num_dst_nodes()) if (i, i) not in edges]
    return edges


def check_sorted(found, edges, by, num_nodes):
    """Against the edges of each node, in the order of their numbers."""
    chunks, indptr, others, ids = found
    assert (chunks[0], chunks[-1], len(indptr)) == (0, num_nodes, num_nodes + 1)
    for node in range(num_nodes):
        mine = [e for e, edge in enumerate(edges) if edge[by] == node]
        place = slice(indptr[node], indptr[node + 1])
        assert ids[place].tolist() == mine
        assert others[place].tolist() == [edges[e][1 - by] for e in mine]


@pytest.mark.parametrize("loops", LOOPS)
@pytest.mark.parametrize("name", GRAPHS)
def test_a_stable_sort_by_either_end(name, loops):
    graph = GRAPHS[name]()
    edges = edges_of(graph, loops)
    s = LOOPS[loops](as_structure(graph))
    later = kernel_index(s)
    for ask in (later.in_edges, later.out_edges):
        assert ask(False)[3].size == 0
    for found in (later, index_module.KernelIndex(s)):  # ids after the others; all at once
        check_sorted(found.in_edges(True), edges, 1, s.num_dst)
        check_sorted(found.out_edges(True), edges, 0, s.num_src)
        assert all(array.dtype == np.int32 for array in found.in_edges(True)[1:])
    assert s.num_edges == len(edges)
    assert list(zip(s.src.tolist(), s.dst.tolist())) == edges
    assert s.src.dtype == s.dst.dtype == torch.int64
    wanted = [sum(i == node for _, i in edges) for node in range(s.num_dst)]
    assert s.in_degrees.tolist() == wanted
    assert s.has_zero_in_degree == (0 in wanted)
    assert s.has_all_self_loops == all((i, i) in edges for i in range(s.num_dst))


def test_many_edges_beside_a_stable_sort_of_numpy():
    generator = np.random.default_rng(0)
    src, dst = generator.integers(3000, size=40_000), (generator.random(40_000) ** 4 * 3000) // 1
    s = Structure(torch.from_numpy(src), torch.from_numpy(dst.astype(np.int64)), 3000, 3000)
    for found, ends in ((kernel_index(s).in_edges, dst), (kernel_index(s).out_edges, src)):
        assert np.array_equal(found(True)[3], np.argsort(ends, kind="stable"))


def output_and_gradients(kind, s, leaves, attn_drop=0.3):
    torch.manual_seed(3)
    scores, norm = kind.build(leaves)
    out, _ = graph_attention(s, scores, score_norm=norm, backend="fused", attn_drop=attn_drop)
    readout = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
    inputs = list(leaves.values())
    return out.detach(), *torch.autograd.grad(out, inputs, readout, materialize_grads=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gat_lip", "dot"])
def test_more_than_32_bits(name, monkeypatch):
    """Of the type, not of the size: the limit is lower. The same to the last bit."""
    graph, kind = multigraph(), KINDS[name]
    leaves = kind.leaves(graph)
    wanted = output_and_gradients(kind, as_structure(multigraph()), leaves)
    monkeypatch.setattr(held_edges, "INT32_MAX", 1)
    s = as_structure(graph)
    assert all(array.dtype == np.int64 for array in kernel_index(s).in_edges(True)[1:])
    assert all(map(torch.equal, output_and_gradients(kind, s, leaves), wanted))
    held = as_structure(torch.stack(graph.edges())).stored
    assert held.src.dtype == held.dst.dtype == torch.int64


# ---------------------------------------------------------------------- what is held


@pytest.mark.parametrize("bits", [32, 64])
def test_the_edges_of_dgl_are_borrowed(bits):
    graph = homogeneous().int() if bits == 32 else homogeneous()
    src, dst = graph.edges(order="eid")
    for s in (
        as_structure(graph),
        as_structure(graph, True),
        as_structure(graph).without_self_loops(),
    ):
        assert s.stored.src.data_ptr() == src.data_ptr()
        assert s.stored.dst.data_ptr() == dst.data_ptr()
    if bits == 64:
        assert as_structure(graph).src.data_ptr() == src.data_ptr()


def test_an_edge_index_is_copied_in_32_bits():
    s = as_structure(torch.stack(homogeneous().edges()))
    assert s.stored.src.dtype == s.stored.dst.dtype == torch.int32
    assert s.src.dtype == torch.int64


def small_model(**changes):
    """Of the heads and widths of ``KINDS``, whose kernels are compiled."""
    sizes = {"hidden_feats": HEADS * WIDTH, "num_heads": HEADS, "score_norm": "lipschitz"}
    return DeepGAT(5, 3, **{"backend": "fused", **sizes, **changes}).double()


def features():
    return torch.linspace(-1, 1, 20, dtype=torch.float64).view(4, 5)


@pytest.mark.parametrize("sep", [False, True])
def test_training_with_the_fused_kernels_makes_no_other_tensors_of_the_edges(sep):
    graph = directed()
    model = small_model(sep=sep)
    model(graph, features()).sum().backward()
    s = as_structure(graph)
    seen = [s, s.without_self_loops() if sep else s.with_self_loops()]
    assert seen[0] is not seen[1]
    for each in seen:
        assert not {"_ends", "csc", "csr", "dgl_block"} & set(vars(each))
    assert index_module.KernelIndex not in {make for make, *_ in s._derived}


def test_inference_needs_no_out_edges_and_no_ids():
    s = as_structure(directed(), add_self_loops=True)
    with torch.no_grad():
        small_model().eval()(s, features())
    assert set(kernel_index(s).sorted) == {False}
    assert not kernel_index(s).ids


@pytest.mark.parametrize(
    ("src", "dst", "wrong"),
    [([0, 3], [1, 1], 1), ([0, 1], [1, 7], 1), ([-1, 0], [0, 1], 0), ([0], [-(2**40)], 0)],
)
@pytest.mark.parametrize("by_source", [False, True])
def test_an_edge_to_nowhere_is_no_crash(src, dst, wrong, by_source):
    index = kernel_index(Structure(torch.tensor(src), torch.tensor(dst), 3, 3))
    with pytest.raises(DataError, match=f"edge {wrong} goes from node .* 3 source"):
        (index.out_edges if by_source else index.in_edges)(True)


def test_edges_of_other_types_and_strides():
    pairs = torch.tensor([[0, 1], [2, 1], [1, 0]], dtype=torch.uint8)
    s = Structure(*pairs.t(), 3, 3)
    check_sorted(kernel_index(s).in_edges(True), pairs.tolist(), 1, 3)
    wide = Structure(*pairs.long().t(), 3, 3)
    check_sorted(kernel_index(wide).out_edges(True), pairs.tolist(), 0, 3)


# ---------------------------------------------------------------------- compact


@pytest.mark.parametrize("loops", LOOPS)
@pytest.mark.parametrize("name", GRAPHS)
def test_compact_edges_are_the_same_edges(name, loops):
    s = LOOPS[loops](as_structure(GRAPHS[name]()))
    made = compact(s, attn_drop=True)
    assert (made.num_edges, made.num_src, made.num_dst) == (s.num_edges, s.num_src, s.num_dst)
    for ours, wanted in zip((made.src, made.dst, *made.csc), (s.src, s.dst, *s.csc)):
        assert torch.equal(ours, wanted)
    assert torch.equal(compact(s).in_degrees, s.in_degrees)
    assert compact(s).has_all_self_loops == s.has_all_self_loops
    if not s.is_bipartite:
        for change in ("with_self_loops", "without_self_loops"):
            ours, wanted = (getattr(each, change)() for each in (compact(s), s))
            assert torch.equal(
                torch.stack([ours.src, ours.dst]), torch.stack([wanted.src, wanted.dst])
            )
    assert compact(made).dst.equal(s.dst)


@pytest.mark.parametrize("attn_drop", [False, True])
@pytest.mark.parametrize("name", ["gat_lip", "gatv2", "dot_lip"])
def test_compact_edges_train_the_same_without_their_graph(name, attn_drop):
    graph, kind = multigraph(), KINDS[name]
    leaves = kind.leaves(graph)
    wanted = output_and_gradients(kind, as_structure(graph), leaves)
    made = compact(as_structure(graph), attn_drop)
    gone = weakref.ref(as_structure(graph))
    del graph
    gc.collect()
    assert gone() is None
    assert all(map(torch.equal, output_and_gradients(kind, made, leaves), wanted))


def test_compact_edges_of_a_model():
    graph, feat = dgl.add_self_loop(dgl.remove_self_loop(directed())), features()
    made = compact(as_structure(graph, add_self_loops=True))
    assert made.with_self_loops() is made
    for backend in ("fused", "dgl", "torch"):
        model = small_model(backend=backend).eval()
        assert torch.equal(model(made, feat), model(graph, feat))
    assert made.to("meta").device.type == "meta"
    with pytest.raises(DataError, match="edges are on meta"):
        compact(made.to("meta"))


def test_compact_edges_tell_the_degrees_that_the_graph_told():
    s = Structure(*torch.tensor([[0, 1], [1, 0]]), 2, 2, parent_degrees=torch.tensor([5, 7]))
    assert compact(s.with_self_loops()).parent_degrees.tolist() == [5, 7]
    assert compact(as_structure(bipartite())).is_bipartite
