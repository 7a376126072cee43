"""CPU kernels for additive scores: one pass an edge forward, two backward, nothing E x H kept.

Layout. Per source node a row ``src = [el | n]`` of 2H numbers (``a_l·v`` and ``||v||²``), per
destination node a row ``dst = [er | M | shift | 1/z | c]`` of 5H: ``a_r·v``, the largest
``||v||²`` among the in-neighbours, what the softmax is shifted by, its denominator, and (in the
backward pass) ``g·out``. A source row of 8 heads is one cache line.

Each kernel keeps its scratch in *one* array ``S`` at constant offsets: LLVM then knows that the
parts do not overlap and turns the loops over heads into vector instructions. With separate
arrays it gives up (its limit is eight run-time overlap checks).

With ``x = el_j + er_i``, ``f = slope(x) scale / sqrt(M_i + n_j)`` and ``s = f x``::

    forward    p = exp(s - shift) / z        out_i = sum_j m p v_j      (m: dropout mask / keep)
    backward   ds = p (m g_i·v_j - g_i·out_i)
               d el_j += ds f                d er_i += ds f
               d n_j  -= ds s / 2(M_i + n_j)  and the same to d M_i
               d scale += ds s / scale       d v_j += m p g_i

The pass over out-edges gathers ``g`` and leaves ``ds`` in a buffer (E, H) that lives until the
pass over in-edges has summed what belongs to destination nodes.
"""

from __future__ import annotations

import math
from functools import cache
from types import SimpleNamespace

import numba
import numpy as np
from numba import prange

from lipzoo.attention.fused._arithmetic import exp32, exp64, keep

__all__ = ["additive_kernels"]


@cache
def additive_kernels(H: int, D: int, has_norm: bool, has_drop: bool, is_double: bool):
    """The kernels for H heads of D features; constants, so that loops unroll.

    Parameters
    ----------
    H, D : int
        Heads, features per head.
    has_norm : bool
        Divide by ``sqrt(M_i + n_j)`` (LipschitzNorm).
    has_drop : bool
        Drop attention weights.
    is_double : bool
        float64 instead of float32.
    """
    ft = np.float64 if is_double else np.float32
    exp = exp64 if is_double else exp32
    tiny = ft(np.finfo(ft).tiny)
    lowest = ft(np.finfo(ft).min)
    zero, one, half, two = ft(0), ft(1), ft(0.5), ft(2)
    HD = H * D
    # Columns of a source row and of a destination row.
    N = H
    M, SHIFT, INV_Z, C = H, 2 * H, 3 * H, 4 * H
    kernel = numba.njit(
        parallel=True,
        fastmath=True,
        error_model="numpy",
        cache=True,
    )

    @kernel
    def source_rows(v, a, src):
        for j in prange(v.shape[0]):
            for h in range(H):
                dot = zero
                square = zero
                for d in range(D):
                    dot += v[j, h * D + d] * a[h * D + d]
                    square += v[j, h * D + d] * v[j, h * D + d]
                src[j, h] = dot
                src[j, N + h] = square

    @kernel
    def dot_rows(x, y, dst, column):
        """``dst[:, column:column + H] = x·y`` per head; ``y`` has one row, or one a node."""
        step = 1 if y.shape[0] > 1 else 0
        for i in prange(dst.shape[0]):
            for h in range(H):
                dot = zero
                for d in range(D):
                    dot += x[i, h * D + d] * y[i * step, h * D + d]
                dst[i, column + h] = dot

    @kernel
    def forward(chunks, indptr, index, edge, v, src, dst, scale, slope, shifted, seed, kept, out):
        threshold = np.uint32(min(kept * ft(4294967296.0), ft(4294967040.0)))
        for chunk in prange(chunks.shape[0] - 1):
            # acc (HD) | z | M | shift | er | weight | scale
            S = np.empty(HD + 6 * H, ft)
            z, m, top, er, w, sc = HD, HD + H, HD + 2 * H, HD + 3 * H, HD + 4 * H, HD + 5 * H
            for h in range(H):
                S[sc + h] = scale[h]
            for i in range(chunks[chunk], chunks[chunk + 1]):
                begin = indptr[i]
                end = indptr[i + 1]
                for k in range(HD + H):
                    S[k] = zero
                for h in range(H):
                    S[m + h] = zero
                    S[top + h] = lowest
                    S[er + h] = dst[i, h]
                if has_norm:
                    for e in range(begin, end):
                        j = index[e]
                        for h in range(H):
                            S[m + h] = max(S[m + h], src[j, N + h])
                if shifted:
                    for e in range(begin, end):
                        j = index[e]
                        for h in range(H):
                            x = src[j, h] + S[er + h]
                            s = max(x, slope * x)
                            if has_norm:
                                square = S[m + h] + src[j, N + h]
                                root = ft(square >= tiny) / math.sqrt(square + tiny)
                                s = s * S[sc + h] * root
                            S[top + h] = max(S[top + h], s)
                else:
                    for h in range(H):
                        S[top + h] = zero
                for e in range(begin, end):
                    j = index[e]
                    for h in range(H):
                        x = src[j, h] + S[er + h]
                        s = max(x, slope * x)
                        if has_norm:
                            square = S[m + h] + src[j, N + h]
                            root = ft(square >= tiny) / math.sqrt(square + tiny)
                            s = s * S[sc + h] * root
                        p = exp(s - S[top + h])
                        S[z + h] += p
                        S[w + h] = p
                    if has_drop:
                        for h in range(H):
                            if not keep(edge[e] * H + h, seed, threshold):
                                S[w + h] = zero
                    for h in range(H):
                        weight = S[w + h]
                        for d in range(D):
                            S[h * D + d] += weight * v[j, h * D + d]
                for h in range(H):
                    inv_z = one / S[z + h] if end > begin else zero
                    dst[i, M + h] = S[m + h]
                    dst[i, SHIFT + h] = S[top + h] if end > begin else zero
                    dst[i, INV_Z + h] = inv_z
                    factor = inv_z / kept if has_drop else inv_z
                    for d in range(D):
                        out[i, h * D + d] = S[h * D + d] * factor

    @kernel
    def backward_out_edges(
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
        d_score,
        d_scale,
    ):
        threshold = np.uint32(min(kept * ft(4294967296.0), ft(4294967040.0)))
        for chunk in prange(chunks.shape[0] - 1):
            # acc (HD) | row of v (HD) | row of dst (5H) | g·v | weight | ds | d el | d n | el | n |
            # scale | d scale
            S = np.zeros(2 * HD + 14 * H, ft)
            row, own = HD, 2 * HD
            t, w, ds = own + 5 * H, own + 6 * H, own + 7 * H
            d_el, d_n, el, n = own + 8 * H, own + 9 * H, own + 10 * H, own + 11 * H
            sc, d_sc = own + 12 * H, own + 13 * H
            for h in range(H):
                S[sc + h] = scale[h]
            for j in range(chunks[chunk], chunks[chunk + 1]):
                for k in range(HD):
                    S[k] = zero
                    S[row + k] = v[j, k]
                for h in range(H):
                    S[d_el + h] = zero
                    S[d_n + h] = zero
                    S[el + h] = src[j, h]
                    S[n + h] = src[j, N + h]
                for e in range(indptr[j], indptr[j + 1]):
                    i = index[e]
                    for k in range(5 * H):
                        S[own + k] = dst[i, k]
                    for h in range(H):
                        dot = zero
                        for d in range(D):
                            dot += g[i, h * D + d] * S[row + h * D + d]
                        S[t + h] = dot
                        S[w + h] = one
                    if has_drop:
                        for h in range(H):
                            kept_here = keep(edge[e] * H + h, seed, threshold)
                            S[w + h] = one / kept if kept_here else zero
                    for h in range(H):
                        x = S[el + h] + S[own + h]
                        f = one if x > zero else slope
                        root = zero
                        if has_norm:
                            square = S[own + M + h] + S[n + h]
                            root = ft(square >= tiny) / math.sqrt(square + tiny)
                            f = f * S[sc + h] * root
                        s = f * x
                        p = exp(s - S[own + SHIFT + h]) * S[own + INV_Z + h]
                        by = p * (S[w + h] * S[t + h] - S[own + C + h])
                        S[ds + h] = by
                        S[d_el + h] += by * f
                        if has_norm:
                            S[d_n + h] -= half * by * s * root * root
                            S[d_sc + h] += by * s
                        S[w + h] *= p
                    for h in range(H):
                        d_score[e, h] = S[ds + h]
                    for h in range(H):
                        weight = S[w + h]
                        for d in range(D):
                            S[h * D + d] += weight * g[i, h * D + d]
                for h in range(H):
                    d_src[j, h] = S[d_el + h]
                    d_src[j, N + h] = S[d_n + h]
                for k in range(HD):
                    d_v[j, k] = S[k]
            for h in range(H):
                d_scale[chunk, h] = S[d_sc + h]

    @kernel
    def backward_in_edges(
        chunks, indptr, index, position, src, dst, scale, slope, d_score, d_dst, winner
    ):
        for chunk in prange(chunks.shape[0] - 1):
            # d er | d M | er | M | scale
            S = np.zeros(5 * H, ft)
            d_m, er, m, sc = H, 2 * H, 3 * H, 4 * H
            first = np.empty(H, np.int32)
            for h in range(H):
                S[sc + h] = scale[h]
            for i in range(chunks[chunk], chunks[chunk + 1]):
                for h in range(H):
                    S[h] = zero
                    S[d_m + h] = zero
                    S[er + h] = dst[i, h]
                    S[m + h] = dst[i, M + h]
                    first[h] = -1
                # Backwards, so that the first in-edge that attains the maximum wins.
                for e in range(indptr[i + 1] - 1, indptr[i] - 1, -1):
                    j = index[e]
                    q = position[e]
                    for h in range(H):
                        x = src[j, h] + S[er + h]
                        f = one if x > zero else slope
                        ds = d_score[q, h]
                        if has_norm:
                            square = S[m + h] + src[j, N + h]
                            root = ft(square >= tiny) / math.sqrt(square + tiny)
                            f = f * S[sc + h] * root
                            S[d_m + h] -= half * ds * f * x * root * root
                        S[h] += ds * f
                    if has_norm:
                        for h in range(H):
                            first[h] = j if src[j, N + h] == S[m + h] else first[h]
                for h in range(H):
                    d_dst[i, h] = S[h]
                    d_dst[i, M + h] = S[d_m + h]
                    winner[i, h] = first[h]

    @numba.njit(cache=True)
    def give_to_winners(winner, d_dst, d_src):
        for i in range(winner.shape[0]):
            for h in range(H):
                if winner[i, h] >= 0:
                    d_src[winner[i, h], N + h] += d_dst[i, M + h]

    @kernel
    def combine(v, d_node, column_n, a, d_v, d_a):
        """``d_v += a d + 2 v d_n`` and ``d_a = sum_j d_j v_j``, in parts by chunk of nodes."""
        num_chunks = d_a.shape[0]
        num_nodes = d_node.shape[0]
        for chunk in prange(num_chunks):
            S = np.zeros(HD, ft)
            for j in range(chunk * num_nodes // num_chunks, (chunk + 1) * num_nodes // num_chunks):
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
        dot_rows=dot_rows,
        forward=forward,
        backward_out_edges=backward_out_edges,
        backward_in_edges=backward_in_edges,
        give_to_winners=give_to_winners,
        combine=combine,
    )
