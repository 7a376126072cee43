"""Loss and metrics of a model on a task."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from sklearn.metrics import f1_score, roc_auc_score
from torch import Tensor, nn

from lipzoo.datasets import GraphTask
from lipzoo.datasets.encoding import encode_for

__all__ = ["evaluate", "evaluate_encoded", "infer", "model_feat", "score", "task_loss"]


def task_loss(
    logits: Tensor,
    labels: Tensor,
    multilabel: bool,
    label_smoothing: float = 0.0,
    class_weight: Tensor | None = None,
) -> Tensor:
    """Mean cross entropy, (N, C) against (N,); binary against (N, C) where ``multilabel``."""
    if multilabel:
        return F.binary_cross_entropy_with_logits(
            logits, labels.to(logits.dtype), pos_weight=class_weight
        )
    return F.cross_entropy(logits, labels, weight=class_weight, label_smoothing=label_smoothing)


def score(logits: Tensor, labels: Tensor, metric: str) -> float:
    """``accuracy``, ``micro_f1`` or ``roc_auc`` in [0, 1], of logits (N, C)."""
    if metric == "accuracy":
        return (logits.argmax(1) == labels).double().mean().item()
    truth, logits = labels.cpu().numpy(), logits.detach().float().cpu().numpy()
    if metric == "micro_f1":
        return float(f1_score(truth, logits > 0, average="micro", zero_division=0))
    return float(roc_auc_score(truth, logits, average="macro"))


def model_feat(model: nn.Module, task: GraphTask) -> Tensor:
    """The task's features (N, F): sparse where they are and the model takes them so."""
    if getattr(model, "takes_sparse_feat", False) and task.sparse_feat is not None:
        return task.sparse_feat
    return task.feat


@torch.no_grad()
def infer(model: nn.Module, task: GraphTask) -> Tensor:
    """Logits (N, C) in evaluation mode; the model is left in the mode it was in."""
    was_training = model.training
    logits = model.eval()(task.graph, model_feat(model, task))
    model.train(was_training)
    return logits


def evaluate(
    model: nn.Module, task: GraphTask, splits: tuple[str, ...] = ("train", "val", "test")
) -> dict[str, float]:
    """``{"val_accuracy": …, "val_loss": …, …}`` of a model in evaluation mode.

    Parameters
    ----------
    model : torch.nn.Module
        Left in the mode it was in.
    task : GraphTask
        On the device of the model; encoded here where the model's card says so.
    splits : tuple of {"train", "val", "test"}
        Which node sets to look at.
    """
    return evaluate_encoded(model, encode_for(model, task), splits)


def evaluate_encoded(
    model: nn.Module, task: GraphTask, splits: tuple[str, ...] = ("train", "val", "test")
) -> dict[str, float]:
    """:func:`evaluate` on a task as the model reads it."""
    logits = infer(model, task)
    metrics = {}
    for split in splits:
        mask = getattr(task, f"{split}_mask")
        labels = task.labels[mask]
        metrics[f"{split}_{task.metric}"] = score(logits[mask], labels, task.metric)
        metrics[f"{split}_loss"] = task_loss(logits[mask], labels, task.multilabel).item()
    return metrics
