"""From the rows of a study to a table in Markdown and a plot of accuracy against labels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from lab import engine
from lab.plots import is_available, legend_below, new_figure, rendered
from lab.report import Cell, grouped, versions_of, write_files
from lab.transfer.points import TRANSFER
from lab.transfer.study import Study, make_study
from lipzoo._tables import markdown_table

__all__ = ["collect", "headline", "write_report"]

PLOT_NAME = "accuracy_by_labels"

#: target, method, labels
Rows = dict[tuple[str, str, int], list[dict[str, Any]]]


def collect(study: Study, rows: list[dict[str, Any]]) -> Rows:
    """The rows of the study as it is now, by target, method and labels, sorted by seed."""
    wanted = {
        (p.target, p.method, str(p.labels), p.settings_hash): (p.target, p.method, p.labels)
        for p in study.points(seeds=[0])
    }
    return grouped(rows, ("target", "method", "labels", "settings_hash"), wanted)[0]


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
        "Test accuracy in %: mean ± standard deviation (number of seeds); a seed draws the "
        f"labelled nodes and {study.num_val} validation nodes, which choose epochs and penalties, "
        "and all other nodes test. In brackets: median of the epochs to 95 % of the final "
        "validation accuracy.",
    ]
    for fold in study.folds:
        seen = ", ".join(entry.name for entry in fold.checkpoint.card.pretrained_on)
        lines += ["", f"`{fold.checkpoint.card.full_name}` has learnt from {seen}."]
        for target in fold.targets:
            lines += ["", f"## {target}", "", *_table(study, found, target)]
    lines += ["", "## Fine-tuned beside the others", "", *headline(study, found)]
    versions = versions_of(row for group in found.values() for row in group)
    if versions:
        lines += ["", f"{versions}; one thread."]
    return write_files(folder, lines, plot(study, found))


def _epochs(group: list[dict[str, Any]]) -> str:
    epochs = [int(row["epochs_to_95"]) for row in group if row["epochs_to_95"]]
    return f" [{np.median(epochs):g}]" if epochs else ""


def _table(study: Study, found: Rows, target: str) -> list[str]:
    labels = sorted(study.labels)
    rows = []
    for method in study.methods:
        row = [method]
        for count in labels:
            group = found.get((target, method, count))
            row.append(f"{Cell.of(group)}{_epochs(group)}" if group else "-")
        rows.append(row)
    return markdown_table(["method", *(f"{n} a class" for n in labels)], rows, figures=True)


def headline(study: Study, found: Rows) -> list[str]:
    """Mean over the targets of the difference to ``fine-tuned``, on the seeds that both have.

    A target counts once all methods in the row have a seed of it.
    """
    ours = next((name for name, m in study.methods.items() if m.kind == "finetune"), None)
    rows = []
    for method in study.methods:
        if ours is None or method == ours:
            continue
        row = [f"{ours} − {method}"]
        for count in sorted(study.labels):
            gains = [
                gain
                for target in study.targets
                if (gain := _gain(found, target, count, ours, method)) is not None
            ]
            row.append(f"{100 * np.mean(gains):+.1f} ({len(gains)})" if gains else "-")
        rows.append(row)
    header = ["points, mean over (targets)", *(f"{n} a class" for n in sorted(study.labels))]
    return markdown_table(header, rows, figures=True)


def _gain(found: Rows, target: str, count: int, ours: str, other: str) -> float | None:
    one, two = (
        {row["seed"]: float(row["test"]) for row in found.get((target, method, count), [])}
        for method in (ours, other)
    )
    both = one.keys() & two.keys()
    return float(np.mean([one[seed] - two[seed] for seed in both])) if both else None


def plot(study: Study, found: Rows) -> dict[str, bytes]:
    """Test accuracy in % against the labels a class, a panel a target; empty without matplotlib."""
    if not (is_available() and found):
        return {}
    targets = [t for t in study.targets if any(target == t for target, _, _ in found)]
    figure = new_figure(4.5 * len(targets), 4, study.description or "Transfer")
    axes = figure.subplots(1, len(targets), squeeze=False)[0]
    for axis, target in zip(axes, targets):
        for number, method in enumerate(study.methods):
            cells = {
                count: Cell.of(found[target, method, count])
                for count in sorted(study.labels)
                if (target, method, count) in found
            }
            if cells:
                means, spread = zip(*((cell.mean, cell.bar) for cell in cells.values()))
                style = {"marker": "o", "capsize": 3, "color": f"C{number}"}
                axis.errorbar(list(cells), means, spread, label=method, **style)
        axis.set_title(target, fontsize="medium")
        axis.set_xlabel("labels a class")
        axis.set_xscale("log")
        axis.set_xticks(sorted(study.labels), [str(n) for n in sorted(study.labels)])
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("test accuracy, %")
    legend_below(figure, axes[:1], columns=4)
    return rendered(figure, PLOT_NAME)
