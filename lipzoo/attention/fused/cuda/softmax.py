"""The softmax over in-edges as they come by, and what becomes of several segments, in Triton.

Each position of a block keeps its own shift, denominator and weighted sum (Milakov, Gimelshein,
"Online normalizer calculation for softmax", arXiv:1805.02867); they are brought together at the
end. The backward pass needs two numbers a node and head, the largest score and the denominator:
``p_ij = exp(s_ij - top_i) / z_i``. Their logarithm ``top + log z`` would not do: rounded, it is off
by as much as the score is large.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from lipzoo.attention.fused.cuda.common import divided, run
from lipzoo.attention.fused.cuda.index import Segments

__all__ = ["finish_softmax", "merge_softmax", "softmax_step"]


@triton.jit
def softmax_step(top, total, s, mask):
    """Take in the scores ``s`` (BLOCK_E, BLOCK_H): the new shift and denominator, what the sums
    so far are to be multiplied by, and the weights of this block."""
    s = tl.where(mask, s, top)
    higher = tl.maximum(top, s)
    before = tl.exp(top - higher)
    weight = tl.where(mask, tl.exp(s - higher), 0.0)
    return higher, total * before + weight, before, weight


@triton.jit
def finish_softmax(top, total, acc):
    """``(out, top, z)`` of what the positions of a block have gathered; without edges 0, 0, 1."""
    highest = tl.max(top, 0)
    share = tl.exp(top - highest[None, :])
    z = tl.sum(total * share, 0)
    is_lonely = z == 0
    z = tl.where(is_lonely, 1.0, z)
    # Divided exactly: where one weight is 1, the mean is that row to the last bit.
    out = divided(tl.sum(acc * share[:, :, None], 0), z[:, None])
    return out, tl.where(is_lonely, 0.0, highest), z


def merge_softmax(
    segments: Segments, out: Tensor, top: Tensor, total: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """``(out, top, z)`` per node from those per segment, (W, H, D), (W, H) and (W, H)."""
    if segments.hubs.numel():
        _, heads, width = out.shape
        size = triton.next_power_of_2(width)
        arguments = (out, top, total, segments.hubs, segments.parts)
        run(_merge, (segments.hubs.numel(), heads), *arguments, H=heads, D=width, BLOCK_D=size)
    n = segments.num_nodes
    return out[:n], top[:n], total[:n]


@triton.jit
def _merge(out, top, total, hubs, parts, H: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr):
    k, h = tl.program_id(0), tl.program_id(1)
    d = tl.arange(0, BLOCK_D)
    own = tl.load(hubs + k).to(tl.int64) * H + h
    first, last = tl.load(parts + k), tl.load(parts + k + 1)
    part = first.to(tl.int64) * H + h
    highest, z = tl.load(top + own), tl.load(total + own)
    acc = z * tl.load(out + own * D + d, mask=d < D, other=0.0)
    for _ in range(first, last):
        s = tl.load(top + part)
        higher = tl.maximum(highest, s)
        before, weight = tl.exp(highest - higher), tl.exp(s - higher) * tl.load(total + part)
        acc = acc * before + weight * tl.load(out + part * D + d, mask=d < D, other=0.0)
        z = z * before + weight
        highest = higher
        part += H
    tl.store(out + own * D + d, divided(acc, z), mask=d < D)
    tl.store(top + own, highest)
    tl.store(total + own, z)
