"""What a report is on: a model, a graph, and the nodes that are looked at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lipzoo.datasets import GraphTask
from lipzoo.datasets.names import node_ids
from lipzoo.encoding import class_names
from lipzoo.errors import ConfigError, DataError, LipzooError, did_you_mean
from lipzoo.plots.embedded import METHODS
from lipzoo.training.metrics import infer, is_multilabel, nodes_of
from lipzoo.training.predict import probabilities

__all__ = ["RADII", "SPLITS", "Absent", "Subject", "split_if_labelled"]

RADII = ("auto", "yes", "no")
SPLITS = ("test", "val", "train", "all")
_WORDS = {"test": "test", "val": "validation", "train": "training", "all": "labelled"}


def split_if_labelled(load: Callable[[bool], GraphTask]) -> GraphTask:
    """What ``load(require_labels)`` gives: split at random where labels came without masks.

    That is the split that `evaluate` judges on; where the labels are too few for one, and where
    there are none, the task has none.
    """
    task = load(False)
    if task.labels is None or task.has_any_mask:
        return task
    try:
        return load(True)
    except DataError:
        return task


class Absent(LipzooError):
    """There is nothing to draw; the message says why."""


@dataclass
class Subject:
    """A model and the task as it reads it.

    Parameters
    ----------
    model : torch.nn.Module
    task : GraphTask
        Encoded for the model.
    name : str
        Of the model.
    split : str
        One of `SPLITS`.
    seed : int
        Of what is drawn at random.
    sample : int
        Nodes of an embedding.
    method : str
        Of the embedding.
    chosen : sequence of int
        Nodes whose attention is drawn; none: some are chosen.
    histories : mapping
        By seed, what was recorded of its training.
    best : mapping
        By seed, the epoch that was best.
    note : str
        What training the histories are of, or why there are none.
    radii : str
        One of `RADII`: whether radii are certified; ``auto``: where that is soon done.
    """

    model: nn.Module
    task: GraphTask
    name: str
    split: str = "test"
    seed: int = 0
    sample: int = 800
    method: str = "tsne"
    chosen: Sequence[int] = ()
    histories: Mapping[int, Sequence[Mapping[str, float]]] = field(default_factory=dict)
    best: Mapping[int, int] = field(default_factory=dict)
    note: str = ""
    radii: str = "auto"
    #: What one forward pass has shown of the attention, once a part has asked for it.
    attention: Any = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        for option, choices in (("split", SPLITS), ("radii", RADII), ("method", METHODS)):
            if getattr(self, option) not in choices:
                given = getattr(self, option)
                raise ConfigError(
                    f"{option}: expected another than {given!r}{did_you_mean(given, choices)}"
                )
        if self.sample < 1:
            raise ConfigError(f"sample must be at least 1, got {self.sample}")

    @cached_property
    def logits(self) -> Tensor:
        """(N, C)."""
        return infer(self.model, self.task, gives_back=True).detach().cpu()

    @cached_property
    def probability(self) -> Tensor:
        """(N, C)."""
        return probabilities(self.logits.double(), self.multilabel)

    @cached_property
    def multilabel(self) -> bool:
        return is_multilabel(self.model, self.task)

    @property
    def num_classes(self) -> int:
        return self.logits.shape[1]

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; none where they have no names."""
        names = class_names(self.model, self.task)
        return names if len(names) == self.num_classes else ()

    @property
    def words(self) -> str:
        """What the nodes are called: ``test``."""
        return _WORDS[self.split]

    @cached_property
    def labels(self) -> Tensor:
        """(N,) or (N, C).

        Raises
        ------
        Absent
            If there are none.
        """
        labels = self.task.labels
        if labels is None or not self.known.any():
            raise Absent("no node of the data has a label")
        return labels.cpu()

    @cached_property
    def known(self) -> Tensor:
        """Nodes with a label that the model tells apart, bool (N,)."""
        labels = self.task.labels
        if labels is None:
            return torch.zeros(self.task.num_nodes, dtype=torch.bool)
        return (labels.cpu() >= 0).reshape(len(labels), -1).all(1)

    def mask_of(self, split: str) -> Tensor:
        """Nodes of a split with a label, bool (N,); maybe none."""
        if split == "all":
            return self.known
        mask = nodes_of(self.task, split)
        return torch.zeros_like(self.known) if mask is None else mask.cpu() & self.known

    @cached_property
    def mask(self) -> Tensor:
        """The nodes that are looked at, bool (N,).

        Raises
        ------
        Absent
            If there are none.
        """
        mask = self.mask_of(self.split)
        if not mask.any():
            _ = self.labels  # which says so where no node has one at all
            raise Absent(f"the data have no {self.words} nodes with a label; --split takes others")
        return mask

    @cached_property
    def shown(self) -> tuple[Tensor, str]:
        """Nodes to look at where no labels are needed, bool (N,), and what they are called."""
        mask = self.mask_of(self.split)
        return (mask, self.words) if mask.any() else (torch.ones_like(mask), "all")

    @cached_property
    def right(self) -> Tensor:
        """Whether each node is predicted right, bool (N,); of several labels a node, all of them.

        Raises
        ------
        Absent
            If no node has a label, or the network diverged.
        """
        self.check_finite(self.logits, "the logits")
        if self.multilabel:
            return ((self.logits > 0) == (self.labels > 0)).all(1)
        return self.logits.argmax(1) == self.labels

    @cached_property
    def decisions(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of the nodes that are looked at: confidence, whether it came true, and the node, (n,).

        Of several labels a node there are C decisions each, yes or no.
        """
        probability, nodes = self.probability[self.mask], self.mask.nonzero().flatten()
        if not self.multilabel:
            return probability.amax(1), self.right[self.mask], nodes
        truth = self.labels[self.mask] > 0
        confidence = torch.maximum(probability, 1 - probability)
        right = (self.logits[self.mask] > 0) == truth
        return confidence.flatten(), right.flatten(), nodes.repeat_interleave(truth.shape[1])

    @property
    def unit(self) -> str:
        """What :attr:`decisions` are."""
        return "decisions" if self.multilabel else "nodes"

    @cached_property
    def ids(self) -> list[int | str]:
        """What the nodes are called."""
        return node_ids(self.task)

    def drawn(self, mask: Tensor, number: int) -> Tensor:
        """At most so many of the nodes of a mask, in their order, int64 (n,)."""
        nodes = mask.nonzero().flatten().numpy()
        if len(nodes) > number:
            nodes = np.sort(np.random.default_rng(self.seed).choice(nodes, number, replace=False))
        return torch.from_numpy(nodes)

    def check_finite(self, values: Tensor, what: str) -> None:
        """Raise `Absent` where a number is NaN or infinite."""
        bad = int((~values.isfinite()).reshape(len(values), -1).any(1).sum()) if len(values) else 0
        if bad:
            raise Absent(f"{what} of {bad:,} nodes are NaN or infinite: the network diverged")
