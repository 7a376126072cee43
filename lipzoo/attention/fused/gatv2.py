"""GATv2 scores on the CPU as a function of autograd."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lipzoo.attention.fused.index import NUM_CHUNKS, kernel_index
from lipzoo.attention.fused.runtime import Launcher, draw_seed, kernels_for, rows
from lipzoo.attention.score_norms import LipschitzNorm
from lipzoo.attention.scores import GATv2Scores
from lipzoo.attention.structure import Structure

__all__ = ["gatv2_attention"]


def gatv2_attention(
    structure: Structure, scores: GATv2Scores, score_norm: LipschitzNorm | None, attn_drop: float
) -> Tensor:
    """The output (N_dst, H, D) for GATv2 scores."""
    heads = scores.v_src.shape[1]
    return _GATv2Attention.apply(
        scores.v_src,
        scores.v_dst,
        scores.attn,
        None if score_norm is None else score_norm.scale(scores).expand(1, heads),
        structure,
        scores.negative_slope,
        attn_drop,
        draw_seed(attn_drop),
    )


class _GATv2Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v_src, v_dst, attn, scale, structure, slope, attn_drop, seed):
        _, heads, width = v_src.shape
        kernels = kernels_for("gatv2", v_src.dtype, heads, width, scale is not None)
        v, t = rows(v_src), rows(v_dst)
        number = v.dtype.type
        scales = np.ones(heads, v.dtype) if scale is None else rows(scale)[0]
        src = np.zeros((len(v), heads), v.dtype)
        dst = np.empty((structure.num_dst, 5 * heads), v.dtype)
        out = np.empty((structure.num_dst, heads * width), v.dtype)
        ctx.numbers = number(slope), np.uint32(seed), number(1 - attn_drop)
        ctx.kernels, ctx.structure = kernels, structure
        launch = Launcher(structure.num_edges * v_src.shape[1:].numel())
        if scale is not None:
            launch(kernels.squares, v, src, 0)
            launch(kernels.squares, t, dst, 4 * heads)
        launch(
            kernels.forward,
            *kernel_index(structure).in_edges,
            *(v, t, rows(attn)[0], src, dst, scales, *ctx.numbers, out),
        )
        result = torch.from_numpy(out).view(-1, heads, width)
        kept = torch.from_numpy(src), torch.from_numpy(dst), result
        ctx.save_for_backward(v_src, v_dst, attn, scale, *kept)
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        v_src, v_dst, attn, scale, *kept = ctx.saved_tensors
        kernels, heads = ctx.kernels, v_src.shape[1]
        index = kernel_index(ctx.structure)
        src, dst, out = (rows(x) for x in kept)
        v, t, a, g = rows(v_src), rows(v_dst), rows(attn)[0], rows(grad)
        scales = np.ones(heads, v.dtype) if scale is None else rows(scale)[0]
        d_v, d_t = np.empty_like(v), np.empty_like(t)
        d_src, d_dst = np.empty_like(src), np.empty((len(t), heads), v.dtype)
        winner = np.empty((len(t), heads), np.int32)
        d_a = np.empty((NUM_CHUNKS, v.shape[1]), v.dtype)
        numbers = (dst, scales, *ctx.numbers, g)
        launch = Launcher(ctx.structure.num_edges * grad.shape[1:].numel())
        launch(kernels.row_products, g, out, dst)
        launch(kernels.backward_out_edges, *index.out_edges, v, t, a, src, *numbers, d_v, d_src)
        launch(
            kernels.backward_in_edges,
            *index.in_edges,
            v,
            t,
            a,
            src,
            *numbers,
            d_t,
            d_dst,
            d_a,
            winner,
        )
        if scale is not None:
            kernels.give_to_winners(winner, d_dst, d_src, 0)
            launch(kernels.add_from_squares, v, d_src, d_v)
        d_attn = d_a.sum(0)
        # The scores are linear in the attention vectors: both ways of scaling them are one.
        d_scale = (d_attn * a).reshape(heads, -1).sum(-1) / scales
        return (
            torch.from_numpy(d_v).view_as(v_src),
            torch.from_numpy(d_t).view_as(v_dst),
            torch.from_numpy(d_attn).view_as(attn),
            None if scale is None else torch.from_numpy(d_scale).view_as(scale),
            *[None] * 4,
        )
