"""Attention over the edges of a graph: scores -> score norm -> hooks -> softmax -> sum."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from lipzoo._torch import is_exporting, is_in_func, is_transformed
from lipzoo.attention.dropout import dropout
from lipzoo.attention.fused import fused_attention, suits_fused
from lipzoo.attention.fused.cuda import (
    cuda_attention,
    cuda_attention_together,
    suits_cuda,
    suits_together,
)
from lipzoo.attention.ops import make_ops, resolve_backend
from lipzoo.attention.score_norms import ScoreNorm
from lipzoo.attention.scores import Scores
from lipzoo.attention.structure import Structure

__all__ = ["graph_attention"]

#: Numbers gathered over the edges (E * H * D) from which "auto" takes the fused kernels: below,
#: their compilation, once per machine, costs more than they save.
_FUSED_PAYS = 2**18


def graph_attention(
    structure: Structure,
    scores: Scores,
    *,
    score_norm: ScoreNorm | None = None,
    score_hook: Callable[[Tensor], Tensor] | None = None,
    attn_drop: float = 0.0,
    edge_weight: Tensor | None = None,
    backend: str = "auto",
    need_weights: bool = False,
) -> tuple[Tensor, Tensor | None]:
    r"""Attend over the in-neighbours of each node.

    .. math::
        o_i = \sum_{j \in N(i)} p_{ij} v_j, \qquad
        p_{i\cdot} = \mathrm{softmax}_{j \in N(i)}(\mathrm{hook}(\mathrm{norm}(e_{ij})))

    (``v_j + w_ij`` where ``scores.edge_values``.)

    Parameters
    ----------
    structure : Structure
        The edges.
    scores : Scores
        How a score comes about, with the node tensors; ``scores.value`` (N_src, *, H, D), the
        ``v_j``, is what is aggregated.
    score_norm : ScoreNorm, optional
        Applied to the scores first.
    score_hook : callable, optional
        Takes the scores (E, *, H) just before the softmax and returns those to use.
    attn_drop : float
        Share of the attention weights that is dropped; pass 0 when not training.
    edge_weight : Tensor (E,), optional
        Multiplied into the attention weights after the softmax.
    backend : {"auto", "dgl", "torch", "fused"}
        ``"fused"`` is for the three scores with their score norm or none, without hook, edge
        weights, edge features or weights to return; elsewhere it means ``"auto"``. On the CPU it
        is Numba's kernels (:func:`~lipzoo.attention.fused.suits_fused`); on a GPU Triton's
        (extra ``cuda``), which are not timed beside others yet, so that ``"auto"`` does not take
        them.
        ``"auto"`` takes the CPU's kernels where the graph is large enough to pay for their
        compilation, then ``"dgl"`` or ``"torch"`` (see :func:`~lipzoo.attention.ops.make_ops`).
        ``LIPZOO_BACKEND`` decides what ``"auto"`` is.
    need_weights : bool
        Return the attention weights.

    Returns
    -------
    output : Tensor (N_dst, *, H, D)
        Of the type of ``scores.value``; zero for nodes without in-edges.
    weights : Tensor (E, *, H) or None
        Attention weights, in the order of the edges, as they were used.
    """
    backend, value = resolve_backend(backend), scores.value
    is_plain = score_hook is None and edge_weight is None and not need_weights
    is_plain = is_plain and scores.edge is None
    is_seen = is_in_func() or is_exporting()
    if backend in ("auto", "fused") and is_plain and not is_seen:
        pays = backend == "fused" or structure.num_edges * value.shape[1:].numel() >= _FUSED_PAYS
        if pays and suits_fused(scores, score_norm, structure):
            return fused_attention(structure, scores, score_norm, attn_drop), None
        if (
            backend == "fused"
            and not is_transformed()
            and suits_cuda(scores, score_norm, structure)
        ):
            return cuda_attention(structure, scores, score_norm, attn_drop), None
    is_fused = backend == "fused" and is_plain
    if is_fused and suits_together(scores, score_norm, structure, attn_drop):
        return cuda_attention_together(structure, scores, score_norm, attn_drop), None
    ops = make_ops(structure, backend, value)
    e = scores.compute(ops)
    if score_norm is not None:
        e = score_norm(e, scores, ops)
    if score_hook is not None:
        e = score_hook(e)
    weights = dropout(ops.edge_softmax(e), attn_drop)
    if edge_weight is not None:
        weights = weights * edge_weight.view(-1, *[1] * (weights.dim() - 1))
    out = ops.u_mul_e_sum(value, weights)
    if scores.edge_values:
        out = out + ops.sum_edges(weights.unsqueeze(-1) * scores.edge)
    if out.dtype != value.dtype:  # attention vectors that are wider, as under autocast
        out = out.to(value.dtype)
    return out, weights if need_weights else None
