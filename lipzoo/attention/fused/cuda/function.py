"""Which attention the GPU kernels compute, and where each is."""

from __future__ import annotations

import importlib.util
from functools import cache

import torch
from torch import Tensor

from lipzoo.attention.fused.dropout_mask import DropoutMask
from lipzoo.attention.score_norms import DotProductLipschitzNorm, LipschitzNorm, ScoreNorm
from lipzoo.attention.scores import AdditiveScores, DotProductScores, GATv2Scores, Scores
from lipzoo.attention.structure import Structure

__all__ = ["cuda_attention", "suits_cuda"]

_NORMS: dict[type[Scores], type[ScoreNorm]] = {
    AdditiveScores: LipschitzNorm,
    GATv2Scores: LipschitzNorm,
    DotProductScores: DotProductLipschitzNorm,
}
_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)

#: 32-bit counters number the edges.
_MAX_EDGES = 2**31 - 1
#: The oldest GPUs that Triton supports.
_CAPABILITY = (8, 0)


def suits_cuda(scores: Scores, score_norm: ScoreNorm | None, structure: Structure) -> bool:
    """Whether the kernels compute this, here: what :func:`is_covered` says, on a GPU that Triton
    knows, with Triton installed."""
    return (
        scores.value.device.type == "cuda"
        and is_covered(scores, score_norm, structure)
        and _has_triton()
        and torch.cuda.get_device_capability(scores.value.device) >= _CAPABILITY
    )


def is_covered(scores: Scores, score_norm: ScoreNorm | None, structure: Structure) -> bool:
    """Whether there are kernels for this: additive, GATv2 or dot-product scores (N, H, D), with
    the score norm of that kind or none."""
    if type(scores) not in _NORMS:
        return False
    value = scores.value
    is_one_width = not isinstance(scores, DotProductScores) or scores.key.shape == value.shape
    return (
        type(score_norm) in (type(None), _NORMS[type(scores)])
        and value.dtype in _DTYPES
        and value.dim() == 3
        and value.numel() > 0
        and is_one_width
        and 0 < structure.num_edges <= _MAX_EDGES
    )


def cuda_attention(
    structure: Structure,
    scores: Scores,
    score_norm: ScoreNorm | None = None,
    attn_drop: float = 0.0,
) -> Tensor:
    """The output (N_dst, H, D) of :func:`~lipzoo.attention.graph_attention` on a GPU.

    Scores, score norm, softmax, dropout and sum are one pass over the
    in-edges; the backward pass computes the scores again, over in-edges and over out-edges, so
    that nothing of size E x H is ever stored, and its sums have a fixed order. Half precision is
    computed in float32. Dropout draws its seed from PyTorch's generator of the CPU. Derivatives of
    any order are right, as in :func:`~lipzoo.attention.fused.fused_attention`.

    Tested on an NVIDIA H100 and in Triton's interpreter.
    """
    from lipzoo.attention.fused.cuda import additive, dot_product, gatv2

    kinds = {AdditiveScores: additive, GATv2Scores: gatv2, DotProductScores: dot_product}
    value, dropout = scores.value, DropoutMask.draw(attn_drop)
    attend = kinds[type(scores)].attend
    out = attend(structure.to(value.device), scores, score_norm, dropout)
    return dropout.rescale(out).to(value.dtype)


@cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None
