"""Where a search keeps its trials: one Optuna study in an SQLite file, which several processes use.

No more trials are made than were asked for, however many processes make them, and a trial whose
process was killed is made again.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from lipzoo._output import differing
from lipzoo._paths import as_path
from lipzoo._writing import writing_file
from lipzoo.errors import ConfigError, OutputError
from lipzoo.training import tune_report

__all__ = [
    "STORAGE_FILES",
    "Enough",
    "OthersAreAtWork",
    "load_optuna",
    "open_search",
    "plain_words",
    "refuse_running",
    "remove_search",
    "storage_path",
]

#: What SQLite and the lock leave beside a storage of this name, and itself.
STORAGE_FILES = ("{}", "{}-journal", ".{}.lock")
#: Name of the one study in a storage.
_STUDY = "lipzoo"
#: A table that each storage of Optuna's has.
_TABLE = "studies"
#: Trials that are compared before any is pruned.
_BEFORE_PRUNING = 5
#: Seconds between two signs of life of a trial. One that gave none for the second number of them
#: was killed, and is tried again.
_HEARTBEAT, _GRACE = 10, 60
#: Opening a storage, and beginning a trial, take less.
_LOCK_SECONDS = 60


class Enough(Exception):
    """As many trials as were asked for came to an end."""


class OthersAreAtWork(Exception):
    """Other processes are making the last trials."""


def load_optuna():
    """Optuna, without its lines on the trials.

    Raises
    ------
    ConfigError
        If it is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise ConfigError("tune needs Optuna: pip install 'lipzoo[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # a line a trial is ours
    return optuna


def storage_path(storage: Any) -> Path:
    """A file that the user names for the trials.

    Raises
    ------
    ConfigError
        If it is an address.
    OutputError
        If it is a database of something else.
    """
    if "://" in str(storage):
        raise ConfigError(f"--storage {storage}: is an address; name a file, such as trials.db")
    file = as_path(storage, "--storage")
    if file.is_file() and file.stat().st_size:
        address = f"{file.absolute().as_uri()}?mode=ro"
        with plain_words(file), closing(sqlite3.connect(address, uri=True)) as database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
        if _TABLE not in tables:
            raise OutputError(f"{file}: is a database of something else; choose another --storage")
    return file


def open_search(
    file: Path,
    asked: dict[str, Any],
    trials: int = 0,
    seed: int = 0,
    prune: bool = False,
    first: dict[str, Any] | None = None,
):
    """The study of a search, which is begun where the file has none; ``first`` are the values of
    its first trial.

    Its ``ask`` raises :class:`Enough` or :class:`OthersAreAtWork` instead of beginning a trial
    beyond ``trials``. The proposals of a trial follow from ``seed`` and the number of those before.

    Raises
    ------
    ConfigError
        If the file holds a search that ``asked`` for something else.
    OutputError
        If the file can be no storage.
    """
    optuna = load_optuna()

    class Search(optuna.Study):
        def ask(self, *args, **options):
            # Between counting and beginning nobody else may begin one.
            with writing_file(file, _LOCK_SECONDS):
                done = len(tune_report.finished(self))
                if done >= trials:
                    raise Enough
                if done + len(tune_report.running(self)) >= trials:
                    raise OthersAreAtWork
                trial = super().ask(*args, **options)
            before = tune_report.not_killed(self, trial.number)
            self.sampler = optuna.samplers.TPESampler(seed=seed * 1_000_003 + before)
            return trial

    pruner = optuna.pruners.NopPruner()
    if prune:
        pruner = optuna.pruners.MedianPruner(n_startup_trials=_BEFORE_PRUNING)
    with _storage(file) as storage:
        optuna.create_study(
            storage=storage, study_name=_STUDY, direction="maximize", load_if_exists=True
        )
        search = Search(_STUDY, storage, pruner=pruner)
        _check_same(search, asked, file)
        if first is not None and not tune_report.not_killed(search, len(search.trials)):
            search.enqueue_trial(first)
    return search


def refuse_running(file: Path) -> None:
    """See that nobody makes a trial now: what is about to be removed would be missed.

    Raises
    ------
    OutputError
    """
    found = None
    with suppress(OutputError):  # what is no storage has no trials
        found = _existing(file)
    if found is None:
        return
    silent = found._storage._get_stale_trial_ids(found._study_id)
    if any(trial._trial_id not in silent for trial in tune_report.running(found)):
        raise OutputError(
            f"{file}: another process makes a trial now; stop it first (where it was killed, wait "
            "a minute)"
        )


def remove_search(file: Path) -> None:
    """Remove the trials of the search, if there are any, and leave what else the file holds."""
    found = _existing(file)
    if found is not None:
        load_optuna().delete_study(study_name=_STUDY, storage=found._storage)


def _existing(file: Path):
    """The study that the file holds, or None."""
    optuna = load_optuna()
    if not file.is_file():
        return None
    with _storage(file) as storage:
        try:
            return optuna.load_study(study_name=_STUDY, storage=storage)
        except KeyError:
            return None


@contextmanager
def _storage(file: Path) -> Iterator[Any]:
    """Optuna's storage in the file, which no other process makes or changes meanwhile."""
    with tune_report.quiet(), plain_words(file, RuntimeError, OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with writing_file(file, _LOCK_SECONDS):
            yield _make_storage(_url(file))


def _make_storage(url: str):
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
def plain_words(file: Path, *others: type[Exception]) -> Iterator[None]:
    """What the storage raises (and ``others``) as an error of ours: full disks, strange files."""
    load_optuna()
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import DatabaseError

    try:
        yield
    except (StorageInternalError, DatabaseError, sqlite3.Error, *others) as fault:
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
