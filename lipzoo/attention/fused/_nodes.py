"""Kernels over nodes that the kinds of scores share: lengths, and what becomes of them backward."""

from __future__ import annotations

import math

import numba
import numpy as np

from lipzoo.attention.fused._arithmetic import FAST, bounds

__all__ = ["add_from_lengths", "give_to_winners", "lengths"]

kernel = numba.njit(nogil=True, fastmath=set(FAST), error_model="numpy", cache=True)

#: Squares between these are far from over- and underflow, in float32.
_LOW, _HIGH = 1e-24, 1e36
#: What a shorter row is taken for zero at: the reciprocal of its length is not a number in float32.
TINY = {np.float32: np.float32(np.finfo(np.float32).tiny), np.float64: np.finfo(np.float64).tiny}


@kernel
def lengths(chunk_from, chunk_to, v, heads, tiny, to, column):
    """``to[:, column + h] = ||v_h||``, of any size: where squares do not do, those of ``v`` over
    its largest entry. A row below ``tiny`` is as long as its largest entry."""
    width = v.shape[1] // heads
    for j in range(*bounds(chunk_from, chunk_to, v.shape[0])):
        for h in range(heads):
            first = h * width
            square = v[j, first] * v[j, first]
            for k in range(first + 1, first + width):
                square += v[j, k] * v[j, k]
            if _LOW < square < _HIGH:
                to[j, column + h] = math.sqrt(square)
                continue
            largest = abs(v[j, first])
            for k in range(first, first + width):
                largest = max(largest, abs(v[j, k]))
            square = v[j, first] - v[j, first] + 1  # or not a number
            if largest >= tiny:
                square -= 1
                for k in range(first, first + width):
                    part = v[j, k] / largest
                    square += part * part
            to[j, column + h] = largest * math.sqrt(square)


@kernel
def add_from_lengths(chunk_from, chunk_to, v, src, d_src, heads, column, tiny, d_v):
    """``d_v += v / n d_n``, where the columns of ``src`` hold the lengths, of ``d_src`` their
    gradients."""
    width = v.shape[1] // heads
    for j in range(*bounds(chunk_from, chunk_to, v.shape[0])):
        for h in range(heads):
            length = src[j, column + h]
            if length >= tiny:
                for k in range(h * width, (h + 1) * width):
                    d_v[j, k] += v[j, k] / length * d_src[j, column + h]


@numba.njit(cache=True)
def give_to_winners(winner, d_dst, d_src, column):
    """``d_src[winner_ih, column + h] += d_dst[i, column + h]``: the gradient of a maximum."""
    for i in range(winner.shape[0]):
        for h in range(winner.shape[1]):
            if winner[i, h] >= 0:
                d_src[winner[i, h], column + h] += d_dst[i, column + h]
