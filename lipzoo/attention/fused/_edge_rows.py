"""Rows of several edges: gathered, multiplied by a row, added up with weights."""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from lipzoo.attention.fused._llvm import (
    broadcast,
    int64,
    literal,
    load_from,
    pointer_to,
    pointer_to_row,
    store_to,
)
from lipzoo.attention.fused._rows import WIDEST, Row, Walk, build_add_product, build_dot
from lipzoo.attention.fused._vectors import Vector

__all__ = ["add_products", "add_slopes", "dots", "pair_scores"]

_i64 = ir.IntType(64)


@dataclass(frozen=True)
class _Edges:
    """``used`` edges from ``e`` on, of at most ``group``, and the rows of ``x`` at their ends."""

    context: object
    builder: ir.IRBuilder
    kinds: tuple
    args: tuple
    group: int

    @classmethod
    def of(cls, context, builder, signature, args, begin, group):
        """``args`` from ``begin`` on are ``x``, ``index``, ``e`` and ``used``."""
        end = begin + 4
        return cls(
            context, builder, signature.args[begin:end], args[begin:end], group.literal_value
        )

    def each(self, body):
        """``body(k, start of the row)`` for each edge."""
        x, index, e, used = self.args
        builder, kinds = self.builder, self.kinds
        first = pointer_to(self.context, builder, kinds[1], index, e, kinds[2])
        with cgutils.for_range(builder, int64(builder, used, kinds[3])) as loop:
            i = builder.load(builder.gep(first, [loop.index]))
            row = pointer_to_row(self.context, builder, kinds[0], x, i, kinds[1].dtype)
            body(loop.index, row)

    def vectors(self, heads, number, of):
        """``of(start of the row)`` of each edge behind each other; any numbers behind those."""
        builder = self.builder
        found = cgutils.alloca_once(builder, number, heads * self.group)
        found.align = WIDEST

        def body(k, start):
            store_to(builder, of(start), found, builder.mul(k, _i64(heads)))

        self.each(body)
        return load_from(builder, found, _i64(0), heads * self.group)

    def with_weights(self, heads, weights, body):
        """``body(start of the row, its weights)`` for each edge."""
        builder = self.builder
        kept = cgutils.alloca_once(builder, weights.type.element, weights.type.count)
        kept.align = WIDEST
        store_to(builder, weights, kept, _i64(0))

        def at(k, start):
            body(start, load_from(builder, kept, builder.mul(k, _i64(heads)), heads))

        self.each(at)


@intrinsic(prefer_literal=True)
def dots(typing_context, row, x, index, e, used, edges):
    """``sum_d row[h, d] x[index[e + k], h, d]`` for ``k < used``, a vector for ``edges`` edges."""
    if not literal(edges):
        return None

    def build(context, builder, signature, args):
        walk = Walk.along(builder, row)
        ends = _Edges.of(context, builder, signature, args, 1, edges)
        return ends.vectors(row.heads, walk.number, lambda start: build_dot(walk, args[0], start))

    return Vector(row.dtype, row.heads * edges.literal_value)(row, x, index, e, used, edges), build


@intrinsic(prefer_literal=True)
def add_products(typing_context, row, weights, x, index, e, used, edges):
    """``row[h, d] += sum_k weights[k, h] x[index[e + k], h, d]`` for ``k < used``."""
    if not literal(edges):
        return None

    def build(context, builder, signature, args):
        walk = Walk.along(builder, row)
        ends = _Edges.of(context, builder, signature, args, 2, edges)
        ends.with_weights(
            row.heads, args[1], lambda start, w: build_add_product(walk, args[0], w, start)
        )
        return context.get_dummy_value()

    return types.void(row, weights, x, index, e, used, edges), build


def _slope_at(builder, x, slope):
    """The slope of the LeakyReLU at each ``x``."""
    count = x.type.count
    positive = builder.fcmp_ordered(">", x, ir.Constant(x.type, [0.0] * count))
    ones = ir.Constant(x.type, [1.0] * count)
    return builder.select(positive, ones, broadcast(builder, slope, count))


@intrinsic(prefer_literal=True)
def pair_scores(typing_context, row, x, index, e, used, attn, slope, edges):
    """``sum_d attn[h, d] LeakyReLU(row[h, d] + x[index[e + k], h, d])`` for ``k < used``, a vector
    for ``edges`` edges."""
    if not literal(edges):
        return None

    def build(context, builder, signature, args):
        walk = Walk.along(builder, row)

        def score(start):
            def term(offset, length):
                a, b = (load_from(builder, y, offset, length) for y in (args[0], start))
                pair = builder.fadd(a, b)
                leaky = builder.fmul(pair, _slope_at(builder, pair, args[6]))
                return builder.fmul(load_from(builder, args[5], offset, length), leaky)

            return walk.sums(term)

        ends = _Edges.of(context, builder, signature, args, 1, edges)
        return ends.vectors(row.heads, walk.number, score)

    vector = Vector(row.dtype, row.heads * edges.literal_value)
    return vector(row, x, index, e, used, attn, slope, edges), build


@intrinsic(prefer_literal=True)
def add_slopes(typing_context, slopes, leaky, weights, x, index, e, used, row, slope, edges):
    """With ``y = row[h, d] + x[index[e + k], h, d]`` and the slope ``l(y)`` of the LeakyReLU there,
    ``slopes[h, d] += sum_k weights[k, h] l(y)``, and the same of ``l(y) y`` to ``leaky`` where it
    is another row."""
    if not literal(edges):
        return None
    has_leaky = isinstance(leaky, Row)

    def build(context, builder, signature, args):
        walk = Walk.along(builder, row)

        def add(total, offset, length, term):
            before = load_from(builder, total, offset, length)
            store_to(builder, builder.fadd(before, term), total, offset)

        def at(start, weights):
            def body(offset, length, weight):
                a, b = (load_from(builder, y, offset, length) for y in (args[7], start))
                pair = builder.fadd(a, b)
                term = builder.fmul(weight, _slope_at(builder, pair, args[8]))
                add(args[0], offset, length, term)
                if has_leaky:
                    add(args[1], offset, length, builder.fmul(term, pair))

            walk.each(body, weights)

        ends = _Edges.of(context, builder, signature, args, 3, edges)
        ends.with_weights(row.heads, args[2], at)
        return context.get_dummy_value()

    return (
        types.void(slopes, leaky, weights, x, index, e, used, row, slope, edges),
        build,
    )
