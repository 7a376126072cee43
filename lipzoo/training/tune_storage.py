"""Where a search keeps its trials: one Optuna study in an SQLite file, which several processes use.

No more trials are made than were asked for, however many processes make them, and a trial whose
process was killed is made again.
"""

from __future__ import annotations

import glob
import itertools
import json
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from lipzoo._output import differing
from lipzoo._paths import as_path
from lipzoo._writing import LOCK_FILE, writing_file
from lipzoo.errors import ConfigError, OutputError, first_line
from lipzoo.training import tune_report

__all__ = [
    "LOCKS",
    "Enough",
    "OthersAreAtWork",
    "asked_before",
    "at_work",
    "load_optuna",
    "open_search",
    "plain_words",
    "refuse_running",
    "remove_search",
    "storage_path",
]

#: What killed calls may leave beside a storage of this name. (SQLite needs its journal.)
LOCKS = (".{}.lock", ".{}.call*.lock")
#: Name of the one study in a storage.
_STUDY = "lipzoo"
#: The table of Optuna's that names the studies of a storage, and its column that does.
_TABLE, _COLUMN = "studies", "study_name"
#: Trials that are compared before any is pruned.
_BEFORE_PRUNING = 5
#: None is pruned before this part of its epochs: small learning rates begin slowly.
_WARM_UP = 5
#: Seconds between two signs of life of a trial. One that gave none for the second number of them
#: was killed, and is tried again.
_HEARTBEAT, _GRACE = 10, 60
#: Opening a storage, and beginning a trial, take less.
_LOCK_SECONDS = 60
#: Calls that may work on one search at once.
_CALLS = 1000


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
        # Writable: a process that was killed may have left a journal, which SQLite then rolls back.
        address = f"{file.absolute().as_uri()}?mode=rw"
        with plain_words(file), closing(sqlite3.connect(address, uri=True)) as database:
            tables = {
                name
                for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type='table'")
            }
            columns = {row[1] for row in database.execute(f"PRAGMA table_info({_TABLE})")}
        # Tables that were being made when a process was killed are Optuna's, too.
        is_optuna = _COLUMN in columns if _TABLE in tables else tables <= _tables_of_optuna()
        if not is_optuna:
            raise OutputError(f"{file}: is a database of something else; choose another --storage")
    return file


def _tables_of_optuna() -> set[str]:
    from optuna.storages._rdb.models import BaseModel

    return {*BaseModel.metadata.tables, "alembic_version"}


def asked_before(file: Path) -> dict[str, Any]:
    """What the search in a file was begun with; empty where there is none."""
    found = _existing(file)
    return {} if found is None else found.user_attrs.get("asked", {})


@contextmanager
def at_work(*files: Path) -> Iterator[None]:
    """Be one of the calls that work on what these files hold, which nobody removes meanwhile."""
    with ExitStack() as stack:
        for file in files:
            for number in itertools.count():
                try:
                    stack.enter_context(writing_file(_place(file, number)))
                    break
                except OutputError:  # another call has that place
                    if number == _CALLS:
                        raise
        yield


def _place(file: Path, number: int) -> Path:
    return file.with_name(f"{file.name}.call{number}")


def open_search(
    file: Path,
    asked: dict[str, Any],
    trials: int = 0,
    seed: int = 0,
    pruned_of: int | None = None,
    first: dict[str, Any] | None = None,
):
    """The study of a search, which is begun where the file has none; ``first`` are the values of
    its first trial, ``pruned_of`` the epochs of a trial where the hopeless ones are pruned.

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
            # Between counting and beginning nobody else may begin one. Others may end theirs, so
            # that both numbers are of one look.
            with writing_file(file, _LOCK_SECONDS):
                done, running = tune_report.count(self)
                if done >= trials:
                    raise Enough
                if done + running >= trials:
                    raise OthersAreAtWork
                trial = super().ask(*args, **options)
            before = tune_report.not_killed(self, trial.number)
            self.sampler = optuna.samplers.TPESampler(seed=(seed * 1_000_003 + before) % 2**32)
            return trial

    pruner = optuna.pruners.NopPruner()
    if pruned_of is not None:
        pruner = optuna.pruners.MedianPruner(
            n_startup_trials=_BEFORE_PRUNING,
            n_warmup_steps=pruned_of // _WARM_UP,
        )
    with _storage(file) as storage:
        optuna.create_study(
            storage=storage, study_name=_STUDY, direction="maximize", load_if_exists=True
        )
        search = Search(_STUDY, storage, pruner=pruner)
        _check_same(search, asked, file)
        if first is not None and not tune_report.not_killed(search, len(search.trials)):
            search.enqueue_trial(first)
    return search


def refuse_running(folder_storage: Path, file: Path) -> None:
    """See that nobody works on a search now: what is about to be removed would be missed.

    ``folder_storage`` is where its folder would have its trials, ``file`` where they are.

    Raises
    ------
    OutputError
    """
    for place in dict.fromkeys((folder_storage, file)):
        for lock in place.parent.glob(f".{glob.escape(place.name)}.call*{LOCK_FILE}"):
            called = lock.with_name(lock.name.removeprefix(".").removesuffix(LOCK_FILE))
            try:
                with writing_file(called):
                    pass
            except OutputError:
                raise OutputError(
                    f"{place}: another call works on this search now; stop it first"
                ) from None
    found = None  # a worker may outlive its call, or be on another machine
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


def remove_search(file: Path, is_own: bool) -> None:
    """Remove the trials of the search, if there are any, and leave what else the file holds.

    A file of our ``own`` (not one that the user named) goes where nothing else is in it, or
    nothing that can be read.
    """
    optuna = load_optuna()
    try:
        found = _existing(file)
        if found is not None:
            optuna.delete_study(study_name=_STUDY, storage=found._storage)
        if is_own and file.is_file():
            with _storage(file) as storage:
                is_own = not optuna.get_all_study_names(storage)
    except OutputError:
        if not is_own:
            raise
    if is_own:
        for each in (file, file.with_name(f"{file.name}-journal")):
            each.unlink(missing_ok=True)


def _existing(file: Path):
    """The study that the file holds, or None."""
    optuna = load_optuna()
    if not file.is_file():
        return None
    with _storage(file) as storage:
        try:
            study = optuna.load_study(study_name=_STUDY, storage=storage)
        except KeyError:
            return None
        _check_ours(study, file)
        return study


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
        words = first_line(getattr(cause, "orig", cause))
        raise OutputError(
            f"{file}: is no storage that can be used ({words}); choose another file, on a disk "
            "with room"
        ) from None


def _check_ours(study, file: Path) -> None:
    if "asked" not in study.user_attrs and study.get_trials(deepcopy=False):
        raise OutputError(
            f"{file}: its study {_STUDY!r} is no search of recipes; choose another --storage"
        )


def _check_same(study, asked: dict[str, Any], file: Path) -> None:
    _check_ours(study, file)
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
