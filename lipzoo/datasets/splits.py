"""Train/validation/test splits: drawn, so many nodes a class to train on, or one of those given."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lipzoo.datasets.convert import MASKS
from lipzoo.errors import ConfigError, DataError

__all__ = ["one_split", "random_split"]

#: Planetoid's number of training nodes a class (Yang et al. 2016).
TRAIN_PER_CLASS = 20


def random_split(
    labels: Tensor,
    train_per_class: int | None = None,
    num_val: int | None = None,
    num_test: int | None = None,
    seed: int = 0,
    *,
    val_per_class: int | None = None,
    train_share: float | None = None,
    val_share: float | None = None,
    name: str = "graph",
) -> dict[str, Tensor]:
    """Draw disjoint masks; nodes without a label (-1) are in none of them.

    Of every class, ``train_per_class`` nodes train. What remains is divided at random: a size
    that is not given takes all that the other one leaves, and with neither given each takes half.

    Parameters
    ----------
    labels : Tensor
        int64 (N,), or (N, C) when multilabel. Multilabel nodes have no one class: C times
        ``train_per_class`` nodes are drawn from all of them.
    train_per_class : int, optional
        By default 20, but never more than half of a class (at least 1).
    num_val, num_test : int, optional
        Nodes in the validation and in the test mask.
    seed : int
        Seed of the NumPy generator that draws; nothing global is touched.
    val_per_class : int, optional
        Draw the validation nodes per class as well (Shchur et al. 2018: 30); without `num_val`.
    train_share, val_share : float, optional
        Shares of all labelled nodes, whatever their classes; each stands back where
        `train_per_class`, or a number of validation nodes, is given.
    name : str
        The dataset's name, for error messages.

    Returns
    -------
    dict of str to Tensor
        ``train_mask``, ``val_mask``, ``test_mask``, bool (N,).

    Raises
    ------
    DataError
        If a class, or what remains after training, has fewer nodes than asked for.
    """
    _check_sizes(name, train_per_class=train_per_class, num_val=num_val, num_test=num_test)
    asked_val = num_val
    rng = np.random.default_rng(seed)
    train, val, rest = [], [], []
    groups = _groups(labels.cpu().numpy())
    total = sum(len(nodes) for _, nodes, _ in groups)
    if train_per_class is not None or not groups:
        train_share = None
    if train_share is not None:
        groups = [("the graph", np.sort(np.concatenate([nodes for _, nodes, _ in groups])), 1)]
    if val_share is not None and num_val is None and val_per_class is None:
        num_val = round(val_share * total)
    for group, nodes, classes in groups:
        num_train = (
            _train_size(train_per_class, len(nodes), classes)
            if train_share is None
            else round(train_share * total)
        )
        num_group_val = (val_per_class or 0) * classes if num_val is None else 0
        if num_train + num_group_val > len(nodes):
            raise DataError(
                f"{name}: {group} has {len(nodes)} labelled nodes, fewer than the "
                f"{num_train + num_group_val} asked for; lower train_per_class"
            )
        nodes = rng.permutation(nodes)
        train.append(nodes[:num_train])
        val.append(nodes[num_train : num_train + num_group_val])
        rest.append(nodes[num_train + num_group_val :])
    train, val, rest = (np.concatenate(part or [np.arange(0)]) for part in (train, val, rest))
    rest = rng.permutation(rest)
    if not len(val):
        num_val = _rest_size(num_val, num_test, len(rest))
        val, rest = rest[:num_val], rest[num_val:]
    test = rest if num_test is None else rest[:num_test]
    if not (len(train) and len(val) and len(test)) or len(test) < (num_test or 0):
        asked = {"num_val": asked_val, "num_test": num_test}
        words = ", ".join(f"{key}={size}" for key, size in asked.items() if size is not None)
        raise DataError(
            f"{name}: {len(val) + len(rest)} labelled nodes remain after training nodes are drawn, "
            f"too few for {words or 'validation and test nodes'}; ask for fewer nodes, or give "
            "masks of your own"
        )
    return {mask: _mask(nodes, labels) for mask, nodes in zip(MASKS, (train, val, test))}


def _groups(labels: np.ndarray) -> list[tuple[str, np.ndarray, int]]:
    """What to draw from: a name, the labelled nodes, and the number of classes in it."""
    if labels.ndim == 2:
        nodes = np.flatnonzero((labels != -1).any(axis=1))
        return [("the graph", nodes, labels.shape[1])]
    # One sort, not one pass a class: there may be as many classes as nodes.
    order = np.argsort(labels, kind="stable")
    classes, begins = np.unique(labels[order], return_index=True)
    groups = zip(classes, np.split(order, begins[1:]))
    return [(f"class {label}", nodes, 1) for label, nodes in groups if label >= 0]


def _train_size(train_per_class: int | None, available: int, classes: int) -> int:
    if train_per_class is not None:
        return train_per_class * classes
    return min(TRAIN_PER_CLASS * classes, max(1, available // 2))


def _rest_size(num_val: int | None, num_test: int | None, available: int) -> int:
    """The validation nodes among those that remain after training nodes are drawn."""
    if num_val is not None:
        return num_val
    return available // 2 if num_test is None else max(available - num_test, 0)


def _check_sizes(name: str, **sizes: int | None) -> None:
    for option, size in sizes.items():
        if size is not None and size < 1:
            raise ConfigError(f"{name}: {option} is {size}, it must be at least 1")


def _mask(nodes: np.ndarray, labels: Tensor) -> Tensor:
    mask = torch.zeros(len(labels), dtype=torch.bool)
    mask[torch.from_numpy(nodes)] = True
    return mask.to(labels.device)


def one_split(masks: dict[str, Tensor], count: int, index: int, name: str) -> dict[str, Tensor]:
    """Column ``index`` of those masks that hold ``count`` splits, (N, S); see `with_split`."""
    if isinstance(index, bool) or not isinstance(index, int | np.integer):
        raise ConfigError(f"{name}: split_index must be a whole number, got {index!r}")
    if not 0 <= index < count:
        choices = f"0..{count - 1}" if count > 1 else "0" if count else "none"
        raise ConfigError(
            f"{name}: split_index is {index}, and there is no such split among the {count} that "
            f"come with the data (choices: {choices})"
        )
    widths = {key: mask.shape[1] for key, mask in masks.items() if mask.dim() == 2}
    if len(set(widths.values())) > 1:
        words = ", ".join(f"{key} {width}" for key, width in widths.items())
        raise DataError(
            f"{name}: the masks are of different numbers of splits ({words}); give each the same, "
            "or one (N,) for all"
        )
    return {key: masks[key][:, index] for key in widths}
