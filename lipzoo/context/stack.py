"""The evidence, weighed by how well it says the labels that are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax
from torch import Tensor

from lipzoo import settings
from lipzoo._schema import validate
from lipzoo.context.evidence import Evidence, closed_form_evidence
from lipzoo.datasets import GraphTask
from lipzoo.datasets.loading import as_task
from lipzoo.errors import ConfigError

__all__ = ["LOWEST", "ClosedFormStack", "stack_weights"]

#: Logarithms below this say no more.
LOWEST = -9.0


class ClosedFormStack:
    r"""Predict a graph's labels from its labelled nodes, without training: a weighed evidence.

    .. math::
        p(y_v = c) \propto \exp\Big( \sum_k w_k \log p_k(y_v = c) \Big), \qquad
        w = \arg\min_{w \ge 0} - \sum_{v \in \text{context}} \log p(y_v)
            + \lambda \sum_k \big(w_k - \tfrac1P\big)^2

    where :math:`p_k` is what the k-th of P predictors says (:func:`.closed_form_evidence`), at a
    context node without its own label; a class's only node does not count. The problem is convex.
    The weights' sum is free: it says how sure the predictors may be together.

    Parameters
    ----------
    penalty : float
        :math:`\lambda`: how strongly weights are held near the same for all.
    width, num_random, seed
        See :func:`.closed_form_evidence`.

    Attributes
    ----------
    evidence_ : Evidence
    weights_ : dict of str to float
        By the predictor's name.
    """

    def __init__(
        self, *, penalty: float = 5.0, width: int = 64, num_random: int = 256, seed: int = 0
    ) -> None:
        if not (isinstance(penalty, int | float) and penalty > 0 and np.isfinite(penalty)):
            raise ConfigError(f"penalty must be a number above 0, got {penalty!r}")
        given = {"width": width, "num_random": num_random, "seed": seed}
        found = validate(settings.Evidence, given, where="ClosedFormStack")
        self.penalty, self.width = penalty, found.width
        self.num_random, self.seed = found.num_random, found.seed

    def fit(self, task: GraphTask | Any) -> ClosedFormStack:
        """Read the graph, its features, and the labels of its training nodes; no other label.

        Parameters
        ----------
        task : GraphTask, or anything that `lipzoo.datasets.as_task` takes

        Raises
        ------
        DataError
            If there is no training node, one has no label, or the features are not finite.
        """
        task = as_task(task).to("cpu")  # the evidence is NumPy's
        self.evidence_ = closed_form_evidence(
            task, width=self.width, num_random=self.num_random, seed=self.seed
        )
        weights = stack_weights(self.evidence_, self.penalty)
        self.weights_ = dict(zip(self.evidence_.names, weights.tolist(), strict=True))
        self._multilabel = task.multilabel
        return self

    def predict_log_proba(self) -> Tensor:
        """(N, C), or (N, C, 2) of a node that may have several labels; float32.

        At the training nodes the evidence has left out their own label; the weights have not.
        """
        if not hasattr(self, "weights_"):
            raise ConfigError("call fit(task) first")
        evidence = np.maximum(self.evidence_.log_proba, LOWEST)
        summed = np.tensordot(np.array(list(self.weights_.values()), np.float32), evidence, 1)
        found = torch.from_numpy(log_softmax(summed, -1).astype(np.float32))
        return found if self._multilabel else found[:, 0]

    def predict_logits(self) -> Tensor:
        """What :meth:`predict_proba` is the softmax of, or the sigmoid of each label's; (N, C)."""
        found = self.predict_log_proba()
        return found[..., 1] - found[..., 0] if self._multilabel else found

    def predict_proba(self) -> Tensor:
        """Probability of each class, or of each label where a node may have several; (N, C)."""
        found = self.predict_log_proba().exp()
        return found[..., 1] if self._multilabel else found

    def predict(self) -> Tensor:
        """The likeliest class, int64 (N,), or 0 and 1 of each label, (N, C)."""
        proba = self.predict_proba()
        return (proba > 0.5).long() if self._multilabel else proba.argmax(1)


def stack_weights(evidence: Evidence, penalty: float) -> np.ndarray:
    """The weights (P,) of :class:`ClosedFormStack`."""
    context = evidence.context
    said = np.maximum(evidence.log_proba[:, context.index], LOWEST).astype(np.float64)
    said = np.moveaxis(said, 0, -1)  # (n, G, C, P)
    said, labels = said[context.judged], context.labels[context.judged]
    rows, number = np.arange(len(said)), said.shape[-1]

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        log_proba = log_softmax(said @ weights, 1)
        away = weights - 1 / number
        expected = np.einsum("nc,ncp->np", np.exp(log_proba), said)
        slope = (expected - said[rows, labels]).sum(0) + 2 * penalty * away
        return -log_proba[rows, labels].sum() + penalty * (away**2).sum(), slope

    start = np.full(number, 1 / number)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0, None)] * number)
    return found.x
