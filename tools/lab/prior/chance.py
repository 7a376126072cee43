"""Random numbers and random functions that the parts of a task have in common."""

from __future__ import annotations

import numpy as np

__all__ = ["log_uniform", "random_network", "standardise", "whole_log_uniform"]

_ACTIVATIONS = (np.tanh, lambda x: np.maximum(x, 0), np.sin, np.abs)


def log_uniform(rng: np.random.Generator, least: float, most: float) -> float:
    """A number whose logarithm is uniform."""
    return float(np.exp(rng.uniform(np.log(least), np.log(most))))


def whole_log_uniform(rng: np.random.Generator, least: int, most: int) -> int:
    """A whole number from ``least`` to ``most``, both included, about log-uniform."""
    return min(int(log_uniform(rng, least, most + 1)), most)


def standardise(columns: np.ndarray) -> np.ndarray:
    """Columns (N, …) of mean 0 and standard deviation 1; constant ones become 0."""
    return (columns - columns.mean(0)) / (columns.std(0) + 1e-6)


def random_network(
    rng: np.random.Generator, inputs: np.ndarray, columns: int, max_depth: int = 3
) -> np.ndarray:
    """A random perceptron of 0 to ``max_depth`` hidden layers: (N, k) to (N, columns).

    Each layer is :math:`a(g x W + b)`, standardised, with :math:`a` one of tanh, relu, sin, abs.
    """
    state = inputs.astype(np.float32)
    for _ in range(rng.integers(0, max_depth + 1)):
        width = int(rng.integers(8, 49))
        gain = np.float32(rng.uniform(0.7, 2.0))
        shift = np.float32(0.5) * rng.standard_normal(width, np.float32)
        activation = _ACTIVATIONS[rng.integers(len(_ACTIVATIONS))]
        state = standardise(activation(gain * _mixed(rng, state, width) + shift))
    return _mixed(rng, state, columns)


def _mixed(rng: np.random.Generator, state: np.ndarray, columns: int) -> np.ndarray:
    weight = rng.standard_normal((state.shape[1], columns), np.float32)
    return state @ (weight / np.float32(np.sqrt(state.shape[1])))
