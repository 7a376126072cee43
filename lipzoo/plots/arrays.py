"""Numbers that somebody gives to be drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from lipzoo.errors import DataError

__all__ = ["as_numbers", "interval"]


def as_numbers(values: Any, what: str, dims: int) -> np.ndarray:
    """A tensor, an array or a list of numbers as an array.

    Raises
    ------
    DataError
        If they are no numbers, or not of so many dimensions.
    """
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        # NumPy has no bfloat16.
        values = (values.double() if values.is_floating_point() else values).numpy()
    found = np.asarray(values)
    if found.ndim != dims or found.dtype.kind not in "biuf":
        raise DataError(
            f"{what}: expected numbers of {dims} dimension{'s' * (dims > 1)}, got {found.dtype} "
            f"{found.shape}"
        )
    return found


def interval(right: float, count: int) -> tuple[float, float]:
    """95 % interval of a share of which k of n were seen (Wilson 1927)."""
    from scipy.stats import binomtest

    found = binomtest(round(right), count).proportion_ci(method="wilson")
    return float(found.low), float(found.high)
