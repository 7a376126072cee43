r"""Triton kernels for additive scores.

What belongs to nodes is PyTorch's, autograd included: ``el_j = scale a_l·v_j``,
``er_i = scale a_r·v_i``, ``n_j = ||v_j||²``, ``M_i = max_j n_j`` (the score norm's scale is
positive, so it may be multiplied in before the LeakyReLU). The kernels do what belongs to edges::

    x = el_j + er_i,  f = slope(x) / sqrt(M_i + n_j),  s = f x       (without a norm, f = slope(x))
    p = exp(s - lse_i),  out_i = sum_j m p v_j                       (m: dropout mask / kept)

Backward, with the output's gradient ``g`` and ``c_i = g_i·out_i``, the gradient of a score is
``p (m g_i·v_j - c_i)``. Sums over edges leave the dot product for the end, once a node::

    d v_j  = sum_i p m g_i
    d el_j = v_j · sum_i p m f g_i - sum_i p f c_i
    d er_i = g_i · sum_j p m f v_j - c_i sum_j p f

and the same for ``n_j`` and ``M_i`` with ``r = -s / 2(M_i + n_j)`` in the place of ``f``.
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
from lipzoo.attention.scores import AdditiveScores
from lipzoo.attention.structure import Structure

__all__ = ["attend"]


def attend(
    structure: Structure, scores: AdditiveScores, norm: LipschitzNorm | None, dropout: Dropout
) -> Tensor:
    """The output (N_dst, H, D) for additive scores."""
    dtype = compute_dtype(scores.v_src)
    v, v_dst, attn_l, attn_r = (
        t.to(dtype) for t in (scores.v_src, scores.v_dst, scores.attn_l, scores.attn_r)
    )
    length = longest = None
    if norm is not None:
        scale = norm.scale(AdditiveScores(v, v_dst, attn_l, attn_r)).unsqueeze(-1)
        attn_l, attn_r = scale * attn_l, scale * attn_r
        length = v.square().sum(-1)
        longest = max_in(length, structure)
    el, er = (v * attn_l).sum(-1), (v_dst * attn_r).sum(-1)
    return _Attention.apply(
        scores.v_src, el, er, length, longest, structure, scores.negative_slope, dropout
    )


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v, el, er, length, longest, structure, slope, dropout):
        segments, dtype = cuda_index(structure).in_edges, el.dtype
        v, el, er, length, longest = contiguous(v, el, er, length, longest)
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
            *(v, el, er, length, longest, out, lse, dropout.seed),
            LOWEST=torch.finfo(dtype).min,
            **constants,
        )
        out, lse = merge_softmax(segments, out, lse)
        ctx.save_for_backward(v, el, er, length, longest, lse, out)
        ctx.structure, ctx.dropout, ctx.constants = structure, dropout, constants
        return out.to(v.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        v, el, er, length, longest, lse, out = ctx.saved_tensors
        index, dtype, g = cuda_index(ctx.structure), el.dtype, grad.contiguous()
        _, heads, width = v.shape
        c = (g * out).sum(-1)
        arguments = (v, el, er, length, longest, lse, c, g)

        segments = index.in_edges
        d_er = new_like(segments, er, dtype)
        d_longest = None if longest is None else torch.empty_like(d_er)
        own = (*arguments, d_er, d_longest, ctx.dropout.seed)
        launch(_backward_in_edges, segments, heads, width, dtype, *own, **ctx.constants)
        d_er = add_up(segments, d_er)
        d_longest = None if longest is None else add_up(segments, d_longest)

        segments = index.out_edges
        d_v, d_el = new_like(segments, v, dtype), new_like(segments, el, dtype)
        d_length = None if length is None else torch.empty_like(d_el)
        own = (*arguments, d_v, d_el, d_length, ctx.dropout.seed)
        launch(_backward_out_edges, segments, heads, width, dtype, *own, **ctx.constants)
        d_v, d_el = add_up(segments, d_v), add_up(segments, d_el)
        d_length = None if length is None else add_up(segments, d_length)
        return d_v, d_el, d_er, d_length, d_longest, None, None, None


@triton.jit
def _score(x, square, HAS_NORM: tl.constexpr, SLOPE: tl.constexpr, TINY: tl.constexpr):
    """``(s, f, r)``: the score, its derivative by ``x``, its derivative by ``square``."""
    f = leaky(x, SLOPE)
    r = f
    if HAS_NORM:
        root = reciprocal_root(square, TINY)
        f = f * root
        r = -0.5 * f * x * root * root
    return f * x, f, r


@triton.jit(do_not_specialize=["seed"])
def _forward(
    v,
    el,
    er,
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
    er_i = heads_of(er, i, h, has_head, H, FT)
    if length is not None:
        longest_i = heads_of(longest, i, h, has_head, H, FT)
    top = tl.full((BLOCK_E, BLOCK_H), LOWEST, FT)
    total = tl.zeros((BLOCK_E, BLOCK_H), FT)
    acc = tl.zeros((BLOCK_E, BLOCK_H, BLOCK_D), FT)
    for e in range(first, last, BLOCK_E):
        at, is_edge, j = block(e, last, other, BLOCK_E)
        mask = is_edge[:, None] & has_head[None, :]
        x = heads_of(el, j[:, None], h, mask, H, FT) + er_i
        square = x
        if length is not None:
            square = heads_of(length, j[:, None], h, mask, H, FT) + longest_i
        s, _, _ = _score(x, square, length is not None, SLOPE, TINY)
        top, total, before, p = softmax_step(top, total, s, mask)
        p = drop(p, edge, at, is_edge, h, seed, THRESHOLD, KEPT)
        exists = is_edge[:, None, None] & cells
        v_j = rows_of(v, j[:, None, None], column, exists, H, D, FT)
        acc = acc * before[:, :, None] + p[:, :, None] * v_j
    result, log_sum = finish_softmax(top, total, acc)
    tl.store(out + w * (H * D) + column, result, mask=cells)
    tl.store(lse + w * H + h, log_sum, mask=has_head)


@triton.jit(do_not_specialize=["seed"])
def _backward_in_edges(
    v,
    el,
    er,
    length,
    longest,
    lse,
    c,
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
    er_i = heads_of(er, i, h, has_head, H, FT)
    lse_i = heads_of(lse, i, h, has_head, H, FT)
    c_i = heads_of(c, i, h, has_head, H, FT)
    g_i = rows_of(g, i, column, cells, H, D, FT)
    if length is not None:
        longest_i = heads_of(longest, i, h, has_head, H, FT)
        r_v = tl.zeros((BLOCK_E, BLOCK_H, BLOCK_D), FT)
        r_sum = tl.zeros((BLOCK_E, BLOCK_H), FT)
    f_v = tl.zeros((BLOCK_E, BLOCK_H, BLOCK_D), FT)
    f_sum = tl.zeros((BLOCK_E, BLOCK_H), FT)
    for e in range(first, last, BLOCK_E):
        at, is_edge, j = block(e, last, other, BLOCK_E)
        mask = is_edge[:, None] & has_head[None, :]
        x = heads_of(el, j[:, None], h, mask, H, FT) + er_i
        square = x
        if length is not None:
            square = heads_of(length, j[:, None], h, mask, H, FT) + longest_i
        s, f, r = _score(x, square, length is not None, SLOPE, TINY)
        p = tl.where(mask, tl.exp(s - lse_i), 0.0)
        m_p = drop(p, edge, at, is_edge, h, seed, THRESHOLD, KEPT)
        exists = is_edge[:, None, None] & cells
        v_j = rows_of(v, j[:, None, None], column, exists, H, D, FT)
        f_v += (m_p * f)[:, :, None] * v_j
        f_sum += p * f
        if length is not None:
            r_v += (m_p * r)[:, :, None] * v_j
            r_sum += p * r
    by_er = tl.sum(tl.sum(f_v, 0) * g_i, 1) - c_i * tl.sum(f_sum, 0)
    tl.store(d_er + w * H + h, by_er, mask=has_head)
    if length is not None:
        by_longest = tl.sum(tl.sum(r_v, 0) * g_i, 1) - c_i * tl.sum(r_sum, 0)
        tl.store(d_longest + w * H + h, by_longest, mask=has_head)


@triton.jit(do_not_specialize=["seed"])
def _backward_out_edges(
    v,
    el,
    er,
    length,
    longest,
    lse,
    c,
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
    el_j = heads_of(el, j, h, has_head, H, FT)
    v_j = rows_of(v, j, column, cells, H, D, FT)
    if length is not None:
        length_j = heads_of(length, j, h, has_head, H, FT)
        r_g = tl.zeros((BLOCK_E, BLOCK_H, BLOCK_D), FT)
        r_c = tl.zeros((BLOCK_E, BLOCK_H), FT)
    p_g = tl.zeros((BLOCK_E, BLOCK_H, BLOCK_D), FT)
    f_g = tl.zeros((BLOCK_E, BLOCK_H, BLOCK_D), FT)
    f_c = tl.zeros((BLOCK_E, BLOCK_H), FT)
    for e in range(first, last, BLOCK_E):
        at, is_edge, i = block(e, last, other, BLOCK_E)
        mask = is_edge[:, None] & has_head[None, :]
        x = el_j + heads_of(er, i[:, None], h, mask, H, FT)
        square = x
        if length is not None:
            square = length_j + heads_of(longest, i[:, None], h, mask, H, FT)
        s, f, r = _score(x, square, length is not None, SLOPE, TINY)
        p = tl.where(mask, tl.exp(s - heads_of(lse, i[:, None], h, mask, H, FT)), 0.0)
        m_p = drop(p, edge, at, is_edge, h, seed, THRESHOLD, KEPT)
        p_c = p * heads_of(c, i[:, None], h, mask, H, FT)
        exists = is_edge[:, None, None] & cells
        g_i = rows_of(g, i[:, None, None], column, exists, H, D, FT)
        p_g += m_p[:, :, None] * g_i
        f_g += (m_p * f)[:, :, None] * g_i
        f_c += p_c * f
        if length is not None:
            r_g += (m_p * r)[:, :, None] * g_i
            r_c += p_c * r
    tl.store(d_v + w * (H * D) + column, tl.sum(p_g, 0), mask=cells)
    by_el = tl.sum(tl.sum(f_g, 0) * v_j, 1) - tl.sum(f_c, 0)
    tl.store(d_el + w * H + h, by_el, mask=has_head)
    if length is not None:
        by_length = tl.sum(tl.sum(r_g, 0) * v_j, 1) - tl.sum(r_c, 0)
        tl.store(d_length + w * H + h, by_length, mask=has_head)
