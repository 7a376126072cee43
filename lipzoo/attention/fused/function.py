"""What the fused kernels compute, and which of them is called."""

from __future__ import annotations

import importlib.util

import torch
from torch import Tensor

from lipzoo.attention.fused.additive import additive_attention
from lipzoo.attention.fused.dot_product import dot_product_attention
from lipzoo.attention.fused.dropout_mask import DropoutMask
from lipzoo.attention.fused.gatv2 import gatv2_attention
from lipzoo.attention.score_norms import DotProductLipschitzNorm, LipschitzNorm, ScoreNorm
from lipzoo.attention.scores import AdditiveScores, DotProductScores, GATv2Scores, Scores
from lipzoo.attention.structure import Structure

__all__ = ["fused_attention", "suits_fused"]

#: What computes a kind of scores, and the score norm it knows.
_KINDS = {
    AdditiveScores: (additive_attention, LipschitzNorm),
    GATv2Scores: (gatv2_attention, LipschitzNorm),
    DotProductScores: (dot_product_attention, DotProductLipschitzNorm),
}

#: Names of the features of nodes that scores read.
_ROWS = ("v_src", "v_dst", "query", "key")

_HAS_NUMBA = importlib.util.find_spec("numba") is not None

#: In-edges of a node are counted in the kernels' own numbers: float32 counts up to here.
_MAX_IN_DEGREE = 2**24


def suits_fused(scores: Scores, score_norm: ScoreNorm | None, structure: Structure) -> bool:
    """Whether the kernels compute this: additive, GATv2 or dot-product scores (N, H, D) on the
    CPU, all in float32, float64 or bfloat16, with the score norm of that kind or none; attention
    vectors may be wider than features, as under autocast."""
    if type(scores) not in _KINDS:
        return False
    value, (_, norm) = scores.value, _KINDS[type(scores)]
    rows = (getattr(scores, name, None) for name in _ROWS)
    return (
        (not isinstance(scores, DotProductScores) or scores.key.shape == value.shape)
        and type(score_norm) in (type(None), norm)
        and value.device.type == "cpu"
        and value.dtype in (torch.float32, torch.float64, torch.bfloat16)
        and all(x is None or x.dtype == value.dtype for x in rows)
        and value.dim() == 3
        and value.numel() > 0
        and 0 <= getattr(scores, "negative_slope", 0) <= 1
        and structure.num_edges > 0
        and (structure.num_edges <= _MAX_IN_DEGREE or structure.in_degrees.max() <= _MAX_IN_DEGREE)
        and _HAS_NUMBA
    )


def fused_attention(
    structure: Structure,
    scores: Scores,
    score_norm: ScoreNorm | None = None,
    attn_drop: float = 0.0,
) -> Tensor:
    """The output (N_dst, H, D) of :func:`~lipzoo.attention.graph_attention`.

    Dropout draws its seed from PyTorch's generator; the mask is a function of the seed, the edge
    and the head. Derivatives of any order are right: where a backward pass is itself to be
    differentiated (``create_graph=True``), it is the ``torch`` backend's, with the same mask and
    that backend's memory.
    """
    attend, _ = _KINDS[type(scores)]
    dropout = DropoutMask.draw(attn_drop)
    return dropout.rescale(attend(structure, scores, score_norm, dropout))
