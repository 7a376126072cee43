r"""Floating point to the safe side: what a proof computes is rounded away from what it claims.

A float64 operation on nonnegative numbers is off by at most ``u = 2**-53`` of its result, or by
half the smallest subnormal where that underflows. So ``n`` of them in a row, none a subtraction,
are off by at most :math:`\gamma_n = n u / (1 - n u)` (Higham, "Accuracy and Stability of Numerical
Algorithms", section 3.1), which :func:`up` adds and :func:`down` takes away. Subtractions of
rounded numbers are rewritten or bounded where they stand.

:func:`add_up` and its kin do one operation and take the next number above: no less than the
exact result, also where it underflows. An exact zero stays one, and nothing times infinity is
nothing.
"""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import Tensor

__all__ = [
    "UNIT",
    "add_up",
    "div_up",
    "down",
    "exp_down",
    "gamma",
    "hypot_up",
    "mul_up",
    "sqrt_up",
    "up",
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


# ------------------------------------------------- one operation on nonnegative numbers, upwards


def add_up(first: Number, *others: Number) -> Number:
    """No less than the sum."""
    total = first
    for other in others:
        total = total + other  # 0 only where both are
        total = _above(total, total == 0)
    return total


def mul_up(first: Number, *others: Number) -> Number:
    """No less than the product; 0 where a factor is 0, whatever the others are."""
    product = first
    for other in others:
        product = _above(product * other, (product == 0) | (other == 0))
    return product


def div_up(over: Number, under: Number) -> Number:
    """No less than the quotient, where ``under`` is no more than the divisor; something over
    nothing is infinite."""
    if isinstance(over, Tensor) or isinstance(under, Tensor):
        return _above(over / under, torch.as_tensor(over == 0))
    return _above(over / under if under > 0 else math.inf, over == 0)


def sqrt_up(value: Number) -> Number:
    """No less than the square root."""
    root = value.sqrt() if isinstance(value, Tensor) else math.sqrt(value)
    return _above(root, value == 0)


def hypot_up(*values: float) -> float:
    """No less than the root of the sum of squares; of floats."""
    return up(math.hypot(*values), 4)


def exp_down(value: float) -> float:
    """No more than the exponential, and never negative."""
    return down(math.exp(value), 4)  # libraries are right to within one unit in the last place


_INFINITY = torch.tensor(math.inf, dtype=torch.float64)


def _above(value: Number, is_zero) -> Number:
    """The next number above, but for an exact zero."""
    if isinstance(value, Tensor):
        return torch.nextafter(value, _INFINITY).masked_fill(is_zero, 0.0)
    return 0.0 if is_zero else math.nextafter(value, math.inf)
