"""Graphs as NumPy ``.npz`` files, the easiest way to bring a graph to lipzoo:

    numpy.savez("mine.npz", src=src, dst=dst, feat=feat, label=label)

==========================================  ====================================================
array                                       what it is
==========================================  ====================================================
``src``, ``dst``                            integers (E,): edge e goes from src[e] to dst[e]
``feat``                                    numbers (N, F); or, sparse, the four CSR arrays
                                            ``feat_data``, ``feat_indices``, ``feat_indptr``
                                            and ``feat_shape``
``label``                                   integers (N,), -1 where unknown; or 0/1 (N, C)
``train_mask``, ``val_mask``,               booleans (N,), optional
``test_mask``
``num_nodes``                               N, optional: by default the rows of the features
``num_classes``                             C, optional: by default the largest label plus one
==========================================  ====================================================

Nothing in a file is unpickled.
"""

from __future__ import annotations

import os
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import scipy.sparse
import torch

from lipzoo._dgl import dgl
from lipzoo.datasets.convert import MASKS
from lipzoo.datasets.task import GraphTask
from lipzoo.errors import DataError, OutputError, did_you_mean

__all__ = ["read_npz", "save_npz"]

_CSR = ("feat_data", "feat_indices", "feat_indptr", "feat_shape")
_COLUMNS = ("feat", "label", *MASKS)
_KEYS = ("src", "dst", *_COLUMNS, *_CSR, "num_nodes", "num_classes")


def read_npz(path: Path) -> tuple[dgl.DGLGraph, int | None]:
    """Read an ``.npz`` (see the module's docstring), and C where it is given.

    Raises
    ------
    DataError
        If it is no ``.npz``, an array is missing, unknown or of the wrong shape, or an edge
        leads out of the graph.
    """
    arrays = _read_arrays(path)
    for key in arrays:
        if key not in _KEYS:
            raise DataError(f"{path}: unknown array {key!r}{did_you_mean(key, _KEYS)}")
    if "feat" not in arrays and all(key in arrays for key in _CSR):
        arrays["feat"] = _dense(path, *(arrays[key] for key in _CSR))
    for key in ("src", "dst", "feat"):
        if key not in arrays:
            raise DataError(
                f"{path}: there is no array {key!r} (found: {', '.join(arrays) or 'none'}); "
                "src, dst (E,) and feat (N, F) are needed, or feat as CSR: " + ", ".join(_CSR)
            )
    num_nodes = _number(path, arrays, "num_nodes", default=len(np.atleast_1d(arrays["feat"])))
    src, dst = _edges(path, arrays["src"], arrays["dst"], num_nodes)
    graph = dgl.graph((torch.from_numpy(src), torch.from_numpy(dst)), num_nodes=num_nodes)
    for key in _COLUMNS:
        if key in arrays:
            graph.ndata[key] = _column(path, key, arrays[key], num_nodes)
    return graph, _number(path, arrays, "num_classes", default=None)


def save_npz(task: GraphTask, path: str | os.PathLike) -> Path:
    """Write a task as an ``.npz`` that `lipzoo.load_dataset` reads back, complete or not at all.

    Parameters
    ----------
    task : GraphTask
    path : path
        Ends in ``.npz``; its folder exists.

    Raises
    ------
    OutputError
        If it cannot be written there.
    """
    path = Path(path).expanduser()
    if path.suffix != ".npz":
        raise OutputError(f"{path}: the name of the file must end in .npz")
    graph = task.graph.cpu()
    src, dst = graph.edges(order="eid")
    arrays = {"src": src, "dst": dst, "num_classes": torch.tensor(task.num_classes)}
    arrays |= {key: graph.ndata[key] for key in _COLUMNS if key in graph.ndata}
    arrays = {key: tensor.detach().numpy() for key, tensor in arrays.items()}
    scratch = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
            scratch = Path(file.name)
            np.savez_compressed(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except OSError as fault:
        raise OutputError(f"{path}: cannot be written ({fault.strerror or fault})") from fault
    finally:
        if scratch is not None:
            scratch.unlink(missing_ok=True)
    return path


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty; write it again with numpy.savez")
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path}: not an .npz file, or cut short; write it with numpy.savez")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays}
    except Exception as fault:  # damage shows in zipfile, zlib, tokenize …: no common base
        raise DataError(f"{path}: damaged, or not plain arrays of numbers ({fault})") from fault


def _dense(
    path: Path, data: np.ndarray, indices: np.ndarray, indptr: np.ndarray, shape: np.ndarray
) -> np.ndarray:
    try:
        matrix = scipy.sparse.csr_matrix((data, indices, indptr), shape=tuple(shape.tolist()))
        matrix.check_format(full_check=True)
    except (ValueError, TypeError, IndexError) as fault:
        raise DataError(f"{path}: {', '.join(_CSR)} are no CSR matrix ({fault})") from fault
    return matrix.toarray()


def _edges(path: Path, src: np.ndarray, dst: np.ndarray, num_nodes: int) -> list[np.ndarray]:
    if src.ndim != 1 or src.shape != dst.shape:
        raise DataError(f"{path}: src and dst must both be (E,), but are {src.shape}, {dst.shape}")
    for key, ends in (("src", src), ("dst", dst)):
        if len(ends) and ends.dtype.kind not in "iu":
            raise DataError(f"{path}: {key} holds node numbers, but is {ends.dtype}; use int64")
        outside = np.flatnonzero((ends < 0) | (ends >= num_nodes))
        if len(outside):
            edge = outside[0]
            raise DataError(
                f"{path}: {key}[{edge}] is {ends[edge]}, but nodes are numbered "
                f"0..{num_nodes - 1} ({len(outside)} such edges)"
            )
    return [ends.astype(np.int64) for ends in (src, dst)]


def _column(path: Path, key: str, array: np.ndarray, num_nodes: int) -> torch.Tensor:
    if array.dtype.kind not in "biuf":
        raise DataError(f"{path}: {key} must be numbers, but is {array.dtype}")
    if array.ndim not in (1, 2) or len(array) != num_nodes:
        raise DataError(f"{path}: {key} is {array.shape}, but there are {num_nodes} nodes")
    # PyTorch has few unsigned types, and none of NumPy's long double or foreign byte order.
    return torch.from_numpy(array.astype(np.float32 if array.dtype.kind == "f" else np.int64))


def _number(path: Path, arrays: dict, key: str, default: int | None) -> int | None:
    if key not in arrays:
        return default
    number = arrays[key]
    if number.size != 1 or number.dtype.kind not in "iu" or number.item() < 0:
        raise DataError(f"{path}: {key} must be one whole number, but is {number!r}")
    return int(number.item())
