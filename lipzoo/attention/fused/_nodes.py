"""Kernels over nodes that the kinds of scores share: lengths, and what becomes of them backward."""

from __future__ import annotations

import math
from functools import cache
from types import SimpleNamespace

import numba
import numpy as np

from lipzoo.attention.fused._arithmetic import bounds
from lipzoo.attention.fused._rows import (
    add_product,
    add_shares,
    clear,
    dot,
    multiply,
    new_row,
    read,
    write,
)
from lipzoo.attention.fused._vectors import all_of, full, lane, larger, load, sqrt, store

__all__ = ["TINY", "make_node_kernels"]

#: Squares between these are far from over- and underflow, in float32.
_LOW, _HIGH = 1e-24, 1e36
#: What a shorter row is taken for zero at: the reciprocal of its length is not a number in float32.
TINY = {np.float32: np.float32(np.finfo(np.float32).tiny), np.float64: np.finfo(np.float64).tiny}


@cache
def make_node_kernels(H: int, D: int, dtype: str) -> SimpleNamespace:
    """The kernels for rows of H heads of D features; see ``make_kernels``."""
    ft = np.float64 if dtype == "float64" else np.float32
    tiny, low, high, zero = TINY[ft], ft(_LOW), ft(_HIGH), ft(0)
    BOTH = 2 * H
    kernel = numba.njit(nogil=True, error_model="numpy", cache=True)

    @kernel
    def row_products(chunk_from, chunk_to, v, a, to, column):
        """``to[:, column + h] = a·v`` per head."""
        own = new_row(zero, H, D)
        read(own, a, 0)
        for i in range(*bounds(chunk_from, chunk_to, v.shape[0])):
            store(to, i, column, dot(own, v, i))

    @kernel
    def lengths(chunk_from, chunk_to, v, to, column):
        """``to[:, column + h] = ||v_h||``, of any size: where squares do not do, those of ``v``
        over its largest entry. A row below ``tiny`` is as long as its largest entry."""
        row = new_row(zero, H, D)
        for j in range(*bounds(chunk_from, chunk_to, v.shape[0])):
            read(row, v, j)
            squares = dot(row, v, j)
            store(to, j, column, sqrt(squares))
            if all_of((squares > low) & (squares < high)):
                continue
            for h in range(H):
                largest = abs(lane(load(v, j, h * D, 1), 0))
                for k in range(h * D, (h + 1) * D):
                    largest = max(largest, abs(lane(load(v, j, k, 1), 0)))
                first = lane(load(v, j, h * D, 1), 0)
                square = first - first + 1  # or not a number
                if largest >= tiny:
                    square -= 1
                    for k in range(h * D, (h + 1) * D):
                        part = lane(load(v, j, k, 1), 0) / largest
                        square += part * part
                to[j, column + h] = largest * math.sqrt(square)

    @kernel
    def add_from_lengths(chunk_from, chunk_to, v, src, d_src, column, d_column, d_v):
        """``d_v += v / n d_n``, where the columns of ``src`` hold the lengths, of ``d_src`` their
        gradients."""
        own, sums = new_row(zero, H, D), new_row(zero, H, D)
        for j in range(*bounds(chunk_from, chunk_to, v.shape[0])):
            d_n = load(d_src, j, d_column, H)
            if all_of(d_n == zero):
                continue
            read(own, v, j)
            read(sums, d_v, j)
            n = load(src, j, column, H)
            add_shares(sums, own, n, d_n, n >= tiny)
            write(d_v, j, sums)

    @kernel
    def longest_in(chunk_from, chunk_to, edges, lengths, longest):
        """``longest[i, c]``: the largest ``lengths[j, c]`` among the in-neighbours ``j`` of a node,
        0 where there are none; two columns a head."""
        chunks, indptr, index, _ = edges
        for i in range(chunks[chunk_from], chunks[chunk_to]):
            found = full(zero, BOTH)
            for k in range(indptr[i], indptr[i + 1]):
                found = larger(found, load(lengths, index[k], 0, BOTH))
            store(longest, i, 0, found)

    @kernel
    def find_longest(chunk_from, chunk_to, edges, lengths, longest, winner):
        """The first in-neighbour that has what :func:`longest_in` found; -1 where none has."""
        chunks, indptr, index, _ = edges
        for i in range(chunks[chunk_from], chunks[chunk_to]):
            for c in range(lengths.shape[1]):
                winner[i, c] = -1
                for k in range(indptr[i], indptr[i + 1]):
                    if lengths[index[k], c] == longest[i, c]:
                        winner[i, c] = index[k]
                        break

    @kernel
    def multiply_rows(chunk_from, chunk_to, x, by, to):
        """``to = by x`` per head."""
        row = new_row(zero, H, D)
        for i in range(*bounds(chunk_from, chunk_to, x.shape[0])):
            read(row, x, i)
            multiply(row, load(by, i, 0, H))
            write(to, i, row)

    @kernel
    def multiply_back(chunk_from, chunk_to, x, by, slopes, d, products):
        """``products = d·(by x)`` per head, and ``d = by d + slopes products by x``: what
        :func:`multiply_rows` does, backward, where ``by`` follows from the length of ``x``."""
        row, sums = new_row(zero, H, D), new_row(zero, H, D)
        for i in range(*bounds(chunk_from, chunk_to, x.shape[0])):
            weights = load(by, i, 0, H)
            read(row, x, i)
            multiply(row, weights)
            product = dot(row, d, i)
            store(products, i, 0, product)
            read(sums, d, i)
            multiply(sums, weights)
            add_product(sums, load(slopes, i, 0, H) * product, row)
            write(d, i, sums)

    @kernel
    def give_to_winners(winner, d_dst, d_src):
        """``d_src[winner_ih, h] += d_dst[i, h]``: the gradient of a maximum."""
        for i in range(winner.shape[0]):
            for h in range(winner.shape[1]):
                if winner[i, h] >= 0:
                    d_src[winner[i, h], h] += d_dst[i, h]

    @kernel
    def combine(chunk_from, chunk_to, v, d_node, column, a, d_v, d_a):
        """``d_v += a d`` and ``d_a = sum_j d_j v_j``, in parts by chunk of nodes."""
        own, attn, sums = new_row(zero, H, D), new_row(zero, H, D), new_row(zero, H, D)
        read(attn, a, 0)
        for chunk in range(chunk_from, chunk_to):
            clear(sums)
            for j in range(*bounds(chunk, chunk + 1, d_node.shape[0])):
                d = load(d_node, j, column, H)
                read(own, v, j)
                add_product(sums, d, own)
                read(own, d_v, j)
                add_product(own, d, attn)
                write(d_v, j, own)
            write(d_a, chunk, sums)

    return SimpleNamespace(
        row_products=row_products,
        lengths=lengths,
        add_from_lengths=add_from_lengths,
        longest_in=longest_in,
        find_longest=find_longest,
        multiply_rows=multiply_rows,
        multiply_back=multiply_back,
        give_to_winners=give_to_winners,
        combine=combine,
    )
