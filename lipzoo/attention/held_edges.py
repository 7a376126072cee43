"""How a structure holds its edges: borrowed from its graph, with what is done about self-loops."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["EdgeList", "HeldEdges", "index_dtype"]

#: So many nodes or edges can be numbered in 32 bits.
INT32_MAX = 2**31 - 1


def index_dtype(largest: int) -> torch.dtype:
    """The smaller of int32 and int64 that numbers so many nodes or edges."""
    return torch.int32 if largest <= INT32_MAX else torch.int64


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
