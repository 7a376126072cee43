"""Sparse matrices as the CSR arrays that files hold, checked before anything is made of them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from lipzoo.errors import DataError

__all__ = ["Csr"]

#: Of matrices written out in float32. Those of papers and their words, the sparsest that are
#: usual, have some 600 times the bytes of a compressed file.
_ANY_DENSE_BYTES, _DENSE_RATIO = 256 * 2**20, 1000


class Csr(NamedTuple):
    """The four arrays of a matrix, as SciPy has them.

    ``check`` comes before all else: SciPy's own lets some through that crash the process.
    """

    data: np.ndarray
    indices: np.ndarray
    indptr: np.ndarray
    shape: np.ndarray

    def check(self, path: str | Path, what: str, size: int | None = None) -> Csr:
        """The matrix itself, where it is one.

        Parameters
        ----------
        path, what : str
            The file, and how the names of the four arrays begin; for error messages.
        size : int, optional
            Bytes of the file, where the matrix is to be written out: it may have 256 MiB then, or
            1000 times those of the file if that is more.

        Raises
        ------
        DataError
            If it is no CSR matrix, or would be too large.
        """
        limit = None if size is None else max(_ANY_DENSE_BYTES, _DENSE_RATIO * size) // 4
        fault = self._fault(what, limit)
        if fault:
            names = ", ".join(f"{what}_{part}" for part in self._fields)
            raise DataError(
                f"{path}: {names} are no CSR matrix ({fault}); write those of a "
                "scipy.sparse.csr_matrix"
            )
        return self

    def entries(self) -> tuple[np.ndarray, np.ndarray]:
        """Row and column of each stored entry, int64, in the order that they are stored in."""
        counts = np.diff(self.indptr.astype(np.int64))
        return np.repeat(np.arange(len(counts)), counts), self.indices.astype(np.int64)

    def dense(self) -> np.ndarray:
        """Written out, float32."""
        matrix = np.zeros(tuple(map(int, self.shape)), np.float32)
        with np.errstate(over="ignore"):  # what becomes infinite is refused as such
            np.add.at(matrix, self.entries(), self.data.astype(np.float32))
        return matrix

    def _fault(self, what: str, limit: int | None) -> str | None:
        data, indices, indptr, shape = self
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
