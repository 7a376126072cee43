"""``torch.nn.Dropout`` with the project's faster draw."""

from __future__ import annotations

from torch import Tensor, nn

from lipzoo.attention.dropout import dropout

__all__ = ["Dropout", "rate_of"]


class Dropout(nn.Dropout):
    """``torch.nn.Dropout`` that calls :func:`~lipzoo.attention.dropout.dropout`."""

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p, self.training)


def rate_of(module: nn.Dropout) -> float:
    """Its rate now: 0 in evaluation mode, in which it may be alone."""
    return module.p if module.training else 0.0
