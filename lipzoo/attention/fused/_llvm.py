"""Instructions of LLVM that the kernels' intrinsics are made of.

Rows in bfloat16 are arrays of 16-bit integers, which NumPy and Numba have: the upper halves of
numbers in float32. They are widened where they are read, and rounded where they are written.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils

__all__ = [
    "broadcast",
    "concatenated",
    "int64",
    "literal",
    "load_from",
    "number_of",
    "pointer_to",
    "pointer_to_row",
    "shuffled",
    "size_of",
    "store_to",
]

_i16, _i32, _i64 = (ir.IntType(width) for width in (16, 32, 64))


def literal(*kinds):
    """Whether these arguments are constants."""
    return all(isinstance(kind, types.IntegerLiteral) for kind in kinds)


def int64(builder, value, integer_type):
    if value.type.width == 64:
        return value
    extend = builder.sext if integer_type.signed else builder.zext
    return extend(value, _i64)


def size_of(number):
    """Bytes of a number."""
    if isinstance(number, ir.IntType):
        return number.width // 8
    return 8 if isinstance(number, ir.DoubleType) else 4


def pointer_to(context, builder, array_type, value, position, kind):
    """Pointer to ``x[position]`` of a C-contiguous array of one dimension."""
    start = context.make_array(array_type)(context, builder, value).data
    return builder.gep(start, [int64(builder, position, kind)])


def pointer_to_row(context, builder, array_type, value, row, row_type):
    """Pointer to the start of a row of a C-contiguous (N, K) array."""
    view = context.make_array(array_type)(context, builder, value)
    length = cgutils.unpack_tuple(builder, view.shape, 2)[1]
    return builder.gep(view.data, [builder.mul(int64(builder, row, row_type), length)])


def number_of(dtype):
    """What the numbers of an array are computed in: float32 for bfloat16."""
    return types.float32 if dtype == types.int16 else dtype


def load_from(builder, start, offset, count):
    """``count`` numbers from ``offset`` on."""
    pointer = builder.gep(start, [offset])
    number = pointer.type.pointee
    pointer = builder.bitcast(pointer, ir.VectorType(number, count).as_pointer())
    found = builder.load(pointer, align=size_of(number))
    return _widened(builder, found) if number == _i16 else found


def store_to(builder, vector, start, offset):
    pointer = builder.gep(start, [offset])
    if pointer.type.pointee == _i16:
        vector = _rounded(builder, vector)
    pointer = builder.bitcast(pointer, vector.type.as_pointer())
    builder.store(vector, pointer, align=size_of(vector.type.element))


def _widened(builder, halves):
    """bfloat16 as float32, exactly."""
    bits = builder.zext(halves, ir.VectorType(_i32, halves.type.count))
    bits = builder.shl(bits, ir.Constant(bits.type, [16] * halves.type.count))
    return builder.bitcast(bits, ir.VectorType(ir.FloatType(), halves.type.count))


def _rounded(builder, vector):
    """float32 to the nearest bfloat16, ties to even; NaN stays NaN."""
    count = vector.type.count

    def constant(value):
        return ir.Constant(ir.VectorType(_i32, count), [value] * count)

    bits = builder.bitcast(vector, ir.VectorType(_i32, count))
    upper = builder.lshr(bits, constant(16))
    odd = builder.and_(upper, constant(1))
    nearest = builder.add(builder.add(bits, constant(0x7FFF)), odd)
    nearest = builder.lshr(nearest, constant(16))
    # Rounded, the bits of a NaN could become those of infinity.
    is_nan = builder.fcmp_unordered("uno", vector, vector)
    upper = builder.select(is_nan, builder.or_(upper, constant(0x40)), nearest)
    return builder.trunc(upper, ir.VectorType(_i16, count))


def broadcast(builder, number, count):
    """``count`` times the same number."""
    vector = ir.Constant(ir.VectorType(number.type, count), ir.Undefined)
    vector = builder.insert_element(vector, number, _i32(0))
    return shuffled(builder, vector, vector, [0] * count)


def shuffled(builder, a, b, order):
    """The lanes of ``a``, then ``b``, in this order; any number where it is None."""
    kind = ir.VectorType(_i32, len(order))
    entries = [ir.Constant(_i32, 0 if k is None else k) for k in order]
    return builder.shuffle_vector(a, b, ir.Constant(kind, entries))


def concatenated(builder, vectors):
    """``2**k`` vectors of one length, behind each other."""
    while len(vectors) > 1:
        order = range(2 * vectors[0].type.count)
        vectors = [shuffled(builder, a, b, order) for a, b in zip(vectors[::2], vectors[1::2])]
    return vectors[0]
