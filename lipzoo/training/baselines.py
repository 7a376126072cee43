"""What a card compares with: scikit-learn's estimators on the raw features, on the same split."""

from __future__ import annotations

from typing import Any

from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from lipzoo.datasets import GraphTask
from lipzoo.errors import ConfigError
from lipzoo.training.metrics import score_estimator

__all__ = ["ESTIMATORS", "fit_estimator"]

ESTIMATORS = {"knn": KNeighborsClassifier, "logistic_regression": LogisticRegression}


def fit_estimator(name: str, args: dict[str, Any], task: GraphTask) -> dict[str, float]:
    """The task's metric of an estimator that sees the features of the training nodes, and no edge.

    Raises
    ------
    ConfigError
        If the task is multilabel, or an argument is not the estimator's.
    """
    if task.multilabel:
        raise ConfigError(f"baseline {name!r}: is for one label a node, {task.name} has several")
    features, labels = task.feat.numpy(), task.labels.numpy()
    train = task.train_mask.numpy()
    try:
        estimator = ESTIMATORS[name](**args).fit(features[train], labels[train])
    except TypeError as fault:
        raise ConfigError(f"baseline {name!r}: {fault}") from None
    return {
        f"{split}_{task.metric}": score_estimator(estimator, features, task, mask)
        for split, mask in (("val", task.val_mask), ("test", task.test_mask))
    }
