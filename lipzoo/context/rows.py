"""What a network in context reads: a row of numbers a node and class."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lipzoo.context.evidence import Evidence
from lipzoo.context.stack import LOWEST, ClosedFormStack
from lipzoo.datasets import GraphTask
from lipzoo.errors import ConfigError, DataError

__all__ = ["NUM_CHANNELS", "context_rows", "encode_context", "predictors_of"]

#: Width of a row: see :func:`context_rows`; 13 predictors and their stack.
NUM_CHANNELS = 3 + 4 * 14 + 5 + 2 + 5 + 4


def encode_context(
    task: GraphTask, width: int = 64, num_random: int = 256, seed: int = 0
) -> GraphTask:
    """The task with rows in the place of features: its training labels are the context.

    ``graph.ndata["feat"]`` becomes what :func:`context_rows` gives, of the evidence and the stack
    of :class:`ClosedFormStack` with these arguments; ``options["evidence"]`` is what the stack's
    predictors weigh. A task that has this encoding already is returned as it is.

    Raises
    ------
    ConfigError
        If a number is out of its range, or the task has another encoding.
    DataError
        If there is no training node, one has no label, or the features are not usable.
    """
    stack = ClosedFormStack(width=width, num_random=num_random, seed=seed)
    spec = {
        "kind": "context",
        "width": stack.width,
        "num_random": stack.num_random,
        "seed": stack.seed,
    }
    present = task.options.get("encoding")
    if present == spec:
        return task
    if present is not None:
        raise ConfigError(f"{task.name}: is encoded as {present}, not {spec}; pass the raw task")
    if task.in_feats == 0:
        raise DataError(f"{task.name}: has no feature columns; give each node a constant one")
    rows = context_rows(stack.fit(task)).to(task.device)
    return task.with_feat(rows, encoding=spec, evidence=stack.weights_)


def context_rows(stack: ClosedFormStack) -> Tensor:
    r"""Rows (N, C, K), float32; (N, G, 2, K) where a node may have several of G labels.

    Columns of node v and class c, in this order: whether v is in the context, whether its label is
    c (at context nodes), the stack's :math:`\log p(y_v = c)`; then of the P predictors and the
    stack :math:`\log p_k(c) - \log \pi_c` with the share :math:`\pi_c` of the class in the context,
    the distance of :math:`\log p_k(c)` to the best other class, how much a predictor is better than
    a guess at the context (nats), and how far it is behind the best one; the structure (5); whether
    v has a neighbour in the context, and the logarithm of their number; shares of c among the
    labels one and two steps away, the same less :math:`\pi_c`, and the logarithm of their number;
    and of the whole graph :math:`\log \pi_c`, :math:`\log C`, the logarithm of the context's size
    and its share of the nodes.
    """
    evidence = stack.evidence_
    context, graph = evidence.context, evidence.graph
    stacked = stack.predict_log_proba().numpy().reshape(evidence.log_proba.shape[1:])
    said = np.maximum(np.concatenate([evidence.log_proba, stacked[None]]), LOWEST)
    said = np.moveaxis(said, 0, -1)  # (N, G, C, P + 1)
    shape = said.shape[:3]
    is_context = np.zeros(graph.num_nodes, np.float32)
    is_context[context.index] = 1
    own = np.zeros(shape, np.float32)
    own[context.index] = context.questions(context.onehot)
    prior = context.prior
    gain = np.append(evidence.gain, context.guess_loss - context.loss(stacked[context.index]))
    number = (graph.adjacency @ is_context).astype(np.float32)
    once, twice, counts = _near_labels(evidence, is_context)
    above = ((once - prior) * (number > 0)[:, None, None], twice - prior)
    whole = [
        np.log(prior),
        np.full(prior.shape, np.log(shape[2])),
        np.full(prior.shape, 0.3 * np.log(len(context.index))),
        np.full(prior.shape, len(context.index) / graph.num_nodes),
    ]

    def of_node(column: np.ndarray) -> np.ndarray:
        return np.broadcast_to(column[:, None, None], shape)[..., None]

    columns = [
        of_node(is_context),
        own[..., None],
        said[..., -1:],
        (said - np.log(prior)[..., None]) / 2,
        (said - _best_other(said)) / 2,
        np.broadcast_to(np.clip(gain, -1, 3), (*shape, len(gain))),
        np.broadcast_to(np.clip(gain.max() - gain, 0, 3), (*shape, len(gain))),
        np.broadcast_to(evidence.structure[:, None, None], (*shape, 5)),
        of_node(number > 0),
        of_node(np.log1p(number)),
        *(2 * part[..., None] for part in (once, twice, *above)),
        counts[..., None],
        *(np.broadcast_to(part, shape)[..., None] for part in whole),
    ]
    rows = torch.from_numpy(np.concatenate(columns, -1, dtype=np.float32))
    return rows if context.multilabel else rows[:, 0]


def predictors_of(rows: Tensor) -> Tensor:
    """The columns of the predictors and the stack, (…, 14)."""
    return rows[..., 3:17]


def _best_other(said: np.ndarray) -> np.ndarray:
    """Of each class the largest of the others, along the axis before the last."""
    if said.shape[-2] == 1:
        return said
    ordered = np.sort(said, axis=-2)
    best, second = ordered[..., -1:, :], ordered[..., -2:-1, :]
    return np.where(said >= best, second, best)


def _near_labels(evidence: Evidence, is_context: np.ndarray) -> list[np.ndarray]:
    """``Evidence.near`` in three parts, by question and class, each (N, G, C)."""
    context, mean = evidence.context, evidence.graph.mean
    once, twice, counts = np.split(evidence.near, 3, 1)
    if not context.multilabel:
        return [part[:, None] for part in (once, twice, counts)]
    labelled = mean @ is_context
    total = evidence.graph.adjacency @ is_context
    return [
        np.stack([np.maximum(whole[:, None] - part, 0), part], -1)
        for whole, part in ((labelled, once), (mean @ labelled, twice))
    ] + [np.stack([np.log1p(np.maximum(total[:, None] - np.expm1(counts), 0)), counts], -1)]
