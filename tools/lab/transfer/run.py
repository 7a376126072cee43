"""Run the points of a study; stop and go on at any time.

::

    OUT/study.yaml          what was asked for last
    OUT/runs.csv            a row a finished run
    OUT/table.md, *.svg     see :mod:`lab.transfer.report`
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch

from lab.pretraining.graphs import check_held_out
from lab.studies.pool import run_points, within_cores
from lab.studies.store import Table, locked
from lab.transfer.methods import run_method
from lab.transfer.study import Fold, Point, Study, make_study
from lipzoo._yaml import read_yaml, write_yaml
from lipzoo.card import versions
from lipzoo.datasets import GraphTask, load_dataset, random_split
from lipzoo.datasets.encoding import encode_task
from lipzoo.errors import ConfigError, OutputError

__all__ = ["COLUMNS", "RunTable", "open_study", "run_study"]

STUDY_FILE, RUNS_FILE = "study.yaml", "runs.csv"
COLUMNS = (
    *("target", "method", "labels", "seed", "settings_hash", "weights"),
    *("val", "test", "best_epoch", "epochs_to_95", "seconds", "lipzoo", "torch", "dgl"),
)


class RunTable(Table):
    """``runs.csv`` of a study."""

    KEY = ("target", "method", "labels", "seed", "settings_hash")


def run_study(
    content: dict[str, Any],
    out: str | os.PathLike,
    *,
    jobs: int = 1,
    raw_dir: str | None = None,
    say: Callable[[str], None] = print,
    **parts: list | None,
) -> RunTable:
    """Measure what a study asks for and the folder does not hold yet, one thread a run.

    Parameters
    ----------
    content : dict
        What :func:`~lab.transfer.load_study` gave.
    out : path
        The folder; one that holds a study is gone on with.
    jobs : int
        Processes, never more than there are cores; 1 works in this one.
    raw_dir : str, optional
        Where DGL's raw data lies.
    say : callable
        Takes each line of progress.
    **parts
        ``targets``, ``methods``, ``labels``, ``seeds``: only these; see :meth:`Study.points`.

    Raises
    ------
    ConfigError
        If the study is wrong, or weights were pretrained on one of their targets.
    OutputError
        If the folder cannot be used, or another process works there.
    LipzooError
        If runs in several processes failed; all others are made first.
    """
    if jobs < 1:
        raise ConfigError(f"jobs must be at least 1, got {jobs}")
    study = make_study(content, "study")
    points = study.points(**parts)
    for fold in study.folds:
        for target in fold.targets:
            if any(point.target == target for point in points):
                _tasks(fold, target, raw_dir)
    folder = _prepare(Path(out))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with locked(folder):
            table = RunTable(folder / RUNS_FILE, COLUMNS)
            write_yaml(folder / STUDY_FILE, content)
            done = table.keys()
            work = [point for point in points if point.key not in done]
            say(f"{len(work)} of {len(points)} runs to do")
            measure = partial(_measure, study=study, raw_dir=raw_dir)

            def keep(point: Point, rows: list[dict[str, Any]]) -> str:
                table.add(rows)
                return f"val {rows[0]['val']} test {rows[0]['test']}"

            if jobs > 1 and work:
                run_points(work, measure, keep, within_cores(jobs, say), say)
            else:
                for number, point in enumerate(work, 1):
                    say(f"[{number}/{len(work)}] {point}: {keep(point, measure(point))}")
    finally:
        torch.set_num_threads(before)
    return table


def open_study(out: str | os.PathLike) -> dict[str, Any]:
    """The study that a folder holds, as :func:`run_study` takes it.

    Raises
    ------
    OutputError
        If it holds none.
    """
    file = Path(out) / STUDY_FILE
    if not file.is_file():
        raise OutputError(f"{out}: holds no study; run one into it first, without --report")
    return read_yaml(file)


def _measure(point: Point, study: Study, raw_dir: str | None) -> list[dict[str, Any]]:
    """The one row of a run."""
    raw, encoded = _tasks(point.fold, point.target, raw_dir)
    masks = random_split(
        raw.labels,
        train_per_class=point.labels,
        num_val=study.num_val,
        seed=point.seed,
        name=point.target,
    )
    began = time.perf_counter()
    found = run_method(point, study, raw.with_ndata(**masks), encoded.with_ndata(**masks))
    known = versions()
    row = {
        **dict(zip(RunTable.KEY, point.key)),
        "weights": point.fold.checkpoint.card.full_name,
        "val": f"{found.val:.4f}",
        "test": f"{found.test:.4f}",
        "best_epoch": "" if found.best_epoch is None else found.best_epoch,
        "epochs_to_95": "" if found.epochs_to_95 is None else found.epochs_to_95,
        "seconds": f"{time.perf_counter() - began:.1f}",
        **{name: known[name] for name in ("lipzoo", "torch", "dgl")},
    }
    return [row]


def _tasks(fold: Fold, target: str, raw_dir: str | None) -> tuple[GraphTask, GraphTask]:
    """A target, raw and encoded; refused where the weights have seen it."""
    return _cached_tasks(fold.weights, target, raw_dir)


@lru_cache(maxsize=8)
def _cached_tasks(weights: str, target: str, raw_dir: str | None) -> tuple[GraphTask, GraphTask]:
    fold = Fold(weights=weights, targets=[target])
    card = fold.checkpoint.card
    raw = load_dataset(target, raw_dir=raw_dir)
    if raw.multilabel:
        raise ConfigError(f"{target}: nodes have several labels; a study counts labels a class")
    check_held_out({e.name: e.fingerprint for e in card.pretrained_on}, raw, card.full_name)
    return raw, encode_task(raw, **card.encoding)


def _prepare(folder: Path) -> Path:
    folder = folder.expanduser()
    if folder.is_dir() and any(folder.iterdir()) and not (folder / STUDY_FILE).is_file():
        raise OutputError(f"{folder}: holds files, but no study; choose another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise OutputError(f"{folder}: cannot be made ({fault.strerror})") from None
    return folder
