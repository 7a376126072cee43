"""One trial of a search: the recipe with some settings, trained and judged on validation nodes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lipzoo._torch import threads
from lipzoo.datasets import GraphTask
from lipzoo.errors import LipzooError
from lipzoo.training.loop import FitResult, fit
from lipzoo.training.metrics import has_diverged
from lipzoo.training.recipe import Recipe, make_recipe
from lipzoo.training.run_seed import build_from_recipe
from lipzoo.training.run_together import check_device, fit_seeds
from lipzoo.training.search_space import make_space, with_values
from lipzoo.training.tasks import Tasks
from lipzoo.training.tune_report import complete, line, quiet
from lipzoo.training.tune_storage import Enough, OthersAreAtWork, open_search, plain_words

__all__ = ["FAULTS", "data_kept", "load_kept", "try_once", "validated"]

#: What fails a trial, and no more than it.
FAULTS = (LipzooError, RuntimeError, ValueError)
#: A trial reports so often how far it is; each report is written to the storage.
_REPORTS = 50
#: Seconds between two looks at trials of others.
_LOOK = 2

#: Data are kept from trial to trial.
load_kept = Tasks(number=10)


@contextmanager
def data_kept() -> Iterator[None]:
    """No longer than a search."""
    try:
        yield
    finally:
        load_kept.clear()


def try_once(
    _: int,
    file: Path,
    asked: dict[str, Any],
    trials: int,
    seed: int,
    prune: bool,
    raw_dir: str | None,
    device: str | None,
) -> str | None:
    """Make one trial, and say what came of it; None where others have made the last."""
    recipe = make_recipe(asked["recipe"], str(file))
    study = open_search(file, asked, trials, seed, recipe.epochs if prune else None)
    space = make_space(asked["space"], str(file))
    made = []

    def objective(trial) -> float:
        made.append(trial.number)
        values = {key: entry.suggest(trial, key) for key, entry in space.items()}
        for other in complete(study):
            if other.params == trial.params:  # the same recipe and seeds
                if "only_class" in other.user_attrs:
                    trial.set_user_attr("only_class", other.user_attrs["only_class"])
                return other.value
        try:
            changed = with_values(recipe, values, f"trial {trial.number}")
            if device is not None:
                return _worth_together(trial, changed, asked["seeds"], raw_dir, device)
            return _worth(trial, changed, asked["seeds"], raw_dir)
        except FAULTS as fault:
            with suppress(RuntimeError):  # others took it for killed
                trial.set_user_attr("fault", " ".join(str(fault).split())[:500])
            raise
        except KeyboardInterrupt:
            study.enqueue_trial(trial.params)
            raise

    with quiet(), plain_words(file):
        while not made:
            try:
                study.optimize(objective, n_trials=1, catch=FAULTS)
            except OthersAreAtWork:
                time.sleep(_LOOK)  # one of them may be killed
            except Enough:
                return None
            except (*FAULTS, AssertionError):  # Optuna asserts that a failed trial has a fault
                if not (made and study.trials[made[0]].state.is_finished()):
                    raise
                made.clear()  # it paused for so long that others took it for killed
        return line(study.trials[made[0]], space)


def _worth(trial, recipe: Recipe, seeds: list[int], raw_dir: str | None) -> float:
    """The mean over the seeds; the first one may show that the trial is not worth going on."""
    first, *others = seeds
    task = load_kept(recipe, raw_dir, first)
    found = [validated(recipe, first, task, partial(_report, trial, recipe, task.metric))]
    found += [validated(recipe, seed, load_kept(recipe, raw_dir, seed)) for seed in others]
    return _mean(trial, found, f"val_{task.metric}")


def _worth_together(
    trial, recipe: Recipe, seeds: list[int], raw_dir: str | None, device: str
) -> float:
    """The mean over the seeds, which are trained together."""
    tasks = [load_kept(recipe, raw_dir, seed) for seed in seeds]
    metric = f"val_{tasks[0].metric}"

    def report(epoch: int, rows: list[dict[str, float]]) -> None:
        mean = sum(row[metric] for row in rows) / len(rows)
        _report(trial, recipe, tasks[0].metric, {"epoch": epoch, metric: mean})

    results = fit_seeds(recipe, tasks, seeds, check_device(device), report, splits=("val",))
    return _mean(trial, results, metric)


def _mean(trial, found: list[FitResult], metric: str) -> float:
    """What a trial is worth; one that has diverged is worth nothing, whatever its figures."""
    if any(has_diverged(each.metrics) for each in found):
        raise LipzooError("the network has diverged: its outputs are NaN or infinite")
    if all(each.only_class is not None for each in found):
        trial.set_user_attr("only_class", found[0].only_class)
    return sum(each.metrics[metric] for each in found) / len(found)


def validated(
    recipe: Recipe,
    seed: int,
    task: GraphTask,
    on_evaluation: Callable[[dict[str, float]], None] | None = None,
) -> FitResult:
    """A seed of the recipe, judged on the validation nodes at the epoch that it chooses."""
    with threads(recipe.num_threads):
        torch.manual_seed(seed)
        model = build_from_recipe(recipe, task)
        return fit(
            model,
            task,
            recipe.settings(),
            on_evaluation=on_evaluation,
            splits=("val",),
            verbose=False,
        )


def _report(trial, recipe: Recipe, metric: str, row: dict[str, float]) -> None:
    """Tell Optuna how far a trial is; it may be told to stop."""
    import optuna

    every = max(1, recipe.epochs // _REPORTS)
    if row["epoch"] % every < recipe.eval_every:
        trial.report(row[f"val_{metric}"], int(row["epoch"]))
        if trial.should_prune():
            raise optuna.TrialPruned
