"""Pictures of certificates and of the flow of gradients; matplotlib is an optional extra."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lipzoo._atomic import write_atomically
from lipzoo._figures import new_figure, rendered
from lipzoo.errors import ConfigError

__all__ = ["plot_curve", "plot_flow", "save", "svg"]


def _figure(rows: int = 1, columns: int = 1, size: tuple[float, float] = (6, 3.5)):
    figure = new_figure(*size)
    return figure, figure.subplots(rows, columns, squeeze=False).ravel()


def plot_curve(curve: Sequence[tuple[float, float]], title: str = ""):
    """Certified share of the nodes over the radius."""
    figure, (axis,) = _figure()
    radii, shares = zip(*curve)
    axis.step(radii, shares, where="post")
    if radii[0] > 0:
        axis.set_xscale("log")
    axis.set(ylim=(0, 1.02), xlabel="radius of every node's features", title=title)
    axis.set_ylabel("share of nodes certified")
    return figure


def plot_flow(flows: Sequence[tuple[str, list[dict]]], columns: Sequence[str]):
    """A panel a column, a line a flow, over the layers.

    Parameters
    ----------
    flows : sequence of (str, list of dict)
        Label and rows of each.
    columns : sequence of str
        Keys of the rows.
    """
    rows = -(-len(columns) // 2)
    figure, axes = _figure(rows, 2, (9, 2.6 * rows))
    for axis, column in zip(axes, columns):
        for label, table in flows:
            points = [(i, row[column]) for i, row in enumerate(table) if row[column] is not None]
            if points:
                axis.plot(*zip(*points), marker=".", label=label)
        values = [row[column] for _, table in flows for row in table if row[column] is not None]
        if values and min(values) > 0 and max(values) > 20 * min(values):
            axis.set_yscale("log")
        else:
            axis.ticklabel_format(axis="y", useOffset=False)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.set_title(column.replace("_", " "), fontsize="medium")
        axis.set_xlabel("layer")
    for axis in axes[len(columns) :]:
        axis.set_axis_off()
    if len(flows) > 1:
        axes[0].legend(fontsize="small")
    return figure


def save(figure, path: str | Path) -> None:
    """Write a figure; the suffix decides its format.

    Raises
    ------
    ConfigError
        If there is no such format.
    OutputError
        If the file cannot be written.
    """
    kind = Path(path).suffix.removeprefix(".") or "svg"
    try:
        data = rendered(figure, kind)
    except ValueError as fault:
        raise ConfigError(f"{path}: {fault}") from None
    write_atomically(path, data)


def svg(figure) -> str:
    """A figure as an ``<svg>`` element to put into a page, the same for the same figure."""
    text = rendered(figure, "svg").decode()
    return text[text.index("<svg") :]
