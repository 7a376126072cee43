"""Cost against depth and against the number of edges; needs matplotlib (the extra ``plot``)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from lab.benchmark.cases import IMPLEMENTATIONS, LIMIT
from lab.plots import is_available, new_figure, rendered

__all__ = ["plot_depth", "plot_edges"]


def plot_depth(rows: Iterable[dict]) -> dict[str, bytes]:
    """``depth.svg`` and ``depth.png``: a training step against the number of layers.

    Of the graph and width that most depths were measured on; nothing where there is one depth.
    """
    steps = [row for row in rows if row["depth"] and row["status"] == "ok"]
    chosen = _largest(steps, lambda row: (row["graph"], row["width"], row["threads"]), "depth")
    if not chosen:
        return {}
    first = chosen[0]
    title = f"One training step on {first['graph']} ({first['num_edges']:,} edges)"
    return _plot(chosen, "depth", title)


def plot_edges(rows: Iterable[dict]) -> dict[str, bytes]:
    """``edges.svg`` and ``edges.png``: one layer against E, on generated graphs."""
    layers = [
        row
        for row in rows
        if not row["depth"] and row["status"] == "ok" and row["graph"].startswith("powerlaw")
    ]
    chosen = _largest(layers, lambda row: (row["width"], row["threads"]), "num_edges")
    title = "One layer, forward and backward, on graphs with a power law of degrees"
    return _plot(chosen, "num_edges", title) if chosen else {}


def _largest(rows: list[dict], key: Callable[[dict], tuple], along: str) -> list[dict]:
    """The rows of the key that has most values ``along`` the axis, of the greatest of such keys;
    none where it has one."""
    values: dict[tuple, set] = {}
    for row in rows:
        values.setdefault(key(row), set()).add(row[along])
    best = max(values, key=lambda k: (len(values[k]), k), default=None)
    if best is None or len(values[best]) < 2:
        return []
    return [row for row in rows if key(row) == best]


def _plot(rows: list[dict], along: str, title: str) -> dict[str, bytes]:
    if not is_available():
        return {}
    sizes = f"{rows[0]['heads']} heads of {rows[0]['width']}"
    figure = new_figure(10, 3.4, f"{title}, {sizes}", fontsize="large")
    for axis, (column, unit) in zip(
        figure.subplots(1, 2), (("seconds", "seconds"), ("memory_mib", "MiB a step"))
    ):
        for number, name in enumerate(IMPLEMENTATIONS):
            points = sorted(
                (row[along], row[column])
                for row in rows
                if row["implementation"] == name and row[column]
                # A limit of time; its memory says nothing.
                if (name, column) != (LIMIT, "memory_mib")
            )
            if len(points) > 1:
                axis.plot(*zip(*points), marker="o", label=name, color=f"C{number}")
        axis.set_xlabel("layers" if along == "depth" else "edges")
        axis.set_ylabel(unit)
        axis.set_xscale("log", base=2 if along == "depth" else 10)
        axis.set_yscale("log")
        axis.grid(alpha=0.3)
        if along == "depth":
            ticks = sorted({row[along] for row in rows})
            axis.set_xticks(ticks, map(str, ticks), minor=False)
    handles = figure.axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside right center", fontsize="small")
    return rendered(figure, along.removeprefix("num_"), text_as="path")
