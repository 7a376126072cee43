"""Thirteen predictors of a label with a closed form, and what they say of every node."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial

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
#: Share of the neighbours, and steps, of the two label propagations.
_PROPAGATIONS = {"propagation": (0.9, 15), "near propagation": (0.5, 4)}
#: Parts of the context whose labels are left out together, at most.
_FOLDS = 5


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
            If there is none, one has no label, or the features are not finite.
        """
        task.validate(require_labels=False)
        mask = task.graph.ndata.get("train_mask")
        for part, found in (("labels", task.labels), ("train_mask", mask)):
            if found is None:
                raise DataError(
                    f"{task.name}: has no {part}; the labels of the training nodes are the context"
                )
        if mask.dim() != 1:
            raise DataError(f"{task.name}: has several splits; choose one with with_split")
        index = mask.bool().nonzero().squeeze(1).numpy()
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

    @cached_property
    def fold(self) -> np.ndarray:
        """The part that a context node is in, (n,): at most five parts, of the same labels each.

        All parts have about the same shares of the labels, since from what the others say in sum
        one could else read what a part says.
        """
        _, kind, counts = np.unique(self.onehot, axis=0, return_inverse=True, return_counts=True)
        number = int(np.clip(np.median(counts), 2, _FOLDS))
        order = np.lexsort((np.random.default_rng(0).random(len(kind)), kind.ravel()))
        fold = np.empty(len(order), int)
        fold[order] = np.arange(len(order)) % number
        return fold

    @property
    def prior(self) -> np.ndarray:
        """The shares of the classes, (G, C), as if each had been seen once more."""
        counts = self.questions(self.onehot).sum(0) + 1
        return counts / counts.sum(-1, keepdims=True)

    @property
    def left_out_prior(self) -> np.ndarray:
        """The same for each context node without its own label, (n, G, C)."""
        asked = self.questions(self.onehot)
        counts = asked.sum(0) + 1 - asked
        return counts / counts.sum(-1, keepdims=True)

    @cached_property
    def guess_loss(self) -> float:
        """:meth:`loss` of the shares of the classes among the others."""
        return self.loss(np.log(self.left_out_prior))

    def loss(self, log_proba: np.ndarray) -> float:
        """Mean negative logarithm of the judged labels; ``log_proba`` is (n, G, C).

        None counts for more than 6, or 2 more than a guess among many classes.
        """
        said = np.take_along_axis(log_proba, self.labels[..., None], -1)[self.judged]
        lowest = min(-6.0, -np.log(self.num_classes) - 2)
        return -float(np.maximum(said, lowest).sum()) / max(len(said), 1)


@dataclass(frozen=True)
class Evidence:
    """What P predictors say of N nodes.

    ``log_proba`` (P, N, G, C), float32: logarithms of probabilities, at a context node without its
    own label. ``gain`` (P,): how much better than the shares of the classes a predictor is at the
    context nodes, in nats. ``context`` is what they were fitted on.

    What they were made of, for those who read on: the graph, its ``structure`` (N, 5), and
    ``near`` (N, 3K): shares of the labels one and two steps away and logarithms of their numbers,
    at a context node of the other parts of the context only.
    """

    context: Context
    names: tuple[str, ...]
    log_proba: np.ndarray
    gain: np.ndarray
    graph: Neighbourhood
    structure: np.ndarray
    near: np.ndarray


def closed_form_evidence(
    task: GraphTask, *, width: int = 64, num_random: int = 256, seed: int = 0
) -> Evidence:
    r"""Fit each predictor on the training labels alone.

    Eleven ridge regressions (:mod:`.ridge`), on features :math:`X`, smoothed :math:`SX`,
    :math:`S^2X`, :math:`S^4X` with :math:`S = (D + I)^{-1}(A + I)`, what smoothing takes away
    (:math:`X - SX`, and the same once more), :math:`X, SX, S^2X` side by side, the structure, the
    spectrum, the neighbours' labels, and random ReLU features of all of these; two label
    propagations. The penalty is that of the least squared leave-one-out error, the temperature
    that of the least logarithmic one. Of few features, :math:`D^{-1}A` takes the place of :math:`S`
    side by side.

    At a context node the regressions leave that node out exactly, given their features. Where these
    are made of labels, and in label propagation, the context is parted into at most five parts of
    the same shares of labels, and a node sees nothing of its own part.

    Parameters
    ----------
    task : GraphTask
        With a label at its training nodes; it may have no validation or test nodes.
    width : int
        Columns that features are reduced to.
    num_random : int
        Random ReLU features.
    seed : int
        Of the decomposition of the features, of the spectrum, and of the random features.

    Raises
    ------
    DataError
        See :meth:`Context.of`.
    """
    context, graph = Context.of(task), Neighbourhood.of(task)
    feat = encode_feat(task, width, seed)
    read = _Read(
        feat,
        task.in_feats > width,
        graph,
        context,
        structural_feat(graph),
        _neighbour_labels(graph, context),
    )
    names, outputs, gains = [], [], []
    for name, scores, left_out, divisors in _predictors(read, num_random, seed):
        log_proba, loss = _calibrated(scores, left_out, context, divisors)
        names.append(name)
        outputs.append(log_proba)
        gains.append(context.guess_loss - loss)
    return Evidence(
        context, tuple(names), np.stack(outputs), np.array(gains), graph, read.structure, read.near
    )


@dataclass(frozen=True)
class _Read:
    """What predictors are fitted on: features (N, d), whether they were reduced to few, and the
    rest as in :class:`Evidence`."""

    feat: np.ndarray
    is_reduced: bool
    graph: Neighbourhood
    context: Context
    structure: np.ndarray
    near: np.ndarray


def _shape(context: Context) -> tuple[int, int]:
    return context.labels.shape[1], context.num_classes


def _predictors(
    read: _Read, num_random: int, seed: int
) -> Iterator[tuple[str, np.ndarray, np.ndarray, tuple[float, ...]]]:
    """Name, scores (N, G, C), those at the context without the own label, and temperatures."""
    context = read.context
    for name, feat in _feature_sets(read, num_random, seed):
        found = ridge_with_left_out(feat, context.index, context.onehot, context.judged.any(1))
        yield name, *map(context.questions, found), _TEMPERATURES
    for name, (share, steps) in _PROPAGATIONS.items():
        yield name, *_propagated(read.graph, context, share, steps), _LOG_TEMPERATURES


def _feature_sets(read: _Read, num_random: int, seed: int) -> Iterator[tuple[str, np.ndarray]]:
    feat, graph = read.feat, read.graph
    # Reduced features have rows of one length, after each hop; columns have one size elsewhere.
    sized = same_length if read.is_reduced else _one_size
    once = graph.smooth @ feat
    twice = graph.smooth @ once
    high = _difference(feat, once)
    hops = (feat, once, twice) if read.is_reduced else (feat, graph.mean @ feat)
    if not read.is_reduced:
        hops = (*hops, graph.mean @ hops[1])
    side_by_side = np.concatenate([sized(part) for part in hops], 1)
    near = np.concatenate([_one_size(part) for part in np.split(read.near, 3, 1)], 1)
    yield "features", feat
    yield "smoothed", once
    yield "smoothed twice", twice
    yield "smoothed four times", graph.smooth @ (graph.smooth @ twice)
    yield "difference", high
    yield "difference twice", _difference(high, graph.smooth @ high)
    yield "hops", side_by_side
    bins = np.minimum(np.round(2 * np.log2(1 + graph.degree)).astype(int), 24)
    yield "structure", np.concatenate([read.structure, read.structure**2 - 1, np.eye(25)[bins]], 1)
    yield "spectrum", spectral_feat(graph, 32, seed)
    yield "neighbours' labels", near
    everything = np.concatenate([side_by_side, 2 * read.structure, near], 1)
    yield "random features", _random_relu(everything, num_random, np.random.default_rng(seed))


def _one_size(feat: np.ndarray) -> np.ndarray:
    return (feat / (feat.std() + 1e-6) if feat.size else feat).astype(np.float32)


def _difference(feat: np.ndarray, smoothed: np.ndarray) -> np.ndarray:
    """Without what is rounding: a regression would read it whatever its size."""
    high = feat - smoothed
    if high.size:
        high[np.abs(high) < 1e-5 * np.abs(feat).max()] = 0
    return high


def _neighbour_labels(graph: Neighbourhood, context: Context) -> np.ndarray:
    """Shares of labels one and two steps away, and logarithms of their numbers, (N, 3K).

    A context node sees those of the other parts of the context only, in proportion: its own label
    is in no column, and not in the difference to what others see.
    """
    found, left_out = _with_left_out(context, partial(_label_sums, graph, context))
    found[context.index] = left_out
    return found


def _with_left_out(
    context: Context, said: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """What labels say, (N, …), and what they say of each context node without its part, (n, …).

    ``said`` takes which of the context's labels are seen, bool (n,), and gives (N, …).
    """
    found = said(np.ones(len(context.index), bool))
    left_out = found[context.index]
    for part in np.unique(context.fold):
        own = context.fold == part
        left_out[own] = said(~own)[context.index[own]]
    return found, left_out


def _label_sums(graph: Neighbourhood, context: Context, is_seen: np.ndarray) -> np.ndarray:
    onehot = np.zeros((graph.num_nodes, context.onehot.shape[1]), np.float32)
    onehot[context.index[is_seen]] = context.onehot[is_seen]
    onehot *= len(is_seen) / max(is_seen.sum(), 1)
    shares = graph.mean @ onehot
    return np.concatenate([shares, graph.mean @ shares, np.log1p(graph.adjacency @ onehot)], 1)


def _random_relu(feat: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    """Random combinations of few or many columns, cut at 0, beside the columns themselves."""
    columns = feat.shape[1]
    is_used = rng.random((columns, number)) < rng.choice([0.05, 0.2, 1.0], number)
    weight = rng.standard_normal((columns, number)) * is_used
    weight /= np.sqrt((weight**2).sum(0) + 1e-6)
    hidden = feat @ weight.astype(np.float32) + 0.7 * rng.standard_normal(number).astype(np.float32)
    return np.concatenate([np.maximum(hidden, 0), 0.3 * feat], 1)


def _propagated(
    graph: Neighbourhood, context: Context, share: float, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Logarithms of shares of the labels that reach a node, (N, G, C) and (n, G, C)."""
    asked = context.questions(context.onehot)

    def reached(is_seen: np.ndarray) -> np.ndarray:
        start = np.zeros((graph.num_nodes, asked[0].size), np.float32)
        start[context.index[is_seen]] = asked.reshape(len(asked), -1)[is_seen]
        state = start
        for _ in range(steps):
            state = share * (graph.symmetric @ state) + (1 - share) * start
        return state.reshape(graph.num_nodes, *_shape(context))

    mass, left_out = _with_left_out(context, reached)
    total = mass.sum(-1)
    little = 0.05 * (np.median(total[total > 0]) if (total > 0).any() else 1.0)

    def logarithm(mass: np.ndarray, prior: np.ndarray) -> np.ndarray:
        mass = mass + little * prior
        return np.log(mass / mass.sum(-1, keepdims=True))

    return logarithm(mass, context.prior), logarithm(left_out, context.left_out_prior)


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
