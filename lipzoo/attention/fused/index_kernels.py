"""A counting sort of edges by one of their ends, and back."""

from __future__ import annotations

import numba
import numpy as np

__all__ = ["count", "find_loops", "place", "unsort"]

kernel = numba.njit(nogil=True, cache=True)


@kernel
def count(ends, others, leaves_out, added, num_others, indptr):
    """Where the edges of each node start, into ``indptr`` (N + 1,) of zeros; -1.

    Or the first edge of which an end is no node.
    """
    num_nodes = indptr.shape[0] - 1
    for e in range(ends.shape[0]):
        end, other = ends[e], others[e]
        if end < 0 or end >= num_nodes or other < 0 or other >= num_others:
            return np.int64(e)
        if not (leaves_out and end == other):
            indptr[end + 1] += 1
    for k in range(added.shape[0]):
        indptr[added[k] + 1] += 1
    for i in range(num_nodes):
        indptr[i + 1] += indptr[i]
    return np.int64(-1)


@kernel
def place(ends, others, leaves_out, added, indptr, to, ids):
    """Into ``to`` the other end of each edge, into ``ids`` its number, in the order of edges.

    Both are (E,), or (0,) where they are not asked for. ``indptr`` says where the next edge of a
    node goes, and afterwards is what it was before.
    """
    edge = 0
    for e in range(ends.shape[0] + added.shape[0]):
        if e < ends.shape[0]:
            end, other = np.int64(ends[e]), np.int64(others[e])
            if leaves_out and end == other:
                continue
        else:
            end = other = np.int64(added[e - ends.shape[0]])
        here = indptr[end]
        if to.shape[0]:
            to[here] = other
        if ids.shape[0]:
            ids[here] = edge
        indptr[end] = here + 1
        edge += 1
    for i in range(indptr.shape[0] - 1, 0, -1):
        indptr[i] = indptr[i - 1]
    indptr[0] = 0


@kernel
def unsort(indptr, sources, ids, src, dst):
    """Edges by destination node into lists (E,) in the order of their numbers."""
    for i in range(indptr.shape[0] - 1):
        for e in range(indptr[i], indptr[i + 1]):
            src[ids[e]] = sources[e]
            dst[ids[e]] = i


@kernel
def find_loops(indptr, sources, has_loop):
    """Set ``has_loop`` (N,) where a node is its own in-neighbour."""
    for i in range(indptr.shape[0] - 1):
        for e in range(indptr[i], indptr[i + 1]):
            if sources[e] == i:
                has_loop[i] = True
