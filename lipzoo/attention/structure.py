"""Index tensors of a graph or block: what every backend works on."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from lipzoo._dgl import need_dgl
from lipzoo._torch import is_exporting, lasting, unseen
from lipzoo.attention.exchange import Exchange
from lipzoo.attention.held_edges import EdgeList, HeldEdges, index_dtype
from lipzoo.errors import DataError

__all__ = ["Structure"]

T = TypeVar("T")

_ITSELF = object()


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
    parent_degrees : Tensor (num_src,) or (num_src, 2), optional
        In-degrees of the source nodes in the graph that a block or part was cut from, as they
        count; or the number of their in-edges from other nodes, and of their self-loops, to which
        self-loops that are added or left out make a difference.
    is_part : bool
        Of a graph that was cut from another.
    exchange : Exchange, optional
        Where other processes hold the other sources: a layer is given features of the first
        ``num_dst`` nodes, and gets those of the others from it.
    edge_feat : Tensor (E, K), optional
        What a model reads of the edges where it is given nothing else, as it does a graph's
        ``edata["feat"]``.

    Notes
    -----
    Build it with :func:`~lipzoo.attention.as_structure`, which caches one structure per graph. The
    tensors given are held, not copied; all others, ``src`` and ``dst`` among them where self-loops
    are added or left out, are made when they are first asked for. The fused kernels ask for none of
    them.
    """

    def __init__(
        self,
        src: Tensor,
        dst: Tensor,
        num_src: int,
        num_dst: int,
        is_bipartite: bool = False,
        parent_degrees: Tensor | None = None,
        is_part: bool = False,
        exchange: Exchange | None = None,
        edge_feat: Tensor | None = None,
    ) -> None:
        self.stored: HeldEdges = EdgeList(_whole(src), _whole(dst))
        self.num_src, self.num_dst = num_src, num_dst
        self.is_bipartite = is_bipartite
        self._told = parent_degrees
        self.is_part, self.exchange, self.edge_feat = is_part, exchange, edge_feat
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
            made = _made(make, self, *arguments)
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
    def parent_degrees(self) -> Tensor | None:
        """In-degrees of the source nodes in the graph that this one was cut from, (num_src,)."""
        told = self._told
        return told if told is None or told.dim() == 1 else told.sum(1)

    @property
    def num_given(self) -> int:
        """How many nodes a layer is given features of."""
        return self.num_src if self.exchange is None else self.num_dst

    def widened(self, own: Tensor) -> Tensor:
        """The rows of all sources, (num_src, *), from those of the nodes that a layer is given."""
        return self.sending(own)[1]()

    def sending(self, own: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
        """Rows to read from here on, and what gives those of all sources, (num_src, *).

        What is done between the two is done while rows are on their way; see
        :meth:`~lipzoo.attention.exchange.Exchange.sending`.
        """
        return (own, lambda: own) if self.exchange is None else self.exchange.sending(own)

    def summed(self, own: Tensor) -> Tensor:
        """What is summed over the own nodes, over those of all processes."""
        return own if self.exchange is None else self.exchange.summed(own)

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

    def holding(self, stored: HeldEdges) -> Structure:
        """Other edges between the same nodes."""
        return self._holding(stored, self._told)

    def _holding(self, stored: HeldEdges, told: Tensor | None) -> Structure:
        none = torch.empty(0, dtype=torch.int64)
        sizes = self.num_src, self.num_dst
        kind = self.is_bipartite, told, self.is_part, self.exchange
        made = Structure(none, none, *sizes, *kind)
        made.stored = stored
        return made

    def _with_loops(self, left_out: int, added: Tensor | None, fewest: int, most: int | None):
        """Where nothing changes, the structure itself; a node has so many self-loops now, in the
        graph that this one was cut from."""
        told, stored = self._told, self.stored
        if told is not None and told.dim() == 2:
            others, loops = told.unbind(1)
            counted = loops.clamp(fewest, most)
            told = told if torch.equal(loops, counted) else torch.stack([others, counted], 1)
        is_same = left_out == stored.left_out and added is stored.added
        if is_same and told is self._told:
            return self
        return self._holding(stored if is_same else stored.with_loops(left_out, added), told)

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


@unseen
@lasting()
def _made(make: Callable[..., T], structure: Structure, *arguments: Any) -> T:
    return make(structure, *arguments)


def _whole(index: Tensor) -> Tensor:
    return index if index.dtype in (torch.int32, torch.int64) else index.long()


def _copy(structure: Structure, device: torch.device) -> Structure:
    told = structure._told
    told = None if told is None else told.to(device)
    made = structure._holding(structure.stored.to(device), told)
    if structure.edge_feat is not None:
        made.edge_feat = structure.edge_feat.to(device)
    return made


def _with_self_loops(structure: Structure) -> Structure:
    stored, added = structure.stored, structure.stored.added
    if added is None:
        missing = stored.lacking(structure.num_dst).to(index_dtype(structure.num_dst))
        added = missing if missing.numel() else None
    return structure._with_loops(stored.left_out, added, 1, None)


def _without_self_loops(structure: Structure) -> Structure:
    stored = structure.stored
    if structure.is_bipartite:
        return structure
    if is_exporting():
        others = structure.src != structure.dst
        return structure.holding(EdgeList(structure.src[others], structure.dst[others]))
    loops = stored.left_out or int((stored.src == stored.dst).sum())
    return structure._with_loops(loops, None, 0, 0)


def _compress(major: Tensor, minor: Tensor, num_major: int) -> tuple[Tensor, Tensor, Tensor]:
    order = torch.argsort(major, stable=True)
    indptr = major.new_zeros(num_major + 1)
    torch.cumsum(torch.bincount(major, minlength=num_major), 0, out=indptr[1:])
    return indptr, minor[order], order
