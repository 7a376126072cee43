"""An undirected graph as a sparse matrix, and what is computed of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import dijkstra

__all__ = ["Topology"]


@dataclass(frozen=True)
class Topology:
    """N nodes; ``adjacency`` is symmetric, (N, N), of ones, with nothing on the diagonal."""

    adjacency: sp.csr_matrix

    @classmethod
    def of(cls, pairs: np.ndarray, num_nodes: int) -> Topology:
        """From edges (M, 2) in any order: loops are left out, repeated ones are one."""
        first, second = pairs[pairs[:, 0] != pairs[:, 1]].T
        ends = np.concatenate([first, second]), np.concatenate([second, first])
        ones = np.ones(len(ends[0]), np.float32)
        adjacency = sp.csr_matrix((ones, ends), shape=(num_nodes, num_nodes))
        adjacency.data[:] = 1
        return cls(adjacency)

    @property
    def num_nodes(self) -> int:
        return self.adjacency.shape[0]

    @cached_property
    def degree(self) -> np.ndarray:
        """(N,)."""
        return np.diff(self.adjacency.indptr).astype(np.float32)

    @cached_property
    def pairs(self) -> np.ndarray:
        """Every edge in both directions, (E, 2), sorted."""
        first = np.repeat(np.arange(self.num_nodes), np.diff(self.adjacency.indptr))
        return np.stack([first, self.adjacency.indices.astype(np.int64)], 1)

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Of (N, …) the sums over the neighbours."""
        return self.adjacency @ values

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Of (N, …) the means over the neighbours; 0 where there is none."""
        number = np.maximum(self.degree, 1)
        return self.sum(values) / number.reshape(-1, *[1] * (values.ndim - 1))

    def nearest(self, seeds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Steps to the nearest seed, and which of the ``seeds`` that is; both (N,).

        Where none is reached: infinite, and -1.
        """
        steps, _, found = dijkstra(
            self.adjacency, indices=seeds, unweighted=True, min_only=True, return_predecessors=True
        )
        number = np.full(self.num_nodes, -1)
        number[seeds] = np.arange(len(seeds))
        return steps, np.where(found >= 0, number[np.maximum(found, 0)], -1)

    def steps(self, seeds: np.ndarray) -> np.ndarray:
        """Steps to the nearest seed, (N,); where none is reached, one more than the most."""
        steps = dijkstra(self.adjacency, indices=seeds, unweighted=True, min_only=True)
        is_reached = np.isfinite(steps)
        return np.where(is_reached, steps, steps[is_reached].max() + 1)

    def copied(self, source: np.ndarray) -> Topology:
        """Node v gets the neighbours of ``source[v]``, and their copies."""
        adjacency = self.adjacency[source][:, source].tocsr()
        adjacency.sort_indices()
        return Topology(adjacency)

    def without_edges_at(self, is_isolated: np.ndarray) -> Topology:
        """Nodes (N,) bool lose all their edges."""
        return Topology.of(self.pairs[~is_isolated[self.pairs].any(1)], self.num_nodes)
