"""Index tensors of a graph or block: what every backend works on."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from lipzoo._dgl import dgl
from lipzoo._torch import lasting
from lipzoo.errors import DataError

__all__ = ["Structure", "as_structure"]

T = TypeVar("T")


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
    Build it with :func:`as_structure`, which caches one structure per graph.
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
        self.src, self.dst = src.long(), dst.long()
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
                self._derived[key] = make(self, *arguments)
        return self._derived[key]

    @property
    def num_edges(self) -> int:
        return self.src.numel()

    @property
    def device(self) -> torch.device:
        return self.src.device

    @cached_property
    @lasting()
    def in_degrees(self) -> Tensor:
        """Number of in-edges of each destination node, (num_dst,)."""
        return torch.bincount(self.dst, minlength=self.num_dst)

    @cached_property
    def has_zero_in_degree(self) -> bool:
        return bool((self.in_degrees == 0).any())

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
        return dgl.create_block(
            (self.src, self.dst), num_src_nodes=self.num_src, num_dst_nodes=self.num_dst
        )

    @lasting()
    def with_self_loops(self) -> Structure:
        """Append ``i -> i`` for each destination node that lacks it, after the other edges.

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
        has_loop = torch.zeros(self.num_dst, dtype=torch.bool, device=self.device)
        has_loop[self.dst[self.src == self.dst]] = True
        missing = torch.nonzero(~has_loop).squeeze(1)
        if not missing.numel():
            return self
        return Structure(
            torch.cat([self.src, missing]),
            torch.cat([self.dst, missing]),
            self.num_src,
            self.num_dst,
            parent_degrees=self.parent_degrees,
        )

    def without_self_loops(self) -> Structure:
        """The edges between different nodes; made once. Where source and destination nodes are
        of different kinds, that is all of them."""
        return self.derived(_without_self_loops)

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


def _copy(structure: Structure, device: torch.device) -> Structure:
    return Structure(
        structure.src.to(device),
        structure.dst.to(device),
        structure.num_src,
        structure.num_dst,
        structure.is_bipartite,
        None if structure.parent_degrees is None else structure.parent_degrees.to(device),
    )


def _without_self_loops(structure: Structure) -> Structure:
    others = structure.src != structure.dst
    if structure.is_bipartite or others.all():
        return structure
    return Structure(
        structure.src[others],
        structure.dst[others],
        structure.num_src,
        structure.num_dst,
        parent_degrees=structure.parent_degrees,
    )


def _compress(major: Tensor, minor: Tensor, num_major: int) -> tuple[Tensor, Tensor, Tensor]:
    order = torch.argsort(major, stable=True)
    indptr = major.new_zeros(num_major + 1)
    torch.cumsum(torch.bincount(major, minlength=num_major), 0, out=indptr[1:])
    return indptr, minor[order], order


# DGLGraph -> (its index object, {add_self_loops: Structure}). DGL replaces the index object
# whenever edges change, so an entry whose index is not the graph's any more is stale.
_CACHE: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def as_structure(graph, add_self_loops: bool = False) -> Structure:
    """The structure of ``graph``, from the cache where its edges have not changed.

    Parameters
    ----------
    graph : DGLGraph or Structure
        Homogeneous graph, block, or heterogeneous graph with one relation.
    add_self_loops : bool
        Append the self-loops that are missing. The graph itself is never touched.

    Raises
    ------
    DataError
        If ``graph`` is no graph, or has several relations.
    """
    if isinstance(graph, Structure):
        return graph.with_self_loops() if add_self_loops else graph
    if not isinstance(graph, dgl.DGLGraph):
        raise DataError(f"expected a DGLGraph or a block, got {type(graph).__name__}")
    if len(graph.canonical_etypes) != 1:
        raise DataError(
            f"the graph has {len(graph.canonical_etypes)} relations; attention layers take one: "
            "pass graph[etype], or dgl.to_homogeneous(graph)"
        )
    index, structures = _CACHE.get(graph, (None, None))
    if index is not graph._graph:
        structures = {}
        _CACHE[graph] = (graph._graph, structures)
    if add_self_loops not in structures:
        structures[add_self_loops] = (
            as_structure(graph).with_self_loops() if add_self_loops else _read(graph)
        )
    return structures[add_self_loops]


@lasting()
def _read(graph) -> Structure:
    src, dst = graph.edges(order="eid")
    source_type, _, target_type = graph.canonical_etypes[0]
    return Structure(
        src,
        dst,
        graph.num_src_nodes(),
        graph.num_dst_nodes(),
        is_bipartite=not graph.is_block and source_type != target_type,
    )
