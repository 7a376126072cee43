"""Vectors of several edges: H numbers of each, edge behind edge.

The scores of :func:`edges_together` edges go through the exponential at once. Where H is small that
fills the registers, and where it is not, some registers are worked on while others wait for their
last result. What is behind the last edge of a node is any number, and is masked.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from lipzoo.attention.fused._arithmetic import build_mix
from lipzoo.attention.fused._llvm import (
    broadcast,
    concatenated,
    int64,
    literal,
    load_from,
    pointer_to,
    pointer_to_row,
    shuffled,
)
from lipzoo.attention.fused._vectors import Vector

__all__ = [
    "edges_together",
    "first_of",
    "gather",
    "keep",
    "largest_of",
    "numbers",
    "prefetch",
    "repeat",
    "total_of",
]

#: Edges that a row is asked for before its turn, and cache lines of it at most, by the bits of its
#: numbers: a row in bfloat16 ends soon after the processor's own prefetcher has found it.
AHEAD = 8
_PREFETCH_LINES = {16: 16, 32: 4, 64: 4}
_LINE = 64

_i32, _i64 = ir.IntType(32), ir.IntType(64)


def edges_together(heads: int, is_double: bool) -> int:
    """Of how many edges the scores go through the exponential together: so many registers that
    none waits for another, a power of two."""
    most = max(1, (16 if is_double else 32) // heads)
    return min(8, 1 << (most.bit_length() - 1))


@intrinsic(prefer_literal=True)
def gather(typing_context, x, index, e, used, column, heads, edges):
    """``x[index[e + k], column : column + heads]`` for ``k < used``, behind each other, and
    the last again up to ``edges``."""
    if not literal(heads, edges):
        return None
    count, group = heads.literal_value, edges.literal_value

    def build(context, builder, signature, args):
        first = pointer_to(context, builder, index, args[1], args[2], e)
        most = builder.sub(int64(builder, args[3], used), _i64(1))
        column = int64(builder, args[4], signature.args[4])
        found = []
        for k in range(group):
            at = builder.select(builder.icmp_signed("<", _i64(k), most), _i64(k), most)
            i = builder.load(builder.gep(first, [at]))
            start = pointer_to_row(context, builder, x, args[0], i, index.dtype)
            found.append(load_from(builder, start, column, count))
        return concatenated(builder, found)

    return Vector(x.dtype, count * group)(x, index, e, used, column, heads, edges), build


@intrinsic(prefer_literal=True)
def keep(typing_context, edge, e, used, seed, threshold, heads, edges):
    """Which heads of the edges ``edge[e + k]`` are kept: each with probability
    ``threshold / 2**32``.

    A function of (seed, edge, head) alone, so that the backward pass draws the same mask again,
    for any number of threads; ``DropoutMask.mask`` is the same in PyTorch's operations.
    """
    if not literal(heads, edges):
        return None
    count, group = heads.literal_value, edges.literal_value

    def build(context, builder, signature, args):
        first = pointer_to(context, builder, edge, args[0], args[1], e)
        most = builder.sub(int64(builder, args[2], used), _i64(1))
        seed, threshold = (
            context.cast(builder, args[k], signature.args[k], types.uint32) for k in (3, 4)
        )
        found = []
        for k in range(group):
            at = builder.select(builder.icmp_signed("<", _i64(k), most), _i64(k), most)
            number = builder.load(builder.gep(first, [at]))
            if number.type.width > 32:
                number = builder.trunc(number, _i32)
            found.append(broadcast(builder, number, 1))
        bits = concatenated(builder, found)
        seeds = broadcast(builder, seed, group)
        bits = builder.add(build_mix(builder, builder.xor(bits, seeds)), seeds)
        bits = shuffled(builder, bits, bits, [k for k in range(group) for _ in range(count)])
        own = [h * 0x9E3779B9 % 2**32 for h in range(count)] * group
        bits = builder.add(bits, ir.Constant(bits.type, own))
        return builder.icmp_unsigned(
            "<", build_mix(builder, bits), broadcast(builder, threshold, count * group)
        )

    return Vector(types.boolean, count * group)(edge, e, used, seed, threshold, heads, edges), build


@intrinsic(prefer_literal=True)
def numbers(typing_context, first, heads, edges):
    """``first + k`` for each edge, in 32 bits, once for each head."""
    if not literal(heads, edges):
        return None
    group = edges.literal_value
    vector = Vector(types.int32, heads.literal_value * group)

    def build(context, builder, signature, args):
        first = builder.trunc(int64(builder, args[0], signature.args[0]), _i32)
        own = [k for k in range(group) for _ in range(heads.literal_value)]
        own = ir.Constant(ir.VectorType(_i32, vector.count), own)
        return builder.add(broadcast(builder, first, vector.count), own)

    return vector(first, heads, edges), build


@intrinsic(prefer_literal=True)
def repeat(typing_context, x, edges):
    """The vector, once for each of so many edges."""
    if not literal(edges):
        return None
    group = edges.literal_value

    def build(context, builder, signature, args):
        return shuffled(builder, args[0], args[0], [*range(x.count)] * group)

    return Vector(x.dtype, x.count * group)(x, edges), build


def _folded(x, edges, joined: Callable):
    """Signature and code that join the halves of a vector until one edge is left."""
    if not literal(edges):
        return None

    def build(context, builder, signature, args):
        x = args[0]
        while x.type.count > signature.return_type.count:
            half = x.type.count // 2
            x = joined(builder, *(shuffled(builder, x, x, range(k, k + half)) for k in (0, half)))
        return x

    return Vector(x.dtype, x.count // edges.literal_value)(x, edges), build


@intrinsic(prefer_literal=True)
def total_of(typing_context, x, edges):
    """The sum over the edges of a vector."""
    return _folded(x, edges, lambda builder, a, b: builder.fadd(a, b))


@intrinsic(prefer_literal=True)
def largest_of(typing_context, x, edges):
    """The largest over the edges of a vector."""
    return _folded(
        x, edges, lambda builder, a, b: builder.select(builder.fcmp_ordered(">", b, a), b, a)
    )


@intrinsic(prefer_literal=True)
def first_of(typing_context, most, first, edges):
    """Of pairs (length, number) of so many edges, the number where the length is largest; the
    smallest of those that tie."""
    if not literal(edges):
        return None

    def build(context, builder, signature, args):
        most, first = args[:2]
        while first.type.count > signature.return_type.count:
            half = first.type.count // 2
            a, b = (shuffled(builder, most, most, range(k, k + half)) for k in (0, half))
            i, j = (shuffled(builder, first, first, range(k, k + half)) for k in (0, half))
            ties = builder.and_(builder.fcmp_ordered("==", a, b), builder.icmp_signed("<", j, i))
            is_b = builder.or_(builder.fcmp_ordered(">", b, a), ties)
            most, first = builder.select(is_b, b, a), builder.select(is_b, j, i)
        return first

    return Vector(first.dtype, first.count // edges.literal_value)(most, first, edges), build


@intrinsic(prefer_literal=True)
def prefetch(typing_context, x, index, e, last, count, edges):
    """Ask for the starts of ``x[index[e + AHEAD + k]]``, of ``count`` numbers, for ``edges`` edges
    ahead of their turn; what follows the processor's own prefetcher finds."""
    if not literal(count, edges):
        return None
    lines = -(-count.literal_value * x.dtype.bitwidth // 8 // _LINE)
    byte = ir.IntType(8).as_pointer()

    def build(context, builder, signature, args):
        first = context.make_array(index)(context, builder, args[1]).data
        here, last = (int64(builder, args[k], signature.args[k]) for k in (2, 3))
        kind = ir.FunctionType(ir.VoidType(), [byte, _i32, _i32, _i32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        for k in range(edges.literal_value):
            at = builder.add(here, _i64(AHEAD + k))
            at = builder.select(builder.icmp_signed("<", at, last), at, last)
            i = builder.load(builder.gep(first, [at]))
            start = pointer_to_row(context, builder, x, args[0], i, index.dtype)
            start = builder.bitcast(start, byte)
            for line in range(min(lines, _PREFETCH_LINES[x.dtype.bitwidth])):
                address = builder.gep(start, [_i64(_LINE * line)])
                builder.call(function, [address, _i32(0), _i32(3), _i32(1)])
        return context.get_dummy_value()

    return types.void(x, index, e, last, count, edges), build
