"""Which nodes' labels are given."""

from __future__ import annotations

import numpy as np

from lab.prior.chance import whole_log_uniform
from lab.prior.settings import Prior
from lab.prior.topology import Topology

__all__ = ["draw_context"]

#: Of a class at most this share is given, where a number a class is.
_MOST = 0.6
_MIN_CONTEXT = 6


def draw_context(
    rng: np.random.Generator, topology: Topology, labels: np.ndarray, prior: Prior
) -> np.ndarray:
    """Bool (N,): some nodes a class, or a share of all; at least one a class, and six in all."""
    if rng.random() < prior.per_class_share:
        is_given = _of_each_class(rng, labels, whole_log_uniform(rng, *prior.shots))
    else:
        share = rng.uniform(*prior.context_share)
        if rng.random() < prior.clump_share:
            is_given = _in_clumps(rng, topology, max(1, round(share * len(labels))))
        else:
            is_given = rng.random(len(labels)) < share
    missing = np.setdiff1d(labels, labels[is_given])
    is_given |= _of_each_class(rng, np.where(np.isin(labels, missing), labels, -1), 1)
    more = max(0, _MIN_CONTEXT - is_given.sum())
    is_given[rng.permutation(np.flatnonzero(~is_given))[:more]] = True
    return is_given


def _of_each_class(rng: np.random.Generator, labels: np.ndarray, number: int) -> np.ndarray:
    """So many random nodes of each class, but not nearly all of it; -1 is no class."""
    is_given = np.zeros(len(labels), bool)
    for label in np.unique(labels[labels >= 0]):
        members = rng.permutation(np.flatnonzero(labels == label))
        is_given[members[: max(1, min(number, int(_MOST * len(members))))]] = True
    return is_given


def _in_clumps(rng: np.random.Generator, topology: Topology, number: int) -> np.ndarray:
    """The nodes nearest to a few random ones."""
    seeds = rng.choice(topology.num_nodes, rng.integers(2, 9), replace=False)
    steps = topology.steps(seeds)
    is_given = np.zeros(topology.num_nodes, bool)
    is_given[np.lexsort((rng.random(len(steps)), steps))[:number]] = True
    return is_given
