"""Consistency training: predictions under different dropout are drawn to their sharpened mean."""

from __future__ import annotations

import torch
from torch import Tensor

from lipzoo.training.recipe import Consistency

__all__ = ["consistency_loss"]


def consistency_loss(logits: list[Tensor], options: Consistency, epoch: int) -> Tensor:
    r"""How far the predictions of several dropout draws are from their sharpened mean.

    .. math::
        \bar p = \frac{1}{S} \sum_s p_s, \qquad
        q_c = \frac{\bar p_c^{1/T}}{\sum_k \bar p_k^{1/T}}, \qquad
        \ell = w \, \frac{1}{S N} \sum_s \sum_i \lVert p_{s,i} - q_i \rVert^2

    No gradient goes through ``q``. Labels are not needed: all N nodes count.

    Parameters
    ----------
    logits : list of S Tensors (N, C)
        Of one and the same graph.
    options : Consistency
        ``weight`` w, which rises linearly over the first ``warmup`` epochs, and ``temperature`` T.
    epoch : int
        From 1.

    References
    ----------
    Feng et al., "Graph Random Neural Networks for Semi-Supervised Learning on Graphs",
    NeurIPS 2020, equations 4 to 6.
    """
    predictions = torch.stack(logits).softmax(dim=-1)
    with torch.no_grad():  # by logarithms: the powers of all classes may be 0 in float32
        target = (predictions.mean(0).log() / options.temperature).softmax(-1)
    weight = options.weight * min(1.0, epoch / max(1, options.warmup))
    return weight * (predictions - target).square().sum(-1).mean()
