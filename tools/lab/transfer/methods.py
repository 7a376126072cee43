"""The ways to a classifier that a study compares; each is judged on the same split."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.sparse as sp
import torch
from sklearn.preprocessing import normalize
from torch import nn

from lab.transfer.study import Point, Study
from lipzoo.datasets import GraphTask
from lipzoo.datasets.encoding import adjacency_matrix
from lipzoo.encoding import as_start, started
from lipzoo.registry import build_pretrained, get_architecture
from lipzoo.training.baselines import fit_estimator
from lipzoo.training.fresh import fresh_model
from lipzoo.training.loop import fit
from lipzoo.training.metrics import evaluate, score, score_estimator
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


def run_method(point: Point, study: Study, task: GraphTask) -> Outcome:
    """Train and judge one method on a task with its split, as the method reads it.

    Only the validation nodes choose: epochs, penalties, shares.
    """
    method = study.method_on(point.method, point.target)
    torch.manual_seed(point.seed)
    if method.kind == "label_propagation":
        return _best(propagations(task), task)
    if method.kind == "graphany":
        return _best(linear_gnns(task), task)
    if method.kind == "closed_form_stack":
        args = {"seed": point.seed, **method.overrides}
        return _outcome(fit_estimator(method.kind, args, task), task)
    if method.kind == "logistic_regression":
        return _logistic_regression(task)
    if method.kind == "scratch":
        return _from_scratch(point, study, task)
    checkpoint = point.checkpoint
    if checkpoint.card.reads_context:
        model, _ = build_pretrained(checkpoint, **method.overrides)
        # Else all seeds would share one draw of the evidence, be it a good or a bad one.
        encoding = {**model.card.encoding, "seed": point.seed}
        model.card = model.card.model_copy(update={"encoding": encoding})
        if method.kind == "in_context":
            return _outcome(evaluate(model, task), task)
        return _trained(model, task, study.settings(point.method, point.target))
    model, _ = build_pretrained(checkpoint, num_classes=task.num_classes, **method.overrides)
    warm_start_head(model, task)
    start = evaluate(model, task)
    if method.kind == "probe":
        return _outcome(start, task)
    return _trained(model, task, study.settings(point.method, point.target), start)


def _from_scratch(point: Point, study: Study, task: GraphTask) -> Outcome:
    method = study.method_on(point.method, point.target)
    start = as_start(method.start)
    if start is not None:
        start = start.model_copy(update={"seed": point.seed})
    task = started(task, start)
    architecture = get_architecture(method.architecture or point.checkpoint.card.name)
    model = fresh_model(task, architecture, method.overrides, method.start)
    return _trained(model, task, study.settings(point.method, point.target))


def _trained(
    model: nn.Module,
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
    soon = next((row["epoch"] for row in history if row[name] >= wanted), 0)
    return _outcome(result.metrics, task, best_epoch=result.best_epoch, epochs_to_95=int(soon))


def _outcome(metrics: dict[str, float], task: GraphTask, **epochs: int) -> Outcome:
    return Outcome(metrics[f"val_{task.metric}"], metrics[f"test_{task.metric}"], **epochs)


def _logistic_regression(task: GraphTask) -> Outcome:
    features = normalize(task.feat.numpy())
    found = best_regression(features, task)
    masks = (task.val_mask, task.test_mask)
    return Outcome(*(score_estimator(found, features, task, mask) for mask in masks))


def _best(predictions: Iterable[np.ndarray], task: GraphTask) -> Outcome:
    """Of some predictions (N, C), those that do best on the validation nodes."""
    best = Outcome(-1.0, -1.0)
    for prediction in predictions:
        logits = torch.from_numpy(prediction)
        found = Outcome(
            *(
                score(logits[mask], task.labels[mask], task.metric)
                for mask in (task.val_mask, task.test_mask)
            )
        )
        if found.val > best.val:
            best = found
    return best


def linear_gnns(task: GraphTask) -> Iterator[np.ndarray]:
    r"""GraphAny's five: least squares of the labels, of least norm, on filtered features.

    .. math::
        \hat Y = F F_L^+ Y_L, \qquad F \in \{X, S X, S^2 X, (I - S) X, (I - S)^2 X\}, \quad
        S = D^{-1/2} A D^{-1/2}

    References
    ----------
    Zhao et al., "GraphAny: A Foundation Model for Node Classification on Any Graph", ICLR 2025.
    """
    walk, known = _symmetric_walk(task), _known_labels(task)
    train = task.train_mask.numpy()
    once = twice = task.feat.double().numpy()
    filtered = [once]
    for _ in range(2):
        once, twice = walk @ once, twice - walk @ twice
        filtered += [once, twice]
    for feat in filtered:
        weight, *_ = scipy.linalg.lstsq(feat[train], known[train], cond=1e-6, check_finite=False)
        yield feat @ weight


def propagations(task: GraphTask, steps: int = 50) -> Iterator[np.ndarray]:
    r"""Label propagation, of several shares :math:`\alpha`: no features.

    .. math::
        F_0 = Y, \qquad F_{t+1} = \alpha D^{-1/2} A D^{-1/2} F_t + (1 - \alpha) Y

    References
    ----------
    Zhou et al., "Learning with Local and Global Consistency", NIPS 2003.
    """
    walk, known = _symmetric_walk(task), _known_labels(task)
    for share in SHARES:
        spread = known
        for _ in range(steps):
            spread = share * (walk @ spread) + (1 - share) * known
        yield spread


def _symmetric_walk(task: GraphTask) -> sp.csr_array:
    adjacency = adjacency_matrix(task.graph)
    scale = sp.diags(1 / np.sqrt(np.maximum(np.asarray(adjacency.sum(axis=1)).ravel(), 1)))
    return (scale @ adjacency @ scale).tocsr()


def _known_labels(task: GraphTask) -> np.ndarray:
    """One-hot at the training nodes, (N, C)."""
    train, labels = task.train_mask.numpy(), task.labels.numpy()
    known = np.zeros((task.num_nodes, task.num_classes))
    known[train, labels[train]] = 1
    return known
