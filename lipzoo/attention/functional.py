"""Attention over the edges of a graph: scores -> score norm -> hooks -> softmax -> sum."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from lipzoo.attention.ops import make_ops
from lipzoo.attention.score_norms import ScoreNorm
from lipzoo.attention.scores import Scores
from lipzoo.attention.structure import Structure

__all__ = ["graph_attention"]


def graph_attention(
    structure: Structure,
    scores: Scores,
    value: Tensor,
    *,
    score_norm: ScoreNorm | None = None,
    score_hook: Callable[[Tensor], Tensor] | None = None,
    attn_drop: float = 0.0,
    edge_weight: Tensor | None = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    r"""Attend over the in-neighbours of each node.

    .. math::
        o_i = \sum_{j \in N(i)} p_{ij} v_j, \qquad
        p_{i\cdot} = \mathrm{softmax}_{j \in N(i)}(\mathrm{hook}(\mathrm{norm}(e_{ij})))

    Parameters
    ----------
    structure : Structure
        The edges.
    scores : Scores
        How a score comes about, with the node tensors.
    value : Tensor (N_src, *, H, D)
        ``v_j``, what is aggregated.
    score_norm : ScoreNorm, optional
        Applied to the scores first.
    score_hook : callable, optional
        Takes the scores (E, *, H) just before the softmax and returns those to use.
    attn_drop : float
        Share of the attention weights that is dropped; pass 0 when not training.
    edge_weight : Tensor (E,), optional
        Multiplied into the attention weights after the softmax.
    backend : {"auto", "dgl", "torch"}
        See :func:`~lipzoo.attention.ops.resolve_backend`.

    Returns
    -------
    output : Tensor (N_dst, *, H, D)
        Zero for nodes without in-edges.
    weights : Tensor (E, *, H)
        Attention weights, in the order of the edges, as they were used.
    """
    ops = make_ops(structure, backend, value)
    e = scores.compute(ops)
    if score_norm is not None:
        e = score_norm(e, scores, ops)
    if score_hook is not None:
        e = score_hook(e)
    weights = F.dropout(ops.edge_softmax(e), attn_drop)
    if edge_weight is not None:
        weights = weights * edge_weight.view(-1, *[1] * (weights.dim() - 1))
    return ops.u_mul_e_sum(value, weights), weights
