"""Validation metric by epoch: what the runs of a sweep wrote while they trained."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np

from lab.studies import plots
from lab.studies.sweep import Point, Sweep
from lab.studies.worker import run_folder
from lipzoo._tables import read_csv, to_csv
from lipzoo.training.loop import CSV_FILE
from lipzoo.training.run import RESULT_FILE

__all__ = ["CURVES_FILE", "curve_files"]

CURVES_FILE = "curves.csv"
_KEY = ("model", "depth", "missing_rate", "seed", "recipe_hash")
_COLUMNS = (*_KEY, "epoch", "train_loss", "val")
#: Epochs of a run that are kept, evenly spaced.
_KEPT = 40


def curve_files(sweep: Sweep, folder: Path, title: str) -> dict[str, bytes]:
    """``curves.csv`` of all finished runs below ``folder``, and its plot; nothing without any.

    Runs of former calls whose folders are gone stay in the file.
    """
    file = folder / CURVES_FILE
    rows = read_csv(file, _COLUMNS) if file.is_file() else []
    known = {tuple(row[name] for name in _KEY) for row in rows}
    points = sweep.points()
    for point in points:
        if point.key not in known:
            rows += _of(point, folder)
    if not rows:
        return {}
    wanted = {point.key for point in points}
    groups = defaultdict(list)
    for row in rows:
        if tuple(row[name] for name in _KEY) in wanted:
            place = row["model"], int(row["depth"]), int(row["epoch"])
            groups[place].append(float(row["val"]))
    means: dict[tuple[str, int], list[tuple[int, float]]] = defaultdict(list)
    for (model, depth, epoch), values in sorted(groups.items()):
        means[model, depth].append((epoch, 100 * float(np.mean(values))))
    name = f"curves_{sweep.dataset}"
    plot = plots.metric_by_epoch(sweep, means, title, name)
    return {CURVES_FILE: to_csv(rows, _COLUMNS, line_end="\r\n"), **plot}


def _of(point: Point, folder: Path) -> list[dict[str, str]]:
    run = run_folder(point, folder) / f"seed_{point.seed}"
    if not ((run / RESULT_FILE).is_file() and (run / CSV_FILE).is_file()):
        return []
    history = read_csv(run / CSV_FILE)
    [val] = [name for name in history[0] if name.startswith("val_") and name != "val_loss"]
    # The same epochs for each seed, whenever it stopped.
    every = -(-point.recipe.epochs // (_KEPT * point.recipe.eval_every)) * point.recipe.eval_every
    key = dict(zip(_KEY, point.key, strict=True))
    return [
        {**key, "epoch": row["epoch"], "train_loss": row["train_loss"], "val": row[val]}
        for row in history
        if int(row["epoch"]) % every == 0
    ]
