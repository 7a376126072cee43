"""Searches that several calls share, that were killed, and storages that hold something else."""

import contextlib
import os
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from searching import rows_of, search

from lipzoo.errors import ConfigError, LipzooError, OutputError
from lipzoo.training import tune as tune_function
from lipzoo.training import tune_report, tune_trial
from lipzoo.training import tune_storage as storing

tuning = sys.modules[tune_function.__module__]  # the function hides the module


def killed_while_it_writes(file: Path) -> None:
    """Leaves a journal that the next connection has to roll back."""
    code = """if True:
        import os, sqlite3, sys
        database = sqlite3.connect(sys.argv[1], isolation_level=None)
        database.execute("PRAGMA cache_size = 1")
        database.execute("BEGIN IMMEDIATE")
        database.execute("CREATE TABLE half (text)")
        for number in range(300):
            database.execute("INSERT INTO half VALUES (?)", ("x" * 3000,))
        os._exit(9)
    """
    subprocess.run([sys.executable, "-c", code, str(file)], check=False)
    assert file.with_name(f"{file.name}-journal").stat().st_size > 0


@pytest.mark.parametrize("is_begun", [True, False])
def test_a_storage_whose_process_was_killed_while_it_wrote(recipe, tmp_path, is_begun):
    storage = tmp_path / "mine.db"
    if is_begun:
        search(recipe(), tmp_path / "out", trials=1, storage=storage)
    killed_while_it_writes(storage)
    found = search(recipe(), tmp_path / "out", trials=2, storage=storage)
    assert found["trials"] == {"complete": 2}


def test_ended_and_running_trials_are_of_one_moment():
    """A trial that ends between two looks would be in neither number."""

    class Trial:
        def __init__(self, state):
            self.state, self.user_attrs = optuna.trial.TrialState[state], {}

    class Study:
        looks = 0

        def get_trials(self, deepcopy):
            self.looks += 1
            return [Trial("COMPLETE"), Trial("RUNNING" if self.looks == 1 else "COMPLETE")]

    assert tune_report.count(Study()) == (1, 1)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_search_at_work_is_not_begun_anew(recipe, tmp_path, elsewhere):
    """Also between two trials, and by a call that names another storage."""
    storage = tmp_path / "mine.db" if elsewhere else None
    first = search(recipe(), tmp_path / "out", trials=1, storage=storage)
    held, over = threading.Event(), threading.Event()
    own = tmp_path / "out" / "study.db"

    def another_call():
        with storing.at_work(*{own, storage or own}):
            held.set()
            over.wait()

    thread = threading.Thread(target=another_call)
    thread.start()
    held.wait()
    try:
        for options in ({}, {"storage": tmp_path / "new.db"}):
            with pytest.raises(OutputError, match="another call works on this search now"):
                search(recipe(), tmp_path / "out", trials=1, overwrite=True, **options)
        assert search(recipe(), tmp_path / "out", trials=1, storage=storage) == first
    finally:
        over.set()
        thread.join()
    found = search(recipe(), tmp_path / "out", trials=1, storage=storage, overwrite=True)
    assert found["trials"] == {"complete": 1}
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert not [name for name in names if name.endswith(".lock")]


def test_a_call_that_paused_until_another_took_over(recipe, tmp_path, monkeypatch):
    real, paused = tune_trial.validated, []

    def pauses(*args):
        if not paused:
            paused.append(True)
            storage = f"sqlite:///{tmp_path / 'out/study.db'}"
            study = optuna.load_study(study_name="lipzoo", storage=storage)
            running = next(t for t in study.trials if t.state.name == "RUNNING")
            study.tell(running.number, state=optuna.trial.TrialState.FAIL)
        return real(*args)

    monkeypatch.setattr(tune_trial, "validated", pauses)
    monkeypatch.setattr(tune_trial, "_report", lambda *args: None)
    found = search(recipe(), tmp_path / "out", trials=2)
    assert found["trials"] == {"complete": 2, "killed": 1}


def test_networks_that_diverge_are_never_the_best(recipe, tmp_path):
    found = search(recipe(), tmp_path / "a", space={"optimizer.lr": [1e20, 1e-4]}, trials=4)
    assert found["values"] == {"optimizer.lr": 1e-4}
    assert {row["state"] for row in rows_of(tmp_path / "a") if row["optimizer.lr"] == "1e+20"} == {
        "failed"
    }
    with pytest.raises(LipzooError, match=r"none of 2 trials succeeded; .*has diverged"):
        search(recipe(), tmp_path / "b", space={"optimizer.lr": [1e20, 1e25]}, trials=2)


def test_a_best_model_that_predicts_one_class_is_warned_of(recipe, tmp_path, monkeypatch):
    real = tune_trial.fit
    monkeypatch.setattr(
        tune_trial, "fit", lambda *args, **options: replace(real(*args, **options), only_class=2)
    )
    space = {"optimizer.lr": [0.01]}  # the second trial is not trained, and says the same
    with pytest.warns(UserWarning, match="the best trial predicts class 2 for every node"):
        found = search(recipe(), tmp_path / "out", space=space, trials=2)
    assert found["only_class"] == 2


def test_trials_of_other_data_or_architectures_do_not_mix(recipe, tmp_path, monkeypatch):
    search(recipe(), tmp_path / "out", trials=1)
    with monkeypatch.context() as patch:
        patch.setattr(tuning, "_architectures", lambda recipe, space: {"test_tiny": {}})
        with pytest.raises(ConfigError, match=r"architectures\.test_tiny\..* differ"):
            search(recipe(), tmp_path / "out", trials=2)
    other = recipe(dataset={"name": "iris", "split_seed": 3})
    with pytest.raises(ConfigError, match=r"\(data, recipe.dataset.* differ\)"):
        search(other, tmp_path / "out", trials=2)


@pytest.mark.parametrize("field", ["dataset.name", "dataset.split_seed"])
def test_data_and_splits_are_not_searched(recipe, tmp_path, field):
    choices = {"dataset.name": ["iris", "wine"], "dataset.split_seed": [0, 1]}[field]
    with pytest.raises(ConfigError, match=f"{field} = .*between which no trial is better"):
        search(recipe(), tmp_path / "out", space={field: choices})
    assert not (tmp_path / "out").exists()


def test_the_recipe_comes_first_however_a_choice_is_written(recipe, tmp_path):
    own = recipe(optimizer={"lr": 1.0}, overrides={"feat_drop": 0.0})
    space = {
        "overrides.feat_drop": [0.5, 0],
        "optimizer.lr": [0.1, 1],
        "early_stopping": [{"patience": 5}, own.early_stopping.model_dump()],
    }
    search(own, tmp_path / "out", space=space, trials=1)
    row = rows_of(tmp_path / "out")[0]
    assert (row["overrides.feat_drop"], row["optimizer.lr"]) == ("0", "1")
    assert f'"patience": {own.early_stopping.patience}' in row["early_stopping"]


def test_a_recipe_that_the_space_does_not_hold_is_said(recipe, tmp_path, capsys):
    search(recipe(optimizer={"lr": 0.5}), tmp_path / "out", trials=1, verbose=True)
    assert "the space does not hold the recipe's own optimizer.lr" in capsys.readouterr().err


def test_a_large_seed(recipe, tmp_path):
    assert search(recipe(), tmp_path / "out", trials=2, seed=2**32 - 1)["trials"] == {"complete": 2}


def test_a_storage_within_the_folder(recipe, tmp_path):
    for name in ("trials.db", "study.yaml", "best.yaml"):
        with pytest.raises(ConfigError, match=r"lies in --out, where study\.db holds the trials"):
            search(recipe(), tmp_path / "out", trials=1, storage=tmp_path / "out" / name)
    assert not (tmp_path / "out").exists()
    first = search(recipe(), tmp_path / "out", trials=1, storage=tmp_path / "out/study.db")
    assert search(recipe(), tmp_path / "out", trials=1) == first, "it is the default"


def test_other_studies_are_kept(recipe, tmp_path):
    search(recipe(), tmp_path / "out", trials=1)
    address = f"sqlite:///{tmp_path / 'out/study.db'}"
    optuna.create_study(study_name="mine", storage=address)
    found = search(recipe(epochs=5), tmp_path / "out", trials=1, overwrite=True)
    assert found["trials"] == {"complete": 1}
    assert set(optuna.get_all_study_names(address)) == {"lipzoo", "mine"}


def test_other_studies_outlive_a_kill_and_overwrite(recipe, tmp_path):
    search(recipe(), tmp_path / "out", trials=1)
    address = f"sqlite:///{tmp_path / 'out/study.db'}"
    optuna.create_study(study_name="mine", storage=address)
    killed_while_it_writes(tmp_path / "out/study.db")
    found = search(recipe(), tmp_path / "out", trials=1, overwrite=True)
    assert found["trials"] == {"complete": 1}
    assert set(optuna.get_all_study_names(address)) == {"lipzoo", "mine"}


def test_an_overwritten_storage_that_cannot_be_read(recipe, tmp_path):
    search(recipe(), tmp_path / "out", trials=1)
    (tmp_path / "out/study.db").write_bytes(b"no database, and long enough to be seen as none")
    with pytest.raises(OutputError, match="no storage that can be used"):
        search(recipe(), tmp_path / "out", trials=1)
    assert search(recipe(), tmp_path / "out", trials=1, overwrite=True)["trials"] == {"complete": 1}


def test_databases_of_others(recipe, tmp_path):
    """Tables of the same names, and a study of the same name."""
    storage = tmp_path / "clinic.db"
    with contextlib.closing(sqlite3.connect(storage)) as database:
        database.execute("CREATE TABLE studies (patient, disease)")
    before = storage.read_bytes()
    with pytest.raises(OutputError, match="a database of something else"):
        search(recipe(), tmp_path / "out", trials=1, storage=storage)
    assert storage.read_bytes() == before
    address = f"sqlite:///{tmp_path / 'named.db'}"
    study = optuna.create_study(study_name="lipzoo", storage=address)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    for options in ({}, {"overwrite": True}):
        with pytest.raises(OutputError, match="'lipzoo' is no search of recipes"):
            search(recipe(), tmp_path / "out", trials=1, storage=tmp_path / "named.db", **options)
    assert len(optuna.load_study(study_name="lipzoo", storage=address).trials) == 2


def test_an_empty_storage_beside_results(recipe, tmp_path):
    search(recipe(), tmp_path / "out", trials=1)
    os.truncate(tmp_path / "out/study.db", 0)
    before = (tmp_path / "out/trials.csv").read_bytes()
    with pytest.raises(OutputError, match="its trials are missing"):
        search(recipe(), tmp_path / "out", trials=1)
    assert (tmp_path / "out/trials.csv").read_bytes() == before


def test_none_is_pruned_in_its_first_epochs(recipe, tmp_path):
    """Small learning rates begin slowly."""
    asked = {"recipe": recipe().to_dict()}
    study = storing.open_search(tmp_path / "a.db", asked, pruned_of=100)
    assert study.pruner._n_warmup_steps == 20


def test_messages_name_the_key(recipe, tmp_path):
    for space, words in (
        ({"optimizer.lr": {"low": 0.1, "high": 0.01}}, r"optimizer.lr: low must be less than high"),
        ({"optimizer": {"lr": {"low": 0.01, "high": 0.1}}}, r"with a dot, such as optimizer.lr"),
        ({"overrides.feat_drop": [0.1, 1.0]}, r"overrides.feat_drop = 1.0: "),
    ):
        with pytest.raises(ConfigError, match=words):
            search(recipe(), tmp_path / "out", space=space)


def test_a_recipe_found_twice_says_so_once(recipe, tmp_path):
    search(recipe(), tmp_path / "a", trials=1)
    from lipzoo.training import load_recipe

    search(load_recipe(tmp_path / "a/best.yaml"), tmp_path / "b", trials=1)
    assert (tmp_path / "b/best.yaml").read_text().count("Found by a search") == 1
