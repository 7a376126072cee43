r"""Triton kernels for dot-product scores.

The score norm divides all in-edges of a node by one number, so it goes, with ``1 / sqrt(D)``, into
the queries ``q`` beforehand, autograd included. The kernels::

    s = q_i·k_j,  p = exp(s - top_i) / z_i,  out_i = sum_j m p v_j      (m: dropout mask, 0 or 1)

and backward, with the output's gradient ``g``::

    d s_ij = p g_i·(m v_j - out_i)
    d q_i  = sum_j d s_ij k_j         d k_j = sum_i d s_ij q_i         d v_j = sum_i m p g_i
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
    new_like,
    rows_of,
    segment,
    signed,
)
from lipzoo.attention.fused.cuda.index import cuda_index
from lipzoo.attention.fused.cuda.maximum import NodeOps
from lipzoo.attention.fused.cuda.softmax import finish_softmax, merge_softmax, softmax_step
from lipzoo.attention.fused.dropout_mask import DropoutMask
from lipzoo.attention.ops import TorchOps
from lipzoo.attention.score_norms import DotProductLipschitzNorm
from lipzoo.attention.scores import DotProductScores
from lipzoo.attention.structure import Structure

__all__ = ["attend"]


def attend(
    structure: Structure,
    scores: DotProductScores,
    norm: DotProductLipschitzNorm | None,
    dropout: DropoutMask,
) -> Tensor:
    """``sum_j m_ij p_ij v_j`` (N_dst, H, D), ``m`` the mask of the dropout, as it is computed."""
    dtype = plain.compute_dtype(scores.value)
    exact = DotProductScores(*(t.to(dtype) for t in (scores.query, scores.key, scores.value)))
    if norm is not None:
        query, key = norm.balanced(exact, NodeOps(structure))
        key = key.to(scores.key.dtype)
    else:
        query, key = exact.query / exact.query.shape[-1] ** 0.5, scores.key
    return _Attention.apply(query, key, scores.value, structure, dropout)


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, structure, dropout):
        segments, dtype = cuda_index(structure).in_edges, q.dtype
        q, k, v = contiguous(q, k, v)
        _, heads, width = v.shape
        out = v.new_empty(segments.node.numel(), heads, width, dtype=dtype)
        top, total = out.new_empty(out.shape[:2]), out.new_empty(out.shape[:2])
        launch(
            _forward,
            segments,
            heads,
            width,
            dtype,
            *(q, k, v, out, top, total, signed(dropout.seed)),
            LOWEST=torch.finfo(dtype).min,
            THRESHOLD=dropout.threshold,
        )
        out, top, total = merge_softmax(segments, out, top, total)
        ctx.save_for_backward(q, k, v, top, total, out)
        ctx.structure, ctx.dropout = structure, dropout
        return out

    @staticmethod
    def backward(ctx, grad):
        q, k, v, top, total, out = ctx.saved_tensors
        if plain.is_differentiated():
            compute = partial(_plainly, ctx.structure, ctx.dropout)
            needed = ctx.needs_input_grad[:3]
            return *plain.gradients(compute, (q, k, v), needed, grad), None, None
        index, dtype, g = cuda_index(ctx.structure), q.dtype, grad.contiguous()
        _, heads, width = v.shape
        arguments = q, k, v, top, total, out, g
        seed, constants = signed(ctx.dropout.seed), {"THRESHOLD": ctx.dropout.threshold}

        segments = index.in_edges
        d_q = new_like(segments, q, dtype)
        own = (*arguments, d_q, seed)
        launch(_backward_in_edges, segments, heads, width, dtype, *own, **constants)
        d_q = add_up(segments, d_q)

        segments = index.out_edges
        d_k, d_v = new_like(segments, k, dtype), new_like(segments, v, dtype)
        own = (*arguments, d_k, d_v, seed)
        launch(_backward_out_edges, segments, heads, width, dtype, *own, **constants)
        return d_q, add_up(segments, d_k), add_up(segments, d_v), None, None


def _plainly(structure, dropout, q, k, v):
    """What the kernels compute, to be differentiated again."""
    k, v = k.to(q.dtype), v.to(q.dtype)
    return plain.attend(structure, TorchOps(structure).u_dot_v(k, q), v, dropout)


@triton.jit(do_not_specialize=["seed"])
def _forward(
    q,
    k,
    v,
    out,
    top,
    total,
    seed,
    node,
    begin,
    end,
    other,
    edge,
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
    q_i = rows_of(q, i, column, cells, H, D, FT)[None, :, :]
    highest = tl.full((BLOCK_E, BLOCK_H), LOWEST, FT)
    z = tl.zeros((BLOCK_E, BLOCK_H), FT)
    acc = tl.zeros((BLOCK_E, BLOCK_H, BLOCK_D), FT)
    for e in range(first, last, BLOCK_E):
        at, is_edge, j = block(e, last, other, BLOCK_E)
        mask = is_edge[:, None] & has_head[None, :]
        exists = is_edge[:, None, None] & cells
        k_j = rows_of(k, j[:, None, None], column, exists, H, D, FT)
        v_j = rows_of(v, j[:, None, None], column, exists, H, D, FT)
        highest, z, before, p = softmax_step(highest, z, tl.sum(q_i * k_j, 2), mask)
        p *= kept(p, edge, at, is_edge, h, seed, THRESHOLD)
        acc = acc * before[:, :, None] + p[:, :, None] * v_j
    result, top_i, total_i = finish_softmax(highest, z, acc)
    tl.store(out + w * (H * D) + column, result, mask=cells)
    tl.store(top + w * H + h, top_i, mask=has_head)
    tl.store(total + w * H + h, total_i, mask=has_head)


@triton.jit(do_not_specialize=["seed"])
def _backward_in_edges(
    q,
    k,
    v,
    top,
    total,
    out,
    g,
    d_q,
    seed,
    node,
    begin,
    end,
    other,
    edge,
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
    q_i = rows_of(q, i, column, cells, H, D, FT)[None, :, :]
    g_i = rows_of(g, i, column, cells, H, D, FT)[None, :, :]
    out_i = rows_of(out, i, column, cells, H, D, FT)[None, :, :]
    top_i = heads_of(top, i, h, has_head, H, FT)
    total_i = heads_of(total, i, h, has_head, H, FT)
    by_q = tl.zeros((BLOCK_E, BLOCK_H, BLOCK_D), FT)
    for e in range(first, last, BLOCK_E):
        at, is_edge, j = block(e, last, other, BLOCK_E)
        mask = is_edge[:, None] & has_head[None, :]
        exists = is_edge[:, None, None] & cells
        k_j = rows_of(k, j[:, None, None], column, exists, H, D, FT)
        v_j = rows_of(v, j[:, None, None], column, exists, H, D, FT)
        p = tl.where(mask, tl.exp(tl.sum(q_i * k_j, 2) - top_i) / total_i, 0.0)
        m = kept(p, edge, at, is_edge, h, seed, THRESHOLD)
        d_s = p * tl.sum(g_i * (m[:, :, None] * v_j - out_i), 2)
        by_q += d_s[:, :, None] * k_j
    tl.store(d_q + w * (H * D) + column, tl.sum(by_q, 0), mask=cells)


@triton.jit(do_not_specialize=["seed"])
def _backward_out_edges(
    q,
    k,
    v,
    top,
    total,
    out,
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
        out_i = rows_of(out, i[:, None, None], column, exists, H, D, FT)
        top_i = heads_of(top, i[:, None], h, mask, H, FT)
        total_i = tl.where(mask, heads_of(total, i[:, None], h, mask, H, FT), 1.0)
        p = tl.where(mask, tl.exp(tl.sum(q_i * k_j, 2) - top_i) / total_i, 0.0)
        m = kept(p, edge, at, is_edge, h, seed, THRESHOLD)
        d_s = p * tl.sum(g_i * (m[:, :, None] * v_j - out_i), 2)
        by_k += d_s[:, :, None] * q_i
        p_g += (m * p)[:, :, None] * g_i
    tl.store(d_k + w * (H * D) + column, tl.sum(by_k, 0), mask=cells)
    tl.store(d_v + w * (H * D) + column, tl.sum(p_g, 0), mask=cells)
