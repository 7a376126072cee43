"""Graphs whose nodes have a place: neighbours in space, boards, streets.

Each function gives edges (M, 2) and positions (N, 2 or 3).
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial import Delaunay, cKDTree

__all__ = ["grid_places", "near_places", "street_places"]

Places = tuple[np.ndarray, np.ndarray]


def near_places(rng: np.random.Generator, num_nodes: int, degree: float) -> Places:
    """Random points in 2 or 3 dimensions, in clouds or not, each with its nearest others."""
    position = rng.random((num_nodes, 2 if rng.random() < 0.7 else 3))
    if rng.random() < 0.4:
        clouds = rng.random((rng.integers(2, 12), position.shape[1]))
        spread = rng.uniform(0.03, 0.2) * rng.standard_normal(position.shape)
        position = clouds[rng.integers(0, len(clouds), num_nodes)] + spread
    number = int(np.clip(round(0.75 * degree), 1, num_nodes - 1))
    _, near = cKDTree(position).query(position, number + 1)
    own = np.repeat(np.arange(num_nodes), number + 1)
    return np.stack([own, near.ravel()], 1), position


def grid_places(rng: np.random.Generator, num_nodes: int, diagonal_share: float = 0.6) -> Places:
    """A rectangular board, row by row, with diagonals in ``diagonal_share`` of the draws."""
    columns = int(np.clip(np.sqrt(num_nodes * rng.uniform(0.6, 1.7)), 2, num_nodes))
    steps = [(0, 1), (1, 0)]
    if rng.random() < diagonal_share:
        steps += [(1, 1), (1, -1)]
    node = np.arange(num_nodes)
    row, column = np.divmod(node, columns)
    pairs = []
    for down, right in steps:
        other = node + down * columns + right
        is_there = (other < num_nodes) & (column + right >= 0) & (column + right < columns)
        pairs.append(np.stack([node, other], 1)[is_there])
    return np.concatenate(pairs), np.stack([row, column], 1).astype(float)


def street_places(rng: np.random.Generator, num_nodes: int) -> Places:
    """Streets: a random spanning tree of a grid or a triangulation, and some more of its edges.

    Connected and planar, of mean degree 2 to 3, with long ways.
    """
    if rng.random() < 0.5:
        pairs, position = grid_places(rng, num_nodes, diagonal_share=0.0)
    else:
        position = rng.random((num_nodes, 2))
        corners = Delaunay(position).simplices
        pairs = np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [0, 2]]])
        pairs = np.unique(np.sort(pairs, 1), axis=0)
    length = rng.uniform(0.5, 1.5, len(pairs))
    weighted = sp.csr_matrix((length, tuple(pairs.T)), shape=(num_nodes, num_nodes))
    tree = np.stack(minimum_spanning_tree(weighted).nonzero(), 1)
    more = rng.integers(0, len(pairs), int(rng.uniform(0.0, 0.5) * num_nodes))
    return np.concatenate([tree, pairs[more]]), position
