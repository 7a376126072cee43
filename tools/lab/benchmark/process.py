"""Time and memory of the process that asks, and a process for each thing that is measured."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from lipzoo._atomic import write_atomically
from lipzoo._memory import resident_memory
from lipzoo._processes import in_processes
from lipzoo._tables import read_csv, to_csv

__all__ = [
    "apart",
    "cost_of",
    "growth_of",
    "in_turns",
    "peak_of",
    "resident",
    "rows_apart",
    "timed",
    "trim",
]

T = TypeVar("T")


def apart(function: Callable[..., T], *arguments: Any) -> T:
    """What a function of a module returns in a process of its own, which has one thread."""
    os.environ["OMP_NUM_THREADS"] = "1"  # OpenMP reads it when the process imports torch
    work, one_thread = partial(function, *arguments[:-1]), partial(torch.set_num_threads, 1)
    with closing(in_processes(work, arguments[-1:], 1, one_thread)) as found:
        [(_, result)] = found
    return result()


def rows_apart(
    file: Path,
    row: Callable[[tuple], dict],
    items: Iterable[tuple],
    say: Callable = print,
    names: Sequence[str] = (),
) -> None:
    """Write ``row(item)`` of each item, in a process of its own, as soon as it is there.

    ``names`` are the columns that hold the item: then the rows that the file has stay, and are not
    made again.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    before = read_csv(file) if names and file.is_file() else []
    rows = {tuple(each.get(name) for name in names): each for each in before}
    for item in items:
        if (key := tuple(map(str, item))) in rows:
            continue
        rows[key] = apart(row, item)
        write_atomically(file, to_csv(rows.values()))
        say(", ".join(f"{name} {value}" for name, value in rows[key].items()))


def timed(step: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of a call; with ``time.process_time`` those of the processor."""
    begin = clock()
    step()
    return clock() - begin


def in_turns(
    steps: Mapping[str, Callable[[], object]],
    repeats: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each step, ``repeats`` times: what slows the machine down meanwhile, slows all.

    A first turn, which compiles and fills caches, is not counted.
    """
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(repeats + 1):
        for name, step in steps.items():
            taken = timed(step, clock)
            if turn:
                seconds[name].append(taken)
    return seconds


def trim() -> None:
    """Give freed memory back: what an allocator keeps for later is not held by a step."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # glibc's
        ctypes.CDLL(None).malloc_trim(0)


def resident(peak: bool = False) -> int | None:
    """KiB that the process holds now, or held at its peak; None away from Linux."""
    held = resident_memory(peak)
    return None if held is None else held // 1024


def peak_of(step: Callable[[], object]) -> tuple[float, int | None]:
    """Seconds of a call, and the KiB that the process held at its peak within it.

    None where the system does not count a peak anew.
    """
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not Linux, or not allowed: the peak would be that of the whole process
        return timed(step), None
    return timed(step), resident(peak=True)


def growth_of(step: Callable[[], object]) -> int | None:
    """The KiB that a call holds at its peak above what the process holds before it; None where the
    system does not count."""
    trim()
    before = resident()
    _, peak = peak_of(step)
    return None if before is None or peak is None else peak - before


def cost_of(step: Callable[[], object]) -> tuple[float, int | None]:
    """The processor's seconds of a call, and :func:`growth_of` it."""
    seconds: list[float] = []
    growth = growth_of(lambda: seconds.append(timed(step, time.process_time)))
    return seconds[0], growth
