"""The attention of several models on one graph at once: their heads lie side by side.

``torch.func.vmap`` calls a layer once for a stack of models. The kernels know no stacks, but heads
do not know of each other: those of all models are the heads of one layer, which reads each edge
once for all of them.
"""

from __future__ import annotations

from dataclasses import fields, replace

import torch
from torch import Tensor

from lipzoo._torch import is_stack
from lipzoo.attention.fused.cuda.function import cuda_attention, suits_cuda
from lipzoo.attention.score_norms import LipschitzNorm, ScoreNorm
from lipzoo.attention.scores import Scores
from lipzoo.attention.structure import Structure

__all__ = ["cuda_attention_together", "suits_together"]


def suits_together(
    scores: Scores, score_norm: ScoreNorm | None, structure: Structure, attn_drop: float = 0.0
) -> bool:
    """Whether the kernels compute this inside of ``vmap``: one that runs over the scores' tensors,
    lets dropout differ, and where no head looks at another."""
    shares_heads = isinstance(score_norm, LipschitzNorm) and not score_norm.per_head
    return (
        not shares_heads
        and is_stack((getattr(scores, name) for name in _tensors(scores)), attn_drop > 0)
        and suits_cuda(scores, score_norm, structure)
    )


def cuda_attention_together(
    structure: Structure,
    scores: Scores,
    score_norm: ScoreNorm | None = None,
    attn_drop: float = 0.0,
) -> Tensor:
    """:func:`~lipzoo.attention.fused.cuda.cuda_attention` inside of one ``vmap``."""
    names = _tensors(scores)
    tensors = [getattr(scores, name) for name in names]
    plain = replace(scores, **dict.fromkeys(names))
    return _Together.apply(structure, plain, names, score_norm, attn_drop, *tensors)


def _tensors(scores: Scores) -> list[str]:
    return [f.name for f in fields(scores) if isinstance(getattr(scores, f.name), Tensor)]


class _Together(torch.autograd.Function):
    """Only a place for the rule of ``vmap``, which is made of differentiable functions."""

    @staticmethod
    def forward(*inputs):
        raise NotImplementedError("is for vmap alone")

    @staticmethod
    def setup_context(ctx, inputs, output):
        raise NotImplementedError("is for vmap alone")

    @staticmethod
    def vmap(info, in_dims, structure, scores, names, score_norm, attn_drop, *tensors):
        folded = [
            _fold(tensor, dim, info.batch_size)
            for tensor, dim in zip(tensors, in_dims[5:], strict=True)
        ]
        whole = replace(scores, **dict(zip(names, folded, strict=True)))
        out = cuda_attention(structure, whole, score_norm, attn_drop)
        return out.unflatten(1, (info.batch_size, -1)), 1


def _fold(tensor: Tensor, dim: int | None, size: int) -> Tensor:
    """(N, H, D), with the models along ``dim``, to (N, size * H, D)."""
    models = tensor.unsqueeze(1).expand(-1, size, -1, -1) if dim is None else tensor.movedim(dim, 1)
    return models.flatten(1, 2)
