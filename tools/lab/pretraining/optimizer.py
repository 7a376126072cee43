"""The optimiser of a pretraining, and its learning rate: a rise, then a cosine to 0."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from lipzoo.training.loop import make_optimizer
from lipzoo.training.recipe import Optimizer

__all__ = ["make_pretraining_optimizer"]


def make_pretraining_optimizer(
    parameters: Iterable[nn.Parameter], options: Optimizer, steps: int, warmup: int, **defaults
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    r"""Optimiser and scheduler, which is stepped after each of ``steps``.

    .. math::
        \eta_t = \eta \, \min\Bigl(1, \frac{t + 1}{w + 1}\Bigr) \, \frac{1 + \cos(\pi t / T)}{2}

    Parameters
    ----------
    options : Optimizer
        Adam or AdamW; ``attention_weight_decay`` is not read.
    warmup : int
        w, in steps.
    **defaults
        Of the optimiser, such as ``betas``.
    """
    groups = [{"params": list(parameters), **defaults}]
    optimizer = make_optimizer(nn.Module(), options, groups)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda t: min(1.0, (t + 1) / (warmup + 1)) * (1 + math.cos(math.pi * t / steps)) / 2,
    )
    return optimizer, scheduler
