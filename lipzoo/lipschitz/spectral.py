"""Spectral norms that are never too small."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from lipzoo.lipschitz.rounding import UNIT, add_up, gamma, mul_up, sqrt_up, up

__all__ = ["spectral_norm"]


def spectral_norm(weight: Tensor, rows: Tensor | None = None) -> float:
    r"""An upper bound on the largest singular value, proven in floating point.

    With the Gram matrix G of the shorter side, a little more than its largest eigenvalue is
    guessed. Where a Cholesky factorisation of :math:`\mu I - G` succeeds,

    .. math::
        \lVert A \rVert_2^2 \le \mu + \gamma \, \mathrm{tr}(\mu I - G)
        + \gamma_k \lVert A \rVert_F^2 + u \mu,

    whatever was guessed: the terms behind :math:`\mu` are what the factorisation, the Gram matrix
    and the subtraction may be off by. That is some 1e-12 above the norm for 64 rows.

    Parameters
    ----------
    weight : Tensor (rows, columns)
        ``A``; each entry right to one rounding.
    rows : Tensor (rows,), optional
        Factor of each row, for ``diag(rows) A``; not negative.

    Raises
    ------
    ValueError
        If ``weight`` is no matrix.

    References
    ----------
    Rump, "Verification of positive definiteness", BIT 46 (2006); Higham, "Accuracy and Stability
    of Numerical Algorithms", theorem 10.3.
    """
    if weight.dim() != 2:
        raise ValueError(f"a spectral norm needs a matrix, got shape {tuple(weight.shape)}")
    matrix, exponent = _scaled(weight)
    if rows is not None and matrix.numel():
        factors, more = _scaled(rows)
        matrix, again = _scaled(matrix * factors.unsqueeze(1))
        exponent += more + again
    if not matrix.isfinite().all():
        return math.inf
    if not matrix.any():
        return 0.0
    try:
        return math.nextafter(math.ldexp(_norm(matrix), exponent), math.inf)
    except OverflowError:
        return math.inf


def _scaled(x: Tensor) -> tuple[Tensor, int]:
    """``x`` times a power of two, so that its largest entry is about 1, and the exponent taken
    out: squares neither overflow nor underflow."""
    x = x.detach().to("cpu", torch.float64)
    largest = x.abs().max().item() if x.numel() else 0.0
    if largest == 0 or not math.isfinite(largest):
        return x, 0
    exponent = math.frexp(largest)[1]
    return torch.from_numpy(np.ldexp(x.numpy(), -exponent)), exponent


def _norm(matrix: Tensor) -> float:
    """Of a matrix whose largest entry is about 1."""
    small, long = sorted(matrix.shape)
    gram = matrix @ matrix.T if matrix.shape[0] == small else matrix.T @ matrix
    square = up(matrix.square().sum().item(), matrix.numel() + 1)  # of the Frobenius norm
    # Entries that are off by two roundings (their own, and that of the row's factor) or that
    # underflowed; the Gram matrix, in any order of its sums.
    entries = mul_up(sqrt_up(square), 4 * UNIT)
    products = mul_up(square, up(gamma(long + 2)))
    top = torch.linalg.eigvalsh(gram)[-1].item()
    guess, margin = top, 8 * small * gamma(small)
    for _ in range(12):
        guess = top * (1 + margin)
        if guess >= square:
            break
        rest = guess * torch.eye(small, dtype=torch.float64) - gram
        if not torch.linalg.cholesky_ex(rest).info.item():
            trace = up(rest.diagonal().sum().item(), small)
            off = mul_up(trace, 2 * gamma(2 * small + 8))
            whole = add_up(guess, off, products, mul_up(guess, 2 * UNIT))
            return add_up(sqrt_up(min(whole, square)), entries)
        margin *= 8
    return add_up(sqrt_up(square), entries)
