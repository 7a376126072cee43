"""CPU kernels for GATv2 scores: one pass an edge forward, two backward, nothing E x H stored.

Layout. Per source node its squared length, ``src = [n]``; per destination node a row
``dst = [M | shift | 1/z | c | own]`` of 5H: the largest of ``||v_j||²`` among the in-neighbours
and ``||t_i||²``, what the softmax is shifted by, its denominator, (in the backward pass)
``g·out``, and ``||t_i||²``. Scratch is one array ``S``, as in ``additive_kernels``.

With ``y = v_j + t_i``, ``f = scale / sqrt(M_i + n_j)`` and ``s = f a·LeakyReLU(y)``::

    forward    p = exp(s - shift) / z        out_i = sum_j m p v_j      (m: dropout mask / keep)
    backward   ds = p (m g_i·v_j - c_i)      c_i = g_i·out_i
               d v_j += m p g_i + ds f a l(y)      d t_i += ds f a l(y)    (l: LeakyReLU's slope)
               d a   += ds f l(y) y
               d n_j -= ds s / 2(M_i + n_j)  and the same to d M_i
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
from lipzoo.attention.fused._rows import (
    AHEAD,
    add_rows,
    add_slopes,
    copy_row,
    dot_rows,
    exp_row,
    give_to_winners,
    pair_scores,
    prefetch,
)

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
    # Columns of a destination row.
    M, SHIFT, INV_Z, C, OWN, DST = 0, H, 2 * H, 3 * H, 4 * H, 5 * H
    kernel = numba.njit(nogil=True, fastmath=set(FAST), error_model="numpy", cache=True)

    @kernel
    def squares(chunk_from, chunk_to, v, to, column):
        """``to[:, column:column + H] = ||v||²``."""
        for j in range(*bounds(chunk_from, chunk_to, v.shape[0])):
            for h in range(H):
                square = zero
                for d in range(D):
                    square += v[j, h * D + d] * v[j, h * D + d]
                to[j, column + h] = square

    @kernel
    def row_products(chunk_from, chunk_to, x, y, dst):
        """``c = x·y`` per head."""
        for i in range(*bounds(chunk_from, chunk_to, dst.shape[0])):
            for h in range(H):
                dot = zero
                for d in range(D):
                    dot += x[i, h * D + d] * y[i, h * D + d]
                dst[i, C + h] = dot

    @kernel
    def forward(
        chunk_from,
        chunk_to,
        chunks,
        indptr,
        index,
        edge,
        v,
        t,
        a,
        src,
        dst,
        scale,
        slope,
        seed,
        kept,
        out,
    ):
        SUMS = HD + H
        threshold = threshold_of(kept)
        for chunk in range(chunk_from, chunk_to):
            # sums: sum p m v (HD), z | totals | row of t (HD) | a (HD) | M | shift | score |
            # weight | scale | row of src
            S = np.empty(2 * SUMS + 2 * HD + 6 * H, ft)
            z, own, attn, m = HD, 2 * SUMS, 2 * SUMS + HD, 2 * SUMS + 2 * HD
            top, score, w, sc, far = m + H, m + 2 * H, m + 3 * H, m + 4 * H, m + 5 * H
            last = index.shape[0] - 1
            for k in range(HD):
                S[attn + k] = a[k]
            for h in range(H):
                S[sc + h] = scale[h]
            for i in range(chunks[chunk], chunks[chunk + 1]):
                begin = indptr[i]
                end = indptr[i + 1]
                for k in range(2 * SUMS):
                    S[k] = zero
                for k in range(HD):
                    S[own + k] = t[i, k]
                for h in range(H):
                    S[top + h] = lowest
                    S[m + h] = dst[i, OWN + h] if has_norm else zero
                if has_norm:
                    for e in range(begin, end):
                        copy_row(S, src, index[e], far, H)
                        for h in range(H):
                            S[m + h] = max(S[m + h], S[far + h])
                for start in range(begin, end, BLOCK):
                    for e in range(start, min(start + BLOCK, end)):
                        j = index[e]
                        prefetch(v, index[min(e + AHEAD, last)])
                        copy_row(S, src, j, far, H)
                        pair_scores(S, v, j, own, attn, score, slope, H, D)
                        rises = False
                        for h in range(H):
                            if has_norm:
                                square = S[m + h] + S[far + h]
                                root = ft(square >= tiny) / math.sqrt(square + tiny)
                                S[score + h] *= S[sc + h] * root
                            rises |= S[score + h] > S[top + h]
                            S[w + h] = one
                        if rises:
                            for h in range(H):
                                above = max(S[top + h], S[score + h])
                                fade = exp(S[top + h] - above)
                                S[top + h] = above
                                for k in range(h * D, h * D + D):
                                    S[k] *= fade
                                    S[SUMS + k] *= fade
                                S[z + h] *= fade
                                S[SUMS + z + h] *= fade
                        if kept < one:
                            bits = edge_bits(edge[e], seed)
                            for h in range(H):
                                S[w + h] = S[w + h] if keep(bits, h, threshold) else zero
                        for h in range(H):
                            S[score + h] -= S[top + h]
                        exp_row(S, score, score, H)
                        for h in range(H):
                            S[z + h] += S[score + h]
                            S[w + h] *= S[score + h]
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
        t,
        a,
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
        SUMS = 2 * HD + H
        threshold = threshold_of(kept)
        inv_kept = one / kept
        for chunk in range(chunk_from, chunk_to):
            # sums: sum p m g, sum ds f l (HD each), d n | totals | row of v (HD) | a (HD) |
            # score | g·v | weight | ds f | n | scale | row of dst (5H)
            S = np.empty(2 * SUMS + 2 * HD + 11 * H, ft)
            d_n, own, attn, score = 2 * HD, 2 * SUMS, 2 * SUMS + HD, 2 * SUMS + 2 * HD
            gv, w, wf, n, sc = score + H, score + 2 * H, score + 3 * H, score + 4 * H, score + 5 * H
            far = score + 6 * H
            last = index.shape[0] - 1
            for k in range(HD):
                S[attn + k] = a[k]
            for h in range(H):
                S[sc + h] = scale[h]
            for j in range(chunks[chunk], chunks[chunk + 1]):
                for k in range(2 * SUMS):
                    S[k] = zero
                for k in range(HD):
                    S[own + k] = v[j, k]
                for h in range(H):
                    S[n + h] = src[j, h]
                end = indptr[j + 1]
                for start in range(indptr[j], end, BLOCK):
                    for e in range(start, min(start + BLOCK, end)):
                        i = index[e]
                        ahead = index[min(e + AHEAD, last)]
                        prefetch(t, ahead)
                        prefetch(g, ahead)
                        prefetch(dst, ahead)
                        copy_row(S, dst, i, far, DST)
                        pair_scores(S, t, i, own, attn, score, slope, H, D)
                        dot_rows(S, g, i, own, gv, H, D)
                        for h in range(H):
                            S[w + h] = inv_kept
                        if kept < one:
                            bits = edge_bits(edge[e], seed)
                            for h in range(H):
                                S[w + h] = S[w + h] if keep(bits, h, threshold) else zero
                        for h in range(H):
                            f = one
                            if has_norm:
                                square = S[far + M + h] + S[n + h]
                                root = ft(square >= tiny) / math.sqrt(square + tiny)
                                f = S[sc + h] * root
                            s = f * S[score + h]
                            p = exp(s - S[far + SHIFT + h]) * S[far + INV_Z + h]
                            pm = p * S[w + h]
                            ds = pm * S[gv + h] - p * S[far + C + h]
                            S[w + h] = pm
                            S[wf + h] = ds * f
                            if has_norm:
                                S[d_n + h] -= half * ds * s * root * root
                        add_rows(S, g, i, w, 0, H, D, 1)
                        add_slopes(S, t, i, own, wf, HD, slope, H, D, 1)
                    flush(S, SUMS)
                for h in range(H):
                    d_src[j, h] = S[SUMS + d_n + h]
                for k in range(HD):
                    d_v[j, k] = S[SUMS + k] + S[attn + k] * S[SUMS + HD + k]

    @kernel
    def backward_in_edges(
        chunk_from,
        chunk_to,
        chunks,
        indptr,
        index,
        edge,
        v,
        t,
        a,
        src,
        dst,
        scale,
        slope,
        seed,
        kept,
        g,
        d_t,
        d_dst,
        d_a,
        winner,
    ):
        SUMS = 2 * HD + H
        threshold = threshold_of(kept)
        inv_kept = one / kept
        for chunk in range(chunk_from, chunk_to):
            # sums: sum ds f l, sum ds f l y (HD each), d M | totals | d a (HD) | row of t (HD) |
            # of g (HD) | a (HD) | score | g·v | weight | ds f | row of dst (5H) | scale |
            # in-edge that attains M, counted from the node's first | row of src
            S = np.zeros(2 * SUMS + 4 * HD + 12 * H, ft)
            d_m, d_attn = 2 * HD, 2 * SUMS
            own, g_own, attn = d_attn + HD, d_attn + 2 * HD, d_attn + 3 * HD
            score = d_attn + 4 * HD
            gv, w, wf, row = score + H, score + 2 * H, score + 3 * H, score + 4 * H
            sc, first, far = score + 9 * H, score + 10 * H, score + 11 * H
            last = index.shape[0] - 1
            for k in range(HD):
                S[attn + k] = a[k]
            for h in range(H):
                S[sc + h] = scale[h]
            for i in range(chunks[chunk], chunks[chunk + 1]):
                begin = indptr[i]
                end = indptr[i + 1]
                for k in range(2 * SUMS):
                    S[k] = zero
                for k in range(HD):
                    S[own + k] = t[i, k]
                    S[g_own + k] = g[i, k]
                for k in range(5 * H):
                    S[row + k] = dst[i, k]
                for h in range(H):
                    S[first + h] = -one
                for start in range(begin, end, BLOCK):
                    for e in range(start, min(start + BLOCK, end)):
                        j = index[e]
                        prefetch(v, index[min(e + AHEAD, last)])
                        copy_row(S, src, j, far, H)
                        pair_scores(S, v, j, own, attn, score, slope, H, D)
                        dot_rows(S, v, j, g_own, gv, H, D)
                        for h in range(H):
                            S[w + h] = inv_kept
                        if kept < one:
                            bits = edge_bits(edge[e], seed)
                            for h in range(H):
                                S[w + h] = S[w + h] if keep(bits, h, threshold) else zero
                        for h in range(H):
                            f = one
                            if has_norm:
                                square = S[row + M + h] + S[far + h]
                                root = ft(square >= tiny) / math.sqrt(square + tiny)
                                f = S[sc + h] * root
                            s = f * S[score + h]
                            p = exp(s - S[row + SHIFT + h]) * S[row + INV_Z + h]
                            ds = p * (S[w + h] * S[gv + h] - S[row + C + h])
                            S[wf + h] = ds * f
                            if has_norm:
                                S[d_m + h] -= half * ds * s * root * root
                                is_first = S[first + h] < zero
                                attains = S[far + h] == S[row + M + h]
                                S[first + h] = ft(e - begin) if attains & is_first else S[first + h]
                        add_slopes(S, v, j, own, wf, 0, slope, H, D, 2)
                    flush(S, SUMS)
                for h in range(H):
                    place = np.int64(S[first + h])
                    winner[i, h] = index[begin + place] if place >= 0 else -1
                    # The largest square may be that of t_i itself; a tie is shared.
                    share = zero
                    if has_norm and S[row + OWN + h] == S[row + M + h]:
                        share = half if place >= 0 else one
                    d_dst[i, h] = (one - share) * S[SUMS + d_m + h]
                    by = two * share * S[SUMS + d_m + h]
                    for d in range(D):
                        k = h * D + d
                        d_t[i, k] = S[attn + k] * S[SUMS + k] + by * S[own + k]
                        S[d_attn + k] += S[SUMS + HD + k]
            for k in range(HD):
                d_a[chunk, k] = S[d_attn + k]

    @kernel
    def add_from_squares(chunk_from, chunk_to, v, d_src, d_v):
        """``d_v += 2 v d_n``."""
        for j in range(*bounds(chunk_from, chunk_to, v.shape[0])):
            for h in range(H):
                by = two * d_src[j, h]
                for d in range(D):
                    d_v[j, h * D + d] += by * v[j, h * D + d]

    return SimpleNamespace(
        squares=squares,
        row_products=row_products,
        forward=forward,
        backward_out_edges=backward_out_edges,
        backward_in_edges=backward_in_edges,
        give_to_winners=give_to_winners,
        add_from_squares=add_from_squares,
    )
