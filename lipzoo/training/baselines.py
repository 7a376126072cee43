"""What a card compares with: scikit-learn's estimators on the raw features, on the same split."""

from __future__ import annotations

from typing import Any

from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.neighbors import KNeighborsClassifier

from lipzoo.datasets import GraphTask
from lipzoo.errors import ConfigError

__all__ = ["ESTIMATORS", "fit_estimator"]

ESTIMATORS = {"knn": KNeighborsClassifier, "logistic_regression": LogisticRegression}


def fit_estimator(name: str, args: dict[str, Any], task: GraphTask) -> dict[str, float]:
    """Accuracy of an estimator that sees the features of the training nodes, and no edge.

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
    masks = {"val": task.val_mask.numpy(), "test": task.test_mask.numpy()}
    return {
        f"{split}_accuracy": float(accuracy_score(labels[mask], estimator.predict(features[mask])))
        for split, mask in masks.items()
    }
