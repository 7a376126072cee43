r"""Ridge regression on labels, with what it would say of each node without that node's label.

With centred features :math:`Z` (n, d) and targets :math:`Y` (n, K) of the context, and the
eigenvalues :math:`w_k` and left singular vectors :math:`U` of :math:`Z`,

.. math::
    W = (Z^T Z + \lambda I)^{-1} Z^T Y, \qquad
    y_i - \hat y_i^{(-i)} = \frac{y_i - \hat y_i}{1 - h_i}, \qquad
    1 - h_i = 1 - \tfrac1n - \sum_k U_{ik}^2 + \sum_k U_{ik}^2 \frac{\lambda}{w_k + \lambda}

(Allen's PRESS, for a fit with an intercept that is not penalised). The penalty is the one of a grid
whose leave-one-out error is least; 1 where there is no node to judge by.
"""

from __future__ import annotations

import numpy as np

__all__ = ["PENALTIES", "ridge_with_left_out"]

#: In units of the mean eigenvalue.
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)


def ridge_with_left_out(
    feat: np.ndarray, context: np.ndarray, target: np.ndarray, judged: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Fit on the context; predict all nodes, and the context's each without its own target.

    Parameters
    ----------
    feat : numpy.ndarray
        (N, d); d may be 0.
    context : numpy.ndarray
        Indices (n,), at least one.
    target : numpy.ndarray
        (n, K), of the context.
    judged : numpy.ndarray, optional
        Bool (n,): the nodes whose error chooses the penalty; by default all.

    Returns
    -------
    fitted, left_out : numpy.ndarray
        (N, K) and (n, K), float64. Of a single node, the second is what it is without any: 0.
    """
    n, mean = len(context), target.mean(0)
    rows = feat[context].astype(np.float64)
    centre = rows.mean(0)
    y = target - mean
    values, left, right = _spectrum(rows - centre)
    if n == 1:
        return np.tile(mean, (len(feat), 1)), np.zeros_like(target, dtype=np.float64)
    if not len(values):  # a constant: the mean of the others
        return np.tile(mean, (len(feat), 1)), mean - y / (n - 1)
    coefficient, squares = left.T @ y, left**2
    projected = left @ coefficient
    # What of a node lies outside of the features' span and the constant; 0 but for rounding where
    # they span everything.
    outside = np.maximum(1 - 1 / n - squares.sum(1), 0) if len(values) < n - 1 else np.zeros(n)
    judged = np.ones(n, bool) if judged is None else judged
    penalties = PENALTIES if judged.any() else (1.0,)
    best = None
    for penalty in np.array(penalties) * values.mean():
        kept = penalty / (values + penalty)
        residual = y - projected + left @ (kept[:, None] * coefficient)
        left_out = y - residual / (outside + squares @ kept)[:, None]
        error = ((y - left_out)[judged] ** 2).sum()
        if best is None or error < best[0]:
            best = error, penalty, left_out
    _, penalty, left_out = best
    weight = right @ (coefficient * (np.sqrt(values) / (values + penalty))[:, None])
    return feat @ weight + (mean - centre @ weight), left_out + mean


def _spectrum(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Eigenvalues (r,) of ``rows.T @ rows`` that are not 0, left (n, r), right (d, r) vectors."""
    n, d = rows.shape
    if not d:
        return np.zeros(0), np.zeros((n, 0)), np.zeros((0, 0))
    is_wide = n <= d
    values, vectors = np.linalg.eigh(rows @ rows.T if is_wide else rows.T @ rows)
    is_kept = values > 1e-9 * max(values[-1], 1e-12)
    values, vectors = values[is_kept], vectors[:, is_kept]
    others = (rows.T if is_wide else rows) @ vectors / np.sqrt(values)
    return (values, vectors, others) if is_wide else (values, others, vectors)
