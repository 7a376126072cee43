"""What the reports of all studies have in common: rows of today's settings, cells, files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lab.engine import MADE_WITH
from lipzoo._atomic import write_all
from lipzoo._tables import with_spread

__all__ = ["Cell", "grouped", "versions_of", "write_files"]

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Cell:
    """Metric in [0, 1] on validation and test nodes, one a seed."""

    val: tuple[float, ...]
    test: tuple[float, ...]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Cell:
        """The figures of some rows."""
        return cls(*(tuple(float(row[name]) for row in rows) for name in ("val", "test")))

    @property
    def mean(self) -> float:
        """Mean test metric in %."""
        return 100 * float(np.mean(self.test))

    @property
    def std(self) -> float:
        """Sample standard deviation in %; NaN for one seed."""
        return 100 * float(np.std(self.test, ddof=1)) if len(self.test) > 1 else float("nan")

    @property
    def bar(self) -> float:
        """The standard deviation as it is drawn: 0 for one seed."""
        return float(np.nan_to_num(self.std))

    def __str__(self) -> str:
        return f"{with_spread(self.mean, self.std, len(self.test), digits=1)} ({len(self.test)})"


def grouped(
    rows: Iterable[Row], columns: Sequence[str], wanted: Mapping[tuple[str, ...], Any]
) -> tuple[dict[Any, list[Row]], list[Row]]:
    """Rows by what ``wanted`` gives for their columns, sorted by seed; and all other rows.

    ``wanted`` holds the settings of today by their hash: rows of former ones are among the others.
    """
    found: dict[Any, list[Row]] = {}
    others = []
    for row in rows:
        key = tuple(row[name] for name in columns)
        if key in wanted:
            found.setdefault(wanted[key], []).append(row)
        else:
            others.append(row)
    for group in found.values():
        group.sort(key=lambda row: int(row["seed"]))
    return found, others


def versions_of(rows: Iterable[Row]) -> str:
    """``Made with lipzoo …, torch …``; empty without rows."""
    kinds = {", ".join(f"{name} {row[name]}" for name in MADE_WITH) for row in rows}
    return f"Made with {'; '.join(sorted(kinds))}" if kinds else ""


def write_files(folder: Path, lines: Sequence[str], files: Mapping[str, bytes]) -> str:
    """Write ``table.md`` of these lines, and the plots; return the table."""
    text = "\n".join(lines) + "\n"
    files = {"table.md": text.encode("utf-8"), **files}
    write_all({folder / name: data for name, data in files.items()})
    return text
