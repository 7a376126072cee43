"""The structure of a graph of any kind, read once and kept."""

from __future__ import annotations

import weakref
from contextlib import suppress

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from lipzoo._edges import Edges, check_size, check_tensors, read_edges
from lipzoo._graph import EID, NID, NTYPE, is_graph, with_all_formats
from lipzoo._torch import lasting, unseen
from lipzoo.attention.held_edges import HeldEdges, index_dtype
from lipzoo.attention.structure import Structure
from lipzoo.errors import DataError

__all__ = ["PARENT_DEGREES", "as_structure"]

#: What the nodes of a DGLGraph tell of the graph that theirs was cut from; see
#: :func:`lipzoo.nn.keep_degrees`.
PARENT_DEGREES = "parent_degrees"

# Graph -> (its index object, what it tells of its parent, Structure). DGL replaces the index object
# whenever edges change, so an entry whose index is not the graph's any more is stale. The edges of
# a `Graph` stay.
_CACHE: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()

# Any other graph -> Structure. Nothing tells reliably that one was changed (a tensor may share its
# memory with NumPy), so an entry is compared with the edges as they are, which costs little beside
# attention over them: what is kept is what follows from the edges.
_OTHERS: WeakIdKeyDictionary = WeakIdKeyDictionary()


def as_structure(
    graph, add_self_loops: bool = False, feat: Tensor | tuple[Tensor, ...] | None = None
) -> Structure:
    """The structure of ``graph``, from the cache where its edges have not changed.

    Parameters
    ----------
    graph : DGLGraph, Structure or any other graph
        Homogeneous graph, block, or heterogeneous graph with one relation; an ``edge_index``
        tensor (2, E), a PyG ``Data``, a SciPy sparse matrix or a networkx graph, whose edges are
        those of :func:`~lipzoo._edges.read_edges`.
    add_self_loops : bool
        Append the self-loops that are missing. The graph itself is never touched.
    feat : Tensor (N, ...), optional
        Features of the nodes, of source nodes first where there are two: their rows are the nodes
        of an ``edge_index``. Without them the largest number names the last node.

    Raises
    ------
    DataError
        If ``graph`` is no graph, is malformed, or has several relations, or ``feat`` no tensor.
    """
    if feat is not None:
        check_tensors(feat)
    structure = graph if isinstance(graph, Structure) else _structure_of(graph, feat)
    return structure.with_self_loops() if add_self_loops else structure


# A compiler that saw the cache would guard it, entry by entry, and fail when one is gone.
@unseen
def _structure_of(graph, feat: Tensor | tuple[Tensor, ...] | None) -> Structure:
    if not is_graph(graph):
        return _of_other(graph, feat[0] if isinstance(feat, tuple) else feat)
    if len(graph.canonical_etypes) != 1:
        raise DataError(
            f"the graph has {len(graph.canonical_etypes)} relations; attention layers take one: "
            "pass graph[etype], or dgl.to_homogeneous(graph)"
        )
    index, told, structure = _CACHE.get(graph, (None, None, None))
    told_now = _told_by(graph)
    if structure is None or index is not graph._graph or told is not told_now:
        structure = _read(graph, told_now)
        _CACHE[graph] = (graph._graph, told_now, structure)
    return structure


@lasting()
def _of_other(graph, feat: Tensor | None) -> Structure:
    edges = read_edges(graph)
    rows = feat.shape[0] if isinstance(feat, Tensor) and feat.dim() else None
    known = _OTHERS.get(graph)
    if known is not None and known.device == edges.src.device:
        # What was counted by features once says nothing of a call without them.
        told = rows if edges.num_nodes is None else edges.num_nodes
        num_nodes = edges.count() if told is None else told
        if num_nodes == known.num_src and _are_equal(known.stored, edges):
            return known
    num_nodes = edges.count(rows)
    # Copies: the graph may be changed while what follows from its edges is still in use.
    dtype = index_dtype(num_nodes)
    src, dst = (ends.to(dtype, copy=True) for ends in (edges.src, edges.dst))
    made = Structure(src, dst, num_nodes, num_nodes)
    with suppress(TypeError):  # an object that nothing can refer to weakly
        _OTHERS[graph] = made
    return made


def _are_equal(stored: HeldEdges, edges: Edges) -> bool:
    if stored.src.numel() != edges.src.numel():
        return False
    # A chunk at a time, which stays in the processor's cache.
    return all(
        torch.equal(mine.long(), theirs)
        for held, ends in ((stored.src, edges.src), (stored.dst, edges.dst))
        for mine, theirs in zip(held.split(2**17), ends.split(2**17))
    )


def _told_by(graph) -> Tensor | None:
    """What a block or part says of the degrees in the graph that it was cut from."""
    nodes = graph.srcdata
    if PARENT_DEGREES not in nodes:
        return None
    # A whole graph may say it, too, for those that are cut from it; its edges know better.
    is_cut = graph.is_block or NID in nodes or EID in graph.edata
    told = nodes[PARENT_DEGREES] if is_cut else None
    if not isinstance(told, Tensor):  # what a loader is still to fetch
        return None
    return told


@lasting()
def _read(graph, told: Tensor | None) -> Structure:
    check_size(max(graph.num_src_nodes(), graph.num_dst_nodes()), graph.num_edges())
    if told is not None:
        _check_told(told)
    src, dst = with_all_formats(graph).edges(order="eid")
    source_type, _, target_type = graph.canonical_etypes[0]
    return Structure(
        src,
        dst,
        graph.num_src_nodes(),
        graph.num_dst_nodes(),
        is_bipartite=not graph.is_block and source_type != target_type,
        parent_degrees=told,
        # Types: what was one of several kinds keeps its number within its kind.
        is_part=NID in graph.srcdata and NTYPE not in graph.srcdata,
    )


def _check_told(told: Tensor) -> None:
    way_out = "as lipzoo.nn.keep_degrees writes it"
    if tuple(told.shape[1:]) not in ((), (2,)):
        raise DataError(
            f"the nodes' {PARENT_DEGREES!r} is {tuple(told.shape)}, and must be (N,) or (N, 2), "
            f"{way_out}"
        )
    # False of NaN, too.
    if told.is_complex() or not bool(((told >= 0) & (told < float("inf"))).all()):
        raise DataError(f"the nodes' {PARENT_DEGREES!r} must be numbers of edges, {way_out}")
