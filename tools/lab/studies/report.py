"""From the rows of a sweep to a table in Markdown and plots, beside the published figures."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lab.studies import plots
from lab.studies.store import Table
from lab.studies.sweep import Sweep, make_sweep
from lab.studies.work import results_table
from lipzoo._yaml import write_atomically

__all__ = ["Cell", "collect", "markdown_table", "write_report"]

TABLE_FILE = "table.md"


@dataclass(frozen=True)
class Cell:
    """Results of one model at one depth and missing rate, over the seeds.

    Parameters
    ----------
    val, test : tuple of float
        Metric in [0, 1], one a seed.
    """

    val: tuple[float, ...]
    test: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean test metric in %."""
        return 100 * float(np.mean(self.test))

    @property
    def std(self) -> float:
        """Sample standard deviation in %; NaN for one seed."""
        return 100 * float(np.std(self.test, ddof=1)) if len(self.test) > 1 else float("nan")

    def __str__(self) -> str:
        spread = f" ± {self.std:.1f}" if len(self.test) > 1 else ""
        return f"{self.mean:.1f}{spread} ({len(self.test)})"


#: model, missing rate, depth
Cells = dict[tuple[str, float, int], Cell]


def collect(sweep: Sweep, rows: Iterable[dict[str, Any]]) -> tuple[Cells, list[dict[str, Any]]]:
    """The rows by point, and those that belong to other settings.

    A row counts where its recipe hash is that of the sweep as it is now; its seed may be any.
    """
    wanted = {
        (p.model, str(p.depth), f"{p.missing_rate:g}", p.recipe_hash): p
        for p in sweep.points(seeds=[0])
    }
    found: dict[tuple[str, float, int], list[dict[str, Any]]] = {}
    others = []
    for row in rows:
        key = tuple(row[name] for name in ("model", "depth", "missing_rate", "recipe_hash"))
        if key in wanted:
            point = wanted[key]
            found.setdefault((point.model, point.missing_rate, point.depth), []).append(row)
        else:
            others.append(row)
    cells = {}
    for key, group in found.items():
        group.sort(key=lambda row: int(row["seed"]))
        val, test = (tuple(float(row[name]) for row in group) for name in ("val", "test"))
        cells[key] = Cell(val, test)
    return cells, others


def write_report(content: dict[str, Any], out: str | os.PathLike) -> str:
    """Write ``table.md`` and the plots of what a folder holds, and return the table.

    Parameters
    ----------
    content : dict
        The sweep, as :func:`~lab.studies.load_sweep` gave it.
    out : path
        The sweep's folder.

    Raises
    ------
    OutputError
        If a file cannot be read or written.
    """
    folder, sweep = Path(out), make_sweep(content, "sweep")
    table = results_table(folder, sweep)
    if sweep.kind == "gradients":
        text, files = _gradient_report(sweep, table)
    else:
        text, files = _accuracy_report(sweep, table)
    write_atomically(folder / TABLE_FILE, text.encode("utf-8"))
    for name, data in files.items():
        write_atomically(folder / name, data)
    return text


def _accuracy_report(sweep: Sweep, table: Table) -> tuple[str, dict[str, bytes]]:
    cells, others = collect(sweep, table.rows)
    metric = table.rows[0]["metric"].replace("_", " ") if table.rows else "accuracy"
    lines = [
        f"# {_title(sweep)}",
        "",
        f"Test {metric} in %: mean ± standard deviation (number of seeds) at the epoch chosen on "
        "the validation nodes.",
    ]
    if sweep.reference.source:
        lines += ["", f"Published: {sweep.reference.source}"]
    for rate in map(float, sweep.missing_rates):
        title = (
            f"{rate:.0%} missing vectors" if len(sweep.missing_rates) > 1 else metric.capitalize()
        )
        lines += ["", f"## {title} by depth", "", *_depth_table(sweep, cells, rate)]
        lines += ["", f"## {title} at the best depth", "", *_best_table(sweep, cells, rate)]
    lines += _remarks(sweep, table, others)
    name = f"accuracy_by_depth_{sweep.dataset}"
    return "\n".join(lines) + "\n", plots.accuracy_by_depth(sweep, cells, _title(sweep), name)


def _title(sweep: Sweep) -> str:
    return sweep.description or f"{sweep.kind.capitalize()} on {sweep.dataset}"


def _published(sweep: Sweep, model: str, rate: float) -> dict[int, float]:
    return sweep.reference.test.get(model, {}).get(rate, {})


def _depth_table(sweep: Sweep, cells: Cells, rate: float) -> list[str]:
    header = ["layers"]
    for model in sweep.models:
        header += [model] + ["published"] * bool(_published(sweep, model, rate))
    rows = []
    for depth in sweep.depths:
        row = [str(depth)]
        for model in sweep.models:
            row.append(str(cells.get((model, rate, depth), "-")))
            published = _published(sweep, model, rate)
            if published:
                row.append(f"{published[depth]:g}" if depth in published else "-")
        rows.append(row)
    return markdown_table(header, rows)


def _best_table(sweep: Sweep, cells: Cells, rate: float) -> list[str]:
    """The depth that validation chooses, never the test metric."""
    rows = []
    for model in dict.fromkeys([*sweep.models, *sweep.reference.test]):
        ours = {depth: cell for (m, r, depth), cell in cells.items() if (m, r) == (model, rate)}
        published = _published(sweep, model, rate)
        if not (ours or published):
            continue
        row = [model, "-", "-", "-"]
        if ours:
            depth = max(ours, key=lambda depth: (np.mean(ours[depth].val), -depth))
            row[1:3] = str(depth), str(ours[depth])
        if published:
            depth = max(published, key=published.get)
            row[3] = f"{published[depth]:g} ({depth} layers)"
        rows.append(row)
    return markdown_table(["model", "layers, by validation", "test", "published best"], rows)


def markdown_table(header: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of a table whose first column holds names and whose others hold figures."""
    lines = [header, ["---"] + ["--:"] * (len(header) - 1), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def _remarks(sweep: Sweep, table: Table, others: list[dict[str, Any]]) -> list[str]:
    lines = [f"- {note}" for note in sweep.reference.notes]
    if others:
        lines.append(
            f"- {len(others)} rows of {table.path.name} were made with other settings, and are "
            "left out here."
        )
    versions = {
        ", ".join(f"{name} {row[name]}" for name in ("lipzoo", "torch", "dgl"))
        for row in table.rows
        if row not in others
    }
    if versions:
        lines.append(f"- Made with {'; '.join(sorted(versions))}; one thread a run.")
    if not plots.is_available():
        lines.append("- No plot: `pip install 'lipzoo[plot]'` brings matplotlib.")
    return ["", *lines] if lines else []


def _gradient_report(sweep: Sweep, table: Table) -> tuple[str, dict[str, bytes]]:
    hashes = {p.recipe_hash for p in sweep.points(seeds=[0])}
    rows = [row for row in table.rows if row["recipe_hash"] in hashes]
    lines = [
        f"# {_title(sweep)}",
        "",
        "Norm of the gradient of the training loss, without dropout, at the weights of a layer and "
        "at its output: geometric mean over the seeds, at the first and the last layer.",
        "",
    ]
    grouped = gradient_means(rows)
    lines += markdown_table(
        _GRADIENT_HEADER,
        [
            [model, str(depth), str(epoch)]
            + [f"{value:.2e}" for value in (g[0, 0], g[-1, 0], g[0, 1], g[-1, 1])]
            + [f"{g[0, 1] / g[-1, 1]:.2e}" if g[-1, 1] else "-", str(seeds)]
            for (model, depth, epoch), (g, seeds) in grouped.items()
        ],
    )
    lines += _remarks(sweep, table, [row for row in table.rows if row not in rows])
    name = f"gradients_{sweep.dataset}"
    return "\n".join(lines) + "\n", plots.gradients_by_layer(sweep, grouped, _title(sweep), name)


_GRADIENT_HEADER = [
    *("model", "layers", "epochs", "weights, first", "weights, last"),
    *("output, first", "output, last", "first / last, output", "seeds"),
]


def gradient_means(
    rows: list[dict[str, Any]],
) -> dict[tuple[str, int, int], tuple[np.ndarray, int]]:
    """Geometric means over the seeds, by model, depth and epoch.

    Returns
    -------
    dict
        To an array (L, 2) of weight and output gradient, and the number of seeds.
    """
    groups: dict[tuple[str, int, int], dict[int, dict[int, list[float]]]] = {}
    for row in rows:
        key = (row["model"], int(row["depth"]), int(row["epoch"]))
        norms = [float(row["weight_gradient"]), float(row["feature_gradient"])]
        groups.setdefault(key, {}).setdefault(int(row["seed"]), {})[int(row["layer"])] = norms
    means = {}
    for key, by_seed in groups.items():
        stack = np.array([[layers[n] for n in sorted(layers)] for layers in by_seed.values()])
        with np.errstate(divide="ignore"):  # a norm of 0 stays 0
            means[key] = (np.exp(np.log(stack).mean(0)), len(by_seed))
    return means
