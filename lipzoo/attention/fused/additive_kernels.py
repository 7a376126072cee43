"""CPU kernels for additive scores: one pass an edge forward, two backward, nothing E x H stored.

Layout. Per source node a row ``src = [el | n]`` of 2H numbers (``a_l·v`` and ``||v||``), per
destination node a row ``dst = [er | 1/M | shift | 1/z | c]`` of 5H: ``a_r·v``, the largest
``||v||`` among the in-neighbours, what the softmax is shifted by, its denominator, and (in the
backward pass) ``g·out``. A source row of 8 heads is one cache line.

Each kernel keeps its scratch in *one* array ``S`` at constant offsets: LLVM then knows that the
parts do not overlap and turns the loops over heads into vector instructions.

With ``x = el_j + er_i``, ``r = n_j / M_i``, ``u = 1 / sqrt(1 + r²)``, ``f = slope(x) u / M_i`` and
``s = f x`` (attention vectors come with the norm's scale; without a norm, ``f = slope(x)``)::

    forward    p = exp(s - shift) / z        out_i = sum_j m p v_j        (m: dropout mask, 0 or 1)
    backward   ds = p (m g_i·v_j - c_i)      c_i = g_i·out_i
               d el_j += ds f                d er_i += ds f
               d n_j  -= ds s u² r / M_i     d M_i  -= ds s u² / M_i
               d v_j  += m p g_i

A saturated softmax leaves one weight of 1, and there ``ds`` is exactly 0, however large the scores:
the score, ``g_i·v_j`` and ``c_i`` come from the same operations in the same order in every pass
(see ``FAST``; ``LARGE`` for several equal weights). Ratios of lengths in place of squares know
neither over- nor underflow. With ``has_own``, ``M_i`` runs over the length of the node's own row
too, ``n_own``: a winner of -1 stands for that.
"""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace

import numba
import numpy as np

from lipzoo.attention.fused._arithmetic import (
    BLOCK,
    FAST,
    LARGE,
    bounds,
    edge_bits,
    exp,
    flush,
    keep,
    normed,
)
from lipzoo.attention.fused._nodes import TINY, add_from_lengths, give_to_winners, lengths
from lipzoo.attention.fused._rows import AHEAD, add_rows, copy_row, dot_rows, prefetch
from lipzoo.attention.fused.dropout_mask import KEEP_ALL

__all__ = ["make_kernels"]


@cache
def make_kernels(H: int, D: int, has_norm: bool, has_own: bool, is_double: bool) -> SimpleNamespace:
    """The kernels for H heads of D features; constants, so that loops unroll.

    Parameters
    ----------
    H, D : int
        Heads, features per head.
    has_norm : bool
        Divide by ``sqrt(M_i² + n_j²)`` (LipschitzNorm).
    has_own : bool
        ``M_i`` runs over the node itself too.
    is_double : bool
        float64 instead of float32.
    """
    ft = np.float64 if is_double else np.float32
    tiny, largest, lowest = TINY[ft], ft(np.finfo(ft).max), ft(np.finfo(ft).min)
    zero, one, large = ft(0), ft(1), ft(LARGE)
    everything = np.uint32(KEEP_ALL)
    HD = H * D
    SRC, DST = 2 * H if has_norm else H, 5 * H
    # Columns of a source row and of a destination row.
    N = H
    INV_M, SHIFT, INV_Z, C = H, 2 * H, 3 * H, 4 * H
    kernel = numba.njit(nogil=True, error_model="numpy", cache=True)
    node_kernel = numba.njit(nogil=True, fastmath=set(FAST), error_model="numpy", cache=True)

    @node_kernel
    def row_products(chunk_from, chunk_to, v, a, to):
        """``to[:, :H] = a·v`` per head."""
        for i in range(*bounds(chunk_from, chunk_to, v.shape[0])):
            for h in range(H):
                dot = zero
                for d in range(D):
                    dot += v[i, h * D + d] * a[h * D + d]
                to[i, h] = dot

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
        n_own,
        shifted,
        slope,
        seed,
        threshold,
        out,
    ):
        SUMS = HD + H
        for chunk in range(chunk_from, chunk_to):
            # sums: sum p m v (HD), z | totals | 1/M | shift | er | weight | row of src (2H)
            S = np.empty(2 * SUMS + 6 * H, ft)
            z, inv_m = HD, 2 * SUMS
            top, er, w, far = inv_m + H, inv_m + 2 * H, inv_m + 3 * H, inv_m + 4 * H
            last = index.shape[0] - 1
            for i in range(chunks[chunk], chunks[chunk + 1]):
                begin = indptr[i]
                end = indptr[i + 1]
                for k in range(2 * SUMS):
                    S[k] = zero
                for h in range(H):
                    S[inv_m + h] = n_own[i, h] if has_own else zero
                    S[top + h] = lowest
                    S[er + h] = dst[i, h]
                if has_norm:
                    for e in range(begin, end):
                        copy_row(S, src, index[e], far, SRC)
                        for h in range(H):
                            S[inv_m + h] = max(S[inv_m + h], S[far + N + h])
                    for h in range(H):
                        m = S[inv_m + h]
                        S[inv_m + h] = zero if m < tiny else one / m
                if shifted and has_norm:
                    for e in range(begin, end):
                        copy_row(S, src, index[e], far, SRC)
                        for h in range(H):
                            x = S[far + h] + S[er + h]
                            leaky = x if x > zero else slope * x
                            s, _, _ = normed(leaky, S[far + N + h], S[inv_m + h], one, largest)
                            S[top + h] = max(S[top + h], s)
                elif shifted:
                    # LeakyReLU grows with its argument: the largest score is the largest el's.
                    for e in range(begin, end):
                        copy_row(S, src, index[e], far, SRC)
                        for h in range(H):
                            S[top + h] = max(S[top + h], S[far + h])
                    for h in range(H):
                        x = S[top + h] + S[er + h]
                        S[top + h] = x if x > zero else slope * x
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
                        if threshold < everything:
                            bits = edge_bits(edge[e], seed)
                            for h in range(H):
                                S[w + h] = S[w + h] if keep(bits, h, threshold) else zero
                        for h in range(H):
                            x = S[far + h] + S[er + h]
                            s = x if x > zero else slope * x
                            if has_norm:
                                s, _, _ = normed(s, S[far + N + h], S[inv_m + h], one, largest)
                            p = exp(s - S[top + h])
                            S[z + h] += p
                            S[w + h] *= p
                        add_rows(S, v, j, w, 0, H, D, 1)
                    flush(S, SUMS)
                for h in range(H):
                    total = S[SUMS + z + h] if end > begin else one
                    dst[i, INV_M + h] = S[inv_m + h]
                    dst[i, SHIFT + h] = S[top + h] if end > begin else zero
                    dst[i, INV_Z + h] = one / total
                    for d in range(D):
                        # Divided: a mean of up to 6 equal rows is that row, to the last bit.
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
        src,
        dst,
        n_own,
        out,
        slope,
        seed,
        threshold,
        g,
        d_dst,
        winner,
    ):
        SUMS = 2 * H
        for chunk in range(chunk_from, chunk_to):
            # sums: d er, d M | totals | g·v | weight | row of dst (5H) | largest n so far, and its
            # in-edge, counted from the node's first | row of src (2H) | row of g (HD)
            S = np.empty(2 * SUMS + 11 * H + HD, ft)
            d_m, gv, w, own = H, 2 * SUMS, 2 * SUMS + H, 2 * SUMS + 2 * H
            most, first, far, g_own = own + 5 * H, own + 6 * H, own + 7 * H, own + 9 * H
            last = index.shape[0] - 1
            for i in range(chunks[chunk], chunks[chunk + 1]):
                for k in range(2 * SUMS):
                    S[k] = zero
                for k in range(HD):
                    S[g_own + k] = g[i, k]
                for k in range(4 * H):
                    S[own + k] = dst[i, k]
                dot_rows(S, out, i, g_own, own + C, H, D)
                for h in range(H):
                    dst[i, C + h] = S[own + C + h]
                    S[most + h] = n_own[i, h] if has_own else -one
                    S[first + h] = -one
                begin = indptr[i]
                end = indptr[i + 1]
                is_large = False
                for h in range(H):
                    is_large |= abs(S[own + SHIFT + h]) > large
                for turn in range(0 if is_large else 1, 2):
                    for start in range(begin, end, BLOCK):
                        for e in range(start, min(start + BLOCK, end)):
                            j = index[e]
                            prefetch(v, index[min(e + AHEAD, last)])
                            copy_row(S, src, j, far, SRC)
                            dot_rows(S, v, j, g_own, gv, H, D)
                            for h in range(H):
                                S[w + h] = one
                            if threshold < everything:
                                bits = edge_bits(edge[e], seed)
                                for h in range(H):
                                    S[w + h] = S[w + h] if keep(bits, h, threshold) else zero
                            if turn == 0:
                                for h in range(H):
                                    x = S[far + h] + S[own + h]
                                    s = x if x > zero else slope * x
                                    if has_norm:
                                        s, _, _ = normed(
                                            s, S[far + N + h], S[own + INV_M + h], one, largest
                                        )
                                    p = exp(s - S[own + SHIFT + h])
                                    S[h] += p * (S[w + h] * S[gv + h]) / (one / S[own + INV_Z + h])
                                continue
                            for h in range(H):
                                x = S[far + h] + S[own + h]
                                f = one if x > zero else slope
                                s = f * x
                                if has_norm:
                                    n = S[far + N + h]
                                    inv_m = S[own + INV_M + h]
                                    s, u, _ = normed(s, n, inv_m, one, largest)
                                p = exp(s - S[own + SHIFT + h]) * S[own + INV_Z + h]
                                ds = p * (S[w + h] * S[gv + h] - S[own + C + h])
                                if has_norm:
                                    # As large as g, whatever the size of v.
                                    ds = zero if abs(s) == largest else ds * inv_m * u
                                    S[d_m + h] -= ds * u * s
                                    is_more = n > S[most + h]
                                    S[most + h] = n if is_more else S[most + h]
                                    S[first + h] = ft(e - begin) if is_more else S[first + h]
                                S[h] += ds * f
                        flush(S, SUMS)
                    if turn == 0:
                        for h in range(H):
                            S[own + C + h] = dst[i, C + h] = S[SUMS + h]
                            S[SUMS + h] = zero
                for h in range(H):
                    d_dst[i, h] = S[SUMS + h]
                    d_dst[i, H + h] = S[SUMS + d_m + h]
                    place = np.int64(S[first + h])
                    winner[i, h] = index[begin + place] if place >= 0 else -1

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
        slope,
        seed,
        threshold,
        g,
        d_v,
        d_src,
    ):
        SUMS = HD + 2 * H
        for chunk in range(chunk_from, chunk_to):
            # sums: sum p m g (HD), d el, d n | totals | g·v | weight | el | n | row of dst (5H) |
            # row of v (HD)
            S = np.empty(2 * SUMS + 9 * H + HD, ft)
            d_el, d_n, gv = HD, HD + H, 2 * SUMS
            w, el, far, v_own = gv + H, gv + 2 * H, gv + 4 * H, gv + 9 * H
            last = index.shape[0] - 1
            for j in range(chunks[chunk], chunks[chunk + 1]):
                for k in range(2 * SUMS):
                    S[k] = zero
                for k in range(HD):
                    S[v_own + k] = v[j, k]
                for k in range(SRC):
                    S[el + k] = src[j, k]
                end = indptr[j + 1]
                for start in range(indptr[j], end, BLOCK):
                    for e in range(start, min(start + BLOCK, end)):
                        i = index[e]
                        ahead = index[min(e + AHEAD, last)]
                        prefetch(g, ahead)
                        prefetch(dst, ahead)
                        copy_row(S, dst, i, far, DST)
                        dot_rows(S, g, i, v_own, gv, H, D)
                        for h in range(H):
                            S[w + h] = one
                        if threshold < everything:
                            bits = edge_bits(edge[e], seed)
                            for h in range(H):
                                S[w + h] = S[w + h] if keep(bits, h, threshold) else zero
                        for h in range(H):
                            x = S[el + h] + S[far + h]
                            f = one if x > zero else slope
                            s = f * x
                            if has_norm:
                                inv_m = S[far + INV_M + h]
                                s, u, r = normed(s, S[el + N + h], inv_m, one, largest)
                            p = exp(s - S[far + SHIFT + h]) * S[far + INV_Z + h]
                            ds = p * (S[w + h] * S[gv + h] - S[far + C + h])
                            S[w + h] *= p
                            if has_norm:
                                ds = zero if abs(s) == largest else ds * inv_m * u
                                S[d_n + h] -= ds * u * r * s
                            S[d_el + h] += ds * f
                        add_rows(S, g, i, w, 0, H, D, 1)
                    flush(S, SUMS)
                for k in range(HD):
                    d_v[j, k] = S[SUMS + k]
                for h in range(H):
                    d_src[j, h] = S[SUMS + d_el + h]
                    d_src[j, N + h] = S[SUMS + d_n + h]

    @node_kernel
    def combine(chunk_from, chunk_to, v, d_node, a, d_v, d_a):
        """``d_v += a d`` and ``d_a = sum_j d_j v_j``, in parts by chunk of nodes."""
        num_nodes = d_node.shape[0]
        for chunk in range(chunk_from, chunk_to):
            S = np.zeros(HD, ft)
            for j in range(*bounds(chunk, chunk + 1, num_nodes)):
                for h in range(H):
                    by = d_node[j, h]
                    for d in range(D):
                        k = h * D + d
                        S[k] += by * v[j, k]
                        d_v[j, k] += by * a[k]
            for k in range(HD):
                d_a[chunk, k] = S[k]

    return SimpleNamespace(
        lengths=lengths,
        row_products=row_products,
        forward=forward,
        backward_in_edges=backward_in_edges,
        backward_out_edges=backward_out_edges,
        give_to_winners=give_to_winners,
        add_from_lengths=add_from_lengths,
        combine=combine,
        tiny=tiny,
    )
