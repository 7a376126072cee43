r"""Triton kernels for additive scores.

What belongs to nodes is PyTorch's, autograd included: ``el_j = scale a_l·v_j``,
``er_i = scale a_r·v_i``, ``n_j = ||v_j||``, ``M_i = max_j n_j``, with ``with_own`` over
``||v_i||`` too (the score norm's scale is positive, so it may be multiplied in before the
LeakyReLU). The kernels do what belongs to edges::

    x = el_j + er_i,  r = n_j / M_i,  u = 1 / sqrt(1 + r²),  f = slope(x) u / M_i,  s = f x
    p = exp(s - top_i) / z_i,  out_i = sum_j m p v_j               (m: dropout mask, 0 or 1)

(without a norm, ``f = slope(x)``) and backward, with the output's gradient ``g``::

    d s_ij = p g_i·(m v_j - out_i)
    d el_j = sum_i d s_ij f         d n_j = -sum_i d s_ij s u² r / M_i         d v_j = sum_i m p g_i
    d er_i = sum_j d s_ij f         d M_i = -sum_j d s_ij s u² / M_i
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
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
from lipzoo.attention.scores import AdditiveScores
from lipzoo.attention.structure import Structure

__all__ = ["attend"]


def attend(
    structure: Structure, scores: AdditiveScores, norm: LipschitzNorm | None, dropout: DropoutMask
) -> Tensor:
    """``sum_j m_ij p_ij v_j`` (N_dst, H, D), ``m`` the mask of the dropout, as it is computed."""
    dtype = plain.compute_dtype(scores.v_src)
    v, attn_l, attn_r = (t.to(dtype) for t in (scores.v_src, scores.attn_l, scores.attn_r))
    v_dst = v[: structure.num_dst] if scores.v_dst is None else scores.v_dst.to(dtype)
    unit = square = longest = None
    if norm is not None:
        attn_l, attn_r = plain.scaled_vectors(norm.alpha, norm.per_head, attn_l, attn_r)
        unit, square = plain.squares(v)
        longest = max_in(plain.lengths(unit, square), structure)
        if scores.with_own:
            longest = torch.maximum(longest, plain.lengths(*plain.squares(v_dst)))
    el, er = (v * attn_l).sum(-1), (v_dst * attn_r).sum(-1)
    return _Attention.apply(
        scores.v_src, el, er, square, longest, unit, structure, scores.negative_slope, dropout
    )


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v, el, er, square, longest, unit, structure, slope, dropout):
        segments, dtype = cuda_index(structure).in_edges, el.dtype
        length = None if square is None else plain.lengths(unit, square)
        v, el, er, length, longest = contiguous(v, el, er, length, longest)
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
            *(v, el, er, length, longest, out, top, total, signed(dropout.seed)),
            LOWEST=limits.min,
            **ctx.constants,
        )
        out, top, total = merge_softmax(segments, out, top, total)
        ctx.save_for_backward(v, el, er, square, longest, unit, length, top, total, out)
        ctx.structure, ctx.slope, ctx.dropout = structure, slope, dropout
        return out

    @staticmethod
    def backward(ctx, grad):
        *inputs, length, top, total, out = ctx.saved_tensors
        if plain.is_differentiated():
            compute = partial(_plainly, ctx.structure, ctx.slope, ctx.dropout)
            needed = ctx.needs_input_grad[:6]
            return *plain.gradients(compute, inputs, needed, grad), *[None] * 3
        v, el, er, square, longest, unit = inputs
        index, dtype, g = cuda_index(ctx.structure), el.dtype, grad.contiguous()
        _, heads, width = v.shape
        arguments, seed = (v, el, er, length, longest, top, total, out, g), signed(ctx.dropout.seed)

        segments = index.in_edges
        d_er = new_like(segments, er, dtype)
        d_longest = None if longest is None else torch.empty_like(d_er)
        own = (*arguments, d_er, d_longest, seed)
        launch(_backward_in_edges, segments, heads, width, dtype, *own, **ctx.constants)
        d_er = add_up(segments, d_er)
        d_longest = None if longest is None else add_up(segments, d_longest)

        segments = index.out_edges
        d_v, d_el = new_like(segments, v, dtype), new_like(segments, el, dtype)
        d_length = None if length is None else torch.empty_like(d_el)
        own = (*arguments, d_v, d_el, d_length, seed)
        launch(_backward_out_edges, segments, heads, width, dtype, *own, **ctx.constants)
        d_v, d_el = add_up(segments, d_v), add_up(segments, d_el)
        d_square = None
        if length is not None:
            d_square = plain.by_square(unit, square, add_up(segments, d_length))
        return d_v, d_el, d_er, d_square, d_longest, *[None] * 4


def _plainly(structure, slope, dropout, v, el, er, square, longest, unit):
    """What the kernels compute, to be differentiated again."""
    e = F.leaky_relu(TorchOps(structure).u_add_v(el, er), slope)
    if square is not None:
        e = plain.divide_by_lengths(e, unit, square, longest, structure)
    return plain.attend(structure, e, v.to(e.dtype), dropout)


@triton.jit
def _score(
    x,
    length,
    longest,
    HAS_NORM: tl.constexpr,
    SLOPE: tl.constexpr,
    TINY: tl.constexpr,
    LARGEST: tl.constexpr,
):
    """``(s, slope(x), u, r, 1 / M)``."""
    f = leaky(x, SLOPE)
    s = f * x
    u, r, inverse = f, f, f
    if HAS_NORM:
        s, u, r, inverse = normed(s, length, longest, TINY, LARGEST)
    return s, f, u, r, inverse


@triton.jit(do_not_specialize=["seed"])
def _forward(
    v,
    el,
    er,
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
    er_i = heads_of(er, i, h, has_head, H, FT)
    m_i = er_i
    if length is not None:
        m_i = heads_of(longest, i, h, has_head, H, FT)
    highest = tl.full((BLOCK_E, BLOCK_H), LOWEST, FT)
    z = tl.zeros((BLOCK_E, BLOCK_H), FT)
    acc = tl.zeros((BLOCK_E, BLOCK_H, BLOCK_D), FT)
    for e in range(first, last, BLOCK_E):
        at, is_edge, j = block(e, last, other, BLOCK_E)
        mask = is_edge[:, None] & has_head[None, :]
        x = heads_of(el, j[:, None], h, mask, H, FT) + er_i
        n_j = x
        if length is not None:
            n_j = heads_of(length, j[:, None], h, mask, H, FT)
        s, _, _, _, _ = _score(x, n_j, m_i, length is not None, SLOPE, TINY, LARGEST)
        highest, z, before, p = softmax_step(highest, z, s, mask)
        p *= kept(p, edge, at, is_edge, h, seed, THRESHOLD)
        exists = is_edge[:, None, None] & cells
        v_j = rows_of(v, j[:, None, None], column, exists, H, D, FT)
        acc = acc * before[:, :, None] + p[:, :, None] * v_j
    result, top_i, total_i = finish_softmax(highest, z, acc)
    tl.store(out + w * (H * D) + column, result, mask=cells)
    tl.store(top + w * H + h, top_i, mask=has_head)
    tl.store(total + w * H + h, total_i, mask=has_head)


@triton.jit(do_not_specialize=["seed"])
def _backward_in_edges(
    v,
    el,
    er,
    length,
    longest,
    top,
    total,
    out,
    g,
    d_er,
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
    er_i = heads_of(er, i, h, has_head, H, FT)
    top_i = heads_of(top, i, h, has_head, H, FT)
    total_i = heads_of(total, i, h, has_head, H, FT)
    g_i = rows_of(g, i, column, cells, H, D, FT)[None, :, :]
    out_i = rows_of(out, i, column, cells, H, D, FT)[None, :, :]
    m_i = er_i
    if length is not None:
        m_i = heads_of(longest, i, h, has_head, H, FT)
        by_longest = tl.zeros((BLOCK_E, BLOCK_H), FT)
    by_x = tl.zeros((BLOCK_E, BLOCK_H), FT)
    for e in range(first, last, BLOCK_E):
        at, is_edge, j = block(e, last, other, BLOCK_E)
        mask = is_edge[:, None] & has_head[None, :]
        x = heads_of(el, j[:, None], h, mask, H, FT) + er_i
        n_j = x
        if length is not None:
            n_j = heads_of(length, j[:, None], h, mask, H, FT)
        s, f, u, _, inverse = _score(x, n_j, m_i, length is not None, SLOPE, TINY, LARGEST)
        p = tl.where(mask, tl.exp(s - top_i) / total_i, 0.0)
        m = kept(p, edge, at, is_edge, h, seed, THRESHOLD)
        exists = is_edge[:, None, None] & cells
        v_j = rows_of(v, j[:, None, None], column, exists, H, D, FT)
        d_s = p * tl.sum(g_i * (m[:, :, None] * v_j - out_i), 2)
        if length is not None:
            # As large as g, whatever the size of v.
            d_s = tl.where(tl.abs(s) == LARGEST, 0.0, d_s * inverse * u)
            by_longest -= d_s * u * s
        by_x += d_s * f
    tl.store(d_er + w * H + h, tl.sum(by_x, 0), mask=has_head)
    if length is not None:
        tl.store(d_longest + w * H + h, tl.sum(by_longest, 0), mask=has_head)


@triton.jit(do_not_specialize=["seed"])
def _backward_out_edges(
    v,
    el,
    er,
    length,
    longest,
    top,
    total,
    out,
    g,
    d_v,
    d_el,
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
    el_j = heads_of(el, j, h, has_head, H, FT)
    v_j = rows_of(v, j, column, cells, H, D, FT)[None, :, :]
    n_j = el_j
    if length is not None:
        n_j = heads_of(length, j, h, has_head, H, FT)
        by_length = tl.zeros((BLOCK_E, BLOCK_H), FT)
    by_x = tl.zeros((BLOCK_E, BLOCK_H), FT)
    p_g = tl.zeros((BLOCK_E, BLOCK_H, BLOCK_D), FT)
    for e in range(first, last, BLOCK_E):
        at, is_edge, i = block(e, last, other, BLOCK_E)
        mask = is_edge[:, None] & has_head[None, :]
        x = el_j + heads_of(er, i[:, None], h, mask, H, FT)
        m_i = x
        if length is not None:
            m_i = heads_of(longest, i[:, None], h, mask, H, FT)
        s, f, u, r, inverse = _score(x, n_j, m_i, length is not None, SLOPE, TINY, LARGEST)
        top_i = heads_of(top, i[:, None], h, mask, H, FT)
        total_i = tl.where(mask, heads_of(total, i[:, None], h, mask, H, FT), 1.0)
        p = tl.where(mask, tl.exp(s - top_i) / total_i, 0.0)
        m = kept(p, edge, at, is_edge, h, seed, THRESHOLD)
        exists = is_edge[:, None, None] & cells
        g_i = rows_of(g, i[:, None, None], column, exists, H, D, FT)
        out_i = rows_of(out, i[:, None, None], column, exists, H, D, FT)
        d_s = p * tl.sum(g_i * (m[:, :, None] * v_j - out_i), 2)
        if length is not None:
            d_s = tl.where(tl.abs(s) == LARGEST, 0.0, d_s * inverse * u)
            by_length -= d_s * u * r * s
        by_x += d_s * f
        p_g += (m * p)[:, :, None] * g_i
    tl.store(d_v + w * (H * D) + column, tl.sum(p_g, 0), mask=cells)
    tl.store(d_el + w * H + h, tl.sum(by_x, 0), mask=has_head)
    if length is not None:
        tl.store(d_length + w * H + h, tl.sum(by_length, 0), mask=has_head)
