"""Train a recipe over its seeds into a folder that can be resumed and exported.

What the folder holds: :mod:`lipzoo.training.run_folder`.
"""

from __future__ import annotations

import os
import warnings
from contextlib import closing
from functools import partial
from glob import escape
from itertools import groupby
from pathlib import Path
from typing import Any

from lipzoo._atomic import LEFTOVERS
from lipzoo._output import OutputFolder, differing
from lipzoo._processes import in_processes
from lipzoo._progress import Verbose, say, stage
from lipzoo._writing import one_writer, output_path
from lipzoo._yaml import read_yaml, write_yaml
from lipzoo.encoding import as_start
from lipzoo.errors import ConfigError
from lipzoo.models import missing_for_finetuning
from lipzoo.registry import Architecture, get_architecture
from lipzoo.settings import per_seed
from lipzoo.training.baselines import fit_estimator
from lipzoo.training.batching import check_batching
from lipzoo.training.doubts import one_label, warn_of_data
from lipzoo.training.loop import CSV_FILE
from lipzoo.training.metrics import only_class_words, shown_class
from lipzoo.training.ranks import Ranks, check_several
from lipzoo.training.recipe import Recipe, make_recipe
from lipzoo.training.run_architecture import ARCHITECTURE_FILE, keep_architecture
from lipzoo.training.run_folder import (
    RECIPE_FILE,
    RESULT_FILE,
    SUMMARY_FILE,
    is_finished,
    read_run,
    seed_folders,
    summarize,
)
from lipzoo.training.run_seed import build_from_recipe, train_seed
from lipzoo.training.run_together import check_device, check_recipe_together, train_together
from lipzoo.training.state import STATE_FILE, check_other_epochs, check_state_data
from lipzoo.training.tasks import Tasks, check_splits, load_task
from lipzoo.weights import WEIGHTS_FILE

__all__ = ["train"]

#: What to try where a model predicts the same for every node.
_REMEDIES = (
    "another learning rate (optimizer.lr), features on one scale (dataset: scaling: standard), "
    "metric: macro_f1 or roc_auc to choose the epoch by, or start: stack"
)


@one_writer
def train(
    recipe: Recipe,
    out: str | os.PathLike,
    *,
    seeds: list[int] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    baselines: bool = False,
    jobs: int = 1,
    device: str | None = None,
    raw_dir: str | None = None,
    ranks: Ranks | None = None,
    verbose: Verbose = True,
) -> dict[str, Any]:
    """Train each seed of a recipe.

    Parameters
    ----------
    recipe : Recipe
        What :func:`~lipzoo.training.recipe.load_recipe` returned.
    out : path
        The run's folder.
    seeds : list of int, optional
        Instead of the recipe's.
    resume : bool
        Go on with a run that was stopped; finished seeds are not trained again. With more epochs
        in the recipe, all seeds of the folder go on to these, where that gives what as many epochs
        from the start do: not with the schedule ``cosine``.
    overwrite : bool
        Start anew in a folder that holds a run.
    baselines : bool
        Also train what the recipe compares with.
    jobs : int
        Seeds (on a ``device``: stacks of models of one shape) that are trained at once, each in a
        process of its own.
    device : str, optional
        Train all seeds together on this device, such as ``"cuda"``; see
        :func:`~lipzoo.training.together.fit_together`. The masks of dropout are others than those
        of a training seed by seed on the CPU, and on a GPU no two runs are the same to the bit.
    raw_dir : str, optional
        Where DGL's raw data lies; see :func:`~lipzoo.load_dataset`.
    ranks : Ranks, optional
        The processes that train together with this one, the first of them; the others
        :func:`~lipzoo.training.run_seed.follow`.
    verbose : bool or "json"
        Say on stderr how far it is; see :func:`~lipzoo.training.loop.fit`.

    Returns
    -------
    dict
        ``{"name": …, "seeds": […], "metrics": {"test_accuracy": {"mean", "std", "values"}}, …}``;
        where a seed predicts one class for every node, ``"only_class": [{"seed", "class"}]``, and a
        warning says so.

    Raises
    ------
    OutputError
        If the folder holds a run (or anything) and neither ``resume`` nor ``overwrite`` is given,
        or a run on other data.
    ConfigError
        If the run in the folder has another recipe or architecture, or cannot go on to as many
        epochs.
    """
    if jobs < 1:
        raise ConfigError(f"jobs must be at least 1, got {jobs}")
    if ranks is not None:
        check_several(ranks.number, ranks.parts is not None, jobs, device, baselines)
    # What can go wrong does so before the folder is touched: data, model, baselines, device.
    if device is not None:
        check_device(device)
    seeds = seeds if seeds is not None else list(recipe.seeds)
    recipe = recipe.model_copy(update={"start": as_start(recipe.start)})
    output = OutputFolder(out, RECIPE_FILE, _own_files(output_path(out)))
    again = _to_go_on_with(output, recipe, ranks.number if ranks else 1) if resume else []
    if again:
        seeds = sorted({*seeds, *(seed for place, seed in again if not place)})
        baselines = baselines or any(place for place, _ in again)
    tasks = Tasks() if ranks is None else ranks.tasks()
    load = partial(tasks, recipe, raw_dir, seeds[0])
    with stage(verbose, f"loading {recipe.dataset['name']}"):
        if ranks is not None:
            ranks.told((recipe.to_dict(), seeds[0], None))
        task = load() if ranks is None else ranks.same_task(load)
    check_splits(recipe, task, seeds)
    is_whole = ranks is None or ranks.parts is None
    if is_whole:
        warn_of_data(task)
    variants = _variants(recipe) if baselines else {"": recipe}
    raw = recipe.model_copy(update={"start": None})  # what estimators see
    estimated = {}
    for name, baseline in recipe.baselines.items() if baselines else ():
        if baseline.estimator is not None:
            # An estimator has no seed: its one result stands for all, but for those of other data.
            estimated[name] = {
                seed: fit_estimator(baseline.estimator, baseline.args, tasks(raw, raw_dir, seed))
                for seed in (seeds if per_seed(recipe.dataset) else [0])
            }
    architectures = {v.architecture: get_architecture(v.architecture) for v in variants.values()}
    for place, variant in variants.items():
        model = build_from_recipe(variant, task, architectures[variant.architecture])
        if ranks is None:
            check_batching(model, task, variant.batching)
        else:
            ranks.check(model, task, variant.batching)
        if device is not None:
            check_recipe_together(variant)
        missing = [] if place else missing_for_finetuning(model)
        if missing:
            warnings.warn(
                f"a {type(model).__name__} trains and exports, and is fine-tuned as a whole, on "
                f"data of its own sizes, for it has no {', '.join(missing)}; for more add them, or "
                "derive the class from lipzoo.models.DeepAttentionNet",
                stacklevel=3,
            )

    begun = [(output.path / place / f"seed_{seed}", place, seed) for place, seed in again]
    for path, place, seed in begun:  # all of them, before one is touched
        of_seed = tasks(variants[place], raw_dir, seed)
        is_finished(path, of_seed)
        check_state_data(path / STATE_FILE, of_seed.fingerprint)
    for path, *_ in begun:  # before the recipe says that they are finished
        (path / RESULT_FILE).unlink(missing_ok=True)
    folder = output.begin(recipe.to_dict(), resume, overwrite, may_change=["epochs", "seeds"])
    for place, variant in variants.items():
        keep_architecture(output, architectures[variant.architecture], place)
    for name, results in estimated.items():
        _write_estimated(folder / "baselines" / name, results)
    work = [
        (variant, folder / place / f"seed_{seed}", seed, architectures[variant.architecture])
        for place, variant in variants.items()
        for seed in seeds
    ]
    if device is not None:
        told = partial(say, verbose, event="seed")
        train_together(work, device, raw_dir, jobs, lambda line: told(line, result=line))
    elif jobs == 1:
        for variant, path, seed, architecture in work:
            task = tasks(variant, raw_dir, seed)
            train_seed(variant, path, seed, task, verbose, architecture, ranks)
    else:
        _train_in_processes(work, jobs, raw_dir, verbose)
    if ranks is not None:
        ranks.told(None)  # that is all
    summary = summarize(folder, recipe)
    write_yaml(folder / SUMMARY_FILE, summary)
    if not (is_whole and one_label(task)):  # which was said before
        _warn_of_only_class(summary)
    return summary


def _own_files(run: Path) -> list[str]:
    """Patterns of all that a run has written into its folder; results come before the rest of a
    seed, for where one stands the seed counts as finished."""
    places = [run, *sorted(run.glob("baselines/*"))]
    seeds = [found for place in places for found in seed_folders(place).values()]
    names = RESULT_FILE, STATE_FILE, WEIGHTS_FILE, CSV_FILE, "tensorboard/events.*", LEFTOVERS
    return [
        SUMMARY_FILE,
        *(f"{escape(str(seed.relative_to(run)))}/{name}" for name in names for seed in seeds),
        ARCHITECTURE_FILE,
        f"baselines/*/{ARCHITECTURE_FILE}",
    ]


def _variants(recipe: Recipe) -> dict[str, Recipe]:
    """The recipe, and its baselines that are no estimators, by their place in a run's folder."""
    variants = {"": recipe}
    for name, baseline in recipe.baselines.items():
        if baseline.estimator is None:
            variant = recipe.variant(baseline)
            started = {"start": as_start(variant.start)}
            variants[f"baselines/{name}"] = variant.model_copy(update=started)
    return variants


def _to_go_on_with(output: OutputFolder, recipe: Recipe, processes: int) -> list[tuple[str, int]]:
    """Places and seeds of a run that are to be trained for another number of epochs than before.

    Raises
    ------
    ConfigError
        If one of them cannot: nothing has been touched then.
    """
    if not output.file.is_file():
        return []
    before = read_run(output.path)
    if set(differing(before.to_dict(), recipe.to_dict())) - {"seeds"} != {"epochs"}:
        return []  # nothing to do, or refused in a moment
    earlier, found = _variants(before), []
    for place, variant in _variants(recipe).items():
        epochs = earlier[place].epochs
        for seed, folder in seed_folders(output.path / place).items():
            is_finished = (folder / RESULT_FILE).is_file()
            settings, state = variant.settings(), folder / STATE_FILE
            check_other_epochs(state, epochs, settings, is_finished, processes)
            if epochs != variant.epochs:
                found.append((place, seed))
    return found


def _warn_of_only_class(summary: dict[str, Any]) -> None:
    def by_class(each: dict[str, Any]) -> str:
        return shown_class(each["class"])

    found = sorted(summary.get("only_class", []), key=by_class)
    for _, group in groupby(found, by_class):
        same = list(group)
        seeds = [str(each["seed"]) for each in same]
        where = f"{summary['name']}, seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}:"
        words = only_class_words(f"{where} the model", same[0]["class"], _REMEDIES)
        warnings.warn(words, stacklevel=4)


def _write_estimated(folder: Path, results: dict[int, dict[str, float]]) -> None:
    for seed, metrics in results.items():
        place = folder / f"seed_{seed}"
        place.mkdir(parents=True, exist_ok=True)
        write_yaml(place / RESULT_FILE, {"seed": seed, "metrics": metrics})


def _train_in_processes(
    work: list[tuple[Recipe, Path, int, Architecture]],
    jobs: int,
    raw_dir: str | None,
    verbose: Verbose,
) -> None:
    train_one = partial(_train_in_child, raw_dir=raw_dir)
    seeds = [(recipe.to_dict(), *rest) for recipe, *rest in work]
    with closing(in_processes(train_one, seeds, jobs)) as trained:
        for number, ((_, path, *_), result) in enumerate(trained, 1):
            result()
            metrics = read_yaml(path / RESULT_FILE)["metrics"]
            words = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
            text = f"[{number}/{len(seeds)}] {path}: {words}"
            say(verbose, text, "seed", folder=str(path), metrics=metrics)


def _train_in_child(
    one: tuple[dict[str, Any], Path, int, Architecture], raw_dir: str | None
) -> None:
    content, folder, seed, architecture = one
    recipe = make_recipe(content, where=str(folder))
    train_seed(recipe, folder, seed, load_task(recipe, raw_dir, seed), False, architecture)
