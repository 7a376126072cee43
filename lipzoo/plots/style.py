"""How all pictures look: colours that colour-blind readers tell apart, on white and on black."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lipzoo._figures import need, new_figure
from lipzoo.errors import DataError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["COLOURS", "GREY", "INK", "MARKERS", "PAPER", "RULE", "blues", "drawing", "tidy"]

#: Text, lines of a grid, and what pictures stand on; a page replaces them in the dark.
INK, RULE, PAPER = "#1b1f24", "#c9d1d9", "#ffffff"
#: What there is nothing to say of.
GREY = "#7d7d7d"
#: After Okabe and Ito, darkened so that each has a contrast of 3 : 1 on white and on black.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#c25f9b", "#a67c00", "#3b8fc2", "#8f4b9e", "#b0413e")
#: So that no colour stands alone for a class.
MARKERS = ("o", "s", "^", "D", "v", "P", "p", "<")

_STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": INK,
    "axes.facecolor": PAPER,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "figure.facecolor": PAPER,
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "savefig.facecolor": PAPER,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


@contextmanager
def drawing(ax: Axes | None, width: float = 5.0, height: float = 3.5) -> Iterator[Axes]:
    """The axes to draw on: those given, as they look, or those of a new figure in our style.

    Raises
    ------
    ConfigError
        If matplotlib is not installed.
    """
    matplotlib = need("matplotlib")
    if ax is not None:
        yield ax
        return
    with matplotlib.rc_context(_STYLE):
        yield new_figure(width, height).subplots()


def blues():
    """A map of [0, 1] to blue that lets what is behind it through: text stays readable on it."""
    colours = need("matplotlib.colors")
    red, green, blue = colours.to_rgb(COLOURS[0])
    ends = [(red, green, blue, 0.0), (red, green, blue, 0.6)]
    return colours.LinearSegmentedColormap.from_list("lipzoo", ends)


def tidy(names: Sequence[str], count: int) -> list[str]:
    """The names of classes, cut where they are long; their numbers where they have none.

    Raises
    ------
    DataError
        If there are names, and not as many.
    """
    if not names:
        return [str(number) for number in range(count)]
    if len(names) != count:
        raise DataError(f"{len(names)} names for {count} classes")
    return [name if len(name) <= 18 else f"{name[:17]}…" for name in map(str, names)]
