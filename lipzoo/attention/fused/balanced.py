"""Queries over the divisor of LipschitzNorm for dot products, and the way back.

Some hundred operations of PyTorch on few numbers a node, which over a small graph take as long as
the attention: so kernels and NumPy, within the operator.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import torch

from lipzoo.attention.score_norms import power_between

__all__ = ["BalancedRows"]

#: Gradients of rows whose sizes are within this of each other underflow no sooner than the rows do.
_ALIKE = 2.0**32


class BalancedRows:
    r"""Rows whose products are :math:`q_i \cdot k_j / \sqrt D / m_i`, with
    :math:`m_i = \max(uv, uw, vw)`: what
    :meth:`~lipzoo.attention.score_norms.DotProductLipschitzNorm.balanced` gives.

    The numbers of a node are in float64, where no product of two lengths over- or underflows.

    Parameters
    ----------
    kernels : namespace
        Of dot products, from ``kernels_for``.
    launch : callable
        Runs them.
    in_edges : tuple of arrays
        As the kernels take them.
    q, k, v : arrays (N_dst, H * D), (N_src, H * D), (N_src, H * D)
        As the operator is given them.
    heads : int
        H.

    Attributes
    ----------
    query, key : arrays, as ``q`` and ``k``
    """

    def __init__(
        self,
        kernels: SimpleNamespace,
        launch: Callable,
        in_edges: tuple[np.ndarray, ...],
        q: np.ndarray,
        k: np.ndarray,
        v: np.ndarray,
        heads: int,
    ) -> None:
        self._kernels, self._launch, self._in_edges = kernels, launch, in_edges
        self._rows, self._heads = (q, k, v), heads
        self._own = np.empty((len(q), heads), kernels.number)
        self._src = np.empty((len(k), 2 * heads), kernels.number)
        for rows, lengths, column in ((q, self._own, 0), (k, self._src, 0), (v, self._src, heads)):
            launch(kernels.lengths, rows, lengths, column)
        self._longest = np.empty((len(q), 2 * heads), kernels.number)
        launch(kernels.longest_in, in_edges, self._src, self._longest)
        self._divide(q.shape[1] // heads)
        self.query, self.key = np.empty_like(q), k
        launch(kernels.multiply_rows, q, self._by, self.query)
        if self._power != 1:
            self.key = np.empty_like(k)
            launch(kernels.multiply_rows, k, self._by_key(), self.key)

    @np.errstate(all="ignore")
    def _divide(self, width: int) -> None:
        u, (v, w) = self._own.astype(np.float64), np.split(self._longest.astype(np.float64), 2, 1)
        longer = np.maximum(v, w)
        u[longer == 0] = 0  # infinity times 0 is no number
        m = np.maximum(u * longer, v * w)
        m[(m < np.finfo(self._own.dtype).tiny) | np.isinf(m)] = 0
        one_over = np.divide(1, m, out=np.zeros_like(m), where=m > 0)
        self._power = _power_between(u * one_over, self._src[:, : self._heads], m)
        self._factor = self._power / width**0.5
        self._by = (self._factor * one_over).astype(self._own.dtype)
        self._numbers = u, v, w, _share_of(u * longer, v * w), one_over

    def _by_key(self) -> np.ndarray:
        return np.full((len(self._src), self._heads), 1 / self._power, self._src.dtype)

    def go_back(self, d_query: np.ndarray, d_key: np.ndarray, d_value: np.ndarray) -> None:
        """Turn the gradients of ``query`` and ``key`` into those of ``q`` and ``k``, and add to
        that of ``v`` what came through the divisor; all in the kernels' numbers."""
        kernels, launch, heads = self._kernels, self._launch, self._heads
        q, k, v = self._rows
        products = np.empty_like(self._own)
        launch(kernels.multiply_back, q, self._by, self._slopes(), d_query, products)
        if self._power != 1:
            launch(kernels.multiply_rows, d_key, self._by_key(), d_key)
        winner = np.empty(self._longest.shape, self._in_edges[2].dtype)
        launch(kernels.find_longest, self._in_edges, self._src, self._longest, winner)
        d_src = np.zeros_like(self._src)
        kernels.give_to_winners(winner, self._of_longest(products), d_src)
        launch(kernels.add_from_lengths, k, self._src, d_src, 0, 0, d_key)
        launch(kernels.add_from_lengths, v, self._src, d_src, heads, heads, d_value)

    @np.errstate(all="ignore")
    def _slopes(self) -> np.ndarray:
        """What a product of a query and its gradient times the query adds to the gradient of ``q``:
        ``-max(v, w) / u`` over the factor of all queries, where ``m = u max(v, w)``."""
        u, v, w, of_uvw, one_over = self._numbers
        slopes = np.zeros_like(u)
        np.divide(-of_uvw * np.maximum(v, w), u * self._factor, out=slopes, where=u * one_over > 0)
        return slopes.clip(np.finfo(self._own.dtype).min).astype(self._own.dtype)

    @np.errstate(all="ignore")
    def _of_longest(self, products: np.ndarray) -> np.ndarray:
        """The gradients of ``[v | w]``."""
        u, v, w, of_uvw, one_over = self._numbers
        d_m = -products * one_over
        d_longer, d_vw, of_v = d_m * of_uvw * u, d_m * (1 - of_uvw), _share_of(v, w)
        both = np.hstack([of_v * d_longer + d_vw * w, (1 - of_v) * d_longer + d_vw * v])
        return both.astype(products.dtype)


def _share_of(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of the gradient of ``max(a, b)``, that of ``a``: half, where they are as large."""
    return (1 + np.sign(a - b)) / 2


def _power_between(queries: np.ndarray, keys: np.ndarray, divisor: np.ndarray) -> float:
    """A power of two between queries and keys of these lengths whose sizes are far from each other,
    or else 1."""
    sizes = [float(lengths.max(initial=0)) for lengths in (queries, keys)]
    if min(sizes) > 0 and max(sizes) < _ALIKE * min(sizes):
        return 1.0
    return power_between(*map(torch.from_numpy, (queries, keys, divisor))).item()
