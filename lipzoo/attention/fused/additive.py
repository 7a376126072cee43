"""Additive scores on the CPU as a function of autograd."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lipzoo.attention.fused.index import NUM_CHUNKS, kernel_index
from lipzoo.attention.fused.runtime import Launcher, draw_seed, kernels_for, rows
from lipzoo.attention.score_norms import LipschitzNorm
from lipzoo.attention.scores import AdditiveScores
from lipzoo.attention.structure import Structure

__all__ = ["additive_attention"]

#: Scores up to here, either way, go through a softmax that is not shifted: no overflow.
_UNSHIFTED = 40.0


def additive_attention(
    structure: Structure,
    scores: AdditiveScores,
    score_norm: LipschitzNorm | None,
    attn_drop: float,
) -> Tensor:
    """The output (N_dst, H, D) for additive scores."""
    # Nodes that are source and destination have one projection: its gradient is summed in place.
    v_src, v_dst = scores.v_src, scores.v_dst
    is_shared = v_src.data_ptr() == v_dst.data_ptr() and v_src.stride() == v_dst.stride()
    scale = None if score_norm is None else score_norm.scale(scores).expand(1, v_src.shape[1])
    # Scores are at most alpha where a node sees its own projection.
    is_bounded = (
        is_shared
        and score_norm is not None
        and score_norm.alpha <= _UNSHIFTED
        and kernel_index(structure).has_all_loops
    )
    return _AdditiveAttention.apply(
        v_src,
        None if is_shared else v_dst,
        scores.attn_l,
        scores.attn_r,
        scale,
        structure,
        is_bounded,
        scores.negative_slope,
        attn_drop,
        draw_seed(attn_drop),
    )


class _AdditiveAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, v_src, v_dst, attn_l, attn_r, scale, structure, is_bounded, slope, attn_drop, seed
    ):
        _, heads, width = v_src.shape
        kernels = kernels_for("additive", v_src.dtype, heads, width, scale is not None)
        index = kernel_index(structure)
        v = rows(v_src)
        v_own = v[: structure.num_dst] if v_dst is None else rows(v_dst)
        number = v.dtype.type
        scales = np.ones(heads, v.dtype) if scale is None else rows(scale)[0]
        src = np.empty((len(v), 2 * heads), v.dtype)
        dst = np.empty((structure.num_dst, 5 * heads), v.dtype)
        out = np.empty((structure.num_dst, heads * width), v.dtype)
        ctx.numbers = number(slope), np.uint32(seed), number(1 - attn_drop)
        ctx.kernels, ctx.structure = kernels, structure
        launch = Launcher(structure.num_edges * v_src.shape[1:].numel())
        launch(kernels.source_rows, v, rows(attn_l)[0], src)
        launch(kernels.row_products, v_own, rows(attn_r), dst, 0)
        launch(
            kernels.forward, *index.in_edges, v, src, dst, scales, not is_bounded, *ctx.numbers, out
        )
        result = torch.from_numpy(out).view(-1, heads, width)
        kept = torch.from_numpy(src), torch.from_numpy(dst), result
        ctx.save_for_backward(v_src, v_dst, attn_l, attn_r, scale, *kept)
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        v_src, v_dst, attn_l, attn_r, scale, *kept = ctx.saved_tensors
        kernels, heads, num_dst = ctx.kernels, v_src.shape[1], ctx.structure.num_dst
        index = kernel_index(ctx.structure)
        src, dst, out = (rows(x) for x in kept)
        v, g = rows(v_src), rows(grad)
        scales = np.ones(heads, v.dtype) if scale is None else rows(scale)[0]
        d_v = np.empty_like(v)
        d_own = d_v[:num_dst] if v_dst is None else np.zeros((num_dst, v.shape[1]), v.dtype)
        d_src = np.empty((len(v), 2 * heads), v.dtype)
        d_dst = np.empty((num_dst, 2 * heads), v.dtype)
        winner = np.empty((num_dst, heads), np.int32)
        d_l, d_r = (np.empty((NUM_CHUNKS, v.shape[1]), v.dtype) for _ in "lr")
        has_norm = scale is not None
        launch = Launcher(ctx.structure.num_edges * grad.shape[1:].numel())
        launch(kernels.row_products, g, out, dst, 4 * heads)
        launch(
            kernels.backward_out_edges,
            *index.out_edges,
            v,
            src,
            dst,
            scales,
            *ctx.numbers,
            g,
            d_v,
            d_src,
        )
        launch(
            kernels.backward_in_edges,
            *index.in_edges,
            v,
            src,
            dst,
            scales,
            *ctx.numbers,
            g,
            d_dst,
            winner,
        )
        d_scale = _column_products(src, d_src, heads) + _column_products(dst, d_dst, heads)
        if has_norm:
            kernels.give_to_winners(winner, d_dst, d_src, heads)
        launch(kernels.combine, v, d_src, heads if has_norm else 0, rows(attn_l)[0], d_v, d_l)
        own = v[:num_dst] if v_dst is None else rows(v_dst)
        launch(kernels.combine, own, d_dst, 0, rows(attn_r)[0], d_own, d_r)
        return (
            torch.from_numpy(d_v).view_as(v_src),
            None if v_dst is None else torch.from_numpy(d_own).view_as(v_dst),
            torch.from_numpy(d_l.sum(0)).view_as(attn_l),
            torch.from_numpy(d_r.sum(0)).view_as(attn_r),
            torch.from_numpy(d_scale / scales).view_as(scale) if has_norm else None,
            *[None] * 5,
        )


def _column_products(x: np.ndarray, y: np.ndarray, heads: int) -> np.ndarray:
    return (x[:, :heads] * y[:, :heads]).sum(0, dtype=np.float64).astype(x.dtype)
