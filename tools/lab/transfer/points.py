"""Run the points of a study; :mod:`lab.engine` says what it writes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

from lab import engine
from lab.engine import MADE_WITH, Kind, Rows, made_with
from lab.pretraining.graphs import check_held_out
from lab.transfer.methods import run_method
from lab.transfer.splits import load_target, masks_of
from lab.transfer.study import Point, Study, make_study
from lipzoo.datasets import GraphTask
from lipzoo.encoding import encode_for
from lipzoo.weights import Checkpoint

__all__ = ["TRANSFER", "run_study"]

_KEY = ("target", "method", "labels", "seed", "settings_hash")
_RESULT = ("weights", "val", "test", "best_epoch", "epochs_to_95", "seconds")
TRANSFER = Kind("study", "study.yaml", "runs.csv", (*_KEY, *_RESULT, *MADE_WITH), _KEY)


def run_study(
    content: dict[str, Any],
    out: str | os.PathLike,
    *,
    jobs: int = 1,
    raw_dir: str | None = None,
    say: Callable[[str], None] = print,
    **parts: list | None,
) -> Rows:
    """Measure what a study asks for and the folder lacks; see :func:`lab.engine.run_study`.

    ``parts`` are ``targets``, ``methods``, ``labels``, ``seeds``: only these.

    Raises
    ------
    ConfigError
        If the study is wrong, or weights were pretrained on one of their targets; then the folder
        is as it was.
    """
    engine.check_jobs(jobs)
    study = make_study(content, "study")
    points = study.points(**parts)
    for checkpoint, target in {(point.checkpoint, point.target): None for point in points}:
        _check_held_out(checkpoint, load_target(target, raw_dir))
    measure = partial(_measure, study=study, raw_dir=raw_dir)
    return engine.run_study(TRANSFER, content, points, out, measure, _follow, jobs=jobs, say=say)


def _follow(table: Rows, work: list[Point], jobs: int) -> Callable[[Point, list[dict]], str]:
    return lambda point, rows: f"val {rows[0]['val']} test {rows[0]['test']}"


def _measure(point: Point, study: Study, raw_dir: str | None) -> list[dict[str, Any]]:
    """The one row of a run."""
    raw = load_target(point.target, raw_dir)
    masks = masks_of(raw, point.labels, point.seed, study.num_val, raw_dir)
    # Weights in context read the labels; a body, and what is encoded like it, features alone.
    is_body = point.checkpoint is not None and not point.checkpoint.card.reads_context
    task = _encoded(point.checkpoint, point.target, raw_dir) if is_body else raw
    began = time.perf_counter()
    found = run_method(point, study, task.with_ndata(**masks))
    row = {
        **dict(zip(_KEY, point.key)),
        "weights": point.checkpoint.card.full_name if point.checkpoint else "",
        "val": f"{found.val:.4f}",
        "test": f"{found.test:.4f}",
        "best_epoch": "" if found.best_epoch is None else found.best_epoch,
        "epochs_to_95": "" if found.epochs_to_95 is None else found.epochs_to_95,
        "seconds": f"{time.perf_counter() - began:.1f}",
        **made_with(),
    }
    return [row]


@lru_cache(maxsize=4)
def _encoded(checkpoint: Checkpoint, target: str, raw_dir: str | None) -> GraphTask:
    return encode_for(checkpoint, load_target(target, raw_dir))


def _check_held_out(checkpoint: Checkpoint | None, task: GraphTask) -> None:
    if checkpoint is not None:
        seen = {entry.name: entry.fingerprint for entry in checkpoint.card.pretrained_on}
        check_held_out(seen, task, checkpoint.card.full_name)
