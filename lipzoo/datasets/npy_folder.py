"""A folder with an array a file: an ``.npz`` unpacked, whose features stay in their file.

    numpy.save("mine/src.npy", src), numpy.save("mine/dst.npy", dst), numpy.save("mine/feat.npy", …)

The names and shapes are those of `lipzoo.datasets.npz_file`; sparse features are no matter of it.
``feat.npy`` is mapped, not read: its rows come from the disk as they are needed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from lipzoo._files import open_regular
from lipzoo._graph import AnyGraph
from lipzoo.datasets.arrays import NODE_ARRAYS, graph_of_arrays
from lipzoo.datasets.npy import map_npy, read_npy
from lipzoo.datasets.npz import room_of
from lipzoo.datasets.npz_file import COUNTS, NAMES, names_of
from lipzoo.datasets.parsing import parsing
from lipzoo.errors import DataError, did_you_mean, shown

__all__ = ["is_npy_folder", "read_features", "read_npy_folder"]

#: The file of which a folder of arrays is known.
_SOURCES = "src.npy"
_KEYS = ("src", "dst", "edge_feat", *NODE_ARRAYS, *COUNTS, *NAMES)
_ADVICE = "write it with numpy.save"


def is_npy_folder(folder: Path) -> bool:
    """Whether a folder holds arrays, and no tables."""
    return os.path.lexists(folder / _SOURCES)


def read_npy_folder(folder: Path) -> tuple[AnyGraph, dict[str, Any]]:
    """Read a folder of ``.npy`` files (see the module's docstring); see `graph_of_arrays`.

    Raises
    ------
    DataError
        If a file is no array, missing, unknown or of the wrong shape, or an edge leads out of the
        graph.
    """
    arrays: dict[str, np.ndarray] = {}
    for path in sorted(folder.glob("*.npy")):
        if path.stem not in _KEYS:
            hint = did_you_mean(path.stem, _KEYS)
            raise DataError(f"{folder}: unknown array '{shown(path.stem)}'{hint}")
        read = read_features if path.stem == "feat" else _read
        arrays[path.stem] = read(path, folder)
    graph, facts = graph_of_arrays(folder, arrays)
    return graph, {**facts, **names_of(folder, arrays, graph.num_nodes())}


def read_features(path: Path, folder: Path) -> np.memmap:
    """The features in ``feat.npy``, mapped: (N, F) or (N,), of a type that PyTorch has.

    Raises
    ------
    DataError
        If it is no such array.
    """
    file = open_regular(path, folder)
    with parsing(path, "is no array whose rows could be mapped", _ADVICE):
        return map_npy(file)


def _read(path: Path, folder: Path) -> np.ndarray:
    with open_regular(path, folder) as file:
        size = os.fstat(file.fileno()).st_size
        with parsing(path, "is no array of numbers or words", _ADVICE):
            return read_npy(file, size, room_of(size))
