"""The largest length among the in-neighbours, in Triton."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from lipzoo.attention.fused import plain
from lipzoo.attention.fused.cuda.common import (
    add_up,
    block,
    heads_of,
    launch,
    new_like,
    segment,
)
from lipzoo.attention.fused.cuda.index import Segments, cuda_index
from lipzoo.attention.ops import Ops
from lipzoo.attention.structure import Structure

__all__ = ["NodeOps", "max_in"]

#: Stands for "no edge".
_NONE = 2**31 - 1


def max_in(x: Tensor, structure: Structure) -> Tensor:
    """Largest ``x[src]`` over the in-edges of each node, 0 where there are none.

    (N_src, H) -> (N_dst, H), for ``x >= 0``. The gradient goes to the first in-edge that attains
    the maximum, as in :meth:`~lipzoo.attention.ops.Ops.max_in`; it is gathered over out-edges, in
    a fixed order.
    """
    return _MaxIn.apply(x, structure)


class NodeOps(Ops):
    """The operations of a score norm's factor that has one number a destination node and head."""

    def max_in(self, u):
        return max_in(u, self.structure)


class _MaxIn(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, structure):
        segments, x = cuda_index(structure).in_edges, x.contiguous()
        top = x.new_empty(segments.node.numel(), x.shape[1])
        winner = torch.empty_like(top, dtype=torch.int32)
        launch(_forward, segments, x.shape[1], 0, x.dtype, x, top, winner, NONE=_NONE)
        top, winner = _largest(segments, top, winner)
        ctx.save_for_backward(winner)
        ctx.structure = structure
        return top

    @staticmethod
    def backward(ctx, grad):
        (winner,) = ctx.saved_tensors
        if plain.is_differentiated():
            s = ctx.structure
            source = s.src[winner.long().clamp(max=s.num_edges - 1)]
            d_x = grad.new_zeros(s.num_src, grad.shape[1])
            return d_x.scatter_add(0, source, grad.masked_fill(winner == _NONE, 0)), None
        segments, grad = cuda_index(ctx.structure).out_edges, grad.contiguous()
        d_x = new_like(segments, grad, grad.dtype)
        launch(_backward, segments, grad.shape[1], 0, grad.dtype, grad, winner, d_x)
        return add_up(segments, d_x), None


def _largest(segments: Segments, top: Tensor, winner: Tensor) -> tuple[Tensor, Tensor]:
    """Maximum and winner per node from those per segment (a minimum or maximum has no order)."""
    n = segments.num_nodes
    if segments.hubs.numel():
        owner = segments.node[n:].long().unsqueeze(1).expand_as(top[n:])
        best = top[:n].scatter_reduce(0, owner, top[n:], "amax")
        winner = winner.masked_fill(top != best[segments.node], _NONE)
        return best, winner[:n].scatter_reduce(0, owner, winner[n:], "amin")
    return top, winner


@triton.jit
def _forward(
    x,
    top,
    winner,
    node,
    begin,
    end,
    other,
    edge,
    NONE: tl.constexpr,
    H: tl.constexpr,
    FT: tl.constexpr,
    BLOCK_E: tl.constexpr,
    BLOCK_H: tl.constexpr,
):
    w, _, first, last = segment(node, begin, end)
    h = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)
    best = tl.full((BLOCK_E, BLOCK_H), -1.0, FT)
    won = tl.full((BLOCK_E, BLOCK_H), NONE, tl.int32)
    for e in range(first, last, BLOCK_E):
        at, is_edge, j = block(e, last, other, BLOCK_E)
        mask = is_edge[:, None] & (h < H)[None, :]
        value = heads_of(x, j[:, None], h, mask, H, FT)
        number = tl.load(edge + at, mask=is_edge, other=NONE)[:, None]
        # Edges come in the order of their numbers: the first to attain the maximum stays.
        is_better = mask & (value > best)
        won = tl.where(is_better, number, won)
        best = tl.where(is_better, value, best)
    largest = tl.max(best, 0)
    earliest = tl.min(tl.where(best == largest[None, :], won, NONE), 0)
    tl.store(top + w * H + h, tl.where(earliest == NONE, 0.0, largest), mask=h < H)
    tl.store(winner + w * H + h, earliest, mask=h < H)


@triton.jit
def _backward(
    d_top,
    winner,
    d_x,
    node,
    begin,
    end,
    other,
    edge,
    H: tl.constexpr,
    FT: tl.constexpr,
    BLOCK_E: tl.constexpr,
    BLOCK_H: tl.constexpr,
):
    w, _, first, last = segment(node, begin, end)
    h = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)
    total = tl.zeros((BLOCK_E, BLOCK_H), FT)
    for e in range(first, last, BLOCK_E):
        at, is_edge, i = block(e, last, other, BLOCK_E)
        mask = is_edge[:, None] & (h < H)[None, :]
        number = tl.load(edge + at, mask=is_edge, other=0)[:, None]
        is_winner = tl.load(winner + i[:, None] * H + h, mask=mask, other=-1) == number
        total += heads_of(d_top, i[:, None], h, mask & is_winner, H, FT)
    tl.store(d_x + w * H + h, tl.sum(total, 0), mask=h < H)
