"""Tables: CSV for programs, Markdown and aligned columns for people."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lipzoo.errors import ConfigError

__all__ = ["figure_lines", "markdown_table", "read_csv", "text_table", "to_csv", "with_spread"]


def to_csv(
    rows: Iterable[Mapping[str, Any]], columns: Sequence[str] = (), line_end: str = "\n"
) -> bytes:
    """CSV in UTF-8, one line a row; without ``columns``, those of the first row.

    Raises
    ------
    ValueError
        If a row has a column that is not in the header.
    """
    rows = iter(rows)
    first = next(rows, None)
    columns = list(columns or first or ())
    text = io.StringIO()
    if columns:
        writer = csv.DictWriter(text, columns, lineterminator=line_end)
        writer.writeheader()
        writer.writerows(rows if first is None else itertools.chain([first], rows))
    return text.getvalue().encode("utf-8")


def read_csv(path: Path, columns: Sequence[str] = ()) -> list[dict[str, str]]:
    """The rows, all as text, of what :func:`to_csv` wrote.

    Raises
    ------
    ConfigError
        If the file has not these columns, where they are given.
    """
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if columns and list(columns) != reader.fieldnames:
            raise ConfigError(
                f"{path}: has other columns than this version writes ({', '.join(columns)}); move "
                "it away, or choose another folder"
            )
        return list(reader)


def markdown_table(
    header: Sequence[str], rows: Iterable[Sequence[str]], figures: bool = False
) -> list[str]:
    """Lines of a table; with ``figures``, all columns but the first stand to the right."""
    rule = "|" + "---|" * len(header)
    if figures:
        rule = _line(["---"] + ["--:"] * (len(header) - 1))
    return [_line(header), rule, *map(_line, rows)]


def text_table(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Lines of aligned columns, the header first; a column of figures alone stands to the right."""
    columns = list(rows[0])
    table = [columns, *([row[column] for column in columns] for row in rows)]
    widths = [max(map(len, cells)) for cells in zip(*table)]
    sides = [
        str.rjust if all(c[:1].isdigit() or c == "-" for c in cells) else str.ljust
        for cells in zip(*table[1:])
    ]
    aligned = (
        [side(cell, width) for side, cell, width in zip(sides, line, widths)] for line in table
    )
    return ["  ".join(line).rstrip() for line in aligned]


def figure_lines(metrics: Mapping[str, tuple[float, float, int]]) -> list[str]:
    """A line a metric, of mean, standard deviation and number of values; one has no spread."""
    return [f"  {name:<16} {with_spread(*figures)}" for name, figures in metrics.items()]


def with_spread(mean: float, std: float, count: int, digits: int = 4) -> str:
    """``0.8342 ± 0.0051``; of one value there is no spread."""
    return f"{mean:.{digits}f}" + (f" ± {std:.{digits}f}" if count > 1 else "")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
