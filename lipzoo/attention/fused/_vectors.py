"""Vectors as values of kernels: H numbers, one a head, in as few registers as they fill.

Left to itself, LLVM turns a loop over 8 heads of 4 features into vector instructions that it
mostly spends on shuffling. Here a kernel says ``p = exp(s - top)`` of :class:`Vector` values, which
are vectors of LLVM: it cuts them to the registers that the machine has (AVX-512, AVX2, NEON), and
keeps them there from edge to edge.

No instruction is fused with another, or reordered, but inside of ``exp``: a score is the same to
the last bit wherever it is computed.
"""

from __future__ import annotations

import operator
from functools import partial

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable

from lipzoo.attention.fused._arithmetic import build_exp
from lipzoo.attention.fused._llvm import (
    broadcast,
    int64,
    load_from,
    number_of,
    pointer_to_row,
    store_to,
)

__all__ = [
    "Vector",
    "all_of",
    "any_of",
    "exp",
    "full",
    "lane",
    "larger",
    "load",
    "sqrt",
    "store",
    "where",
]


class Vector(types.Type):
    """``count`` numbers of one type."""

    def __init__(self, dtype: types.Type, count: int) -> None:
        self.dtype, self.count = dtype, count
        super().__init__(name=f"Vector({dtype}, {count})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        is_mask = kind.dtype == types.boolean
        element = ir.IntType(1) if is_mask else manager[kind.dtype].get_value_type()
        super().__init__(manager, kind, ir.VectorType(element, kind.count))


def _widened(context, builder, value, kind, like):
    """A value as a vector of type ``like``: itself, or a number that is broadcast."""
    if isinstance(kind, Vector):
        return value
    return broadcast(builder, context.cast(builder, value, kind, like.dtype), like.count)


def _vector_of(*kinds):
    """The one type of the vectors among these, with which numbers go."""
    vectors = {kind for kind in kinds if isinstance(kind, Vector)}
    others = [kind for kind in kinds if not isinstance(kind, Vector)]
    if len(vectors) != 1 or not all(isinstance(kind, types.Number) for kind in others):
        return None
    return vectors.pop()


def _operator(function, build, gives_mask=False):
    """``function`` of two vectors, or of a vector and a number."""

    @type_callable(function)
    def typed(context):
        def typer(a, b):
            vector = _vector_of(a, b)
            return Vector(types.boolean, vector.count) if vector and gives_mask else vector

        return typer

    def lowered(context, builder, signature, args):
        like = _vector_of(*signature.args)
        a, b = (_widened(context, builder, x, k, like) for x, k in zip(args, signature.args))
        return build(builder, a, b)

    for kinds in ((Vector, Vector), (Vector, types.Number), (types.Number, Vector)):
        lower_builtin(function, *kinds)(lowered)


_operator(operator.add, ir.IRBuilder.fadd)
_operator(operator.sub, ir.IRBuilder.fsub)
_operator(operator.mul, ir.IRBuilder.fmul)
_operator(operator.truediv, ir.IRBuilder.fdiv)
_operator(operator.and_, ir.IRBuilder.and_)
_operator(operator.or_, ir.IRBuilder.or_)


_COMPARISONS = {">": operator.gt, "<": operator.lt, ">=": operator.ge, "==": operator.eq}


def _compared(sign, builder, a, b):
    is_integer = isinstance(a.type.element, ir.IntType)
    return (builder.icmp_signed if is_integer else builder.fcmp_ordered)(sign, a, b)


for _function, _sign in (
    (operator.gt, ">"),
    (operator.lt, "<"),
    (operator.ge, ">="),
    (operator.eq, "=="),
):
    _operator(_function, partial(_compared, _sign), True)


def call_llvm(builder, name, x):
    """LLVM's function of a vector."""
    suffix = {ir.FloatType(): "f32", ir.DoubleType(): "f64"}[x.type.element]
    kind = ir.FunctionType(x.type, [x.type])
    name = f"llvm.{name}.v{x.type.count}{suffix}"
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [x])


@type_callable(abs)
def _type_abs(context):
    return lambda x: x if isinstance(x, Vector) else None


@lower_builtin(abs, Vector)
def _abs(context, builder, signature, args):
    return call_llvm(builder, "fabs", args[0])


@intrinsic
def sqrt(typing_context, x):
    """The square root of each number."""
    return x(x), lambda context, builder, signature, args: call_llvm(builder, "sqrt", args[0])


@intrinsic
def exp(typing_context, x):
    """``exp`` of each number, see ``build_exp``."""
    return x(x), lambda context, builder, signature, args: build_exp(builder, args[0])


@intrinsic
def larger(typing_context, a, b):
    """The larger of two numbers each; ``a`` where ``b`` is not a number."""

    def build(context, builder, signature, args):
        a, b = args
        return builder.select(builder.fcmp_ordered(">", b, a), b, a)

    return a(a, b), build


@intrinsic
def where(typing_context, mask, a, b):
    """``a`` where the mask says so, else ``b``; one of them may be a number."""
    kind = _vector_of(a, b)
    if kind is None:
        return None

    def build(context, builder, signature, args):
        a, b = (
            _widened(context, builder, x, k, kind) for x, k in zip(args[1:], signature.args[1:])
        )
        return builder.select(args[0], a, b)

    return kind(mask, a, b), build


@intrinsic
def any_of(typing_context, mask):
    """Whether the mask says so anywhere."""

    def build(context, builder, signature, args):
        bits = builder.bitcast(args[0], ir.IntType(mask.count))
        return builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))

    return types.boolean(mask), build


@intrinsic
def all_of(typing_context, mask):
    """Whether the mask says so everywhere."""

    def build(context, builder, signature, args):
        bits = builder.bitcast(args[0], ir.IntType(mask.count))
        return builder.icmp_unsigned("==", bits, ir.Constant(bits.type, -1))

    return types.boolean(mask), build


@intrinsic(prefer_literal=True)
def full(typing_context, value, count):
    """``count`` times ``value``."""
    if not isinstance(count, types.IntegerLiteral):
        return None
    number = types.unliteral(value)

    def build(context, builder, signature, args):
        value = context.cast(builder, args[0], signature.args[0], number)
        return broadcast(builder, value, count.literal_value)

    return Vector(number, count.literal_value)(value, count), build


@intrinsic(prefer_literal=True)
def load(typing_context, x, row, column, count):
    """``x[row, column : column + count]``."""
    if not isinstance(count, types.IntegerLiteral):
        return None

    def build(context, builder, signature, args):
        start = pointer_to_row(context, builder, x, args[0], args[1], signature.args[1])
        column = int64(builder, args[2], signature.args[2])
        return load_from(builder, start, column, count.literal_value)

    return Vector(number_of(x.dtype), count.literal_value)(x, row, column, count), build


@intrinsic
def store(typing_context, x, row, column, value):
    """``x[row, column : column + count] = value``."""

    def build(context, builder, signature, args):
        start = pointer_to_row(context, builder, x, args[0], args[1], signature.args[1])
        store_to(builder, args[3], start, int64(builder, args[2], signature.args[2]))
        return context.get_dummy_value()

    return types.void(x, row, column, value), build


@intrinsic
def lane(typing_context, x, k):
    """One number of a vector."""

    def build(context, builder, signature, args):
        return builder.extract_element(args[0], int64(builder, args[1], k))

    return x.dtype(x, k), build
