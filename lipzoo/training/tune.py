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
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lipzoo._output import OutputFolder, differing
from lipzoo._processes import results
from lipzoo._progress import Verbose, say
from lipzoo._writing import writing
from lipzoo._yaml import read_yaml
from lipzoo.datasets import GraphTask
from lipzoo.datasets.convert import MASKS
from lipzoo.errors import ConfigError, LipzooError, OutputError
from lipzoo.registry import get_architecture
from lipzoo.training import tune_report
from lipzoo.training.batching import check_batching
from lipzoo.training.doubts import one_label, warn_of_data
from lipzoo.training.metrics import only_class_words
from lipzoo.training.recipe import Recipe
from lipzoo.training.run_seed import build_from_recipe, settled
from lipzoo.training.run_together import check_device, check_recipe_together
from lipzoo.training.search_space import SearchSpace, check_space, own_values, to_dict
from lipzoo.training.tasks import check_splits
from lipzoo.training.tune_storage import (
    LOCKS,
    asked_before,
    at_work,
    load_optuna,
    open_search,
    plain_words,
    refuse_running,
    remove_search,
    storage_path,
)
from lipzoo.training.tune_trial import data_kept, load_kept, try_once

__all__ = ["tune"]

STUDY_FILE, STORAGE_FILE = "study.yaml", "study.db"
#: The storage itself may hold more than the search: `remove_search` sees to it.
_OWN_FILES = (*tune_report.FILES, *(name.format(STORAGE_FILE) for name in LOCKS))
#: Trials and jobs.
_MOST = 1_000_000
#: Seconds to wait for one who begins in the same folder.
_WAIT = 60
#: What to try where the best model predicts one class for every node.
_REMEDIES = "a wider space, metric: macro_f1 or roc_auc to choose by, or start: stack"


@data_kept()
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
    begins a trial beyond ``trials``, and each returns when so many have come to an end. A trial
    whose network diverges fails. Where the best model predicts one class for every node, a warning
    says so.

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
        SQLite file of the trials, not in ``out``, instead of ``out/study.db``. It may hold other
        studies of Optuna's.
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
        {"complete": …, "pruned": …, "failed": …}, "only_class": …}``; trials may also be
        ``killed``, ``running`` or ``waiting``, and ``only_class`` is what the best one predicts
        for every node, where it does (:func:`~lipzoo.training.metrics.only_class`)

    Raises
    ------
    ConfigError
        If the recipe does not take a value of the space, or the folder or storage holds another
        search.
    OutputError
        If a file cannot be written, the storage of a search is missing or is a database of
        something else, or ``overwrite`` would remove trials that are being made.
    LipzooError
        If no trial succeeded.
    """
    for name, number in {"jobs": jobs, "trials": trials}.items():
        if not 1 <= number <= _MOST:
            raise ConfigError(f"{name} must be in 1 … {_MOST}, got {number}")
    if not 0 <= seed < 2**32:
        raise ConfigError(f"seed must be in 0 … {2**32 - 1}, got {seed}")
    load_optuna()
    if device is not None:
        check_device(device)
    seeds = list(recipe.seeds[:1] if seeds is None else seeds)
    task = load_kept(recipe, raw_dir, seeds[0])
    check_splits(recipe, task, seeds)
    warn_of_data(task)

    def try_out(changed: Recipe) -> None:
        other = load_kept(changed, raw_dir, seeds[0])
        if not _is_judged_alike(other, task):
            raise ConfigError("has other labels or masks, between which no trial is better")
        check_batching(build_from_recipe(changed, other), other, changed.batching)
        if device is not None:
            check_recipe_together(changed)

    try_out(recipe)
    check_space(recipe, space, try_out)
    asked = {
        "recipe": recipe.to_dict(),
        "architectures": _architectures(recipe, space),
        "data": task.fingerprint,
        "space": to_dict(space),
        "seeds": seeds,
    }
    first = own_values(recipe, space, partial(settled, task=task))
    with _begun(out, storage, asked, overwrite) as (folder, file), plain_words(file):
        search = partial(
            try_once,
            file=file,
            asked=asked,
            trials=trials,
            seed=seed,
            prune=prune,
            raw_dir=raw_dir,
            device=device,
        )
        study = open_search(file, asked, first=first)
        done, others = tune_report.count(study)
        left = range(done, max(trials, done))
        text = f"{recipe.full_name}: {len(left)} of {trials} trials to do"
        if others and left:
            text += f"; {others} may be in the making elsewhere (if killed, made again in a minute)"
        if outside := sorted(set(space) - set(first)):
            text += f"; the space does not hold the recipe's own {', '.join(outside)}"
        say(verbose, text, "search", name=recipe.full_name, left=len(left), trials=trials)
        with closing(results(search, left, jobs)) as lines:
            # None stands for a trial that another call made.
            for number, line in enumerate(filter(None, lines), 1):
                text = f"[{number}/{len(left)}] {line}"
                say(verbose, text, "trial", number=number, of=len(left), result=line)
        found = tune_report.write(folder, study, asked, f"val_{task.metric}")
    if found["only_class"] is not None and not one_label(task):  # which was said before
        words = only_class_words(
            f"{recipe.full_name}: the best trial", found["only_class"], _REMEDIES
        )
        warnings.warn(words, stacklevel=3)
    return found


def _architectures(recipe: Recipe, space: SearchSpace) -> dict[str, dict[str, Any]]:
    """What the names of architectures mean today: a file may change while a search stands."""
    names = {recipe.architecture}
    if "architecture" in space:
        names |= set(space["architecture"].extremes())
    found = map(get_architecture, sorted(names))
    return {each.name: {"model": each.model, **each.args} for each in found}


def _is_judged_alike(task: GraphTask, other: GraphTask) -> bool:
    pairs = [(task.labels, other.labels)]
    pairs += [(getattr(task, name), getattr(other, name)) for name in MASKS]
    return all(a.shape == b.shape and torch.equal(a, b) for a, b in pairs)


def _is_of_folder(output: OutputFolder, file: Path) -> bool:
    """Whether the search in a file is the one whose results the folder holds."""
    try:
        kept = read_yaml(output.file)
    except LipzooError:  # there is none, or it is damaged
        return False
    where = kept.pop("storage", None)
    return where == str(file.absolute()) and not differing(kept, asked_before(file))


@contextmanager
def _begun(
    out: str | os.PathLike,
    storage: str | os.PathLike | None,
    asked: dict[str, Any],
    overwrite: bool,
) -> Iterator[tuple[Path, Path]]:
    """The folder and the storage of a search that begins, or goes on; nobody else begins it anew
    meanwhile."""
    output = OutputFolder(out, STUDY_FILE, _OWN_FILES)
    own = output.path / STORAGE_FILE
    file = own if storage is None else storage_path(storage)
    if file.resolve() == own.resolve():
        file, identity = own, asked
    elif file.resolve().is_relative_to(output.path.resolve()):
        raise ConfigError(
            f"--storage {file}: lies in --out, where {STORAGE_FILE} holds the trials; leave "
            "--storage away, or name a file elsewhere"
        )
    else:
        identity = {**asked, "storage": str(file.absolute())}
    with ExitStack() as stack:
        with writing(output.path, _WAIT):
            if overwrite:
                refuse_running(own, file)
            goes_on = output.file.is_file() and not overwrite
            begins_anew = overwrite and _is_of_folder(output, file)
            if file != own and not (goes_on or begins_anew):
                # It may hold another search, or be none: the folder is not touched then.
                open_search(file, asked)
            output.begin(identity, resume=not overwrite, overwrite=overwrite)
            if overwrite:
                for each in dict.fromkeys((own, file)):
                    remove_search(each, is_own=each == own)
            if (output.path / "trials.csv").is_file() and not asked_before(file):
                raise OutputError(
                    f"{output.path}: holds results of a search, but its trials are missing "
                    f"({file}); put that file back, choose another folder, or start anew with "
                    "--overwrite"
                )
            stack.enter_context(at_work(*dict.fromkeys((own, file))))
        yield output.path, file
