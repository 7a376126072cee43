"""From the rows of a sweep to a table in Markdown and plots, beside the published figures."""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from lab.engine import Rows
from lab.plots import is_available
from lab.report import Cell, grouped, versions_of, write_files
from lab.studies import plots
from lab.studies.curves import write_curves
from lab.studies.points import kind_of
from lab.studies.sweep import Sweep, make_sweep
from lipzoo._tables import markdown_table

__all__ = ["collect", "gradient_means", "write_report"]

#: model, missing rate, depth
Cells = dict[tuple[str, float, int], Cell]


def collect(sweep: Sweep, rows: Iterable[dict[str, Any]]) -> tuple[Cells, list[dict[str, Any]]]:
    """The rows by point, and those that belong to other settings.

    A row counts where its recipe hash is that of the sweep as it is now; its seed may be any,
    where not each seed has a recipe of its own.
    """
    wanted = {
        (p.model, str(p.depth), f"{p.missing_rate:g}", p.recipe_hash): (
            (p.model, p.missing_rate, p.depth)
        )
        for p in sweep.points(seeds=None if sweep.space else [0])
    }
    columns = ("model", "depth", "missing_rate", "recipe_hash")
    found, others = grouped(rows, columns, wanted)
    return {key: Cell.of(group) for key, group in found.items()}, others


def write_report(content: dict[str, Any], out: str | os.PathLike) -> str:
    """Write ``table.md`` and the plots of what a folder holds, and return the table.

    Raises
    ------
    OutputError
        If a file cannot be read or written.
    """
    folder, sweep = Path(out), make_sweep(content, "sweep")
    table = Rows(folder, kind_of(content))
    report = {"gradients": _gradient_report, "untuned": _untuned_report}
    return write_files(folder, *report.get(sweep.kind, _accuracy_report)(sweep, table))


def _metric(table: Rows) -> str:
    return table.rows[0]["metric"].replace("_", " ") if table.rows else "accuracy"


def _accuracy_report(sweep: Sweep, table: Rows) -> tuple[list[str], dict[str, bytes]]:
    cells, others = collect(sweep, table.rows)
    metric = _metric(table)
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
    by_depth = plots.accuracy_by_depth(sweep, cells, _title(sweep), name)
    return lines, {**by_depth, **write_curves(sweep, table.path.parent, _title(sweep))}


def _untuned_report(sweep: Sweep, table: Rows) -> tuple[list[str], dict[str, bytes]]:
    _, others = collect(sweep, table.rows)
    mine = [row for row in table.rows if row not in others]
    in_order = _in_order(sweep, mine)
    cells, _ = collect(sweep, in_order)
    lines = [
        f"# {_title(sweep)}",
        "",
        "Recipes drawn at random, the same ones for all models, one seed each; what varies:",
        "",
        *markdown_table(["field", "values"], [[k, _words(v)] for k, v in sweep.space.items()]),
        "",
        f"Test {_metric(table)} in % at the epoch chosen on the validation nodes: quartiles and "
        "largest over the recipes, and the share of recipes (± standard error) that reach a level; "
        "of a depth the first recipes, by their seeds, that all models were trained with.",
        "",
    ]
    header = ["model", "layers", "recipes", "lower quartile", "median", "upper quartile", "largest"]
    header += [f">= {100 * level:g}" for level in sweep.levels]
    rows = []
    for (model, _, depth), cell in sorted(cells.items(), key=lambda pair: pair[0][2]):
        test = np.array(cell.test)
        row = [model, str(depth), str(len(test))]
        row += [f"{100 * np.quantile(test, q):.1f}" for q in (0.25, 0.5, 0.75, 1.0)]
        rows.append(row + [_share(test >= level) for level in sweep.levels])
    lines += markdown_table(header, rows, figures=True)
    lines += _beside_plain(sweep, in_order)
    lines += _by_thirds(sweep, in_order)
    lines += _deeper(sweep, mine)
    lines += _remarks(sweep, table, others)
    return lines, plots.share_of_recipes(sweep, cells, _title(sweep), f"untuned_{sweep.dataset}")


def _middle_level(sweep: Sweep) -> float:
    return sweep.levels[len(sweep.levels) // 2]


def _seeds_of(rows: list[dict[str, Any]]) -> dict[int, set[int]]:
    """The seeds that all models were trained with, by depth."""
    found: dict[int, dict[str, set[int]]] = {}
    for row in rows:
        by_model = found.setdefault(int(row["depth"]), {})
        by_model.setdefault(row["model"], set()).add(int(row["seed"]))
    return {depth: set.intersection(*by_model.values()) for depth, by_model in found.items()}


def _in_order(sweep: Sweep, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each depth the rows of the first recipes: of others that were trained, which somebody may
    have picked, no share could be told."""
    first = {
        depth: {*takewhile(seeds.__contains__, sweep.seeds)}
        for depth, seeds in _seeds_of(rows).items()
    }
    return [row for row in rows if int(row["seed"]) in first[int(row["depth"])]]


def _deeper(sweep: Sweep, rows: list[dict[str, Any]]) -> list[str]:
    """Whether recipes that train the least deep networks train the deeper ones."""
    seeds = _seeds_of(rows)
    if len(seeds) < 2 or not sweep.levels:
        return []
    least, level = min(seeds), _middle_level(sweep)
    train = {
        int(row["seed"])
        for row in rows
        if int(row["depth"]) == least and float(row["val"]) >= level
    }
    picked = set.intersection(train, *seeds.values())
    counts: dict[int, dict[str, int]] = {}
    for row in rows:
        if int(row["seed"]) in picked:
            reached = counts.setdefault(int(row["depth"]), dict.fromkeys(sweep.models, 0))
            reached[row["model"]] += float(row["test"]) >= level
    lines = [
        "",
        f"Recipes that reach {100 * level:g} at {least} layers with some model on the validation "
        f"nodes: {len(seeds[least] & train)}, with more layers trained of these: {len(picked)}. "
        f"How many of the latter reach {100 * level:g} on the test nodes:",
        "",
    ]
    table = [[str(d), *map(str, reached.values())] for d, reached in sorted(counts.items())]
    return lines + markdown_table(["layers", *sweep.models], table, figures=True)


def _beside_plain(sweep: Sweep, rows: list[dict[str, Any]]) -> list[str]:
    """``X+norm`` beside ``X``, recipe by recipe: that says more than two shares do."""
    tests = {(row["model"], row["depth"], row["seed"]): float(row["test"]) for row in rows}
    models = sweep.models
    pairs = [
        (model, plain) for plain in models for model in models if model.startswith(f"{plain}+")
    ]
    found = []
    for depth in map(str, sweep.depths):
        for model, plain in pairs:
            both = [
                (test, tests[plain, depth, seed])
                for (*of, seed), test in tests.items()
                if of == [model, depth] and (plain, depth, seed) in tests
            ]
            if not both:
                continue
            ours, theirs = np.array(both).T
            row = [model, plain, depth, str(len(both)), f"{100 * np.median(ours - theirs):+.1f}"]
            row += [f"{np.sum(ours > theirs)} / {np.sum(ours < theirs)}"]
            for level in sweep.levels:
                reach, plain_reach = ours >= level, theirs >= level
                row.append(f"{np.sum(reach & ~plain_reach)} / {np.sum(plain_reach & ~reach)}")
            found.append(row)
    if not found:
        return []
    header = ["model", "beside", "layers", "recipes", "median difference", "better / worse"]
    header += [f">= {100 * level:g}: it alone / the other alone" for level in sweep.levels]
    lines = ["", "The same recipes with and without, one by one:", ""]
    return lines + markdown_table(header, found, figures=True)


def _by_thirds(sweep: Sweep, rows: list[dict[str, Any]]) -> list[str]:
    """Which recipes train, by thirds of the fields that ``sweep.thirds`` names."""
    if not (sweep.thirds and rows):
        return []
    level = _middle_level(sweep)
    parts = {
        seed: tuple(sweep.third_of(name, int(seed)) for name in sweep.thirds)
        for seed in {row["seed"] for row in rows}
    }
    counts: dict[tuple, dict[str, list[bool]]] = {}
    for row in rows:
        reached = counts.setdefault((int(row["depth"]), *parts[row["seed"]]), {})
        reached.setdefault(row["model"], []).append(float(row["test"]) >= level)
    models = [model for model in sweep.models if any(model in each for each in counts.values())]
    table = []
    for (depth, *part), reached in sorted(counts.items()):
        cells = [f"{low:.2g} … {high:.2g}" for low, high in part]
        for model in models:
            found = reached.get(model)
            cells.append(f"{sum(found)} of {len(found)}" if found else "-")
        table.append([str(depth), *cells])
    lines = ["", f"How many recipes reach {100 * level:g}, by thirds of what was drawn:", ""]
    return lines + markdown_table(["layers", *sweep.thirds, *models], table, figures=True)


def _words(entry: Any) -> str:
    if isinstance(entry, list):
        return ", ".join(map(str, entry))
    scale = ", evenly in the logarithm" if entry.get("log") else ""
    step = f" in steps of {entry['step']}" if entry.get("step") else ""
    return f"{entry['low']} … {entry['high']}{step}{scale}"


def _share(reached: np.ndarray) -> str:
    share = reached.mean()
    return f"{100 * share:.0f} ± {100 * np.sqrt(share * (1 - share) / len(reached)):.0f} %"


def _title(sweep: Sweep) -> str:
    return sweep.description or f"{sweep.kind.capitalize()} on {sweep.dataset}"


def _published(sweep: Sweep, model: str, rate: float) -> dict[int, float]:
    return sweep.reference.test.get(model, {}).get(rate, {})


def _depth_table(sweep: Sweep, cells: Cells, rate: float) -> list[str]:
    """Models and depths without any figure are left out."""
    have = [(model, depth) for model, r, depth in cells if r == rate]
    have += [(model, depth) for model in sweep.models for depth in _published(sweep, model, rate)]
    models = [model for model in sweep.models if any(model == m for m, _ in have)]
    header = ["layers"]
    for model in models:
        header += [model] + ["published"] * bool(_published(sweep, model, rate))
    rows = []
    for depth in sweep.depths:
        if not any(depth == d for _, d in have):
            continue
        row = [str(depth)]
        for model in models:
            row.append(str(cells.get((model, rate, depth), "-")))
            published = _published(sweep, model, rate)
            if published:
                row.append(f"{published[depth]:g}" if depth in published else "-")
        rows.append(row)
    return markdown_table(header, rows, figures=True)


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
    header = ["model", "layers, by validation", "test", "published best"]
    return markdown_table(header, rows, figures=True)


def _remarks(sweep: Sweep, table: Rows, others: list[dict[str, Any]]) -> list[str]:
    lines = [f"- {note}" for note in sweep.reference.notes]
    if others:
        lines.append(
            f"- {len(others)} rows of {table.path.name} were made with other settings, and are "
            "left out here."
        )
    versions = versions_of(row for row in table.rows if row not in others)
    if versions:
        lines.append(f"- {versions}; one thread a run.")
    if not is_available():
        lines.append("- No plot: `pip install 'lipzoo[plots]'` brings matplotlib.")
    return ["", *lines] if lines else []


def _gradient_report(sweep: Sweep, table: Rows) -> tuple[list[str], dict[str, bytes]]:
    hashes = {p.recipe_hash for p in sweep.points(seeds=[0])}
    rows = [row for row in table.rows if row["recipe_hash"] in hashes]
    lines = [
        f"# {_title(sweep)}",
        "",
        "Norm of the gradient of the training loss, without dropout, at the weights of a layer and "
        "at its output: geometric mean over the seeds, at the first and the last layer.",
        "",
    ]
    means = gradient_means(rows)
    lines += markdown_table(
        _GRADIENT_HEADER,
        [
            [model, str(depth), str(epoch)]
            + [f"{value:.2e}" for value in (g[0, 0], g[-1, 0], g[0, 1], g[-1, 1])]
            + [f"{g[0, 1] / g[-1, 1]:.2e}" if g[-1, 1] else "-", str(seeds)]
            for (model, depth, epoch), (g, seeds) in means.items()
        ],
        figures=True,
    )
    lines += _remarks(sweep, table, [row for row in table.rows if row not in rows])
    name = f"gradients_{sweep.dataset}"
    return lines, plots.gradients_by_layer(sweep, means, _title(sweep), name)


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
