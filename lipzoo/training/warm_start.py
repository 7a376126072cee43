"""A head that begins as a logistic regression on what the body gives."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from lipzoo._torch import evaluating
from lipzoo.datasets import GraphTask
from lipzoo.encoding import encode_for
from lipzoo.errors import ConfigError
from lipzoo.models import DeepAttentionNet
from lipzoo.training.loop import FitResult
from lipzoo.training.metrics import has_diverged, model_feat, score_estimator

__all__ = ["best_regression", "check_warm_start", "or_start", "warm_start_head"]

#: Inverse penalties (scikit-learn's ``C``) of which validation chooses.
PENALTIES = (0.1, 1.0, 10.0, 100.0)
#: Logit of a class that no training node has.
_NEVER = -10.0


def check_warm_start(model: nn.Module, task: GraphTask) -> None:
    """Refuse what :func:`warm_start_head` cannot do.

    Raises
    ------
    ConfigError
        If the model has no linear head, nodes may have several labels, or the training nodes have
        one class only.
    """
    if not (isinstance(model, DeepAttentionNet) and isinstance(model.head, nn.Linear)):
        raise ConfigError(
            f"warm_start: a {type(model).__name__} has no linear head over forward_features; leave "
            "warm_start out"
        )
    if task.multilabel:
        raise ConfigError(
            f"{task.name}: nodes may have several labels, and a logistic regression chooses one; "
            "leave warm_start out"
        )
    _check_classes(task)


@torch.no_grad()
def warm_start_head(
    model: DeepAttentionNet, task: GraphTask, class_weight: Tensor | None = None
) -> None:
    r"""Overwrite the head by a logistic regression on the features that the body gives.

    .. math::
        \mathrm{logits} = V (h - \mu) / s + c = (V / s) \, h + (c - V \mu / s)

    with the mean :math:`\mu` over the nodes and their mean distance ``s`` from it; ``V`` and ``c``
    are scikit-learn's, fitted on the training nodes, with the penalty that does best on the
    validation nodes. The body is left alone, and run once, in evaluation mode.

    Parameters
    ----------
    model : DeepAttentionNet
        With a head for the classes of the task; left in the mode it was in.
    task : GraphTask
        On the device of the model; encoded here where the model's card says so.
    class_weight : Tensor (C,), optional
        See :func:`~lipzoo.training.class_weight.class_weights`.

    Raises
    ------
    ConfigError
        See :func:`check_warm_start`.
    """
    check_warm_start(model, task)
    task = encode_for(model, task)
    with evaluating(model):
        hidden = model.forward_features(task.graph, model_feat(model, task))
    hidden = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
    mean = hidden.mean(0)
    scale = (hidden - mean).norm(dim=1).mean().clamp_min(1e-12)
    found = best_regression(((hidden - mean) / scale).cpu().numpy(), task, class_weight)
    # Two classes have one row, and a class that no training node has, none.
    coefficients, intercepts = found.coef_, found.intercept_
    if len(found.classes_) == 2:
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercepts = np.concatenate([-intercepts, intercepts]) / 2
    weight = torch.from_numpy(coefficients).to(hidden) / scale
    bias = torch.from_numpy(intercepts).to(hidden) - weight @ mean
    classes = torch.from_numpy(found.classes_).to(hidden.device)
    head = model.head
    head.weight.zero_()
    head.bias.fill_(_NEVER)
    head.weight[classes] = weight.to(head.weight)
    head.bias[classes] = bias.to(head.bias)


def best_regression(
    features: np.ndarray, task: GraphTask, class_weight: Tensor | None = None
) -> LogisticRegression:
    """A logistic regression of the training nodes, with the penalty that suits validation best.

    Parameters
    ----------
    features : ndarray (N, D)
        Of all nodes.
    task : GraphTask
        Its labels and masks are read; one label a node.
    class_weight : Tensor (C,), optional
        Weights of the classes.

    Raises
    ------
    ConfigError
        If the training nodes have one class only.
    """
    train, labels = (tensor.cpu().numpy() for tensor in (task.train_mask, task.labels))
    _check_classes(task)
    weights = None if class_weight is None else dict(enumerate(class_weight.tolist()))
    fitted = [
        LogisticRegression(C=penalty, max_iter=500, class_weight=weights).fit(
            features[train], labels[train]
        )
        for penalty in PENALTIES
    ]
    scores = [score_estimator(found, features, task, task.val_mask) for found in fitted]
    return fitted[int(np.argmax(scores))]


def _check_classes(task: GraphTask) -> None:
    if len(task.labels[task.train_mask].unique()) < 2:
        raise ConfigError(f"{task.name}: the training nodes have one class only; label another")


def or_start(result: FitResult, start: dict[str, float], metric: str) -> FitResult:
    """The result of a training; or its beginning, as epoch 0, where no epoch was better.

    Few labels can make training worse than a warm start, which validation then keeps.

    Parameters
    ----------
    result : FitResult
        Of the training.
    start : dict
        The metrics before it.
    metric : str
        Which of them decides, such as ``"val_accuracy"``; larger is better.
    """
    if result.metrics[metric] > start[metric] and not has_diverged(result.metrics):
        return result
    return FitResult(start, 0, result.history)
