"""The ways to a classifier that a study compares; each is judged on the same split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.preprocessing import normalize

from lab.transfer.study import Point, Study
from lipzoo.datasets import GraphTask
from lipzoo.datasets.encoding import adjacency_matrix
from lipzoo.models import DeepAttentionNet
from lipzoo.registry import build_pretrained, create_model
from lipzoo.training.baselines import fit_estimator
from lipzoo.training.loop import fit
from lipzoo.training.metrics import evaluate
from lipzoo.training.recipe import FitSettings
from lipzoo.training.warm_start import best_regression, or_start, warm_start_head

__all__ = ["Outcome", "run_method"]

#: Shares of label propagation of which validation chooses.
SHARES = (0.5, 0.8, 0.9, 0.95, 0.99)


@dataclass(frozen=True)
class Outcome:
    """Accuracies in [0, 1]; epochs are None where nothing is trained by epochs.

    ``epochs_to_95`` is the first epoch whose validation accuracy is at least 95 % of that of the
    chosen epoch; where the head begins as a probe, that beginning is epoch 0.
    """

    val: float
    test: float
    best_epoch: int | None = None
    epochs_to_95: int | None = None


def run_method(point: Point, study: Study, raw: GraphTask, encoded: GraphTask) -> Outcome:
    """Train and judge one method on a task with its split, raw and encoded.

    Only the validation nodes choose: epochs, penalties, shares.
    """
    method = study.methods[point.method]
    task = encoded if method.encoded else raw
    torch.manual_seed(point.seed)
    if method.kind == "label_propagation":
        return propagate_labels(raw)
    if method.kind == "closed_form_stack":
        return _outcome(fit_estimator(method.kind, method.overrides, raw), raw)
    if method.kind == "logistic_regression":
        return _logistic_regression(task.feat.numpy(), task)
    checkpoint = point.fold.checkpoint
    if method.kind == "scratch":
        model = create_model(
            method.architecture or checkpoint.card.name,
            in_feats=task.in_feats,
            num_classes=task.num_classes,
            **method.overrides,
        )
        return _trained(model, task, study.settings(point.method))
    model, _ = build_pretrained(checkpoint, num_classes=task.num_classes, **method.overrides)
    warm_start_head(model, task)
    start = evaluate(model, task)
    if method.kind == "probe":
        return _outcome(start, task)
    return _trained(model, task, study.settings(point.method), start)


def _trained(
    model: DeepAttentionNet,
    task: GraphTask,
    settings: FitSettings,
    start: dict[str, float] | None = None,
) -> Outcome:
    """Train; ``start`` are the metrics of a warm start, which counts as epoch 0."""
    result = fit(model, task, settings, verbose=False)
    name = f"val_{task.metric}"
    history = result.history
    if start is not None:
        result = or_start(result, start, name)
        history = [{"epoch": 0, **start}, *history]
    wanted = 0.95 * result.metrics[name]
    soon = next(row["epoch"] for row in history if row[name] >= wanted)
    return _outcome(result.metrics, task, best_epoch=result.best_epoch, epochs_to_95=int(soon))


def _outcome(metrics: dict[str, float], task: GraphTask, **epochs: int) -> Outcome:
    return Outcome(metrics[f"val_{task.metric}"], metrics[f"test_{task.metric}"], **epochs)


def _logistic_regression(features: np.ndarray, task: GraphTask) -> Outcome:
    features = normalize(features)
    found = best_regression(features, task)
    _, val, test, labels = _arrays(task)
    return Outcome(*(found.score(features[mask], labels[mask]) for mask in (val, test)))


def propagate_labels(task: GraphTask, steps: int = 50) -> Outcome:
    r"""Label propagation: no features.

    .. math::
        F_0 = Y, \qquad F_{t+1} = \alpha D^{-1/2} A D^{-1/2} F_t + (1 - \alpha) Y

    with the share :math:`\alpha` that does best on the validation nodes.

    References
    ----------
    Zhou et al., "Learning with Local and Global Consistency", NIPS 2003.
    """
    train, val, test, labels = _arrays(task)
    adjacency = adjacency_matrix(task.graph)
    scale = sp.diags(1 / np.sqrt(np.maximum(np.asarray(adjacency.sum(axis=1)).ravel(), 1)))
    walk = (scale @ adjacency @ scale).tocsr()
    known = np.zeros((task.num_nodes, task.num_classes))
    known[train, labels[train]] = 1
    best = Outcome(-1.0, -1.0)
    for share in SHARES:
        spread = known
        for _ in range(steps):
            spread = share * (walk @ spread) + (1 - share) * known
        right = spread.argmax(axis=1) == labels
        if right[val].mean() > best.val:
            best = Outcome(float(right[val].mean()), float(right[test].mean()))
    return best


def _arrays(task: GraphTask) -> tuple[np.ndarray, ...]:
    masks = (task.train_mask, task.val_mask, task.test_mask)
    return (*(mask.numpy() for mask in masks), task.labels.numpy())
