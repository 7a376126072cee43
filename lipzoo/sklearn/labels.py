"""Labels as scikit-learn has them, some of them unknown."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from lipzoo.datasets.columns import is_no_label
from lipzoo.errors import ConfigError, DataError

__all__ = ["as_labels", "hidden", "hold_out", "labelled", "plain", "read_labels"]


def as_labels(y: Any) -> np.ndarray:
    """``y`` as an array (N,)."""
    return column_or_1d(y, warn=True)


def hidden(y: np.ndarray) -> np.ndarray:
    """Which of the labels (N,) are unknown: -1; beside words see `is_no_label`.

    Raises
    ------
    DataError
        If a number is NaN or infinite.
    """
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        raise DataError("y: holds NaN or infinity; -1 marks a node without a label")
    if y.dtype.kind in "biuf":
        return (y == -1) & (y.dtype.kind != "b")
    return np.array([is_no_label(cell) for cell in y.tolist()], bool)


def labelled(y: np.ndarray, otherwise: str) -> np.ndarray:
    """The nodes that have a label, bool (N,).

    Raises
    ------
    DataError
        If there are none; ``otherwise`` ends the message.
    """
    known = ~hidden(y)
    if not known.any():
        raise DataError(f"y: no node has a label (all are -1); {otherwise}")
    return known


def plain(labels: np.ndarray) -> np.ndarray:
    """Labels of nodes that have one, (n,): objects as the numbers, truth values or dates they are.

    Raises
    ------
    DataError
        If they are of several kinds.
    """
    if labels.dtype.kind != "O":
        return labels
    words = [isinstance(cell, str) for cell in labels]
    if any(words) and not all(words):
        raise DataError("y: holds words and other things; give all classes as one of both")
    return labels if all(words) else np.array(labels.tolist())


def read_labels(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The number of each node's class, int64 (N,), -1 where unknown; and the classes, sorted.

    Raises
    ------
    DataError
        If there are less than two classes, or something is no class.
    """
    known = labelled(y, "label some of two classes at least")
    labels = plain(y[known])
    if labels.ndim > 1 or labels.dtype.kind == "S":
        raise DataError("y: holds things that are no classes; give whole numbers or words")
    check_classification_targets(labels)
    classes, numbers = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise DataError(
            f"y: has one class only ({classes[0]!s}; -1 is none); label nodes of another class too"
        )
    codes = np.full(len(y), -1, np.int64)
    codes[known] = numbers
    return codes, classes


def hold_out(codes: np.ndarray, fraction: Any, rng: np.random.RandomState) -> np.ndarray:
    """The labelled nodes to choose the epoch by, bool (N,): this share of each class, at least one.

    A class's only node is not held out. Where the share of all labelled nodes is less than a node a
    class, too few to choose by, none is.

    Raises
    ------
    ConfigError
        If the fraction is not in [0, 1).
    """
    is_number = isinstance(fraction, (int, float, np.number)) and not isinstance(fraction, bool)
    if not is_number or not 0 <= fraction < 1:
        raise ConfigError(f"validation_fraction must lie in [0, 1), got {fraction!r}")
    held = np.zeros(len(codes), bool)
    counts = np.bincount(codes[codes >= 0])
    if fraction * counts.sum() < len(counts):
        return held
    order = np.argsort(codes, kind="stable")[-counts.sum() :]
    for nodes in np.split(order, counts.cumsum()[:-1]):
        number = min(max(1, round(fraction * len(nodes))), len(nodes) - 1)
        held[rng.permutation(nodes)[:number]] = True
    return held
