"""The metrics that a task may be judged by, and where each of them is defined.

=====================  ==========================================================================
``accuracy``           share of the nodes whose most probable class is theirs; one label a node
``micro_f1``           F1 over all decisions; of one label a node it is the accuracy
``macro_f1``           mean of the F1 of each class; a class that neither is there nor is
                       predicted does not count
``roc_auc``            area under the ROC curve; of two classes (class 1 against class 0) or of
                       several labels a node (mean over the labels)
``average_precision``  mean precision over the recall; of the same
=====================  ==========================================================================

All lie in [0, 1], larger is better, and all are scikit-learn's. The last two are not defined on
nodes that are all of one class: such a split is refused. Of several labels a node, those that all
nodes of the split have, or none, do not count (as in OGB's evaluator); one must remain.
"""

from __future__ import annotations

from torch import Tensor

from lipzoo.errors import did_you_mean
from lipzoo.settings import METRICS

__all__ = [
    "METRICS",
    "RANKING_METRICS",
    "default_metric",
    "metric_fault",
    "split_fault",
    "told_apart",
]

#: Those that look at the order of the nodes, not at what is decided for each.
RANKING_METRICS = ("roc_auc", "average_precision")


def default_metric(multilabel: bool) -> str:
    """What a task is judged by where nothing is said."""
    return "micro_f1" if multilabel else "accuracy"


def metric_fault(metric: str, num_classes: int, multilabel: bool) -> str | None:
    """Why such labels cannot be judged by ``metric``; None where they can."""
    if metric not in METRICS:
        return f"there is no metric {metric!r}{did_you_mean(metric, METRICS)}"
    if metric == "accuracy" and multilabel:
        return "the metric accuracy is for one label a node, and there are several; say micro_f1"
    if metric in RANKING_METRICS and not multilabel and num_classes != 2:
        return (
            f"the metric {metric} is for two classes, or several labels a node, and there are "
            f"{num_classes} classes; say accuracy or macro_f1"
        )
    return None


def split_fault(metric: str, labels: Tensor) -> str | None:
    """Why ``metric`` is not defined on nodes with these labels, (n,) or (n, C)."""
    if metric not in RANKING_METRICS or told_apart(labels).any():
        return None
    return f"the metric {metric} is not defined on nodes that are all of one class"


def told_apart(labels: Tensor) -> Tensor:
    """Whether 0 and 1 are both there: bool (1,) of labels (n,), (C,) of labels (n, C)."""
    labels = labels.reshape(len(labels), -1)
    return (labels == 1).any(dim=0) & (labels == 0).any(dim=0)
