"""The edges of a graph that somebody has beside X, or of nearest neighbours in X."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from lipzoo._edges import graph_kind, read_edges
from lipzoo._graph import is_graph, with_all_formats
from lipzoo.errors import ConfigError, DataError

__all__ = ["edges_of", "edges_to_new", "neighbour_edges"]


def edges_of(adjacency: Any, num_nodes: int) -> np.ndarray:
    """Sources and targets, int64 (2, E), of any graph with ``num_nodes`` nodes.

    Parameters
    ----------
    adjacency
        What `lipzoo._edges.read_edges` takes, a ``DGLGraph``, an ``edge_index`` that is an array or
        a list, or a dense matrix (N, N), whose nonzero entries ``[i, j]`` are edges ``i -> j``.
        Of 2 nodes an array (2, 2) may be either; it is refused where both can be and differ.

    Raises
    ------
    DataError
        If it is none of these, or has another number of nodes.
    """
    if is_graph(adjacency):
        if not adjacency.is_homogeneous:
            raise DataError("adjacency: the DGLGraph is heterogeneous; dgl.to_homogeneous joins it")
        return _checked(*with_all_formats(adjacency).edges(), adjacency.num_nodes(), num_nodes)
    graph = adjacency if graph_kind(adjacency) else _of_array(adjacency, num_nodes)
    try:
        edges = read_edges(graph)
        edges.count(num_nodes if edges.num_nodes is None else None)
    except DataError as fault:
        raise DataError(f"adjacency: {fault}{_advice(graph, num_nodes)}") from None
    return _checked(*edges, num_nodes)


def neighbour_edges(X: Any, n_neighbors: Any) -> np.ndarray:
    """Each row joined to its nearest others in both directions, (2, E).

    The graphs of `lipzoo.datasets.embedded` are made so too, of all distances at once, which break
    ties the same way on every machine; this takes any number of rows, and sparse ones.

    Raises
    ------
    ConfigError
        If ``n_neighbors`` does not lie in 1..N-1.
    """
    is_whole = isinstance(n_neighbors, (int, np.integer)) and not isinstance(n_neighbors, bool)
    if not is_whole or not 1 <= n_neighbors < X.shape[0]:
        raise ConfigError(
            f"n_neighbors is {n_neighbors!r}, it must lie in 1..{X.shape[0] - 1}, for there are "
            f"{X.shape[0]} nodes"
        )
    near = NearestNeighbors(n_neighbors=n_neighbors).fit(X).kneighbors_graph()
    both = near.maximum(near.T).tocoo()
    return np.stack([both.row, both.col]).astype(np.int64)


def edges_to_new(X: Any, new: Any, n_neighbors: int) -> np.ndarray:
    """From its nearest rows of ``X`` to each row of ``new``, whose numbers follow those of X."""
    near = NearestNeighbors(n_neighbors=n_neighbors).fit(X).kneighbors(new, return_distance=False)
    targets = X.shape[0] + np.arange(len(near)).repeat(n_neighbors)
    return np.stack([near.ravel(), targets]).astype(np.int64)


def _of_array(adjacency: Any, num_nodes: int) -> Any:
    try:
        array = np.asarray(adjacency)
    except ValueError:  # rows of different lengths
        array = np.empty(0, object)
    if array.dtype.kind not in "biuf" or array.ndim != 2:
        raise DataError(
            "adjacency: expected a SciPy sparse matrix, an edge_index (2, E), a networkx graph, a "
            f"DGLGraph, a PyG Data or an array (N, N), got {type(adjacency).__name__}"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DataError("adjacency: holds NaN or infinity; write 0 where there is no edge")
    if array.shape == (num_nodes, num_nodes) and (num_nodes != 2 or _is_matrix(array)):
        return sp.coo_array(array)
    whole = array.dtype.kind in "iu" or not array.size
    return torch.from_numpy(array.astype(np.int64 if whole else np.float64))


def _is_matrix(array: np.ndarray) -> bool:
    """Whether an array (2, 2) beside two nodes is their adjacency matrix, and no edge_index."""
    if array.dtype.kind in "bf" or (array > 1).any() or (array < 0).any():
        return True  # an edge_index holds the numbers 0 and 1
    as_matrix = sorted(zip(*(ends.tolist() for ends in np.nonzero(array))))
    if as_matrix != sorted(zip(*array.tolist())):
        raise DataError(
            "adjacency: an array (2, 2) of 0 and 1 beside 2 nodes may be an adjacency matrix or an "
            "edge_index, and their edges differ; pass scipy.sparse.coo_array(adjacency), or "
            "torch.tensor(edge_index)"
        )
    return True


def _checked(src: Tensor, dst: Tensor, found: int | None, num_nodes: int) -> np.ndarray:
    if found not in (None, num_nodes):
        raise DataError(
            f"adjacency: has {found} nodes, and X {num_nodes} rows; give both the same nodes in "
            "the same order"
        )
    return torch.stack([src, dst]).cpu().numpy().astype(np.int64)


def _advice(graph: Any, num_nodes: int) -> str:
    """GridSearchCV and the like take rows of whatever has as many as X."""
    shape = getattr(graph, "shape", ())
    if len(shape) == 2 and shape[0] == num_nodes < shape[1]:
        return "; where rows were taken to cross-validate, take cross_val_score_nodes instead"
    return ""
