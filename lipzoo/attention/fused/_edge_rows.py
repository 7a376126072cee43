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
from lipzoo.attention.fused._rows import WIDEST, Walk, build_add_product, build_dot
from lipzoo.attention.fused._vectors import Vector

__all__ = ["add_both_slopes", "add_products", "add_slopes", "dots", "pair_scores"]

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
        """``body(start of the row, *its weights)`` for each edge."""
        builder, places = self.builder, []
        for each in weights:
            kept = cgutils.alloca_once(builder, each.type.element, each.type.count)
            kept.align = WIDEST
            store_to(builder, each, kept, _i64(0))
            places.append(kept)

        def at(k, start):
            first = builder.mul(k, _i64(heads))
            body(start, *(load_from(builder, kept, first, heads) for kept in places))

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
            row.heads, args[1:2], lambda start, w: build_add_product(walk, args[0], w, start)
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
    takers = 1 if isinstance(leaky, types.Integer) else 2

    def build(context, builder, signature, args):
        ends = _Edges.of(context, builder, signature, args, 3, edges)
        _build_add_slopes(ends, row, args[7], args[8], args[2:3], [args[:takers]])
        return context.get_dummy_value()

    return (
        types.void(slopes, leaky, weights, x, index, e, used, row, slope, edges),
        build,
    )


@intrinsic(prefer_literal=True)
def add_both_slopes(
    typing_context, slopes, leaky, weights, s, t, w, x, index, e, used, row, slope, edges
):
    """``add_slopes`` to the rows ``slopes`` and ``leaky``, and with weights ``w`` to ``s`` and
    ``t``."""
    if not literal(edges):
        return None

    def build(context, builder, signature, args):
        ends = _Edges.of(context, builder, signature, args, 6, edges)
        both = [args[2], args[5]]
        _build_add_slopes(ends, row, args[10], args[11], both, [args[:2], args[3:5]])
        return context.get_dummy_value()

    return (
        types.void(slopes, leaky, weights, s, t, w, x, index, e, used, row, slope, edges),
        build,
    )


def _build_add_slopes(ends, row, own, slope, weights, takers):
    """For each of the weights, of ``l(y)`` to its first taker, of ``l(y) y`` to its second."""
    builder = ends.builder
    walk = Walk.along(builder, row)

    def add(total, offset, length, term):
        before = load_from(builder, total, offset, length)
        store_to(builder, builder.fadd(before, term), total, offset)

    def at(start, *weights):
        def body(offset, length, *expanded):
            a, b = (load_from(builder, y, offset, length) for y in (own, start))
            pair = builder.fadd(a, b)
            slopes = _slope_at(builder, pair, slope)
            for weight, rows in zip(expanded, takers):
                term = builder.fmul(weight, slopes)
                add(rows[0], offset, length, term)
                for leaky in rows[1:]:
                    add(leaky, offset, length, builder.fmul(term, pair))

        walk.each(body, *weights)

    ends.with_weights(row.heads, weights, at)
