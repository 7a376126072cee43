"""Data sets that ship inside scikit-learn, as graphs of nearest neighbours: no network needed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.spatial.distance import cdist
from sklearn import datasets as sklearn_datasets
from sklearn.preprocessing import StandardScaler

from lipzoo._graph import AnyGraph, make_graph
from lipzoo.datasets.catalogue import register_dataset
from lipzoo.datasets.task import GraphTask
from lipzoo.errors import ConfigError

__all__ = ["breast_cancer", "digits", "iris", "neighbour_graph", "wine"]


@register_dataset("digits", num_val=500)
def digits(*, k: int = 8) -> GraphTask:
    """1,797 handwritten digits of 8 x 8 pixels, F = 64, C = 10 (UCI; `load_digits`)."""
    # Pixels are 0..16 and share one scale: dividing keeps the empty border at zero.
    return _load("digits", sklearn_datasets.load_digits, lambda pixels: pixels / 16, k)


@register_dataset("breast_cancer")
def breast_cancer(*, k: int = 8) -> GraphTask:
    """569 tumours, F = 30 measurements, C = 2 (UCI Wisconsin; `load_breast_cancer`)."""
    return _load("breast_cancer", sklearn_datasets.load_breast_cancer, _standardise, k)


@register_dataset("wine")
def wine(*, k: int = 8) -> GraphTask:
    """178 wines, F = 13 measurements, C = 3 cultivars (UCI; `load_wine`)."""
    return _load("wine", sklearn_datasets.load_wine, _standardise, k)


@register_dataset("iris")
def iris(*, k: int = 8) -> GraphTask:
    """150 flowers, F = 4 lengths, C = 3 species (Fisher 1936; `load_iris`)."""
    return _load("iris", sklearn_datasets.load_iris, _standardise, k)


def _standardise(features: np.ndarray) -> np.ndarray:
    return StandardScaler().fit_transform(features)


def _load(
    name: str, load: Callable[..., tuple], scale: Callable[[np.ndarray], np.ndarray], k: int
) -> GraphTask:
    features, labels = load(return_X_y=True)
    features = scale(features)
    if not 1 <= k < len(features):
        raise ConfigError(f"{name}: k is {k}, it must lie in 1..{len(features) - 1}")
    graph = neighbour_graph(features, k)
    graph.ndata["feat"] = torch.from_numpy(features).float()
    graph.ndata["label"] = torch.from_numpy(labels).long()
    return GraphTask.from_graph(graph, name)


def neighbour_graph(features: np.ndarray, k: int) -> AnyGraph:
    """Join every row to its ``k`` nearest others (Euclidean), in both directions.

    Equal distances go to the lower node number. scikit-learn's `kneighbors_graph` leaves ties to
    its search tree and to rounding, so that a graph, and its fingerprint on a card, could differ
    between machines; these data sets have many ties.

    Parameters
    ----------
    features : numpy.ndarray
        (N, F); an (N, N) array of distances is made, which is meant for small N.
    k : int
        Neighbours of a node, below N; where i picks j but not the reverse, both get the edge.

    Returns
    -------
    graph
        N nodes, between N*k and 2*N*k edges, no self-loops.
    """
    distance = cdist(features, features).round(9)
    np.fill_diagonal(distance, np.inf)
    nearest = np.argsort(distance, axis=1, kind="stable")[:, :k]
    joined = np.zeros(distance.shape, dtype=bool)
    np.put_along_axis(joined, nearest, True, axis=1)
    src, dst = np.nonzero(joined | joined.T)
    return make_graph(torch.from_numpy(src), torch.from_numpy(dst), len(features))
