"""Where the numbers of a node's heads begin in its row of numbers, in units of H."""

from __future__ import annotations

import numpy as np

#: Of a source node, and of their gradients: the length ``n``, ``el = a_l·v``.
N, EL = range(2)

#: Of a destination node: ``c = g·out`` (from the backward pass), what its softmax is shifted by,
#: the reciprocal of its denominator, that of the largest length, ``er = a_r·v``.
C, SHIFT, INV_Z, INV_M, ER = range(5)

#: Gradients of a destination node: of the largest length, where it is a neighbour's, and where it
#: is the node's own; of ``er``.
D_M, D_OWN, D_ER = range(3)

#: How many there are in a destination node's row for a kind of scores.
NUM_DST = {"additive": 5, "gatv2": 4, "dot_product": 3}

#: How many of them, from ``SHIFT`` on, the forward pass writes, which the backward pass needs: it
#: has these alone. ``er`` comes to it in the place of the shift, which is found later.
NUM_KEPT = {"additive": 3, "gatv2": 3, "dot_product": 2}


def with_kept(scores: str, kept: np.ndarray, heads: int) -> np.ndarray:
    """``dst`` of the backward pass: rows of destination nodes with what the forward pass kept; the
    other columns are not written yet."""
    dst = np.empty((len(kept), NUM_DST[scores] * heads), kept.dtype)
    first = SHIFT * heads
    dst[:, first : first + kept.shape[1]] = kept
    return dst
