"""Arithmetic that LLVM turns into vector instructions: exponential, counter-based dropout."""

from __future__ import annotations

import math

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

__all__ = ["BLOCK", "FAST", "edge_bits", "exp32", "exp64", "flush", "keep", "threshold_of"]

#: Sums may be reordered and divisions approximated; NaN and infinity keep their meaning.
FAST = ("nsz", "arcp", "contract", "afn", "reassoc")

#: Edges that are summed before the sum is added to the node's: one running sum of the 100,000
#: edges of a hub would lose digits in float32.
BLOCK = 256

f32, i32, u32 = np.float32, np.int32, np.uint32


@intrinsic
def _power_of_two(typing_context, exponent):
    """``2.0 ** exponent`` in float32 for an int32 in [-126, 127]: its bits are the exponent."""

    def build(context, builder, signature, args):
        biased = builder.add(args[0], ir.Constant(ir.IntType(32), 127))
        bits = builder.shl(biased, ir.Constant(ir.IntType(32), 23))
        return builder.bitcast(bits, ir.FloatType())

    return types.float32(types.int32), build


@numba.njit(inline="always")
def exp32(x):
    """``exp(x)`` in float32 to 2 ulp for x <= 88; libm's is a call an element.

    ``x = k ln 2 + r`` with ``|r| <= ln 2 / 2``; a Taylor polynomial for ``exp(r)``; ``2**k`` from
    its bits. ``ln 2`` is split in two (Cody, Waite), so that ``k ln 2`` rounds nothing away.
    """
    # Not min and max, which would hide a NaN.
    x = f32(-87.0) if x < f32(-87.0) else x
    x = f32(88.0) if x > f32(88.0) else x
    k = i32(math.floor(x * f32(1.4426950408889634) + f32(0.5)))
    r = x - f32(k) * f32(0.693359375) + f32(k) * f32(2.12194440e-4)
    p = f32(1 / 720) + r * f32(1 / 5040)
    p = f32(1 / 24) + r * (f32(1 / 120) + r * p)
    p = f32(1) + r * (f32(1) + r * (f32(0.5) + r * (f32(1 / 6) + r * p)))
    return p * _power_of_two(k)


@numba.njit(inline="always")
def exp64(x):
    """``exp(x)`` in float64: libm's, which is exact enough for gradient checks."""
    return math.exp(x)


@numba.njit(inline="always")
def mix(x):
    """The 32-bit finaliser of MurmurHash3 (Appleby, 2016): a bijection whose bits look random."""
    x = u32(x ^ (x >> u32(16)))
    x = u32(x * u32(0x85EBCA6B))
    x = u32(x ^ (x >> u32(13)))
    x = u32(x * u32(0xC2B2AE35))
    return u32(x ^ (x >> u32(16)))


@numba.njit(inline="always")
def edge_bits(edge, seed):
    """What the dropout of an edge starts from, for all its heads."""
    return u32(mix(u32(u32(edge) ^ seed)) + seed)


@numba.njit(inline="always")
def keep(bits, h, threshold):
    """Whether head ``h`` of the edge is kept: true with probability ``threshold / 2**32``.

    A function of (seed, edge, head) alone, so that the backward pass draws the same mask again,
    for any number of threads.
    """
    return mix(u32(bits + u32(h) * u32(0x9E3779B9))) < threshold


@numba.njit(inline="always")
def threshold_of(kept):
    """What :func:`keep` compares with: ``kept`` in 32 bits."""
    return u32(min(kept * 4294967296.0, 4294967295.0))


@numba.njit(inline="always")
def flush(S, count):
    """Add the ``count`` sums at the start of ``S`` to the totals behind them, and clear them."""
    for k in range(count):
        S[count + k] += S[k]
        S[k] = 0
