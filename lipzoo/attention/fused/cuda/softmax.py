"""The softmax over in-edges as they come by, and what becomes of several segments, in Triton.

Each position of a block keeps its own shift, denominator and weighted sum (Milakov, Gimelshein,
"Online normalizer calculation for softmax", arXiv:1805.02867); they are brought together at the
end. What the backward pass needs is one number a node and head, ``lse = log sum_j exp(s_ij)``:
``p_ij = exp(s_ij - lse_i)``.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from lipzoo.attention.fused.cuda.common import run
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
    """``(out, lse)`` of what the positions of a block have gathered; 0 without edges."""
    highest = tl.max(top, 0)
    share = tl.exp(top - highest[None, :])
    z = tl.sum(total * share, 0)
    is_lonely = z == 0
    z = tl.where(is_lonely, 1.0, z)
    out = tl.sum(acc * share[:, :, None], 0) / z[:, None]
    return out, tl.where(is_lonely, 0.0, highest + tl.log(z))


def merge_softmax(segments: Segments, out: Tensor, lse: Tensor) -> tuple[Tensor, Tensor]:
    """``(out, lse)`` per node from those per segment, (W, H, D) and (W, H)."""
    if segments.hubs.numel():
        _, heads, width = out.shape
        size = triton.next_power_of_2(width)
        arguments = (out, lse, segments.hubs, segments.parts)
        run(_merge, (segments.hubs.numel(), heads), *arguments, H=heads, D=width, BLOCK_D=size)
    return out[: segments.num_nodes], lse[: segments.num_nodes]


@triton.jit
def _merge(out, lse, hubs, parts, H: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr):
    k, h = tl.program_id(0), tl.program_id(1)
    d = tl.arange(0, BLOCK_D)
    own = tl.load(hubs + k).to(tl.int64) * H + h
    first, last = tl.load(parts + k), tl.load(parts + k + 1)
    part = first.to(tl.int64) * H + h
    top = tl.load(lse + own)
    acc = tl.load(out + own * D + d, mask=d < D, other=0.0)
    z = tl.exp(top - top)
    for _ in range(first, last):
        s = tl.load(lse + part)
        higher = tl.maximum(top, s)
        before, weight = tl.exp(top - higher), tl.exp(s - higher)
        acc = acc * before + weight * tl.load(out + part * D + d, mask=d < D, other=0.0)
        z = z * before + weight
        top = higher
        part += H
    tl.store(out + own * D + d, acc / z, mask=d < D)
    tl.store(lse + own, top + tl.log(z))
