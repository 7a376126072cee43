"""How learning rates change over the epochs."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LinearLR,
    ReduceLROnPlateau,
    SequentialLR,
)

from lipzoo.training.recipe import Schedule

__all__ = ["Plateau", "make_scheduler"]


class Plateau:
    """PyTorch's ``ReduceLROnPlateau``, which is told of evaluations alone, after a rise.

    Between two evaluations nothing is known that is new: patience in epochs is so many
    evaluations, rounded down.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, options: Schedule, eval_every: int
    ) -> None:
        self.warmup, self.epoch = options.warmup, 0
        self.rise = _rise(optimizer, options) if options.warmup else None
        self.fall = ReduceLROnPlateau(
            optimizer, factor=options.factor, patience=options.patience // eval_every
        )

    def step(self, loss: float | None) -> None:
        """After an epoch; ``loss`` where it was evaluated."""
        self.epoch += 1
        if self.rise is not None and self.epoch <= self.warmup:
            self.rise.step()
        elif loss is not None:
            self.fall.step(loss)

    def state_dict(self) -> dict[str, Any]:
        rise = None if self.rise is None else self.rise.state_dict()
        return {"epoch": self.epoch, "rise": rise, "fall": self.fall.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch = state["epoch"]
        if self.rise is not None:
            self.rise.load_state_dict(state["rise"])
        self.fall.load_state_dict(state["fall"])


def make_scheduler(
    optimizer: torch.optim.Optimizer, options: Schedule, epochs: int, eval_every: int = 1
) -> torch.optim.lr_scheduler.LRScheduler | Plateau:
    """What is stepped after each epoch; a :class:`Plateau` with the loss of its evaluation."""
    if options.name == "plateau":
        return Plateau(optimizer, options, eval_every)
    main = (
        CosineAnnealingLR(optimizer, max(1, epochs - options.warmup))
        if options.name == "cosine"
        else ConstantLR(optimizer, factor=1.0)
    )
    if not options.warmup:
        return main
    return SequentialLR(optimizer, [_rise(optimizer, options), main], milestones=[options.warmup])


def _rise(optimizer: torch.optim.Optimizer, options: Schedule) -> LinearLR:
    return LinearLR(optimizer, start_factor=1 / options.warmup, total_iters=options.warmup)
