"""Figures of matplotlib, an optional extra: made, and rendered to the same bytes each time."""

from __future__ import annotations

import io
from typing import Any

from lipzoo.errors import ConfigError

__all__ = ["new_figure", "rendered"]


def new_figure(width: float, height: float):
    """An empty figure of this size in inches.

    Raises
    ------
    ConfigError
        If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError("plots need matplotlib: pip install 'lipzoo[plot]'") from None
    return Figure(figsize=(width, height), layout="constrained")


def rendered(figure, kind: str, text_as: str = "path", **options: Any) -> bytes:
    """A figure in a format; the same figure gives the same bytes in SVG and PNG.

    ``text_as`` is ``none`` (text stays text in the SVG) or ``path`` (it is drawn); ``options`` are
    those of ``savefig``.

    Raises
    ------
    ValueError
        If matplotlib knows no such format.
    """
    import matplotlib

    buffer = io.BytesIO()
    if kind == "svg":
        options["metadata"] = {"Date": None}
    with matplotlib.rc_context({"svg.hashsalt": "lipzoo", "svg.fonttype": text_as}):
        figure.savefig(buffer, format=kind, **options)
    return buffer.getvalue()
