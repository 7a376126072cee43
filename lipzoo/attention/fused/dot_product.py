"""Dot-product scores on the CPU as an operator."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lipzoo.attention.fused import columns, plain
from lipzoo.attention.fused.balanced import BalancedRows
from lipzoo.attention.fused.dropout_mask import DropoutMask
from lipzoo.attention.fused.operators import Attention, define
from lipzoo.attention.fused.runtime import Launcher, kernels_for, rows, tensor
from lipzoo.attention.ops import TorchOps, make_ops
from lipzoo.attention.score_norms import DotProductLipschitzNorm
from lipzoo.attention.scores import DotProductScores
from lipzoo.attention.structure import Structure

__all__ = ["dot_product_attention"]

_KEPT = columns.NUM_KEPT["dot_product"]


def dot_product_attention(
    structure: Structure,
    scores: DotProductScores,
    norm: DotProductLipschitzNorm | None,
    dropout: DropoutMask,
) -> Tensor:
    """``sum_j m_ij p_ij v_j`` (N_dst, H, D) for dot-product scores, ``m`` the mask of the dropout.

    The score norm divides all scores of a destination node by one number a head, so it divides
    its query instead: within the operator where that follows from the node's neighbours alone.
    """
    query, key, is_normed = scores.query, scores.key, norm is not None and norm.scope == "node"
    if norm is None:
        query = query / query.shape[-1] ** 0.5
    elif not is_normed:
        query, key = norm.balanced(scores, make_ops(structure, "auto", query))
        query = query.to(scores.value.dtype)
    return _ATTENTION(structure, dropout, (query, key, scores.value), (is_normed,))


def _forward(index, dropout, query, key, value, is_normed):
    _, heads, width = query.shape
    kernels = kernels_for("dot_product", query.dtype, heads, width)
    launch = Launcher(index.num_edges * heads * width)
    q, k, v = map(rows, (query, key, value))
    if is_normed:
        balanced = BalancedRows(kernels, launch, index.in_edges(), q, k, v, heads)
        q, k = balanced.query, balanced.key
    kept = np.empty((len(q), _KEPT * heads), kernels.number)
    out = np.empty((len(q), heads * width), q.dtype)
    nodes = v, k, q, v, v, kept  # no attention vectors, and no numbers of source nodes
    numbers = kernels.number(0), *dropout.numbers
    launch(kernels.forward, index.in_edges(), *nodes, v, True, numbers, out)
    return tensor(out, query), torch.from_numpy(kept)


def _backward(index, dropout, query, key, value, is_normed, out, kept, grad):
    _, heads, width = query.shape
    kernels = kernels_for("dot_product", query.dtype, heads, width)
    launch = Launcher(index.num_edges * heads * width)
    q, k, v, g = map(rows, (query, key, value, grad))
    if is_normed:  # quickly computed again
        balanced = BalancedRows(kernels, launch, index.in_edges(), q, k, v, heads)
        q, k = balanced.query, balanced.key
    dst = columns.with_kept("dot_product", kept.numpy(), heads)
    of = kernels.number if is_normed else q.dtype  # rounded once, when all is added up
    d_q, d_k, d_v = (np.empty(x.shape, of) for x in (q, k, v))
    nodes, numbers = (v, k, q, v, v, dst), (kernels.number(0), *dropout.numbers)
    # The in-edges first: they give c to the out-edges.
    sums = g, d_q, d_q, d_q, np.empty((0, heads), index.in_ends.numpy().dtype)
    launch(kernels.backward_in_edges, index.in_edges(), *nodes, v, numbers, rows(out), *sums)
    launch(kernels.backward_out_edges, index.out_edges(), *nodes, numbers, g, d_v, d_k, d_k)
    if is_normed:
        balanced.go_back(d_q, d_k, d_v)
    return tensor(d_q, query), tensor(d_k, key), tensor(d_v, value)


def _plainly(structure, dropout, is_normed, query, key, value):
    """What the kernels compute, to be differentiated again."""
    ops = TorchOps(structure)
    if is_normed:
        scores = DotProductScores(query, key, value)
        query, key = DotProductLipschitzNorm().balanced(scores, ops)
    return plain.attend(structure, ops.u_dot_v(key, query), value, dropout)


_ATTENTION = define(
    Attention(
        "dot_product_attention",
        {"query": False, "key": False, "value": False},
        {"is_normed": "bool"},
        _KEPT,
        _forward,
        _backward,
        _plainly,
    )
)
