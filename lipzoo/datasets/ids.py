"""What the nodes of a table are called, and where the ends of its edges lie."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

from lipzoo.datasets.columns import Table, is_missing, is_whole_text, plain
from lipzoo.errors import DataError, shown

__all__ = ["read_ids", "rows_of_ends"]


def read_ids(table: Table, name: str) -> list[Hashable]:
    """The ids in a column, each there once: whole numbers where all are, else as they are written.

    Raises
    ------
    DataError
        If one is missing, or there twice.
    """
    cells = _cells(table, name)
    found = [_number(cell) for cell in cells]
    if not all(isinstance(each, int) for each in found):
        # Among words "1001" is one.
        found = [cell if isinstance(cell, str) else _number(cell) for cell in cells]
    seen: set[Hashable] = set()
    for row, each in enumerate(found):
        if each in seen:
            raise DataError(
                f"{table.where}, {table.row(row)}: node '{shown(each)}' is there twice; ids must "
                "differ"
            )
        seen.add(each)
    return found


def rows_of_ends(
    edges: Table, name: str, ids: list[Hashable], hint: Callable[[str], str] | None = None
) -> np.ndarray:
    """The rows (E,) of the nodes that a column of edges names.

    The ids say how they are compared: as numbers where all of them are, else as text.

    Parameters
    ----------
    edges : Table
    name : str
        The column.
    ids : list
        Of the nodes.
    hint : callable, optional
        What to say of one that is not among them, if more is known.

    Raises
    ------
    DataError
        If an end is missing, or none of the ids.
    """
    key = _number if all(isinstance(each, int) for each in ids) else _text
    place = {key(each): row for row, each in enumerate(ids)}
    ends = _cells(edges, name)
    rows = [place.get(key(end)) for end in ends]
    if None in rows:
        row = rows.index(None)
        end = _text(ends[row])
        raise DataError(
            f"{edges.where}, {edges.row(row)}: {name} '{shown(end)}' is not among the {len(ids)} "
            f"ids of the nodes{_hint(end, ids) if hint is None else hint(end)}"
        )
    return np.array(rows, np.int64)


def _hint(end: str, ids: list[Hashable]) -> str:
    texts = list(map(_text, ids))
    like = next((each for each in texts if _bare(each) == _bare(end)), None)
    if like is not None:
        return f"; '{shown(like)}' is, and ids are compared as they are written: write both alike"
    is_other = [is_whole_text(each) != is_whole_text(end) for each in texts]
    if ids and all(is_other):
        return "; the ids of one table are numbers, those of the other words: convert one"
    return "; add a row for it, or drop the edge"


def _bare(cell: str) -> str:
    """Without what programs drop from, or add to, what they take for a number."""
    return cell.lstrip("+0").removesuffix(".0").lower() or "0"


def _cells(table: Table, name: str) -> list[Hashable]:
    column = plain(table.columns[name])
    cells = column.tolist() if isinstance(column, np.ndarray) else list(column)
    for row, cell in enumerate(cells):
        if is_missing(cell) or not isinstance(cell, Hashable):
            what = "is missing" if is_missing(cell) else f"is {shown(cell)}"
            raise DataError(
                f"{table.where}, {table.row(row)}, column '{shown(name)}': the id {what}; give "
                "a number or a word"
            )
    return cells


def _number(cell: Any) -> Any:
    """A whole number as int, all else as it is."""
    if isinstance(cell, str):
        return int(cell) if is_whole_text(cell) else cell
    return int(cell) if isinstance(cell, numbers.Real) and cell == cell // 1 else cell


def _text(cell: Any) -> str:
    return cell if isinstance(cell, str) else str(_number(cell))
