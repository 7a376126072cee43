"""Operations on rows of H heads of D features as explicit vector instructions.

Left to itself, LLVM turns a loop over 8 heads of 8 features into vector instructions *across*
heads, and spends most of them on shuffling rows in and out of that order. These intrinsics say
how: a head's features fill a register, its weight is broadcast, heads follow one another.

Each works on one row that is gathered from an array (N, H * D) and on scratch ``S``, an array
of one dimension; the other arguments are offsets into ``S``, and constants.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from lipzoo.attention.fused._arithmetic import FAST, build_exp

__all__ = [
    "AHEAD",
    "add_rows",
    "add_slopes",
    "copy_row",
    "dot_rows",
    "exp_row",
    "give_to_winners",
    "pair_scores",
    "prefetch",
]

#: Edges that a row is asked for before its turn, and cache lines of it.
AHEAD = 8
_PREFETCH_LINES = 4

#: Widest vector, in bytes: a register of AVX-512, which LLVM splits for smaller ones.
_WIDEST = 64
#: Heads up to this many vectors in a row are written out one after the other, so that sums stay
#: in registers from edge to edge; longer rows take a loop.
_UNROLLED = 16

_i32, _i64 = ir.IntType(32), ir.IntType(64)


def _literals(*arguments):
    return all(isinstance(a, types.IntegerLiteral) for a in arguments)


def _data(context, builder, array_type, value):
    return context.make_array(array_type)(context, builder, value)


def _int64(builder, value, integer_type):
    if value.type.width == 64:
        return value
    extend = builder.sext if integer_type.signed else builder.zext
    return extend(value, _i64)


def _offsets(builder, signature, args, begin, end):
    return [_int64(builder, args[k], signature.args[k]) for k in range(begin, end)]


def _row(context, builder, array_type, value, row, row_type):
    """Pointer to the start of a row of a C-contiguous (N, K) array."""
    view = _data(context, builder, array_type, value)
    length = cgutils.unpack_tuple(builder, view.shape, 2)[1]
    return builder.gep(view.data, [builder.mul(_int64(builder, row, row_type), length)])


@dataclass(frozen=True)
class _Rows:
    """What the intrinsics share: scratch ``S``, one gathered row, and H heads of D features."""

    builder: ir.IRBuilder
    number: ir.Type
    itemsize: int
    scratch: ir.Value
    row: ir.Value
    heads: int
    width: int

    @classmethod
    def open(cls, context, builder, signature, args, heads, width):
        """``args`` are scratch, the array, the row, then what the caller takes itself."""
        kind = signature.args[0].dtype
        return cls(
            builder,
            context.get_data_type(kind),
            kind.bitwidth // 8,
            _data(context, builder, signature.args[0], args[0]).data,
            _row(context, builder, signature.args[1], args[1], args[2], signature.args[2]),
            heads.literal_value,
            width.literal_value,
        )

    def vectors(self):
        """(offset, length) of the vectors that cover a head."""
        longest = _WIDEST // self.itemsize
        return [(k, min(longest, self.width - k)) for k in range(0, self.width, longest)]

    def each_head(self, body):
        """``body(h, start)`` for each head; written out where rows are short."""
        if self.heads * len(self.vectors()) <= _UNROLLED:
            for h in range(self.heads):
                body(_i64(h), _i64(h * self.width))
        else:
            with cgutils.for_range(self.builder, _i64(self.heads)) as loop:
                body(loop.index, self.builder.mul(loop.index, _i64(self.width)))

    def at(self, *terms):
        """The sum of offsets."""
        return reduce(self.builder.add, terms)

    def number_at(self, offset):
        return self.builder.gep(self.scratch, [offset])

    def load(self, start, offset, length):
        pointer = self.builder.gep(start, [offset])
        pointer = self.builder.bitcast(pointer, ir.VectorType(self.number, length).as_pointer())
        return self.builder.load(pointer, align=self.itemsize)

    def store(self, vector, offset):
        pointer = self.builder.bitcast(self.number_at(offset), vector.type.as_pointer())
        self.builder.store(vector, pointer, align=self.itemsize)

    def broadcast(self, number, length):
        vector = ir.Constant(ir.VectorType(self.number, length), ir.Undefined)
        vector = self.builder.insert_element(vector, number, _i32(0))
        mask = ir.Constant(ir.VectorType(_i32, length), [0] * length)
        return self.builder.shuffle_vector(vector, vector, mask)

    def add_product(self, total, a, b):
        product = self.builder.fmul(a, b, flags=FAST)
        return product if total is None else self.builder.fadd(total, product, flags=FAST)

    def leaky_slope(self, x, slope, length):
        """The slope of the LeakyReLU at each ``x``."""
        zero = ir.Constant(x.type, [0.0] * length)
        one = ir.Constant(x.type, [1.0] * length)
        positive = self.builder.fcmp_ordered(">", x, zero)
        return self.builder.select(positive, one, self.broadcast(slope, length))

    def store_sum(self, totals, offset):
        """Store the sum of the entries of vectors, {length: vector}."""
        kind = "f64" if isinstance(self.number, ir.DoubleType) else "f32"
        result = self.number(0.0)
        for length, vector in totals.items():
            function = cgutils.get_or_insert_function(
                self.builder.module,
                ir.FunctionType(self.number, [self.number, vector.type]),
                f"llvm.vector.reduce.fadd.v{length}{kind}",
            )
            result = self.builder.call(function, [result, vector], fastmath=FAST)
        self.builder.store(result, self.number_at(offset))


@intrinsic(prefer_literal=True)
def copy_row(typing_context, scratch, x, row, out, count):
    """``S[out + k] = x[row, k]`` for ``k < count``.

    Loops over heads that then touch ``S`` alone become vector instructions. LLVM does not do
    that for so few iterations where it would have to check that two arrays do not overlap.
    """
    if not _literals(count):
        return None

    def build(context, builder, signature, args):
        rows = _Rows.open(context, builder, signature, args, types.literal(1), count)
        (to,) = _offsets(builder, signature, args, 3, 4)
        for offset, length in rows.vectors():
            value = rows.load(rows.row, _i64(offset), length)
            rows.store(value, rows.at(to, _i64(offset)))
        return context.get_dummy_value()

    return types.void(scratch, x, row, out, count), build


@intrinsic(prefer_literal=True)
def exp_row(typing_context, scratch, x, out, count):
    """``S[out + k] = exp(S[x + k])`` for ``k < count``: see ``build_exp``."""
    if not _literals(count):
        return None

    def build(context, builder, signature, args):
        S = _data(context, builder, signature.args[0], args[0]).data
        number = context.get_data_type(signature.args[0].dtype)
        is_double = isinstance(number, ir.DoubleType)
        start, to = _offsets(builder, signature, args, 1, 3)
        longest, align = (1, 8) if is_double else (_WIDEST // 4, 4)
        for k in range(0, count.literal_value, longest):
            kind = ir.VectorType(number, min(longest, count.literal_value - k))
            x, y = (
                builder.bitcast(builder.gep(S, [builder.add(offset, _i64(k))]), kind.as_pointer())
                for offset in (start, to)
            )
            value = build_exp(builder, builder.load(x, align=align))
            builder.store(value, y, align=align)
        return context.get_dummy_value()

    return types.void(scratch, x, out, count), build


@intrinsic(prefer_literal=True)
def add_rows(typing_context, scratch, x, row, weights, sums, heads, width, count):
    """``S[sums + t HD + hD + d] += S[weights + t H + h] x[row, hD + d]`` for ``t < count``:
    ``count`` weighted sums of the same row."""
    if not _literals(heads, width, count):
        return None

    def build(context, builder, signature, args):
        rows = _Rows.open(context, builder, signature, args, heads, width)
        w, acc = _offsets(builder, signature, args, 3, 5)

        def head(h, start):
            weight = [
                builder.load(rows.number_at(rows.at(w, h, _i64(t * rows.heads))))
                for t in range(count.literal_value)
            ]
            for offset, length in rows.vectors():
                here = rows.at(start, _i64(offset))
                value = rows.load(rows.row, here, length)
                for t, number in enumerate(weight):
                    place = rows.at(acc, here, _i64(t * rows.heads * rows.width))
                    total = rows.load(rows.scratch, place, length)
                    weighted = rows.add_product(total, rows.broadcast(number, length), value)
                    rows.store(weighted, place)

        rows.each_head(head)
        return context.get_dummy_value()

    return types.void(scratch, x, row, weights, sums, heads, width, count), build


@intrinsic(prefer_literal=True)
def dot_rows(typing_context, scratch, x, row, own, out, heads, width):
    """``S[out + h] = sum_d S[own + hD + d] x[row, hD + d]``."""
    if not _literals(heads, width):
        return None

    def build(context, builder, signature, args):
        rows = _Rows.open(context, builder, signature, args, heads, width)
        mine, to = _offsets(builder, signature, args, 3, 5)

        def head(h, start):
            totals = {}
            for offset, length in rows.vectors():
                here = rows.at(start, _i64(offset))
                a = rows.load(rows.scratch, rows.at(mine, here), length)
                b = rows.load(rows.row, here, length)
                totals[length] = rows.add_product(totals.get(length), a, b)
            rows.store_sum(totals, rows.at(to, h))

        rows.each_head(head)
        return context.get_dummy_value()

    return types.void(scratch, x, row, own, out, heads, width), build


@intrinsic(prefer_literal=True)
def pair_scores(typing_context, scratch, x, row, own, attn, out, slope, heads, width):
    """``S[out + h] = sum_d S[attn + hD + d] LeakyReLU(S[own + hD + d] + x[row, hD + d])``."""
    if not _literals(heads, width):
        return None

    def build(context, builder, signature, args):
        rows = _Rows.open(context, builder, signature, args, heads, width)
        mine, vectors, to = _offsets(builder, signature, args, 3, 6)

        def head(h, start):
            totals = {}
            for offset, length in rows.vectors():
                here = rows.at(start, _i64(offset))
                a = rows.load(rows.scratch, rows.at(mine, here), length)
                pair = builder.fadd(a, rows.load(rows.row, here, length), flags=FAST)
                leaky = builder.fmul(pair, rows.leaky_slope(pair, args[6], length), flags=FAST)
                attn_here = rows.load(rows.scratch, rows.at(vectors, here), length)
                totals[length] = rows.add_product(totals.get(length), attn_here, leaky)
            rows.store_sum(totals, rows.at(to, h))

        rows.each_head(head)
        return context.get_dummy_value()

    return types.void(scratch, x, row, own, attn, out, slope, heads, width), build


@intrinsic(prefer_literal=True)
def add_slopes(typing_context, scratch, x, row, own, weights, sums, slope, heads, width, count):
    """With ``y = S[own + hD + d] + x[row, hD + d]``, ``S[sums + hD + d] += S[weights + h] l(y)``
    for the slope ``l`` of the LeakyReLU, and for ``count == 2`` the same of ``l(y) y`` behind."""
    if not _literals(heads, width, count):
        return None

    def build(context, builder, signature, args):
        rows = _Rows.open(context, builder, signature, args, heads, width)
        mine, w, acc = _offsets(builder, signature, args, 3, 6)

        def head(h, start):
            number = builder.load(rows.number_at(rows.at(w, h)))
            for offset, length in rows.vectors():
                here = rows.at(start, _i64(offset))
                a = rows.load(rows.scratch, rows.at(mine, here), length)
                pair = builder.fadd(a, rows.load(rows.row, here, length), flags=FAST)
                term = rows.leaky_slope(pair, args[6], length)
                for t in range(count.literal_value):
                    term = builder.fmul(term, pair, flags=FAST) if t else term
                    place = rows.at(acc, here, _i64(t * rows.heads * rows.width))
                    total = rows.load(rows.scratch, place, length)
                    rows.store(rows.add_product(total, rows.broadcast(number, length), term), place)

        rows.each_head(head)
        return context.get_dummy_value()

    return types.void(scratch, x, row, own, weights, sums, slope, heads, width, count), build


@intrinsic
def prefetch(typing_context, array, row):
    """Ask for the start of ``array[row]`` ahead of its use; what follows it the processor's own
    prefetcher finds."""

    def build(context, builder, signature, args):
        start = _row(context, builder, signature.args[0], args[0], args[1], signature.args[1])
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, _i32, _i32, _i32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        start = builder.bitcast(start, byte)
        for line in range(_PREFETCH_LINES):
            address = builder.gep(start, [_i64(64 * line)])
            builder.call(function, [address, _i32(0), _i32(3), _i32(1)])
        return context.get_dummy_value()

    return types.void(array, row), build


@numba.njit(cache=True)
def give_to_winners(winner, d_dst, d_src, column):
    """``d_src[winner_ih, column + h] += d_dst[i, column + h]``: the gradient of a maximum."""
    for i in range(winner.shape[0]):
        for h in range(winner.shape[1]):
            if winner[i, h] >= 0:
                d_src[winner[i, h], column + h] += d_dst[i, column + h]
