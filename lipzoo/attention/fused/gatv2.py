"""GATv2 scores on the CPU as an operator."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lipzoo.attention.fused import columns, plain
from lipzoo.attention.fused.dropout_mask import DropoutMask
from lipzoo.attention.fused.index import NUM_CHUNKS
from lipzoo.attention.fused.operators import Attention, define
from lipzoo.attention.fused.runtime import Launcher, kernels_for, rows, tensor
from lipzoo.attention.fused.scaled import ScaledVectors
from lipzoo.attention.ops import TorchOps
from lipzoo.attention.score_norms import LipschitzNorm
from lipzoo.attention.scores import GATv2Scores
from lipzoo.attention.structure import Structure

__all__ = ["gatv2_attention"]

_KEPT = columns.NUM_KEPT["gatv2"]


def gatv2_attention(
    structure: Structure, scores: GATv2Scores, norm: LipschitzNorm | None, dropout: DropoutMask
) -> Tensor:
    """``sum_j m_ij p_ij v_j`` (N_dst, H, D) for GATv2 scores, ``m`` the mask of the dropout."""
    attn = scores.attn.to(plain.compute_dtype(scores.v_src))
    options = *plain.options_of(norm), scores.negative_slope
    return _ATTENTION(structure, dropout, (scores.v_src, scores.v_dst, attn), options)


def _node_rows(kernels, launch, v, t, heads, has_norm):
    """``src`` and ``n_own`` of the kernels, which follow from the nodes alone."""
    src = np.empty((len(v), heads), kernels.number)
    n_own = np.empty((len(t) if has_norm else 1, heads), kernels.number)
    if has_norm:
        launch(kernels.lengths, v, src, columns.N)
        launch(kernels.lengths, t, n_own, 0)
    return src, n_own


def _forward(index, dropout, v_src, v_dst, attn, alpha, per_head, slope):
    _, heads, width = v_src.shape
    # The vector acts on both ends of an edge.
    has_norm, vectors = alpha > 0, ScaledVectors(alpha, per_head, attn, attn)
    kernels = kernels_for("gatv2", v_src.dtype, heads, width, has_norm, has_norm)
    launch = Launcher(index.num_edges * heads * width)
    v, t = rows(v_src), rows(v_dst)
    src, n_own = _node_rows(kernels, launch, v, t, heads, has_norm)
    kept = np.empty((len(t), _KEPT * heads), kernels.number)
    out = np.empty((index.num_dst, heads * width), v.dtype)
    numbers = kernels.number(slope), *dropout.numbers
    nodes = v, v, t, vectors.rows[0], src, kept
    launch(kernels.forward, index.in_edges(), *nodes, n_own, True, numbers, out)
    return tensor(out, v_src), torch.from_numpy(kept)


def _backward(index, dropout, v_src, v_dst, attn, alpha, per_head, slope, out, kept, grad):
    _, heads, width = v_src.shape
    has_norm, vectors = alpha > 0, ScaledVectors(alpha, per_head, attn, attn)
    kernels = kernels_for("gatv2", v_src.dtype, heads, width, has_norm, has_norm)
    launch = Launcher(index.num_edges * heads * width)
    v, t, g = rows(v_src), rows(v_dst), rows(grad)
    src, n_own = _node_rows(kernels, launch, v, t, heads, has_norm)
    dst = columns.with_kept("gatv2", kept.numpy(), heads)
    # To what is added later, the sums are rounded after that.
    d_v, d_t = (np.empty(x.shape, kernels.number if has_norm else x.dtype) for x in (v, t))
    d_src, d_dst = np.empty_like(src), np.empty((len(t), 2 * heads), kernels.number)
    winner = np.empty((len(t), heads), index.in_ends.numpy().dtype)
    d_a = np.empty((NUM_CHUNKS, v.shape[1]), kernels.number)
    nodes = v, v, t, vectors.rows[0], src, dst
    numbers = kernels.number(slope), *dropout.numbers
    # The in-edges first: they give c to the out-edges.
    sums = g, d_t, d_dst, d_a, winner
    launch(kernels.backward_in_edges, index.in_edges(), *nodes, n_own, numbers, rows(out), *sums)
    launch(kernels.backward_out_edges, index.out_edges(), *nodes, numbers, g, d_v, d_v, d_src)
    if has_norm:
        kernels.give_to_winners(winner, d_dst, d_src)
        launch(kernels.add_from_lengths, v, src, d_src, columns.N, columns.N, d_v)
        launch(kernels.add_from_lengths, t, n_own, d_dst, 0, columns.D_OWN * heads, d_t)
    return (
        tensor(d_v, v_src),
        tensor(d_t, v_dst),
        sum(vectors.gradients([d_a.sum(0), np.zeros_like(d_a[0])])),
    )


def _plainly(structure, dropout, alpha, per_head, slope, v_src, v_dst, attn):
    """What the kernels compute, to be differentiated again."""
    ops = TorchOps(structure)
    if alpha:
        attn, _ = plain.scaled_vectors(alpha, per_head, attn, attn)
    e = GATv2Scores(v_src, v_dst, attn, slope).compute(ops)
    if alpha:
        n = plain.squares(v_src)
        own = plain.lengths(*plain.squares(v_dst))
        longest = torch.maximum(ops.max_in(plain.lengths(*n)), own)
        e = plain.divide_by_lengths(e, *n, longest, structure)
    return plain.attend(structure, e, v_src, dropout)


_ATTENTION = define(
    Attention(
        "gatv2_attention",
        {"v_src": False, "v_dst": False, "attn": False},
        {"alpha": "float", "per_head": "bool", "slope": "float"},
        _KEPT,
        _forward,
        _backward,
        _plainly,
    )
)
