"""GATv2 scores on the CPU as a function of autograd."""

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
from lipzoo.attention.scores import GATv2Scores
from lipzoo.attention.structure import Structure

__all__ = ["gatv2_attention"]


def gatv2_attention(
    structure: Structure, scores: GATv2Scores, norm: LipschitzNorm | None, dropout: DropoutMask
) -> Tensor:
    """``sum_j m_ij p_ij v_j`` (N_dst, H, D) for GATv2 scores, ``m`` the mask of the dropout."""
    attn = scores.attn
    if norm is not None:
        attn, _ = plain.scaled_vectors(norm, attn, attn)
    return _GATv2Attention.apply(
        scores.v_src,
        scores.v_dst,
        attn,
        structure,
        norm is not None,
        scores.negative_slope,
        dropout,
    )


class _GATv2Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v_src, v_dst, attn, structure, has_norm, slope, dropout):
        _, heads, width = v_src.shape
        kernels = kernels_for("gatv2", v_src.dtype, heads, width, has_norm)
        v, t = rows(v_src), rows(v_dst)
        src = np.zeros((len(v), heads), v.dtype)
        dst = np.empty((structure.num_dst, 5 * heads), v.dtype)
        out = np.empty((structure.num_dst, heads * width), v.dtype)
        ctx.numbers = v.dtype.type(slope), np.uint32(dropout.seed), np.uint32(dropout.threshold)
        ctx.kernels, ctx.structure, ctx.drops = kernels, structure, dropout.drops
        ctx.has_norm = has_norm
        ctx.plainly = partial(_plainly, structure, has_norm, slope, dropout)
        launch = Launcher(structure.num_edges * v_src.shape[1:].numel())
        if has_norm:
            launch(kernels.lengths, v, heads, kernels.tiny, src, 0)
            launch(kernels.lengths, t, heads, kernels.tiny, dst, 4 * heads)
        index = kernel_index(structure)
        launch(
            kernels.forward,
            *index.in_edges(ctx.drops),
            v,
            t,
            rows(attn)[0],
            src,
            dst,
            *ctx.numbers,
            out,
        )
        result = torch.from_numpy(out).view(-1, heads, width)
        kept = torch.from_numpy(src), torch.from_numpy(dst), result
        ctx.save_for_backward(v_src, v_dst, attn, *kept)
        return result

    @staticmethod
    def backward(ctx, grad):
        v_src, v_dst, attn, *kept = ctx.saved_tensors
        if plain.is_differentiated():
            inputs, needed = (v_src, v_dst, attn), ctx.needs_input_grad[:3]
            return *plain.gradients(ctx.plainly, inputs, needed, grad), *[None] * 4
        kernels, heads = ctx.kernels, v_src.shape[1]
        index = kernel_index(ctx.structure)
        src, dst, out = (rows(x) for x in kept)
        v, t, g = rows(v_src), rows(v_dst), rows(grad)
        d_v, d_t = np.empty_like(v), np.empty_like(t)
        d_src, d_dst = np.empty_like(src), np.empty((len(t), heads), v.dtype)
        winner = np.empty((len(t), heads), index.dtype)
        d_a = np.empty((NUM_CHUNKS, v.shape[1]), v.dtype)
        nodes = v, t, rows(attn)[0], src, dst
        launch = Launcher(ctx.structure.num_edges * grad.shape[1:].numel())
        # The in-edges first: they give c to the out-edges.
        launch(
            kernels.backward_in_edges,
            *index.in_edges(ctx.drops),
            *(*nodes, out, *ctx.numbers, g, d_t, d_dst, d_a, winner),
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
            kernels.give_to_winners(winner, d_dst, d_src, 0)
            launch(kernels.add_from_lengths, v, src, d_src, heads, 0, kernels.tiny, d_v)
        return (
            torch.from_numpy(d_v).view_as(v_src),
            torch.from_numpy(d_t).view_as(v_dst),
            torch.from_numpy(d_a.sum(0)).view_as(attn),
            *[None] * 4,
        )


def _plainly(structure, has_norm, slope, dropout, v_src, v_dst, attn):
    """What the kernels compute, to be differentiated again."""
    ops = TorchOps(structure)
    e = GATv2Scores(v_src, v_dst, attn, slope).compute(ops)
    if has_norm:
        n = plain.squares(v_src)
        own = plain.lengths(*plain.squares(v_dst))
        longest = torch.maximum(ops.max_in(plain.lengths(*n)), own)
        e = plain.divide_by_lengths(e, *n, longest, structure)
    return plain.attend(structure, e, v_src, dropout)
