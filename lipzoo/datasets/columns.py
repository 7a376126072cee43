"""Columns of a table of nodes or edges as arrays: features, labels, masks, ids; any kind of cell.

A column may be an array, a tensor, a sparse matrix, or a list of cells: numbers, words, lists. Text
is read as in DGL's CSV folders: a number, ``true`` or ``false``, or a list ``"0.5, 0.1"``; an empty
cell is missing, as are None and NaN.
"""

from __future__ import annotations

import math
import numbers
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from lipzoo.datasets.convert import MASKS
from lipzoo.errors import DataError, did_you_mean, shown

__all__ = [
    "Table",
    "check_lengths",
    "edge_columns",
    "feature_names",
    "is_missing",
    "is_no_label",
    "is_whole_text",
    "node_columns",
    "plain",
    "usual_name",
]

_WORDS = {"true": 1.0, "false": 0.0, "": float("nan")}
#: What is read as another number than it is written: a postcode, a number with an underscore.
_CODE = re.compile(r"\+|-?0\d|.*_")
#: A list of two numbers, or one with a decimal comma.
_COMMA = re.compile(r"\s*[+-]?\d*,\d+\s*")
_LABEL = ("label", "y")
_EDGE_FEATURES = ("feat", "edge_attr")
#: Columns that are all features, and say nothing of what each of them is.
_LISTS = {"feat", "x"}
_SPLITS = {
    "train": "train_mask",
    "training": "train_mask",
    "val": "val_mask",
    "valid": "val_mask",
    "validation": "val_mask",
    "test": "test_mask",
}


@dataclass(frozen=True)
class Table:
    """Columns by name, each with as many rows; ``where`` and ``row`` say for messages which.

    ``index`` is what a DataFrame calls its rows, where that is not 0..N-1.
    """

    where: str
    columns: Mapping[str, Any]
    row: Callable[[int], str] = lambda row: f"row {row}"
    index: Sequence[Any] | None = None

    def numbers(self, name: str) -> np.ndarray:
        """A column as int64 where all is whole, else float64: (N,), or (N, D) of lists.

        A missing cell is NaN, among lists a row of NaN.

        Raises
        ------
        DataError
            If a cell is no number, or lists differ in length.
        """
        column = plain(self.columns[name])
        if isinstance(column, np.ndarray):
            return column
        if set(map(type, column)) == {float}:  # as fast as half a million edges need
            found = np.array(column, dtype=np.float64)
        else:
            found = self._parsed(name, column)
        # Below 2^63, for no other number may become an int64 at all.
        whole = (np.abs(found) < 2.0**63).all() and (found == found.astype(np.int64)).all()
        return found.astype(np.int64) if whole else found

    def labels(self, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
        """Labels int64 (N,), or (N, C) of lists, and the names of the classes.

        Numbers stay what they are, and have no names. Words are counted in sorted order. A missing
        label, see `is_no_label`, is -1.
        """
        column = plain(self.columns[name])
        if isinstance(column, np.ndarray) and column.dtype.kind in "biu":
            return column, ()
        if not isinstance(column, np.ndarray):
            cells = [None if is_no_label(cell) else cell for cell in column]
            words = [cell for cell in cells if isinstance(cell, str)]
            if words and not all(map(_is_numeric_text, words)):
                names = tuple(sorted({str(cell) for cell in cells if cell is not None}))
                place = {word: number for number, word in enumerate(names)}
                places = [-1 if cell is None else place[str(cell)] for cell in cells]
                return np.array(places, np.int64), names
            width = max((len(c) for c in cells if _is_list(c)), default=1)
            unknown = [-1.0] * width if width > 1 else -1.0
            filled = [unknown if cell is None else cell for cell in cells]
            column = Table(self.where, {name: filled}, self.row).numbers(name)
        if column.dtype.kind == "f":
            column = np.where(np.isnan(column), -1, column)
        return column, ()

    def mask(self, name: str) -> np.ndarray:
        """A mask; a missing cell is a no."""
        column = plain(self.columns[name])
        if not isinstance(column, np.ndarray):
            cells = [False if is_missing(cell) else cell for cell in column]
            column = Table(self.where, {name: cells}, self.row).numbers(name)
        return np.where(np.isnan(column), 0, column) if column.dtype.kind == "f" else column

    def split(self, name: str) -> dict[str, np.ndarray]:
        """The three masks of a column that holds ``train``, ``val``, ``test`` or nothing."""
        column = plain(self.columns[name])
        masks = {mask: np.zeros(len(column), bool) for mask in MASKS}
        for row, cell in enumerate(column):
            if is_missing(cell):
                continue
            word = str(cell).strip().lower()
            if word not in _SPLITS:
                raise DataError(
                    f"{self.where}, {self.row(row)}, column '{shown(name)}': '{shown(cell)}' is no "
                    f"part of a split{did_you_mean(word, ('train', 'val', 'test'))}"
                )
            masks[_SPLITS[word]][row] = True
        return masks

    def _parsed(self, name: str, column: Sequence[Any]) -> np.ndarray:
        rows = [
            None if is_missing(cell) else self._parse(name, row, cell)
            for row, cell in enumerate(column)
        ]
        widths = {len(row) for row in rows if row is not None} or {1}
        if len(widths) > 1:
            raise DataError(
                f"{self.where}: the lists in column '{shown(name)}' differ in length: "
                f"{sorted(widths)[:8]}"
            )
        width = min(widths)
        unknown = [float("nan")] * width
        found = np.array([unknown if row is None else row for row in rows], dtype=np.float64)
        found = found.reshape(len(rows), width)
        return found[:, 0] if width == 1 else found

    def _parse(self, name: str, row: int, cell: Any) -> list[float]:
        try:
            if isinstance(cell, str):
                return [
                    _WORDS[part] if (part := item.strip().lower()) in _WORDS else float(part)
                    for item in cell.strip("[]()").rstrip(",").split(",")
                ]
            cell = cell.detach().cpu() if isinstance(cell, Tensor) else cell
            return np.asarray(cell, dtype=np.float64).reshape(-1).tolist()
        except (ValueError, TypeError, OverflowError, RuntimeError):
            raise DataError(
                f"{self.where}, {self.row(row)}, column '{shown(name)}': '{shown(cell)}' is no "
                "number; write one, or a list in quotes"
            ) from None


def node_columns(
    table: Table, features: Sequence[str] | None = None, skip: Sequence[str] = ()
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What a table says of nodes: ``feat``, ``label`` and masks, and the names of the classes.

    ==============================  =========================================================
    column                          what it is
    ==============================  =========================================================
    ``label`` or ``y``              the class, a number or a word; missing where unknown
    ``train_mask`` and its like     yes or no
    ``split``                       instead of masks: ``train``, ``val``, ``test`` or nothing
    ``feat``, or lists in ``x``     the features; without it all other columns are one each
    ==============================  =========================================================

    Whether letters are capital does not count in these names, but for ``x`` and ``y``.

    Parameters
    ----------
    table : Table
    features : sequence of str, optional
        The columns that are features, in this order.
    skip : sequence of str
        Columns that are something else.

    Raises
    ------
    DataError
        If there are no features, or a column holds what it should not.
    """
    columns, where = table.columns, table.where
    usual = _usual_names(columns, where)
    arrays: dict[str, np.ndarray] = {}
    facts: dict[str, Any] = {}
    if "label" in usual:
        arrays["label"], facts["class_names"] = table.labels(usual["label"])
    arrays |= {mask: table.mask(usual[mask]) for mask in MASKS if mask in usual}
    if "split" in usual:
        if any(mask in usual for mask in MASKS):
            raise DataError(f"{where}: there are masks and a split column; keep one of both")
        arrays |= table.split(usual["split"])
    others = [name for name in columns if name not in {*skip, *usual.values()}]
    for name in others:
        if name.lower().endswith("_mask"):
            raise DataError(f"{where}: unknown mask '{shown(name)}'{did_you_mean(name, MASKS)}")
    is_named = features is not None
    if not is_named:
        features = feature_names(
            columns, lambda name: table.numbers(name).ndim == 2, None, skip, where
        )
    if isinstance(features, str) or not isinstance(features, Iterable) or not features:
        raise DataError(
            f"{table.where}: there are no features (found: {shown(', '.join(columns), 500)}); give "
            "a column 'feat' of lists or a column each, and say features=[...] to choose among them"
        )
    _check_there(table, features, others)
    try:
        arrays["feat"] = _side_by_side(table, features)
    except DataError as fault:
        if is_named or list(features) != others:
            raise
        raise DataError(f"{fault}; or say which columns are features: features=[...]") from None
    names = [str(name) for name in features]
    is_one_each = arrays["feat"].size == len(arrays["feat"]) * len(names)
    is_told = len(names) > 1 or names[0].lower() not in _LISTS
    if is_one_each and len({*names}) == len(names) and is_told:
        facts["feature_names"] = names
    return arrays, facts


def feature_names(
    columns: Iterable[str],
    is_list: Callable[[str], bool],
    features: Sequence[str] | None = None,
    skip: Sequence[str] = (),
    where: str = "nodes",
) -> Sequence[str]:
    """The columns of a table of nodes that are features; see `node_columns`.

    ``is_list`` says whether a column holds lists.
    """
    if features is not None:
        return features
    feat = usual_name(columns, ["feat"], where)
    if feat is not None:
        return [feat]
    if "x" in columns and is_list("x"):
        return ["x"]  # and no coordinate
    return [n for n in columns if n not in {*skip, *_usual_names(columns, where).values()}]


def usual_name(columns: Iterable[str], names: Iterable[str], where: str) -> str | None:
    """The column that is called by the first of these names that one is, in small or capital
    letters; by a single letter as it is, for X and Y are coordinates.

    Raises
    ------
    DataError
        If two columns are, and differ in capital letters alone.
    """
    for name in names:
        found = [each for each in columns if (each.lower() if len(name) > 1 else each) == name]
        if len(found) > 1:
            words = shown(" and ".join(found))
            raise DataError(f"{where}: the columns {words} differ in capital letters; rename one")
        if found:
            return found[0]
    return None


def _usual_names(columns: Iterable[str], where: str) -> dict[str, str]:
    """The columns that say something else than features: ``label``, masks and ``split``."""
    wanted = {"label": _LABEL, **{name: [name] for name in (*MASKS, "split")}}
    found = {what: usual_name(columns, names, where) for what, names in wanted.items()}
    return {what: name for what, name in found.items() if name is not None}


def edge_columns(
    table: Table, features: Sequence[str] | None = None, skip: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """What a table says of edges: ``edge_feat``, or nothing.

    Parameters
    ----------
    table : Table
    features : sequence of str, optional
        The columns that are features, in this order; an empty one says that none is. By default
        ``feat``, or ``edge_attr``, alone: weights and all else that edges have are not features.
    skip : sequence of str
        Columns that are something else.

    Raises
    ------
    DataError
        If there is no such column, or it holds what it should not.
    """
    if features is not None:
        if isinstance(features, str) or not isinstance(features, Iterable):
            raise DataError(
                f"{table.where}: edge_features is {shown(repr(features))}; give a list of names"
            )
        _check_there(table, features, [name for name in table.columns if name not in skip])
        return {"edge_feat": _side_by_side(table, features)} if features else {}
    usual = usual_name(table.columns, _EDGE_FEATURES, table.where)
    if usual is None or usual in skip:
        return {}
    try:
        return {"edge_feat": table.numbers(usual)}
    except DataError as fault:
        raise DataError(f"{fault}; or leave the edges' features out: edge_features=[]") from None


def _check_there(table: Table, names: Sequence[str], choices: Sequence[str]) -> None:
    absent = [name for name in names if name not in table.columns]
    if absent:
        raise DataError(
            f"{table.where}: there is no column '{shown(absent[0])}'"
            f"{did_you_mean(absent[0], choices)}"
        )


def _side_by_side(table: Table, names: Sequence[str]) -> np.ndarray:
    parts = [table.numbers(name) for name in names]
    for name, part in zip(names, parts):
        if part.ndim == 2 and part.shape[1] == 2:
            _warn_of_commas(table, name)
    if len(parts) == 1:
        return parts[0]
    check_lengths(table.where, {name: len(part) for name, part in zip(names, parts)})
    parts = [p.astype(np.float64).reshape(len(p), math.prod(p.shape[1:])) for p in parts]
    return np.concatenate(parts, axis=1)


def _warn_of_commas(table: Table, name: str) -> None:
    """Warn where pairs may be numbers with a decimal comma."""
    column = plain(table.columns[name])
    if str(name).lower() in _LISTS or isinstance(column, np.ndarray):
        return
    cells = [cell for cell in column if not is_missing(cell)]
    if all(isinstance(cell, str) and _COMMA.fullmatch(cell) for cell in cells):
        warnings.warn(
            f"{table.where}: column '{shown(name)}' is read as lists of two numbers: "
            f"'{shown(cells[0])}'; write a decimal comma as a point, and a list with a space after "
            "the comma or in brackets",
            stacklevel=4,
        )


def check_lengths(where: str, lengths: Mapping[str, int]) -> None:
    """Raise `DataError` where columns differ in their numbers of rows."""
    if len(set(lengths.values())) > 1:
        words = shown(", ".join(f"{name} {length}" for name, length in lengths.items()), 500)
        raise DataError(f"{where}: the columns have different numbers of rows ({words})")


def is_missing(cell: Any) -> bool:
    """None, NaN (pandas' NA too), or text without a character."""
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return True
    if isinstance(cell, numbers.Number):
        return bool(cell != cell)
    return type(cell).__name__ in ("NAType", "NaTType")


def is_no_label(cell: Any) -> bool:
    """Whether a cell of a column of labels says that there is none: a missing one, -1, or either
    as text, as NumPy and CSV files write them among words."""
    if isinstance(cell, str):
        try:
            number = float(cell)
        except ValueError:
            return not cell.strip()
        return number == -1 or number != number
    is_number = isinstance(cell, numbers.Real) and not isinstance(cell, (bool, np.bool_))
    return is_missing(cell) or (is_number and cell == -1)


def is_whole_text(cell: str) -> bool:
    """Whether text is a whole number written as Python writes it, as ids are: "07" is a word."""
    return len(cell) <= 20 and cell.removeprefix("-").isdecimal() and str(int(cell)) == cell


def _is_numeric_text(cell: str) -> bool:
    """Whether a label is a number, or a list of some: "1.0" is, and "01001" a word."""
    parts = [part.strip() for part in cell.strip("[]()").rstrip(",").split(",")]
    try:
        [float(part) for part in parts]
    except ValueError:
        return cell.strip().lower() in _WORDS
    return not any(_CODE.match(part) for part in parts)


def _is_list(cell: Any) -> bool:
    return isinstance(cell, (list, tuple, np.ndarray))


def plain(column: Any) -> Any:
    """An array of numbers where it is one, else something to iterate over."""
    if len(getattr(column, "shape", ())) == 2 and hasattr(column, "to_numpy"):
        column = column.to_numpy()  # iterating over a DataFrame gives the names of its columns
    if isinstance(column, Tensor):
        column = column.detach().cpu()
        column = column if column.layout is torch.strided else column.to_dense()
        is_half = column.is_floating_point() and column.itemsize < 4  # NumPy has no bfloat16
        return (column.float() if is_half else column).numpy()
    if sp.issparse(column):
        return column.toarray()
    if isinstance(column, np.ndarray) and column.dtype.kind not in "biuf":
        return column.tolist()
    return column
