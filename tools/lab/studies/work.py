"""Run the points of a sweep in worker processes; stop and go on at any time.

::

    OUT/sweep.yaml          what was asked for last
    OUT/runs.csv            a row a finished run (gradients.csv: a row a layer and epoch)
    OUT/runs/…              each run's recipe, metrics by epoch, result
    OUT/table.md, *.svg     see :mod:`lab.studies.report`
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lab.studies.measure import (
    GRADIENT_COLUMNS,
    RUN_COLUMNS,
    drop_state,
    follow_gradients,
    train_point,
)
from lab.studies.pool import run_points, within_cores
from lab.studies.store import Table, locked
from lab.studies.sweep import Point, Sweep, make_sweep
from lipzoo._yaml import read_yaml, write_yaml
from lipzoo.errors import ConfigError, OutputError
from lipzoo.training.run import build_from_recipe, load_task

__all__ = ["Estimate", "open_sweep", "results_table", "run_sweep"]

SWEEP_FILE = "sweep.yaml"


def run_sweep(
    content: dict[str, Any],
    out: str | os.PathLike,
    *,
    models: list[str] | None = None,
    depths: list[int] | None = None,
    seeds: list[int] | None = None,
    jobs: int = 1,
    raw_dir: str | None = None,
    say: Callable[[str], None] = print,
) -> Table:
    """Train what a sweep asks for and the folder does not hold yet.

    Parameters
    ----------
    content : dict
        What :func:`~lab.studies.load_sweep` gave.
    out : path
        The folder; one that holds a sweep is gone on with. Runs of changed settings are made
        anew, and the rows of the former settings stay.
    models, depths, seeds : list, optional
        A part of the work; the whole stays what the report is about.
    jobs : int
        Processes, of one thread each; never more than there are cores.
    raw_dir : str, optional
        Where DGL's raw data lies.
    say : callable
        Takes each line of progress.

    Returns
    -------
    Table
        All rows, those of other settings too.

    Raises
    ------
    ConfigError
        If the sweep is wrong; then the folder is as it was.
    OutputError
        If the folder cannot be used, or another process works there.
    LipzooError
        If a run failed; all others are made first.
    """
    if jobs < 1:
        raise ConfigError(f"jobs must be at least 1, got {jobs}")
    sweep = make_sweep(content, "sweep")
    points = sweep.points(models, depths, seeds)
    _try_out(points, raw_dir)

    folder = _prepare(Path(out))
    with locked(folder):
        table = results_table(folder, sweep)
        write_yaml(folder / SWEEP_FILE, content)
        done = table.keys()
        work = [point for point in points if point.key not in done]
        say(f"{sweep.kind} on {sweep.dataset}: {len(work)} of {len(points)} runs to do")
        if work:
            _run(work, sweep, table, folder, within_cores(jobs, say), raw_dir, say)
    return table


def open_sweep(out: str | os.PathLike, kind: str) -> dict[str, Any]:
    """The sweep that a folder holds, as :func:`run_sweep` takes it.

    Raises
    ------
    OutputError
        If it holds none of that kind.
    """
    file = Path(out) / SWEEP_FILE
    if not file.is_file():
        raise OutputError(f"{out}: holds no sweep; run one into it first, without --report")
    content = read_yaml(file)
    if content.get("kind") != kind:
        raise OutputError(f"{out}: holds a sweep of kind {content.get('kind')!r}, not {kind!r}")
    return content


def results_table(folder: Path, sweep: Sweep) -> Table:
    """The rows on the disk."""
    if sweep.kind == "gradients":
        return Table(folder / "gradients.csv", GRADIENT_COLUMNS)
    return Table(folder / "runs.csv", RUN_COLUMNS)


def _try_out(points: list[Point], raw_dir: str | None) -> None:
    """What can go wrong does so before the folder is touched: data, arguments of the models."""
    tasks: dict[str, Any] = {}
    for point in {point.recipe_hash: point for point in points}.values():
        data = str(point.recipe.dataset)
        if data not in tasks:
            tasks[data] = load_task(point.recipe, raw_dir)
        with torch.device("meta"):  # no weights are drawn
            build_from_recipe(point.recipe, tasks[data])


def _prepare(folder: Path) -> Path:
    folder = folder.expanduser()
    if folder.is_dir() and any(folder.iterdir()) and not (folder / SWEEP_FILE).is_file():
        raise OutputError(f"{folder}: holds files, but no sweep; choose another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise OutputError(f"{folder}: cannot be made ({fault.strerror})") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{folder}: cannot be written; choose a folder that you may write to")
    return folder


def _run(
    work: list[Point],
    sweep: Sweep,
    table: Table,
    folder: Path,
    jobs: int,
    raw_dir: str | None,
    say: Callable[[str], None],
) -> None:
    measure = follow_gradients if sweep.kind == "gradients" else train_point
    estimate = Estimate(table.rows, work, jobs)

    def keep(point: Point, rows: list[dict[str, Any]]) -> str:
        table.add(rows)
        drop_state(point, folder)
        estimate.finish(point, rows)
        return f"{_outcome(rows[-1])}; {estimate}"

    run_points(work, partial(measure, sweep=sweep, out=folder, raw_dir=raw_dir), keep, jobs, say)


def _outcome(row: dict[str, Any]) -> str:
    took = f" in {float(row['seconds']):.0f} s" if row["seconds"] else ""
    if "test" not in row:
        return f"training loss {row['train_loss']:.3f} after {row['epoch']} epochs{took}"
    return f"val {row['val']:.4f} test {row['test']:.4f}, {row['epochs']} epochs{took}"


class Estimate:
    """How long the rest takes: by the mean of a depth, else by layers at the mean of all.

    Parameters
    ----------
    rows : list of dict
        Of finished runs, with ``depth`` and ``seconds``, which may be empty.
    work : list of Point
        What is to be done.
    jobs : int
        Processes.
    """

    def __init__(self, rows: list[dict], work: list[Point], jobs: int) -> None:
        self.jobs, self.left = jobs, {point.key: point.depth for point in work}
        self.taken: dict[int, list[float]] = {}
        self.began = time.monotonic()
        self._note(rows)

    def finish(self, point: Point, rows: list[dict]) -> None:
        """Take note of a finished run."""
        del self.left[point.key]
        self._note(rows)

    def _note(self, rows: list[dict]) -> None:
        for row in rows:
            if row["seconds"]:
                self.taken.setdefault(int(row["depth"]), []).append(float(row["seconds"]))

    def seconds(self) -> float | None:
        """For what is left; None where no run was timed yet."""
        total = sum(sum(times) for times in self.taken.values())
        if not total:
            return None
        # Input layer and head take a while too: a depth of 0 is not free.
        a_layer = total / sum((depth + 1) * len(t) for depth, t in self.taken.items())
        needed = [
            sum(self.taken[depth]) / len(self.taken[depth])
            if depth in self.taken
            else (depth + 1) * a_layer
            for depth in self.left.values()
        ]
        # The last run may be alone on one core.
        return max(sum(needed) / self.jobs, max(needed, default=0.0))

    def __str__(self) -> str:
        left = self.seconds()
        return "time left unknown" if left is None else f"about {_duration(left)} left"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s"
