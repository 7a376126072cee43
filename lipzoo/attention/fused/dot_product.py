"""Dot-product scores on the CPU as a function of autograd."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lipzoo.attention.fused.index import kernel_index
from lipzoo.attention.fused.runtime import Launcher, draw_seed, kernels_for, rows
from lipzoo.attention.ops import make_ops
from lipzoo.attention.score_norms import DotProductLipschitzNorm
from lipzoo.attention.scores import DotProductScores
from lipzoo.attention.structure import Structure

__all__ = ["dot_product_attention"]


def dot_product_attention(
    structure: Structure,
    scores: DotProductScores,
    score_norm: DotProductLipschitzNorm | None,
    attn_drop: float,
) -> Tensor:
    """The output (N_dst, H, D) for dot-product scores.

    The score norm divides all scores of a destination node by one number a head, so it divides
    its query instead.
    """
    query = scores.query / scores.query.shape[-1] ** 0.5
    if score_norm is not None:
        factor = score_norm.factor(scores, make_ops(structure, "auto", query))
        query = query * factor.unsqueeze(-1)
    return _DotProductAttention.apply(
        query, scores.key, scores.value, structure, attn_drop, draw_seed(attn_drop)
    )


class _DotProductAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query, key, value, structure, attn_drop, seed):
        _, heads, width = query.shape
        kernels = kernels_for("dot_product", query.dtype, heads, width)
        q, k, v = rows(query), rows(key), rows(value)
        dst = np.empty((structure.num_dst, 3 * heads), q.dtype)
        out = np.empty((structure.num_dst, heads * width), q.dtype)
        ctx.numbers = np.uint32(seed), q.dtype.type(1 - attn_drop)
        ctx.kernels, ctx.structure = kernels, structure
        launch = Launcher(structure.num_edges * query.shape[1:].numel())
        launch(kernels.forward, *kernel_index(structure).in_edges, q, k, v, dst, *ctx.numbers, out)
        result = torch.from_numpy(out).view(-1, heads, width)
        ctx.save_for_backward(query, key, value, torch.from_numpy(dst), result)
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        kernels, index = ctx.kernels, kernel_index(ctx.structure)
        saved = ctx.saved_tensors
        q, k, v, dst, out = (rows(x) for x in saved)
        g = rows(grad)
        d_q, d_k, d_v = np.empty_like(q), np.empty_like(k), np.empty_like(v)
        launch = Launcher(ctx.structure.num_edges * grad.shape[1:].numel())
        launch(kernels.row_products, g, out, dst)
        launch(
            kernels.backward_out_edges, *index.out_edges, q, k, v, dst, *ctx.numbers, g, d_k, d_v
        )
        launch(kernels.backward_in_edges, *index.in_edges, q, k, v, dst, *ctx.numbers, g, d_q)
        gradients = zip((d_q, d_k, d_v), saved)
        return (*(torch.from_numpy(d).view_as(x) for d, x in gradients), None, None, None)
