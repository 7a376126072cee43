"""Parquet files as tables, by pyarrow (extra ``tables``).

What is read may have 64 MiB, or 100 times the bytes of the file if that is more: a few bytes of a
compressed file can stand for any number of rows.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from lipzoo._files import read_regular
from lipzoo.datasets.columns import Table
from lipzoo.datasets.npz import room_of
from lipzoo.datasets.parsing import parsing
from lipzoo.datasets.tables import as_table
from lipzoo.errors import DataError

__all__ = ["read_parquet"]

_ROWS_AT_ONCE = 2**14


def read_parquet(path: Path, folder: Path) -> Table:
    """A table.

    Raises
    ------
    DataError
        If pyarrow is not installed, it is no Parquet, or too large for the size of the file.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise DataError(
            f"{path}: Parquet is read by pyarrow, which is not installed: pip install "
            "'lipzoo[tables]', or write CSV"
        ) from None
    data = read_regular(path, folder=folder)
    room = room_of(len(data))
    # pyarrow's errors derive from several.
    with parsing(path, "is no Parquet that pyarrow reads", "write it again"):
        schema = parquet.read_schema(io.BytesIO(data))
        # A word that many rows share is held once.
        kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary)
        words = [field.name for field in schema if any(kind(field.type) for kind in kinds)]
        file = parquet.ParquetFile(io.BytesIO(data), read_dictionary=words)
        batches: list[Any] = []
        for batch in file.iter_batches(_ROWS_AT_ONCE, use_threads=False):
            room -= batch.nbytes + 8 * batch.num_rows
            if room < 0:
                raise DataError(
                    f"{path}: its rows are too many times as large as the file; write CSV"
                )
            batches.append(batch)
        table = pa.Table.from_batches(batches, file.schema_arrow)
        table.validate(full=True)
        return as_table(table, str(path))
