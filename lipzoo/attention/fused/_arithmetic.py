"""Arithmetic that LLVM turns into vector instructions: exponential, counter-based dropout."""

from __future__ import annotations

import math

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from lipzoo.attention.fused.index import NUM_CHUNKS

__all__ = [
    "BLOCK",
    "FAST",
    "LARGE",
    "bounds",
    "build_exp",
    "edge_bits",
    "exp",
    "flush",
    "keep",
    "normed",
]

#: For what belongs to nodes and is computed once: sums may be reordered and divisions approximated;
#: NaN and infinity keep their meaning. What belongs to edges is computed once in each pass, and has
#: to come out the same to the last bit: the weight ``exp(score - largest)`` of a score of 1e6 is
#: worth nothing if the score moves by a rounding error. There no operation is fused or reordered.
FAST = ("nsz", "arcp", "contract", "afn", "reassoc")

#: Where the largest score of a node is beyond this, either way, ``c_i = g_i·out_i`` is computed a
#: second time, as ``sum_j p_ij g_i·v_j``, before the gradients ``p (g_i·v_j - c_i)`` of the scores:
#: where several equal edges share the weight, each is then exactly 0, as it should be, where
#: ``out_i`` is off by a rounding error that large features would multiply.
LARGE = 32.0

#: Edges that are summed before the sum is added to the node's: one running sum of the 100,000
#: edges of a hub would lose digits in float32.
BLOCK = 256

u32 = np.uint32


#: ``ln 2`` in two parts (Cody, Waite): the first has few bits, so that ``k`` times it is exact.
_LN_2 = (0.693359375, -2.12194440e-4)
_TAYLOR = tuple(1 / math.factorial(n) for n in range(8))


def build_exp(builder, x):
    """Instructions for ``exp`` of a number or vector: to 2 ulp in float32 for x <= 44, where
    libm's is a call an element; libm's in float64.

    ``x = k ln 2 + r`` with ``|r| <= ln 2 / 2``; a Taylor polynomial for ``exp(r)``; ``2**(k + 64)``
    from its bits, and ``2**-64``, so that the result may be subnormal. ``x`` is kept within
    [-104, 44], where it is 0 and a normal number; NaN stays NaN. The kernels' scores are shifted by
    their maximum, or at most 40.
    """
    count = x.type.count if isinstance(x.type, ir.VectorType) else None
    element = x.type if count is None else x.type.element
    name = f"{'' if count is None else f'v{count}'}{'f32' if element == ir.FloatType() else 'f64'}"

    def call(function, argument):
        kind = ir.FunctionType(x.type, [x.type])
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.{function}.{name}")
        return builder.call(function, [argument])

    def constant(value, kind=element):
        if count is None:
            return ir.Constant(kind, value)
        return ir.Constant(ir.VectorType(kind, count), [value] * count)

    def add_product(total, a, b):
        return builder.fadd(total, builder.fmul(a, b, flags=["contract"]), flags=["contract"])

    if element == ir.DoubleType():
        return call("exp", x)
    low, high = constant(-104.0), constant(44.0)
    x = builder.select(builder.fcmp_ordered("<", x, low), low, x)
    x = builder.select(builder.fcmp_ordered(">", x, high), high, x)
    k = call("floor", add_product(constant(0.5), x, constant(1 / math.log(2))))
    r = x
    for part in _LN_2:
        r = add_product(r, k, constant(-part))
    p = constant(_TAYLOR[-1])
    for coefficient in reversed(_TAYLOR[:-1]):
        p = add_product(constant(coefficient), p, r)
    integer = ir.IntType(32)
    exponent = constant(127 + 64, integer)
    bits = builder.add(builder.fptosi(k, exponent.type), exponent)
    bits = builder.shl(bits, constant(23, integer))
    return builder.fmul(builder.fmul(p, builder.bitcast(bits, p.type)), constant(2.0**-64))


@intrinsic
def exp(typing_context, x):
    """``exp(x)`` of a float32 or float64, see :func:`build_exp`."""
    return x(x), lambda context, builder, signature, args: build_exp(builder, args[0])


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
    for any number of threads; ``DropoutMask.mask`` is the same in PyTorch's operations.
    """
    return mix(u32(bits + u32(h) * u32(0x9E3779B9))) < threshold


@numba.njit(inline="always")
def normed(s, n, inv_m, one, largest):
    """``(s u / M, u, r)`` with ``r = n / M``, ``u = 1 / sqrt(1 + r²)``: LipschitzNorm of a score,
    for lengths ``n <= M``; one beyond the largest number is the largest number.

    Not a closure of the kernels: Numba would compile those anew in every process.
    """
    r = n * inv_m
    u = one / math.sqrt(one + r * r)
    s = s * (u * inv_m)
    s = largest if s > largest else s
    return -largest if s < -largest else s, u, r


@numba.njit(inline="always")
def flush(S, count):
    """Add the ``count`` sums at the start of ``S`` to the totals behind them, and clear them."""
    for k in range(count):
        S[count + k] += S[k]
        S[k] = 0


@numba.njit(inline="always")
def bounds(chunk_from, chunk_to, num_nodes):
    """The nodes of these chunks, where chunks are to have the same number of nodes."""
    return chunk_from * num_nodes // NUM_CHUNKS, chunk_to * num_nodes // NUM_CHUNKS
