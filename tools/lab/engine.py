"""The engine of all studies: measure the points that a folder does not hold; stop, go on any time.

::

    OUT/<kind.file>         what was asked for last
    OUT/<kind.rows>         the rows of finished points
    OUT/runs/               what a point keeps while it runs

A point has a ``key``, which says what decides its result (its settings by their hash), and a name,
``str(point)``. Changed settings are another key: they are measured anew, and old rows stay.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lipzoo._atomic import write_atomically
from lipzoo._output import OutputFolder
from lipzoo._processes import WorkerKilled, in_processes
from lipzoo._tables import read_csv, to_csv
from lipzoo._torch import threads
from lipzoo._writing import writing
from lipzoo._yaml import read_yaml, write_yaml
from lipzoo.card import versions
from lipzoo.errors import ConfigError, LipzooError, OutputError

__all__ = [
    "MADE_WITH",
    "Kind",
    "Rows",
    "check_jobs",
    "made_with",
    "open_study",
    "run_study",
]

#: Columns that each row of a study has.
MADE_WITH = ("lipzoo", "torch", "dgl")

Measure = Callable[[Any], list[dict[str, Any]]]


def made_with(known: dict[str, str] | None = None) -> dict[str, str]:
    """The versions that a row is made with; by default those of this process."""
    known = known or versions()
    return {name: known[name] for name in MADE_WITH}


@dataclass(frozen=True)
class Kind:
    """How a kind of study lies on the disk.

    ``what`` names it in messages; ``key`` are the columns that a point is known by.
    """

    what: str
    file: str
    rows: str
    columns: tuple[str, ...]
    key: tuple[str, ...]


class Rows:
    """The rows of a study in memory and on the disk: a table that only grows.

    Raises
    ------
    ConfigError
        If the file holds other columns.
    """

    def __init__(self, folder: Path, kind: Kind) -> None:
        self.path, self.kind = folder / kind.rows, kind
        self.rows: list[dict[str, str]] = []
        if self.path.is_file():
            self.rows = read_csv(self.path, kind.columns)

    def keys(self) -> set[tuple[str, ...]]:
        """The finished points."""
        return {tuple(row[name] for name in self.kind.key) for row in self.rows}

    def add(self, rows: list[dict]) -> None:
        """Append rows. A kill leaves the file with all of them or none."""
        self.rows += [{name: str(row[name]) for name in self.kind.columns} for row in rows]
        write_atomically(self.path, to_csv(self.rows, self.kind.columns, line_end="\r\n"))


def run_study(
    kind: Kind,
    content: dict[str, Any],
    points: Sequence[Any],
    out: str | os.PathLike,
    measure: Measure,
    follow: Callable[[Rows, list, int], Callable[[Any, list[dict]], str]],
    *,
    jobs: int,
    say: Callable[[str], None],
    title: str = "",
    prepare: Callable[[list], None] | None = None,
) -> Rows:
    """Measure the points whose rows are not in the folder yet, one thread each.

    Parameters
    ----------
    content : dict
        What is written as ``kind.file``.
    points : sequence
        All of them, checked: nothing of the folder is touched before.
    measure : callable
        Gives the rows of a point. It goes to the workers: a function of a module, or a
        ``functools.partial`` of one.
    follow : callable
        Takes the rows there are, the points to do and the number of processes, and gives what
        takes a point and its rows and gives the words for its line of progress.
    jobs : int
        Processes, never more than there are cores; 1 works in this one.
    say : callable
        Takes each line of progress.
    prepare : callable, optional
        Takes the points to do, before any is measured.

    Raises
    ------
    OutputError
        If the folder cannot be used, or another process works there.
    LipzooError
        If points failed, once all others are made; or at once if a worker was killed.
    """
    check_jobs(jobs)
    with writing(out):
        folder = OutputFolder(out, kind.file).keep()
        table = Rows(folder, kind)
        write_yaml(folder / kind.file, content)
        done = table.keys()
        work = [point for point in points if point.key not in done]
        say(f"{title}{len(work)} of {len(points)} runs to do")
        if work:
            jobs = _within_cores(jobs, say)
            if prepare is not None:
                prepare(work)
            words = follow(table, work, jobs)

            def keep(point: Any, rows: list[dict]) -> str:
                table.add(rows)
                return words(point, rows)

            _run_points(work, measure, keep, jobs, say)
    return table


def check_jobs(jobs: int) -> None:
    """Raise a ConfigError for fewer than one process."""
    if jobs < 1:
        raise ConfigError(f"jobs must be at least 1, got {jobs}")


def open_study(kind: Kind, out: str | os.PathLike) -> dict[str, Any]:
    """The study that a folder holds, as :func:`run_study` wrote it.

    Raises
    ------
    OutputError
        If it holds none.
    """
    file = Path(out) / kind.file
    if not file.is_file():
        raise OutputError(f"{out}: holds no {kind.what}; run one into it first, without --report")
    return read_yaml(file)


# ------------------------------------------------------------------ processes


def _within_cores(jobs: int, say: Callable[[str], None]) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if jobs > cores:
        say(f"{cores} processes instead of {jobs}: this machine has no more cores")
    return min(jobs, cores)


def _run_points(
    work: Sequence[Any],
    measure: Measure,
    keep: Callable[[Any, list[dict]], str],
    jobs: int,
    say: Callable[[str], None],
) -> None:
    """Measure each point, and keep its rows as soon as they are there."""
    failed: list[str] = []
    one_thread = partial(torch.set_num_threads, 1)
    found = _here(work, measure) if jobs == 1 else in_processes(measure, work, jobs, one_thread)
    with closing(found):
        for number, (point, rows_of) in enumerate(found, 1):
            line = f"[{number}/{len(work)}] {point}"
            try:
                rows = rows_of()
            except WorkerKilled:
                say(f"{line}: no result")
                raise
            except (LipzooError, ValueError, RuntimeError, OSError) as fault:
                # One run that fails must not cost a night.
                failed.append(f"{point}: {fault}")
                say(f"{line}: failed: {fault}")
                continue
            say(f"{line}: {keep(point, rows)}")
    if failed:
        raise LipzooError(
            f"{len(failed)} of {len(work)} runs failed; the same command tries them again; the "
            f"first: {failed[0]}"
        )


Found = Iterator[tuple[Any, Callable[[], list[dict]]]]


def _here(work: Sequence[Any], measure: Measure) -> Found:
    with threads(1):
        for point in work:
            yield point, lambda point=point: measure(point)
