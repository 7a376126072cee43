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
``feature_names``                           words (F,), optional: what the columns of ``feat`` are
                                            called
``node_ids``                                integers or words (N,), optional: what the nodes are
                                            called, in predictions too
==========================================  ====================================================

For how much a file may hold see `lipzoo.datasets.npz`, of sparse features `lipzoo.datasets.csr`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lipzoo._atomic import write_atomically
from lipzoo._files import open_regular
from lipzoo._graph import AnyGraph
from lipzoo._paths import as_path
from lipzoo.datasets.arrays import CSR_ARRAYS, NODE_ARRAYS, graph_of_arrays
from lipzoo.datasets.convert import MASKS
from lipzoo.datasets.csr import Csr
from lipzoo.datasets.metric import default_metric
from lipzoo.datasets.npz import read_arrays
from lipzoo.datasets.task import GraphTask
from lipzoo.errors import DataError, OutputError

__all__ = ["read_npz", "save_npz"]

NAMES = ("class_names", "feature_names", "node_ids")
COUNTS = ("num_nodes", "num_classes", "metric")
_KEYS = ("src", "dst", "edge_feat", *NODE_ARRAYS, *CSR_ARRAYS, *COUNTS, *NAMES)


def read_npz(path: Path) -> tuple[AnyGraph, dict[str, Any]]:
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
        arrays["feat"] = Csr(*map(arrays.pop, CSR_ARRAYS)).check(path, "feat", size).dense()
    graph, facts = graph_of_arrays(path, arrays)
    return graph, {**facts, **names_of(path, arrays, graph.num_nodes())}


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
    for key in ("class_names", "feature_names"):
        if names := getattr(task, key):
            arrays[key] = np.array(names)
    if task.node_ids is not None:
        ids = task.node_ids
        words = not all(isinstance(each, int) and abs(each) < 2**63 for each in ids)
        arrays["node_ids"] = np.array([str(each) for each in ids] if words else ids)
    write_atomically(path, lambda file: np.savez_compressed(file, **arrays))
    return path


def names_of(path: Path, arrays: dict[str, np.ndarray], num_nodes: int) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for key in NAMES:
        kinds, names = "Uiu" if key == "node_ids" else "U", arrays.get(key)
        if names is None:
            continue
        # NumPy's empty list is float64.
        if names.ndim != 1 or (len(names) and names.dtype.kind not in kinds):
            what = "words" if kinds == "U" else "whole numbers or words"
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
