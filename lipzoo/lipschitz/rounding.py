r"""Floating point to the safe side: what a proof computes is rounded away from what it claims.

A float64 operation on nonnegative numbers is off by at most ``u = 2**-53`` of its result, or by
half the smallest subnormal where that underflows. So ``n`` of them in a row, none a subtraction,
are off by at most :math:`\gamma_n = n u / (1 - n u)` (Higham, "Accuracy and Stability of Numerical
Algorithms", section 3.1), which :func:`up` adds and :func:`down` takes away. Subtractions of
rounded numbers are rewritten or bounded where they stand.
"""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import Tensor

__all__ = [
    "LARGE",
    "SMALL",
    "UNIT",
    "apart",
    "around",
    "beyond",
    "down",
    "gamma",
    "less",
    "longest",
    "shortest",
    "up",
    "widened",
]

#: Largest relative error of one rounded operation.
UNIT = 2.0**-53
#: Smallest positive number: what an operation that underflows is off by, at most.
_LEAST = 5e-324

Number = TypeVar("Number", float, Tensor)


def gamma(ops: int) -> float:
    """Relative error of ``ops`` rounded operations in a row, itself rounded up."""
    return ops * UNIT * (1 + 2 * ops * UNIT) + UNIT**2


def up(value: Number, ops: int = 1) -> Number:
    """No less than the exact result of ``ops`` operations on nonnegative numbers that gave
    ``value``; an exact zero stays one."""
    if isinstance(value, Tensor):
        wider = value * (1 + 2 * gamma(ops + 1)) + ops * _LEAST
        return torch.where(value == 0, value, wider)
    if value == 0:
        return value
    return math.nextafter(value * (1 + 2 * gamma(ops + 1)), math.inf) + ops * _LEAST


def down(value: Number, ops: int = 1) -> Number:
    """No more than the exact result of ``ops`` operations on nonnegative numbers that gave
    ``value``, and never negative."""
    if isinstance(value, Tensor):
        return (value * (1 - 2 * gamma(ops + 1)) - ops * _LEAST).clamp_min(0)
    return max(0.0, math.nextafter(value * (1 - 2 * gamma(ops + 1)), 0.0) - ops * _LEAST)


# ------------------------------------------------------ of tensors that stand for exact numbers

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
