"""From the rows of a study to a table in Markdown and a plot of accuracy against labels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lab import engine
from lab.plots import is_available, legend_below, new_figure, rendered
from lab.report import Cell, grouped, versions_of, write_files
from lab.transfer.points import TRANSFER
from lab.transfer.splits import PUBLISHED, num_different
from lab.transfer.study import Study, make_study
from lipzoo._tables import markdown_table

__all__ = ["collect", "headline", "write_report"]

PLOT_NAME = "accuracy_by_labels"

#: target, method, labels
Rows = dict[tuple[str, str, int | str], list[dict[str, Any]]]


def collect(study: Study, rows: list[dict[str, Any]]) -> Rows:
    """The rows of the study as it is now, by target, method and labels, sorted by seed."""
    wanted = {
        (p.target, p.method, str(p.labels), p.settings_hash): (p.target, p.method, p.labels)
        for p in study.points(seeds=[0])
    }
    found = grouped(rows, ("target", "method", "labels", "settings_hash"), wanted)[0]
    for name, method in study.methods.items():
        for target in study.targets if method.of else ():
            for labels in study.labels:
                best = _best_of([found.get((target, other, labels), []) for other in method.of])
                if best:
                    found[target, name, labels] = best
    return found


def _best_of(groups: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Of each seed that all methods have, the row that is best on validation nodes."""
    by_seed = [{row["seed"]: row for row in group} for group in groups]
    return [
        max((rows[seed] for rows in by_seed), key=lambda row: float(row["val"]))
        for seed in by_seed[0]
        if all(seed in rows for rows in by_seed)
    ]


def write_report(content: dict[str, Any], out: str | os.PathLike) -> str:
    """Write ``table.md`` and the plot of what a folder holds, and return the table.

    Raises
    ------
    OutputError
        If a file cannot be read or written.
    """
    folder, study = Path(out), make_study(content, "study")
    found = collect(study, engine.Rows(folder, TRANSFER).rows)
    lines = [
        f"# {study.description or 'Transfer to graphs that pretraining has not seen'}",
        "",
        "Test metric in %: mean ± standard deviation (number of seeds); accuracy, or ROC AUC where "
        "that is the graph's. A seed draws the "
        f"labelled nodes and at most {study.num_val} validation nodes, which choose epochs and "
        "penalties, and all other nodes test; a published split has its own. In brackets: median "
        "of the epochs to 95 % of the final validation metric.",
    ]
    for card in study.cards:
        seen = ", ".join(entry.name for entry in card.pretrained_on)
        lines += ["", f"`{card.full_name}` has learnt from {seen}."]
    for target in dict.fromkeys(target for target, _, _ in found):
        lines += ["", f"## {target}{' *' if target in study.development else ''}", ""]
        lines += _table(study, found, target)
    reported = [name for name in study.targets if name not in study.development]
    for ours in _ours(study):
        if not any(method == ours for _, method, _ in found):
            continue
        lines += ["", f"## {ours[:1].upper()}{ours[1:]} beside the others", ""]
        lines += headline(study, found, ours, reported)
        if study.development:
            lines += ["", "The same on the graphs with a star, which settings were chosen on:", ""]
            lines += headline(study, found, ours, study.development)
    versions = versions_of(row for group in found.values() for row in group)
    if versions:
        lines += ["", f"{versions}; one thread."]
    return write_files(folder, lines, plot(study, found))


def _ours(study: Study) -> list[str]:
    return study.ours or [n for n, m in study.methods.items() if m.kind == "finetune"][:1]


def _epochs(group: list[dict[str, Any]]) -> str:
    epochs = [int(row["epochs_to_95"]) for row in group if row["epochs_to_95"]]
    return f" [{np.median(epochs):g}]" if epochs else ""


def _table(study: Study, found: Rows, target: str) -> list[str]:
    """Of the methods that have a figure of the target."""
    columns = _columns(study, found)
    rows = []
    for method in study.methods:
        groups = [found.get((target, method, labels)) for labels in columns]
        if any(groups):
            cells = [f"{Cell.of(group)}{_epochs(group)}" if group else "-" for group in groups]
            rows.append([method, *cells])
    return markdown_table(["method", *map(_head, columns)], rows, figures=True)


def _in_order(study: Study) -> list[int | str]:
    numbers = sorted(labels for labels in study.labels if labels != PUBLISHED)
    return [*numbers, *(labels for labels in study.labels if labels == PUBLISHED)]


def _columns(study: Study, found: Rows) -> list[int | str]:
    """The numbers of labels that have a figure."""
    measured = {labels for _, _, labels in found}
    return [labels for labels in _in_order(study) if labels in measured]


def _head(labels: int | str) -> str:
    return "published split" if labels == PUBLISHED else f"{labels} a class"


def headline(study: Study, found: Rows, ours: str, targets: Sequence[str]) -> list[str]:
    """Mean over the targets of how far ``ours`` is ahead of each other method.

    Of a target on the seeds that both have; where one of them has a single row, as what draws no
    numbers has on the one published split, that stands for all seeds.
    """
    rows, columns = [], _columns(study, found)
    for method in study.methods:
        if method == ours:
            continue
        row = [f"{ours} − {method}"]
        for labels in columns:
            gains = [
                gain
                for target in targets
                if (gain := _gain(found, target, labels, ours, method)) is not None
            ]
            row.append(f"{100 * np.mean(gains):+.1f} ({len(gains)})" if gains else "-")
        if set(row[1:]) != {"-"}:
            rows.append(row)
    header = ["points, mean over (targets)", *map(_head, columns)]
    return markdown_table(header, rows, figures=True)


def _gain(found: Rows, target: str, labels: int | str, ours: str, other: str) -> float | None:
    one, two = (
        {row["seed"]: float(row["test"]) for row in found.get((target, method, labels), [])}
        for method in (ours, other)
    )
    if num_different(target, labels) == 1 and one and two and 1 in (len(one), len(two)):
        return float(np.mean([*one.values()]) - np.mean([*two.values()]))
    both = one.keys() & two.keys()
    return float(np.mean([one[seed] - two[seed] for seed in both])) if both else None


def plot(study: Study, found: Rows) -> dict[str, bytes]:
    """Test metric in % against the labels a class, a panel a target; empty without matplotlib."""
    numbers = [labels for labels in _in_order(study) if labels != PUBLISHED]
    targets = [
        t for t in study.targets if any((t, m, n) in found for m in study.methods for n in numbers)
    ]
    if not (is_available() and targets):
        return {}
    columns = min(len(targets), 4)
    height = -(-len(targets) // columns)
    figure = new_figure(4.5 * columns, 4 * height, study.description or "Transfer")
    panels = figure.subplots(height, columns, squeeze=False)
    for axis in panels.flat[len(targets) :]:
        axis.remove()
    for axis, target in zip(panels.flat, targets):
        for number, method in enumerate(study.methods):
            cells = {
                labels: Cell.of(found[target, method, labels])
                for labels in numbers
                if (target, method, labels) in found
            }
            if cells:
                means, spread = zip(*((cell.mean, cell.bar) for cell in cells.values()))
                style = {"marker": "o", "capsize": 3, "color": f"C{number}"}
                axis.errorbar(list(cells), means, spread, label=method, **style)
        axis.set_title(target, fontsize="medium")
        axis.set_xlabel("labels a class")
        axis.set_xscale("log")
        axis.set_xticks(numbers, [str(n) for n in numbers])
        axis.grid(alpha=0.3)
    for axis in panels[:, 0]:
        axis.set_ylabel("test metric, %")
    legend_below(figure, panels.flat[: len(targets)], columns=4)
    return rendered(figure, PLOT_NAME)
