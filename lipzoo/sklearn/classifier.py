"""`NodeClassifier`: deep graph attention networks as an estimator of scikit-learn."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.metrics import accuracy_score
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data

from lipzoo._graph import make_graph
from lipzoo.context import ClosedFormStack
from lipzoo.datasets import GraphTask
from lipzoo.errors import ConfigError, DataError, did_you_mean
from lipzoo.registry import build_pretrained
from lipzoo.sklearn.edges import edges_of, edges_to_new, neighbour_edges
from lipzoo.sklearn.labels import as_labels, hold_out, labelled, plain, read_labels
from lipzoo.sklearn.learning import learn
from lipzoo.training import predict
from lipzoo.weights import pack, unpack

__all__ = ["NodeClassifier"]

_STACK = "stack"
_GRAPHS = ("knn",)


class NodeClassifier(ClassifierMixin, BaseEstimator):
    """Classify the nodes of a graph from their features and the labels of some.

    Without a graph, rows are joined to their nearest neighbours. All rows of ``fit`` are nodes, and
    those without a label are learnt from too (as in ``sklearn.semi_supervised.LabelSpreading``).

    Features are taken as they are: put a ``StandardScaler`` before, in a ``Pipeline``.

    Parameters
    ----------
    model : str or path
        The name of an architecture, such as ``"gat_lip_res_16"``, which is trained from scratch;
        of pretrained weights, such as ``"gat_lip_16.digits"``, or their folder or address, which
        are fine-tuned; or ``"stack"``, the closed-form stack (:class:`~lipzoo.ClosedFormStack`),
        which has nothing to train: of the parameters below only the graph's are read, and
        ``random_state``.
    graph : {"knn"}
        What is made of X where ``fit`` gets no adjacency.
    n_neighbors : int
        Nearest others (Euclidean) that a row is joined to, in both directions.
    epochs, lr, weight_decay, patience, start
        As of :func:`lipzoo.finetune`; ``start="stack"``, ``"context"`` and ``"auto"`` help where
        few nodes are labelled.
    validation_fraction : float
        In [0, 1): the share of each class's labelled nodes, at least one (but never the only
        one), that is not learnt from, but chooses the epoch and ends the training after
        ``patience`` epochs without a better one. With 0, and where it would be less than a node a
        class, the weights of the last epoch are kept.
    class_weight : dict, "balanced" or None
        Weights of the classes in the training loss, 1 for those that a dict leaves out. The epoch
        is chosen by accuracy; with ``"balanced"``, by the mean F1 of the classes.
    model_params : dict, optional
        Arguments of the architecture, such as ``{"feat_drop": 0.2}``.
    random_state : int, RandomState or None
        Of the first weights, dropout, and the nodes that are held out.
    verbose : bool
        Say on stderr how far it is.

    Attributes
    ----------
    classes_ : ndarray (C,)
    transduction_ : ndarray (N,)
        The class of each node of ``fit``; of those that have a label too, by what was learnt.
    label_distributions_ : ndarray (N, C)
        The probabilities of the classes.
    edge_index_ : ndarray (2, E)
        Sources and targets of the graph's edges.
    model_ : torch.nn.Module
        In evaluation mode, with a ``card``; None of ``"stack"``.
    best_epoch_ : int
        The epoch, from 1, whose weights are kept; 0 of ``"stack"``, and where no epoch was better
        than the ``start``.
    history_ : list of dict
        One an epoch.
    n_features_in_, feature_names_in_
        As of all estimators.
    """

    def __init__(
        self,
        model: str | os.PathLike = "gat_lip_lin_2",
        *,
        graph: str = "knn",
        n_neighbors: int = 10,
        epochs: int = 200,
        lr: float = 0.005,
        weight_decay: float = 5e-4,
        patience: int = 50,
        start: str | None = None,
        validation_fraction: float = 0.1,
        class_weight: dict | str | None = None,
        model_params: dict[str, Any] | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: bool = False,
    ) -> None:
        self.model = model
        self.graph = graph
        self.n_neighbors = n_neighbors
        self.epochs = epochs
        self.lr = lr
        self.weight_decay = weight_decay
        self.patience = patience
        self.start = start
        self.validation_fraction = validation_fraction
        self.class_weight = class_weight
        self.model_params = model_params
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any, adjacency: Any = None) -> NodeClassifier:
        """Learn from all nodes' features and edges, and the labels that are known.

        Parameters
        ----------
        X : array or sparse matrix (N, F)
            A row a node.
        y : array (N,)
            Numbers or words. -1 marks a node without a label; beside words so do None, NaN,
            empty text (``""``), and -1 or NaN as text.
        adjacency : graph with N nodes, optional
            A SciPy sparse matrix or array (N, N), an ``edge_index`` (2, E), a networkx graph, a
            ``DGLGraph`` or a PyG ``Data``. An entry ``[i, j]`` is the edge ``i -> j``, along which
            j sees i; its value is not read. Only the edges are taken; row i is the node i, of a
            networkx graph ``list(G)[i]``. By default a graph of nearest neighbours is made.

        Raises
        ------
        DataError
            If the labels are of less than two classes, or something does not fit; a ValueError.
        ConfigError
            If a parameter is out of its range; a ValueError.
        UnknownNameError, CheckpointError
            If there is no such architecture, or the weights cannot be used.
        """
        if self.graph not in _GRAPHS:
            raise ConfigError(f"graph: no choice {self.graph!r}{did_you_mean(self.graph, _GRAPHS)}")
        wanted = {} if y is not None else {"y": None}  # which is refused in scikit-learn's words
        given, other = X, clone(self, safe=False)  # a fit that fails must not change this one
        X = validate_data(
            other, X, **wanted, accept_sparse="csr", dtype=np.float32, ensure_min_samples=2
        )
        y = as_labels(y)
        check_consistent_length(X, y)
        codes, classes = read_labels(y)
        if adjacency is None:
            edges = neighbour_edges(X, self.n_neighbors)
        else:
            edges = edges_of(adjacency, X.shape[0])
        rng = check_random_state(self.random_state)
        seed = int(rng.randint(2**31 - 1))
        held_out = np.zeros(len(codes), bool)
        if self.model != _STACK:
            held_out = hold_out(codes, self.validation_fraction, rng)
        task = _task(X, edges, codes, held_out, classes)
        model, epoch, history = None, 0, []
        if self.model != _STACK:
            model, epoch, history = learn(task, self.get_params(deep=False), classes, seed)
        # Nothing is set before all has gone well.
        validate_data(self, given, skip_check_array=True)  # keeps number and names of columns
        self.classes_, self.edge_index_, self.model_ = classes, edges, model
        self.best_epoch_, self.history_ = epoch, history
        self._X, self._codes, self._held_out, self._seed = X, codes, held_out, seed
        self._n_neighbors = self.n_neighbors if adjacency is None else None
        self.label_distributions_ = self._proba_of(task)
        self.transduction_ = self._classes_of(self.label_distributions_)
        return self

    def predict(self, X: Any = None, adjacency: Any = None) -> np.ndarray:
        """The class of each row; see :meth:`predict_proba`."""
        return self._classes_of(self.predict_proba(X, adjacency))

    def predict_proba(self, X: Any = None, adjacency: Any = None) -> np.ndarray:
        """Probabilities of the classes, (M, C), of new nodes, or of those of ``fit``.

        Rows of X are new nodes, also where they equal rows of ``fit``: these are asked for by
        leaving X out (or by ``label_distributions_``). Each new row is joined to its
        ``n_neighbors`` nearest among the nodes of ``fit``, by edges that lead to the new row only:
        known nodes do not see new ones, nor these each other. (But for PairNorm, the stack, a
        ``start`` and weights in context or for encoded features, which look at all rows at once:
        there what else is asked for has a small say.)

        Parameters
        ----------
        X : array or sparse matrix (M, F), optional
        adjacency : graph with M nodes
            The new rows' own graph; where ``fit`` got one, and only then. For new nodes that are
            joined to known ones pass all rows and the whole graph.

        Raises
        ------
        DataError
            If something does not fit what was fitted; a ValueError.
        """
        check_is_fitted(self)
        if X is None:
            if adjacency is not None:
                raise DataError("adjacency: is the graph of the rows of X; pass these too")
            return self.label_distributions_.copy()
        X = validate_data(self, X, accept_sparse="csr", dtype=np.float32, reset=False)
        if sp.issparse(X) != sp.issparse(self._X):
            X = X.toarray() if sp.issparse(X) else sp.csr_matrix(X)
        known = self._X.shape[0]
        if adjacency is None and self._n_neighbors is None:
            raise DataError(
                "adjacency: fit got a graph, so new rows need theirs: predict(X, adjacency=...); "
                "leave X out to predict the nodes of fit"
            )
        if adjacency is None:
            new = edges_to_new(self._X, X, self._n_neighbors)
        elif self._n_neighbors is not None:
            raise DataError("adjacency: fit made the graph of X, and joins new rows too; leave out")
        else:
            new = edges_of(adjacency, X.shape[0]) + known
        nothing = np.zeros(X.shape[0], np.int64)
        task = _task(
            sp.vstack([self._X, X]) if sp.issparse(X) else np.concatenate([self._X, X]),
            np.concatenate([self.edge_index_, new], 1),
            np.concatenate([self._codes, nothing - 1]),
            np.concatenate([self._held_out, nothing > 0]),
            self.classes_,
        )
        return self._proba_of(task)[known:]

    def score(self, X: Any, y: Any, sample_weight: Any = None, adjacency: Any = None) -> float:
        """Accuracy of :meth:`predict`; nodes whose label is unknown do not count.

        ``X=None`` scores the nodes of ``fit``.
        """
        y = as_labels(y)
        said = self.predict(X, adjacency)
        check_consistent_length(said, y, sample_weight)
        known = labelled(y, "there is nothing to score")
        weight = None if sample_weight is None else np.asarray(sample_weight)[known]
        return float(accuracy_score(plain(y[known]), said[known], sample_weight=weight))

    def _classes_of(self, proba: np.ndarray) -> np.ndarray:
        return self.classes_[proba.argmax(1)]

    def _proba_of(self, task: GraphTask) -> np.ndarray:
        if self.model_ is None:
            proba = ClosedFormStack(seed=self._seed).fit(task).predict_proba()
        else:
            proba = predict(self.model_, task)
        proba = proba.double().numpy()
        return proba / proba.sum(1, keepdims=True)

    def __getstate__(self) -> dict[str, Any]:
        """Of the model the two files of a checkpoint, which hold no code."""
        state = dict(super().__getstate__())
        if (model := state.get("model_")) is not None:
            state["model_"] = pack(Path(type(self).__name__), model, model.card).files
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if isinstance(files := state.get("model_"), dict):
            self.model_, _ = build_pretrained(unpack(type(self).__name__, files))
            del self.model_.pretrained_folder

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _task(
    X: Any, edges: np.ndarray, codes: np.ndarray, held_out: np.ndarray, classes: np.ndarray
) -> GraphTask:
    """The graph: features (N, F), edges (2, E), and what is known of the labels (N,)."""
    graph = make_graph(*torch.from_numpy(edges), len(codes))
    feat = X.toarray() if sp.issparse(X) else np.array(X)
    graph.ndata["feat"] = torch.from_numpy(feat)
    graph.ndata["label"] = torch.from_numpy(codes)
    graph.ndata["train_mask"] = torch.from_numpy((codes >= 0) & ~held_out)
    if held_out.any():
        graph.ndata["val_mask"] = torch.from_numpy(held_out)
    words = classes.tolist() if all(isinstance(name, str) for name in classes) else ()
    return GraphTask.from_graph(graph, "fit", num_classes=len(classes), class_names=words)
