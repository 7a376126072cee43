"""What labels may be made of: columns (N, …) that latents and the graph give every node."""

from __future__ import annotations

import numpy as np

from lab.prior.chance import standardise
from lab.prior.structure import Structure
from lab.prior.topology import Topology

__all__ = ["draw_far_reaching", "draw_quantities"]


def draw_quantities(
    rng: np.random.Generator, structure: Structure, latents: np.ndarray
) -> np.ndarray:
    """Some of the quantities side by side, each standardised and of a random weight, (N, q).

    A few latents; their means one and two steps away, their sums over neighbours, the differences
    to neighbours; degrees, and those of neighbours; something far-reaching; the communities.
    """
    topology = structure.topology
    few = latents[:, : rng.integers(1, min(latents.shape[1], 6) + 1)]
    if rng.random() < 0.3:
        few = (few > 0.7 * rng.standard_normal()).astype(np.float32)
    degree = np.log1p(topology.degree)[:, None]
    once = topology.mean(few)
    candidates = [
        (0.7, (0.2, 1.5), lambda: few),
        (0.6, (0.3, 2.0), lambda: once),
        (0.3, (0.3, 1.5), lambda: topology.mean(once)),
        (0.3, (0.3, 1.5), lambda: topology.sum(few)),
        (0.3, (0.3, 1.5), lambda: few - once),
        (0.35, (0.5, 2.0), lambda: degree),
        (0.2, (0.5, 2.0), lambda: topology.mean(degree)),
        (0.2, (0.5, 2.0), lambda: draw_far_reaching(rng, structure)[:, None]),
        (float(structure.is_spoken), (0.0, 1.5), lambda: _communities(structure)),
    ]
    chosen = [
        rng.uniform(*weights) * standardise(quantity())
        for share, weights, quantity in candidates
        if rng.random() < share
    ]
    return np.concatenate(chosen or [standardise(once)], 1)


def draw_far_reaching(rng: np.random.Generator, structure: Structure) -> np.ndarray:
    """One number a node that hangs on much of the graph, (N,), standardised.

    The steps to the nearest of few nodes; the eccentricity; the number of walks of some length;
    noise after many means over neighbours; a coordinate.
    """
    topology = structure.topology
    kinds = ["distance", "distance", "eccentricity", "walks", "diffusion"]
    if structure.position is not None:
        kinds.append("place")
    kind = kinds[rng.integers(len(kinds))]
    if kind == "distance":
        seeds = rng.choice(structure.num_nodes, rng.integers(1, 4), replace=False)
        found = topology.steps(seeds)
    elif kind == "eccentricity":
        found = _eccentricity(rng, topology)
    elif kind == "walks":
        found = _log_walks(topology, int(rng.integers(2, 13)))
    elif kind == "diffusion":
        found = rng.standard_normal(structure.num_nodes)
        for _ in range(rng.integers(3, 25)):
            found = standardise(0.5 * found + 0.5 * topology.mean(found))
    else:
        found = structure.position[:, rng.integers(structure.position.shape[1])]
    return standardise(np.asarray(found, np.float64))


def _eccentricity(rng: np.random.Generator, topology: Topology) -> np.ndarray:
    """About the steps to the farthest node: to the farthest of six, each far from the last."""
    seed = int(rng.integers(topology.num_nodes))
    most = np.zeros(topology.num_nodes)
    for _ in range(6):
        steps = topology.steps(np.array([seed]))
        most = np.maximum(most, steps)
        seed = int(steps.argmax())
    return most


def _log_walks(topology: Topology, length: int) -> np.ndarray:
    """log (A + I)^length 1."""
    walks, size = np.ones(topology.num_nodes), 0.0
    for _ in range(length):
        walks = walks + topology.sum(walks)
        size += np.log(walks.max())
        walks = walks / walks.max()
    return np.log(walks + 1e-30) + size


def _communities(structure: Structure) -> np.ndarray:
    return np.eye(len(structure.class_of), dtype=np.float32)[structure.community]
