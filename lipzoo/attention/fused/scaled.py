"""Attention vectors times the scale of LipschitzNorm.

Few numbers, for which some thirty operations of PyTorch, and as many for their gradients, take as
long as the attention over a small graph: so NumPy, within the operators.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lipzoo.attention.fused.runtime import rows

__all__ = ["ScaledVectors"]


class ScaledVectors:
    """``alpha a / ||a||`` of attention vectors (1, H, D), whatever their size.

    The scale is positive: it may go into a score before the LeakyReLU.

    Parameters
    ----------
    alpha : float
        That of the norm; 0: the vectors as they are.
    per_head : bool
        Whether ``a`` are the vectors of one head, or of all.
    vectors : Tensors
        One or more.

    Attributes
    ----------
    rows : list of arrays (1, H * D)
    """

    def __init__(self, alpha: float, per_head: bool, *vectors: Tensor) -> None:
        self._shape = vectors[0].shape
        self._groups = self._shape[1] if per_head else 1
        self._alpha = alpha
        arrays = [rows(x) for x in vectors]
        if not alpha:
            self.rows = arrays
            return
        x = self._together(arrays)
        largest = np.abs(x).max(1, keepdims=True)
        largest[largest < np.finfo(x.dtype).tiny] = 1
        x /= largest
        root = np.sqrt(np.square(x).sum(1, keepdims=True))
        self._is_zero = root == 0
        root[self._is_zero] = 1
        x /= root
        self._unit, self._root, self._largest = x, root, largest
        self.rows = self._apart(alpha * x)

    def gradients(self, grads: Sequence[np.ndarray]) -> list[Tensor]:
        """Those of the vectors, from those of ``rows``."""
        if self._alpha:
            g = self._together(grads)
            # Across the vector alone: its length changes nothing.
            g -= self._unit * (self._unit * g).sum(1, keepdims=True)
            g *= self._alpha
            g[self._is_zero[:, 0]] = 0
            grads = self._apart(g / self._root / self._largest)
        return [torch.from_numpy(g).view(self._shape) for g in grads]

    def _together(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """A row for each length that is taken."""
        x = np.stack([array.reshape(self._shape[1:]) for array in arrays], 1)
        return x.reshape(self._groups, -1)

    def _apart(self, x: np.ndarray) -> list[np.ndarray]:
        _, heads, width = self._shape
        parts = x.reshape(heads, -1, width).swapaxes(0, 1)
        return [np.ascontiguousarray(part).reshape(1, -1) for part in parts]
