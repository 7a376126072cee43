r"""Triton kernels for dot-product scores.

The score norm divides all in-edges of a node by one number, so it goes, with ``1 / sqrt(D)``, into
the queries ``q`` beforehand, autograd included. The kernels::

    s = q_i·k_j,  p = exp(s - lse_i),  out_i = sum_j m p v_j            (m: dropout mask / kept)

and backward, with the output's gradient ``g`` and ``c_i = g_i·out_i``::

    d s_ij = p (m g_i·v_j - c_i)
    d q_i  = sum_j d s_ij k_j         d k_j = sum_i d s_ij q_i         d v_j = sum_i m p g_i
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
    new_like,
    rows_of,
    segment,
)
from lipzoo.attention.fused.cuda.dropout import Dropout
from lipzoo.attention.fused.cuda.index import cuda_index
from lipzoo.attention.fused.cuda.maximum import NodeOps
from lipzoo.attention.fused.cuda.softmax import finish_softmax, merge_softmax, softmax_step
from lipzoo.attention.score_norms import DotProductLipschitzNorm
from lipzoo.attention.scores import DotProductScores
from lipzoo.attention.structure import Structure

__all__ = ["attend"]


def attend(
    structure: Structure,
    scores: DotProductScores,
    norm: DotProductLipschitzNorm | None,
    dropout: Dropout,
) -> Tensor:
    """The output (N_dst, H, D) for dot-product scores."""
    dtype = compute_dtype(scores.value)
    exact = DotProductScores(*(t.to(dtype) for t in (scores.query, scores.key, scores.value)))
    query = exact.query / exact.query.shape[-1] ** 0.5
    if norm is not None:
        query = query * norm.factor(exact, NodeOps(structure)).unsqueeze(-1)
    return _Attention.apply(query, scores.key, scores.value, structure, dropout)


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, structure, dropout):
        segments, dtype = cuda_index(structure).in_edges, q.dtype
        q, k, v = contiguous(q, k, v)
        _, heads, width = v.shape
        out = v.new_empty(segments.node.numel(), heads, width, dtype=dtype)
        lse = out.new_empty(out.shape[:2])
        launch(
            _forward,
            segments,
            heads,
            width,
            dtype,
            *(q, k, v, out, lse, dropout.seed),
            LOWEST=torch.finfo(dtype).min,
            **dropout.constants,
        )
        out, lse = merge_softmax(segments, out, lse)
        ctx.save_for_backward(q, k, v, lse, out)
        ctx.structure, ctx.dropout = structure, dropout
        return out.to(v.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        q, k, v, lse, out = ctx.saved_tensors
        index, dtype, g = cuda_index(ctx.structure), q.dtype, grad.contiguous()
        _, heads, width = v.shape
        c = (g * out).sum(-1)
        arguments, constants = (q, k, v, lse, c, g), ctx.dropout.constants

        segments = index.in_edges
        d_q = new_like(segments, q, dtype)
        own = (*arguments, d_q, ctx.dropout.seed)
        launch(_backward_in_edges, segments, heads, width, dtype, *own, **constants)
        d_q = add_up(segments, d_q)

        segments = index.out_edges
        d_k, d_v = new_like(segments, k, dtype), new_like(segments, v, dtype)
        own = (*arguments, d_k, d_v, ctx.dropout.seed)
        launch(_backward_out_edges, segments, heads, width, dtype, *own, **constants)
        return d_q, add_up(segments, d_k), add_up(segments, d_v), None, None


@triton.jit(do_not_specialize=["seed"])
def _forward(
    q,
    k,
    v,
    out,
    lse,
    seed,
    node,
    begin,
    end,
    other,
    edge,
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
    q_i = rows_of(q, i, column, cells, H, D, FT)[None, :, :]
    top = tl.full((BLOCK_E, BLOCK_H), LOWEST, FT)
    total = tl.zeros((BLOCK_E, BLOCK_H), FT)
    acc = tl.zeros((BLOCK_E, BLOCK_H, BLOCK_D), FT)
    for e in range(first, last, BLOCK_E):
        at, is_edge, j = block(e, last, other, BLOCK_E)
        mask = is_edge[:, None] & has_head[None, :]
        exists = is_edge[:, None, None] & cells
        k_j = rows_of(k, j[:, None, None], column, exists, H, D, FT)
        v_j = rows_of(v, j[:, None, None], column, exists, H, D, FT)
        top, total, before, p = softmax_step(top, total, tl.sum(q_i * k_j, 2), mask)
        p = drop(p, edge, at, is_edge, h, seed, THRESHOLD, KEPT)
        acc = acc * before[:, :, None] + p[:, :, None] * v_j
    result, log_sum = finish_softmax(top, total, acc)
    tl.store(out + w * (H * D) + column, result, mask=cells)
    tl.store(lse + w * H + h, log_sum, mask=has_head)


@triton.jit(do_not_specialize=["seed"])
def _backward_in_edges(
    q,
    k,
    v,
    lse,
    c,
    g,
    d_q,
    seed,
    node,
    begin,
    end,
    other,
    edge,
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
    q_i = rows_of(q, i, column, cells, H, D, FT)[None, :, :]
    g_i = rows_of(g, i, column, cells, H, D, FT)[None, :, :]
    lse_i = heads_of(lse, i, h, has_head, H, FT)
    c_i = heads_of(c, i, h, has_head, H, FT)
    by_q = tl.zeros((BLOCK_E, BLOCK_H, BLOCK_D), FT)
    for e in range(first, last, BLOCK_E):
        at, is_edge, j = block(e, last, other, BLOCK_E)
        mask = is_edge[:, None] & has_head[None, :]
        exists = is_edge[:, None, None] & cells
        k_j = rows_of(k, j[:, None, None], column, exists, H, D, FT)
        v_j = rows_of(v, j[:, None, None], column, exists, H, D, FT)
        p = tl.where(mask, tl.exp(tl.sum(q_i * k_j, 2) - lse_i), 0.0)
        m_p = drop(p, edge, at, is_edge, h, seed, THRESHOLD, KEPT)
        d_s = m_p * tl.sum(g_i * v_j, 2) - p * c_i
        by_q += d_s[:, :, None] * k_j
    tl.store(d_q + w * (H * D) + column, tl.sum(by_q, 0), mask=cells)


@triton.jit(do_not_specialize=["seed"])
def _backward_out_edges(
    q,
    k,
    v,
    lse,
    c,
    g,
    d_k,
    d_v,
    seed,
    node,
    begin,
    end,
    other,
    edge,
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
    k_j = rows_of(k, j, column, cells, H, D, FT)[None, :, :]
    v_j = rows_of(v, j, column, cells, H, D, FT)[None, :, :]
    by_k = tl.zeros((BLOCK_E, BLOCK_H, BLOCK_D), FT)
    p_g = tl.zeros((BLOCK_E, BLOCK_H, BLOCK_D), FT)
    for e in range(first, last, BLOCK_E):
        at, is_edge, i = block(e, last, other, BLOCK_E)
        mask = is_edge[:, None] & has_head[None, :]
        exists = is_edge[:, None, None] & cells
        q_i = rows_of(q, i[:, None, None], column, exists, H, D, FT)
        g_i = rows_of(g, i[:, None, None], column, exists, H, D, FT)
        s = tl.sum(q_i * k_j, 2)
        p = tl.where(mask, tl.exp(s - heads_of(lse, i[:, None], h, mask, H, FT)), 0.0)
        m_p = drop(p, edge, at, is_edge, h, seed, THRESHOLD, KEPT)
        d_s = m_p * tl.sum(g_i * v_j, 2) - p * heads_of(c, i[:, None], h, mask, H, FT)
        by_k += d_s[:, :, None] * q_i
        p_g += m_p[:, :, None] * g_i
    tl.store(d_k + w * (H * D) + column, tl.sum(by_k, 0), mask=cells)
    tl.store(d_v + w * (H * D) + column, tl.sum(p_g, 0), mask=cells)
