"""The datasets by name. To add one, write a loader as in `embedded` or `public`:

    @register_dataset("karate", num_val=10)          # what a random split of it is by default
    def karate() -> GraphTask:
        return GraphTask.from_graph(graph, "karate")  # with masks, if it has a public split

A loader may take ``raw_dir`` (the folder that raw files are kept in) and options of its own with
defaults, such as ``k`` (neighbours), all by keyword: `lipzoo.load_dataset` hands them over.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from lipzoo._names import Registry
from lipzoo.datasets.task import GraphTask

__all__ = ["DATASETS", "Dataset", "register_dataset"]


@dataclass(frozen=True)
class Dataset:
    """How to load a dataset, the defaults of a random split of it, and a fixed one.

    ``fixed_split(raw_dir=…, num_nodes=…)`` gives the masks of a split that others have published
    in a file of its own: what ``load_dataset(name, split="fixed")`` takes.
    """

    load: Callable[..., GraphTask]
    random_split: dict[str, float] = field(default_factory=dict)
    fixed_split: Callable[..., dict[str, Tensor]] | None = None

    def takes(self, option: str) -> bool:
        """Whether the loader has this option."""
        return option in inspect.signature(self.load).parameters

    def options(self) -> dict[str, object]:
        """The loader's own options, with their defaults."""
        parameters = inspect.signature(self.load).parameters.values()
        return {p.name: p.default for p in parameters if p.name != "raw_dir"}


DATASETS: Registry[GraphTask] = Registry("dataset", "name")


def register_dataset(
    name: str,
    *,
    force: bool = False,
    fixed_split: Callable[..., dict[str, Tensor]] | None = None,
    **random_split: float,
) -> Callable[[Callable[..., GraphTask]], Callable[..., GraphTask]]:
    """Decorate a loader to make it known by ``name``.

    Parameters
    ----------
    name : str
        What users ask for.
    force : bool
        Replace the dataset of that name.
    fixed_split : callable, optional
        See `Dataset`.
    **random_split : int or float
        Defaults for `lipzoo.datasets.random_split`, such as ``num_val=500``; not needed where
        the loader returns masks.

    Raises
    ------
    ConfigError
        If the name is taken.
    """

    def register(load: Callable[..., GraphTask]) -> Callable[..., GraphTask]:
        DATASETS.register(name, force=force)(Dataset(load, random_split, fixed_split))
        return load

    return register
