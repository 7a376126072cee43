"""Search for the settings of a recipe that do best on its validation nodes, with Optuna.

::

    OUT/study.yaml     what was asked for: recipe, search space, seeds
    OUT/study.db       the trials, in Optuna's own SQLite storage
    OUT/best.yaml      the best recipe, to train with
    OUT/trials.csv     all trials
    OUT/report.md      the best ones, and which settings mattered; plots beside it
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lipzoo._output import OutputFolder
from lipzoo._processes import results
from lipzoo._progress import Verbose, say
from lipzoo._torch import threads
from lipzoo.datasets import GraphTask
from lipzoo.errors import ConfigError, LipzooError, OutputError
from lipzoo.registry import get_architecture
from lipzoo.training import tune_report
from lipzoo.training.batching import check_batching
from lipzoo.training.loop import fit
from lipzoo.training.recipe import Recipe, make_recipe
from lipzoo.training.run_seed import build_from_recipe, model_args
from lipzoo.training.run_together import check_device, check_recipe_together, fit_seeds
from lipzoo.training.search_space import (
    SearchSpace,
    check_space,
    make_space,
    own_values,
    to_dict,
    with_values,
)
from lipzoo.training.tasks import Tasks, check_splits
from lipzoo.training.tune_storage import (
    STORAGE_FILES,
    Enough,
    OthersAreAtWork,
    load_optuna,
    open_search,
    plain_words,
    refuse_running,
    remove_search,
    storage_path,
)

__all__ = ["tune"]

STUDY_FILE, STORAGE_FILE = "study.yaml", "study.db"
_OWN_FILES = (*tune_report.FILES, *(name.format(STORAGE_FILE) for name in STORAGE_FILES))
#: What fails a trial, and no more than it.
FAULTS = (LipzooError, RuntimeError, ValueError)
#: A trial reports so often how far it is; each report is written to the storage.
_REPORTS = 50
#: Seconds to wait for one who begins in the same folder, and between two looks at trials of others.
_WAIT, _LOOK = 60, 2


def tune(
    recipe: Recipe,
    space: SearchSpace,
    out: str | os.PathLike,
    *,
    trials: int,
    storage: str | os.PathLike | None = None,
    seeds: list[int] | None = None,
    seed: int = 0,
    jobs: int = 1,
    device: str | None = None,
    prune: bool = True,
    overwrite: bool = False,
    raw_dir: str | None = None,
    verbose: Verbose = True,
) -> dict[str, Any]:
    """Try settings of a recipe, chosen by Optuna's TPE, and write the best recipe.

    A trial trains the recipe with some values of the fields in ``space``, and is worth the mean
    over ``seeds`` of the recipe's metric on the validation nodes, at the epoch that the recipe
    itself would choose. The first trial is the recipe as it stands, as far as the space holds it.
    The labels of the test nodes decide nothing. A trial whose first seed is behind the median of
    the others at the same epoch is pruned.

    The same call goes on with a search that was stopped or killed. Several may work at once: none
    begins a trial beyond ``trials``, and each returns when so many have come to an end.

    Parameters
    ----------
    recipe : Recipe
        What :func:`~lipzoo.training.recipe.load_recipe` returned.
    space : dict
        What :func:`~lipzoo.training.search_space.load_space` returned.
    out : path
        Folder of the results.
    trials : int
        How many come to an end in the storage, pruned and failed ones included, and those that it
        held before.
    storage : path, optional
        SQLite file of the trials, instead of ``out/study.db``. It may hold other studies of
        Optuna's.
    seeds : list of int, optional
        Of each trial; by default the first one of the recipe.
    seed : int
        Of the search. With ``jobs=1``, and nobody else at work, the same seed gives the same
        trials.
    jobs : int
        Trials that are made at once, each in a process of its own.
    device : str, optional
        Train the seeds of a trial together on this device, such as ``"cuda"``; pruning then looks
        at all of them.
    prune : bool
        Stop trials that fall behind.
    overwrite : bool
        Start anew in a folder that holds a search; what ``storage`` holds of it is removed, too.
    raw_dir : str, optional
        Where raw data lies; see :func:`~lipzoo.load_dataset`.
    verbose : bool or "json"
        Say a line a trial on stderr.

    Returns
    -------
    dict
        ``{"name": …, "metric": "val_accuracy", "value": …, "trial": …, "values": {…}, "trials":
        {"complete": …, "pruned": …, "failed": …}}``

    Raises
    ------
    ConfigError
        If the recipe does not take a value of the space, or the folder or storage holds another
        search.
    OutputError
        If a file cannot be written, the storage of a search is missing or is a database of
        something else, or ``overwrite`` would remove trials that are being made.
    LipzooError
        If no trial came to an end.
    """
    for name, number in {"jobs": jobs, "trials": trials}.items():
        if number < 1:
            raise ConfigError(f"{name} must be at least 1, got {number}")
    load_optuna()
    if device is not None:
        check_device(device)
    _task.clear()
    seeds = list(recipe.seeds[:1] if seeds is None else seeds)
    task = _task(recipe, raw_dir, seeds[0])
    check_splits(recipe, task, seeds)

    def try_out(changed: Recipe) -> None:
        task = _task(changed, raw_dir, seeds[0])
        check_batching(build_from_recipe(changed, task), task, changed.batching)
        if device is not None:
            check_recipe_together(changed)

    try_out(recipe)
    check_space(recipe, space, try_out)
    asked = {"recipe": recipe.to_dict(), "space": to_dict(space), "seeds": seeds}
    folder, file = _begin(out, storage, asked, overwrite)
    search = partial(
        _search_once,
        file=file,
        asked=asked,
        trials=trials,
        seed=seed,
        prune=prune,
        raw_dir=raw_dir,
        device=device,
    )
    with plain_words(file):
        args = model_args(recipe, task, get_architecture(recipe.architecture))
        study = open_search(file, asked, first=own_values(recipe, args, space))
        done = len(tune_report.finished(study))
        left = range(done, max(trials, done))
        text = f"{recipe.full_name}: {len(left)} of {trials} trials to do"
        say(verbose, text, "search", name=recipe.full_name, left=len(left), trials=trials)
        with closing(results(search, left, jobs)) as lines:
            # None stands for a trial that another call made.
            for number, line in enumerate(filter(None, lines), 1):
                text = f"[{number}/{len(left)}] {line}"
                say(verbose, text, "trial", number=number, of=len(left), result=line)
        return tune_report.write(folder, study, asked, f"val_{task.metric}")


def _begin(
    out: str | os.PathLike,
    storage: str | os.PathLike | None,
    asked: dict[str, Any],
    overwrite: bool,
) -> tuple[Path, Path]:
    """The folder and the storage of a search that begins, or goes on."""
    output = OutputFolder(out, STUDY_FILE, _OWN_FILES)
    identity, file = asked, output.path / STORAGE_FILE
    if storage is not None:
        file = storage_path(storage)
        identity = {**asked, "storage": str(file.absolute())}
    if overwrite:
        refuse_running(file)
    if storage is not None and (overwrite or not output.file.is_file()):
        # It may hold another search, or be none: the folder is not touched then.
        open_search(file, asked)
    output.begin(identity, resume=not overwrite, overwrite=overwrite, wait=_WAIT)
    if overwrite:
        remove_search(file)
    if (output.path / "trials.csv").is_file() and not file.is_file():
        raise OutputError(
            f"{output.path}: holds results of a search, but its trials are missing ({file}); put "
            "that file back, choose another folder, or start anew with --overwrite"
        )
    return output.path, file


#: Data are kept from trial to trial.
_task = Tasks(number=10)


# ------------------------------------------------------------------- one trial


def _search_once(
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
    study = open_search(file, asked, trials, seed, prune)
    recipe = make_recipe(asked["recipe"], STUDY_FILE)
    space = make_space(asked["space"], STUDY_FILE)
    made = []

    def objective(trial) -> float:
        made.append(trial.number)
        values = {key: entry.suggest(trial, key) for key, entry in space.items()}
        for other in tune_report.complete(study):
            if other.params == trial.params:
                return other.value  # the same recipe and seeds
        try:
            changed = with_values(recipe, values, f"trial {trial.number}")
            if device is not None:
                return _worth_together(trial, changed, asked["seeds"], raw_dir, device)
            return _worth(trial, changed, asked["seeds"], raw_dir)
        except FAULTS as fault:
            trial.set_user_attr("fault", " ".join(str(fault).split())[:500])
            raise
        except KeyboardInterrupt:
            study.enqueue_trial(trial.params)
            raise

    with tune_report.quiet(), plain_words(file):
        while not made:
            try:
                study.optimize(objective, n_trials=1, catch=FAULTS)
            except OthersAreAtWork:
                time.sleep(_LOOK)  # one of them may be killed
            except Enough:
                return None
        return tune_report.line(study.trials[made[0]], space)


def _worth(trial, recipe: Recipe, seeds: list[int], raw_dir: str | None) -> float:
    """The mean over the seeds; the first one may show that the trial is not worth going on."""
    first, *others = seeds
    task = _task(recipe, raw_dir, first)
    values = [validated(recipe, first, task, partial(_report, trial, recipe, task.metric))]
    values += [validated(recipe, seed, _task(recipe, raw_dir, seed)) for seed in others]
    return sum(values) / len(values)


def _worth_together(
    trial, recipe: Recipe, seeds: list[int], raw_dir: str | None, device: str
) -> float:
    """The mean over the seeds, which are trained together."""
    tasks = [_task(recipe, raw_dir, seed) for seed in seeds]
    metric = f"val_{tasks[0].metric}"

    def report(epoch: int, rows: list[dict[str, float]]) -> None:
        mean = sum(row[metric] for row in rows) / len(rows)
        _report(trial, recipe, tasks[0].metric, {"epoch": epoch, metric: mean})

    results = fit_seeds(recipe, tasks, seeds, check_device(device), report, splits=("val",))
    return sum(result.metrics[metric] for result in results) / len(results)


def validated(
    recipe: Recipe,
    seed: int,
    task: GraphTask,
    on_evaluation: Callable[[dict[str, float]], None] | None = None,
) -> float:
    """The recipe's metric on the validation nodes, at the epoch that it chooses."""
    with threads(recipe.num_threads):
        torch.manual_seed(seed)
        model = build_from_recipe(recipe, task)
        result = fit(
            model,
            task,
            recipe.settings(),
            on_evaluation=on_evaluation,
            splits=("val",),
            verbose=False,
        )
    return result.metrics[f"val_{task.metric}"]


def _report(trial, recipe: Recipe, metric: str, row: dict[str, float]) -> None:
    """Tell Optuna how far a trial is; it may be told to stop."""
    import optuna

    every = max(1, recipe.epochs // _REPORTS)
    if row["epoch"] % every < recipe.eval_every:
        trial.report(row[f"val_{metric}"], int(row["epoch"]))
        if trial.should_prune():
            raise optuna.TrialPruned
