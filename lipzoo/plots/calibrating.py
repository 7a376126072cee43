"""Whether what a model holds for probable comes true as often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lipzoo.errors import DataError
from lipzoo.plots.arrays import as_numbers, interval
from lipzoo.plots.style import COLOURS, GREY, RULE, drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["ReliabilityBin", "calibration", "expected_calibration_error", "reliability"]


@dataclass(frozen=True)
class ReliabilityBin:
    """The predictions whose confidence lies in (low, high]; the first bin holds 0 too.

    Parameters
    ----------
    low, high : float
        Ends of the bin.
    count : int
        Predictions in it.
    confidence : float
        Their mean confidence.
    accuracy : float
        Share of them that came true.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


def reliability(confidence: Any, right: Any, bins: int = 15) -> list[ReliabilityBin]:
    """The bins of equal width that hold something.

    Parameters
    ----------
    confidence : Tensor or array (n,)
        Probability of what was predicted, in [0, 1].
    right : Tensor or array (n,)
        Whether it came true, 0 or 1.
    bins : int
        Into which [0, 1] is cut.

    Raises
    ------
    DataError
        If there is nothing, they are not as many, or a number is out of its range.
    """
    confidence = as_numbers(confidence, "confidence", 1).astype(np.float64)
    right = as_numbers(right, "right", 1).astype(np.float64)
    if bins < 1 or len(confidence) != len(right) or not len(right):
        raise DataError(f"{bins} bins of {len(confidence)} probabilities and {len(right)} outcomes")
    if not ((confidence >= 0) & (confidence <= 1)).all() or not np.isin(right, (0, 1)).all():
        raise DataError("probabilities must lie in [0, 1], and outcomes be 0 or 1")
    edges = np.linspace(0, 1, bins + 1)
    place = np.searchsorted(edges[1:-1], confidence)  # a value on an edge belongs below it
    found = []
    for number in np.unique(place):
        chosen = place == number
        ends = float(edges[number]), float(edges[number + 1])
        means = float(confidence[chosen].mean()), float(right[chosen].mean())
        found.append(ReliabilityBin(*ends, int(chosen.sum()), *means))
    return found


def expected_calibration_error(confidence: Any, right: Any, bins: int = 15) -> float:
    r"""Mean gap between confidence and accuracy (ECE).

    .. math:: \mathrm{ECE} = \sum_b \frac{n_b}{n} \, | \mathrm{acc}_b - \mathrm{conf}_b |

    over bins of equal width. 0: of what is held for 80 % probable, 80 % comes true.

    Parameters
    ----------
    confidence, right, bins
        See :func:`reliability`.

    References
    ----------
    Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, section 2.
    """
    found = reliability(confidence, right, bins)
    total = sum(each.count for each in found)
    return sum(each.count * abs(each.accuracy - each.confidence) for each in found) / total


def calibration(confidence: Any, right: Any, bins: int = 15, ax: Axes | None = None) -> Axes:
    """A reliability diagram: accuracy over confidence, which the diagonal would equal.

    The bars at the bottom are the share of the predictions in each bin; lines through the dots are
    95 % intervals (Wilson).

    Parameters
    ----------
    confidence, right, bins
        See :func:`reliability`.
    ax : matplotlib Axes, optional
        To draw on; by default those of a new figure, ``ax.figure``.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    DataError
        See :func:`reliability`.
    ConfigError
        If matplotlib is not installed.
    """
    found = reliability(confidence, right, bins)
    error = expected_calibration_error(confidence, right, bins)
    total = sum(each.count for each in found)
    accuracy = np.array([each.accuracy for each in found])
    ends = np.array([interval(each.accuracy * each.count, each.count) for each in found])
    with drawing(ax, 4.6, 4.2) as ax:
        ax.bar(
            [each.low for each in found],
            [each.count / total for each in found],
            width=1 / bins,
            align="edge",
            color=RULE,
            edgecolor=GREY,
            linewidth=0.5,
            label="share of predictions",
        )
        ax.plot([0, 1], [0, 1], color=GREY, linestyle="--", label="calibrated", zorder=2)
        ax.errorbar(
            [each.confidence for each in found],
            accuracy,
            yerr=np.abs(ends.T - accuracy),
            color=COLOURS[0],
            marker="o",
            markersize=5,
            elinewidth=1,
            capsize=2,
            label="accuracy",
        )
        ax.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="confidence", ylabel="accuracy")
        ax.set_title(f"expected calibration error {error:.3f}")
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=3, columnspacing=1)
    return ax
