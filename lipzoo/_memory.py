"""What memory the process holds, and what there is for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

__all__ = ["anonymous_memory", "available_memory", "resident_memory", "shown_bytes"]

_PROC, _CGROUP = Path("/proc"), Path("/sys/fs/cgroup")


def resident_memory(peak: bool = False) -> int | None:
    """Bytes that the process holds now, or held at its peak; None away from Linux."""
    return _of_line(_PROC / "self/status", "VmHWM" if peak else "VmRSS")


def anonymous_memory() -> int | None:
    """Bytes that the process holds now of its own, without those of files that are mapped; None
    away from Linux."""
    return _of_line(_PROC / "self/status", "RssAnon")


def available_memory() -> int | None:
    """Bytes that the process can still get: the system's, within the limits of its control group
    (a container's); None away from Linux."""
    found = [_of_line(_PROC / "meminfo", "MemAvailable"), *_within_limits()]
    return min((each for each in found if each is not None), default=None)


def shown_bytes(size: float) -> str:
    """``1.2 GB``, ``340 MB``."""
    return f"{size / 1e9:.1f} GB" if size >= 999.5e6 else f"{size / 1e6:.0f} MB"


def _of_line(file: Path, name: str) -> int | None:
    try:
        found = re.search(rf"^{name}:\s*(\d+) kB", file.read_text(), re.MULTILINE)
    except OSError:
        return None
    return 1024 * int(found[1]) if found else None


def _within_limits() -> Iterator[int]:
    """What is left under the limit of each control group, of version 2 and 1."""
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            yield max(0, int((_CGROUP / limit).read_text()) - int((_CGROUP / used).read_text()))
        except (OSError, ValueError):  # no such group, or "max"
            continue
