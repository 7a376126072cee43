"""Sums over the heads of a row, in registers.

Lanes of two registers are added in neighbouring pairs, ``a0+a1, a2+a3, b0+b1, b2+b3`` within each
128 bits: two shuffles and an addition for two registers, on every machine. What is in which lane
is kept in a list, and a last permutation brings the heads in order.
"""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from lipzoo.attention.fused._llvm import shuffled

__all__ = ["Lanes", "sums_of_heads"]

#: Lanes that every machine shuffles in one instruction.
_QUAD = 4
#: Lanes of AVX2's registers.
_SHORT = 8


@dataclass(frozen=True)
class Lanes:
    """A vector, and which head each of its lanes is a part of: None where it is of none."""

    vector: ir.Value
    heads: list


def sums_of_heads(builder, pieces, heads):
    """``(heads,)`` sums of the lanes of each head, of pieces in the order of heads."""
    pieces = _added(builder, pieces)
    width = pieces[0].heads.count(pieces[0].heads[0])
    if width & (width - 1):
        pieces = [_padded(builder, piece, 1 << width.bit_length()) for piece in pieces]
    # Halves of a long head are added up without a shuffle where registers are as short.
    while len(pieces[0].heads) > _SHORT and set(pieces[0].heads) == {pieces[0].heads[0]}:
        pieces = [_folded(builder, piece) for piece in pieces]
    for _ in range(2 if heads > 1 else 0):
        if pieces[0].heads.count(pieces[0].heads[0]) > 1:
            pieces = _halved(builder, pieces)
    return _gathered(builder, pieces, heads)


def _added(builder, pieces):
    """Pieces that are of the same single head, in one."""
    found = {}
    for piece in pieces:
        found.setdefault(tuple(set(piece.heads)), []).append(piece)
    sums = []
    for same in found.values():
        total = same[0]
        for piece in same[1:]:
            other = piece
            if len(other.heads) < len(total.heads):
                other = _padded(builder, other, len(total.heads))
            total = Lanes(builder.fadd(total.vector, other.vector), total.heads)
        sums.append(total)
    return sums


def _padded(builder, piece, count):
    """A piece of one head with zeros behind."""
    length = len(piece.heads)
    zeros = ir.Constant(piece.vector.type, [0.0] * length)
    order = [min(k, length) for k in range(count)]
    return Lanes(shuffled(builder, piece.vector, zeros, order), piece.heads[:1] * count)


def _halved(builder, pieces):
    """Neighbouring lanes added up: of two pieces into one, of half as many for each head."""
    length = max(len(piece.heads) for piece in pieces)
    length += -length % _QUAD
    pieces = [_lengthened(builder, piece, length) for piece in pieces]
    sums = []
    for k in range(0, len(pieces), 2):
        a, b = pieces[k], pieces[min(k + 1, len(pieces) - 1)]
        even = [
            part + quad + lane
            for quad in range(0, length, _QUAD)
            for part in (0, length)
            for lane in (0, 2)
        ]
        terms = (shuffled(builder, a.vector, b.vector, [k + odd for k in even]) for odd in (0, 1))
        both = [*a.heads, *(b.heads if b is not a else [None] * length)]
        sums.append(Lanes(builder.fadd(*terms), [both[k] for k in even]))
    return sums


def _folded(builder, piece):
    """The upper half of a piece added to the lower."""
    half = len(piece.heads) // 2
    lower, upper = (
        shuffled(builder, piece.vector, piece.vector, range(k, k + half)) for k in (0, half)
    )
    return Lanes(builder.fadd(lower, upper), piece.heads[:half])


def _lengthened(builder, piece, length):
    """A piece with lanes of no head behind, to whole quads."""
    missing = length - len(piece.heads)
    if not missing:
        return piece
    order = [*range(len(piece.heads)), *[None] * missing]
    vector = shuffled(builder, piece.vector, piece.vector, order)
    return Lanes(vector, [*piece.heads, *[None] * missing])


def _gathered(builder, pieces, heads):
    """The heads in order; those in several lanes added up."""
    while True:
        half = len(pieces[0].heads) // 2
        if half == 0 or any(piece.heads[:half] != piece.heads[half:] for piece in pieces):
            break
        pieces = [_folded(builder, piece) for piece in pieces]
    vector, owners = pieces[0].vector, list(pieces[0].heads)
    for piece in pieces[1:]:
        longer = _lengthened(builder, piece, len(owners))
        vector = shuffled(builder, vector, longer.vector, range(2 * len(owners)))
        # The vector so far is as long as all before: pieces are doubled up to it.
        owners = [*owners, *longer.heads]
    places = [[k for k, owner in enumerate(owners) if owner == h] for h in range(heads)]
    total = None
    for turn in zip(*places):
        term = shuffled(builder, vector, vector, turn)
        total = term if total is None else builder.fadd(total, term)
    return total
