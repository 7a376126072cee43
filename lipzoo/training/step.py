"""One step of a training: the loss of a model on a task, its gradient, and what is done with it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lipzoo.datasets import GraphTask
from lipzoo.nn.feature_norms import FeatureNorm
from lipzoo.training.batching_rows import Batch, Share
from lipzoo.training.consistency import consistency_loss
from lipzoo.training.metrics import model_feat, task_loss
from lipzoo.training.ranks import Ranks
from lipzoo.training.recipe import FitSettings

__all__ = ["train_step"]


def train_step(
    model: nn.Module,
    task: GraphTask | Batch,
    optimizer: torch.optim.Optimizer,
    settings: FitSettings,
    class_weight: Tensor | None,
    epoch: int,
    ranks: Ranks | None = None,
) -> float:
    """One step on the training nodes of a task or batch, on all of its graph; its loss.

    ``class_weight`` (C,) is that of the classes in the loss, ``epoch`` counts from 1; ``ranks`` are
    the processes that have the rest of the graph. Losses are multiplied by the batch's share.
    """
    share = task.share if isinstance(task, Batch) else Share()
    _train_mode(model)
    optimizer.zero_grad(set_to_none=True)
    feat, labels = model_feat(model, task), task.labels[task.train_mask]
    consistency = settings.consistency
    passes = [model(task.graph, feat) for _ in range(consistency.passes if consistency else 1)]
    losses = [
        task_loss(
            logits[task.train_mask],
            labels,
            task.multilabel,
            settings.label_smoothing,
            class_weight,
        )
        if len(labels)
        else logits[:0].sum()  # 0: what another process has learns of this one's nodes
        for logits in passes
    ]
    loss = share.loss * torch.stack(losses).mean()
    if consistency is not None:
        loss = loss + share.nodes * consistency_loss(passes, consistency, epoch)
    loss.backward()
    if ranks is not None:
        ranks.reduce(model.parameters())
        loss = ranks.total(loss)
    if settings.grad_clip is not None:
        nn.utils.clip_grad_norm_(model.parameters(), settings.grad_clip)
    optimizer.step()
    return loss.item()


def _train_mode(model: nn.Module) -> None:
    """Training mode, but for feature norms that are frozen: batch norm keeps its statistics."""
    model.train()
    for module in model.modules():
        if isinstance(module, FeatureNorm):
            parameters = list(module.parameters())
            if parameters and not any(p.requires_grad for p in parameters):
                module.eval()
