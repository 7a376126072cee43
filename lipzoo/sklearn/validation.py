"""Cross-validation that hides labels and keeps the graph."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.metrics import check_scoring
from sklearn.model_selection import check_cv

from lipzoo.errors import ConfigError
from lipzoo.sklearn.labels import as_labels, labelled, plain

__all__ = ["cross_val_score_nodes"]


def cross_val_score_nodes(
    estimator: Any,
    X: Any,
    y: Any,
    adjacency: Any = None,
    *,
    cv: Any = 5,
    scoring: Any = None,
) -> np.ndarray:
    """Scores of nodes whose labels were hidden, while their features and edges were there.

    scikit-learn's ``cross_val_score`` takes rows out of X, and with them nodes out of the graph.
    Here each fold fits on all of X and the whole graph, with the labels of the fold's nodes
    unknown, and scores what the fit says of these nodes. Nodes without a label are in no fold.

    Parameters
    ----------
    estimator : NodeClassifier, or Pipeline that ends in one
        Or another classifier with ``transduction_``, such as ``LabelSpreading``, which takes no
        adjacency. It is cloned.
    X : array or sparse matrix (N, F)
    y : array (N,)
        See :meth:`NodeClassifier.fit`.
    adjacency : graph, optional
        See :meth:`NodeClassifier.fit`.
    cv : int, splitter or iterable
        As scikit-learn's; of the labelled nodes. A number makes stratified folds.
    scoring : str, callable or None
        As scikit-learn's: by default accuracy.

    Returns
    -------
    ndarray (n_folds,)

    Raises
    ------
    ConfigError
        If the estimator has no ``transduction_`` once it is fitted.
    """
    y = as_labels(y)
    nodes = np.flatnonzero(labelled(y, "there is nothing to score"))
    known = plain(y[nodes])
    # Words and dates must not become numbers, nor -1 one of them.
    kinds = {"f": y.dtype, "i": np.int64, "u": np.int64, "b": np.int64}
    kind = kinds.get(y.dtype.kind)
    unknown = np.array([*y], object) if kind is None else y.astype(kind)
    steps = getattr(estimator, "steps", None)
    name = "adjacency" if steps is None else f"{steps[-1][0]}__adjacency"
    given = {} if adjacency is None else {name: adjacency}
    scores = []
    for _, fold in check_cv(cv, known, classifier=True).split(nodes, known):
        seen = unknown.copy()
        seen[nodes[fold]] = -1
        fitted = clone(estimator).fit(X, seen, **given)
        said = _Said(fitted if steps is None else fitted.steps[-1][1])
        rows = nodes[fold].reshape(-1, 1)
        scores.append(check_scoring(said, scoring=scoring)(said, rows, known[fold]))
    return np.array(scores)


class _Said(ClassifierMixin, BaseEstimator):
    """What a fit says of its own nodes, as a classifier of their numbers (n, 1)."""

    def __init__(self, estimator: Any = None) -> None:
        self.estimator = estimator
        if not hasattr(estimator, "transduction_"):
            raise ConfigError(
                f"a {type(estimator).__name__} has no transduction_; take scikit-learn's "
                "cross_val_score"
            )
        self.classes_ = estimator.classes_

    def fit(self, X: Any, y: Any = None) -> _Said:
        return self

    def predict(self, rows: np.ndarray) -> np.ndarray:
        return self.estimator.transduction_[rows[:, 0]]

    def predict_proba(self, rows: np.ndarray) -> np.ndarray:
        return self.estimator.label_distributions_[rows[:, 0]]
