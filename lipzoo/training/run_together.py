"""Train many seeds of many recipes together on one device, into the folders of their runs."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from lipzoo._atomic import remove_leftovers, write_atomically
from lipzoo._processes import results
from lipzoo._tables import to_csv
from lipzoo._torch import threads, without_numbers
from lipzoo.datasets import GraphTask
from lipzoo.errors import ConfigError, first_line
from lipzoo.registry import Architecture
from lipzoo.settings import per_seed
from lipzoo.training.loop import CSV_FILE, FitResult
from lipzoo.training.recipe import Recipe
from lipzoo.training.run_folder import RESULT_FILE, is_finished
from lipzoo.training.run_seed import build_from_recipe, keep_seed
from lipzoo.training.state import STATE_FILE
from lipzoo.training.tasks import Tasks
from lipzoo.training.together import check_together, fit_together, shape_of

__all__ = ["check_device", "check_recipe_together", "fit_seeds", "train_together"]

#: Models in one stack. More save nothing: the kernels of 64 fill a GPU.
_AT_ONCE = 64

#: Recipe, folder, seed, and the architecture where it is not that of the name today.
Work = tuple[Recipe, Path, int, "Architecture | None"]


def check_device(name: str) -> torch.device:
    """The device of that name.

    Raises
    ------
    ConfigError
        If PyTorch does not have it here.
    """
    try:
        tried = torch.ones(1, device=name)
        tried.add(1).tolist()
        return tried.device
    except (RuntimeError, AssertionError, ImportError, TypeError) as fault:
        words = f"device {name!r}: cannot be used here ({first_line(fault)})"
        raise ConfigError(words) from None


def check_recipe_together(recipe: Recipe) -> None:
    """Refuse a recipe that :func:`~lipzoo.training.together.fit_together` does not train.

    Raises
    ------
    ConfigError
    """
    check_together(recipe.settings())
    if recipe.start is not None:
        raise ConfigError("start: cannot be trained together; leave it, or the device, out")


def train_together(
    work: Sequence[Work],
    device: str,
    raw_dir: str | None = None,
    jobs: int = 1,
    say: Callable[[str], None] | None = print,
) -> None:
    """Train what is not finished; each seed's folder then holds what ``train_seed`` writes.

    Models of one shape on one graph are trained at once; where their memory does not suffice, half
    of them at a time. ``jobs`` such stacks are trained at once, each in a process of its own. A run
    that is stopped loses the stacks that it is at.

    Raises
    ------
    ConfigError
        If a recipe asks for what :func:`~lipzoo.training.together.fit_together` does not do.
    """
    check_device(device)
    tasks = Tasks(number=_AT_ONCE)
    left = []
    for recipe, folder, seed, architecture in work:
        begun = (folder / RESULT_FILE).is_file()
        if not (begun and is_finished(folder, tasks(recipe, raw_dir, seed))):
            left.append((recipe, folder, seed, architecture))
    stacks = _stacks(left, raw_dir, tasks)
    # Another process loads its data itself.
    near = {"tasks": tasks} if jobs == 1 else {}
    train_stack = partial(_train_stack, device=device, raw_dir=raw_dir, **near)
    with closing(results(train_stack, stacks, jobs)) as found:
        for lines in found:
            for line in lines if say is not None else ():
                say(line)


def _stacks(work: Sequence[Work], raw_dir: str | None, tasks: Tasks) -> list[list[Work]]:
    """What can be trained together."""
    groups: dict[tuple, list[Work]] = defaultdict(list)
    for recipe, folder, seed, architecture in work:
        task = tasks(recipe, raw_dir, seed)
        with without_numbers():
            model = build_from_recipe(recipe, task, architecture)
        own = per_seed(recipe.dataset)
        data = {key: value for key, value in recipe.dataset.items() if key not in own}
        # What is erased depends on seed and split.
        feat = seed if own and recipe.dataset.get("missing_rate") else None
        key = json.dumps([data, recipe.metric, feat], sort_keys=True, default=str)
        member = (recipe, folder, seed, architecture)
        groups[(key, *shape_of(model, recipe.settings()))].append(member)
    # The longest first: a shape names each module, so that deep models have long ones.
    ordered = sorted(groups, key=lambda shape: len(shape) * len(groups[shape]), reverse=True)
    return [
        groups[shape][first : first + _AT_ONCE]
        for shape in ordered
        for first in range(0, len(groups[shape]), _AT_ONCE)
    ]


def _train_stack(
    stack: list[Work], device: str, raw_dir: str | None, tasks: Tasks | None = None
) -> list[str]:
    """Train a stack into its folders; a line for each seed."""
    tasks = tasks or Tasks(number=len(stack))
    members = [_Member(*one, tasks(one[0], raw_dir, one[2])) for one in stack]
    lines = []
    with threads(members[0].recipe.num_threads):
        for member, model, result in _fit(members, check_device(device)):
            member.keep(model, result, str(device))
            words = (f"{name} {value:.4f}" for name, value in result.metrics.items())
            lines.append(f"{member.folder}: {'  '.join(words)}")
    return lines


def fit_seeds(
    recipe: Recipe,
    tasks: list[GraphTask],
    seeds: list[int],
    device: torch.device,
    on_evaluation: Callable[[int, list[dict[str, float]]], None] | None = None,
    splits: tuple[str, ...] = ("train", "val", "test"),
) -> list[FitResult]:
    """The seeds of one recipe, together; nothing is written."""
    models = [_untrained(recipe, seed, task) for seed, task in zip(seeds, tasks, strict=True)]
    settings = [recipe.settings()] * len(seeds)
    with threads(recipe.num_threads):
        return fit_together(
            models, tasks, settings, device=device, on_evaluation=on_evaluation, splits=splits
        )


@dataclass
class _Member:
    recipe: Recipe
    folder: Path
    seed: int
    architecture: Architecture | None
    task: GraphTask

    def keep(self, model: nn.Module, result: FitResult, device: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.folder)
        (self.folder / STATE_FILE).unlink(missing_ok=True)  # of a training on its own
        write_atomically(self.folder / CSV_FILE, to_csv(result.history, tuple(result.history[0])))
        keep_seed(self.folder, self.seed, model, result, self.task, device)


def _untrained(
    recipe: Recipe, seed: int, task: GraphTask, architecture: Architecture | None = None
) -> nn.Module:
    torch.manual_seed(seed)
    return build_from_recipe(recipe, task, architecture)


def _fit(
    members: list[_Member], device: torch.device
) -> Iterator[tuple[_Member, nn.Module, FitResult]]:
    models = [_untrained(m.recipe, m.seed, m.task, m.architecture) for m in members]
    tasks, settings = [m.task for m in members], [m.recipe.settings() for m in members]
    try:
        found = fit_together(models, tasks, settings, device=device)
    except torch.cuda.OutOfMemoryError:
        if len(members) == 1:
            raise
    else:
        yield from zip(members, models, found, strict=True)
        return
    torch.cuda.empty_cache()
    half = len(members) // 2
    yield from _fit(members[:half], device)
    yield from _fit(members[half:], device)
