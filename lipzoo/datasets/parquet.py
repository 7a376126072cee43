"""Parquet files as tables, by pyarrow (extra ``tables``).

What is read may have 64 MiB, or 100 times the bytes of the file if that is more: a few bytes of a
compressed file can stand for any number of rows.

Parquet is compressed, so that its rows cannot be mapped. Where the features of nodes would take
much memory, they are written once, some rows at a time, to a temporary file that is.
"""

from __future__ import annotations

import math
import os
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from lipzoo._files import open_regular
from lipzoo._memory import shown_bytes
from lipzoo.datasets.columns import Table, feature_names
from lipzoo.datasets.npz import room_of
from lipzoo.datasets.parsing import parsing
from lipzoo.datasets.tables import INDEX, as_table, id_column
from lipzoo.errors import DataError

__all__ = ["read_node_parquet", "read_parquet"]

_ROWS_AT_ONCE = 2**14
#: Bytes of features, in 32 bits, from which on they are mapped.
_MAPPED_FROM = 2**28


def read_parquet(path: Path, folder: Path) -> Table:
    """A table.

    Raises
    ------
    DataError
        If pyarrow is not installed, it is no Parquet, or too large for the size of the file.
    """
    return _read(path, folder, None)


def read_node_parquet(
    path: Path, folder: Path, features: Sequence[str] | None = None
) -> tuple[Table, Sequence[str] | None]:
    """A table of nodes, and which of its columns are features: those that were asked for, or the
    column ``feat`` alone where they are many, all numbers, and so in a file of their own.

    Raises
    ------
    DataError
        See :func:`read_parquet`; also if there is no room for that file.
    """
    with tempfile.TemporaryFile(prefix="lipzoo-") as file:
        table = _read(path, folder, _Apart(path, features, file))
        is_apart = isinstance(table.columns.get("feat"), np.memmap)
    return table, ["feat"] if is_apart else features


class _Apart:
    """Features that are written to a file instead of into the table.

    Parameters
    ----------
    path : path
        Of the Parquet.
    features : sequence of str, optional
        See `node_columns`.
    file : binary file
        Empty; the features, float32, are written to it.
    """

    def __init__(self, path: Path, features: Sequence[str] | None, file: IO[bytes]) -> None:
        self.path, self.features, self.file = path, features, file
        self.names: list[str] = []
        self.rows, self.width = 0, 0

    def choose(self, parquet: Any) -> None:
        """Say which columns, if any: where they are known to be numbers, and many."""
        import pyarrow as pa

        kinds = {f.name: f.type for f in parquet.schema_arrow if f.name != INDEX}
        lists = {
            name
            for name, kind in kinds.items()
            if pa.types.is_list(kind)
            or pa.types.is_large_list(kind)
            or pa.types.is_fixed_size_list(kind)
        }
        where = str(self.path)
        key = id_column(kinds, where)
        names = feature_names(list(kinds), lists.__contains__, self.features, key, where)
        if any(name not in kinds for name in names):
            return  # which `node_columns` says
        for name in names:
            kind = kinds[name].value_type if name in lists else kinds[name]
            if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
                return
        metadata, count = parquet.metadata, 0
        for group in map(metadata.row_group, range(metadata.num_row_groups)):
            for column in map(group.column, range(group.num_columns)):
                if column.path_in_schema.partition(".")[0] in names:
                    count += column.num_values
        if 4 * count >= _MAPPED_FROM:
            self.names = names
            warnings.warn(
                f"{self.path}: Parquet cannot be mapped: its features, {shown_bytes(4 * count)}, "
                f"are written to a temporary file in {tempfile.gettempdir()}; a feat.npy beside "
                "the table, in their place, needs none",
                stacklevel=2,
            )

    def take(self, batch: Any) -> Any:
        """Write the features of some rows; the other columns."""
        if not self.names:
            return batch
        parts = [_matrix(batch.column(name), self.path, name) for name in self.names]
        rows = np.concatenate(parts, axis=1)
        if self.rows and len(rows) and rows.shape[1] != self.width:
            raise DataError(
                f"{self.path}: the lists of features differ in length: {self.width} and "
                f"{rows.shape[1]} numbers; make them as long"
            )
        self.rows, self.width = self.rows + len(rows), rows.shape[1] or self.width
        try:
            self.file.write(rows.tobytes())
        except OSError as fault:
            raise DataError(
                f"{self.path}: its features cannot be written to {tempfile.gettempdir()} "
                f"({fault.strerror or fault}); say another folder in TMPDIR, or put feat.npy "
                "beside the table"
            ) from None
        return batch.select([name for name in batch.schema.names if name not in self.names])

    def mapped(self) -> np.memmap:
        """The features, (N, F)."""
        self.file.flush()
        return np.memmap(self.file, np.float32, "r", 0, (self.rows, self.width))


def _matrix(column: Any, path: Path, name: str) -> np.ndarray:
    """Numbers, or lists of as many numbers, as float32 (n, D); a missing number is NaN."""
    import pyarrow as pa

    with np.errstate(over="ignore"):  # what becomes infinite is refused as such
        if not pa.types.is_nested(column.type):
            return column.to_numpy(zero_copy_only=False).astype(np.float32)[:, None]
        if column.null_count:
            raise DataError(f"{path}: column '{name}': a list is missing; fill it with numbers")
        found = column.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    ends = {len(cell) for cell in column}
    if len(ends) > 1:
        raise DataError(
            f"{path}: the lists in column '{name}' differ in length: {sorted(ends)[:8]}"
        )
    return found.reshape(len(column), math.prod(ends) if ends else 0)


def _read(path: Path, folder: Path, apart: _Apart | None) -> Table:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise DataError(
            f"{path}: Parquet is read by pyarrow, which is not installed: pip install "
            "'lipzoo[tables]', or write CSV"
        ) from None
    with open_regular(path, folder) as data:
        room = room_of(os.fstat(data.fileno()).st_size)
        # pyarrow's errors derive from several.
        with parsing(path, "is no Parquet that pyarrow reads", "write it again"):
            schema = parquet.read_schema(data)
            # A word that many rows share is held once.
            kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary)
            words = [field.name for field in schema if any(kind(field.type) for kind in kinds)]
            file = parquet.ParquetFile(data, read_dictionary=words)
            if apart is not None:
                apart.choose(file)
            batches: list[Any] = []
            for batch in file.iter_batches(_ROWS_AT_ONCE, use_threads=False):
                room -= batch.nbytes + 8 * batch.num_rows
                if room < 0:
                    raise DataError(
                        f"{path}: its rows are too many times as large as the file; write CSV"
                    )
                batches.append(batch if apart is None else apart.take(batch))
            found = file.schema_arrow
            if apart is not None and apart.names:
                found = pa.schema([field for field in found if field.name not in apart.names])
            table = pa.Table.from_batches(batches, found)
            table.validate(full=True)
            made = as_table(table, str(path))
    if apart is None or not apart.names:
        return made
    return replace(made, columns={**made.columns, "feat": apart.mapped()})
