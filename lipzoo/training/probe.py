"""A head alone, on features that are computed once."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lipzoo.datasets import GraphTask
from lipzoo.training.metrics import model_feat

__all__ = ["Probe", "frozen_feat"]


@torch.no_grad()
def frozen_feat(model: nn.Module, task: GraphTask) -> Tensor:
    """What the head reads, (N, out), in evaluation mode."""
    return model.eval().forward_features(task.graph, model_feat(model, task))


class Probe(nn.Module):
    """The head of a model, as a model of the features that it reads."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.head, self.head_drop = model.head, model.head_drop
        self._forward_head = model.forward_head

    def forward(self, graph, feat: Tensor) -> Tensor:
        return self._forward_head(feat)
