"""The input layer on sparse features: bags of words are one percent of their dense matrix."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["sparse_dropout_linear"]


def sparse_dropout_linear(
    feat: Tensor, weight: Tensor, p: float = 0.0, training: bool = False
) -> Tensor:
    r"""``linear(dropout(feat), weight)`` for ``torch.sparse_csr`` features.

    .. math:: y_i = \sum_{k : x_{ik} \neq 0} m_{ik} \, x_{ik} \, W_{\cdot k}, \qquad
        m_{ik} = 1 / (1 - p) \text{ with probability } 1 - p, \text{ else } 0

    Dropped elements are left out of the sum, and so cost nothing in either direction. The masks
    are not those that a dense dropout draws from the same seed.

    Parameters
    ----------
    feat : Tensor (N, F), layout ``torch.sparse_csr``
        Takes no gradient.
    weight : Tensor (D, F)
        As in ``torch.nn.Linear``.
    p : float
        Rate of the dropout.
    training : bool
        No dropout where false.

    Returns
    -------
    Tensor (N, D)
    """
    offsets, columns, values = feat.crow_indices(), feat.col_indices(), feat.values()
    if training and p > 0:
        is_kept = torch.rand(values.shape, device=values.device) >= p
        # How many are kept before each row.
        offsets = F.pad(is_kept.cumsum(0), (1, 0))[offsets]
        columns, values = columns[is_kept], values[is_kept] / (1 - p)
    return F.embedding_bag(
        columns,
        weight.t(),
        offsets,
        mode="sum",
        per_sample_weights=values.to(weight.dtype),
        include_last_offset=True,
    )
