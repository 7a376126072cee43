import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time

import optuna
import pytest
from searching import begun_elsewhere, rows_of, search
from waiting import wait_until

from lipzoo import _torch
from lipzoo._yaml import read_yaml
from lipzoo.cli import main
from lipzoo.datasets import load_dataset
from lipzoo.datasets.npz_file import save_npz
from lipzoo.errors import ConfigError, LipzooError, OutputError
from lipzoo.registry import get_architecture
from lipzoo.training import load_recipe, loop, train, tune
from lipzoo.training import tune_storage as storing
from lipzoo.training import tune_trial as trying
from lipzoo.training.recipe import make_recipe
from lipzoo.training.search_space import make_space


def test_the_best_recipe_is_written_and_is_worth_what_is_said(recipe, tmp_path):
    found = search(recipe(), tmp_path / "out", trials=4)
    rows = rows_of(tmp_path / "out")
    assert found["value"] == max(float(r["val_accuracy"]) for r in rows if r["val_accuracy"])
    best = load_recipe(tmp_path / "out/best.yaml")
    assert best.optimizer.lr == found["values"]["optimizer.lr"]
    assert best.overrides["feat_drop"] == found["values"]["overrides.feat_drop"]
    assert best.seeds == [0, 1]
    summary = train(best, tmp_path / "run", seeds=[0], verbose=False)
    assert summary["metrics"]["val_accuracy"]["mean"] == found["value"]
    report = (tmp_path / "out/report.md").read_text()
    for name in ("history", "importance", "slices"):
        assert f"]({name}.svg)" in report
        assert b"<svg" in (tmp_path / f"out/{name}.svg").read_bytes()


def test_an_architecture_is_searched_for_on_data_of_ones_own(tmp_path, capsys):
    save_npz(load_dataset("iris"), tmp_path / "mine.npz")
    (tmp_path / "space.yaml").write_text("optimizer.lr: [0.01, 0.003, 0.001]")
    call = ["tune", "--architecture", "test_tiny", "--data", str(tmp_path / "mine.npz"), "--json"]
    call += ["--epochs", "3", "--metric", "macro_f1", "--space", str(tmp_path / "space.yaml")]
    assert main([*call, "--trials", "3", "--out", str(tmp_path / "out")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["metric"] == "val_macro_f1"
    best = load_recipe(tmp_path / "out/best.yaml")
    assert (best.architecture, best.epochs, best.metric) == ("test_tiny", 3, "macro_f1")
    assert best.optimizer.lr == found["values"]["optimizer.lr"]
    summary = train(best, tmp_path / "run", seeds=[0], verbose=False)
    assert summary["metrics"]["val_macro_f1"]["mean"] == found["value"]
    assert main([*call[:3], "--trials", "3", "--out", str(tmp_path / "other")]) == 2
    assert "lipzoo tune --architecture test_tiny --data DATA" in capsys.readouterr().err


def test_a_trial_is_worth_the_mean_over_its_seeds(recipe, tmp_path):
    found = search(recipe(), tmp_path / "out", trials=1, seeds=[0, 1, 2])
    best = load_recipe(tmp_path / "out/best.yaml")
    summary = train(best, tmp_path / "run", seeds=[0, 1, 2], verbose=False)
    assert found["value"] == pytest.approx(summary["metrics"]["val_accuracy"]["mean"], abs=1e-12)


def test_data_are_kept_no_longer_than_a_search(recipe, tmp_path, monkeypatch):
    seen, kept, real = set(), trying.load_kept._kept, loop.measure
    monkeypatch.setattr(loop, "measure", lambda *a: seen.add(len(kept)) or real(*a))
    search(recipe(), tmp_path / "out", trials=1)
    assert seen == {1}
    assert not kept


def test_the_test_nodes_are_not_looked_at(recipe, tmp_path, monkeypatch):
    looked = []
    real = loop.measure

    def watched(logits, task, splits=("train", "val", "test")):
        looked.append(splits)
        return real(logits, task, splits)

    monkeypatch.setattr(loop, "measure", watched)
    search(recipe(), tmp_path / "out", trials=2)
    assert set(looked) == {("val",)}


def test_the_recipe_itself_is_tried_first(recipe, tmp_path):
    own = {
        "optimizer.lr": {"low": 1e-4, "high": 0.1, "log": True},
        "optimizer.weight_decay": {"low": 1.0, "high": 2.0},  # it has less
        "overrides.feat_drop": {"low": 0.0, "high": 0.6, "step": 0.1},
        "overrides.attn_drop": [0.0, 0.2],
        "overrides.num_heads": {"low": 1, "high": 2},  # the architecture's
        "early_stopping": [{"patience": 7}],  # not what it has
    }
    start = recipe(optimizer={"lr": 0.003}, epochs=2)
    search(start, tmp_path / "out", trials=1, space=own)
    [row] = rows_of(tmp_path / "out")
    assert float(row["optimizer.lr"]) == 0.003
    assert (row["overrides.feat_drop"], row["overrides.attn_drop"]) == ("0.3", "0.2")
    heads = get_architecture("test_tiny").args["num_heads"]
    assert row["overrides.num_heads"] == str(heads)


def test_as_many_epochs_as_by_default(tmp_path):
    """A recipe that does not say them, as the command line's without ``--epochs``."""
    rest = {"overrides": {"num_layers": 1}, "early_stopping": {"patience": 1}, "seeds": [0]}
    made = make_recipe({"architecture": "test_tiny", "dataset": {"name": "iris"}, **rest}, "test")
    assert "epochs" not in made.to_dict()
    assert search(made, tmp_path / "out", trials=1)["trials"] == {"complete": 1}


def test_labels_of_the_test_nodes_decide_nothing(recipe, tmp_path):
    """Whatever they are, the trials and the best recipe are the same to the bit."""
    task = load_dataset("iris")
    found = {}
    for name in ("true", "false"):
        if name == "false":
            labels = task.labels.clone()
            labels[task.test_mask] = labels[task.test_mask].flip(0).add(1) % 3
            task = task.with_ndata(label=labels)
        save_npz(task, tmp_path / "iris.npz")
        asked = recipe(dataset={"name": str(tmp_path / "iris.npz")})
        found[name] = search(asked, tmp_path / name, trials=4), rows_of(tmp_path / name)
    assert found["true"][0] == found["false"][0]
    for one, other in zip(found["true"][1], found["false"][1], strict=True):
        assert {**one, "seconds": ""} == {**other, "seconds": ""}


@pytest.mark.slow
def test_the_same_seed_gives_the_same_search_also_when_it_was_stopped(recipe, tmp_path):
    whole = search(recipe(), tmp_path / "whole", trials=4)
    search(recipe(), tmp_path / "parts", trials=1)
    assert len(rows_of(tmp_path / "parts")) == 1
    parts = search(recipe(), tmp_path / "parts", trials=4)
    assert parts == whole
    for one, other in zip(rows_of(tmp_path / "parts"), rows_of(tmp_path / "whole"), strict=True):
        assert {**one, "seconds": ""} == {**other, "seconds": ""}
    assert search(recipe(), tmp_path / "parts", trials=2) == whole, "no trial is taken away"
    other = search(recipe(), tmp_path / "other", trials=4, seed=1)
    assert other["values"] != whole["values"]


def test_settings_that_came_before_are_not_trained_again(recipe, tmp_path, monkeypatch):
    trained = []
    real = trying.fit

    def counted(*args, **options):
        trained.append(1)
        return real(*args, **options)

    monkeypatch.setattr(trying, "fit", counted)
    found = search(recipe(), tmp_path / "out", trials=6, space={"overrides.feat_drop": [0.0, 0.3]})
    assert found["trials"] == {"complete": 6}
    assert len(trained) == 2


@pytest.mark.slow
def test_what_falls_behind_is_pruned(recipe, tmp_path):
    space = {"optimizer.lr": {"low": 1e-9, "high": 0.1, "log": True}}
    short = recipe(epochs=30, eval_every=1)
    found = search(short, tmp_path / "out", trials=14, space=space)
    assert found["trials"].get("pruned"), "a learning rate of 1e-8 learns nothing"
    assert found["values"]["optimizer.lr"] > 1e-3
    whole = search(short, tmp_path / "whole", trials=14, space=space, prune=False)
    assert set(whole["trials"]) == {"complete"}


def test_a_trial_that_fails_is_in_the_table_and_the_others_go_on(recipe, tmp_path, monkeypatch):
    real = trying.fit

    def fails(model, task, settings, **options):
        if settings.optimizer.lr < 3e-3:
            raise RuntimeError("out of memory:\n many bytes")
        return real(model, task, settings, **options)

    monkeypatch.setattr(trying, "fit", fails)
    found = search(recipe(), tmp_path / "out", trials=6)
    assert found["trials"]["failed"] >= 1
    assert found["trials"]["complete"] >= 1
    failed = [row for row in rows_of(tmp_path / "out") if row["state"] == "failed"]
    assert {row["fault"] for row in failed} == {"out of memory: many bytes"}

    def fails_always(*args, **options):
        raise ValueError("no luck")

    monkeypatch.setattr(trying, "fit", fails_always)
    with pytest.raises(LipzooError, match=r"none of 2 trials succeeded; the first: no luck"):
        search(recipe(), tmp_path / "none", trials=2)
    assert len(rows_of(tmp_path / "none")) == 2


def test_another_search_in_the_folder_or_the_storage_is_left_alone(recipe, tmp_path):
    first = search(recipe(), tmp_path / "out", trials=1)
    before = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    with pytest.raises(ConfigError, match=r"recipe.epochs differ"):
        search(recipe(epochs=5), tmp_path / "out", trials=1)
    storage = tmp_path / "out/study.db"
    with pytest.raises(ConfigError, match=r"other settings \(recipe.epochs differ\).*--storage"):
        search(recipe(epochs=5), tmp_path / "other", trials=1, storage=storage)
    assert not (tmp_path / "other").exists()
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == before
    assert search(recipe(), tmp_path / "same", trials=1, storage=storage) == first
    anew = search(recipe(epochs=5), tmp_path / "out", trials=1, overwrite=True)
    assert anew["trials"] == {"complete": 1}


@pytest.mark.slow
def test_files_that_are_no_storage(recipe, tmp_path):
    (tmp_path / "notes.db").write_text("mine, and long enough to be no empty database at all")
    for place in (tmp_path / "notes.db", tmp_path / "notes.db/a.db"):
        with pytest.raises(OutputError, match="no storage that can be used"):
            search(recipe(), tmp_path / "out", trials=1, storage=place)
    with pytest.raises(OutputError, match="is a folder; name a file"):
        search(recipe(), tmp_path / "out", trials=1, storage=tmp_path)
    assert (tmp_path / "notes.db").read_text().startswith("mine")
    assert not (tmp_path / "out").exists()
    search(recipe(), tmp_path / "out", trials=1, storage=tmp_path / "new/folder/a.db")
    for name in ("a b?c#d%20.db", "ä'\".db"):
        search(recipe(), tmp_path / name[:1], trials=1, storage=tmp_path / name)
        assert (tmp_path / name).is_file()


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_disk_that_is_full_is_said(recipe, tmp_path, jobs):
    """The database takes no more trials."""
    search(recipe(), tmp_path / "out", trials=1)
    with contextlib.closing(sqlite3.connect(tmp_path / "out/study.db")) as database:
        database.executescript(
            "CREATE TRIGGER full BEFORE INSERT ON trials BEGIN"
            " SELECT RAISE(FAIL, 'database or disk is full'); END;"
        )
    with pytest.raises(OutputError, match=r"study.db: .*disk is full.*on a disk with room"):
        search(recipe(), tmp_path / "out", trials=3, jobs=jobs)


def test_wrong_arguments(recipe, tmp_path):
    for options in ({"trials": 0}, {"jobs": 0}, {"trials": 10**20}):
        with pytest.raises(ConfigError, match=r"must be in 1 … 1000000"):
            search(recipe(), tmp_path / "out", **options)
    for seed in (-1, 2**32):
        with pytest.raises(ConfigError, match=r"seed must be in 0 … 4294967295"):
            search(recipe(), tmp_path / "out", seed=seed)
    with pytest.raises(ConfigError, match="feat_drop must be in"):
        search(recipe(), tmp_path / "out", space={"overrides.feat_drop": [0.1, 7.0]})
    assert not (tmp_path / "out").exists()


def test_without_optuna(recipe, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"pip install 'lipzoo\[tune\]'"):
        search(recipe(), tmp_path / "out")


@pytest.mark.slow
def test_several_classes_a_node(recipe, multilabel):
    found = trying.validated(recipe(overrides={}, epochs=200), 0, multilabel)
    assert 0.5 < found.metrics[f"val_{multilabel.metric}"] <= 1


def test_threads_are_as_they_were(recipe):
    import torch

    before = torch.get_num_threads()
    with _torch.threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


@pytest.mark.slow
def test_several_processes(recipe, tmp_path):
    found = search(recipe(), tmp_path / "out", trials=4, jobs=2)
    assert sum(found["trials"].values()) == 4


@pytest.mark.slow
def test_a_killed_search_goes_on_and_its_trial_is_made_again(recipe, tmp_path, monkeypatch):
    file = tmp_path / "recipe.yaml"
    space = tmp_path / "space.yaml"
    file.write_text(
        "{architecture: test_tiny, dataset: {name: iris}, epochs: 1000000, seeds: [0],"
        " early_stopping: {patience: 1000000}}"
    )
    space.write_text("{optimizer.lr: {low: 1.0e-4, high: 0.1, log: true}}")
    command = [sys.executable, "-m", "lipzoo.cli", "tune", str(file), "--space", str(space)]
    command += ["--trials", "1", "--out", str(tmp_path / "out")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    storage = tmp_path / "out/study.db"
    wait_until(lambda: storage.is_file() and running(storage))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    # As if the time had passed in which a trial may be silent.
    monkeypatch.setattr(storing, "_GRACE", 1)
    monkeypatch.setattr(storing, "_HEARTBEAT", 1)
    time.sleep(2.5)
    short = load_recipe(file)
    monkeypatch.setattr(trying, "validated", lambda *args: 0.5)
    monkeypatch.setattr(trying, "_worth", lambda *args: 0.5)
    first = running(storage)[0]
    found = tune(
        short, make_space(read_yaml(space), "t"), tmp_path / "out", trials=1, verbose=False
    )
    assert found["trials"] == {"complete": 1, "killed": 1}
    assert found["values"] == first.params


def test_a_trial_that_was_killed_before_its_first_sign_of_life(recipe, tmp_path, monkeypatch):
    search(recipe(), tmp_path / "out", trials=1)
    file = tmp_path / "out/study.db"
    own = optuna.load_study(study_name="lipzoo", storage=f"sqlite:///{file}").trials[0].params
    values = own | {"optimizer.lr": 0.02}
    study, trial = begun_elsewhere(file, values)
    assert trial.number == 1  # it runs, and is never heard of
    monkeypatch.setattr(storing, "_GRACE", 2)
    monkeypatch.setattr(trying, "_LOOK", 0.2)
    found = search(recipe(), tmp_path / "out", trials=3)
    assert found["trials"] == {"complete": 3, "killed": 1}
    assert [t.params == values for t in study.trials] == [False, False, False, True]


def test_no_trial_is_made_beyond_those_asked_for(recipe, tmp_path, monkeypatch):
    """Another process makes the last: it is waited for."""
    search(recipe(), tmp_path / "out", trials=1)
    study, trial = begun_elsewhere(tmp_path / "out/study.db")
    looks = []

    def looked(seconds):
        looks.append(seconds)
        if len(looks) == 3:
            for key, kind in study.trials[0].distributions.items():
                trial._suggest(key, kind)
            study.tell(trial, 0.99)

    monkeypatch.setattr(trying.time, "sleep", looked)
    found = search(recipe(), tmp_path / "out", trials=2)
    assert len(looks) == 3
    assert found["trials"] == {"complete": 2}
    assert (found["trial"], found["value"]) == (1, 0.99)


@pytest.mark.slow
def test_processes_that_begin_at_the_same_moment(recipe, tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(
        "{architecture: test_tiny, dataset: {name: iris}, epochs: 50, seeds: [0],"
        " early_stopping: {patience: 50}}"
    )
    command = [sys.executable, "-m", "lipzoo.cli", "tune", str(file), "--trials", "5"]
    command += ["--out", str(tmp_path / "out"), "--json", "--quiet"]
    begun = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    found = [json.loads(each.communicate()[0]) for each in begun]
    assert [each.returncode for each in begun] == [0, 0, 0]
    assert found[0] == found[1] == found[2]
    assert sum(found[0]["trials"].values()) == 5
    values = [
        (row["optimizer.lr"], row["overrides.feat_drop"]) for row in rows_of(tmp_path / "out")
    ]
    assert len(set(values)) == 5, "all of them propose something else"


def test_what_was_stopped_by_hand_is_tried_again(recipe, tmp_path, monkeypatch):
    def stopped(*args, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(trying, "fit", stopped)
        with pytest.raises(KeyboardInterrupt):
            search(recipe(), tmp_path / "out", trials=3)
    found = search(recipe(), tmp_path / "out", trials=3)
    assert found["trials"] == {"complete": 3, "killed": 1}
    whole = search(recipe(), tmp_path / "whole", trials=3)
    assert {**found, "trial": 0, "trials": 0} == {**whole, "trial": 0, "trials": 0}


def test_results_whose_trials_are_elsewhere_or_lost_are_left_alone(recipe, tmp_path):
    search(recipe(), tmp_path / "out", trials=1, storage=tmp_path / "mine.db")
    before = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    with pytest.raises(ConfigError, match=r"\(storage differ\)"):
        search(recipe(), tmp_path / "out", trials=1)
    with pytest.raises(ConfigError, match=r"\(storage differ\)"):
        search(recipe(), tmp_path / "out", trials=1, storage=tmp_path / "other.db")
    (tmp_path / "mine.db").unlink()
    with pytest.raises(OutputError, match=r"trials are missing.*mine.db.*--overwrite"):
        search(recipe(), tmp_path / "out", trials=1, storage=tmp_path / "mine.db")
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == before
    assert not list(tmp_path.glob("*.db")), "nothing is made of a name that is refused"


def test_overwrite_begins_anew_in_a_storage_elsewhere_too(recipe, tmp_path):
    storage = tmp_path / "mine.db"
    search(recipe(), tmp_path / "out", trials=2, storage=storage)
    own = optuna.create_study(study_name="my own", storage=f"sqlite:///{storage}")
    own.optimize(lambda trial: 1.0, n_trials=1)
    options = {"storage": storage, "overwrite": True}
    with pytest.raises(ConfigError, match="holds a search with other settings"):
        search(recipe(epochs=5), tmp_path / "elsewhere", trials=1, **options)
    assert not (tmp_path / "elsewhere").exists()
    _, trial = begun_elsewhere(storage)
    with pytest.raises(OutputError, match="another process makes a trial now"):
        search(recipe(), tmp_path / "out", trials=1, **options)
    own = optuna.load_study(study_name="lipzoo", storage=f"sqlite:///{storage}")
    own.tell(trial, state=optuna.trial.TrialState.FAIL)
    (tmp_path / "taken").touch()
    with pytest.raises(OutputError, match="is a file; name a folder"):
        search(recipe(), tmp_path / "taken", trials=1, **options)
    (tmp_path / "taken").unlink()
    trials = optuna.load_study(study_name="lipzoo", storage=f"sqlite:///{storage}").trials
    assert len(trials) == 3, "what is refused removes nothing"
    for other in (recipe(), recipe(epochs=5)):  # with other settings, too: it is this folder's
        assert search(other, tmp_path / "out", trials=1, **options)["trials"] == {"complete": 1}
    kept = optuna.load_study(study_name="my own", storage=f"sqlite:///{storage}")
    assert len(kept.trials) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine.db", "out"], "no lock is left"


def test_storages_that_are_none(recipe, tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "diary.db")) as database:
        database.execute("CREATE TABLE days (text)")
    before = (tmp_path / "diary.db").read_bytes()
    with pytest.raises(OutputError, match="a database of something else"):
        search(recipe(), tmp_path / "out", trials=1, storage=tmp_path / "diary.db")
    assert (tmp_path / "diary.db").read_bytes() == before
    with pytest.raises(ConfigError, match="is an address; name a file"):
        search(recipe(), tmp_path / "out", trials=1, storage="sqlite:///a.db")
    assert [p.name for p in tmp_path.iterdir()] == ["diary.db"]


def running(storage):
    try:
        # Optuna makes the tables of a file that has none, and the search stumbles over them.
        with contextlib.closing(sqlite3.connect(f"file:{storage}?mode=ro", uri=True)) as file:
            if not file.execute("SELECT count(*) FROM trials").fetchone()[0]:
                return []
        study = optuna.load_study(study_name="lipzoo", storage=f"sqlite:///{storage}")
    except Exception:  # any: it is being made
        return []
    return [
        t for t in study.trials if t.state.name == "RUNNING" and t.params and len(study.trials) == 1
    ]
