"""Which classes are taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lipzoo.errors import DataError
from lipzoo.plots.arrays import as_numbers
from lipzoo.plots.style import blues, drawing, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["confusion_counts", "confusion_matrix"]

#: Of more classes no cell has room for its number, nor every row for its name.
_WRITTEN, _NAMED = 12, 20


def confusion_counts(truth: Any, predicted: Any, num_classes: int) -> np.ndarray:
    r"""Nodes of each class by what they are taken for, int64 (C, C).

    .. math:: M_{cd} = |\{ i : y_i = c, \hat y_i = d \}|

    Parameters
    ----------
    truth, predicted : Tensor or array (n,)
        Classes, 0..C-1.
    num_classes : int
        C.

    Raises
    ------
    DataError
        If they are not as many, none, or a class is none of 0..C-1.
    """
    from sklearn.metrics import confusion_matrix as counted

    truth, predicted = (as_numbers(each, "classes", 1) for each in (truth, predicted))
    if len(truth) != len(predicted) or not len(truth):
        raise DataError(f"{len(truth)} true classes and {len(predicted)} predicted ones")
    for name, classes in (("true", truth), ("predicted", predicted)):
        if classes.min() < 0 or classes.max() >= num_classes:
            raise DataError(
                f"{name} classes go from {classes.min():g} to {classes.max():g}, and must lie in "
                f"0..{num_classes - 1}"
            )
    return counted(truth, predicted, labels=np.arange(num_classes))


def confusion_matrix(counts: Any, classes: Sequence[str] = (), ax: Axes | None = None) -> Axes:
    """A row a true class, a column a predicted one; the darker, the larger the share of the row.

    Parameters
    ----------
    counts : array (C, C)
        What :func:`confusion_counts` gives.
    classes : sequence of C str, optional
        Names.
    ax : matplotlib Axes, optional
        To draw on; by default those of a new figure, ``ax.figure``.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    DataError
        If the counts are not square.
    ConfigError
        If matplotlib is not installed.
    """
    counts = as_numbers(counts, "counts", 2)
    number = len(counts)
    if counts.shape != (number, number) or not number:
        raise DataError(f"counts are {counts.shape}, and must be (C, C)")
    names, rows = tidy(classes, number), counts.sum(1, keepdims=True)
    shares = np.divide(counts, rows, out=np.zeros(counts.shape), where=rows > 0)
    size = min(5.0, 2.6 + 0.3 * number)
    with drawing(ax, size + 0.5, size) as ax:
        mesh = ax.pcolormesh(shares, cmap=blues(), vmin=0, vmax=1)
        bar = ax.figure.colorbar(mesh, ax=ax, shrink=0.8, label="share of the true class")
        bar.outline.set_visible(False)
        ax.set(aspect="equal", xlabel="predicted class", ylabel="true class")
        ax.invert_yaxis()
        ax.grid(False)
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0)
        step = 1 if number <= _NAMED else -(-number // _NAMED)
        ticks = np.arange(0, number, step)
        small = {"fontsize": 9 if number <= 10 else 7.5 if number <= 40 else 6}
        shown = [names[tick] for tick in ticks]
        turned = {"rotation": 45, "ha": "right"} if max(map(len, shown)) > 2 else {}
        ax.set_xticks(ticks + 0.5, shown, **small, **turned)
        ax.set_yticks(ticks + 0.5, shown, **small)
        if number <= _WRITTEN:
            for (row, column), count in np.ndenumerate(counts):
                if count:
                    words = f"{count:g}" if count < 1e4 else f"{count / 1000:.0f}k"
                    ax.text(
                        column + 0.5, row + 0.5, words, ha="center", va="center",
                        fontsize=8 if number <= 8 else 6.5,
                    )  # fmt: skip
    return ax
