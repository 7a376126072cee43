"""One seed of a recipe: its model, its training, and what is kept of it in a run's folder."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lipzoo._atomic import remove_leftovers, write_atomically
from lipzoo._progress import Verbose
from lipzoo._torch import threads
from lipzoo._yaml import write_yaml
from lipzoo.card import versions
from lipzoo.datasets import GraphTask
from lipzoo.datasets.loading import default_options
from lipzoo.errors import OutputError, first_line
from lipzoo.registry import Architecture, get_architecture
from lipzoo.training.fresh import arguments_for, fresh_model
from lipzoo.training.loop import FitResult, fit
from lipzoo.training.memory import say_if_short
from lipzoo.training.ranks import Ranks
from lipzoo.training.recipe import Recipe, make_recipe
from lipzoo.training.run_architecture import architecture_of_run
from lipzoo.training.run_folder import RESULT_FILE, is_finished
from lipzoo.weights import WEIGHTS_FILE, parse_safetensors, safetensors_of

__all__ = [
    "build_from_recipe",
    "follow",
    "keep_seed",
    "load_seed",
    "model_args",
    "settled",
    "train_seed",
]


def train_seed(
    recipe: Recipe,
    folder: Path,
    seed: int,
    task: GraphTask,
    verbose: Verbose,
    architecture: Architecture | None = None,
    ranks: Ranks | None = None,
) -> None:
    """Train one seed into ``folder``, from its state where there is one; no-op when finished.

    ``ranks``: together with the processes that :func:`follow`; this is the first of them.

    Raises
    ------
    OutputError
        If it was begun on other data.
    """
    if is_finished(folder, task):
        return
    architecture = architecture or get_architecture(recipe.architecture)
    if ranks is not None:
        ranks.told((recipe.to_dict(), seed, architecture))
        ranks.same_task(lambda: task)
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    title = f"{recipe.full_name} seed {seed}"
    model, result = _fitted(recipe, seed, task, architecture, ranks, folder, verbose, title)
    keep_seed(folder, seed, model, result, task)


def follow(ranks: Ranks, raw_dir: str | None = None) -> None:
    """Train along with the first process, as long as it has something to train.

    Raises
    ------
    LipzooError
        If a process has no data, or others than the first.
    """
    tasks = ranks.tasks()
    while (work := ranks.told(None)) is not None:
        content, seed, architecture = work
        recipe = make_recipe(content, where="the first process's recipe")
        task = ranks.same_task(partial(tasks, recipe, raw_dir, seed))
        if architecture is not None:  # else it is only to be loaded
            _fitted(recipe, seed, task, architecture, ranks)


def _fitted(
    recipe: Recipe,
    seed: int,
    task: GraphTask,
    architecture: Architecture,
    ranks: Ranks | None,
    folder: Path | None = None,
    verbose: Verbose = False,
    title: str = "",
) -> tuple[nn.Module, FitResult]:
    with threads(recipe.num_threads):
        torch.manual_seed(seed)
        model = build_from_recipe(recipe, task, architecture)
        if ranks is None:  # each of several processes needs its part alone
            args = model_args(recipe, task, architecture)
            say_if_short(verbose, model, architecture.model, args, task, recipe.settings())
        result = fit(
            model,
            task,
            recipe.settings(),
            folder=folder,
            resume=True,
            ranks=ranks,
            verbose=verbose,
            title=title,
        )
    return model, result


def keep_seed(
    folder: Path,
    seed: int,
    model: nn.Module,
    result: FitResult,
    task: GraphTask,
    device: str | None = None,
) -> None:
    """Write a trained seed; with its result it is finished.

    ``device`` is where it was trained together with others; then the result says with what, since
    that may have been another machine than the one that exports it.
    """
    write_atomically(folder / WEIGHTS_FILE, safetensors_of(model))
    content = {"seed": seed, "best_epoch": result.best_epoch, "metrics": result.metrics}
    if result.only_class is not None:
        content["only_class"] = result.only_class
    where = {} if device is None else {"device": device, "versions": versions()}
    write_yaml(folder / RESULT_FILE, {**content, "fingerprint": task.fingerprint, **where})


def build_from_recipe(
    recipe: Recipe, task: GraphTask, architecture: Architecture | None = None
) -> nn.Module:
    """The untrained model of a recipe, for the sizes of a task.

    ``architecture`` is by default the one that the recipe's name means today.
    """
    found = architecture or get_architecture(recipe.architecture)
    return fresh_model(task, found, recipe.overrides, recipe.start)


def model_args(recipe: Recipe, task: GraphTask, architecture: Architecture) -> dict[str, Any]:
    """All arguments of the model: the architecture's, the recipe's over them, and the sizes."""
    return arguments_for(task, architecture, recipe.overrides, recipe.start)


def settled(recipe: Recipe, task: GraphTask) -> dict[str, Any]:
    """A recipe with all that it leaves to defaults."""
    args = model_args(recipe, task, get_architecture(recipe.architecture))
    content = recipe.model_dump(mode="json")
    batching = recipe.batching.model_dump(mode="json")  # which a dump leaves out where it is full
    dataset = {**default_options(recipe.dataset["name"]), **content["dataset"]}
    return {**content, "batching": batching, "dataset": dataset, "overrides": args}


def load_seed(
    folder: Path,
    seed: int,
    recipe: Recipe,
    task: GraphTask,
    architecture: Architecture | None = None,
) -> nn.Module:
    """The model of a finished seed, with the weights of its best epoch.

    Parameters
    ----------
    folder : Path
        The run's.
    seed : int
        One of those that :func:`~lipzoo.training.run_folder.summarize` names.
    recipe, task
        The run's: see :func:`~lipzoo.training.run_folder.read_run`, and
        :func:`~lipzoo.training.tasks.load_task` for this seed.
    architecture : Architecture, optional
        By default what :func:`~lipzoo.training.run_architecture.architecture_of_run` says.

    Raises
    ------
    OutputError
        If the weights are gone or of another model, or the data has changed since.
    """
    place = folder / f"seed_{seed}"
    if not is_finished(place, task):
        raise OutputError(f"{place}: is not finished; train it with --resume")
    architecture = architecture or architecture_of_run(folder, recipe.architecture)
    model = build_from_recipe(recipe, task, architecture)
    file = place / WEIGHTS_FILE
    try:
        model.load_state_dict(parse_safetensors(file.read_bytes(), file))
    except (OSError, RuntimeError) as fault:
        raise OutputError(
            f"{file}: are no weights of this run ({first_line(fault)}); train the seed anew with "
            "--overwrite"
        ) from None
    return model
