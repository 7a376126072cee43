"""Which nodes are labelled: the published splits of each graph, or so many a class, drawn."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any, Literal

import pydantic
from torch import Tensor

from lipzoo.datasets import GraphTask, load_dataset, random_split
from lipzoo.datasets.convert import MASKS
from lipzoo.errors import ConfigError
from lipzoo.training.recipe import Count

__all__ = ["PUBLISHED", "Labels", "load_target", "masks_of", "num_different"]

PUBLISHED = "published"
#: What stands under ``labels``.
Labels = Annotated[Count | Literal["published"], pydantic.Field(union_mode="left_to_right")]

_MASKS = tuple({"split_index": k} for k in range(10))
_DRAWN = tuple({"split_seed": k} for k in range(5))
_FILE = ({"split": "fixed"},)
#: Options of each graph's splits: the public one, the file's, the ten masks; or, where none is
#: published, five drawn as `load_dataset` draws them. Any other graph has the one that it has.
_OPTIONS: dict[str, tuple[dict[str, Any], ...]] = {
    **dict.fromkeys(("amazon_computers", "amazon_photo", "coauthor_cs", "coauthor_physics"), _FILE),
    **dict.fromkeys(("actor", "chameleon_filtered", "squirrel_filtered"), _MASKS),
    **dict.fromkeys(("minesweeper", "tolokers"), _MASKS),
    **dict.fromkeys(("huangpu", "pasadena"), _DRAWN),
    **dict.fromkeys(("digits", "wine", "iris", "breast_cancer"), _DRAWN),
}

#: Columns of other units, which only the stack brings to one scale by itself.
_SCALED = ("huangpu", "pasadena")


def num_different(target: str, labels: int | str) -> float:
    """How many seeds have a split of their own."""
    return len(_options(target)) if labels == PUBLISHED else float("inf")


@lru_cache(maxsize=4)
def load_target(target: str, raw_dir: str | None) -> GraphTask:
    """A target, not encoded; where columns have other units, standardised.

    Raises
    ------
    ConfigError
        If its nodes have several labels.
    """
    options = {"scaling": "standard"} if target in _SCALED else {}
    task = load_dataset(target, raw_dir=raw_dir, **options)
    if task.multilabel:
        raise ConfigError(f"{target}: nodes have several labels; a study counts labels a class")
    return task


def masks_of(
    task: GraphTask, labels: int | str, seed: int, num_val: int, raw_dir: str | None
) -> dict[str, Tensor]:
    """The three masks of a seed.

    Of published splits, seed k takes number k, over and over. Else ``labels`` nodes a class are
    drawn, ``num_val`` to choose by (half of the others where those are fewer), and the others test.
    """
    if labels == PUBLISHED:
        options = _options(task.name)
        task = load_dataset(task.name, raw_dir=raw_dir, **options[seed % len(options)])
        return {name: task.graph.ndata[name] for name in MASKS}
    others = int((task.labels >= 0).sum()) - labels * task.num_classes
    num_val = min(num_val, max(others // 2, 1))
    options = {"train_per_class": labels, "num_val": num_val, "seed": seed}
    return random_split(task.labels, **options, name=task.name)


def _options(target: str) -> tuple[dict[str, Any], ...]:
    return _OPTIONS.get(target, ({},))
