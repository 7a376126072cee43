"""Operations on rows of H heads of D features as explicit vector instructions.

Left to itself, LLVM turns a loop over 8 heads of 8 features into vector instructions *across*
heads, and spends most of them on shuffling rows in and out of that order. These intrinsics say
how: a head's features fill a register, its weight is broadcast, heads follow one another.

Each works on one row that is gathered from an array (N, H * D) and on scratch ``S``, an array
of one dimension; the other arguments are offsets into ``S``, and constants.

No instruction is fused with another, or reordered. So scores and products (:func:`dot_rows`,
:func:`pair_scores`) are the same to the last bit wherever they are computed, with either end of the
edge as the gathered row, and terms that cancel each other leave nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from lipzoo.attention.fused._arithmetic import build_exp

__all__ = [
    "AHEAD",
    "add_rows",
    "add_slopes",
    "copy_row",
    "dot_rows",
    "exp_row",
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
        product = self.builder.fmul(a, b)
        return product if total is None else self.builder.fadd(total, product)

    def leaky_slope(self, x, slope, length):
        """The slope of the LeakyReLU at each ``x``."""
        zero = ir.Constant(x.type, [0.0] * length)
        one = ir.Constant(x.type, [1.0] * length)
        positive = self.builder.fcmp_ordered(">", x, zero)
        return self.builder.select(positive, one, self.broadcast(slope, length))

    def sums_of_heads(self, terms, out):
        """``S[out + h]`` = the sum over d of the vectors that ``terms(start, length)``
        gives for head ``h``; the order of additions depends on H and D alone."""
        pending = []

        def head(h, start):
            totals = {}
            for offset, length in self.vectors():
                term = terms(self.at(start, _i64(offset)), length)
                known = totals.get(length)
                totals[length] = term if known is None else self.builder.fadd(known, term)
            # One vector; what is left of a head that no vector divides goes into its start.
            total, *rest = totals.values()
            for shorter in rest:
                total = self.builder.fadd(total, self._padded(shorter, total.type.count))
            while total.type.count > max(1, self.heads) or total.type.count & total.type.count - 1:
                total = self._folded(total)
            if isinstance(h, ir.Constant) and total.type.count > 1:
                pending.append(total)
                if len(pending) == self.heads:
                    self._store_transposed(pending, out)
                return
            while total.type.count > 1:
                total = self._folded(total)
            self.store(total, self.at(out, h))

        self.each_head(head)

    def _shuffled(self, a, b, order):
        mask = ir.Constant(ir.VectorType(_i32, len(order)), list(order))
        return self.builder.shuffle_vector(a, b, mask)

    def _padded(self, vector, length):
        """The vector with zeros behind, of this length."""
        zeros = ir.Constant(vector.type, [0.0] * vector.type.count)
        count = vector.type.count
        return self._shuffled(vector, zeros, [min(k, count) for k in range(length)])

    def _folded(self, vector):
        """The upper half of a vector added to the lower."""
        count = vector.type.count
        half = (count + 1) // 2
        upper = self._shuffled(vector, vector, range(half, count))
        if half > count - half:
            upper = self._padded(upper, half)
        return self.builder.fadd(self._shuffled(vector, vector, range(half)), upper)

    def _store_transposed(self, vectors, out):
        """Sums of the entries of H vectors, at ``out``: neighbours add up to half as many vectors
        with half of each, so that no number leaves the registers by itself."""
        length = vectors[0].type.count
        for first in range(0, len(vectors), length):
            group = vectors[first : first + length]
            count = len(group)
            group += [group[-1]] * (length - count)
            while len(group) > 1:
                even = range(0, 2 * length, 2)
                group = [
                    self.builder.fadd(
                        self._shuffled(a, b, even), self._shuffled(a, b, [k + 1 for k in even])
                    )
                    for a, b in zip(group[::2], group[1::2])
                ]
            sums = group[0]
            if count < length:
                sums = self._shuffled(sums, sums, range(count))
            self.store(sums, self.at(out, _i64(first)))


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

        def product(here, length):
            a = rows.load(rows.scratch, rows.at(mine, here), length)
            return builder.fmul(a, rows.load(rows.row, here, length))

        rows.sums_of_heads(product, to)
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

        def product(here, length):
            a = rows.load(rows.scratch, rows.at(mine, here), length)
            pair = builder.fadd(a, rows.load(rows.row, here, length))
            leaky = builder.fmul(pair, rows.leaky_slope(pair, args[6], length))
            return builder.fmul(rows.load(rows.scratch, rows.at(vectors, here), length), leaky)

        rows.sums_of_heads(product, to)
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
                pair = builder.fadd(a, rows.load(rows.row, here, length))
                term = rows.leaky_slope(pair, args[6], length)
                for t in range(count.literal_value):
                    term = builder.fmul(term, pair) if t else term
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
