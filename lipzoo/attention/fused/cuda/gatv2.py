r"""Triton kernels for GATv2 scores.

The norm's scale is multiplied into the attention vectors ``a`` beforehand; ``n_j = ||v_j||`` and
``M_i = max(max_j n_j, ||t_i||)`` come from outside, autograd included::

    x = v_j + t_i,  y = LeakyReLU(x),  r = n_j / M_i,  u = 1 / sqrt(1 + r²),  f = u / M_i
    s = f a·y,  p = exp(s - top_i) / z_i,  out_i = sum_j m p v_j   (m: dropout mask, 0 or 1)

(without a norm, ``f = 1``) and backward, with the output's gradient ``g``::

    d s_ij = p g_i·(m v_j - out_i)
    d t_i  = a * sum_j d s_ij f slope(x)           d v_j = the same over i, + sum_i m p g_i
    d a    = sum_ij d s_ij f y
    d n_j  = -sum_i d s_ij s u² r / M_i            d M_i = -sum_j d s_ij s u² / M_i
"""

from __future__ import annotations

from functools import partial

import torch
import triton
import triton.language as tl
from torch import Tensor

from lipzoo.attention.fused import plain
from lipzoo.attention.fused.cuda.common import (
    add_up,
    block,
    columns,
    contiguous,
    heads_of,
    kept,
    launch,
    leaky,
    new_like,
    normed,
    rows_of,
    segment,
    signed,
)
from lipzoo.attention.fused.cuda.index import cuda_index
from lipzoo.attention.fused.cuda.maximum import max_in
from lipzoo.attention.fused.cuda.softmax import finish_softmax, merge_softmax, softmax_step
from lipzoo.attention.fused.dropout_mask import DropoutMask
from lipzoo.attention.ops import TorchOps
from lipzoo.attention.score_norms import LipschitzNorm
from lipzoo.attention.scores import GATv2Scores
from lipzoo.attention.structure import Structure

__all__ = ["attend"]


def attend(
    structure: Structure, scores: GATv2Scores, norm: LipschitzNorm | None, dropout: DropoutMask
) -> Tensor:
    """``sum_j m_ij p_ij v_j`` (N_dst, H, D), ``m`` the mask of the dropout, as it is computed."""
    dtype = plain.compute_dtype(scores.v_src)
    v, t, attn = (x.to(dtype) for x in (scores.v_src, scores.v_dst, scores.attn))
    unit = square = longest = None
    if norm is not None:
        attn, _ = plain.scaled_vectors(norm.alpha, norm.per_head, attn, attn)
        unit, square = plain.squares(v)
        longest = max_in(plain.lengths(unit, square), structure)
        longest = torch.maximum(longest, plain.lengths(*plain.squares(t)))
    return _Attention.apply(
        *(scores.v_src, scores.v_dst, attn, square, longest, unit),
        *(structure, scores.negative_slope, dropout),
    )


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v, t, attn, square, longest, unit, structure, slope, dropout):
        segments, dtype = cuda_index(structure).in_edges, attn.dtype
        length = None if square is None else plain.lengths(unit, square)
        v, t, attn, length, longest = contiguous(v, t, attn, length, longest)
        _, heads, width = v.shape
        limits = torch.finfo(dtype)
        ctx.constants = {
            "SLOPE": slope,
            "TINY": limits.tiny,
            "LARGEST": limits.max,
            "THRESHOLD": dropout.threshold,
        }
        out = v.new_empty(segments.node.numel(), heads, width, dtype=dtype)
        top, total = out.new_empty(out.shape[:2]), out.new_empty(out.shape[:2])
        launch(
            _forward,
            segments,
            heads,
            width,
            dtype,
            *(v, t, attn, length, longest, out, top, total, signed(dropout.seed)),
            LOWEST=limits.min,
            **ctx.constants,
        )
        out, top, total = merge_softmax(segments, out, top, total)
        ctx.save_for_backward(v, t, attn, square, longest, unit, length, top, total, out)
        ctx.structure, ctx.slope, ctx.dropout = structure, slope, dropout
        return out

    @staticmethod
    def backward(ctx, grad):
        *inputs, length, top, total, out = ctx.saved_tensors
        if plain.is_differentiated():
            compute = partial(_plainly, ctx.structure, ctx.slope, ctx.dropout)
            needed = ctx.needs_input_grad[:6]
            return *plain.gradients(compute, inputs, needed, grad), *[None] * 3
        v, t, attn, square, longest, unit = inputs
        index, dtype, g = cuda_index(ctx.structure), attn.dtype, grad.contiguous()
        _, heads, width = v.shape
        seed = signed(ctx.dropout.seed)
        arguments = (v, t, attn, length, longest, top, total, out, g)

        segments = index.in_edges
        d_t = new_like(segments, t, dtype)
        d_attn = torch.empty_like(d_t, dtype=dtype)
        d_longest = None if longest is None else d_attn.new_empty(d_attn.shape[:2])
        own = (*arguments, d_t, d_attn, d_longest, seed)
        launch(_backward_in_edges, segments, heads, width, dtype, *own, **ctx.constants)
        d_t, d_attn = add_up(segments, d_t), d_attn.sum(0, keepdim=True)
        d_longest = None if longest is None else add_up(segments, d_longest)

        segments = index.out_edges
        d_v = new_like(segments, v, dtype)
        d_length = None if length is None else d_v.new_empty(d_v.shape[:2], dtype=dtype)
        own = (*arguments, d_v, d_length, seed)
        launch(_backward_out_edges, segments, heads, width, dtype, *own, **ctx.constants)
        d_v, d_square = add_up(segments, d_v), None
        if length is not None:
            d_square = plain.by_square(unit, square, add_up(segments, d_length))
        return d_v, d_t, d_attn, d_square, d_longest, *[None] * 4


def _plainly(structure, slope, dropout, v, t, attn, square, longest, unit):
    """What the kernels compute, to be differentiated again."""
    v, t = v.to(attn.dtype), t.to(attn.dtype)
    e = GATv2Scores(v, t, attn, slope).compute(TorchOps(structure))
    if square is not None:
        e = plain.divide_by_lengths(e, unit, square, longest, structure)
    return plain.attend(structure, e, v, dropout)


@triton.jit
def _score(
    v,
    t,
    attn,
    length,
    longest,
    HAS_NORM: tl.constexpr,
    SLOPE: tl.constexpr,
    TINY: tl.constexpr,
    LARGEST: tl.constexpr,
):
    """``(s, slope(x), y, u, r, 1 / M)`` of rows (BLOCK_E, BLOCK_H, BLOCK_D)."""
    x = v + t
    slope = leaky(x, SLOPE)
    y = slope * x
    s = tl.sum(attn * y, 2)
    u, r, inverse = s, s, s
    if HAS_NORM:
        s, u, r, inverse = normed(s, length, longest, TINY, LARGEST)
    return s, slope, y, u, r, inverse


@triton.jit(do_not_specialize=["seed"])
def _forward(
    v,
    t,
    attn,
    length,
    longest,
    out,
    top,
    total,
    seed,
    node,
    begin,
    end,
    other,
    edge,
    SLOPE: tl.constexpr,
    TINY: tl.constexpr,
    LARGEST: tl.constexpr,
    LOWEST: tl.constexpr,
    THRESHOLD: tl.constexpr,
    H: tl.constexpr,
    D: tl.constexpr,
    FT: tl.constexpr,
    BLOCK_E: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    w, i, first, last = segment(node, begin, end)
    h, has_head, column, cells = columns(H, D, BLOCK_H, BLOCK_D)
    a = rows_of(attn, 0, column, cells, H, D, FT)[None, :, :]
    t_i = rows_of(t, i, column, cells, H, D, FT)[None, :, :]
    highest = tl.full((BLOCK_E, BLOCK_H), LOWEST, FT)
    m_i = highest
    if length is not None:
        m_i = heads_of(longest, i, h, has_head, H, FT)
    z = tl.zeros((BLOCK_E, BLOCK_H), FT)
    acc = tl.zeros((BLOCK_E, BLOCK_H, BLOCK_D), FT)
    for e in range(first, last, BLOCK_E):
        at, is_edge, j = block(e, last, other, BLOCK_E)
        mask = is_edge[:, None] & has_head[None, :]
        exists = is_edge[:, None, None] & cells
        v_j = rows_of(v, j[:, None, None], column, exists, H, D, FT)
        n_j = highest
        if length is not None:
            n_j = heads_of(length, j[:, None], h, mask, H, FT)
        s, _, _, _, _, _ = _score(v_j, t_i, a, n_j, m_i, length is not None, SLOPE, TINY, LARGEST)
        highest, z, before, p = softmax_step(highest, z, s, mask)
        p *= kept(p, edge, at, is_edge, h, seed, THRESHOLD)
        acc = acc * before[:, :, None] + p[:, :, None] * v_j
    result, top_i, total_i = finish_softmax(highest, z, acc)
    tl.store(out + w * (H * D) + column, result, mask=cells)
    tl.store(top + w * H + h, top_i, mask=has_head)
    tl.store(total + w * H + h, total_i, mask=has_head)


@triton.jit(do_not_specialize=["seed"])
def _backward_in_edges(
    v,
    t,
    attn,
    length,
    longest,
    top,
    total,
    out,
    g,
    d_t,
    d_attn,
    d_longest,
    seed,
    node,
    begin,
    end,
    other,
    edge,
    SLOPE: tl.constexpr,
    TINY: tl.constexpr,
    LARGEST: tl.constexpr,
    THRESHOLD: tl.constexpr,
    H: tl.constexpr,
    D: tl.constexpr,
    FT: tl.constexpr,
    BLOCK_E: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    w, i, first, last = segment(node, begin, end)
    h, has_head, column, cells = columns(H, D, BLOCK_H, BLOCK_D)
    a = rows_of(attn, 0, column, cells, H, D, FT)
    t_i = rows_of(t, i, column, cells, H, D, FT)[None, :, :]
    g_i = rows_of(g, i, column, cells, H, D, FT)[None, :, :]
    out_i = rows_of(out, i, column, cells, H, D, FT)[None, :, :]
    top_i = heads_of(top, i, h, has_head, H, FT)
    total_i = heads_of(total, i, h, has_head, H, FT)
    m_i = top_i
    if length is not None:
        m_i = heads_of(longest, i, h, has_head, H, FT)
        by_longest = tl.zeros((BLOCK_E, BLOCK_H), FT)
    by_x = tl.zeros((BLOCK_E, BLOCK_H, BLOCK_D), FT)
    by_a = tl.zeros((BLOCK_E, BLOCK_H, BLOCK_D), FT)
    for e in range(first, last, BLOCK_E):
        at, is_edge, j = block(e, last, other, BLOCK_E)
        mask = is_edge[:, None] & has_head[None, :]
        exists = is_edge[:, None, None] & cells
        v_j = rows_of(v, j[:, None, None], column, exists, H, D, FT)
        n_j = top_i
        if length is not None:
            n_j = heads_of(length, j[:, None], h, mask, H, FT)
        s, slope, y, u, _, inverse = _score(
            v_j, t_i, a[None, :, :], n_j, m_i, length is not None, SLOPE, TINY, LARGEST
        )
        p = tl.where(mask, tl.exp(s - top_i) / total_i, 0.0)
        m = kept(p, edge, at, is_edge, h, seed, THRESHOLD)
        d_s = p * tl.sum(g_i * (m[:, :, None] * v_j - out_i), 2)
        if length is not None:
            # As large as g, whatever the size of v.
            d_s = tl.where(tl.abs(s) == LARGEST, 0.0, d_s * inverse * u)
            by_longest -= d_s * u * s
        by_x += d_s[:, :, None] * slope
        by_a += d_s[:, :, None] * y
    tl.store(d_t + w * (H * D) + column, a * tl.sum(by_x, 0), mask=cells)
    tl.store(d_attn + w * (H * D) + column, tl.sum(by_a, 0), mask=cells)
    if length is not None:
        tl.store(d_longest + w * H + h, tl.sum(by_longest, 0), mask=has_head)


@triton.jit(do_not_specialize=["seed"])
def _backward_out_edges(
    v,
    t,
    attn,
    length,
    longest,
    top,
    total,
    out,
    g,
    d_v,
    d_length,
    seed,
    node,
    begin,
    end,
    other,
    edge,
    SLOPE: tl.constexpr,
    TINY: tl.constexpr,
    LARGEST: tl.constexpr,
    THRESHOLD: tl.constexpr,
    H: tl.constexpr,
    D: tl.constexpr,
    FT: tl.constexpr,
    BLOCK_E: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    w, j, first, last = segment(node, begin, end)
    h, has_head, column, cells = columns(H, D, BLOCK_H, BLOCK_D)
    a = rows_of(attn, 0, column, cells, H, D, FT)
    v_j = rows_of(v, j, column, cells, H, D, FT)[None, :, :]
    if length is not None:
        length_j = heads_of(length, j, h, has_head, H, FT)
        by_length = tl.zeros((BLOCK_E, BLOCK_H), FT)
    by_x = tl.zeros((BLOCK_E, BLOCK_H, BLOCK_D), FT)
    p_g = tl.zeros((BLOCK_E, BLOCK_H, BLOCK_D), FT)
    for e in range(first, last, BLOCK_E):
        at, is_edge, i = block(e, last, other, BLOCK_E)
        mask = is_edge[:, None] & has_head[None, :]
        exists = is_edge[:, None, None] & cells
        t_i = rows_of(t, i[:, None, None], column, exists, H, D, FT)
        g_i = rows_of(g, i[:, None, None], column, exists, H, D, FT)
        out_i = rows_of(out, i[:, None, None], column, exists, H, D, FT)
        top_i = heads_of(top, i[:, None], h, mask, H, FT)
        total_i = tl.where(mask, heads_of(total, i[:, None], h, mask, H, FT), 1.0)
        m_i, n_j = top_i, top_i
        if length is not None:
            n_j = length_j
            m_i = heads_of(longest, i[:, None], h, mask, H, FT)
        s, slope, _, u, r, inverse = _score(
            v_j, t_i, a[None, :, :], n_j, m_i, length is not None, SLOPE, TINY, LARGEST
        )
        p = tl.where(mask, tl.exp(s - top_i) / total_i, 0.0)
        m = kept(p, edge, at, is_edge, h, seed, THRESHOLD)
        d_s = p * tl.sum(g_i * (m[:, :, None] * v_j - out_i), 2)
        if length is not None:
            d_s = tl.where(tl.abs(s) == LARGEST, 0.0, d_s * inverse * u)
            by_length -= d_s * u * r * s
        by_x += d_s[:, :, None] * slope
        p_g += (m * p)[:, :, None] * g_i
    tl.store(d_v + w * (H * D) + column, tl.sum(p_g, 0) + a * tl.sum(by_x, 0), mask=cells)
    if length is not None:
        tl.store(d_length + w * H + h, tl.sum(by_length, 0), mask=has_head)
