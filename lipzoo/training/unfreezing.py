"""Which layer groups learn, from which epoch on, and how fast."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

from torch import nn

__all__ = ["optimizer_groups", "thaw_epochs", "thawing"]

Groups = dict[str, list[nn.Parameter]]


def thaw_epochs(
    names: Iterable[str], fresh: Collection[str], freeze: str, unfreeze_every: int | None
) -> dict[str, int]:
    """The epoch, from 1, from which each group learns; a group that never does is not in it.

    Parameters
    ----------
    names : iterable of str
        Layer groups from the input to the head.
    fresh : collection of str
        Those that are newly initialised: always trained.
    freeze : {"none", "body", "all-but-head"}
        What is frozen, at first or for good.
    unfreeze_every : int, optional
        Thaw one frozen group every so many epochs, from the head downwards. What ``freeze="none"``
        means is then all but the head.
    """
    if unfreeze_every is not None and freeze == "none":
        freeze = "all-but-head"
    open_groups = {"none": names, "body": ("input", "head"), "all-but-head": ("head",)}[freeze]
    frozen = [name for name in names if name not in open_groups and name not in fresh]
    epochs = {name: 1 for name in names if name not in frozen}
    if unfreeze_every is not None:
        for step, name in enumerate(reversed(frozen), start=1):
            epochs[name] = 1 + step * unfreeze_every
    return epochs


def thawing(groups: Groups, epochs: dict[str, int]) -> Callable[[int], None]:
    """What makes those parameters learn that may in an epoch: ``on_epoch`` of the training loop.

    It depends on the number of the epoch alone, so that a resumed run does the same.
    """

    def on_epoch(epoch: int) -> None:
        for name, parameters in groups.items():
            for parameter in parameters:
                parameter.requires_grad_(name in epochs and epochs[name] <= epoch)

    return on_epoch


def optimizer_groups(
    groups: Groups, epochs: dict[str, int], lr: float, decay: float
) -> list[dict[str, Any]]:
    """The optimiser's parameter groups, from the head downwards.

    The rate of a group is ``lr * decay ** d``, with d groups between it and the head, the head
    itself counted: 0 for the head, 1 for the last layer, L + 1 for the input layer.
    """
    return [
        {"params": groups[name], "lr": lr * decay**distance}
        for distance, name in enumerate(reversed(groups))
        if name in epochs and groups[name]
    ]
