"""Time and memory of the process that asks."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["peak_of", "resident", "timed", "trim"]


def timed(step: Callable[[], object]) -> float:
    """Seconds of a call."""
    begin = time.perf_counter()
    step()
    return time.perf_counter() - begin


def trim() -> None:
    """Give freed memory back: what an allocator keeps for later is not held by a step."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # glibc's
        ctypes.CDLL(None).malloc_trim(0)


def resident(peak: bool = False) -> int | None:
    """KiB that the process holds now, or held at its peak; None away from Linux."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(lines["VmHWM" if peak else "VmRSS"].split()[0])


def peak_of(step: Callable[[], object]) -> tuple[float, int | None]:
    """Seconds of a call, and the KiB that the process held at its peak within it.

    None where the system does not count a peak anew.
    """
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not Linux, or not allowed: the peak would be that of the whole process
        return timed(step), None
    return timed(step), resident(peak=True)
