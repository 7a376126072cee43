"""Figures of matplotlib, an optional extra: made, and rendered to the same bytes each time."""

from __future__ import annotations

import io
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from lipzoo._atomic import write_atomically
from lipzoo.errors import ConfigError

__all__ = ["need", "new_figure", "rendered", "save_figure"]


def need(package: str) -> ModuleType:
    """A package that pictures are drawn with.

    Raises
    ------
    ConfigError
        If it is not installed.
    """
    try:
        return import_module(package)
    except ImportError:
        name = package.partition(".")[0]
        raise ConfigError(f"plots need {name}: pip install 'lipzoo[plots]'") from None


def new_figure(width: float, height: float):
    """An empty figure of this size in inches.

    Raises
    ------
    ConfigError
        If matplotlib is not installed.
    """
    figure = need("matplotlib.figure")
    return figure.Figure(figsize=(width, height), layout="constrained")


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


def save_figure(figure, path: str | Path) -> None:
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
