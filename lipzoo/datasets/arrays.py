"""A graph from plain arrays, checked: what files and the graphs of other libraries become."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lipzoo._graph import AnyGraph, make_graph
from lipzoo.datasets.convert import MASKS
from lipzoo.datasets.metric import METRICS
from lipzoo.datasets.npy import MAPPED_TYPES
from lipzoo.errors import DataError, did_you_mean, shown

__all__ = [
    "CSR_ARRAYS",
    "NODE_ARRAYS",
    "as_numbers",
    "graph_of_arrays",
    "graph_with_columns",
    "is_mapped",
]

#: Of the nodes, a row each.
NODE_ARRAYS = ("feat", "label", *MASKS)
#: Features as a sparse matrix.
CSR_ARRAYS = ("feat_data", "feat_indices", "feat_indptr", "feat_shape")


def graph_of_arrays(
    path: str | Path, arrays: dict[str, np.ndarray]
) -> tuple[AnyGraph, dict[str, Any]]:
    """A graph, and what `GraphTask.from_graph` is to be told of it besides.

    Parameters
    ----------
    path : str or path
        For error messages.
    arrays : dict of numpy.ndarray
        Those of `lipzoo.datasets.npz_file`, the features not as CSR.

    Raises
    ------
    DataError
        If an array is missing or of the wrong shape, or an edge leads out of the graph.
    """
    for key in ("src", "dst", "feat"):
        if key not in arrays:
            raise DataError(
                f"{path}: there is no array {key!r} (found: {', '.join(arrays) or 'none'}); "
                "src, dst (E,) and feat (N, F) are needed, or feat as CSR: " + ", ".join(CSR_ARRAYS)
            )
    num_nodes = _number(path, arrays, "num_nodes", default=len(np.atleast_1d(arrays["feat"])))
    for key in MASKS:
        if key in arrays and arrays[key].ndim == 2 and arrays[key].shape[1] == num_nodes:
            arrays[key] = arrays[key].T  # of several splits: a column each, as in DGL and PyG
    columns = {
        key: _column(path, key, arrays[key], num_nodes) for key in NODE_ARRAYS if key in arrays
    }
    src, dst = _edges(path, arrays["src"], arrays["dst"], num_nodes)
    graph = make_graph(torch.from_numpy(src), torch.from_numpy(dst), num_nodes)
    graph.ndata.update(columns)
    if "edge_feat" in arrays:
        graph.edata["feat"] = _column(path, "edge_feat", arrays["edge_feat"], len(src), "edge")
    num_classes = _number(path, arrays, "num_classes", default=None)
    facts = {"num_classes": num_classes, "metric": _metric(path, arrays)}
    return graph, {**facts, "mapped": True} if is_mapped(arrays["feat"]) else facts


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


def _column(
    path: str | Path, key: str, array: np.ndarray, count: int, row: str = "node"
) -> torch.Tensor:
    found = _mapped(array) if is_mapped(array) else as_numbers(path, key, array)
    if array.ndim not in (1, 2) or len(array) != count:
        each = f"{'an' if row == 'edge' else 'a'} {row}"
        raise DataError(
            f"{path}: {key} is {array.shape}, but there are {count} {row}s; give it one row "
            f"{each}, a number or a list of numbers"
        )
    return found


def is_mapped(array: Any) -> bool:
    """Whether an array is one that stays in its file, of a type that it can stay in."""
    return isinstance(array, np.memmap) and array.dtype in MAPPED_TYPES


def _mapped(array: np.memmap) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array)


def as_numbers(path: str | Path, key: str, array: np.ndarray) -> torch.Tensor:
    """An array of numbers as a tensor: float64 where it is that wide, else float32; int64 or bool.

    Raises
    ------
    DataError
        If it holds something else, or a number too large for int64.
    """
    if array.dtype.kind not in "biuf":
        raise DataError(f"{path}: {key} must be numbers, but is {array.dtype}; convert it")
    if array.dtype.kind == "u" and array.size and array.max() > np.iinfo(np.int64).max:
        raise DataError(f"{path}: {key} holds {array.max()}, too large for int64; use int64")
    # PyTorch has few unsigned types, and none of NumPy's long double or foreign byte order.
    floats = np.float64 if array.dtype.itemsize >= 8 else np.float32
    kind = {"b": np.bool_, "f": floats}.get(array.dtype.kind, np.int64)
    with np.errstate(over="ignore"):  # what becomes infinite is refused as such
        return torch.from_numpy(np.require(array, kind, "CW"))


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


def graph_with_columns(
    name: str, src: np.ndarray, dst: np.ndarray, columns: dict[str, np.ndarray], **facts: Any
) -> tuple[AnyGraph, dict[str, Any]]:
    """`graph_of_arrays` of columns whose masks are (N,) or (N, S), with more facts."""
    arrays = {"src": src, "dst": dst, **columns}
    arrays |= {key: arrays[key].T for key in MASKS if key in arrays}  # several splits: (S, N)
    graph, found = graph_of_arrays(name, arrays)
    return graph, {**found, **facts}
