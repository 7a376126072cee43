"""The input layer on sparse features: bags of words are one percent of their dense matrix."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["last_columns", "sparse_dropout_linear"]


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
    return _SparseLinear.apply(weight, offsets, columns, values.to(weight.dtype))


class _SparseLinear(torch.autograd.Function):
    """``y = X W^T`` and ``dW^T = X^T dy``, for a constant ``X`` in the parts of its CSR."""

    @staticmethod
    def forward(ctx, weight: Tensor, offsets: Tensor, columns: Tensor, values: Tensor) -> Tensor:
        ctx.save_for_backward(offsets, columns, values)
        ctx.num_columns = weight.shape[1]
        # There is no product of CSR matrices in half precision.
        kind = weight.dtype if weight.dtype == torch.float64 else torch.float32
        shape = (len(offsets) - 1, weight.shape[1])
        feat = torch.sparse_csr_tensor(
            offsets, columns, values.to(kind), shape, check_invariants=False
        )
        with torch.autocast(weight.device.type, enabled=False):
            # Row after row: strided, it takes 20 times as long.
            return torch.sparse.mm(feat, weight.t().to(kind).contiguous()).to(weight.dtype)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None, None]:
        offsets, columns, values = ctx.saved_tensors
        order = columns.argsort()
        counts = torch.bincount(columns, minlength=ctx.num_columns)
        rows = torch.arange(len(offsets) - 1, device=grad.device).repeat_interleave(offsets.diff())
        # Two times as fast as the product of a transposed CSR matrix.
        grad_weight = F.embedding_bag(
            rows[order],
            grad.contiguous(),
            F.pad(counts.cumsum(0), (1, 0)),
            mode="sum",
            per_sample_weights=values[order],
            include_last_offset=True,
        )
        return grad_weight.t(), None, None, None


def last_columns(feat: Tensor, number: int) -> Tensor:
    """Of dense or sparse features, (N, number), dense."""
    if feat.layout is not torch.sparse_csr:
        return feat[:, feat.shape[1] - number :]
    # There is no product of CSR matrices in half precision.
    kind = feat.dtype if feat.dtype == torch.float64 else torch.float32
    chosen = torch.zeros(feat.shape[1], number, dtype=kind, device=feat.device)
    chosen[feat.shape[1] - number :] = torch.eye(number, dtype=kind, device=feat.device)
    with torch.autocast(feat.device.type, enabled=False):
        return (feat.to(kind) @ chosen).to(feat.dtype)
