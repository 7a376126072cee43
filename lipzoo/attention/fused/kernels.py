"""CPU kernels: one pass over the edges forward, two backward, nothing E x H stored.

One template for the kinds of scores, with ``y = v_j + t_i``::

    additive       e = LeakyReLU(a_l·v_j + a_r·v_i)     (el_j + er_i, computed before)
    gatv2          e = a·LeakyReLU(y)
    dot_product    e = q_i·k_j                           (queries come scaled)

With LipschitzNorm (attention vectors come with its scale) ``s = e u / M_i`` for ``r = n_j / M_i``,
``u = 1 / sqrt(1 + r²)``, the lengths ``n_j = ||v_j||`` and the largest of them among the
in-neighbours, ``M_i``; with ``has_own`` it runs over the node's own row too, ``n_own``. Without,
``s = e``. ::

    forward    p = exp(s - shift) / z        out_i = sum_j m p v_j        (m: dropout mask, 0 or 1)
    backward   ds = p (m g_i·v_j - c_i)      c_i = g_i·out_i              de = ds u / M_i
               d v_j += m p g_i              d n_j -= ds s u² r / M_i     d M_i -= ds s u² / M_i
    additive   d el_j, d er_i += de l(e)     (l: LeakyReLU's slope)
    gatv2      d v_j, d t_i += de a l(y)     d a += de l(y) y
    dot        d k_j += de q_i               d q_i += de k_j

A saturated softmax leaves one weight of 1, and there ``ds`` is exactly 0, however large the scores:
the score, ``g_i·v_j`` and ``c_i`` come from the same operations in the same order in every pass,
none fused or reordered (``LARGE`` for several equal weights). Ratios of lengths in place of squares
know neither over- nor underflow.

Rows in bfloat16 are rounded where they are stored, and nothing else is. ``out`` is one of them:
``c`` is off by its rounding, which is more than ``g_i·v_j - c_i`` where neighbours are alike. What
``ds`` sums to over the in-edges, before the norm, tells by how much. Each gradient is a sum with
weights ``ds``: so many times the same sum with weights ``p`` (``w``) is taken off.

Arguments. ``edges`` are the bounds of chunks, where a node's edges start, their other ends and ids.
``far`` and ``own`` are what scores read at an edge's source and destination, rows of H heads of D:
(v, t) in gatv2, (k, q) in dot products. ``src = [n | el]`` are numbers per source node and
``dst = [c | shift | 1/z | 1/M | er]`` per destination node, H each, see
``columns.py``.
"""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace

import numba
import numpy as np

from lipzoo.attention.fused import columns
from lipzoo.attention.fused._arithmetic import BLOCK, LARGE
from lipzoo.attention.fused._edge_rows import (
    add_both_slopes,
    add_products,
    add_slopes,
    dots,
    pair_scores,
)
from lipzoo.attention.fused._edges import (
    edges_together,
    first_of,
    gather,
    keep,
    largest_of,
    numbers,
    prefetch,
    repeat,
    total_of,
)
from lipzoo.attention.fused._nodes import TINY, make_node_kernels
from lipzoo.attention.fused._rows import (
    add_product,
    add_row_product,
    clear,
    dot,
    flush,
    multiply,
    new_row,
    read,
    write,
    write_quotient,
)
from lipzoo.attention.fused._softmax import NOBODY, norm_gradient, normed, store_winner
from lipzoo.attention.fused._vectors import any_of, exp, full, larger, load, store, where
from lipzoo.attention.fused.dropout_mask import KEEP_ALL

__all__ = ["make_kernels"]


@cache
def make_kernels(
    scores: str,
    dtype: str,
    H: int,
    D: int,
    has_norm: bool = False,
    has_own: bool = False,
) -> SimpleNamespace:
    """The kernels for H heads of D features; constants, so that a row is so many registers.

    Parameters
    ----------
    scores : str
        "additive", "gatv2" or "dot_product".
    dtype : str
        Of the rows: "float32", "float64", or "bfloat16", whose numbers, products and sums are in
        float32. Each has functions of its own, which are compiled at their first call.
    H, D : int
        Heads, features per head.
    has_norm : bool
        Divide by ``sqrt(M_i² + n_j²)`` (LipschitzNorm).
    has_own : bool
        ``M_i`` runs over the node's own row too.
    """
    ft = np.float64 if dtype == "float64" else np.float32
    tiny, largest, lowest = TINY[ft], ft(np.finfo(ft).max), ft(np.finfo(ft).min)
    zero, half, one, large = ft(0), ft(0.5), ft(1), ft(LARGE)
    everything, nobody = np.uint32(KEEP_ALL), np.int32(NOBODY)
    is_additive, is_gatv2 = scores == "additive", scores == "gatv2"
    is_rounded = dtype == "bfloat16"
    HD, U = H * D, edges_together(H, ft is np.float64)
    UH = U * H
    N, EL = columns.N * H, columns.EL * H
    SHIFT, INV_Z, C = columns.SHIFT * H, columns.INV_Z * H, columns.C * H
    INV_M, ER, DST = columns.INV_M * H, columns.ER * H, columns.NUM_DST[scores] * H
    KEPT_INV_Z, KEPT_INV_M = INV_Z - SHIFT, INV_M - SHIFT
    D_M, D_OWN, D_ER = columns.D_M * H, columns.D_OWN * H, columns.D_ER * H
    kernel = numba.njit(nogil=True, error_model="numpy", cache=True)

    @kernel
    def forward(
        chunk_from, chunk_to, edges, v, far, own, attn, src, kept, n_own, has_shift, settings, out
    ):
        """``kept = [shift | 1/z | 1/M]``; in additive scores ``[er | …]`` before."""
        chunks, indptr, index, edge = edges
        slope, seed, threshold = settings
        last = index.shape[0] - 1
        row, a = new_row(zero, H, D), new_row(zero, H, D)
        sums, totals = new_row(zero, H, D), new_row(zero, H, D)
        if is_gatv2:
            read(a, attn, 0)
        for i in range(chunks[chunk_from], chunks[chunk_to]):
            begin = indptr[i]
            end = indptr[i + 1]
            if not is_additive:
                read(row, own, i)
            er = load(kept, i, 0, H) if is_additive else full(zero, H)
            inv_m = full(zero, H)
            if has_norm:
                m = load(n_own, i, 0, H) if has_own else full(zero, H)
                for e in range(begin, end):
                    m = larger(m, load(src, index[e], N, H))
                inv_m = where(m < tiny, zero, one / m)
            if DST > INV_M:
                store(kept, i, KEPT_INV_M, inv_m)
            top = full(lowest, H)
            if is_additive and has_shift:
                for e in range(begin, end):
                    x = load(src, index[e], EL, H)
                    if has_norm:
                        x = x + er
                        x = where(x > zero, x, slope * x)
                        x, _, _ = normed(x, load(src, index[e], N, H), inv_m, one, largest)
                    top = larger(top, x)
                if not has_norm:
                    # LeakyReLU grows with its argument: the largest score is the largest el's.
                    x = top + er
                    top = where(x > zero, x, slope * x)
            if end == begin or not has_shift:
                top = full(zero, H)
            ers, inv_ms, tops = repeat(er, U), repeat(inv_m, U), repeat(top, U)
            clear(totals)
            z_totals = full(zero, UH)
            for start in range(begin, end, BLOCK):
                clear(sums)
                z = full(zero, UH)
                stop = min(start + BLOCK, end)
                for e in range(start, stop, U):
                    used = min(U, stop - e)
                    is_used = numbers(0, H, U) < used
                    prefetch(v, index, e, last, HD, U)
                    if is_additive:
                        x = gather(src, index, e, used, EL, H, U) + ers
                        s = where(x > zero, x, slope * x)
                    elif is_gatv2:
                        s = pair_scores(row, far, index, e, used, a, slope, U)
                    else:
                        prefetch(far, index, e, last, HD, U)
                        s = dots(row, far, index, e, used, U)
                    if has_norm:
                        n = gather(src, index, e, used, N, H, U)
                        s, _, _ = normed(s, n, inv_ms, one, largest)
                    # A new largest score: what was summed so far fades.
                    if not is_additive:
                        s = where(is_used, s, lowest)
                        if any_of(s > tops):
                            above = larger(top, largest_of(s, U))
                            fade = exp(top - above)
                            top, tops = above, repeat(above, U)
                            multiply(sums, fade)
                            multiply(totals, fade)
                            z = z * repeat(fade, U)
                            z_totals = z_totals * repeat(fade, U)
                    p = where(is_used, exp(s - tops), zero)
                    z = z + p
                    if threshold < everything:
                        is_kept = keep(edge, e, used, seed, threshold, H, U)
                        p = p * where(is_kept, one, full(zero, UH))
                    add_products(sums, p, v, index, e, used, U)
                flush(totals, sums)
                z_totals = z_totals + z
            z_total = total_of(z_totals, U) if end > begin else full(one, H)
            store(kept, i, 0, top)
            store(kept, i, KEPT_INV_Z, one / z_total)
            # Divided: a mean of up to 6 equal rows is that row, to the last bit.
            write_quotient(out, i, totals, z_total)

    @kernel
    def backward_in_edges(
        chunk_from,
        chunk_to,
        edges,
        v,
        far,
        own,
        attn,
        src,
        dst,
        n_own,
        settings,
        out,
        g,
        d_own,
        d_dst,
        d_attn,
        winner,
    ):
        """``d_dst = [d M | d n_own | d er]``, the first for the ``winner``; ``d_attn`` by chunk."""
        chunks, indptr, index, edge = edges
        slope, seed, threshold = settings
        last = index.shape[0] - 1
        row, g_row, a = new_row(zero, H, D), new_row(zero, H, D), new_row(zero, H, D)
        sums, leaky = new_row(zero, H, D), new_row(zero, H, D)
        totals, leaky_totals = new_row(zero, H, D), new_row(zero, H, D)
        w_sums, w_leaky = new_row(zero, H, D), new_row(zero, H, D)
        if is_gatv2:
            read(a, attn, 0)
        for chunk in range(chunk_from, chunk_to):
            clear(leaky_totals)
            for i in range(chunks[chunk], chunks[chunk + 1]):
                begin = indptr[i]
                end = indptr[i + 1]
                if not is_additive:
                    read(row, own, i)
                read(g_row, g, i)
                shift, inv_z = load(dst, i, SHIFT, H), load(dst, i, INV_Z, H)
                inv_m = load(dst, i, INV_M, H) if has_norm else shift
                er = load(dst, i, ER, H) if is_additive else shift
                length = load(n_own, i, 0, H) if has_own else full(-one, H)
                c = dot(g_row, out, i)
                ers, inv_ms, cs = repeat(er, U), repeat(inv_m, U), repeat(c, U)
                shifts, inv_zs = repeat(shift, U), repeat(inv_z, U)
                most, first = repeat(length, U), full(nobody, UH)
                clear(totals)
                d_er_totals, d_m_totals = full(zero, UH), full(zero, UH)
                w_er, w_m = full(zero, UH), full(zero, UH)
                if is_rounded:
                    clear(w_sums)
                    clear(w_leaky)
                for turn in range(0 if any_of(abs(shift) > large) else 1, 2):
                    c_totals = full(zero, UH)
                    for start in range(begin, end, BLOCK):
                        clear(sums)
                        clear(leaky)
                        d_er, d_m, c_sum = full(zero, UH), full(zero, UH), full(zero, UH)
                        stop = min(start + BLOCK, end)
                        for e in range(start, stop, U):
                            used = min(U, stop - e)
                            number = numbers(e - begin, H, U)
                            is_used = number < stop - begin
                            prefetch(v, index, e, last, HD, U)
                            f = u = full(one, UH)
                            if is_additive:
                                x = gather(src, index, e, used, EL, H, U) + ers
                                f = where(x > zero, one, full(slope, UH))
                                s = f * x
                            elif is_gatv2:
                                s = pair_scores(row, far, index, e, used, a, slope, U)
                            else:
                                prefetch(far, index, e, last, HD, U)
                                s = dots(row, far, index, e, used, U)
                            gv = dots(g_row, v, index, e, used, U)
                            if threshold < everything:
                                kept = keep(edge, e, used, seed, threshold, H, U)
                                gv = gv * where(kept, one, full(zero, UH))
                            n = gather(src, index, e, used, N, H, U) if has_norm else s
                            if has_norm:
                                s, u, _ = normed(s, n, inv_ms, one, largest)
                            p = exp(s - shifts)
                            if turn == 0:
                                c_sum = c_sum + where(is_used, p * gv / (one / inv_zs), zero)
                                continue
                            ds = where(is_used, p * inv_zs * (gv - cs), zero)
                            if is_rounded:
                                c_sum = c_sum + ds
                                w = where(is_used, p * inv_zs, zero)
                                if has_norm:
                                    w = norm_gradient(w, s, u, one, largest, zero)
                                    w_m = w_m - where(is_used, w * u * s, zero)
                            if has_norm:
                                ds = norm_gradient(ds, s, u, inv_ms, largest, zero)
                                d_m = d_m - where(is_used, ds * u * s, zero)
                                # The first to be as long as the node's own row, or longer than
                                # all before.
                                ties = (n == most) & (number < first)
                                is_more = is_used & ((n > most) | ties)
                                most = where(is_more, n, most)
                                first = where(is_more, number, first)
                            if is_additive:
                                d_er = d_er + where(is_used, ds * f, zero)
                                if is_rounded:
                                    w_er = w_er + where(is_used, w * f, zero)
                            elif is_gatv2 and is_rounded:
                                add_both_slopes(
                                    sums,
                                    leaky,
                                    ds,
                                    w_sums,
                                    w_leaky,
                                    w,
                                    far,
                                    index,
                                    e,
                                    used,
                                    row,
                                    slope,
                                    U,
                                )
                            elif is_gatv2:
                                add_slopes(sums, leaky, ds, far, index, e, used, row, slope, U)
                            else:
                                add_products(sums, ds, far, index, e, used, U)
                                if is_rounded:
                                    add_products(w_sums, w, far, index, e, used, U)
                        flush(totals, sums)
                        flush(leaky_totals, leaky)
                        d_er_totals = d_er_totals + d_er
                        d_m_totals = d_m_totals + d_m
                        c_totals = c_totals + c_sum
                    if turn == 0:
                        c = total_of(c_totals, U)
                        cs = repeat(c, U)
                if is_rounded:
                    # Before the norm ``ds`` sums to 0: what is left is what ``c`` lacks.
                    lack = total_of(c_totals, U)
                    c = c + lack
                    if has_norm:
                        lack = lack * inv_m
                    d_er_totals = d_er_totals - repeat(lack, U) * w_er
                    d_m_totals = d_m_totals - repeat(lack, U) * w_m
                    add_product(totals, zero - lack, w_sums)
                    add_product(leaky_totals, zero - lack, w_leaky)
                store(dst, i, C, c)
                if is_additive:
                    store(d_dst, i, D_ER, total_of(d_er_totals, U))
                elif is_gatv2:
                    clear(sums)
                    add_row_product(sums, a, totals)
                    write(d_own, i, sums)
                else:
                    write(d_own, i, totals)
                if has_norm:
                    # The longest may be the node's own row; a tie is shared.
                    place = first_of(most, first, U)
                    share = where(place < nobody, half, full(one, H))
                    share = where(length == largest_of(most, U), share, zero)
                    d_m = total_of(d_m_totals, U)
                    store(d_dst, i, D_M, (one - share) * d_m)
                    store(d_dst, i, D_OWN, share * d_m)
                    store_winner(winner, i, index, begin, place, H)
            if is_gatv2:
                write(d_attn, chunk, leaky_totals)

    @kernel
    def backward_out_edges(
        chunk_from, chunk_to, edges, v, far, own, attn, src, dst, settings, g, d_v, d_far, d_src
    ):
        """``d_src = [d n | d el]``."""
        chunks, indptr, index, edge = edges
        slope, seed, threshold = settings
        last = index.shape[0] - 1
        v_row, row, a = new_row(zero, H, D), new_row(zero, H, D), new_row(zero, H, D)
        v_sums, v_totals = new_row(zero, H, D), new_row(zero, H, D)
        sums, totals = new_row(zero, H, D), new_row(zero, H, D)
        if is_gatv2:
            read(a, attn, 0)
        for j in range(chunks[chunk_from], chunks[chunk_to]):
            end = indptr[j + 1]
            read(v_row, v, j)
            if not is_additive:
                read(row, far, j)
            ns = repeat(load(src, j, N, H), U) if has_norm else full(zero, UH)
            els = repeat(load(src, j, EL, H), U) if is_additive else full(zero, UH)
            clear(v_totals)
            clear(totals)
            d_el_totals, d_n_totals = full(zero, UH), full(zero, UH)
            for start in range(indptr[j], end, BLOCK):
                clear(v_sums)
                clear(sums)
                d_el, d_n = full(zero, UH), full(zero, UH)
                stop = min(start + BLOCK, end)
                for e in range(start, stop, U):
                    used = min(U, stop - e)
                    is_used = numbers(0, H, U) < used
                    prefetch(g, index, e, last, HD, U)
                    prefetch(dst, index, e, last, DST, U)
                    f = m = u = r = full(one, UH)
                    if is_additive:
                        x = els + gather(dst, index, e, used, ER, H, U)
                        f = where(x > zero, one, full(slope, UH))
                        s = f * x
                    elif is_gatv2:
                        prefetch(own, index, e, last, HD, U)
                        s = pair_scores(row, own, index, e, used, a, slope, U)
                    else:
                        prefetch(own, index, e, last, HD, U)
                        s = dots(row, own, index, e, used, U)
                    gv = dots(v_row, g, index, e, used, U)
                    if threshold < everything:
                        m = where(keep(edge, e, used, seed, threshold, H, U), m, zero)
                    inv_m = gather(dst, index, e, used, INV_M, H, U) if has_norm else s
                    if has_norm:
                        s, u, r = normed(s, ns, inv_m, one, largest)
                    p = exp(s - gather(dst, index, e, used, SHIFT, H, U))
                    p = p * gather(dst, index, e, used, INV_Z, H, U)
                    ds = p * (m * gv - gather(dst, index, e, used, C, H, U))
                    ds = where(is_used, ds, zero)
                    if has_norm:
                        ds = norm_gradient(ds, s, u, inv_m, largest, zero)
                        d_n = d_n - where(is_used, ds * u * r * s, zero)
                    add_products(v_sums, m * p, g, index, e, used, U)
                    if is_additive:
                        d_el = d_el + where(is_used, ds * f, zero)
                    elif is_gatv2:
                        add_slopes(sums, 0, ds, own, index, e, used, row, slope, U)
                    else:
                        add_products(sums, ds, own, index, e, used, U)
                flush(v_totals, v_sums)
                flush(totals, sums)
                d_el_totals = d_el_totals + d_el
                d_n_totals = d_n_totals + d_n
            if has_norm:
                store(d_src, j, N, total_of(d_n_totals, U))
            if is_additive:
                store(d_src, j, EL, total_of(d_el_totals, U))
            elif is_gatv2:
                add_row_product(v_totals, a, totals)
            else:
                write(d_far, j, totals)
            write(d_v, j, v_totals)

    return SimpleNamespace(
        **vars(make_node_kernels(H, D, dtype)),
        number=ft,
        forward=forward,
        backward_in_edges=backward_in_edges,
        backward_out_edges=backward_out_edges,
    )
