"""The citation graphs of Planetoid (Yang, Cohen, Salakhutdinov, ICML 2016): how their files are
read.

=================================  =============================================================
file ``ind.NAME.…``                what it holds
=================================  =============================================================
``x``, ``y``                       features (CSR) and one-hot labels of the training nodes
``allx``, ``ally``                 those of all nodes but the test nodes, the training nodes first
``tx``, ``ty``                     those of the test nodes, in the order of ``test.index``
``graph``                          ``{node: [neighbours]}``
``test.index``                     a test node a line
=================================  =============================================================

All but the last are pickles: of them only arrays, CSR matrices, dicts and lists are made.
"""

from __future__ import annotations

import codecs
import collections
import io
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from lipzoo._files import read_regular
from lipzoo._graph import AnyGraph, make_graph
from lipzoo.datasets.csr import Csr
from lipzoo.errors import DataError, shown

__all__ = ["read_planetoid"]

#: Of Planetoid's split.
_NUM_VAL = 500


def read_planetoid(folder: Path, name: str) -> tuple[AnyGraph, int]:
    """The graph, and its number of classes.

    The order of the edges and all roundings are DGL's: features are divided by the sum of their
    row; edges are taken in both directions, once. Nodes of CiteSeer that are in no file have no
    features, no neighbours, and class 0.

    Raises
    ------
    DataError
        If the files do not fit each other.
    """
    x, y, tx, ty, allx, ally, graph = (
        _unpickle(folder, f"ind.{name}.{part}")
        for part in ("x", "y", "tx", "ty", "allx", "ally", "graph")
    )
    lines = read_regular(folder / f"ind.{name}.test.index", folder=folder).split()
    order = np.array([int(line) for line in lines])
    place = np.sort(order)
    _check_parts(name, [(x, y), (tx, ty), (allx, ally)], place)
    if place[-1] - place[0] >= len(place):  # there are nodes between that are in no file
        tx, ty = (_spread(part, place) for part in (tx, ty))
    feat = sp.vstack((allx, tx)).tolil()
    feat[order, :] = feat[place, :]
    one_hot = np.vstack((ally, ty))
    one_hot[order, :] = one_hot[place, :]
    num_nodes = len(one_hot)

    src, dst = _edges(graph, num_nodes)
    made = make_graph(torch.from_numpy(src), torch.from_numpy(dst), num_nodes)
    made.ndata["feat"] = torch.from_numpy(_of_sum_one(feat).astype(np.float32))
    made.ndata["label"] = torch.from_numpy(one_hot.argmax(axis=1))
    nodes = np.arange(num_nodes)
    made.ndata["train_mask"] = torch.from_numpy(nodes < len(y))
    made.ndata["val_mask"] = torch.from_numpy((nodes >= len(y)) & (nodes < len(y) + _NUM_VAL))
    made.ndata["test_mask"] = torch.from_numpy(np.isin(nodes, place))
    return made, one_hot.shape[1]


def _check_parts(name: str, parts: list[tuple[Any, Any]], test: np.ndarray) -> None:
    is_whole = all(
        sp.issparse(feat) and isinstance(labels, np.ndarray) and labels.ndim == 2
        for feat, labels in parts
    )
    if not is_whole:
        raise DataError(f"ind.{name}.*: expected CSR matrices and arrays (N, C)")
    feat, labels = ({part.shape[1] for part in column} for column in zip(*parts))
    rows = all(x.shape[0] == len(y) for x, y in parts)
    (_, train), (tx, _), (allx, _) = parts
    fits = len(test) == tx.shape[0] and len(test) and test[0] == allx.shape[0]
    if not (rows and fits and len(feat) == len(labels) == 1 and len(train) <= allx.shape[0]):
        raise DataError(f"ind.{name}.*: the files are of different graphs; fetch them again")


def _spread(rows: Any, place: np.ndarray) -> Any:
    """The rows at their places, counted from the first; zeros in between."""
    shape = (place[-1] - place[0] + 1, rows.shape[1])
    whole = sp.lil_matrix(shape) if sp.issparse(rows) else np.zeros(shape)
    whole[place - place[0], :] = rows
    return whole


def _edges(graph: dict[int, list[int]], num_nodes: int) -> np.ndarray:
    """(2, E), node by node as the dict names them, with each neighbour once."""
    neighbours: dict[int, dict[int, None]] = {node: {} for node in graph}
    for node, others in graph.items():
        for other in others:
            neighbours[node][other] = None
            neighbours.setdefault(other, {})[node] = None
    edges = [(node, other) for node, others in neighbours.items() for other in others]
    found = np.array(edges, dtype=np.int64).reshape(-1, 2).T
    if found.size and not 0 <= found.min() <= found.max() < num_nodes:
        raise DataError(f"the graph names nodes outside of 0..{num_nodes - 1}; fetch it again")
    return np.ascontiguousarray(found)


def _of_sum_one(feat: sp.lil_matrix) -> np.ndarray:
    """The rows divided by their sums; those of sum 0 stay 0."""
    total = np.asarray(feat.sum(1)).ravel()
    is_empty = total == 0
    total[is_empty] = 1
    factor = np.power(total, -1)
    factor[is_empty] = 0
    return np.asarray(sp.diags(factor).dot(feat).todense())


def _unpickle(folder: Path, name: str) -> Any:
    made = _Unpickler(io.BytesIO(read_regular(folder / name, folder=folder))).load()
    if isinstance(made, _Array):
        return made.array
    if isinstance(made, _Sparse):
        return made.matrix()
    if isinstance(made, dict):
        nodes = [*made, *(other for others in made.values() for other in others)]
        if all(type(node) is int for node in nodes):
            return made
    raise DataError(f"{name} holds neither arrays nor lists of neighbours; fetch it again")


class _Dtype:
    """Takes the place of ``numpy.dtype``, which takes any state that it is given."""

    def __init__(self, code: str, *_: Any) -> None:
        self.code, self.order = str(code), "="

    def __setstate__(self, state: tuple) -> None:
        self.order = str(state[1])

    def numbers(self) -> np.dtype:
        if not re.fullmatch(r"[=<>|][biuf][1248]", self.order + self.code):
            raise DataError(f"{shown(self.code)} are no numbers")
        return np.dtype(self.order + self.code)


class _Array:
    """Takes the place of ``numpy.ndarray``."""

    array: np.ndarray

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, is_fortran, raw = state
        data = raw.encode("latin1") if isinstance(raw, str) else raw
        flat = np.frombuffer(data, dtype.numbers())
        self.array = flat.reshape([int(n) for n in shape], order="F" if is_fortran else "C").copy()


class _Sparse:
    """Takes the place of SciPy's class, which can crash on arrays that do not fit each other."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state

    def matrix(self) -> sp.csr_matrix:
        parts = [self.state[key].array for key in ("data", "indices", "indptr")]
        shape = tuple(map(int, self.state["_shape"]))
        Csr(*parts, np.array(shape)).check("ind.*", "matrix")
        return sp.csr_matrix(tuple(parts), shape=shape)


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _no_bytes() -> bytes:
    """How Python 3 writes an empty array for Python 2."""
    return b""


#: By Python 2 and 3 and any NumPy and SciPy.
_CLASSES = {
    "numpy.ndarray": _Array,
    "numpy.dtype": _Dtype,
    "numpy.core.multiarray._reconstruct": _reconstruct,
    "numpy._core.multiarray._reconstruct": _reconstruct,
    "scipy.sparse.csr.csr_matrix": _Sparse,
    "scipy.sparse._csr.csr_matrix": _Sparse,
    "collections.defaultdict": collections.defaultdict,
    "__builtin__.bytes": _no_bytes,
    "__builtin__.list": list,
    "builtins.list": list,
    "_codecs.encode": codecs.encode,
}


class _Unpickler(pickle._Unpickler):  # type: ignore[name-defined]
    """Makes nothing but the few classes that these files hold.

    Python's own, not the one in C, which takes memory for as many objects as a file announces.
    """

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, encoding="latin1")

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _CLASSES[f"{module}.{name}"]
        except KeyError:
            raise pickle.UnpicklingError(f"{shown(f'{module}.{name}')} is not unpickled") from None
