"""CPU kernels for GATv2 scores: one pass an edge forward, two backward, nothing E x H stored.

Layout. Per source node its length, ``src = [n]``; per destination node a row
``dst = [1/M | shift | 1/z | c | own]`` of 5H: the largest of ``||v_j||`` among the in-neighbours
and ``||t_i||``, what the softmax is shifted by, its denominator, (in the backward pass)
``g·out``, and ``||t_i||``. Scratch is one array ``S``, and numbers are exact where they have to be,
as in ``additive_kernels``.

With ``y = v_j + t_i``, ``r = n_j / M_i``, ``u = 1 / sqrt(1 + r²)``, ``f = u / M_i`` and
``s = f a·LeakyReLU(y)`` (``a`` comes with the norm's scale; without a norm, ``f = 1``)::

    forward    p = exp(s - shift) / z        out_i = sum_j m p v_j        (m: dropout mask, 0 or 1)
    backward   ds = p (m g_i·v_j - c_i)      c_i = g_i·out_i
               d v_j += m p g_i + ds f a l(y)      d t_i += ds f a l(y)    (l: LeakyReLU's slope)
               d a   += ds f l(y) y
               d n_j -= ds s u² r / M_i            d M_i -= ds s u² / M_i
"""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace

import numba
import numpy as np

from lipzoo.attention.fused._arithmetic import BLOCK, LARGE, edge_bits, exp, flush, keep, normed
from lipzoo.attention.fused._nodes import TINY, add_from_lengths, give_to_winners, lengths
from lipzoo.attention.fused._rows import (
    AHEAD,
    add_rows,
    add_slopes,
    copy_row,
    dot_rows,
    exp_row,
    pair_scores,
    prefetch,
)
from lipzoo.attention.fused.dropout_mask import KEEP_ALL

__all__ = ["make_kernels"]


@cache
def make_kernels(H: int, D: int, has_norm: bool, is_double: bool) -> SimpleNamespace:
    """The kernels for H heads of D features; constants, so that loops unroll.

    Parameters
    ----------
    H, D : int
        Heads, features per head.
    has_norm : bool
        Divide by ``sqrt(M_i² + n_j²)`` (LipschitzNorm).
    is_double : bool
        float64 instead of float32.
    """
    ft = np.float64 if is_double else np.float32
    tiny, largest, lowest = TINY[ft], ft(np.finfo(ft).max), ft(np.finfo(ft).min)
    zero, one, half, large = ft(0), ft(1), ft(0.5), ft(LARGE)
    everything = np.uint32(KEEP_ALL)
    HD = H * D
    # Columns of a destination row.
    INV_M, SHIFT, INV_Z, C, OWN, DST = 0, H, 2 * H, 3 * H, 4 * H, 5 * H
    kernel = numba.njit(nogil=True, error_model="numpy", cache=True)

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
        slope,
        seed,
        threshold,
        out,
    ):
        SUMS = HD + H
        for chunk in range(chunk_from, chunk_to):
            # sums: sum p m v (HD), z | totals | row of t (HD) | a (HD) | 1/M | shift | score |
            # weight | row of src
            S = np.empty(2 * SUMS + 2 * HD + 5 * H, ft)
            z, own, attn, inv_m = HD, 2 * SUMS, 2 * SUMS + HD, 2 * SUMS + 2 * HD
            top, score, w, far = inv_m + H, inv_m + 2 * H, inv_m + 3 * H, inv_m + 4 * H
            last = index.shape[0] - 1
            for k in range(HD):
                S[attn + k] = a[k]
            for i in range(chunks[chunk], chunks[chunk + 1]):
                begin = indptr[i]
                end = indptr[i + 1]
                for k in range(2 * SUMS):
                    S[k] = zero
                for k in range(HD):
                    S[own + k] = t[i, k]
                for h in range(H):
                    S[top + h] = lowest
                    S[inv_m + h] = dst[i, OWN + h] if has_norm else zero
                if has_norm:
                    for e in range(begin, end):
                        copy_row(S, src, index[e], far, H)
                        for h in range(H):
                            S[inv_m + h] = max(S[inv_m + h], S[far + h])
                    for h in range(H):
                        m = S[inv_m + h]
                        S[inv_m + h] = zero if m < tiny else one / m
                for start in range(begin, end, BLOCK):
                    for e in range(start, min(start + BLOCK, end)):
                        j = index[e]
                        prefetch(v, index[min(e + AHEAD, last)])
                        copy_row(S, src, j, far, H)
                        pair_scores(S, v, j, own, attn, score, slope, H, D)
                        rises = False
                        for h in range(H):
                            if has_norm:
                                s, _, _ = normed(
                                    S[score + h], S[far + h], S[inv_m + h], one, largest
                                )
                                S[score + h] = s
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
                    dst[i, INV_M + h] = S[inv_m + h]
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
        v,
        t,
        a,
        src,
        dst,
        out,
        slope,
        seed,
        threshold,
        g,
        d_t,
        d_dst,
        d_a,
        winner,
    ):
        SUMS = 2 * HD + H
        for chunk in range(chunk_from, chunk_to):
            # sums: sum ds f l, sum ds f l y (HD each), d M | totals | d a (HD) | row of t (HD) |
            # of g (HD) | a (HD) | score | g·v | weight | ds f | row of dst (5H) | largest length
            # so far, and its in-edge, counted from the node's first | row of src
            S = np.zeros(2 * SUMS + 4 * HD + 12 * H, ft)
            d_m, d_attn = 2 * HD, 2 * SUMS
            own, g_own, attn = d_attn + HD, d_attn + 2 * HD, d_attn + 3 * HD
            score = d_attn + 4 * HD
            gv, w, wf, row = score + H, score + 2 * H, score + 3 * H, score + 4 * H
            most, first, far = score + 9 * H, score + 10 * H, score + 11 * H
            last = index.shape[0] - 1
            for k in range(HD):
                S[attn + k] = a[k]
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
                dot_rows(S, out, i, g_own, row + C, H, D)
                for h in range(H):
                    dst[i, C + h] = S[row + C + h]
                    S[most + h] = S[row + OWN + h]
                    S[first + h] = -one
                is_large = False
                for h in range(H):
                    is_large |= abs(S[row + SHIFT + h]) > large
                for turn in range(0 if is_large else 1, 2):
                    for start in range(begin, end, BLOCK):
                        for e in range(start, min(start + BLOCK, end)):
                            j = index[e]
                            prefetch(v, index[min(e + AHEAD, last)])
                            copy_row(S, src, j, far, H)
                            pair_scores(S, v, j, own, attn, score, slope, H, D)
                            dot_rows(S, v, j, g_own, gv, H, D)
                            for h in range(H):
                                S[w + h] = one
                            if threshold < everything:
                                bits = edge_bits(edge[e], seed)
                                for h in range(H):
                                    S[w + h] = S[w + h] if keep(bits, h, threshold) else zero
                            if turn == 0:
                                for h in range(H):
                                    s = S[score + h]
                                    if has_norm:
                                        s, _, _ = normed(
                                            s, S[far + h], S[row + INV_M + h], one, largest
                                        )
                                    p = exp(s - S[row + SHIFT + h])
                                    S[h] += p * (S[w + h] * S[gv + h]) / (one / S[row + INV_Z + h])
                                continue
                            for h in range(H):
                                s = S[score + h]
                                if has_norm:
                                    n, inv_m = S[far + h], S[row + INV_M + h]
                                    s, u, _ = normed(s, n, inv_m, one, largest)
                                p = exp(s - S[row + SHIFT + h]) * S[row + INV_Z + h]
                                ds = p * (S[w + h] * S[gv + h] - S[row + C + h])
                                if has_norm:
                                    ds = zero if abs(s) == largest else ds * inv_m * u
                                    S[d_m + h] -= ds * u * s
                                    # The first to be as long as t_i, or longer than all before.
                                    ties = (n == S[most + h]) & (S[first + h] < zero)
                                    is_more = (n > S[most + h]) | ties
                                    S[most + h] = n if is_more else S[most + h]
                                    S[first + h] = ft(e - begin) if is_more else S[first + h]
                                S[wf + h] = ds
                            add_slopes(S, v, j, own, wf, 0, slope, H, D, 2)
                        flush(S, SUMS)
                    if turn == 0:
                        for h in range(H):
                            S[row + C + h] = dst[i, C + h] = S[SUMS + h]
                            S[SUMS + h] = zero
                for h in range(H):
                    place = np.int64(S[first + h])
                    winner[i, h] = index[begin + place] if place >= 0 else -1
                    # The longest may be t_i itself; a tie is shared.
                    share = zero
                    if has_norm and S[row + OWN + h] == S[most + h]:
                        share = half if place >= 0 else one
                    d_dst[i, h] = (one - share) * S[SUMS + d_m + h]
                    by = share * S[SUMS + d_m + h]
                    length = S[row + OWN + h]
                    for d in range(D):
                        k = h * D + d
                        d_t[i, k] = S[attn + k] * S[SUMS + k]
                        if has_norm and length >= tiny:
                            d_t[i, k] += S[own + k] / length * by
                        S[d_attn + k] += S[SUMS + HD + k]
            for k in range(HD):
                d_a[chunk, k] = S[d_attn + k]

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
        slope,
        seed,
        threshold,
        g,
        d_v,
        d_src,
    ):
        SUMS = 2 * HD + H
        for chunk in range(chunk_from, chunk_to):
            # sums: sum p m g, sum ds f l (HD each), d n | totals | row of v (HD) | a (HD) |
            # score | g·v | weight | ds f | n | row of dst (5H)
            S = np.empty(2 * SUMS + 2 * HD + 10 * H, ft)
            d_n, own, attn, score = 2 * HD, 2 * SUMS, 2 * SUMS + HD, 2 * SUMS + 2 * HD
            gv, w, wf, n, far = (
                score + H,
                score + 2 * H,
                score + 3 * H,
                score + 4 * H,
                score + 5 * H,
            )
            last = index.shape[0] - 1
            for k in range(HD):
                S[attn + k] = a[k]
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
                            S[w + h] = one
                        if threshold < everything:
                            bits = edge_bits(edge[e], seed)
                            for h in range(H):
                                S[w + h] = S[w + h] if keep(bits, h, threshold) else zero
                        for h in range(H):
                            s = S[score + h]
                            if has_norm:
                                inv_m = S[far + INV_M + h]
                                s, u, r = normed(s, S[n + h], inv_m, one, largest)
                            p = exp(s - S[far + SHIFT + h]) * S[far + INV_Z + h]
                            ds = p * (S[w + h] * S[gv + h] - S[far + C + h])
                            S[w + h] *= p
                            if has_norm:
                                # As large as g, whatever the size of v.
                                ds = zero if abs(s) == largest else ds * inv_m * u
                                S[d_n + h] -= ds * u * r * s
                            S[wf + h] = ds
                        add_rows(S, g, i, w, 0, H, D, 1)
                        add_slopes(S, t, i, own, wf, HD, slope, H, D, 1)
                    flush(S, SUMS)
                for h in range(H):
                    d_src[j, h] = S[SUMS + d_n + h]
                for k in range(HD):
                    d_v[j, k] = S[SUMS + k] + S[attn + k] * S[SUMS + HD + k]

    return SimpleNamespace(
        lengths=lengths,
        forward=forward,
        backward_in_edges=backward_in_edges,
        backward_out_edges=backward_out_edges,
        give_to_winners=give_to_winners,
        add_from_lengths=add_from_lengths,
        tiny=tiny,
    )
