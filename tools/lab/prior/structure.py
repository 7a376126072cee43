"""The graph of a task, and the communities and places of its nodes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lab.prior.blocks import block_pairs
from lab.prior.edges import attachment_pairs, heavy_tailed_pairs, tree_pairs, uniform_pairs
from lab.prior.places import grid_places, near_places, street_places
from lab.prior.topology import Topology

__all__ = ["Structure", "draw_board", "draw_structure"]

#: Graphs without blocks, and how often each is drawn.
_KINDS = ("uniform", "attachment", "near", "grid", "street", "heavy tailed", "tree")
_FREQUENCIES = (0.1, 0.12, 0.2, 0.14, 0.18, 0.18, 0.08)


@dataclass(frozen=True)
class Structure:
    """A graph of N nodes in K communities, of which several may belong to one class.

    ``community`` (N,); ``class_of`` (K,), the class of each community; ``position`` (N, 2 or 3),
    of some graphs; ``is_spoken`` says whether the graph follows the communities.
    """

    topology: Topology
    community: np.ndarray
    class_of: np.ndarray
    position: np.ndarray | None = None
    is_spoken: bool = False

    @property
    def num_nodes(self) -> int:
        return len(self.community)

    @property
    def classes(self) -> np.ndarray:
        """The class of every node's community, (N,)."""
        return self.class_of[self.community]


def draw_structure(
    rng: np.random.Generator, num_nodes: int, shares: np.ndarray, degree: float, block_share: float
) -> Structure:
    """A graph of about the mean degree, with communities of classes with these shares (C,)."""
    community, class_of = _draw_communities(rng, num_nodes, shares)
    if rng.random() < block_share:
        pairs = block_pairs(rng, _blurred(rng, community, len(class_of)), degree)
        structure = Structure(Topology.of(pairs, num_nodes), community, class_of, is_spoken=True)
    else:
        pairs, position = _draw_pairs(rng, num_nodes, degree)
        structure = Structure(Topology.of(pairs, num_nodes), community, class_of, position)
        if rng.random() < 0.4:
            structure = _with_territories(rng, structure)
    if rng.random() < 0.08:
        structure = _with_duplicates(rng, structure)
    if rng.random() < 0.12:
        structure = _with_isolated(rng, structure)
    return structure


def draw_board(rng: np.random.Generator, num_nodes: int, degree: float) -> Structure:
    """Mostly a grid, with diagonals; all nodes in one community."""
    if rng.random() < 0.8:
        pairs, position = grid_places(rng, num_nodes, diagonal_share=0.8)
    else:
        pairs, position = _draw_pairs(rng, num_nodes, min(degree, 10.0))
    nobody = np.zeros(num_nodes, int)
    return Structure(Topology.of(pairs, num_nodes), nobody, np.zeros(1, int), position)


def _draw_communities(
    rng: np.random.Generator, num_nodes: int, shares: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    number = len(shares)
    if rng.random() < 0.8:
        number *= int(rng.choice([1, 1, 2, 3]))
    else:
        number += int(rng.integers(0, 4))
    class_of = np.arange(number) % len(shares)
    sizes = shares[class_of] * rng.dirichlet(np.full(number, 5.0))
    return rng.choice(number, num_nodes, p=sizes / sizes.sum()), class_of


def _blurred(rng: np.random.Generator, community: np.ndarray, number: int) -> np.ndarray:
    """What the edges follow: the communities, or now and then hardly these or not at all."""
    if rng.random() > 0.15:
        return community
    is_kept = rng.random(len(community)) < rng.choice([0.0, rng.uniform(0, 0.7)])
    return np.where(is_kept, community, rng.integers(0, number, len(community)))


def _draw_pairs(
    rng: np.random.Generator, num_nodes: int, degree: float
) -> tuple[np.ndarray, np.ndarray | None]:
    kind = _KINDS[rng.choice(len(_KINDS), p=_FREQUENCIES)]
    if kind == "near":
        return near_places(rng, num_nodes, degree)
    if kind == "grid":
        return grid_places(rng, num_nodes)
    if kind == "street":
        return street_places(rng, num_nodes)
    if kind == "tree":
        return tree_pairs(rng, num_nodes), None
    models = {
        "uniform": uniform_pairs,
        "attachment": attachment_pairs,
        "heavy tailed": heavy_tailed_pairs,
    }
    return models[kind](rng, num_nodes, degree), None


def _with_territories(rng: np.random.Generator, structure: Structure) -> Structure:
    """Communities that the graph makes: everything nearest to one of some random nodes."""
    number = len(structure.class_of)
    seeds = rng.choice(structure.num_nodes, min(3 * number, structure.num_nodes // 5), False)
    _, nearest = structure.topology.nearest(seeds)
    owner = rng.permutation(np.arange(len(seeds)) % number)
    community = np.where(nearest >= 0, owner[nearest], structure.community)
    return replace(structure, community=community, is_spoken=True)


def _with_duplicates(rng: np.random.Generator, structure: Structure) -> Structure:
    """Some nodes become copies of others: the same neighbours, community and place."""
    source = np.arange(structure.num_nodes)
    copies = rng.choice(structure.num_nodes, int(rng.uniform(0.1, 0.5) * len(source)), False)
    originals = np.setdiff1d(source, copies)
    few = rng.choice(originals, max(1, int(rng.uniform(0.2, 1.0) * len(originals))), False)
    source[copies] = rng.choice(few, len(copies))
    position = None if structure.position is None else structure.position[source]
    return replace(
        structure,
        topology=structure.topology.copied(source),
        community=structure.community[source],
        position=position,
    )


def _with_isolated(rng: np.random.Generator, structure: Structure) -> Structure:
    is_isolated = rng.random(structure.num_nodes) < rng.uniform(0.02, 0.3)
    return replace(structure, topology=structure.topology.without_edges_at(is_isolated))
