"""Node features: latent vectors that may know of communities, seen through random functions."""

from __future__ import annotations

import numpy as np

from lab.prior.chance import log_uniform, random_network, standardise
from lab.prior.structure import Structure
from lab.prior.topology import Topology

__all__ = ["draw_features", "draw_latents"]


def draw_latents(rng: np.random.Generator, structure: Structure) -> np.ndarray:
    r"""Latent vectors (N, k).

    .. math:: u_v = \epsilon_v + s \sqrt{3 / k}\, c_{k(v)}, \qquad u \leftarrow u + a D^{-1} A u

    where :math:`c` are the random centres of communities, near those of their classes in half of
    the draws, s is 0 to strong, and a, in some, positive (smoothed) or negative (sharpened). Places
    are among the columns of some.
    """
    width = int(rng.integers(2, 24))
    strength = rng.choice([0, 0.3, 0.7, 1.0, 1.5, 2.5]) * rng.uniform(0.5, 1.3)
    centres = rng.standard_normal((len(structure.class_of), width))
    if rng.random() < 0.5:
        of_classes = rng.standard_normal((structure.class_of.max() + 1, width))
        centres = of_classes[structure.class_of] + 0.4 * centres
    latents = rng.standard_normal((structure.num_nodes, width))
    latents += strength * np.sqrt(3 / width) * centres[structure.community]
    if rng.random() < 0.35:
        amount = rng.uniform(0.3, 2.0) * rng.choice([1, 1, -1])
        latents += amount * structure.topology.mean(latents)
    if structure.position is not None and rng.random() < 0.3:
        latents = np.concatenate([latents, 1.5 * standardise(structure.position)], 1)
    return latents.astype(np.float32)


def draw_features(
    rng: np.random.Generator, latents: np.ndarray, topology: Topology, constant_share: float
) -> np.ndarray:
    """Float32 (N, F): a constant, or categories, words or real numbers made of latents (N, k)."""
    if rng.random() < constant_share:
        return np.ones((len(latents), 1), np.float32)
    kinds = (_categories, _words, _real_numbers)
    features = kinds[rng.choice(3, p=[0.14, 0.42, 0.44])](rng, latents)
    if rng.random() < 0.08:
        features = np.concatenate([features, np.log1p(topology.degree)[:, None]], 1)
    return features.astype(np.float32)


def _categories(rng: np.random.Generator, latents: np.ndarray) -> np.ndarray:
    """One to four one-hot fields of 2 to 7 values; in half of the draws values are missing.

    A flag, in some of these, says of which nodes.
    """
    n = len(latents)
    fields = []
    for _ in range(rng.integers(1, 5)):
        values = int(rng.integers(2, 8))
        chosen = random_network(rng, latents, values).argmax(1)
        fields.append(np.eye(values)[chosen])
    columns = np.concatenate(fields, 1)
    if rng.random() < 0.5:
        is_missing = rng.random((n, 1)) < rng.uniform(0.05, 0.6)
        columns = columns * ~is_missing
        if rng.random() < 0.5:
            columns = np.concatenate([columns, is_missing], 1)
    return columns


def _words(rng: np.random.Generator, latents: np.ndarray) -> np.ndarray:
    """Bags of words: Poisson counts at rates that are a softmax, times lengths of documents.

    As they are, or whether a word occurs, or divided by their sum.
    """
    columns = int(log_uniform(rng, 30, 400))
    preference = random_network(rng, latents, columns, max_depth=1) * rng.uniform(0.3, 1.6)
    preference += 1.2 * rng.standard_normal(columns, np.float32)
    rate = np.exp(np.clip(preference, -8, 8))
    length = log_uniform(rng, 4, 80) * np.exp(0.3 * rng.standard_normal((len(rate), 1)))
    rate *= length / rate.sum(1, keepdims=True)
    if rng.random() < 0.6:
        counts = (rng.random(rate.shape, np.float32) < -np.expm1(-rate)).astype(np.float32)
    else:
        counts = rng.poisson(rate)
    if rng.random() < 0.25:
        counts = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    return counts


def _real_numbers(rng: np.random.Generator, latents: np.ndarray) -> np.ndarray:
    """Noisy real columns; in some draws some are mere noise, or log-normal, or of any scale."""
    columns = int(log_uniform(rng, 4, 160))
    values = random_network(rng, latents, columns)
    values = values / (values.std() + 1e-6)
    noise = rng.standard_normal(values.shape, np.float32)
    if rng.random() < 0.3:
        values = values * (rng.random(columns) < rng.uniform(0.1, 0.9))
    values = values + rng.choice([0.1, 0.5, 1.0, 2.0]) * noise
    if rng.random() < 0.15:
        is_skewed = rng.random(columns) < rng.uniform(0, 1)
        values = np.where(is_skewed, np.exp(np.clip(values, -6, 6)), values)
    if rng.random() < 0.2:
        values = values * np.exp(2 * rng.standard_normal(columns))
    return values
