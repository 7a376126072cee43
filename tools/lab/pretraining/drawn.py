"""Drawn tasks, as a network in context reads them: made ahead in a process of their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from lab.pretraining.recipe import ContextRecipe
from lab.prior import draw_task
from lipzoo.attention import Structure, as_structure
from lipzoo.context import encode_context

__all__ = ["Batches", "DrawnTask", "drawn", "validation_tasks"]

#: Seeds of what is learnt from, and of what is judged by, are apart.
_EACH_SEED, _VALIDATION = 1_000_000_000, 500_000_000


@dataclass(frozen=True)
class DrawnTask:
    """A structure of N nodes with self-loops, rows (N, C, K) in half precision, labels (N,), and
    the nodes that are asked for."""

    structure: Structure
    rows: Tensor
    labels: Tensor
    query: Tensor


def drawn(recipe: ContextRecipe, number: int) -> DrawnTask:
    """The task of a number."""
    task = draw_task(recipe.seed * _EACH_SEED + number, recipe.prior)
    encoded = encode_context(task, **recipe.evidence.model_dump())
    query = (~task.train_mask).nonzero().squeeze(1)
    return DrawnTask(as_structure(task.graph, True), encoded.feat.half(), task.labels, query)


def validation_tasks(recipe: ContextRecipe) -> list[DrawnTask]:
    """Those that are judged by."""
    return [drawn(recipe, _VALIDATION + number) for number in range(recipe.validation)]


class Batches:
    """The tasks of each step, from ``step`` on; the same whatever was before.

    ``ahead`` processes make them ahead: 0 or 1, since their order is that of their numbers.
    """

    def __init__(self, recipe: ContextRecipe, step: int, ahead: int) -> None:
        self.recipe, self.step = recipe, step
        first = max(0, step * recipe.fresh - recipe.kept)
        source = _Numbered(recipe, first)
        self._new = iter(
            DataLoader(source, batch_size=None, num_workers=ahead, collate_fn=_as_it_is)
        )
        self._kept: list[DrawnTask] = list(islice(self._next(), step * recipe.fresh - first))

    def _next(self) -> Iterator[DrawnTask]:
        for src, dst, rows, labels, query in self._new:
            n = len(labels)
            yield DrawnTask(
                Structure(torch.from_numpy(src), torch.from_numpy(dst), n, n),
                *map(torch.from_numpy, (rows, labels, query)),
            )

    def next(self) -> list[DrawnTask]:
        """The tasks of the next step."""
        recipe = self.recipe
        missing = recipe.batch - recipe.fresh
        rng = np.random.default_rng([recipe.seed, self.step])
        is_enough = len(self._kept) >= missing
        # The first steps have nothing behind them.
        chosen = rng.choice(len(self._kept), missing, replace=False) if is_enough else []
        old = [self._kept[number] for number in chosen]
        new = list(islice(self._next(), recipe.fresh))
        self._kept = [*self._kept, *new][-recipe.kept :]
        self.step += 1
        return new + old


class _Numbered(IterableDataset):
    """Tasks by their number, as arrays: they come from another process."""

    def __init__(self, recipe: ContextRecipe, first: int) -> None:
        self.recipe, self.first = recipe, first

    def __iter__(self) -> Iterator[tuple[np.ndarray, ...]]:
        torch.set_num_threads(1)
        number = self.first
        while True:
            task = drawn(self.recipe, number)
            yield tuple(
                tensor.numpy()
                for tensor in (
                    *(task.structure.src, task.structure.dst, task.rows),
                    *(task.labels, task.query),
                )
            )
            number += 1


def _as_it_is(sample):
    return sample
