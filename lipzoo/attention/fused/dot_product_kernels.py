"""CPU kernels for dot-product scores: one pass an edge forward, two backward.

Layout. Per destination node a row ``dst = [shift | 1/z | c]`` of 3H: what the softmax is shifted
by, its denominator, and (in the backward pass) ``g·out``. Scratch is one array ``S``, as in
``additive_kernels``. Queries come scaled: ``s = q_i·k_j``. ::

    forward    p = exp(s - shift) / z        out_i = sum_j m p v_j      (m: dropout mask, 0 or 1)
    backward   ds = p (m g_i·v_j - c_i)      c_i = g_i·out_i
               d q_i += ds k_j               d k_j += ds q_i            d v_j += m p g_i
"""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace

import numba
import numpy as np

from lipzoo.attention.fused._arithmetic import BLOCK, LARGE, edge_bits, exp, flush, keep
from lipzoo.attention.fused._rows import AHEAD, add_rows, copy_row, dot_rows, exp_row, prefetch
from lipzoo.attention.fused.dropout_mask import KEEP_ALL

__all__ = ["make_kernels"]


@cache
def make_kernels(H: int, D: int, is_double: bool) -> SimpleNamespace:
    """The kernels for H heads of D features; constants, so that loops unroll.

    Parameters
    ----------
    H, D : int
        Heads, features per head.
    is_double : bool
        float64 instead of float32.
    """
    ft = np.float64 if is_double else np.float32
    lowest = ft(np.finfo(ft).min)
    zero, one, large = ft(0), ft(1), ft(LARGE)
    HD = H * D
    # Columns of a destination row.
    SHIFT, INV_Z, C, DST = 0, H, 2 * H, 3 * H
    everything = np.uint32(KEEP_ALL)
    kernel = numba.njit(nogil=True, error_model="numpy", cache=True)

    @kernel
    def forward(
        chunk_from, chunk_to, chunks, indptr, index, edge, q, key, v, dst, seed, threshold, out
    ):
        SUMS = HD + H
        for chunk in range(chunk_from, chunk_to):
            # sums: sum p m v (HD), z | totals | row of q (HD) | shift | score | weight
            S = np.empty(2 * SUMS + HD + 3 * H, ft)
            z, own, top = HD, 2 * SUMS, 2 * SUMS + HD
            score, w = top + H, top + 2 * H
            last = index.shape[0] - 1
            for i in range(chunks[chunk], chunks[chunk + 1]):
                begin = indptr[i]
                end = indptr[i + 1]
                for k in range(2 * SUMS):
                    S[k] = zero
                for k in range(HD):
                    S[own + k] = q[i, k]
                for h in range(H):
                    S[top + h] = lowest
                for start in range(begin, end, BLOCK):
                    for e in range(start, min(start + BLOCK, end)):
                        j = index[e]
                        ahead = index[min(e + AHEAD, last)]
                        prefetch(key, ahead)
                        prefetch(v, ahead)
                        dot_rows(S, key, j, own, score, H, D)
                        rises = False
                        for h in range(H):
                            rises |= S[score + h] > S[top + h]
                            S[w + h] = one
                        # A new largest score: what was summed so far fades (the running maximum).
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
                        if threshold < everything:
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
                    total = S[SUMS + z + h] if end > begin else one
                    dst[i, SHIFT + h] = S[top + h] if end > begin else zero
                    dst[i, INV_Z + h] = one / total
                    for d in range(D):
                        out[i, h * D + d] = S[SUMS + h * D + d] / total

    @kernel
    def backward_in_edges(
        chunk_from,
        chunk_to,
        chunks,
        indptr,
        index,
        edge,
        q,
        key,
        v,
        dst,
        out,
        seed,
        threshold,
        g,
        d_q,
    ):
        SUMS = HD
        for chunk in range(chunk_from, chunk_to):
            # sum ds k (HD) | total | row of q (HD) | row of g (HD) | score | g·v | weight | ds |
            # row of dst (3H)
            S = np.empty(2 * SUMS + 2 * HD + 7 * H, ft)
            own, g_own, score = 2 * SUMS, 2 * SUMS + HD, 2 * SUMS + 2 * HD
            gv, w, ds, row = score + H, score + 2 * H, score + 3 * H, score + 4 * H
            last = index.shape[0] - 1
            for i in range(chunks[chunk], chunks[chunk + 1]):
                for k in range(2 * SUMS):
                    S[k] = zero
                for k in range(HD):
                    S[own + k] = q[i, k]
                    S[g_own + k] = g[i, k]
                for k in range(2 * H):
                    S[row + k] = dst[i, k]
                dot_rows(S, out, i, g_own, row + C, H, D)
                for h in range(H):
                    dst[i, C + h] = S[row + C + h]
                end = indptr[i + 1]
                is_large = False
                for h in range(H):
                    is_large |= abs(S[row + SHIFT + h]) > large
                for turn in range(0 if is_large else 1, 2):
                    for start in range(indptr[i], end, BLOCK):
                        for e in range(start, min(start + BLOCK, end)):
                            j = index[e]
                            ahead = index[min(e + AHEAD, last)]
                            prefetch(key, ahead)
                            prefetch(v, ahead)
                            dot_rows(S, key, j, own, score, H, D)
                            dot_rows(S, v, j, g_own, gv, H, D)
                            for h in range(H):
                                S[w + h] = one
                            if threshold < everything:
                                bits = edge_bits(edge[e], seed)
                                for h in range(H):
                                    S[w + h] = S[w + h] if keep(bits, h, threshold) else zero
                            if turn == 0:
                                for h in range(H):
                                    p = exp(S[score + h] - S[row + SHIFT + h])
                                    S[h] += p * (S[w + h] * S[gv + h]) / (one / S[row + INV_Z + h])
                                continue
                            for h in range(H):
                                p = exp(S[score + h] - S[row + SHIFT + h]) * S[row + INV_Z + h]
                                S[ds + h] = p * (S[w + h] * S[gv + h] - S[row + C + h])
                            add_rows(S, key, j, ds, 0, H, D, 1)
                        flush(S, SUMS)
                    if turn == 0:
                        for h in range(H):
                            S[row + C + h] = dst[i, C + h] = S[SUMS + h]
                            S[SUMS + h] = zero
                for k in range(HD):
                    d_q[i, k] = S[SUMS + k]

    @kernel
    def backward_out_edges(
        chunk_from,
        chunk_to,
        chunks,
        indptr,
        index,
        edge,
        q,
        key,
        v,
        dst,
        seed,
        threshold,
        g,
        d_key,
        d_v,
    ):
        SUMS = 2 * HD
        for chunk in range(chunk_from, chunk_to):
            # sums: sum p m g, sum ds q (HD each) | totals | row of k (HD) | row of v (HD) |
            # score | g·v | weight | ds | row of dst (3H)
            S = np.empty(2 * SUMS + 2 * HD + 7 * H, ft)
            own_key, own_v, score = 2 * SUMS, 2 * SUMS + HD, 2 * SUMS + 2 * HD
            gv, w, ds, far = score + H, score + 2 * H, score + 3 * H, score + 4 * H
            last = index.shape[0] - 1
            for j in range(chunks[chunk], chunks[chunk + 1]):
                for k in range(2 * SUMS):
                    S[k] = zero
                for k in range(HD):
                    S[own_key + k] = key[j, k]
                    S[own_v + k] = v[j, k]
                end = indptr[j + 1]
                for start in range(indptr[j], end, BLOCK):
                    for e in range(start, min(start + BLOCK, end)):
                        i = index[e]
                        ahead = index[min(e + AHEAD, last)]
                        prefetch(q, ahead)
                        prefetch(g, ahead)
                        prefetch(dst, ahead)
                        copy_row(S, dst, i, far, DST)
                        dot_rows(S, q, i, own_key, score, H, D)
                        dot_rows(S, g, i, own_v, gv, H, D)
                        for h in range(H):
                            S[w + h] = one
                        if threshold < everything:
                            bits = edge_bits(edge[e], seed)
                            for h in range(H):
                                S[w + h] = S[w + h] if keep(bits, h, threshold) else zero
                        for h in range(H):
                            p = exp(S[score + h] - S[far + SHIFT + h]) * S[far + INV_Z + h]
                            S[ds + h] = p * (S[w + h] * S[gv + h] - S[far + C + h])
                            S[w + h] *= p
                        add_rows(S, g, i, w, 0, H, D, 1)
                        add_rows(S, q, i, ds, HD, H, D, 1)
                    flush(S, SUMS)
                for k in range(HD):
                    d_v[j, k] = S[SUMS + k]
                    d_key[j, k] = S[SUMS + HD + k]

    return SimpleNamespace(
        forward=forward,
        backward_in_edges=backward_in_edges,
        backward_out_edges=backward_out_edges,
    )
