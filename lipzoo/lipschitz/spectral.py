"""Spectral norms that are never too small."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["spectral_norm"]

#: Up to this many rows or columns, all singular values are computed.
_EXACT = 1024
#: Squarings of the Gram matrix: n rows leave a factor of at most n ** (1 / 2 ** (_SQUARINGS + 1)).
_SQUARINGS = 12


def spectral_norm(weight: Tensor, rows: Tensor | None = None) -> float:
    r"""An upper bound on the largest singular value, at most 0.3 % above it.

    .. math::
        \lVert A \rVert_2 \le \mathrm{tr}\big((A^\top A)^k\big)^{1/2k}, \quad k = 2^{12}

    where both sides are longer than 1024, by squaring the Gram matrix; a plain singular value
    decomposition otherwise. Both in float64, with a slack that covers the rounding.

    Parameters
    ----------
    weight : Tensor (rows, columns)
        ``A``.
    rows : Tensor (rows,), optional
        Factor of each row, for ``diag(rows) A``.

    Raises
    ------
    ValueError
        If ``weight`` is no matrix.
    """
    if weight.dim() != 2:
        raise ValueError(f"a spectral norm needs a matrix, got shape {tuple(weight.shape)}")
    matrix = weight.detach().to("cpu", torch.float64)
    if rows is not None:
        matrix = matrix * rows.detach().to("cpu", torch.float64).unsqueeze(1)
    if not matrix.numel():
        return 0.0
    if not matrix.isfinite().all():
        return float("inf")
    # Scaled, so that squares neither overflow nor underflow.
    largest = matrix.abs().max()
    if largest == 0:
        return 0.0
    matrix = matrix / largest
    small = min(matrix.shape)
    if small <= _EXACT:
        # LAPACK's singular values are off by a modest multiple of eps ||A||.
        slack = 1 + 16 * max(matrix.shape) * torch.finfo(torch.float64).eps
        return (torch.linalg.svdvals(matrix)[0] * largest).item() * slack
    return _trace_bound(matrix, small) * largest.item()


def _trace_bound(matrix: Tensor, small: int) -> float:
    """``tr(G^k)^(1/2k)`` for the smaller Gram matrix ``G``."""
    gram = matrix @ matrix.T if matrix.shape[0] == small else matrix.T @ matrix
    log_scale = 0.0  # log of what G^k was divided by
    for _ in range(_SQUARINGS):
        size = torch.linalg.matrix_norm(gram)
        log_scale = 2 * (log_scale + size.log().item())
        gram = gram / size
        gram = gram @ gram
    log_trace = log_scale + gram.trace().log().item()
    # A matmul of positive semi-definite matrices is off by n^1.5 eps relative to its Frobenius
    # norm, and the roots shrink what the squarings double.
    slack = 1 + 8 * small**1.5 * torch.finfo(torch.float64).eps
    return torch.tensor(log_trace / 2 ** (_SQUARINGS + 1)).exp().item() * slack * (1 + 1e-6)
