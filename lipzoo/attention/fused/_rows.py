"""Rows of H heads of D features: sums, products and weighted sums, with all lanes full.

A row is so many whole registers, wherever its heads begin and end; the weights of the heads are
expanded into its lanes by a permutation. A :class:`Row` lies on the stack, read and written in
pieces of one register at constant offsets: LLVM keeps those of a short row in registers from edge
to edge. A long row is walked head by head, and stays in memory.

No instruction is fused with another, or reordered. So scores and products (:func:`dot`,
:func:`pair_scores`) are the same to the last bit wherever they are computed, with either end of the
edge as the gathered row, and terms that cancel each other leave nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

from lipzoo.attention.fused._llvm import (
    broadcast,
    load_from,
    pointer_to_row,
    shuffled,
    size_of,
    store_to,
)
from lipzoo.attention.fused._registers import Lanes, sums_of_heads
from lipzoo.attention.fused._vectors import Vector

__all__ = [
    "WIDEST",
    "Row",
    "Walk",
    "add_product",
    "add_row_product",
    "add_shares",
    "build_add_product",
    "build_dot",
    "clear",
    "dot",
    "flush",
    "multiply",
    "new_row",
    "read",
    "write",
    "write_quotient",
]

#: Widest register, in bytes: that of AVX-512, which LLVM cuts for smaller ones.
WIDEST = 64
#: Rows up to this many of them are written out; longer ones take a loop.
_UNROLLED = 32

_i32, _i64 = ir.IntType(32), ir.IntType(64)


class Row(types.Type):
    """H heads of D features on the stack."""

    def __init__(self, dtype: types.Type, heads: int, width: int) -> None:
        self.dtype, self.heads, self.width = dtype, heads, width
        super().__init__(name=f"Row({dtype}, {heads}, {width})")


@register_model(Row)
class _RowModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, manager[kind.dtype].get_value_type().as_pointer())


@dataclass(frozen=True)
class Walk:
    """Over the pieces of a row, each with the heads of its lanes."""

    builder: ir.IRBuilder
    number: ir.Type
    heads: int
    width: int

    @classmethod
    def along(cls, builder, row):
        number = ir.DoubleType() if row.dtype == types.float64 else ir.FloatType()
        return cls(builder, number, row.heads, row.width)

    @property
    def longest(self):
        return WIDEST // size_of(self.number)

    @property
    def is_short(self):
        return self.heads * self.width <= _UNROLLED * self.longest

    def short_pieces(self):
        """``(offset, heads of the lanes)``: of one head each, where no power of two divides."""
        widest, D = self.longest, self.width
        total = self.heads * D
        if D & (D - 1):
            cuts = [h * D + k for h in range(self.heads) for k in range(0, D, widest)]
        else:
            cuts = list(range(0, total, widest))
        for begin, end in zip(cuts, [*cuts[1:], total]):
            yield begin, [k // D for k in range(begin, end)]

    def each(self, body, *weights):
        """``body(offset, length, *expanded weights)`` for each piece."""
        builder = self.builder
        if self.is_short:
            for begin, heads in self.short_pieces():
                lanes = (shuffled(builder, w, w, heads) for w in weights)
                body(_i64(begin), len(heads), *lanes)
            return
        kept = [self._on_stack(w) for w in weights]
        with cgutils.for_range(builder, _i64(self.heads)) as loop:
            numbers = [
                builder.trunc(x, w.type.element) if x.type != w.type.element else x
                for x, w in zip((builder.load(builder.gep(k, [loop.index])) for k in kept), weights)
            ]
            self._along_head(
                loop.index,
                lambda offset, n: body(offset, n, *(broadcast(builder, x, n) for x in numbers)),
            )

    def _along_head(self, head, body):
        builder, longest = self.builder, self.longest
        start = builder.mul(head, _i64(self.width))
        whole = self.width // longest
        with cgutils.for_range(builder, _i64(whole)) as loop:
            body(builder.add(start, builder.mul(loop.index, _i64(longest))), longest)
        if self.width % longest:
            body(builder.add(start, _i64(whole * longest)), self.width % longest)

    def _on_stack(self, weights):
        """Where a loop finds them one by one; a mask in bytes."""
        if weights.type.element == ir.IntType(1):
            bytes_ = ir.VectorType(ir.IntType(8), weights.type.count)
            weights = self.builder.zext(weights, bytes_)
        kept = cgutils.alloca_once(self.builder, weights.type.element, self.heads)
        store_to(self.builder, weights, kept, _i64(0))
        return kept

    def sums(self, terms):
        """The sum of ``terms(offset, length)`` over each head; the order of additions depends on
        H and D alone."""
        builder = self.builder
        if self.is_short:
            return sums_of_heads(
                builder,
                [Lanes(terms(_i64(at), len(heads)), heads) for at, heads in self.short_pieces()],
                self.heads,
            )
        found = cgutils.alloca_once(builder, self.number, self.heads)
        vector = ir.VectorType(self.number, self.longest)
        total = cgutils.alloca_once(builder, vector)
        with cgutils.for_range(builder, _i64(self.heads)) as loop:
            builder.store(ir.Constant(vector, [0.0] * self.longest), total)

            def add(offset, length):
                term = terms(offset, length)
                if length < self.longest:
                    zeros = ir.Constant(term.type, [0.0] * length)
                    order = [min(k, length) for k in range(self.longest)]
                    term = shuffled(builder, term, zeros, order)
                builder.store(builder.fadd(builder.load(total), term), total)

            self._along_head(loop.index, add)
            lanes = [Lanes(builder.load(total), [0] * self.longest)]
            store_to(builder, sums_of_heads(builder, lanes, 1), found, loop.index)
        return load_from(builder, found, _i64(0), self.heads)


@intrinsic(prefer_literal=True)
def new_row(typing_context, number, heads, width):
    """A row of numbers of the type of ``number``, of any content."""
    if not all(isinstance(x, types.IntegerLiteral) for x in (heads, width)):
        return None
    row = Row(types.unliteral(number), heads.literal_value, width.literal_value)

    def build(context, builder, signature, args):
        walk = Walk.along(builder, row)
        with builder.goto_entry_block():
            place = builder.alloca(walk.number, row.heads * row.width)
            place.align = WIDEST
        return place

    return row(number, heads, width), build


@intrinsic
def clear(typing_context, row):
    """``row = 0``."""

    def build(context, builder, signature, args):
        walk = Walk.along(builder, row)

        def body(offset, length):
            zeros = ir.Constant(ir.VectorType(walk.number, length), [0.0] * length)
            store_to(builder, zeros, args[0], offset)

        walk.each(body)
        return context.get_dummy_value()

    return types.void(row), build


@intrinsic
def flush(typing_context, total, row):
    """``total += row``, and ``row = 0``."""

    def build(context, builder, signature, args):
        def body(offset, length):
            a, b = (load_from(builder, x, offset, length) for x in args)
            store_to(builder, builder.fadd(a, b), args[0], offset)
            store_to(builder, ir.Constant(a.type, [0.0] * length), args[1], offset)

        Walk.along(builder, row).each(body)
        return context.get_dummy_value()

    return types.void(total, row), build


@intrinsic
def multiply(typing_context, row, weights):
    """``row[h, d] *= weights[h]``."""

    def build(context, builder, signature, args):
        def body(offset, length, weight):
            value = load_from(builder, args[0], offset, length)
            store_to(builder, builder.fmul(value, weight), args[0], offset)

        Walk.along(builder, row).each(body, args[1])
        return context.get_dummy_value()

    return types.void(row, weights), build


@intrinsic
def read(typing_context, row, x, i):
    """``row = x[i]``."""

    def build(context, builder, signature, args):
        start = pointer_to_row(context, builder, x, args[1], args[2], i)

        def body(offset, length):
            store_to(builder, load_from(builder, start, offset, length), args[0], offset)

        Walk.along(builder, row).each(body)
        return context.get_dummy_value()

    return types.void(row, x, i), build


@intrinsic
def write(typing_context, x, i, row):
    """``x[i] = row``."""

    def build(context, builder, signature, args):
        start = pointer_to_row(context, builder, x, args[0], args[1], i)

        def body(offset, length):
            store_to(builder, load_from(builder, args[2], offset, length), start, offset)

        Walk.along(builder, row).each(body)
        return context.get_dummy_value()

    return types.void(x, i, row), build


@intrinsic
def write_quotient(typing_context, x, i, row, weights):
    """``x[i, h, d] = row[h, d] / weights[h]``: a mean of equal rows is that row."""

    def build(context, builder, signature, args):
        start = pointer_to_row(context, builder, x, args[0], args[1], i)

        def body(offset, length, weight):
            value = load_from(builder, args[2], offset, length)
            store_to(builder, builder.fdiv(value, weight), start, offset)

        Walk.along(builder, row).each(body, args[3])
        return context.get_dummy_value()

    return types.void(x, i, row, weights), build


@intrinsic
def add_product(typing_context, row, weights, x):
    """``row[h, d] += weights[h] x[h, d]``, of a row ``x``."""

    def build(context, builder, signature, args):
        build_add_product(Walk.along(builder, row), args[0], args[1], args[2])
        return context.get_dummy_value()

    return types.void(row, weights, x), build


def build_add_product(walk, row, weights, start):
    builder = walk.builder

    def body(offset, length, weight):
        term = builder.fmul(weight, load_from(builder, start, offset, length))
        total = load_from(builder, row, offset, length)
        store_to(builder, builder.fadd(total, term), row, offset)

    walk.each(body, weights)


@intrinsic
def add_shares(typing_context, row, x, lengths, weights, mask):
    """``row[h, d] += x[h, d] / lengths[h] weights[h]`` of the heads in the mask."""

    def build(context, builder, signature, args):
        def body(offset, length, n, weight, is_one):
            total, value = (load_from(builder, y, offset, length) for y in args[:2])
            term = builder.fmul(builder.fdiv(value, n), weight)
            term = builder.select(is_one, builder.fadd(total, term), total)
            store_to(builder, term, args[0], offset)

        Walk.along(builder, row).each(body, *args[2:])
        return context.get_dummy_value()

    return types.void(row, x, lengths, weights, mask), build


@intrinsic
def add_row_product(typing_context, row, a, b):
    """``row += a b``, entry by entry."""

    def build(context, builder, signature, args):
        def body(offset, length):
            total, x, y = (load_from(builder, z, offset, length) for z in args)
            store_to(builder, builder.fadd(total, builder.fmul(x, y)), args[0], offset)

        Walk.along(builder, row).each(body)
        return context.get_dummy_value()

    return types.void(row, a, b), build


@intrinsic
def dot(typing_context, row, x, i):
    """``sum_d row[h, d] x[i, h, d]``, a vector."""

    def build(context, builder, signature, args):
        start = pointer_to_row(context, builder, x, args[1], args[2], i)
        return build_dot(Walk.along(builder, row), args[0], start)

    return Vector(row.dtype, row.heads)(row, x, i), build


def build_dot(walk, row, start):
    builder = walk.builder

    def term(offset, length):
        a, b = (load_from(builder, y, offset, length) for y in (row, start))
        return builder.fmul(a, b)

    return walk.sums(term)
