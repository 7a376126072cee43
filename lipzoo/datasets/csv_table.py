"""Tables in CSV files, with faults named by their rows."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TextIO

from lipzoo._files import Refused, open_regular
from lipzoo.errors import DataError

__all__ = ["csv_row", "read_table"]


def csv_row(row: int) -> str:
    """What a row is called, counted from 0: the header is row 1."""
    return f"row {row + 2}"


def read_table(path: Path, folder: Path, separator: str = ",") -> dict[str, list[str]]:
    """The columns of a CSV file by their headers; all cells are text without spaces around it.

    Raises
    ------
    DataError
        If there is no such file, or it is no table.
    """
    try:
        with io.TextIOWrapper(open_regular(path, folder), "utf-8-sig", newline="") as file:
            header, *rows = _rows(file, separator)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file, but meta.yaml names it") from None
    except Refused as fault:
        raise DataError(f"{path}: cannot be read ({fault.strerror})") from None
    except (ValueError, TypeError, csv.Error) as fault:  # an empty file has no header to unpack
        raise DataError(f"{path}: not a table of CSV ({fault})") from fault
    names = [name.strip() for name in header]
    if len(set(names)) < len(names):
        raise DataError(f"{path}: two columns have the same header; rename one")
    rows = [row for row in rows if row]  # a blank line is no row
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise DataError(f"{path}, row {number}: {len(row)} cells under {len(header)} headers")
    columns = zip(*rows) if rows else ([] for _ in header)
    return {name: [cell.strip() for cell in column] for name, column in zip(names, columns)}


def _rows(file: TextIO, separator: str) -> list[list[str]]:
    limit = csv.field_size_limit(2**31 - 1)  # a cell may list thousands of features
    try:
        return list(csv.reader(file, delimiter=separator, strict=True))
    finally:
        csv.field_size_limit(limit)
