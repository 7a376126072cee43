"""Loss and metrics of a model on a task."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score
from torch import Tensor, nn

from lipzoo._malloc import giving_back
from lipzoo._torch import evaluating
from lipzoo.datasets import GraphTask
from lipzoo.datasets.checks import metric_faults
from lipzoo.datasets.loading import as_task
from lipzoo.datasets.metric import RANKING_METRICS, metric_fault, split_fault, told_apart
from lipzoo.encoding import class_names, encode_for, is_multilabel
from lipzoo.errors import DataError
from lipzoo.models import check_has_head

__all__ = [
    "check_labels",
    "check_metric",
    "evaluate",
    "has_diverged",
    "infer",
    "is_multilabel",
    "measure",
    "model_feat",
    "nodes_of",
    "only_class",
    "only_class_words",
    "score",
    "score_estimator",
    "selection_key",
    "shown_class",
    "smooth",
    "task_loss",
    "warn_if_diverged",
    "with_classes_of",
]


def task_loss(
    logits: Tensor,
    labels: Tensor,
    multilabel: bool,
    label_smoothing: float = 0.0,
    class_weight: Tensor | None = None,
) -> Tensor:
    """Mean cross entropy, (N, C) against (N,); binary against (N, C) where ``multilabel``."""
    if multilabel:
        labels = smooth(labels.to(logits.dtype), label_smoothing)
        return F.binary_cross_entropy_with_logits(logits, labels, pos_weight=class_weight)
    return F.cross_entropy(logits, labels, weight=class_weight, label_smoothing=label_smoothing)


def smooth(labels: Tensor, label_smoothing: float) -> Tensor:
    """Labels y that are 0 or 1 as ``(1 - s) y + s / 2``: yes and no are the two classes of each."""
    return labels * (1 - label_smoothing) + label_smoothing / 2 if label_smoothing else labels


def score(logits: Tensor, labels: Tensor, metric: str) -> float:
    r"""One of :mod:`lipzoo.datasets.metric`, in [0, 1].

    Of two classes the ranking metrics order the nodes by :math:`z_1 - z_0`; a score that is NaN, as
    those of a network that diverged, stands in the middle, at 0.

    Parameters
    ----------
    logits : Tensor (n, C)
        Or probabilities, but for ``micro_f1`` and ``macro_f1`` of several labels a node.
    labels : Tensor
        int64 (n,), or 0/1 (n, C) of several labels a node.
    metric : str

    Raises
    ------
    DataError
        If the metric is not for such labels, or not defined on them.
    """
    multilabel = labels.dim() == 2
    fault = metric_fault(metric, logits.shape[1], multilabel) or split_fault(metric, labels)
    if fault:
        raise DataError(fault)
    if metric == "accuracy":
        return (logits.argmax(1) == labels).double().mean().item()
    truth, logits = labels.cpu().numpy(), logits.detach().double().cpu()
    if metric not in RANKING_METRICS:
        decided = (logits > 0).numpy() if multilabel else logits.argmax(1).numpy()
        average = metric.removesuffix("_f1")
        if average == "macro" and multilabel:  # as of one label a node
            counts = (truth != 0).any(0) | decided.any(0)
            truth, decided = truth[:, counts], decided[:, counts]
            if not counts.any():
                return 0.0
        return float(f1_score(truth, decided, average=average, zero_division=0))
    function = roc_auc_score if metric == "roc_auc" else average_precision_score
    if not multilabel:
        return float(function(truth, (logits[:, 1] - logits[:, 0]).nan_to_num().numpy()))
    counts = told_apart(labels).cpu().numpy()
    return float(function(truth[:, counts], logits.nan_to_num().numpy()[:, counts]))


def score_estimator(estimator: Any, features: np.ndarray, task: GraphTask, mask: Tensor) -> float:
    """:func:`score` of a classifier of scikit-learn's, by the metric of a task of one label a node.

    Parameters
    ----------
    estimator
        Fitted, with ``predict_proba``; a class that it has not seen has the probability 0.
    features : ndarray (N, D)
    task : GraphTask
        Says the metric, the labels and C.
    mask : Tensor (N,)
        The nodes to look at.
    """
    found = torch.from_numpy(estimator.predict_proba(features[mask.cpu().numpy()])).double()
    probabilities = torch.zeros(len(found), task.num_classes, dtype=torch.float64)
    probabilities[:, torch.from_numpy(estimator.classes_)] = found
    return score(probabilities, task.labels[mask].cpu(), task.metric)


def model_feat(model: nn.Module, task: GraphTask) -> Tensor:
    """The task's features (N, F): sparse, or of the type of their file, where they are and the
    model takes them so."""
    if getattr(model, "takes_sparse_feat", False) and task.sparse_feat is not None:
        return task.sparse_feat
    is_stored = isinstance(task, GraphTask) and getattr(model, "takes_stored_feat", False)
    return task.stored_feat if is_stored else task.feat


def check_metric(task: GraphTask) -> None:
    """Refuse a task whose metric would fail once it is trained.

    Raises
    ------
    DataError
        If it is not for such labels, or not defined on the nodes of a split.
    """
    faults = list(metric_faults(task))
    if faults:
        raise DataError(f"{task.name}: {'; '.join(faults)}")


#: With fewer nodes states 64 wide are smaller than what malloc gives back.
_MANY_NODES = 4096


@torch.no_grad()
def infer(model: nn.Module, task: GraphTask, gives_back: bool = False) -> Tensor:
    """Logits (N, C) in evaluation mode; the model is left in the mode it was in.

    With ``gives_back`` freed arrays go back to the system (:mod:`lipzoo._malloc`), so that the
    process holds what is in use: for a pass by itself. A training's heap has the room anyway.
    """
    with evaluating(model), giving_back(gives_back and task.num_nodes >= _MANY_NODES):
        return model(task.graph, model_feat(model, task))


def evaluate(
    model: nn.Module, task: GraphTask | Any, splits: tuple[str, ...] = ("train", "val", "test")
) -> dict[str, float]:
    """``{"val_accuracy": …, "val_loss": …, …}`` of a model in evaluation mode.

    Parameters
    ----------
    model : torch.nn.Module
        Left in the mode it was in.
    task : GraphTask, or anything that `lipzoo.datasets.as_task` takes
        On the device of the model; encoded here where the model's card says so. Classes that have
        names are told apart by them.
    splits : tuple of {"train", "val", "test"}
        Which node sets to look at.

    Raises
    ------
    DataError
        If the task's metric is not for its labels, or not defined on a node set; or if it has a
        class that the weights do not know.
    ConfigError
        If the model is a body without a head.
    """
    check_has_head(model)
    task = encode_for(model, with_classes_of(model, as_task(task)))
    logits = infer(model, task, gives_back=True)
    check_labels(task, is_multilabel(model, task), logits.shape[1])
    warn_if_diverged(logits, task.name)
    return measure(logits, task, splits)


def check_labels(task: GraphTask, multilabel: bool, num_classes: int) -> None:
    """Refuse labels that are none of a model with so many logits; names say it sooner.

    Raises
    ------
    DataError
        If they are of another kind, or there is a class without a logit; of several classes a node,
        also a logit without a class.
    """
    words = "; fine-tune it on the data"
    if task.multilabel != multilabel:
        kinds = "several classes a node", "one class a node"
        there, known = kinds if task.multilabel else reversed(kinds)
        raise DataError(f"{task.name}: has {there}, and the model was trained for {known}{words}")
    if not task.num_nodes:
        return
    found = task.labels.shape[1] if multilabel else int(task.labels.max()) + 1
    if found > num_classes or (multilabel and found < num_classes):
        raise DataError(
            f"{task.name}: has {found} classes, and the model tells {num_classes} apart{words}"
        )


def with_classes_of(model: nn.Module, task: GraphTask, is_judged: bool = True) -> GraphTask:
    """The task with its classes counted as the model counts them; see `GraphTask.with_classes`.

    Where nothing is judged by the labels, and the model starts from none, classes that have names
    on one side alone may stay as they are.

    Raises
    ------
    DataError
        If the task has a class that the model does not know.
    """
    names = class_names(model, task)
    card = getattr(model, "card", None)
    is_read = is_judged or (card is not None and card.start is not None)
    if bool(names) != bool(task.class_names) and not is_read:
        return task
    return task.with_classes(names)


def measure(
    logits: Tensor, task: GraphTask, splits: tuple[str, ...] = ("train", "val", "test")
) -> dict[str, float]:
    """What :func:`evaluate` gives of a model with these logits (N, C)."""
    metrics = {}
    for split in splits:
        mask = nodes_of(task, split)
        if mask is None:
            raise DataError(f"{task.name}: {split}_mask is missing")
        labels = task.labels[mask]
        try:
            metrics[f"{split}_{task.metric}"] = score(logits[mask], labels, task.metric)
        except DataError as fault:
            raise DataError(f"{task.name}: {split}_mask: {fault}") from None
        metrics[f"{split}_loss"] = task_loss(logits[mask], labels, task.multilabel).item()
    return metrics


def nodes_of(task: GraphTask, split: str) -> Tensor | None:
    """The mask (N,) of a split, where the task has one.

    Raises
    ------
    DataError
        If it holds several splits.
    """
    mask = getattr(task, f"{split}_mask")
    if mask is not None and mask.dim() != 1:
        raise DataError(f"{task.name}: {split}_mask holds several splits; choose with_split(0)")
    return mask


def has_diverged(val: dict[str, float]) -> bool:
    """Whether ``val_…`` figures are of a network whose outputs are NaN or infinite."""
    return not math.isfinite(val["val_loss"])


def selection_key(val: dict[str, float], metric: str, monitor: str) -> tuple[float, float]:
    """What epochs are chosen by, of their ``val_…`` figures: a larger one is better.

    That of a network that has diverged is the least, whatever it reaches by chance.
    """
    loss = val["val_loss"]
    if has_diverged(val):
        return -math.inf, -math.inf
    return (-loss, 0.0) if monitor == "loss" else (val[f"val_{metric}"], -loss)


def warn_if_diverged(logits: Tensor, where: str) -> None:
    """Say so where logits (or probabilities) are NaN or infinite."""
    if logits.isfinite().all():
        return
    warnings.warn(
        f"{where}: outputs are NaN or infinite: the network has diverged, and its figures mean "
        "nothing; train it with a smaller learning rate",
        stacklevel=3,
    )


def only_class(
    logits: Tensor, task: GraphTask, multilabel: bool | None = None
) -> int | list[int] | None:
    """The class that logits (N, C) predict for every node, though there are others; where nodes may
    have several labels, those that every node gets.

    None where predictions differ, and where a ranking metric judges, for which the order of the
    nodes counts and not the class. ``multilabel`` is by default as the task says.
    """
    if task.metric in RANKING_METRICS:
        return None
    if not logits.isfinite().all():
        return None  # nothing is predicted: see `warn_if_diverged`
    if task.multilabel if multilabel is None else multilabel:
        decided = logits > 0
        is_same = len(decided) > 0 and bool((decided == decided[0]).all())
        return decided[0].nonzero().flatten().tolist() if is_same else None
    predicted = logits.argmax(1).unique()
    return int(predicted[0]) if len(predicted) == 1 < logits.shape[1] else None


def shown_class(found: int | list[int]) -> str:
    """What :func:`only_class` found, in words."""
    if isinstance(found, int):
        return f"class {found}"
    return f"the same labels ({', '.join(map(str, found))})" if found else "none of the labels"


def only_class_words(where: str, found: int | list[int], remedies: str) -> str:
    """What to say of a model that predicts the same for every node."""
    return (
        f"{where} predicts {shown_class(found)} for every node, and has learnt nothing that tells "
        f"nodes apart, whatever its figures; try {remedies}"
    )
