"""Thirteen predictors of a label with a closed form, and what they say of every node."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import log_softmax

from lipzoo.context.operators import (
    Neighbourhood,
    encode_feat,
    same_length,
    spectral_feat,
    structural_feat,
)
from lipzoo.context.ridge import ridge_with_left_out
from lipzoo.datasets import GraphTask
from lipzoo.errors import DataError

__all__ = ["Context", "Evidence", "closed_form_evidence"]

#: Divisors of scores that are about 0 and 1.
_TEMPERATURES = (0.02, 0.05, 0.1, 0.15, 0.25, 0.4, 0.7, 1.2, 3.0, 20.0)
#: Divisors of logarithms of shares.
_LOG_TEMPERATURES = (0.33, 0.5, 0.7, 1.0, 1.5, 2.5, 5.0, 20.0)
#: The temperature where no context node can judge: its place in the lists.
_MIDDLE = 4
#: A label is never thought less likely than e to this.
_LOWEST = -6.0
#: Share of the neighbours, and steps, of the two label propagations.
_PROPAGATIONS = {"propagation": (0.9, 15), "near propagation": (0.5, 4)}
_FOLDS = 10


@dataclass(frozen=True)
class Context:
    """The labels that predictors may read.

    ``index`` (n,); ``onehot`` (n, K), K the classes, or the labels where a node may have several;
    ``labels`` (n, G) is the class of each of G questions that a node is asked: one of C classes
    (G = 1), or with several labels whether each holds (G = K, C = 2).
    """

    index: np.ndarray
    onehot: np.ndarray
    labels: np.ndarray
    multilabel: bool

    @classmethod
    def of(cls, task: GraphTask) -> Context:
        """The training nodes.

        Raises
        ------
        DataError
            If there is none.
        """
        index = task.train_mask.nonzero().squeeze(1).numpy()
        if not len(index):
            raise DataError(f"{task.name}: has no training node; their labels are the context")
        labels = task.labels.numpy()[index]
        if task.multilabel:
            return cls(index, labels.astype(np.float64), labels.astype(np.int64), True)
        return cls(index, np.eye(task.num_classes)[labels], labels[:, None], False)

    @property
    def num_classes(self) -> int:
        return 2 if self.multilabel else self.onehot.shape[1]

    def questions(self, score: np.ndarray) -> np.ndarray:
        """Scores (…, K) as (…, G, C)."""
        if self.multilabel:
            return np.stack([1 - score, score], -1)
        return score[..., None, :]

    @cached_property
    def judged(self) -> np.ndarray:
        """Bool (n, G): the answers that another context node gives too.

        Without a class's only label nothing can say that class: such nodes judge nobody.
        """
        counts = self.questions(self.onehot).sum(0)
        return np.take_along_axis(counts[None], self.labels[..., None], -1)[..., 0] > 1

    @property
    def prior(self) -> np.ndarray:
        """The shares of the classes, (G, C), as if each had been seen once more."""
        counts = self.questions(self.onehot).sum(0) + 1
        return counts / counts.sum(-1, keepdims=True)

    def loss(self, log_proba: np.ndarray) -> float:
        """Mean negative logarithm (no label below e^-6) of the judged labels; (n, G, C)."""
        said = np.take_along_axis(log_proba, self.labels[..., None], -1)[self.judged]
        return -float(np.maximum(said, _LOWEST).sum()) / max(len(said), 1)


@dataclass(frozen=True)
class Evidence:
    """What P predictors say of N nodes.

    ``log_proba`` (P, N, G, C), float32: logarithms of probabilities, at a context node without its
    own label. ``gain`` (P,): how much better than the shares of the classes a predictor is at the
    context nodes, in nats.
    """

    names: tuple[str, ...]
    log_proba: np.ndarray
    gain: np.ndarray


def closed_form_evidence(
    task: GraphTask, *, width: int = 64, num_random: int = 256, seed: int = 0
) -> Evidence:
    r"""Fit each predictor on the training labels alone.

    Eleven ridge regressions (:mod:`.ridge`), on features :math:`X`, smoothed :math:`SX`,
    :math:`S^2X`, :math:`S^4X` with :math:`S = (D + I)^{-1}(A + I)`, what smoothing takes away
    (:math:`X - SX`, and the same once more), :math:`X, SX, S^2X` side by side, the structure, the
    spectrum, the neighbours' labels, and random ReLU features of all of these; two label
    propagations. Penalty and temperature of each are those of the best leave-one-out loss.

    At a context node the regressions leave that node out exactly, given their features. The
    neighbours' labels never contain the node's own, but that of its neighbours do: there and in
    what is made of them it is left out of the fit and not of the other rows. Label propagation
    leaves out a tenth of the context at a time, and each node alone where there are at most ten.

    Parameters
    ----------
    task : GraphTask
        Of any number of features, 0 included; with a label at its training nodes.
    width : int
        Columns that features are reduced to.
    num_random : int
        Random ReLU features.

    Raises
    ------
    DataError
        If there is no training node.
    """
    context, graph = Context.of(task), Neighbourhood.of(task)
    rng = np.random.default_rng(seed)
    names, outputs, gains = [], [], []
    n = len(context.index)
    nothing = context.loss(np.broadcast_to(np.log(context.prior), (n, *_shape(context))))
    for name, scores, left_out, divisors in _predictors(
        task, graph, context, width, num_random, seed, rng
    ):
        log_proba, loss = _calibrated(scores, left_out, context, divisors)
        names.append(name)
        outputs.append(log_proba)
        gains.append(nothing - loss)
    return Evidence(tuple(names), np.stack(outputs), np.array(gains))


def _shape(context: Context) -> tuple[int, int]:
    return context.labels.shape[1], context.num_classes


def _predictors(
    task, graph, context, width, num_random, seed, rng
) -> Iterator[tuple[str, np.ndarray, np.ndarray, tuple[float, ...]]]:
    """Name, scores (N, G, C), those at the context without the own label, and temperatures."""
    for name, feat in _feature_sets(task, graph, context, width, num_random, seed, rng):
        found = ridge_with_left_out(feat, context.index, context.onehot, context.judged.any(1))
        yield name, *map(context.questions, found), _TEMPERATURES
    for name, (share, steps) in _PROPAGATIONS.items():
        yield name, *_propagated(graph, context, share, steps, rng), _LOG_TEMPERATURES


def _feature_sets(
    task, graph, context, width, num_random, seed, rng
) -> Iterator[tuple[str, np.ndarray]]:
    is_reduced = task.in_feats > width
    # Reduced features have rows of one length, after each hop; columns have one size elsewhere.
    sized = same_length if is_reduced else _one_size
    feat = encode_feat(task, width, seed)
    structure = structural_feat(graph)
    once = graph.smooth @ feat
    twice = graph.smooth @ once
    high = feat - once
    hops = (feat, once, twice) if is_reduced else (feat, graph.mean @ feat)
    if not is_reduced:
        hops = (*hops, graph.mean @ hops[1])
    side_by_side = np.concatenate([sized(part) for part in hops], 1)
    near = _neighbour_labels(graph, context)
    yield "features", feat
    yield "smoothed", once
    yield "smoothed twice", twice
    yield "smoothed four times", graph.smooth @ (graph.smooth @ twice)
    yield "difference", high
    yield "difference twice", high - graph.smooth @ high
    yield "hops", side_by_side
    bins = np.minimum(np.round(2 * np.log2(1 + graph.degree)).astype(int), 24)
    yield "structure", np.concatenate([structure, structure**2 - 1, np.eye(25)[bins]], 1)
    yield "spectrum", spectral_feat(graph, 32, seed)
    yield "neighbours' labels", near
    everything = np.concatenate([side_by_side, 2 * structure, near], 1)
    yield "random features", _random_relu(everything, num_random, rng)


def _one_size(feat: np.ndarray) -> np.ndarray:
    return (feat / (feat.std() + 1e-6) if feat.size else feat).astype(np.float32)


def _neighbour_labels(graph: Neighbourhood, context: Context) -> np.ndarray:
    """Shares of labels one and two steps away, without the node's own, and logarithms of counts."""
    onehot = np.zeros((graph.num_nodes, context.onehot.shape[1]), np.float32)
    onehot[context.index] = context.onehot
    shares = graph.mean @ onehot
    further = graph.mean @ shares - graph.returns[:, None].astype(np.float32) * onehot
    counts = np.log1p(graph.adjacency @ onehot)
    return np.concatenate([_one_size(part) for part in (shares, further, counts)], 1)


def _random_relu(feat: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    """Random combinations of few or many columns, cut at 0, beside the columns themselves."""
    columns = feat.shape[1]
    is_used = rng.random((columns, number)) < rng.choice([0.05, 0.2, 1.0], number)
    weight = rng.standard_normal((columns, number)) * is_used
    weight /= np.sqrt((weight**2).sum(0) + 1e-6)
    hidden = feat @ weight.astype(np.float32) + 0.7 * rng.standard_normal(number).astype(np.float32)
    return np.concatenate([np.maximum(hidden, 0), 0.3 * feat], 1)


def _propagated(
    graph: Neighbourhood, context: Context, share: float, steps: int, rng
) -> tuple[np.ndarray, np.ndarray]:
    """Logarithms of shares of the labels that reach a node, (N, G, C) and (n, G, C)."""
    n, folds = len(context.index), min(_FOLDS, len(context.index))
    fold = rng.permutation(n) % folds
    asked = context.questions(context.onehot)
    start = np.zeros((graph.num_nodes, folds + 1, asked[0].size), np.float32)
    start[context.index] = asked.reshape(n, 1, -1)
    start[context.index, 1 + fold] = 0
    start = start.reshape(graph.num_nodes, -1)
    state = start
    for _ in range(steps):
        state = share * (graph.symmetric @ state) + (1 - share) * start
    state = state.reshape(graph.num_nodes, folds + 1, *_shape(context))

    def logarithm(mass: np.ndarray) -> np.ndarray:
        total = mass.sum(-1)
        typical = np.median(total[total > 0]) if (total > 0).any() else 1.0
        mass = mass + 0.05 * typical * context.prior
        return np.log(mass / mass.sum(-1, keepdims=True))

    return logarithm(state[:, 0]), logarithm(state[context.index, 1 + fold])


def _calibrated(
    scores: np.ndarray, left_out: np.ndarray, context: Context, divisors: tuple[float, ...]
) -> tuple[np.ndarray, float]:
    """Log-probabilities (N, G, C) at the temperature of the least left-out loss, and that loss."""
    if not context.judged.any():
        divisors = divisors[_MIDDLE : _MIDDLE + 1]
    losses = [context.loss(log_softmax(left_out / divisor, -1)) for divisor in divisors]
    divisor = divisors[int(np.argmin(losses))]
    log_proba = log_softmax(scores / divisor, -1)
    log_proba[context.index] = log_softmax(left_out / divisor, -1)
    return log_proba.astype(np.float32), min(losses)
