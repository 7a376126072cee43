"""Figures of the laboratory as SVG and PNG; none without matplotlib, which is an optional extra."""

from __future__ import annotations

import importlib.util

from lipzoo import _figures

__all__ = ["is_available", "legend_below", "new_figure", "rendered"]


def is_available() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def new_figure(width: float, height: float, title: str, fontsize: str = "medium"):
    """A figure of this size in inches, not counting its title."""
    figure = _figures.new_figure(width, height + 0.6)
    figure.suptitle(title, fontsize=fontsize, wrap=True)
    return figure


def legend_below(figure, axes, columns: int) -> None:
    """One legend for all axes, each label once; fewer columns where the labels are long."""
    handles = {
        label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels())
    }
    inches = 0.6 + 0.075 * max(map(len, handles))  # of a small letter, about
    columns = max(1, min(columns, int(figure.get_size_inches()[0] / inches)))
    place = {"loc": "outside lower center", "fontsize": "small"}
    figure.legend(handles.values(), handles, ncols=columns, **place)


def rendered(figure, name: str, text_as: str = "none") -> dict[str, bytes]:
    """``{"<name>.svg": …, "<name>.png": …}``, the same bytes for the same figure.

    ``text_as`` is ``none`` (text stays text in the SVG) or ``path`` (it is drawn).
    """
    kinds = ("svg", "png")
    return {f"{name}.{kind}": _figures.rendered(figure, kind, text_as, dpi=120) for kind in kinds}
