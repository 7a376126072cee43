"""CPU kernels for additive scores: one pass an edge forward, two backward, nothing E x H stored.

Layout. Per source node a row ``src = [el | n]`` of 2H numbers (``a_l·v`` and ``||v||²``), per
destination node a row ``dst = [er | M | shift | 1/z | c]`` of 5H: ``a_r·v``, the largest
``||v||²`` among the in-neighbours, what the softmax is shifted by, its denominator, and (in the
backward pass) ``g·out``. A source row of 8 heads is one cache line.

Each kernel keeps its scratch in *one* array ``S`` at constant offsets: LLVM then knows that the
parts do not overlap and turns the loops over heads into vector instructions.

With ``x = el_j + er_i``, ``f = slope(x) scale / sqrt(M_i + n_j)`` and ``s = f x``::

    forward    p = exp(s - shift) / z        out_i = sum_j m p v_j      (m: dropout mask / keep)
    backward   ds = p (m g_i·v_j - c_i)      c_i = g_i·out_i
               d el_j += ds f                d er_i += ds f
               d n_j  -= ds s / 2(M_i + n_j)  and the same to d M_i
               d v_j  += m p g_i

No product ``g_i·v_j`` of an edge is ever formed: a sum over ``j`` of ``w_ij ds_ij`` is
``g_i · (sum_j w m p v_j) - c_i sum_j w p``, and the sum in brackets is a weighted sum of rows,
like the output itself. Sums of rows run along the vector registers, products across them. And
since ``s`` is linear in ``el`` and ``er``, ``scale d scale = sum_j el d el + sum_i er d er``.
"""

from __future__ import annotations

import math
from functools import cache
from types import SimpleNamespace

import numba
import numpy as np

from lipzoo.attention.fused._arithmetic import (
    BLOCK,
    FAST,
    bounds,
    edge_bits,
    exp,
    flush,
    keep,
    threshold_of,
)
from lipzoo.attention.fused._rows import AHEAD, add_rows, copy_row, give_to_winners, prefetch

__all__ = ["make_kernels"]


@cache
def make_kernels(H: int, D: int, has_norm: bool, is_double: bool) -> SimpleNamespace:
    """The kernels for H heads of D features; constants, so that loops unroll.

    Parameters
    ----------
    H, D : int
        Heads, features per head.
    has_norm : bool
        Divide by ``sqrt(M_i + n_j)`` (LipschitzNorm).
    is_double : bool
        float64 instead of float32.
    """
    ft = np.float64 if is_double else np.float32
    tiny = ft(np.finfo(ft).tiny)
    lowest = ft(np.finfo(ft).min)
    zero, one, half, two = ft(0), ft(1), ft(0.5), ft(2)
    HD = H * D
    SRC, DST = 2 * H if has_norm else H, 5 * H
    OUT_SUMS, IN_SUMS = (3, 2) if has_norm else (2, 1)
    # Columns of a source row and of a destination row.
    N = H
    M, SHIFT, INV_Z, C = H, 2 * H, 3 * H, 4 * H
    kernel = numba.njit(nogil=True, fastmath=set(FAST), error_model="numpy", cache=True)

    @kernel
    def source_rows(chunk_from, chunk_to, v, a, src):
        for j in range(*bounds(chunk_from, chunk_to, v.shape[0])):
            for h in range(H):
                dot = zero
                square = zero
                for d in range(D):
                    dot += v[j, h * D + d] * a[h * D + d]
                    square += v[j, h * D + d] * v[j, h * D + d]
                src[j, h] = dot
                src[j, N + h] = square

    @kernel
    def row_products(chunk_from, chunk_to, x, y, dst, column):
        """``dst[:, column:column + H] = x·y`` per head; ``y`` has one row, or one a node."""
        step = 1 if y.shape[0] > 1 else 0
        for i in range(*bounds(chunk_from, chunk_to, dst.shape[0])):
            for h in range(H):
                dot = zero
                for d in range(D):
                    dot += x[i, h * D + d] * y[i * step, h * D + d]
                dst[i, column + h] = dot

    @kernel
    def forward(
        chunk_from,
        chunk_to,
        chunks,
        indptr,
        index,
        edge,
        v,
        src,
        dst,
        scale,
        shifted,
        slope,
        seed,
        kept,
        out,
    ):
        SUMS = HD + H
        threshold = threshold_of(kept)
        for chunk in range(chunk_from, chunk_to):
            # sums: sum p m v (HD), z | totals | M | shift | er | weight | scale | row of src (2H)
            S = np.empty(2 * SUMS + 7 * H, ft)
            z, m = HD, 2 * SUMS
            top, er, w, sc, far = m + H, m + 2 * H, m + 3 * H, m + 4 * H, m + 5 * H
            for h in range(H):
                S[sc + h] = scale[h]
            last = index.shape[0] - 1
            for i in range(chunks[chunk], chunks[chunk + 1]):
                begin = indptr[i]
                end = indptr[i + 1]
                for k in range(2 * SUMS):
                    S[k] = zero
                for h in range(H):
                    S[m + h] = zero
                    S[top + h] = lowest
                    S[er + h] = dst[i, h]
                if has_norm:
                    for e in range(begin, end):
                        copy_row(S, src, index[e], far, SRC)
                        for h in range(H):
                            S[m + h] = max(S[m + h], S[far + N + h])
                if shifted and has_norm:
                    for e in range(begin, end):
                        copy_row(S, src, index[e], far, SRC)
                        for h in range(H):
                            x = S[far + h] + S[er + h]
                            square = S[m + h] + S[far + N + h]
                            root = ft(square >= tiny) / math.sqrt(square + tiny)
                            s = max(x, slope * x) * S[sc + h] * root
                            S[top + h] = max(S[top + h], s)
                elif shifted:
                    # LeakyReLU grows with its argument: the largest score is the largest el's.
                    for e in range(begin, end):
                        copy_row(S, src, index[e], far, SRC)
                        for h in range(H):
                            S[top + h] = max(S[top + h], S[far + h])
                    for h in range(H):
                        x = S[top + h] + S[er + h]
                        S[top + h] = max(x, slope * x)
                else:
                    for h in range(H):
                        S[top + h] = zero
                for start in range(begin, end, BLOCK):
                    for e in range(start, min(start + BLOCK, end)):
                        j = index[e]
                        prefetch(v, index[min(e + AHEAD, last)])
                        copy_row(S, src, j, far, SRC)
                        for h in range(H):
                            S[w + h] = one
                        if kept < one:
                            bits = edge_bits(edge[e], seed)
                            for h in range(H):
                                S[w + h] = S[w + h] if keep(bits, h, threshold) else zero
                        for h in range(H):
                            x = S[far + h] + S[er + h]
                            s = max(x, slope * x)
                            if has_norm:
                                square = S[m + h] + S[far + N + h]
                                root = ft(square >= tiny) / math.sqrt(square + tiny)
                                s = s * S[sc + h] * root
                            p = exp(s - S[top + h])
                            S[z + h] += p
                            S[w + h] *= p
                        add_rows(S, v, j, w, 0, H, D, 1)
                    flush(S, SUMS)
                for h in range(H):
                    inv_z = one / S[SUMS + z + h] if end > begin else zero
                    dst[i, M + h] = S[m + h]
                    dst[i, SHIFT + h] = S[top + h] if end > begin else zero
                    dst[i, INV_Z + h] = inv_z
                    factor = inv_z / kept
                    for d in range(D):
                        out[i, h * D + d] = S[SUMS + h * D + d] * factor

    @kernel
    def backward_out_edges(
        chunk_from,
        chunk_to,
        chunks,
        indptr,
        index,
        edge,
        v,
        src,
        dst,
        scale,
        slope,
        seed,
        kept,
        g,
        d_v,
        d_src,
    ):
        SUMS = 3 * HD + 2 * H
        threshold = threshold_of(kept)
        inv_kept = one / kept
        for chunk in range(chunk_from, chunk_to):
            # sums: sum p m g, sum p m f g, sum p m q g (HD each), d el, d n | totals |
            # p m | p m f | p m q | el | n | scale | row of dst (5H)
            S = np.empty(2 * SUMS + 11 * H, ft)
            d_el, d_n, w = 3 * HD, 3 * HD + H, 2 * SUMS
            wf, wq, el, n, sc = w + H, w + 2 * H, w + 3 * H, w + 4 * H, w + 5 * H
            far = w + 6 * H
            last = index.shape[0] - 1
            for h in range(H):
                S[sc + h] = scale[h]
            for j in range(chunks[chunk], chunks[chunk + 1]):
                for k in range(2 * SUMS):
                    S[k] = zero
                for h in range(H):
                    S[el + h] = src[j, h]
                    S[n + h] = src[j, N + h]
                end = indptr[j + 1]
                for start in range(indptr[j], end, BLOCK):
                    for e in range(start, min(start + BLOCK, end)):
                        i = index[e]
                        ahead = index[min(e + AHEAD, last)]
                        prefetch(g, ahead)
                        prefetch(dst, ahead)
                        copy_row(S, dst, i, far, DST)
                        for h in range(H):
                            S[w + h] = inv_kept
                        if kept < one:
                            bits = edge_bits(edge[e], seed)
                            for h in range(H):
                                S[w + h] = S[w + h] if keep(bits, h, threshold) else zero
                        for h in range(H):
                            x = S[el + h] + S[far + h]
                            f = one if x > zero else slope
                            if has_norm:
                                square = S[far + M + h] + S[n + h]
                                root = ft(square >= tiny) / math.sqrt(square + tiny)
                                f = f * S[sc + h] * root
                            s = f * x
                            p = exp(s - S[far + SHIFT + h]) * S[far + INV_Z + h]
                            pm = p * S[w + h]
                            S[w + h] = pm
                            S[wf + h] = pm * f
                            S[d_el + h] += p * f * S[far + C + h]
                            if has_norm:
                                q = s * root * root
                                S[wq + h] = pm * q
                                S[d_n + h] += p * q * S[far + C + h]
                        add_rows(S, g, i, w, 0, H, D, OUT_SUMS)
                    flush(S, SUMS)
                for h in range(H):
                    by_el = zero
                    by_n = zero
                    for d in range(D):
                        k = h * D + d
                        d_v[j, k] = S[SUMS + k]
                        by_el += S[SUMS + HD + k] * v[j, k]
                        by_n += S[SUMS + 2 * HD + k] * v[j, k]
                    d_src[j, h] = by_el - S[SUMS + d_el + h]
                    d_src[j, N + h] = half * (S[SUMS + d_n + h] - by_n)

    @kernel
    def backward_in_edges(
        chunk_from,
        chunk_to,
        chunks,
        indptr,
        index,
        edge,
        v,
        src,
        dst,
        scale,
        slope,
        seed,
        kept,
        g,
        d_dst,
        winner,
    ):
        SUMS = 2 * HD + 2 * H
        threshold = threshold_of(kept)
        inv_kept = one / kept
        for chunk in range(chunk_from, chunk_to):
            # sums: sum p m f v, sum p m q v (HD each), d er, d M | totals | p m f | p m q |
            # row of dst (5H) | scale | in-edge that attains M, counted from the node's first |
            # row of src (2H)
            S = np.empty(2 * SUMS + 11 * H, ft)
            d_er, d_m, wf = 2 * HD, 2 * HD + H, 2 * SUMS
            wq, own, sc, first = wf + H, wf + 2 * H, wf + 7 * H, wf + 8 * H
            far = wf + 9 * H
            last = index.shape[0] - 1
            for h in range(H):
                S[sc + h] = scale[h]
            for i in range(chunks[chunk], chunks[chunk + 1]):
                for k in range(2 * SUMS):
                    S[k] = zero
                for k in range(5 * H):
                    S[own + k] = dst[i, k]
                for h in range(H):
                    S[first + h] = -one
                begin = indptr[i]
                end = indptr[i + 1]
                for start in range(begin, end, BLOCK):
                    for e in range(start, min(start + BLOCK, end)):
                        j = index[e]
                        prefetch(v, index[min(e + AHEAD, last)])
                        copy_row(S, src, j, far, SRC)
                        for h in range(H):
                            S[wf + h] = inv_kept
                        if kept < one:
                            bits = edge_bits(edge[e], seed)
                            for h in range(H):
                                S[wf + h] = S[wf + h] if keep(bits, h, threshold) else zero
                        for h in range(H):
                            x = S[far + h] + S[own + h]
                            f = one if x > zero else slope
                            if has_norm:
                                square = S[own + M + h] + S[far + N + h]
                                root = ft(square >= tiny) / math.sqrt(square + tiny)
                                f = f * S[sc + h] * root
                            s = f * x
                            p = exp(s - S[own + SHIFT + h]) * S[own + INV_Z + h]
                            pm = p * S[wf + h]
                            S[wf + h] = pm * f
                            S[d_er + h] += p * f
                            if has_norm:
                                q = s * root * root
                                S[wq + h] = pm * q
                                S[d_m + h] += p * q
                                is_first = S[first + h] < zero
                                attains = S[far + N + h] == S[own + M + h]
                                S[first + h] = ft(e - begin) if attains & is_first else S[first + h]
                        add_rows(S, v, j, wf, 0, H, D, IN_SUMS)
                    flush(S, SUMS)
                for h in range(H):
                    by_er = zero
                    by_m = zero
                    for d in range(D):
                        k = h * D + d
                        by_er += S[SUMS + k] * g[i, k]
                        by_m += S[SUMS + HD + k] * g[i, k]
                    c = S[own + C + h]
                    d_dst[i, h] = by_er - c * S[SUMS + d_er + h]
                    d_dst[i, M + h] = half * (c * S[SUMS + d_m + h] - by_m)
                    place = np.int64(S[first + h])
                    winner[i, h] = index[begin + place] if place >= 0 else -1

    @kernel
    def combine(chunk_from, chunk_to, v, d_node, column_n, a, d_v, d_a):
        """``d_v += a d + 2 v d_n`` and ``d_a = sum_j d_j v_j``, in parts by chunk of nodes."""
        num_nodes = d_node.shape[0]
        for chunk in range(chunk_from, chunk_to):
            S = np.zeros(HD, ft)
            for j in range(*bounds(chunk, chunk + 1, num_nodes)):
                for h in range(H):
                    by = d_node[j, h]
                    twice = two * d_node[j, column_n + h] if column_n > 0 else zero
                    for d in range(D):
                        k = h * D + d
                        S[k] += by * v[j, k]
                        d_v[j, k] += by * a[k] + twice * v[j, k]
            for k in range(HD):
                d_a[chunk, k] = S[k]

    return SimpleNamespace(
        source_rows=source_rows,
        row_products=row_products,
        give_to_winners=give_to_winners,
        forward=forward,
        backward_out_edges=backward_out_edges,
        backward_in_edges=backward_in_edges,
        combine=combine,
    )
