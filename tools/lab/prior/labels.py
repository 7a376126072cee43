"""The classes of the nodes: those of their communities, or a function of graph and latents."""

from __future__ import annotations

import numpy as np

from lab.prior.chance import random_network, standardise
from lab.prior.quantities import draw_far_reaching, draw_quantities
from lab.prior.structure import Structure
from lab.prior.topology import Topology

__all__ = ["draw_labels", "draw_mines", "draw_shares", "renumbered", "with_noise"]


def draw_shares(rng: np.random.Generator, num_classes: int) -> np.ndarray:
    """How frequent the classes are to be, (C,): from even to one that is nearly all."""
    if num_classes == 2 and rng.random() < 0.3:
        frequent = rng.choice([0.5, 0.8, 0.95])
        return np.array([frequent, 1 - frequent])
    evenness = rng.choice([0.7, 2.0, 10.0, 100.0])
    return 0.95 * rng.dirichlet(np.full(num_classes, evenness)) + 0.05 / num_classes


def draw_labels(
    rng: np.random.Generator,
    structure: Structure,
    latents: np.ndarray,
    shares: np.ndarray,
    class_share: float,
) -> np.ndarray:
    """The class of every node, (N,), with about these shares (C,)."""
    if structure.is_spoken and rng.random() < class_share:
        return structure.classes
    noise = rng.choice([0, 0.1, 0.3])
    if not structure.is_spoken and rng.random() < 0.35:
        score = draw_far_reaching(rng, structure)
        return _bands(rng, score + 0.3 * noise * rng.standard_normal(len(score)), shares)
    quantities = draw_quantities(rng, structure, latents)
    if rng.random() < 0.35:
        score = standardise(random_network(rng, quantities, 1, max_depth=2)[:, 0])
        return _bands(rng, score + noise * rng.standard_normal(len(score)), shares)
    scores = standardise(random_network(rng, quantities, len(shares), max_depth=2))
    scores = scores + noise * rng.gumbel(size=scores.shape)
    if rng.random() < 0.3:
        scores += rng.uniform(0.5, 2) * standardise(structure.topology.mean(scores))
    return _largest(scores, shares)


def draw_mines(rng: np.random.Generator, topology: Topology) -> tuple[np.ndarray, np.ndarray]:
    """Minesweeper: which nodes hold a mine, (N,), and what is seen of the graph, (N, 10).

    One-hot: the number of neighbours with a mine, 8 for more; 0 where a flag says it is hidden.
    """
    n = topology.num_nodes
    is_mine = rng.random(n) < rng.uniform(0.1, 0.35)
    near = np.minimum(topology.sum(is_mine.astype(np.float32)), 8).astype(int)
    seen = np.eye(9, dtype=np.float32)[near]
    is_hidden = rng.random((n, 1)) < rng.uniform(0.2, 0.7)
    return is_mine.astype(int), np.concatenate([seen * ~is_hidden, is_hidden], 1).astype(np.float32)


def with_noise(rng: np.random.Generator, labels: np.ndarray) -> np.ndarray:
    """Some labels become any of the classes."""
    is_wrong = rng.random(len(labels)) < rng.choice([0.05, 0.15]) * rng.random()
    return np.where(is_wrong, rng.integers(0, labels.max() + 1, len(labels)), labels)


def renumbered(rng: np.random.Generator, labels: np.ndarray) -> np.ndarray:
    """The classes that occur are 0..C-1, in random order."""
    present, labels = np.unique(labels, return_inverse=True)
    return rng.permutation(len(present))[labels]


def _bands(rng: np.random.Generator, score: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Classes by quantiles of a score (N,); values that are the same are parted at random."""
    rank = np.lexsort((rng.random(len(score)), score)).argsort()
    return np.searchsorted(np.cumsum(shares)[:-1], rank / len(score), side="right")


def _largest(scores: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """The class of the largest score (N, C), shifted until the classes have about their shares."""
    offset = np.zeros(len(shares))
    for step in (1.0, 0.7, 0.5, 0.3, 0.2):
        found = np.bincount((scores + offset).argmax(1), minlength=len(shares)) + 1
        offset += 0.7 * step * np.log(shares * found.sum() / found)
    return (scores + offset).argmax(1)
