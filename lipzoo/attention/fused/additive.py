"""Additive scores on the CPU as a function of autograd."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from lipzoo.attention.fused import plain
from lipzoo.attention.fused.dropout_mask import DropoutMask
from lipzoo.attention.fused.index import NUM_CHUNKS, kernel_index
from lipzoo.attention.fused.runtime import Launcher, kernels_for, rows
from lipzoo.attention.ops import TorchOps
from lipzoo.attention.score_norms import LipschitzNorm
from lipzoo.attention.scores import AdditiveScores
from lipzoo.attention.structure import Structure

__all__ = ["additive_attention"]

#: Scores up to here, either way, go through a softmax that is not shifted: no overflow.
_UNSHIFTED = 40.0


def additive_attention(
    structure: Structure, scores: AdditiveScores, norm: LipschitzNorm | None, dropout: DropoutMask
) -> Tensor:
    """``sum_j m_ij p_ij v_j`` (N_dst, H, D) for additive scores, ``m`` the mask of the dropout."""
    # Nodes that are source and destination have one projection: its gradient is summed in place.
    v_src, v_dst, attn_l, attn_r = scores.v_src, scores.v_dst, scores.attn_l, scores.attn_r
    if norm is not None:
        attn_l, attn_r = plain.scaled_vectors(norm, attn_l, attn_r)
    # Scores are at most alpha where a node sees its own projection.
    has_own = norm is not None and scores.with_own
    is_bounded = (
        norm is not None
        and norm.alpha <= _UNSHIFTED
        and (has_own or (v_dst is None and structure.has_all_self_loops))
    )
    return _AdditiveAttention.apply(
        v_src,
        v_dst,
        attn_l,
        attn_r,
        structure,
        norm is not None,
        has_own,
        is_bounded,
        scores.negative_slope,
        dropout,
    )


class _AdditiveAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx,
        v_src,
        v_dst,
        attn_l,
        attn_r,
        structure,
        has_norm,
        has_own,
        is_bounded,
        slope,
        dropout,
    ):
        _, heads, width = v_src.shape
        kernels = kernels_for("additive", v_src.dtype, heads, width, has_norm, has_own)
        v = rows(v_src)
        v_own = v[: structure.num_dst] if v_dst is None else rows(v_dst)
        src = np.empty((len(v), 2 * heads), v.dtype)
        dst = np.empty((structure.num_dst, 5 * heads), v.dtype)
        n_own = np.empty((structure.num_dst if has_own else 1, heads), v.dtype)
        out = np.empty((structure.num_dst, heads * width), v.dtype)
        ctx.numbers = v.dtype.type(slope), np.uint32(dropout.seed), np.uint32(dropout.threshold)
        ctx.kernels, ctx.structure, ctx.drops = kernels, structure, dropout.drops
        ctx.has_norm, ctx.has_own = has_norm, has_own
        ctx.plainly = partial(_plainly, structure, has_norm, has_own, slope, dropout)
        launch = Launcher(structure.num_edges * v_src.shape[1:].numel())
        launch(kernels.row_products, v, rows(attn_l)[0], src)
        launch(kernels.row_products, v_own, rows(attn_r)[0], dst)
        if has_norm:
            launch(kernels.lengths, v, heads, kernels.tiny, src, heads)
        if has_own:
            launch(kernels.lengths, v_own, heads, kernels.tiny, n_own, 0)
        index = kernel_index(structure)
        nodes = v, src, dst, n_own
        launch(
            kernels.forward, *index.in_edges(ctx.drops), *nodes, not is_bounded, *ctx.numbers, out
        )
        result = torch.from_numpy(out).view(-1, heads, width)
        kept = *map(torch.from_numpy, (src, dst, n_own)), result
        ctx.save_for_backward(v_src, v_dst, attn_l, attn_r, *kept)
        return result

    @staticmethod
    def backward(ctx, grad):
        v_src, v_dst, attn_l, attn_r, *kept = ctx.saved_tensors
        if plain.is_differentiated():
            inputs = v_src, v_dst, attn_l, attn_r
            needed = ctx.needs_input_grad[:4]
            return *plain.gradients(ctx.plainly, inputs, needed, grad), *[None] * 6
        kernels, heads, num_dst = ctx.kernels, v_src.shape[1], ctx.structure.num_dst
        index = kernel_index(ctx.structure)
        src, dst, n_own, out = (rows(x) for x in kept)
        v, g = rows(v_src), rows(grad)
        own = v[:num_dst] if v_dst is None else rows(v_dst)
        d_v = np.empty_like(v)
        d_own = d_v[:num_dst] if v_dst is None else np.zeros_like(own)
        d_src = np.empty((len(v), 2 * heads), v.dtype)
        d_dst = np.empty((num_dst, 2 * heads), v.dtype)
        winner = np.empty((num_dst, heads), index.dtype)
        d_l, d_r = (np.empty((NUM_CHUNKS, v.shape[1]), v.dtype) for _ in "lr")
        launch = Launcher(ctx.structure.num_edges * grad.shape[1:].numel())
        nodes = v, src, dst
        # The in-edges first: they give c to the out-edges.
        launch(
            kernels.backward_in_edges,
            *index.in_edges(ctx.drops),
            *(*nodes, n_own, out, *ctx.numbers, g, d_dst, winner),
        )
        launch(
            kernels.backward_out_edges,
            *index.out_edges(ctx.drops),
            *nodes,
            *ctx.numbers,
            g,
            d_v,
            d_src,
        )
        if ctx.has_norm:
            kernels.give_to_winners(winner, d_dst, d_src, heads)
            launch(kernels.add_from_lengths, v, src, d_src, heads, heads, kernels.tiny, d_v)
        if ctx.has_own:
            d_n = np.where(winner < 0, d_dst[:, heads:], 0)
            launch(kernels.add_from_lengths, own, n_own, d_n, heads, 0, kernels.tiny, d_own)
        launch(kernels.combine, v, d_src, rows(attn_l)[0], d_v, d_l)
        launch(kernels.combine, own, d_dst, rows(attn_r)[0], d_own, d_r)
        return (
            torch.from_numpy(d_v).view_as(v_src),
            None if v_dst is None else torch.from_numpy(d_own).view_as(v_dst),
            torch.from_numpy(d_l.sum(0)).view_as(attn_l),
            torch.from_numpy(d_r.sum(0)).view_as(attn_r),
            *[None] * 6,
        )


def _plainly(structure, has_norm, has_own, slope, dropout, v_src, v_dst, attn_l, attn_r):
    """What the kernels compute, to be differentiated again."""
    ops = TorchOps(structure)
    scores = AdditiveScores(v_src, v_dst, attn_l, attn_r, slope)
    e = scores.compute(ops)
    if has_norm:
        n = plain.squares(v_src)
        longest = ops.max_in(plain.lengths(*n))
        if has_own:
            own = plain.lengths(*plain.squares(scores.own(structure.num_dst)))
            longest = torch.maximum(longest, own)
        e = plain.divide_by_lengths(e, *n, longest, structure)
    return plain.attend(structure, e, v_src, dropout)
