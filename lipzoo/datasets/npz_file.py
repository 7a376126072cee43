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
``train_mask``, ``val_mask``,               booleans (N,), optional; or, of S splits, (S, N), of
``test_mask``                               which ``split_index`` chooses one
``num_nodes``                               N, optional: by default the rows of the features
``num_classes``                             C, optional: by default the largest label plus one
``metric``                                  a word of `lipzoo.datasets.metric`, optional: what the
                                            task is judged by
==========================================  ====================================================

For how much a file may hold see `lipzoo.datasets.npz`; sparse features written out in float32 may
have 256 MiB, or 1000 times its own bytes if that is more.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lipzoo._dgl import dgl
from lipzoo._files import open_regular
from lipzoo._paths import as_path
from lipzoo.datasets.convert import MASKS
from lipzoo.datasets.metric import METRICS, default_metric
from lipzoo.datasets.npz import read_arrays
from lipzoo.datasets.task import GraphTask
from lipzoo.errors import DataError, OutputError, did_you_mean, shown

__all__ = ["graph_of_arrays", "read_npz", "save_npz"]

_CSR = ("feat_data", "feat_indices", "feat_indptr", "feat_shape")
_COLUMNS = ("feat", "label", *MASKS)
_KEYS = ("src", "dst", *_COLUMNS, *_CSR, "num_nodes", "num_classes", "metric")

#: The same of features that are given as CSR, written out. Those of papers and their words, the
#: sparsest that are usual, have some 600 times the bytes of a compressed file.
_ANY_DENSE_BYTES, _DENSE_RATIO = 256 * 2**20, 1000


def read_npz(path: Path) -> tuple[dgl.DGLGraph, dict[str, Any]]:
    """Read an ``.npz`` (see the module's docstring); see `graph_of_arrays`.

    Raises
    ------
    DataError
        If it is no ``.npz``, an array is missing, unknown or of the wrong shape, or an edge
        leads out of the graph.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        arrays = read_arrays(path, file, size, _KEYS)
    if "feat" not in arrays and all(key in arrays for key in _CSR):
        arrays["feat"] = _dense(path, size, *(arrays.pop(key) for key in _CSR))
    return graph_of_arrays(path, arrays)


def graph_of_arrays(
    path: str | Path, arrays: dict[str, np.ndarray]
) -> tuple[dgl.DGLGraph, dict[str, Any]]:
    """A graph, and what `GraphTask.from_graph` is to be told of it besides.

    Parameters
    ----------
    path : str or path
        For error messages.
    arrays : dict of numpy.ndarray
        Those of the module's docstring, the features not as CSR.

    Raises
    ------
    DataError
        If an array is missing or of the wrong shape, or an edge leads out of the graph.
    """
    for key in ("src", "dst", "feat"):
        if key not in arrays:
            raise DataError(
                f"{path}: there is no array {key!r} (found: {', '.join(arrays) or 'none'}); "
                "src, dst (E,) and feat (N, F) are needed, or feat as CSR: " + ", ".join(_CSR)
            )
    num_nodes = _number(path, arrays, "num_nodes", default=len(np.atleast_1d(arrays["feat"])))
    for key in MASKS:
        if key in arrays and arrays[key].ndim == 2 and arrays[key].shape[1] == num_nodes:
            arrays[key] = arrays[key].T  # of several splits: a column each, as in DGL and PyG
    columns = {key: _column(path, key, arrays[key], num_nodes) for key in _COLUMNS if key in arrays}
    src, dst = _edges(path, arrays["src"], arrays["dst"], num_nodes)
    graph = dgl.graph((torch.from_numpy(src), torch.from_numpy(dst)), num_nodes=num_nodes)
    graph.ndata.update(columns)
    num_classes = _number(path, arrays, "num_classes", default=None)
    return graph, {"num_classes": num_classes, "metric": _metric(path, arrays)}


def save_npz(task: GraphTask, path: str | os.PathLike) -> Path:
    """Write a task as an ``.npz`` that `lipzoo.load_dataset` reads back, complete or not at all.

    Of several splits the one that the task has; all of them where none was chosen yet.

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
    path = as_path(path, error=OutputError)
    if path.suffix != ".npz":
        raise OutputError(f"{path}: the name of the file must end in .npz")
    graph = task.graph.cpu()
    src, dst = graph.edges(order="eid")
    arrays = {"src": src, "dst": dst, "num_classes": torch.tensor(task.num_classes)}
    arrays |= {key: graph.ndata[key] for key in _COLUMNS if key in graph.ndata}
    arrays = {key: tensor.detach().numpy() for key, tensor in arrays.items()}
    arrays |= {key: arrays[key].T for key in MASKS if key in arrays}  # of several splits: (S, N)
    if task.metric != default_metric(task.multilabel):
        arrays["metric"] = np.array(task.metric)
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


def _dense(
    path: Path,
    size: int,
    data: np.ndarray,
    indices: np.ndarray,
    indptr: np.ndarray,
    shape: np.ndarray,
) -> np.ndarray:
    # Not through SciPy: its own check lets some through that crash the process.
    limit = max(_ANY_DENSE_BYTES, _DENSE_RATIO * size) // 4
    fault = _csr_fault(data, indices, indptr, shape, limit)
    if fault:
        raise DataError(
            f"{path}: {', '.join(_CSR)} are no CSR matrix ({fault}); write those of a "
            "scipy.sparse.csr_matrix"
        )
    matrix = np.zeros(shape.astype(np.int64), np.float32)
    rows = np.repeat(np.arange(len(matrix)), np.diff(indptr.astype(np.int64)))
    with np.errstate(over="ignore"):  # what becomes infinite is refused as such
        np.add.at(matrix, (rows, indices.astype(np.int64)), data.astype(np.float32))
    return matrix


def _csr_fault(
    data: np.ndarray, indices: np.ndarray, indptr: np.ndarray, shape: np.ndarray, limit: int
) -> str | None:
    whole = all(array.dtype.kind in "iu" for array in (indices, indptr, shape))
    flat = data.ndim == indices.ndim == indptr.ndim == shape.ndim == 1
    if not (whole and flat and data.dtype.kind in "biuf" and len(shape) == 2):
        return "they must be lists of numbers, all but feat_data whole"
    num_rows, num_columns = map(int, shape)
    if min(num_rows, num_columns) < 0 or max(1, num_rows) * max(1, num_columns) > limit:
        return (
            f"{num_rows} x {num_columns} entries, and written out a file of this size may have "
            f"{limit:,}; drop columns that few nodes have"
        )
    if len(data) != len(indices) or len(indptr) != num_rows + 1:
        return f"{len(data)} values, {len(indices)} columns, {len(indptr)} beginnings of rows"
    if indptr[0] != 0 or indptr[-1] != len(data) or (indptr[1:] < indptr[:-1]).any():
        return "feat_indptr does not rise from 0 to the number of values"
    if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < num_columns:
        return f"feat_indices must lie in 0..{num_columns - 1}"
    return None


def _edges(path: Path, src: np.ndarray, dst: np.ndarray, num_nodes: int) -> list[np.ndarray]:
    if src.ndim != 1 or src.shape != dst.shape:
        raise DataError(
            f"{path}: src and dst must both be (E,), but are {src.shape}, {dst.shape}; give one "
            "number an edge"
        )
    for key, ends in (("src", src), ("dst", dst)):
        if ends.dtype.kind not in ("iu" if len(ends) else "iuf"):  # NumPy's empty list is float64
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
        raise DataError(f"{path}: {key} must be numbers, but is {array.dtype}; convert it")
    if array.ndim not in (1, 2) or len(array) != num_nodes:
        raise DataError(
            f"{path}: {key} is {array.shape}, but there are {num_nodes} nodes; give it one "
            "row a node"
        )
    if array.dtype.kind == "u" and array.size and array.max() > np.iinfo(np.int64).max:
        raise DataError(f"{path}: {key} holds {array.max()}, too large for int64; use int64")
    # PyTorch has few unsigned types, and none of NumPy's long double or foreign byte order.
    kind = {"b": np.bool_, "f": np.float32}.get(array.dtype.kind, np.int64)
    with np.errstate(over="ignore"):  # what becomes infinite is refused as such
        return torch.from_numpy(np.ascontiguousarray(array, kind))


def _number(path: Path, arrays: dict, key: str, default: int | None) -> int | None:
    if key not in arrays:
        return default
    number = arrays[key]
    if number.size != 1 or number.dtype.kind not in "iu" or not 0 <= number.item() < 2**63:
        raise DataError(
            f"{path}: {key} must be one whole number, but is {number.dtype} "
            f"{number.shape}; leave it out, or write numpy.array(7)"
        )
    return int(number.item())


def _metric(path: str | Path, arrays: dict) -> str:
    if "metric" not in arrays:
        return ""
    word = arrays["metric"]
    if word.size != 1 or word.dtype.kind != "U" or str(word.item()) not in METRICS:
        found = shown(word.item()) if word.size == 1 else f"{word.dtype} {word.shape}"
        raise DataError(f"{path}: there is no metric '{found}'{did_you_mean(found, METRICS)}")
    return str(word.item())
