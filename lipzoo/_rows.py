"""Rows of a matrix that may be larger than memory: some at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["row_chunks"]

#: Numbers that are copied at once: 4 MiB in 32 bits.
_AT_ONCE = 2**20


def row_chunks(rows: Tensor, dtype: torch.dtype = torch.float32) -> Iterator[Tensor]:
    """The rows (N, F) one after the other, as ``dtype``; at least one chunk, if an empty one.

    Chunks of rows that are of that type are no copies. Else each is written over the one before:
    results of a new one each would leave holes in the heap between them, as large as all rows.
    """
    at_once = max(1, _AT_ONCE // max(1, rows.shape[1:].numel()))
    if rows.dtype == dtype:
        for first in range(0, max(1, len(rows)), at_once):
            yield rows[first : first + at_once]
        return
    chunk = rows.new_empty((min(at_once, len(rows)), *rows.shape[1:]), dtype=dtype)
    for first in range(0, max(1, len(rows)), at_once):
        read = rows[first : first + at_once]
        yield chunk[: len(read)].copy_(read)
