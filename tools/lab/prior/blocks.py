"""Degree-corrected stochastic block models, with any compatibility between communities."""

from __future__ import annotations

import numpy as np

__all__ = ["block_pairs"]


def block_pairs(rng: np.random.Generator, community: np.ndarray, degree: float) -> np.ndarray:
    r"""Edges (M, 2) between nodes of communities (N,).

    .. math::
        P(u, v) \propto \theta_u \theta_v \frac{T_{ab}}{m_b}, \qquad
        m_b = \sum_{v \in b} \theta_v, \qquad \sum_b T_{ab} = 1

    where a and b are the communities of u and v, :math:`\theta` is log-normal, and :math:`T` says
    where a community's edges lead. A node is drawn by its place in the running sum of
    :math:`\theta`, sorted by community.
    """
    _, community = np.unique(community, return_inverse=True)
    weight = np.exp(rng.choice([0, 0.3, 0.7, 1.0, 1.4]) * rng.standard_normal(len(community)))
    weight = np.minimum(weight, np.quantile(weight, 0.995))
    order = np.argsort(community, kind="stable")
    running = np.cumsum(weight[order])
    mass = np.bincount(community, weight)
    start = np.cumsum(mass) - mass

    leads_to = np.cumsum(_compatibility(rng, mass), 1)
    number = rng.poisson(len(community) * degree / 2)
    first = rng.choice(len(mass), number, p=mass / mass.sum())
    second = (rng.random((number, 1)) > leads_to[first]).sum(1)
    block = np.minimum(np.stack([first, second], 1), len(mass) - 1)
    place = np.searchsorted(running, start[block] + rng.random(block.shape) * mass[block])
    return order[np.minimum(place, len(order) - 1)]


def _compatibility(rng: np.random.Generator, mass: np.ndarray) -> np.ndarray:
    """T, (K, K): a share of the edges stays inside; the others follow a random affinity."""
    number = len(mass)
    if number == 1:
        return np.ones((1, 1))
    is_any = rng.random() < 0.6
    inside = np.full(number, rng.uniform(0.03, 0.97) if is_any else rng.uniform(0.6, 0.95))
    if rng.random() < 0.3:
        inside = np.clip(inside * number * rng.dirichlet(np.ones(number)), 0.02, 0.98)
    affinity = rng.random((number, number)) ** rng.choice([0.5, 1, 4, 12])
    affinity = (affinity + affinity.T + 1e-6) * mass
    np.fill_diagonal(affinity, 0)
    affinity *= ((1 - inside) / affinity.sum(1))[:, None]
    return affinity + np.diag(inside)
