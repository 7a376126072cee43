"""How many nodes keep their class however the features move within a radius."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lipzoo.errors import DataError
from lipzoo.plots.style import COLOURS, drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["certified_shares"]


def certified_shares(
    curves: Mapping[str, Sequence[tuple[float, float]]], ax: Axes | None = None
) -> Axes:
    """Share of the nodes whose class provably stays, over the radius that the features move by.

    Parameters
    ----------
    curves : mapping of str to sequence of (float, float)
        By label, (radius, share): :meth:`lipzoo.lipschitz.Robustness.curve`.
    ax : matplotlib Axes, optional
        To draw on; by default those of a new figure, ``ax.figure``.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    DataError
        If a curve has no points.
    ConfigError
        If matplotlib is not installed.
    """
    if not curves or not all(curves.values()):
        raise DataError("a curve of certified shares needs points")
    with drawing(ax, 5.0, 3.4) as ax:
        for number, (label, curve) in enumerate(curves.items()):
            dashes = ("-", "--", ":", "-.")[number % 4]
            look = {"color": COLOURS[number % 8], "linestyle": dashes, "where": "post"}
            ax.step(*zip(*curve), label=label, **look)
        if all(radius > 0 for curve in curves.values() for radius, _ in curve):
            ax.set_xscale("log")
        ax.set(ylim=(0, 1.02), xlabel="radius that each node's features move by (Euclidean norm)")
        ax.set_ylabel("share of the nodes")
        if len(curves) > 1:
            ax.legend(loc="lower left")
    return ax
