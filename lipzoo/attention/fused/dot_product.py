"""Dot-product scores on the CPU as a function of autograd."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from lipzoo.attention.fused import plain
from lipzoo.attention.fused.dropout_mask import DropoutMask
from lipzoo.attention.fused.index import kernel_index
from lipzoo.attention.fused.runtime import Launcher, kernels_for, rows
from lipzoo.attention.ops import TorchOps, make_ops
from lipzoo.attention.score_norms import DotProductLipschitzNorm
from lipzoo.attention.scores import DotProductScores
from lipzoo.attention.structure import Structure

__all__ = ["dot_product_attention"]


def dot_product_attention(
    structure: Structure,
    scores: DotProductScores,
    norm: DotProductLipschitzNorm | None,
    dropout: DropoutMask,
) -> Tensor:
    """``sum_j m_ij p_ij v_j`` (N_dst, H, D) for dot-product scores, ``m`` the mask of the dropout.

    The score norm divides all scores of a destination node by one number a head, so it divides
    its query instead.
    """
    query = scores.query
    if norm is not None:
        query = norm.divide_query(scores, make_ops(structure, "auto", query))
    query = query / query.shape[-1] ** 0.5
    return _DotProductAttention.apply(query, scores.key, scores.value, structure, dropout)


class _DotProductAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query, key, value, structure, dropout):
        _, heads, width = query.shape
        kernels = kernels_for("dot_product", query.dtype, heads, width)
        q, k, v = rows(query), rows(key), rows(value)
        dst = np.empty((structure.num_dst, 3 * heads), q.dtype)
        out = np.empty((structure.num_dst, heads * width), q.dtype)
        ctx.numbers = np.uint32(dropout.seed), np.uint32(dropout.threshold)
        ctx.kernels, ctx.structure, ctx.drops = kernels, structure, dropout.drops
        ctx.plainly = partial(_plainly, structure, dropout)
        launch = Launcher(structure.num_edges * query.shape[1:].numel())
        index = kernel_index(structure)
        launch(kernels.forward, *index.in_edges(ctx.drops), q, k, v, dst, *ctx.numbers, out)
        result = torch.from_numpy(out).view(-1, heads, width)
        ctx.save_for_backward(query, key, value, torch.from_numpy(dst), result)
        return result

    @staticmethod
    def backward(ctx, grad):
        *inputs, dst, out = ctx.saved_tensors
        if plain.is_differentiated():
            needed = ctx.needs_input_grad[:3]
            return *plain.gradients(ctx.plainly, inputs, needed, grad), None, None
        kernels, index = ctx.kernels, kernel_index(ctx.structure)
        q, k, v, dst, out, g = (rows(x) for x in (*inputs, dst, out, grad))
        d_q, d_k, d_v = np.empty_like(q), np.empty_like(k), np.empty_like(v)
        launch = Launcher(ctx.structure.num_edges * grad.shape[1:].numel())
        nodes = q, k, v, dst
        # The in-edges first: they give c to the out-edges.
        launch(
            kernels.backward_in_edges, *index.in_edges(ctx.drops), *nodes, out, *ctx.numbers, g, d_q
        )
        launch(
            kernels.backward_out_edges,
            *index.out_edges(ctx.drops),
            *nodes,
            *ctx.numbers,
            g,
            d_k,
            d_v,
        )
        gradients = zip((d_q, d_k, d_v), inputs)
        return (*(torch.from_numpy(d).view_as(x) for d, x in gradients), None, None)


def _plainly(structure, dropout, query, key, value):
    """What the kernels compute, to be differentiated again."""
    return plain.attend(structure, TorchOps(structure).u_dot_v(key, query), value, dropout)
