"""Where a sparse matrix in Matrix Market's format has entries.

Not through SciPy, whose reader crashes the process on some files that are damaged.

References
----------
Boisvert, Pozo, Remington, "The Matrix Market Exchange Formats", NISTIR 5935, 1996.
"""

from __future__ import annotations

import numpy as np

__all__ = ["read_matrix_market"]

#: Words of an entry: row, column, and its value.
_WORDS = {"pattern": 2, "real": 3, "double": 3, "integer": 3, "complex": 4}
_SYMMETRIES = ("general", "symmetric", "skew-symmetric", "hermitian")


def read_matrix_market(data: bytes) -> tuple[tuple[int, int], np.ndarray, np.ndarray]:
    """The shape, and the rows and columns (E,) of the entries, from 0; values are not read.

    Where half of a symmetric matrix is written, the other half follows behind it.

    Raises
    ------
    ValueError
        If it is no such matrix.
    """
    banner, _, body = data.partition(b"\n")
    words = banner.decode("ascii", "replace").lower().split()
    if words[:2] != ["%%matrixmarket", "matrix"] or len(words) != 5:
        raise ValueError("it does not begin with '%%MatrixMarket matrix'")
    form, field, symmetry = words[2:]
    if form != "coordinate":
        raise ValueError(f"it is no sparse matrix (coordinate), but {form}")
    if field not in _WORDS or symmetry not in _SYMMETRIES:
        raise ValueError(f"its values are '{field}', '{symmetry}'")
    lines = [line for line in body.splitlines() if not line.lstrip().startswith(b"%")]
    numbers = b"\n".join(lines).split()
    num_rows, num_columns, entries = (int(word) for word in numbers[:3])
    numbers = numbers[3:]
    width = _WORDS[field]
    if len(numbers) != entries * width:
        raise ValueError(f"{entries:,} entries are announced, and {len(numbers)} numbers follow")
    row, column = (
        np.array([int(word) for word in numbers[k::width]], np.int64) - 1 for k in (0, 1)
    )
    for ends, size in ((row, num_rows), (column, num_columns)):
        if entries and not 0 <= ends.min() <= ends.max() < size:
            raise ValueError(f"an entry lies outside of {num_rows} x {num_columns}")
    if symmetry != "general":
        apart = row != column
        row, column = (
            np.concatenate([row, column[apart]]),
            np.concatenate([column, row[apart]]),
        )
    return (num_rows, num_columns), row, column
