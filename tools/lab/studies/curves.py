"""Validation metric by epoch: what the runs of a sweep wrote while they trained."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np

from lab.engine import Kind, Rows
from lab.studies import plots
from lab.studies.sweep import POINT_KEY, Point, Sweep
from lab.studies.worker import run_folder
from lipzoo._tables import read_csv
from lipzoo.training.loop import CSV_FILE
from lipzoo.training.run_folder import RESULT_FILE

__all__ = ["write_curves"]

_CURVES = Kind(
    "sweep", "sweep.yaml", "curves.csv", (*POINT_KEY, "epoch", "train_loss", "val"), POINT_KEY
)
#: Epochs of a run that are kept, evenly spaced.
_KEPT = 40


def write_curves(sweep: Sweep, folder: Path, title: str) -> dict[str, bytes]:
    """Write ``curves.csv`` of all finished runs below ``folder``; its plot.

    Runs of former calls whose folders are gone stay in the file. Nothing without any run.
    """
    table = Rows(folder, _CURVES)
    known = table.keys()
    points = sweep.points()
    found = [row for p in points if p.key not in known for row in _of(p, folder)]
    if found:
        table.add(found)
    wanted = {point.key for point in points}
    groups = defaultdict(list)
    for row in table.rows:
        if tuple(row[name] for name in POINT_KEY) in wanted:
            place = row["model"], int(row["depth"]), int(row["epoch"])
            groups[place].append(float(row["val"]))
    means: dict[tuple[str, int], list[tuple[int, float]]] = defaultdict(list)
    for (model, depth, epoch), values in sorted(groups.items()):
        means[model, depth].append((epoch, 100 * float(np.mean(values))))
    return plots.metric_by_epoch(sweep, means, title, f"curves_{sweep.dataset}")


def _of(point: Point, folder: Path) -> list[dict[str, str]]:
    run = run_folder(point, folder) / f"seed_{point.seed}"
    if not ((run / RESULT_FILE).is_file() and (run / CSV_FILE).is_file()):
        return []
    history = read_csv(run / CSV_FILE)
    [val] = [name for name in history[0] if name.startswith("val_") and name != "val_loss"]
    # The same epochs for each seed, whenever it stopped.
    every = -(-point.recipe.epochs // (_KEPT * point.recipe.eval_every)) * point.recipe.eval_every
    key = dict(zip(POINT_KEY, point.key, strict=True))
    return [
        {**key, "epoch": row["epoch"], "train_loss": row["train_loss"], "val": row[val]}
        for row in history
        if int(row["epoch"]) % every == 0
    ]
