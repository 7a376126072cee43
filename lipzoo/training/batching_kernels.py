"""The edges between some nodes of a graph, cut out of its index."""

from __future__ import annotations

import numba

__all__ = ["cut"]


@numba.njit(nogil=True, cache=True)
def cut(nodes, place, indptr, sources, ids, src, dst, edges):
    """Into ``src`` and ``dst`` the ends of the edges between ``nodes``, in the numbers these have
    among them, node by node; their number.

    ``indptr`` (N + 1,), ``sources`` (E,) are the in-edges of all nodes. ``place`` (N,) of -1 is
    used on the way and left as it was. ``edges`` gets the edges' own numbers of ``ids``; both are
    (0,) where these are not asked for.
    """
    for k in range(nodes.shape[0]):
        place[nodes[k]] = k
    count = 0
    for k in range(nodes.shape[0]):
        for e in range(indptr[nodes[k]], indptr[nodes[k] + 1]):
            here = place[sources[e]]
            if here >= 0:
                src[count] = here
                dst[count] = k
                if edges.shape[0]:
                    edges[count] = ids[e]
                count += 1
    for k in range(nodes.shape[0]):
        place[nodes[k]] = -1
    return count
