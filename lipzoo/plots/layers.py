"""Numbers layer by layer: norms of gradients, entropy of attention, smoothness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lipzoo.plots.style import COLOURS, drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["by_layer"]

_DASHES = ("-", "--", ":", "-.")


def by_layer(
    flows: Mapping[str, Sequence[Mapping[str, float | None]]],
    column: str,
    ax: Axes | None = None,
    *,
    words: str = "",
) -> Axes:
    """A line a flow over the layers; in the logarithm where positive values differ twentyfold.

    Parameters
    ----------
    flows : mapping of str to sequence of dict
        By label, a row a layer: ``gradient_flow(…).rows``. A row without a value is left out.
    column : str
        Key of the rows.
    ax : matplotlib Axes, optional
        To draw on; by default those of a new figure, ``ax.figure``.
    words : str
        What stands beside the axis; by default the column's name.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ConfigError
        If matplotlib is not installed.
    """
    values = [row[column] for rows in flows.values() for row in rows if row[column] is not None]
    with drawing(ax, 5.0, 3.2) as ax:
        for number, (label, rows) in enumerate(flows.items()):
            points = [(i, row[column]) for i, row in enumerate(rows) if row[column] is not None]
            if points:
                look = {"color": COLOURS[number % 8], "linestyle": _DASHES[number % 4]}
                ax.plot(*zip(*points), marker=".", label=label, **look)
        if values and min(values) > 0 and max(values) > 20 * min(values):
            ax.set_yscale("log")
        else:
            ax.ticklabel_format(axis="y", useOffset=False)
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.set(xlabel="layer", ylabel=words or column.replace("_", " "))
        if len(flows) > 1:
            ax.legend()
    return ax
