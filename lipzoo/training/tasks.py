"""The data of a recipe, which may be another for each seed."""

from __future__ import annotations

import json
import os

from lipzoo.datasets import GraphTask, load_dataset
from lipzoo.encoding import started
from lipzoo.settings import per_seed
from lipzoo.training.recipe import Recipe

__all__ = ["Tasks", "check_splits", "load_task"]


def load_task(
    recipe: Recipe, raw_dir: str | os.PathLike | None = None, seed: int | None = None
) -> GraphTask:
    """The data that a recipe names, for a seed.

    Raises
    ------
    ConfigError
        If an option is none of :func:`~lipzoo.load_dataset`'s, or of the wrong type; or if the
        recipe takes other data for each seed (``split_index: seed``) and no seed is said.
    """
    options = recipe.data_options(seed)
    name = recipe.dataset["name"]
    task = load_dataset(name, raw_dir=raw_dir, metric=recipe.metric, **options)
    return started(task, recipe.start_of(seed))


class Tasks:
    """:func:`load_task` that keeps the last ``number`` tasks: seeds mostly have the same data."""

    def __init__(self, number: int = 1) -> None:
        self.number = number
        self._kept: dict[str, GraphTask] = {}

    def __call__(
        self, recipe: Recipe, raw_dir: str | os.PathLike | None = None, seed: int | None = None
    ) -> GraphTask:
        start = recipe.start_of(seed)
        what = [recipe.dataset["name"], recipe.data_options(seed), recipe.metric]
        what.append(start and start.model_dump())
        what.append(str(raw_dir))
        key = json.dumps(what, sort_keys=True, default=str)
        if key not in self._kept:
            while len(self._kept) >= self.number:  # before another takes memory
                del self._kept[next(iter(self._kept))]
            self._kept[key] = load_task(recipe, raw_dir, seed)
        return self._kept[key]

    def clear(self) -> None:
        """Forget them: a file may have changed."""
        self._kept.clear()


def check_splits(recipe: Recipe, task: GraphTask, seeds: list[int]) -> None:
    """Refuse seeds for which there is no split, or none that is fit to train on.

    Raises
    ------
    ConfigError, DataError
    """
    if "split_index" in per_seed(recipe.dataset):
        for seed in seeds:
            task.with_split(seed).validate()
