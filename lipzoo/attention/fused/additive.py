"""Additive scores on the CPU as an operator."""

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
from lipzoo.attention.scores import AdditiveScores
from lipzoo.attention.structure import Structure

__all__ = ["additive_attention"]

#: Scores up to here, either way, go through a softmax that is not shifted: no overflow.
_UNSHIFTED = 40.0
_KEPT = columns.NUM_KEPT["additive"]


def additive_attention(
    structure: Structure, scores: AdditiveScores, norm: LipschitzNorm | None, dropout: DropoutMask
) -> Tensor:
    """``sum_j m_ij p_ij v_j`` (N_dst, H, D) for additive scores, ``m`` the mask of the dropout."""
    # Nodes that are source and destination have one projection: its gradient is summed in place.
    v_src, v_dst, dtype = scores.v_src, scores.v_dst, plain.compute_dtype(scores.v_src)
    attn_l, attn_r = scores.attn_l.to(dtype), scores.attn_r.to(dtype)
    # Scores are at most alpha where a node sees its own projection.
    has_own = norm is not None and scores.with_own
    is_bounded = (
        norm is not None
        and norm.alpha <= _UNSHIFTED
        and (has_own or (v_dst is None and structure.has_all_self_loops))
    )
    tensors = v_src, v_dst, attn_l, attn_r
    return _ATTENTION(
        structure,
        dropout,
        tensors,
        (*plain.options_of(norm), has_own, is_bounded, scores.negative_slope),
    )


def _node_rows(kernels, launch, v, v_own, vectors, heads, has_norm, has_own):
    """``src`` and ``n_own`` of the kernels, which follow from the nodes alone."""
    src = np.empty((len(v), 2 * heads), kernels.number)
    n_own = np.empty((len(v_own) if has_own else 1, heads), kernels.number)
    launch(kernels.row_products, v, vectors.rows[0], src, columns.EL * heads)
    if has_norm:
        launch(kernels.lengths, v, src, columns.N)
    if has_own:
        launch(kernels.lengths, v_own, n_own, 0)
    return src, n_own


def _forward(
    index, dropout, v_src, v_dst, attn_l, attn_r, alpha, per_head, has_own, is_bounded, slope
):
    _, heads, width = v_src.shape
    has_norm, vectors = alpha > 0, ScaledVectors(alpha, per_head, attn_l, attn_r)
    kernels = kernels_for("additive", v_src.dtype, heads, width, has_norm, has_own)
    launch = Launcher(index.num_edges * heads * width)
    v = rows(v_src)
    v_own = v[: index.num_dst] if v_dst is None else rows(v_dst)
    src, n_own = _node_rows(kernels, launch, v, v_own, vectors, heads, has_norm, has_own)
    kept = np.empty((index.num_dst, _KEPT * heads), kernels.number)
    launch(kernels.row_products, v_own, vectors.rows[1], kept, 0)
    out = np.empty((index.num_dst, heads * width), v.dtype)
    numbers = kernels.number(slope), *dropout.numbers
    nodes = v, v, v, v, src, kept  # additive scores read src and kept alone
    launch(kernels.forward, index.in_edges(), *nodes, n_own, not is_bounded, numbers, out)
    # All else is quickly computed again.
    return tensor(out, v_src), torch.from_numpy(kept)


def _backward(
    index,
    dropout,
    v_src,
    v_dst,
    attn_l,
    attn_r,
    alpha,
    per_head,
    has_own,
    is_bounded,
    slope,
    out,
    kept,
    grad,
):
    _, heads, width = v_src.shape
    has_norm, vectors = alpha > 0, ScaledVectors(alpha, per_head, attn_l, attn_r)
    kernels = kernels_for("additive", v_src.dtype, heads, width, has_norm, has_own)
    launch = Launcher(index.num_edges * heads * width)
    v, g, num_dst = rows(v_src), rows(grad), index.num_dst
    own = v[:num_dst] if v_dst is None else rows(v_dst)
    src, n_own = _node_rows(kernels, launch, v, own, vectors, heads, has_norm, has_own)
    dst = columns.with_kept("additive", kept.numpy(), heads)
    launch(kernels.row_products, own, vectors.rows[1], dst, columns.ER * heads)
    numbers = kernels.number(slope), *dropout.numbers
    d_dst = np.empty((num_dst, 3 * heads), kernels.number)
    winner = np.empty((num_dst, heads), index.in_ends.numpy().dtype)
    nodes, d_v = (v, v, v, v, src, dst), np.empty(v.shape, kernels.number)
    # The in-edges first: they give c to the out-edges.
    sums = g, d_v, d_dst, d_v, winner
    launch(kernels.backward_in_edges, index.in_edges(), *nodes, n_own, numbers, rows(out), *sums)
    d_src = np.empty((len(v), 2 * heads), kernels.number)
    launch(kernels.backward_out_edges, index.out_edges(), *nodes, numbers, g, d_v, d_v, d_src)
    d_own = d_v[:num_dst] if v_dst is None else np.zeros(own.shape, kernels.number)
    if has_norm:
        kernels.give_to_winners(winner, d_dst, d_src)
        launch(kernels.add_from_lengths, v, src, d_src, columns.N, columns.N, d_v)
    if has_own:
        launch(kernels.add_from_lengths, own, n_own, d_dst, 0, columns.D_OWN * heads, d_own)
    d_l, d_r = (np.empty((NUM_CHUNKS, v.shape[1]), kernels.number) for _ in "lr")
    launch(kernels.combine, v, d_src, columns.EL * heads, vectors.rows[0], d_v, d_l)
    launch(kernels.combine, own, d_dst, columns.D_ER * heads, vectors.rows[1], d_own, d_r)
    return (
        tensor(d_v, v_src),
        None if v_dst is None else tensor(d_own, v_dst),
        *vectors.gradients([d_l.sum(0), d_r.sum(0)]),
    )


def _plainly(
    structure,
    dropout,
    alpha,
    per_head,
    has_own,
    is_bounded,
    slope,
    v_src,
    v_dst,
    attn_l,
    attn_r,
):
    """What the kernels compute, to be differentiated again."""
    ops = TorchOps(structure)
    if alpha:
        attn_l, attn_r = plain.scaled_vectors(alpha, per_head, attn_l, attn_r)
    scores = AdditiveScores(v_src, v_dst, attn_l, attn_r, slope)
    e = scores.compute(ops)
    if alpha:
        n = plain.squares(v_src)
        longest = ops.max_in(plain.lengths(*n))
        if has_own:
            own = plain.lengths(*plain.squares(scores.own(structure.num_dst)))
            longest = torch.maximum(longest, own)
        e = plain.divide_by_lengths(e, *n, longest, structure)
    return plain.attend(structure, e, v_src, dropout)


_ATTENTION = define(
    Attention(
        "additive_attention",
        {"v_src": False, "v_dst": True, "attn_l": False, "attn_r": False},
        {
            "alpha": "float",
            "per_head": "bool",
            "has_own": "bool",
            "is_bounded": "bool",
            "slope": "float",
        },
        _KEPT,
        _forward,
        _backward,
        _plainly,
    )
)
