"""From the rows of a study to a table in Markdown and a plot of accuracy against labels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from lab.studies import plots
from lab.studies.report import Cell, markdown_table
from lab.transfer.run import COLUMNS, RUNS_FILE, RunTable
from lab.transfer.study import Study, make_study
from lipzoo._yaml import write_atomically

__all__ = ["collect", "headline", "write_report"]

TABLE_FILE, PLOT_NAME = "table.md", "accuracy_by_labels"

#: target, method, labels
Rows = dict[tuple[str, str, int], list[dict[str, Any]]]


def collect(study: Study, rows: list[dict[str, Any]]) -> Rows:
    """The rows of the study as it is now, by target, method and labels, sorted by seed."""
    hashes = {(p.target, p.method): p.settings_hash for p in study.points(seeds=[0])}
    found: Rows = {}
    for row in rows:
        if hashes.get((row["target"], row["method"])) == row["settings_hash"]:
            key = (row["target"], row["method"], int(row["labels"]))
            found.setdefault(key, []).append(row)
    for group in found.values():
        group.sort(key=lambda row: int(row["seed"]))
    return found


def write_report(content: dict[str, Any], out: str | os.PathLike) -> str:
    """Write ``table.md`` and the plot of what a folder holds, and return the table.

    Raises
    ------
    OutputError
        If a file cannot be read or written.
    """
    folder, study = Path(out), make_study(content, "study")
    table = RunTable(folder / RUNS_FILE, COLUMNS)
    found = collect(study, table.rows)
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
    kinds = {
        ", ".join(f"{name} {row[name]}" for name in ("lipzoo", "torch", "dgl"))
        for group in found.values()
        for row in group
    }
    if kinds:
        lines += ["", f"Made with {'; '.join(sorted(kinds))}; one thread."]
    text = "\n".join(lines) + "\n"
    write_atomically(folder / TABLE_FILE, text.encode("utf-8"))
    for name, data in plot(study, found).items():
        write_atomically(folder / name, data)
    return text


def _cell(group: list[dict[str, Any]]) -> Cell:
    val, test = (tuple(float(row[name]) for row in group) for name in ("val", "test"))
    return Cell(val, test)


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
            row.append(f"{_cell(group)}{_epochs(group)}" if group else "-")
        rows.append(row)
    return markdown_table(["method", *(f"{n} a class" for n in labels)], rows)


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
    return markdown_table(header, rows)


def _gain(found: Rows, target: str, count: int, ours: str, other: str) -> float | None:
    one, two = (
        {row["seed"]: float(row["test"]) for row in found.get((target, method, count), [])}
        for method in (ours, other)
    )
    both = one.keys() & two.keys()
    return float(np.mean([one[seed] - two[seed] for seed in both])) if both else None


def plot(study: Study, found: Rows) -> dict[str, bytes]:
    """Test accuracy in % against the labels a class, a panel a target; empty without matplotlib."""
    if not (plots.is_available() and found):
        return {}
    targets = [t for t in study.targets if any(target == t for target, _, _ in found)]
    figure = plots.new_figure(4.5 * len(targets), 4, study.description or "Transfer")
    axes = figure.subplots(1, len(targets), squeeze=False)[0]
    for axis, target in zip(axes, targets):
        for number, method in enumerate(study.methods):
            cells = {
                count: _cell(found[target, method, count])
                for count in sorted(study.labels)
                if (target, method, count) in found
            }
            if cells:
                means = [cell.mean for cell in cells.values()]
                spread = [float(np.nan_to_num(cell.std)) for cell in cells.values()]
                style = {"marker": "o", "capsize": 3, "color": f"C{number}"}
                axis.errorbar(list(cells), means, spread, label=method, **style)
        axis.set_title(target, fontsize="medium")
        axis.set_xlabel("labels a class")
        axis.set_xscale("log")
        axis.set_xticks(sorted(study.labels), [str(n) for n in sorted(study.labels)])
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("test accuracy, %")
    handles = dict(zip(*reversed(axes[0].get_legend_handles_labels())))
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=4, fontsize="small")
    return plots.rendered(figure, PLOT_NAME)
