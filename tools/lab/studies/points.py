"""Run the points of a sweep. Beside what :mod:`lab.engine` writes, ``OUT/runs/`` holds each run."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from lab import engine
from lab.engine import Kind, Rows
from lab.studies.sweep import POINT_KEY, Point, make_sweep
from lab.studies.worker import (
    GRADIENT_COLUMNS,
    RUN_COLUMNS,
    drop_state,
    follow_gradients,
    train_point,
    train_points,
)
from lipzoo.errors import ConfigError, OutputError
from lipzoo.training.run_seed import build_from_recipe
from lipzoo.training.run_together import check_device
from lipzoo.training.tasks import load_task
from lipzoo.training.together import check_together

__all__ = ["Estimate", "kind_of", "open_sweep", "run_sweep"]

ACCURACY = Kind("sweep", "sweep.yaml", "runs.csv", RUN_COLUMNS, POINT_KEY)
GRADIENTS = Kind("sweep", "sweep.yaml", "gradients.csv", GRADIENT_COLUMNS, POINT_KEY)


def kind_of(content: dict[str, Any]) -> Kind:
    """How a sweep lies on the disk: the norms of gradients are another table."""
    return GRADIENTS if content.get("kind") == "gradients" else ACCURACY


def run_sweep(
    content: dict[str, Any],
    out: str | os.PathLike,
    *,
    models: list[str] | None = None,
    depths: list[int] | None = None,
    seeds: list[int] | None = None,
    jobs: int = 1,
    device: str | None = None,
    raw_dir: str | None = None,
    say: Callable[[str], None] = print,
) -> Rows:
    """Train what a sweep asks for and the folder does not hold yet; see :func:`engine.run_study`.

    ``models``, ``depths`` and ``seeds`` choose a part of the work; the whole stays what the report
    is about. On a ``device`` runs of one shape are trained together; see
    :func:`~lipzoo.training.together.fit_together`.

    Raises
    ------
    ConfigError
        If the sweep is wrong; then the folder is as it was.
    """
    engine.check_jobs(jobs)
    sweep = make_sweep(content, "sweep")
    folder = os.path.expanduser(out)
    prepare = None
    if device is not None:
        check_device(device)
        if sweep.kind == "gradients":
            raise ConfigError(
                "device: the gradients of a model are followed one by one, on the CPU"
            )
        prepare = partial(
            train_points, out=folder, device=device, jobs=jobs, raw_dir=raw_dir, say=say
        )
    points = sweep.points(models, depths, seeds)
    _try_out(points, raw_dir, device is not None)
    measure = follow_gradients if sweep.kind == "gradients" else train_point

    def follow(table: Rows, work: list[Point], jobs: int) -> Callable[[Point, list[dict]], str]:
        estimate = Estimate(table.rows, work, jobs)

        def words(point: Point, rows: list[dict]) -> str:
            drop_state(point, table.path.parent)
            estimate.finish(point, rows)
            return f"{_outcome(rows[-1])}; {estimate}"

        return words

    return engine.run_study(
        kind_of(content),
        content,
        points,
        out,
        partial(measure, sweep=sweep, out=folder, raw_dir=raw_dir),
        follow,
        jobs=jobs,
        say=say,
        title=f"{sweep.kind} on {sweep.dataset}: ",
        prepare=prepare,
    )


def open_sweep(out: str | os.PathLike, kind: str) -> dict[str, Any]:
    """The sweep that a folder holds, as :func:`run_sweep` takes it.

    Raises
    ------
    OutputError
        If it holds none of that kind.
    """
    content = engine.open_study(ACCURACY, out)
    if content.get("kind") != kind:
        raise OutputError(f"{out}: holds a sweep of kind {content.get('kind')!r}, not {kind!r}")
    return content


def _try_out(points: list[Point], raw_dir: str | None, is_together: bool) -> None:
    """What can go wrong does so before the folder is touched: data, arguments of the models."""
    tasks: dict[str, Any] = {}
    for point in {point.recipe_hash: point for point in points}.values():
        data = str(point.recipe.dataset)
        if data not in tasks:
            tasks[data] = load_task(point.recipe, raw_dir, point.seed)
        with torch.device("meta"):  # no weights are drawn
            build_from_recipe(point.recipe, tasks[data])
        if is_together:
            check_together(point.recipe.settings())


def _outcome(row: dict[str, Any]) -> str:
    took = f" in {float(row['seconds']):.0f} s" if row["seconds"] else ""
    if "test" not in row:
        return f"training loss {row['train_loss']:.3f} after {row['epoch']} epochs{took}"
    return f"val {row['val']:.4f} test {row['test']:.4f}, {row['epochs']} epochs{took}"


class Estimate:
    """How long the rest takes: by the mean of a depth, else by layers at the mean of all.

    ``rows`` are of finished runs, with ``depth`` and ``seconds``, which may be empty.
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
