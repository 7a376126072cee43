"""Sparse matrices as the CSR arrays that files hold, checked before anything is made of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lipzoo.errors import DataError

__all__ = ["dense_matrix", "entries"]

#: Of matrices written out in float32. Those of papers and their words, the sparsest that are
#: usual, have some 600 times the bytes of a compressed file.
_ANY_DENSE_BYTES, _DENSE_RATIO = 256 * 2**20, 1000


def dense_matrix(
    path: str | Path,
    what: str,
    size: int,
    data: np.ndarray,
    indices: np.ndarray,
    indptr: np.ndarray,
    shape: np.ndarray,
) -> np.ndarray:
    """The matrix written out, float32.

    Parameters
    ----------
    path, what : str
        The file, and how the names of the four arrays begin; for error messages.
    size : int
        Bytes of the file: it may be 256 MiB as a matrix, or 1000 times its own if that is more.

    Raises
    ------
    DataError
        If they are no CSR matrix, or it would be too large.
    """
    # Not through SciPy: its own check lets some through that crash the process.
    limit = max(_ANY_DENSE_BYTES, _DENSE_RATIO * size) // 4
    _check(path, what, data, indices, indptr, shape, limit)
    num_rows, num_columns = map(int, shape)
    matrix = np.zeros((num_rows, num_columns), np.float32)
    with np.errstate(over="ignore"):  # what becomes infinite is refused as such
        np.add.at(matrix, _places(indices, indptr), data.astype(np.float32))
    return matrix


def entries(
    path: str | Path,
    what: str,
    data: np.ndarray,
    indices: np.ndarray,
    indptr: np.ndarray,
    shape: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of each stored entry, int64, in the order that they are stored in.

    Raises
    ------
    DataError
        If they are no CSR matrix.
    """
    _check(path, what, data, indices, indptr, shape)
    return _places(indices, indptr)


def _places(indices: np.ndarray, indptr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr.astype(np.int64)))
    return rows, indices.astype(np.int64)


def _check(
    path: str | Path,
    what: str,
    data: np.ndarray,
    indices: np.ndarray,
    indptr: np.ndarray,
    shape: np.ndarray,
    limit: int | None = None,
) -> None:
    fault = _fault(what, data, indices, indptr, shape, limit)
    if fault:
        names = ", ".join(f"{what}_{part}" for part in ("data", "indices", "indptr", "shape"))
        raise DataError(
            f"{path}: {names} are no CSR matrix ({fault}); write those of a scipy.sparse.csr_matrix"
        )


def _fault(
    what: str,
    data: np.ndarray,
    indices: np.ndarray,
    indptr: np.ndarray,
    shape: np.ndarray,
    limit: int | None,
) -> str | None:
    whole = all(array.dtype.kind in "iu" for array in (indices, indptr, shape))
    flat = data.ndim == indices.ndim == indptr.ndim == shape.ndim == 1
    if not (whole and flat and data.dtype.kind in "biuf" and len(shape) == 2):
        return f"they must be lists of numbers, all but {what}_data whole"
    num_rows, num_columns = map(int, shape)
    is_long = limit is not None and max(1, num_rows) * max(1, num_columns) > limit
    if min(num_rows, num_columns) < 0 or is_long:
        return (
            f"{num_rows} x {num_columns} entries, and written out a file of this size may have "
            f"{limit or 0:,}; drop columns that few nodes have"
        )
    if len(data) != len(indices) or len(indptr) != num_rows + 1:
        return f"{len(data)} values, {len(indices)} columns, {len(indptr)} beginnings of rows"
    if indptr[0] != 0 or indptr[-1] != len(data) or (indptr[1:] < indptr[:-1]).any():
        return f"{what}_indptr does not rise from 0 to the number of values"
    if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < num_columns:
        return f"{what}_indices must lie in 0..{num_columns - 1}"
    return None
