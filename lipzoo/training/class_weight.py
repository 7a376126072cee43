"""Weights of the classes in the loss, for classes of very different sizes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor

from lipzoo.datasets import GraphTask
from lipzoo.errors import ConfigError, did_you_mean

__all__ = ["class_weights"]


def class_weights(choice: str | Sequence[float] | Tensor | None, task: GraphTask) -> Tensor | None:
    r"""Weight of each class, float32 (C,), as :func:`~lipzoo.training.fit` takes it.

    ``"balanced"`` is scikit-learn's: of n training nodes, ``n_c`` of class c, in k classes,

    .. math:: w_c = \frac{n}{k\, n_c}

    On multilabel tasks the weight is that of a node that has the class against one that has not,
    ``(n - n_c) / n_c``. A class that no training node has (or, multilabel, that all have) weighs
    1 and does not count in k: there is nothing to balance.

    Parameters
    ----------
    choice : "balanced", sequence of C numbers, Tensor (C,), or None
        None weighs nothing.
    task : GraphTask
        Only its training nodes are looked at.

    Raises
    ------
    ConfigError
        If it is none of these, a weight is negative or not finite, or all the classes of the
        training nodes weigh 0.
    """
    if choice is None:
        return None
    labels = task.labels[task.train_mask].cpu()
    if isinstance(choice, str):
        if choice != "balanced":
            raise ConfigError(
                f"class_weight: no choice {choice!r}{did_you_mean(choice, ['balanced'])}, or pass "
                f"{task.num_classes} numbers, one a class"
            )
        weights = _balanced(labels.numpy(), task.num_classes, task.multilabel)
        return weights.to(task.device)
    try:
        weights = torch.as_tensor(choice, dtype=torch.float32).detach().clone()
    except (TypeError, ValueError, RuntimeError):
        raise ConfigError(f"class_weight: must be 'balanced' or numbers, got {choice!r}") from None
    if weights.shape != (task.num_classes,):
        raise ConfigError(
            f"class_weight: {tuple(weights.shape)} numbers for {task.num_classes} classes; pass "
            "one a class"
        )
    if not torch.isfinite(weights).all() or (weights < 0).any():
        raise ConfigError(f"class_weight: must be finite and >= 0, got {weights.tolist()}")
    if not task.multilabel and not weights.cpu()[labels].any():
        raise ConfigError("class_weight: every class of the training nodes weighs 0")
    return weights.to(task.device)


def _balanced(labels: np.ndarray, num_classes: int, multilabel: bool) -> Tensor:
    weights = torch.ones(num_classes)
    if multilabel:
        for number, column in enumerate(labels.T):
            if 0 < column.sum() < len(column):
                both = np.array([0, 1])
                without, with_it = compute_class_weight("balanced", classes=both, y=column)
                weights[number] = with_it / without
        return weights
    present = np.unique(labels)
    weights[torch.from_numpy(present)] = torch.from_numpy(
        compute_class_weight("balanced", classes=present, y=labels)
    ).float()
    return weights
