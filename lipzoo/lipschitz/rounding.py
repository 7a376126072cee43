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

__all__ = ["UNIT", "down", "gamma", "up"]

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
