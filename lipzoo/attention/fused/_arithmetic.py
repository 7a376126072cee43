"""Arithmetic that LLVM turns into vector instructions: exponential, counter-based dropout."""

from __future__ import annotations

import math

import numba
from llvmlite import ir
from numba.core import cgutils

from lipzoo.attention.fused.index import NUM_CHUNKS

__all__ = [
    "BLOCK",
    "LARGE",
    "bounds",
    "build_exp",
    "build_mix",
]

#: Where the largest score of a node is beyond this, either way, ``c_i = g_i·out_i`` is computed a
#: second time, as ``sum_j p_ij g_i·v_j``, before the gradients ``p (g_i·v_j - c_i)`` of the scores:
#: where several equal edges share the weight, each is then exactly 0, as it should be, where
#: ``out_i`` is off by a rounding error that large features would multiply.
LARGE = 32.0

#: Edges that are summed before the sum is added to the node's: one running sum of the 100,000
#: edges of a hub would lose digits in float32.
BLOCK = 256

#: ``ln 2`` in two parts (Cody, Waite): the first has few bits, so that ``k`` times it is exact.
_LN_2 = (0.693359375, -2.12194440e-4)
_TAYLOR = tuple(1 / math.factorial(n) for n in range(8))


def build_exp(builder, x):
    """Instructions for ``exp`` of a vector: to 2 ulp in float32 for x <= 44, where
    libm's is a call an element; libm's in float64.

    ``x = k ln 2 + r`` with ``|r| <= ln 2 / 2``; a Taylor polynomial for ``exp(r)``; ``2**(k + 64)``
    from its bits, and ``2**-64``, so that the result may be subnormal. ``x`` is kept within
    [-104, 44], where it is 0 and a normal number; NaN stays NaN. The kernels' scores are shifted by
    their maximum, or at most 40.
    """
    count, element = x.type.count, x.type.element

    def floor(argument):
        kind = ir.FunctionType(x.type, [x.type])
        name = f"llvm.floor.v{count}f32"
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [argument])

    def constant(value, kind=element):
        return ir.Constant(ir.VectorType(kind, count), [value] * count)

    def add_product(total, a, b):
        return builder.fadd(total, builder.fmul(a, b, flags=["contract"]), flags=["contract"])

    if element == ir.DoubleType():
        return _exp_one_by_one(builder, x)
    low, high = constant(-104.0), constant(44.0)
    x = builder.select(builder.fcmp_ordered("<", x, low), low, x)
    x = builder.select(builder.fcmp_ordered(">", x, high), high, x)
    k = floor(add_product(constant(0.5), x, constant(1 / math.log(2))))
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


def _exp_one_by_one(builder, x):
    """libm's, for it is right to the last bit but one, and float64 is not for speed."""
    number = ir.DoubleType()
    kind = ir.FunctionType(number, [number])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.exp.f64")
    for k in range(x.type.count):
        value = builder.call(function, [builder.extract_element(x, ir.IntType(32)(k))])
        x = builder.insert_element(x, value, ir.IntType(32)(k))
    return x


def build_mix(builder, x):
    """The 32-bit finaliser of MurmurHash3 (Appleby, 2016), of a number or vector: a bijection whose
    bits look random."""
    count = x.type.count if isinstance(x.type, ir.VectorType) else None

    def constant(value):
        return ir.Constant(x.type, value if count is None else [value] * count)

    x = builder.mul(builder.xor(x, builder.lshr(x, constant(16))), constant(0x85EBCA6B))
    x = builder.mul(builder.xor(x, builder.lshr(x, constant(13))), constant(0xC2B2AE35))
    return builder.xor(x, builder.lshr(x, constant(16)))


@numba.njit(inline="always")
def bounds(chunk_from, chunk_to, num_nodes):
    """The nodes of these chunks, where chunks are to have the same number of nodes."""
    return chunk_from * num_nodes // NUM_CHUNKS, chunk_to * num_nodes // NUM_CHUNKS
