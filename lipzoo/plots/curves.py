"""Curves of a training over its epochs, a line a seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lipzoo.errors import DataError
from lipzoo.plots.style import COLOURS, drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["column_words", "mean_curve", "training_curves"]

#: What is recorded at each evaluation: ``epoch``, ``train_loss``, ``val_loss``, ``val_accuracy`` …
History = Sequence[Mapping[str, float]]


def mean_curve(histories: Mapping[int, History], column: str) -> list[tuple[float, float]]:
    r"""``(epoch, mean over the seeds)`` at the epochs that every seed has a finite value of.

    .. math:: \bar y_t = \frac1S \sum_s y_{s,t}

    Behind the epoch at which the first of S seeds stopped there is none: the mean of those that
    are left would be one of fewer seeds.
    """
    lines = [dict(_points(rows, column)) for rows in histories.values()]
    shared = set.intersection(*map(set, lines)) if lines else set()
    return [(epoch, sum(line[epoch] for line in lines) / len(lines)) for epoch in sorted(shared)]


def training_curves(
    histories: History | Mapping[int, History],
    columns: Sequence[str] = ("train_loss", "val_loss"),
    ax: Axes | None = None,
    *,
    best: Mapping[int, int] | None = None,
) -> Axes:
    """A thin line a seed and the mean over the seeds, for each column, over the epochs.

    Parameters
    ----------
    histories : sequence of dict, or mapping of int to sequence of dict
        What was recorded, of one training or by seed: ``fit(…).history``, or the rows of
        ``metrics.csv``. Values that are not finite are left out.
    columns : sequence of str
        Keys of the rows.
    ax : matplotlib Axes, optional
        To draw on; by default those of a new figure, ``ax.figure``.
    best : mapping of int to int, optional
        The epoch that each seed's weights are of, which gets a dot.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    DataError
        If no seed has a value of a column.
    ConfigError
        If matplotlib is not installed.
    """
    if not isinstance(histories, Mapping):
        histories = {0: histories}
    with drawing(ax) as ax:
        for number, column in enumerate(columns):
            colour, dashes = COLOURS[number % len(COLOURS)], ("-", "--", ":", "-.")[number % 4]
            lines = {seed: _points(rows, column) for seed, rows in histories.items()}
            if not any(lines.values()):
                raise DataError(f"no seed has a value of {column!r}")
            is_alone = len(lines) == 1
            for seed, points in lines.items():
                if points:
                    width, strength = (1.6, 1.0) if is_alone else (0.7, 0.35)
                    line = {"color": colour, "linestyle": dashes, "linewidth": width}
                    label = column_words(column) if is_alone else None
                    marker = "." if len(points) == 1 else None  # a line of one point is none
                    ax.plot(*zip(*points), alpha=strength, label=label, marker=marker, **line)
                chosen = [point for point in points if best and point[0] == best.get(seed)]
                if chosen:
                    ax.plot(*zip(*chosen), "o", color=colour, markersize=4, zorder=3)
            mean = [] if is_alone else mean_curve(histories, column)
            if mean:
                label = f"{column_words(column)}, mean"
                marker = "." if len(mean) == 1 else None
                ax.plot(
                    *zip(*mean), color=colour, linestyle=dashes, linewidth=2, label=label,
                    marker=marker,
                )  # fmt: skip
            elif not is_alone:
                ax.plot(
                    [], [], color=colour, linestyle=dashes, label=f"{column_words(column)}, a seed"
                )
        ax.set_xlabel("epoch")
        ax.set_ylabel(column_words(columns[0]) if len(columns) == 1 else "loss")
        ax.legend()
    return ax


def _points(rows: History, column: str) -> list[tuple[float, float]]:
    found = ((row.get("epoch"), row.get(column)) for row in rows)
    return [(x, y) for x, y in found if _is_finite(x) and _is_finite(y)]


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def column_words(column: str) -> str:
    """``validation loss`` of ``val_loss``."""
    split, _, what = column.partition("_")
    splits = {"train": "training", "val": "validation", "test": "test"}
    return f"{splits[split]} {what.replace('_', ' ')}" if split in splits else column
