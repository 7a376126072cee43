"""Random graphs that know of no classes. Each function gives edges (M, 2), to be tidied."""

from __future__ import annotations

import numpy as np

from lab.prior.chance import log_uniform
from lab.prior.topology import Topology

__all__ = ["attachment_pairs", "heavy_tailed_pairs", "tree_pairs", "uniform_pairs"]


def uniform_pairs(rng: np.random.Generator, num_nodes: int, degree: float) -> np.ndarray:
    """Erdős–Rényi: any two nodes."""
    return rng.integers(0, num_nodes, (rng.poisson(num_nodes * degree / 2), 2))


def attachment_pairs(rng: np.random.Generator, num_nodes: int, degree: float) -> np.ndarray:
    """Preferential attachment: a new node's m edges lead to ends of earlier edges.

    Edge i has its new end at place 2i + 1 of a list and its old end at 2i, which points at an
    earlier place of the list; pointers are followed for all at once.
    """
    each = max(1, round(degree / 2))
    new = np.repeat(np.arange(1, num_nodes), each)
    pointer = np.arange(2 * len(new))
    old_ends = (rng.random(len(new)) * 2 * each * (new - 1)).astype(int)
    pointer[::2][new > 1] = old_ends[new > 1]
    while (pointer != pointer[pointer]).any():
        pointer = pointer[pointer]
    ends = np.zeros(2 * len(new), int)  # the first node, to which all edges of the second lead
    ends[1::2] = new
    return ends[pointer].reshape(-1, 2)


def tree_pairs(rng: np.random.Generator, num_nodes: int) -> np.ndarray:
    """A tree: the parent of node v is ⌊v u^a⌋, u uniform; a path for small a, bushy near 1."""
    child = np.arange(1, num_nodes)
    parent = (child * rng.random(num_nodes - 1) ** log_uniform(rng, 0.01, 2.0)).astype(int)
    return np.stack([child, np.minimum(parent, child - 1)], 1)


def heavy_tailed_pairs(rng: np.random.Generator, num_nodes: int, degree: float) -> np.ndarray:
    """Chung–Lu of log-normal weights, and in half of the graphs friends of friends meet."""
    weight = np.exp(rng.uniform(0.5, 1.6) * rng.standard_normal(num_nodes))
    closed_share = rng.uniform(0.1, 0.6) if rng.random() < 0.5 else 0.0
    number = max(1, rng.poisson((1 - closed_share) * num_nodes * degree / 2))
    limits = np.cumsum(weight)
    drawn = np.searchsorted(limits, rng.random((number, 2)) * limits[-1], side="right")
    pairs = np.minimum(drawn, num_nodes - 1)
    if not closed_share:
        return pairs
    return np.concatenate([pairs, _closing(rng, Topology.of(pairs, num_nodes), closed_share)])


def _closing(rng: np.random.Generator, topology: Topology, closed_share: float) -> np.ndarray:
    """Edges between the ends of random paths of two steps."""
    paths = len(topology.pairs) / 2 * closed_share / (1 - closed_share)
    if not paths:
        return np.zeros((0, 2), int)
    start, middle = topology.pairs[rng.integers(0, len(topology.pairs), int(paths))].T
    indptr, indices = topology.adjacency.indptr, topology.adjacency.indices
    chosen = (rng.random(len(middle)) * topology.degree[middle]).astype(int)
    return np.stack([start, indices[indptr[middle] + chosen]], 1)
