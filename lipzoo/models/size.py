"""The size of a model."""

from __future__ import annotations

from torch import nn

__all__ = ["count_parameters"]


def count_parameters(model: nn.Module) -> int:
    """Number of learnt values."""
    return sum(parameter.numel() for parameter in model.parameters())
