"""Search for the settings of a recipe that do best on its validation nodes, with Optuna.

::

    OUT/study.yaml     what was asked for: recipe, search space, seeds
    OUT/study.db       the trials, in Optuna's own SQLite storage
    OUT/best.yaml      the best recipe, to train with
    OUT/trials.csv     all trials
    OUT/report.md      the best ones, and which settings mattered; plots beside it
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from lipzoo._output import OutputFolder, differing
from lipzoo._paths import as_path
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

__all__ = ["tune"]

STUDY_FILE, STORAGE_FILE = "study.yaml", "study.db"
_OWN_FILES = (*tune_report.FILES, *(f"{STORAGE_FILE}{end}" for end in ("", "-journal", ".lock")))
#: What fails a trial, and no more than it.
FAULTS = (LipzooError, RuntimeError, ValueError)
#: Name of the one study in a storage.
_STUDY = "lipzoo"
#: A trial reports so often how far it is; each report is written to the storage.
_REPORTS = 50
#: Trials that are compared before any is pruned.
_BEFORE_PRUNING = 5
#: Seconds between two signs of life of a trial. One that gave none for the second number of them
#: was killed, and is tried again.
_HEARTBEAT, _GRACE = 10, 60
#: Opening a storage takes less.
_LOCK_SECONDS = 60


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

    The same call goes on with a search that was stopped or killed. Several may work at once.

    Parameters
    ----------
    recipe : Recipe
        What :func:`~lipzoo.training.recipe.load_recipe` returned.
    space : dict
        What :func:`~lipzoo.training.search_space.load_space` returned.
    out : path
        Folder of the results.
    trials : int
        How many the storage holds in the end, pruned and failed ones included.
    storage : path, optional
        SQLite file of the trials, instead of ``out/study.db``.
    seeds : list of int, optional
        Of each trial; by default the first one of the recipe.
    seed : int
        Of the search. With ``jobs=1`` the same seed gives the same trials; several calls at once
        take one each, or some of their first trials are the same.
    jobs : int
        Trials that are made at once, each in a process of its own.
    device : str, optional
        Train the seeds of a trial together on this device, such as ``"cuda"``; pruning then looks
        at all of them.
    prune : bool
        Stop trials that fall behind.
    overwrite : bool
        Start anew in a folder that holds a search.
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
        If a file cannot be written.
    LipzooError
        If no trial came to an end.
    """
    for name, number in {"jobs": jobs, "trials": trials}.items():
        if number < 1:
            raise ConfigError(f"{name} must be at least 1, got {number}")
    _optuna()
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
    output = OutputFolder(out, STUDY_FILE, _OWN_FILES)
    file = output.path / STORAGE_FILE if storage is None else as_path(storage, "--storage")
    search = partial(
        _search_once,
        file=file,
        asked=asked,
        seed=seed,
        prune=prune,
        raw_dir=raw_dir,
        device=device,
    )
    with _plain_words(file):
        if storage is not None:  # it may hold another search: the folder is not touched then
            _check_same(_open_study(file, seed), asked, file)
        folder = output.begin(asked, resume=not overwrite, overwrite=overwrite)
        study = _open_study(file, seed)
        _check_same(study, asked, file)
        if not study.trials:
            args = model_args(recipe, task, get_architecture(recipe.architecture))
            study.enqueue_trial(own_values(recipe, args, space))
        done = len(tune_report.finished(study))
        left = range(done, max(trials, done))
        text = f"{recipe.full_name}: {len(left)} of {trials} trials to do"
        say(verbose, text, "search", name=recipe.full_name, left=len(left), trials=trials)
        with closing(results(search, left, jobs)) as lines:
            for number, line in enumerate(lines, 1):
                text = f"[{number}/{len(left)}] {line}"
                say(verbose, text, "trial", number=number, of=len(left), result=line)
        return tune_report.write(folder, study, asked, f"val_{task.metric}")


def _optuna():
    try:
        import optuna
    except ImportError:
        raise ConfigError("tune needs Optuna: pip install 'lipzoo[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # a line a trial is ours
    return optuna


#: Data are kept from trial to trial.
_task = Tasks(number=10)


# ----------------------------------------------------------------- the storage


def _open_study(file: Path, seed: int, prune: bool = False):
    optuna = _optuna()
    pruner = optuna.pruners.NopPruner()
    if prune:
        pruner = optuna.pruners.MedianPruner(n_startup_trials=_BEFORE_PRUNING)
    # Two that make the tables at once would be in each other's way.
    with (
        tune_report.quiet(),
        _plain_words(file, RuntimeError, OSError, Timeout),
        FileLock(f"{file}.lock", timeout=_LOCK_SECONDS),
    ):
        storage = _storage(_url(file))
        study = optuna.create_study(
            storage=storage,
            study_name=_STUDY,
            direction="maximize",
            load_if_exists=True,
            pruner=pruner,
        )
    study.sampler = optuna.samplers.TPESampler(seed=seed)
    return study


def _storage(url: str):
    """One in which a trial whose process was killed waits to be tried again."""
    import optuna
    from optuna.storages._rdb.models import TrialHeartbeatModel

    class Storage(optuna.storages.RDBStorage):
        def _get_stale_trial_ids(self, study_id: int) -> list[int]:
            # Optuna passes over trials that were killed before their first sign of life.
            running = self.get_all_trials(
                study_id, deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)
            )
            begun = datetime.now() - timedelta(seconds=_GRACE)
            with self.scoped_session() as session:
                heard = {trial for (trial,) in session.query(TrialHeartbeatModel.trial_id)}
            silent = {t._trial_id for t in running if t.datetime_start < begun} - heard
            return super()._get_stale_trial_ids(study_id) + sorted(silent)

    return Storage(
        url,
        engine_kwargs={"connect_args": {"timeout": 60}},
        heartbeat_interval=_HEARTBEAT,
        grace_period=_GRACE,
        heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(),
    )


def _url(file: Path) -> str:
    from sqlalchemy.engine import URL, make_url

    path = str(file.absolute())
    url = URL.create("sqlite", database=path).render_as_string()
    if make_url(url).database != path:  # SQLAlchemy before 2.1 does not quote '?'
        raise OutputError(f"{file}: choose a name of letters and digits for the storage")
    return url


@contextmanager
def _plain_words(file: Path, *others: type[Exception]) -> Iterator[None]:
    """What the storage raises (and ``others``) as an error of ours: full disks, strange files."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import DatabaseError

    try:
        yield
    except (StorageInternalError, DatabaseError, *others) as fault:
        cause = fault.__cause__ if isinstance(fault, StorageInternalError) else fault
        words = str(getattr(cause, "orig", cause)).splitlines()[0]
        raise OutputError(
            f"{file}: is no storage that can be used ({words}); choose another file, on a disk "
            "with room"
        ) from None


def _check_same(study, asked: dict[str, Any], file: Path) -> None:
    before = study.user_attrs.get("asked")
    if before is None:
        study.set_user_attr("asked", asked)
        return
    names = differing(json.loads(json.dumps(before)), json.loads(json.dumps(asked)))
    if names:
        raise ConfigError(
            f"{file}: holds a search with other settings ({', '.join(names)} differ); choose "
            "another --storage"
        )


# ------------------------------------------------------------------- one trial


def _search_once(
    number: int,
    file: Path,
    asked: dict[str, Any],
    seed: int,
    prune: bool,
    raw_dir: str | None,
    device: str | None,
) -> str:
    """Make one trial, and say what came of it."""
    # Another seed a trial, and the same one whether the search was stopped before it or not.
    study = _open_study(file, seed * 1_000_003 + number, prune)
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

    with tune_report.quiet(), _plain_words(file):
        study.optimize(objective, n_trials=1, catch=FAULTS)
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
