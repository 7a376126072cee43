r"""Triton kernels for GATv2 scores.

The norm's scale is multiplied into the attention vectors ``a`` beforehand; ``n_j = ||v_j||²`` and
``M_i = max(max_j n_j, ||t_i||²)`` come from outside, autograd included::

    x = v_j + t_i,  y = LeakyReLU(x),  s = rho a·y,  rho = 1 / sqrt(M_i + n_j)  (without a norm, 1)
    p = exp(s - lse_i),  out_i = sum_j m p v_j                          (m: dropout mask / kept)

Backward, with the output's gradient ``g`` and ``c_i = g_i·out_i``::

    d s_ij = p (m g_i·v_j - c_i)
    d t_i  = a * sum_j d s_ij rho slope(x)         d v_j = the same over i, + sum_i m p g_i
    d a    = sum_ij d s_ij rho y                   d n_j = sum_i -d s_ij s / 2(M_i + n_j), so d M_i
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from lipzoo.attention.fused.cuda.common import (
    add_up,
    block,
    columns,
    compute_dtype,
    contiguous,
    drop,
    heads_of,
    launch,
    leaky,
    new_like,
    reciprocal_root,
    rows_of,
    segment,
)
from lipzoo.attention.fused.cuda.dropout import Dropout
from lipzoo.attention.fused.cuda.index import cuda_index
from lipzoo.attention.fused.cuda.maximum import max_in
from lipzoo.attention.fused.cuda.softmax import finish_softmax, merge_softmax, softmax_step
from lipzoo.attention.score_norms import LipschitzNorm
from lipzoo.attention.scores import GATv2Scores
from lipzoo.attention.structure import Structure

__all__ = ["attend"]


def attend(
    structure: Structure, scores: GATv2Scores, norm: LipschitzNorm | None, dropout: Dropout
) -> Tensor:
    """The output (N_dst, H, D) for GATv2 scores."""
    dtype = compute_dtype(scores.v_src)
    v, t, attn = (x.to(dtype) for x in (scores.v_src, scores.v_dst, scores.attn))
    length = longest = None
    if norm is not None:
        attn = norm.scale(GATv2Scores(v, t, attn)).unsqueeze(-1) * attn
        length = v.square().sum(-1)
        longest = torch.maximum(max_in(length, structure), t.square().sum(-1))
    return _Attention.apply(
        scores.v_src, scores.v_dst, attn, length, longest, structure, scores.negative_slope, dropout
    )


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v, t, attn, length, longest, structure, slope, dropout):
        segments, dtype = cuda_index(structure).in_edges, attn.dtype
        v, t, attn, length, longest = contiguous(v, t, attn, length, longest)
        _, heads, width = v.shape
        constants = {"SLOPE": slope, "TINY": torch.finfo(dtype).tiny, **dropout.constants}
        out = v.new_empty(segments.node.numel(), heads, width, dtype=dtype)
        lse = out.new_empty(out.shape[:2])
        launch(
            _forward,
            segments,
            heads,
            width,
            dtype,
            *(v, t, attn, length, longest, out, lse, dropout.seed),
            LOWEST=torch.finfo(dtype).min,
            **constants,
        )
        out, lse = merge_softmax(segments, out, lse)
        ctx.save_for_backward(v, t, attn, length, longest, lse, out)
        ctx.structure, ctx.dropout, ctx.constants = structure, dropout, constants
        return out.to(v.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        v, t, attn, length, longest, lse, out = ctx.saved_tensors
        index, dtype, g = cuda_index(ctx.structure), attn.dtype, grad.contiguous()
        _, heads, width = v.shape
        c = (g * out).sum(-1)
        arguments = (v, t, attn, length, longest, lse, c, g)

        segments = index.in_edges
        d_t = new_like(segments, t, dtype)
        d_attn = torch.empty_like(d_t, dtype=dtype)
        d_longest = None if longest is None else d_attn.new_empty(d_attn.shape[:2])
        own = (*arguments, d_t, d_attn, d_longest, ctx.dropout.seed)
        launch(_backward_in_edges, segments, heads, width, dtype, *own, **ctx.constants)
        d_t, d_attn = add_up(segments, d_t), d_attn.sum(0, keepdim=True)
        d_longest = None if longest is None else add_up(segments, d_longest)

        segments = index.out_edges
        d_v = new_like(segments, v, dtype)
        d_length = None if length is None else d_v.new_empty(d_v.shape[:2], dtype=dtype)
        own = (*arguments, d_v, d_length, ctx.dropout.seed)
        launch(_backward_out_edges, segments, heads, width, dtype, *own, **ctx.constants)
        d_v = add_up(segments, d_v)
        d_length = None if length is None else add_up(segments, d_length)
        return d_v, d_t, d_attn, d_length, d_longest, None, None, None


@triton.jit
def _score(v, t, attn, square, HAS_NORM: tl.constexpr, SLOPE: tl.constexpr, TINY: tl.constexpr):
    """``(s, rho, slope(x), y)`` of rows (BLOCK_E, BLOCK_H, BLOCK_D)."""
    x = v + t
    slope = leaky(x, SLOPE)
    y = slope * x
    s = tl.sum(attn * y, 2)
    rho = tl.full(s.shape, 1.0, s.dtype)
    if HAS_NORM:
        rho = reciprocal_root(square, TINY)
        s = s * rho
    return s, rho, slope, y


@triton.jit(do_not_specialize=["seed"])
def _forward(
    v,
    t,
    attn,
    length,
    longest,
    out,
    lse,
    seed,
    node,
    begin,
    end,
    other,
    edge,
    SLOPE: tl.constexpr,
    TINY: tl.constexpr,
    LOWEST: tl.constexpr,
    THRESHOLD: tl.constexpr,
    KEPT: tl.constexpr,
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
    if length is not None:
        longest_i = heads_of(longest, i, h, has_head, H, FT)
    top = tl.full((BLOCK_E, BLOCK_H), LOWEST, FT)
    total = tl.zeros((BLOCK_E, BLOCK_H), FT)
    acc = tl.zeros((BLOCK_E, BLOCK_H, BLOCK_D), FT)
    for e in range(first, last, BLOCK_E):
        at, is_edge, j = block(e, last, other, BLOCK_E)
        mask = is_edge[:, None] & has_head[None, :]
        exists = is_edge[:, None, None] & cells
        v_j = rows_of(v, j[:, None, None], column, exists, H, D, FT)
        square = top
        if length is not None:
            square = heads_of(length, j[:, None], h, mask, H, FT) + longest_i
        s, _, _, _ = _score(v_j, t_i, a, square, length is not None, SLOPE, TINY)
        top, total, before, p = softmax_step(top, total, s, mask)
        p = drop(p, edge, at, is_edge, h, seed, THRESHOLD, KEPT)
        acc = acc * before[:, :, None] + p[:, :, None] * v_j
    result, log_sum = finish_softmax(top, total, acc)
    tl.store(out + w * (H * D) + column, result, mask=cells)
    tl.store(lse + w * H + h, log_sum, mask=has_head)


@triton.jit(do_not_specialize=["seed"])
def _backward_in_edges(
    v,
    t,
    attn,
    length,
    longest,
    lse,
    c,
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
    THRESHOLD: tl.constexpr,
    KEPT: tl.constexpr,
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
    lse_i = heads_of(lse, i, h, has_head, H, FT)
    c_i = heads_of(c, i, h, has_head, H, FT)
    if length is not None:
        longest_i = heads_of(longest, i, h, has_head, H, FT)
        by_longest = tl.zeros((BLOCK_E, BLOCK_H), FT)
    by_x = tl.zeros((BLOCK_E, BLOCK_H, BLOCK_D), FT)
    by_a = tl.zeros((BLOCK_E, BLOCK_H, BLOCK_D), FT)
    for e in range(first, last, BLOCK_E):
        at, is_edge, j = block(e, last, other, BLOCK_E)
        mask = is_edge[:, None] & has_head[None, :]
        exists = is_edge[:, None, None] & cells
        v_j = rows_of(v, j[:, None, None], column, exists, H, D, FT)
        square = lse_i
        if length is not None:
            square = heads_of(length, j[:, None], h, mask, H, FT) + longest_i
        s, rho, slope, y = _score(v_j, t_i, a[None, :, :], square, length is not None, SLOPE, TINY)
        p = tl.where(mask, tl.exp(s - lse_i), 0.0)
        m_p = drop(p, edge, at, is_edge, h, seed, THRESHOLD, KEPT)
        d_s = m_p * tl.sum(g_i * v_j, 2) - p * c_i
        by_x += (d_s * rho)[:, :, None] * slope
        by_a += (d_s * rho)[:, :, None] * y
        if length is not None:
            by_longest += -0.5 * d_s * s * rho * rho
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
    lse,
    c,
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
    THRESHOLD: tl.constexpr,
    KEPT: tl.constexpr,
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
        lse_i = heads_of(lse, i[:, None], h, mask, H, FT)
        square = lse_i
        if length is not None:
            square = length_j + heads_of(longest, i[:, None], h, mask, H, FT)
        s, rho, slope, _ = _score(v_j, t_i, a[None, :, :], square, length is not None, SLOPE, TINY)
        p = tl.where(mask, tl.exp(s - lse_i), 0.0)
        m_p = drop(p, edge, at, is_edge, h, seed, THRESHOLD, KEPT)
        d_s = m_p * tl.sum(g_i * v_j, 2) - p * heads_of(c, i[:, None], h, mask, H, FT)
        by_x += (d_s * rho)[:, :, None] * slope
        p_g += m_p[:, :, None] * g_i
        if length is not None:
            by_length += -0.5 * d_s * s * rho * rho
    tl.store(d_v + w * (H * D) + column, tl.sum(p_g, 0) + a * tl.sum(by_x, 0), mask=cells)
    if length is not None:
        tl.store(d_length + w * H + h, tl.sum(by_length, 0), mask=has_head)
