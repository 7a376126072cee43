"""Arithmetic that LLVM turns into vector instructions: exponential, counter-based dropout."""

from __future__ import annotations

import math

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

__all__ = ["exp32", "exp64", "keep"]

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
    x = min(max(x, f32(-87.0)), f32(88.0))
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
def keep(key, seed, threshold):
    """Whether the attention weight number ``key`` is kept: true with probability
    ``threshold / 2**32``.

    A function of (seed, key) alone, so that the backward pass draws the same mask again, for
    any number of threads. The mixing is that of MurmurHash3's 32-bit finaliser (Appleby, 2016),
    run twice so that neighbouring seeds and keys share nothing.
    """
    x = u32(key) ^ seed
    x = u32((x ^ (x >> u32(16))) * u32(0x85EBCA6B))
    x = u32((x ^ (x >> u32(13))) * u32(0xC2B2AE35))
    x = u32((x ^ (x >> u32(16))) + seed)
    x = u32((x ^ (x >> u32(16))) * u32(0x85EBCA6B))
    x = u32((x ^ (x >> u32(13))) * u32(0xC2B2AE35))
    return (x ^ (x >> u32(16))) < threshold
