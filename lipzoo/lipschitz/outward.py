r"""Lengths and intervals, rounded outwards: tensors here stand for exact numbers.

What was computed in float64 is a number like any other. How far the quantity it is meant to be
may lie from it is kept beside it, and only that has to be rounded to the safe side: the difference
of two such numbers is right to one rounding, however much of them cancels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lipzoo.lipschitz.rounding import down, gamma, up

__all__ = [
    "LARGE",
    "SMALL",
    "apart",
    "around",
    "beyond",
    "less",
    "longest",
    "shortest",
    "widened",
]

#: Added to a length that is not zero: squares below the smallest normal number get lost.
SMALL = 1e-150
#: From this length on, squares and products may overflow: nothing is claimed.
LARGE = 1e150


def longest(x: Tensor, dim: int = -1) -> Tensor:
    """No less than the Euclidean lengths along ``dim``; zero where all is exactly zero."""
    size = up(torch.linalg.vector_norm(x, dim=dim), x.shape[dim] + 2) + SMALL
    return torch.where((x == 0).all(dim), torch.zeros_like(size), size)


def shortest(x: Tensor, dim: int = -1) -> Tensor:
    """No more than the Euclidean lengths along ``dim``, and never negative."""
    size = torch.linalg.vector_norm(x, dim=dim).clamp_max(LARGE)
    return less(down(size, x.shape[dim] + 2), torch.full_like(size, SMALL))


def beyond(reach: Tensor) -> Tensor:
    """Infinity where a length may be so large that squares and products overflow, else zero."""
    return torch.where(reach <= LARGE, 0.0, torch.inf).to(reach.dtype)


def less(a: Tensor, b: Tensor) -> Tensor:
    """No more than ``max(0, a - b)``."""
    return down((a - b).clamp_min(0))


def apart(a: Tensor, b: Tensor) -> Tensor:
    """No less than ``max(0, a - b)``, of numbers of any sign."""
    return up((a - b).clamp_min(0), 2)


def around(centre: Tensor, change: Tensor) -> tuple[Tensor, Tensor]:
    """An interval that holds ``centre - change`` to ``centre + change``."""
    infinity = torch.full((), torch.inf, dtype=centre.dtype)
    return (
        torch.nextafter(centre - change, -infinity),
        torch.nextafter(centre + change, infinity),
    )


def widened(low: Tensor, high: Tensor, ops: int) -> tuple[Tensor, Tensor]:
    """An interval of numbers that ``ops`` rounded products or quotients have moved."""
    share = 2 * gamma(ops + 2)
    return around(low, share * low.abs())[0], around(high, share * high.abs())[1]
