"""What the passes over edges do with scores, whatever they are: on vectors of H numbers."""

from __future__ import annotations

import numba

from lipzoo.attention.fused._vectors import lane, sqrt, where

__all__ = ["NOBODY", "norm_gradient", "normed", "store_winner"]


#: Counts as an in-edge behind all.
NOBODY = 2**31 - 1


@numba.njit(inline="always")
def normed(s, n, inv_m, one, largest):
    """``(s u / M, u, r)`` with ``r = n / M``, ``u = 1 / sqrt(1 + r²)``: LipschitzNorm of a score,
    for lengths ``n <= M``; one beyond the largest number is the largest number."""
    r = n * inv_m
    u = one / sqrt(one + r * r)
    s = s * (u * inv_m)
    s = where(s > largest, largest, s)
    return where(s < -largest, -largest, s), u, r


@numba.njit(inline="always")
def norm_gradient(ds, s, u, inv_m, largest, zero):
    """The gradient of ``s M / u`` from that of ``s``: as large as ``g``, whatever ``v`` is."""
    return where(abs(s) == largest, zero, ds * inv_m * u)


@numba.njit(inline="always")
def store_winner(winner, i, index, begin, first, heads):
    """``winner[i, h]`` is the end of the in-edge ``first[h]``, counted from the node's first; -1
    where that is negative or there is none."""
    for h in range(heads):
        place = lane(first, h)
        is_one = 0 <= place < NOBODY
        winner[i, h] = index[begin + place] if is_one else -1
