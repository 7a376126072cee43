"""Graphs as NumPy ``.npz`` files, the easiest way to bring a graph to lipzoo:

    numpy.savez("mine.npz", src=src, dst=dst, feat=feat, label=label)

==========================================  ====================================================
array                                       what it is
==========================================  ====================================================
``src``, ``dst``                            integers (E,): edge e goes from src[e] to dst[e]
``feat``                                    numbers (N, F); or, sparse, the four CSR arrays
                                            ``feat_data``, ``feat_indices``, ``feat_indptr``
                                            and ``feat_shape``
``edge_feat``                               numbers (E, K), optional
``label``                                   integers (N,), -1 where unknown; or 0/1 (N, C)
``train_mask``, ``val_mask``,               booleans (N,), optional; or, of S splits, (S, N), of
``test_mask``                               which ``split_index`` chooses one
``num_nodes``                               N, optional: by default the rows of the features
``num_classes``                             C, optional: by default the largest label plus one
``metric``                                  a word of `lipzoo.datasets.metric`, optional: what the
                                            task is judged by
``class_names``                             words (C,), optional: what the classes are called
``node_ids``                                integers or words (N,), optional: what the nodes are
                                            called, in predictions too
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
from lipzoo.datasets.arrays import CSR_ARRAYS, NODE_ARRAYS, graph_of_arrays
from lipzoo.datasets.convert import MASKS
from lipzoo.datasets.metric import default_metric
from lipzoo.datasets.npz import read_arrays
from lipzoo.datasets.task import GraphTask
from lipzoo.errors import DataError, OutputError

__all__ = ["read_npz", "save_npz"]

_NAMES = ("class_names", "node_ids")
_COUNTS = ("num_nodes", "num_classes", "metric")
_KEYS = ("src", "dst", "edge_feat", *NODE_ARRAYS, *CSR_ARRAYS, *_COUNTS, *_NAMES)

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
    if "feat" not in arrays and all(key in arrays for key in CSR_ARRAYS):
        arrays["feat"] = _dense(path, size, *(arrays.pop(key) for key in CSR_ARRAYS))
    graph, facts = graph_of_arrays(path, arrays)
    return graph, {**facts, **_names(path, arrays, graph.num_nodes())}


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
    arrays |= {key: graph.ndata[key] for key in NODE_ARRAYS if key in graph.ndata}
    arrays |= {"edge_feat": graph.edata["feat"]} if "feat" in graph.edata else {}
    arrays = {key: tensor.detach().numpy() for key, tensor in arrays.items()}
    arrays |= {key: arrays[key].T for key in MASKS if key in arrays}  # of several splits: (S, N)
    if task.metric != default_metric(task.multilabel):
        arrays["metric"] = np.array(task.metric)
    if task.class_names:
        arrays["class_names"] = np.array(task.class_names)
    if task.node_ids is not None:
        ids = task.node_ids
        words = not all(isinstance(each, int) and abs(each) < 2**63 for each in ids)
        arrays["node_ids"] = np.array([str(each) for each in ids] if words else ids)
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
            f"{path}: {', '.join(CSR_ARRAYS)} are no CSR matrix ({fault}); write those of a "
            "scipy.sparse.csr_matrix"
        )
    matrix = np.zeros(shape.astype(np.int64), np.float32)
    rows = np.repeat(np.arange(len(matrix)), np.diff(indptr.astype(np.int64)))
    with np.errstate(over="ignore"):  # what becomes infinite is refused as such
        np.add.at(matrix, (rows, indices.astype(np.int64)), data.astype(np.float32))
    return matrix


def _names(path: Path, arrays: dict[str, np.ndarray], num_nodes: int) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for key, kinds in zip(_NAMES, ("U", "Uiu")):
        names = arrays.get(key)
        if names is None:
            continue
        # NumPy's empty list is float64.
        if names.ndim != 1 or (len(names) and names.dtype.kind not in kinds):
            what = "words" if key == "class_names" else "whole numbers or words"
            raise DataError(
                f"{path}: {key} must be a list of {what}, but is {names.dtype} {names.shape}"
            )
        facts[key] = names.tolist()
        if len(set(facts[key])) < len(names):
            raise DataError(f"{path}: {key} holds a name twice; names must differ")
    if "node_ids" in facts and len(facts["node_ids"]) != num_nodes:
        raise DataError(
            f"{path}: node_ids is {arrays['node_ids'].shape}, but there are {num_nodes} nodes; "
            "give it one row a node"
        )
    return facts


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
