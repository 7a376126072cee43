"""Measure the points of an experiment in worker processes of one thread each."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import torch

from lipzoo.errors import LipzooError
from lipzoo.training.run import end_with_parent

__all__ = ["run_points", "within_cores"]


def within_cores(jobs: int, say: Callable[[str], None]) -> int:
    """``jobs``, or the number of cores where that is smaller, which is said."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if jobs > cores:
        say(f"{cores} processes instead of {jobs}: this machine has no more cores")
    return min(jobs, cores)


def run_points(
    work: Sequence[Any],
    measure: Callable[[Any], list[dict]],
    keep: Callable[[Any, list[dict]], str],
    jobs: int,
    say: Callable[[str], None],
) -> None:
    """Measure each point in some worker, and keep its rows as soon as they are there.

    Parameters
    ----------
    work : sequence
        Points; ``str(point)`` names one.
    measure : callable
        Gives the rows of a point. It goes to the workers: a function of a module, or a
        ``functools.partial`` of one.
    keep : callable
        Takes a point and its rows in this process, and gives the words for its line of progress.
    jobs : int
        Worker processes.
    say : callable
        Takes each line of progress.

    Raises
    ------
    LipzooError
        If a run failed, once all others are made; or at once if a worker was killed.
    """
    failed: list[str] = []
    before = set(multiprocessing.active_children())
    # A forked child of a process that has used OpenMP may hang: spawn.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker)
    try:
        running = {pool.submit(measure, point): point for point in work}
        while running:
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                point = running.pop(future)
                number = f"[{len(work) - len(running)}/{len(work)}] {point}"
                try:
                    rows = future.result()
                except BrokenProcessPool:
                    raise LipzooError(
                        f"a worker process was killed, perhaps for want of memory, around {point}; "
                        "the same command goes on, with fewer --jobs"
                    ) from None
                except (LipzooError, ValueError, RuntimeError, OSError) as fault:
                    # One run that fails must not cost a night.
                    failed.append(f"{point}: {fault}")
                    say(f"{number}: failed: {fault}")
                    continue
                say(f"{number}: {keep(point, rows)}")
    except BaseException:
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
    if failed:
        raise LipzooError(
            f"{len(failed)} of {len(work)} runs failed; the same command tries them again; the "
            f"first: {failed[0]}"
        )


def _start_worker() -> None:
    end_with_parent()
    # Ctrl-C reaches the whole group; the parent ends the workers, which would all print.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
