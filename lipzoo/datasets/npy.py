"""Arrays in NumPy's format, none of them made before its size is known to be in the file."""

from __future__ import annotations

import math
import os
from typing import IO, BinaryIO

import numpy as np

__all__ = ["MAPPED_TYPES", "map_npy", "read_npy", "size_in_memory"]

#: What an array may hold that is mapped: types that PyTorch indexes.
MAPPED_TYPES = tuple(
    map(np.dtype, ("?", "u1", "i1", "i2", "i4", "i8", "f2", "f4", "f8")),
)


def read_npy(file: IO[bytes], length: int, room: int) -> np.ndarray:
    """The array that a file of ``length`` bytes holds. Nothing is unpickled.

    Parameters
    ----------
    file : binary file
        At its beginning; it can be set back there.
    length : int
        Its bytes, or what is claimed of them: no more are read.
    room : int
        Bytes that the array may have in memory, see `size_in_memory`.

    Raises
    ------
    ValueError
        If it is no array of numbers, larger than ``room``, or its header claims another length.
        Damage may raise other exceptions as well.
    """
    if length > room:
        raise ValueError(f"{length:,} bytes, and there may be {room:,}")
    shape, _, dtype = _header(file, length)
    if size_in_memory(math.prod(shape), dtype) > room:
        raise ValueError(f"{math.prod(shape):,} numbers, and there may be {room // 8:,}")
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)


def map_npy(file: BinaryIO) -> np.memmap:
    """The array that a file holds, mapped to be read: its pages come from the disk when they are.

    Parameters
    ----------
    file : binary file
        At its beginning; it is closed.

    Raises
    ------
    ValueError
        See :func:`read_npy`; also if it is of none of `MAPPED_TYPES`, or has no rows.
    """
    with file:
        shape, is_fortran, dtype = _header(file, os.fstat(file.fileno()).st_size)
        if dtype not in MAPPED_TYPES or len(shape) not in (1, 2):
            names = ", ".join(map(str, MAPPED_TYPES))
            raise ValueError(f"{dtype.str} {shape}, and it must be one of {names}, (N, F)")
        if 0 in shape:
            raise ValueError(f"the shape {shape} has no numbers")
        order, start = "F" if is_fortran else "C", file.tell()
        return np.memmap(file, dtype, "r", start, shape, order)


def _header(file: IO[bytes], length: int) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order and type of the numbers, which begin where ``file`` then is."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, is_fortran, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"version {version} is for arrays with names, not numbers")
    if dtype.hasobject:
        raise ValueError("Object arrays are not numbers")
    # An array without a number must not have rows: they cost nothing, and could be any number.
    if min(shape, default=0) < 0 or (0 in shape[1:] and shape[0]):
        raise ValueError(f"the shape {shape} is none of numbers")
    announced = file.tell() + math.prod(shape) * dtype.itemsize
    if announced != length:
        raise ValueError(f"{announced:,} bytes are announced, and there are {length:,}")
    return shape, is_fortran, dtype


def size_in_memory(count: int, dtype: np.dtype) -> int:
    """Bytes of ``count`` numbers once they are what a graph needs: int64 has 8."""
    return count * max(dtype.itemsize, 8)
