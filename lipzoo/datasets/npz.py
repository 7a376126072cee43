"""Arrays in an ``.npz``, none of them made before its size is known to be plausible.

Nothing is unpickled. At 8 bytes a number, the arrays of a file may have 64 MiB together, or 100
times its own bytes if that is more: a few bytes of a compressed file can stand for any number of
zeros.
"""

from __future__ import annotations

import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO

import numpy as np

from lipzoo.datasets.npy import read_npy, size_in_memory
from lipzoo.errors import DataError, did_you_mean, shown

__all__ = ["read_arrays", "room_of"]

#: Arrays may always have this many bytes together; more only in a file of a hundredth of it.
_ANY_BYTES, _RATIO = 64 * 2**20, 100
#: What `numpy.savez` and `numpy.savez_compressed` write; others take memory of their own.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def room_of(size: int) -> int:
    """Bytes that the numbers in a file of ``size`` bytes may have in memory."""
    return max(_ANY_BYTES, _RATIO * size)


def read_arrays(
    path: str | Path, file: BinaryIO, size: int, keys: Collection[str]
) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz`` by name.

    Parameters
    ----------
    path : str or path
        For error messages.
    file : binary file
        The archive.
    size : int
        Its bytes.
    keys : collection of str
        The names that are known; others are refused.

    Raises
    ------
    DataError
        If it is no ``.npz`` of plain arrays, damaged, or holds an array of another name.
    """
    if size == 0:
        raise DataError(f"{path}: the file is empty; write it again with numpy.savez")
    if not zipfile.is_zipfile(file):
        raise DataError(f"{path}: not an .npz file, or cut short; write it with numpy.savez")
    try:
        with zipfile.ZipFile(file) as archive:
            return _unpack(path, archive, room_of(size), keys)
    except DataError:
        raise
    except Exception as fault:  # damage shows in zipfile, zlib, tokenize …: no common base
        words = shown(" ".join(str(fault).split()) or type(fault).__name__, 200)
        raise DataError(
            f"{path}: damaged, or not plain arrays of numbers ({words}); write it with numpy.savez"
        ) from fault


def _unpack(
    path: str | Path, archive: zipfile.ZipFile, room: int, keys: Collection[str]
) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    for info in archive.infolist():
        key = info.filename.removesuffix(".npy")
        if key not in keys:
            raise DataError(f"{path}: unknown array '{shown(key)}'{did_you_mean(key, keys)}")
        if key in arrays:
            raise DataError(f"{path}: an array is there twice; write it with numpy.savez")
        if info.compress_type not in _METHODS:
            raise ValueError(f"{key} is compressed in another way than numpy's")
        # What the archive says of the length is all that is read, and must be what the array says.
        if info.file_size > room:
            raise DataError(
                f"{path}: the arrays are too many times as large as the file ({key} has "
                f"{info.file_size:,} bytes, and there may be {room:,}); if you trust it, write it "
                "with numpy.savez (not compressed), or the features as CSR"
            )
        with archive.open(info) as member:
            arrays[key] = read_npy(member, info.file_size, room)
        room -= size_in_memory(arrays[key].size, arrays[key].dtype)
    return arrays
