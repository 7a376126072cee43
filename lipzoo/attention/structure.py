"""Index tensors of a graph or block: what every backend works on."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from lipzoo._dgl import need_dgl
from lipzoo._edges import Edges, check_size, read_edges
from lipzoo._graph import is_graph, with_all_formats
from lipzoo._torch import is_exporting, lasting
from lipzoo.errors import DataError

__all__ = ["EdgeList", "HeldEdges", "Structure", "as_structure"]

T = TypeVar("T")

_ITSELF = object()

_INT32_MAX = 2**31 - 1


class HeldEdges:
    """Edges as they are held, and what is done about self-loops.

    ``src`` and ``dst`` are int32 or int64, (E0,). ``left_out`` is the number of self-loops among
    them, where these are left out; 0: none are. ``added`` are the nodes ``i`` whose edge
    ``i -> i`` follows after the others; None: there are no such.
    """

    src: Tensor
    dst: Tensor
    left_out: int = 0
    added: Tensor | None = None

    @property
    def num_edges(self) -> int:
        added = 0 if self.added is None else self.added.numel()
        return self.src.numel() - self.left_out + added

    @property
    def device(self) -> torch.device:
        return self.src.device

    def written_out(self) -> tuple[Tensor, Tensor]:
        """Sources and destinations, int64 (E,); the tensors that are held where these are it."""
        ends = self.src, self.dst
        if self.left_out:
            others = self.src != self.dst
            ends = self.src[others], self.dst[others]
        if self.added is not None:
            ends = tuple(torch.cat([end, self.added.to(end.dtype)]) for end in ends)
        return ends[0].long(), ends[1].long()

    def counted_in(self, num_dst: int) -> Tensor:
        """Number of in-edges of each destination node, int64 (num_dst,)."""
        one = torch.ones(1, dtype=torch.int64, device=self.dst.device)
        counts = one.new_zeros(num_dst).index_add(0, self.dst, one.expand(self.dst.numel()))
        if self.left_out:
            loops = self.dst[self.src == self.dst]
            counts = counts.index_add(0, loops, -one.expand(loops.numel()))
        if self.added is not None:
            counts = counts.index_add(0, self.added, one.expand(self.added.numel()))
        return counts

    def lacking(self, num_dst: int) -> Tensor:
        """Destination nodes without a self-loop, in order."""
        has_loop = torch.zeros(num_dst, dtype=torch.bool, device=self.dst.device)
        if not self.left_out:
            has_loop[self.dst[self.src == self.dst].long()] = True
        if self.added is not None:
            has_loop[self.added.long()] = True
        return torch.nonzero(~has_loop).squeeze(1)

    def with_loops(self, left_out: int, added: Tensor | None) -> EdgeList:
        """The same edges, with something else done about self-loops."""
        return EdgeList(self.src, self.dst, left_out, added)

    def to(self, device: torch.device) -> EdgeList:
        added = None if self.added is None else self.added.to(device)
        return EdgeList(self.src.to(device), self.dst.to(device), self.left_out, added)


@dataclass(frozen=True)
class EdgeList(HeldEdges):
    """Those of a graph, borrowed."""

    src: Tensor
    dst: Tensor
    left_out: int = 0
    added: Tensor | None = None


class Structure:
    """The edges of a graph or block as index tensors; edge ``e`` goes ``src[e] -> dst[e]``.

    Parameters
    ----------
    src, dst : Tensor (E,)
        Source and destination node of each edge, in the order of the graph's edge ids.
    num_src, num_dst : int
        Number of source and of destination nodes. In a block, the first ``num_dst`` source
        nodes *are* the destination nodes (DGL's convention).
    is_bipartite : bool
        True where source and destination nodes are different nodes, so that a self-loop has no
        meaning.
    parent_degrees : Tensor (num_src,), optional
        In-degrees of the source nodes in the graph that a block was cut from.

    Notes
    -----
    Build it with :func:`as_structure`, which caches one structure per graph. The tensors given
    are held, not copied; all others, ``src`` and ``dst`` among them where self-loops are added or
    left out, are made when they are first asked for. The fused kernels ask for none of them.
    """

    def __init__(
        self,
        src: Tensor,
        dst: Tensor,
        num_src: int,
        num_dst: int,
        is_bipartite: bool = False,
        parent_degrees: Tensor | None = None,
    ) -> None:
        self.stored: HeldEdges = EdgeList(_whole(src), _whole(dst))
        self.num_src, self.num_dst = num_src, num_dst
        self.is_bipartite = is_bipartite
        self.parent_degrees = parent_degrees
        self._derived: dict[tuple, Any] = {}

    def derived(self, make: Callable[..., T], *arguments: Any) -> T:
        """``make(structure, *arguments)``, made once and kept as long as the structure.

        For what follows from the edges alone: indices of kernels, roots of degrees, blocks.

        Parameters
        ----------
        make : callable
            A function that can be found again: of a module, not one made on the way.
        *arguments
            Hashable.
        """
        key = (make, *arguments)
        if key not in self._derived:
            with lasting():
                made = make(self, *arguments)
            # A structure that held itself would outlive the last who uses it.
            self._derived[key] = _ITSELF if made is self else made
        found = self._derived[key]
        return self if found is _ITSELF else found

    @cached_property
    @lasting()
    def _ends(self) -> tuple[Tensor, Tensor]:
        return self.stored.written_out()

    @property
    def src(self) -> Tensor:
        """Source node of each edge, int64 (E,)."""
        return self._ends[0]

    @property
    def dst(self) -> Tensor:
        """Destination node of each edge, int64 (E,)."""
        return self._ends[1]

    @property
    def num_edges(self) -> int:
        return self.stored.num_edges

    @property
    def device(self) -> torch.device:
        return self.stored.device

    @cached_property
    @lasting()
    def in_degrees(self) -> Tensor:
        """Number of in-edges of each destination node, (num_dst,)."""
        return self.stored.counted_in(self.num_dst)

    @cached_property
    def has_zero_in_degree(self) -> bool:
        # Loops are added to all nodes that lack one.
        return self.stored.added is None and bool((self.in_degrees == 0).any())

    @cached_property
    @lasting()
    def has_all_self_loops(self) -> bool:
        """Whether each destination node ``i`` has an edge ``i -> i``."""
        return self.stored.added is not None or not self.stored.lacking(self.num_dst).numel()

    @cached_property
    @lasting()
    def csc(self) -> tuple[Tensor, Tensor, Tensor]:
        """``(indptr, src, edge_ids)`` by destination: in-edges of ``i`` are ``indptr[i:i+2]``."""
        return _compress(self.dst, self.src, self.num_dst)

    @cached_property
    @lasting()
    def csr(self) -> tuple[Tensor, Tensor, Tensor]:
        """``(indptr, dst, edge_ids)`` by source: out-edges of ``j`` are ``indptr[j:j+2]``."""
        return _compress(self.src, self.dst, self.num_src)

    @cached_property
    @lasting()
    def dgl_block(self):
        """The same edges as a DGL block, for the ``dgl`` backend."""
        return need_dgl("backend='dgl'").create_block(
            (self.src, self.dst), num_src_nodes=self.num_src, num_dst_nodes=self.num_dst
        )

    def with_self_loops(self) -> Structure:
        """Append ``i -> i`` for each destination node that lacks it, after the other edges; made
        once.

        Raises
        ------
        DataError
            If source and destination nodes are different nodes.
        """
        if self.is_bipartite:
            raise DataError(
                "self-loops have no meaning on a bipartite graph: source and destination nodes "
                "differ; pass a homogeneous graph or a block, or set add_self_loops=False"
            )
        return self.derived(_with_self_loops)

    def without_self_loops(self) -> Structure:
        """The edges between different nodes; made once. Where source and destination nodes are
        of different kinds, that is all of them."""
        return self.derived(_without_self_loops)

    def holding(self, stored: HeldEdges, parent_degrees: Tensor | None = None) -> Structure:
        """Other edges between the same nodes."""
        degrees = self.parent_degrees if parent_degrees is None else parent_degrees
        none = torch.empty(0, dtype=torch.int64)
        made = Structure(none, none, self.num_src, self.num_dst, self.is_bipartite, degrees)
        made.stored = stored
        return made

    def to(self, device: torch.device | str) -> Structure:
        """The structure on another device; copies are kept, so that a model moves it once."""
        if device == self.device:
            return self
        device = torch.empty(0, device=device).device  # resolves "cuda" to "cuda:0"
        return self if device == self.device else self.derived(_copy, device)

    def __repr__(self) -> str:
        return (
            f"Structure(num_src={self.num_src}, num_dst={self.num_dst}, "
            f"num_edges={self.num_edges}, device={self.device})"
        )


def _whole(index: Tensor) -> Tensor:
    return index if index.dtype in (torch.int32, torch.int64) else index.long()


def _copy(structure: Structure, device: torch.device) -> Structure:
    degrees = structure.parent_degrees
    degrees = None if degrees is None else degrees.to(device)
    return structure.holding(structure.stored.to(device), degrees)


def _with_self_loops(structure: Structure) -> Structure:
    stored = structure.stored
    if stored.added is not None:
        return structure
    missing = stored.lacking(structure.num_dst)
    if not missing.numel():
        return structure
    if structure.num_dst <= _INT32_MAX:
        missing = missing.int()
    return structure.holding(stored.with_loops(stored.left_out, missing))


def _without_self_loops(structure: Structure) -> Structure:
    stored = structure.stored
    if structure.is_bipartite:
        return structure
    if is_exporting():
        others = structure.src != structure.dst
        stored = EdgeList(structure.src[others], structure.dst[others])
        return structure.holding(stored)
    loops = stored.left_out or int((stored.src == stored.dst).sum())
    if stored.added is None and stored.left_out == loops:
        return structure
    return structure.holding(stored.with_loops(loops, None))


def _compress(major: Tensor, minor: Tensor, num_major: int) -> tuple[Tensor, Tensor, Tensor]:
    order = torch.argsort(major, stable=True)
    indptr = major.new_zeros(num_major + 1)
    torch.cumsum(torch.bincount(major, minlength=num_major), 0, out=indptr[1:])
    return indptr, minor[order], order


# DGLGraph -> (its index object, Structure). DGL replaces the index object whenever edges change,
# so an entry whose index is not the graph's any more is stale. The edges of a `Graph` stay.
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
        If ``graph`` is no graph, is malformed, or has several relations.
    """
    structure = _structure_of(graph, feat)
    return structure.with_self_loops() if add_self_loops else structure


def _structure_of(graph, feat: Tensor | tuple[Tensor, ...] | None) -> Structure:
    if isinstance(graph, Structure):
        return graph
    if not is_graph(graph):
        return _of_other(graph, feat[0] if isinstance(feat, tuple) else feat)
    if len(graph.canonical_etypes) != 1:
        raise DataError(
            f"the graph has {len(graph.canonical_etypes)} relations; attention layers take one: "
            "pass graph[etype], or dgl.to_homogeneous(graph)"
        )
    index, structure = _CACHE.get(graph, (None, None))
    if structure is None or index is not graph._graph:
        structure = _read(graph)
        _CACHE[graph] = (graph._graph, structure)
    return structure


@lasting()
def _of_other(graph, feat: Tensor | None) -> Structure:
    edges = read_edges(graph)
    rows = feat.shape[0] if isinstance(feat, Tensor) and feat.dim() else None
    known = _OTHERS.get(graph)
    if known is not None and known.device == edges.src.device:
        num_nodes = rows if edges.num_nodes is None else edges.num_nodes
        if num_nodes in (None, known.num_src) and _are_equal(known.stored, edges):
            return known
    num_nodes = edges.count(rows)
    # Copies: the graph may be changed while what follows from its edges is still in use.
    kind = torch.int32 if num_nodes <= _INT32_MAX else torch.int64
    src, dst = (ends.to(kind, copy=True) for ends in (edges.src, edges.dst))
    made = Structure(src, dst, num_nodes, num_nodes)
    with suppress(TypeError):  # an object that nothing can refer to weakly
        _OTHERS[graph] = made
    return made


def _are_equal(stored: HeldEdges, edges: Edges) -> bool:
    if stored.src.numel() != edges.src.numel():
        return False
    return bool((stored.src == edges.src).all()) and bool((stored.dst == edges.dst).all())


@lasting()
def _read(graph) -> Structure:
    check_size(max(graph.num_src_nodes(), graph.num_dst_nodes()), graph.num_edges())
    src, dst = with_all_formats(graph).edges(order="eid")
    source_type, _, target_type = graph.canonical_etypes[0]
    return Structure(
        src,
        dst,
        graph.num_src_nodes(),
        graph.num_dst_nodes(),
        is_bipartite=not graph.is_block and source_type != target_type,
    )
