"""What a card compares with on the same split, and trains by no epochs."""

from __future__ import annotations

from typing import Any

from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from lipzoo.context import ClosedFormStack
from lipzoo.datasets import GraphTask
from lipzoo.errors import ConfigError, LipzooError
from lipzoo.training.metrics import score, score_estimator

__all__ = ["ESTIMATORS", "fit_estimator"]

#: Of scikit-learn.
ESTIMATORS = {"knn": KNeighborsClassifier, "logistic_regression": LogisticRegression}


def fit_estimator(name: str, args: dict[str, Any], task: GraphTask) -> dict[str, float]:
    """The task's metric of an estimator on validation and test nodes.

    ``closed_form_stack`` is :class:`~lipzoo.context.ClosedFormStack`; those of ``ESTIMATORS`` see
    the features of the training nodes, and no edge.

    Raises
    ------
    ConfigError
        If an argument is not the estimator's, the training nodes are too few for it or of one
        class, or one of scikit-learn's is asked for several labels a node.
    """
    splits = (("val", task.val_mask), ("test", task.test_mask))
    if name == "closed_form_stack":
        try:
            stack = ClosedFormStack(**args)
        except TypeError as fault:
            raise _does_not_do(name, fault) from None
        logits = stack.fit(task).predict_logits()
        return {
            f"{split}_{task.metric}": score(logits[mask], task.labels[mask], task.metric)
            for split, mask in splits
        }
    if task.multilabel:
        raise ConfigError(f"baseline {name!r}: is for one label a node, {task.name} has several")
    features, labels = task.feat.numpy(), task.labels.numpy()
    train = task.train_mask.numpy()
    try:
        estimator = ESTIMATORS[name](**args).fit(features[train], labels[train])
        return {
            f"{split}_{task.metric}": score_estimator(estimator, features, task, mask)
            for split, mask in splits
        }
    except LipzooError:
        raise
    except (TypeError, ValueError) as fault:  # the latter of the data, some only when it predicts
        raise _does_not_do(name, fault) from None


def _does_not_do(name: str, fault: Exception) -> ConfigError:
    return ConfigError(f"baseline {name!r}: {fault}")
