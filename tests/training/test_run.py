import os
import shutil
import signal
import subprocess
import sys

import pytest
import yaml
from waiting import wait_until, wait_until_still

from lipzoo.datasets import load_dataset
from lipzoo.datasets.npz_file import save_npz
from lipzoo.errors import ConfigError, OutputError
from lipzoo.training import train
from lipzoo.training.baselines import fit_estimator
from lipzoo.training.history import best_epochs, read_histories
from lipzoo.training.recipe import load_recipe
from lipzoo.training.run_folder import summarize


def snapshot(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and "events" not in p.name}


def test_trains_every_seed_and_summarizes(recipe, tmp_path):
    summary = train(recipe(), tmp_path / "run", verbose=False)
    values = summary["metrics"]["test_accuracy"]["values"]
    assert len(values) == 2
    mean = sum(values) / 2
    assert summary["metrics"]["test_accuracy"]["mean"] == pytest.approx(mean)
    spread = abs(values[0] - values[1]) / 2**0.5  # sample standard deviation of two
    assert summary["metrics"]["test_accuracy"]["std"] == pytest.approx(spread)
    assert yaml.safe_load((tmp_path / "run/summary.yaml").read_text()) == summary
    for seed in (0, 1):
        names = {p.name for p in (tmp_path / f"run/seed_{seed}").iterdir()}
        assert names >= {"metrics.csv", "model.safetensors", "result.yaml", "state.pt"}
    summary = train(recipe(), tmp_path / "together", device="cpu", verbose=False)
    lines = [(tmp_path / run / "seed_0/metrics.csv").read_bytes() for run in ("run", "together")]
    assert lines[0].splitlines(True)[0] == lines[1].splitlines(True)[0], "one header, one line end"


@pytest.mark.slow
def test_replays_exactly(recipe, tmp_path):
    first = train(recipe(), tmp_path / "a", verbose=False)
    second = train(recipe(), tmp_path / "b", jobs=2, verbose=False)
    assert first == second
    for seed in ("seed_0", "seed_1"):
        a, b = (tmp_path / run / seed / "model.safetensors" for run in "ab")
        assert a.read_bytes() == b.read_bytes()


def test_a_folder_that_holds_a_run_is_refused_and_left_as_it_was(recipe, tmp_path):
    train(recipe(seeds=[0]), tmp_path / "run", verbose=False)
    before = snapshot(tmp_path)
    with pytest.raises(OutputError, match="--overwrite"):
        train(recipe(seeds=[0]), tmp_path / "run", verbose=False)
    with pytest.raises(ConfigError, match="12 epochs are done already"):
        train(recipe(seeds=[0], epochs=5), tmp_path / "run", resume=True, verbose=False)
    assert snapshot(tmp_path) == before


def test_overwrite_starts_anew_and_keeps_what_is_not_its_own(recipe, tmp_path):
    train(recipe(seeds=[0, 1]), tmp_path / "run", verbose=False)
    note = tmp_path / "run" / "notes.txt"
    note.write_text("mine")
    summary = train(recipe(seeds=[0], epochs=4), tmp_path / "run", overwrite=True, verbose=False)
    assert summary["seeds"] == [0]
    assert note.read_text() == "mine"


def test_a_copy_of_a_seed_is_none(recipe, tmp_path):
    """Not in the mean, not where the run goes on, and not among what is overwritten."""
    run, copies = tmp_path / "run", [tmp_path / "run" / f"seed_0{end}" for end in (".old", "_1")]
    before = train(recipe(seeds=[0]), run, verbose=False)
    for copy in copies:
        shutil.copytree(run / "seed_0", copy)
    kept = [snapshot(copy) for copy in copies]
    assert summarize(run, recipe()) == before
    assert [*read_histories(run)] == [*best_epochs(run)] == [0]
    assert train(recipe(seeds=[0], epochs=14), run, resume=True, verbose=False)["seeds"] == [0]
    assert train(recipe(seeds=[0]), run, overwrite=True, verbose=False) == before
    assert [snapshot(copy) for copy in copies] == kept


def test_one_killed_while_it_was_overwritten_keeps_its_architecture(recipe, tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")  # whose empty folders stay
    train(recipe(seeds=[0]), tmp_path, verbose=False)

    def dies(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("lipzoo.training.run.keep_architecture", dies)
    with pytest.raises(KeyboardInterrupt):
        train(recipe(seeds=[0]), tmp_path, overwrite=True, verbose=False)
    monkeypatch.undo()
    assert not (tmp_path / "architecture.yaml").exists()
    train(recipe(seeds=[0]), tmp_path, resume=True, verbose=False)
    assert (tmp_path / "architecture.yaml").is_file()


def test_resume_adds_seeds_and_leaves_finished_ones(recipe, tmp_path):
    train(recipe(seeds=[0]), tmp_path / "run", verbose=False)
    weights = tmp_path / "run/seed_0/model.safetensors"
    stamp = weights.stat().st_mtime_ns
    summary = train(recipe(), tmp_path / "run", resume=True, verbose=False)
    assert summary["seeds"] == [0, 1]
    assert weights.stat().st_mtime_ns == stamp


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_weights(tmp_path):
    """The command line as a user runs it, killed for real."""
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "architecture: gat_lip_8\ndataset: {name: iris}\nepochs: 150\nseeds: [0]\n"
        "eval_every: 5\nearly_stopping: {patience: 1000}\n"
    )
    train(load_recipe(path), tmp_path / "whole", verbose=False)
    run = tmp_path / "killed"
    command = [sys.executable, "-m", "lipzoo.cli", "train", str(path), "--out", str(run)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ})
    state = run / "seed_0" / "state.pt"
    wait_until(lambda: state.is_file() or process.poll() is not None)
    process.send_signal(signal.SIGKILL)
    process.wait()
    subprocess.run([*command, "--resume", "--quiet"], check=True, stdout=subprocess.DEVNULL)
    name = "seed_0/model.safetensors"
    assert (run / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_baselines_stand_beside_the_metrics(recipe, tmp_path):
    with_baselines = recipe(
        baselines={
            "plain": {"overrides": {"score_norm": None}},
            "knn": {"estimator": "knn", "args": {"n_neighbors": 3}},
        }
    )
    summary = train(with_baselines, tmp_path / "run", baselines=True, verbose=False)
    assert set(summary["baselines"]) == {"plain", "knn"}
    assert len(summary["baselines"]["plain"]["test_accuracy"]["values"]) == 2
    assert 0.5 < summary["baselines"]["knn"]["test_accuracy"]["mean"] <= 1


def test_a_baseline_may_have_another_architecture_and_other_settings(recipe, tmp_path):
    tuned = {"architecture": "gat_2", "overrides": {"hidden_feats": 8}, "epochs": 4}
    both = recipe(seeds=[0], baselines={"tuned": {"changes": tuned}})
    summary = train(both, tmp_path / "run", baselines=True, verbose=False)
    alone = train(recipe(seeds=[0], **tuned), tmp_path / "alone", verbose=False)
    assert summary["baselines"]["tuned"] == alone["metrics"]
    kept = (tmp_path / "run/baselines/tuned/architecture.yaml").read_bytes()
    assert kept == (tmp_path / "alone/architecture.yaml").read_bytes()
    in_processes = train(both, tmp_path / "two", baselines=True, jobs=2, verbose=False)
    assert in_processes == summary


@pytest.mark.parametrize(
    ("baseline", "words"),
    [
        ({"changes": {"dataset": {"name": "cora"}, "seeds": [1]}}, "must not hold dataset, seeds"),
        ({"changes": {"epoch": 4}}, "did you mean 'epochs'"),
        ({"changes": {"overrides": 3}}, "overrides"),
        ({"estimator": "knn", "changes": {"epochs": 3}}, "takes args, nothing else"),
    ],
)
def test_a_wrong_baseline_is_named(recipe, baseline, words):
    with pytest.raises(ConfigError, match=words) as caught:
        recipe(baselines={"mine": baseline})
    assert "baselines: mine" in str(caught.value)


def test_estimators_see_training_labels_only(iris):
    expected = fit_estimator("knn", {}, iris)
    scrambled = iris.with_ndata(label=iris.labels.clone())
    hidden = ~iris.train_mask
    scrambled.graph.ndata["label"][hidden] = (iris.labels[hidden] + 1) % 3
    got = fit_estimator("knn", {}, scrambled)
    assert got["test_accuracy"] < 0.3 < 0.7 < expected["test_accuracy"]
    with pytest.raises(ConfigError, match="baseline 'knn'"):
        fit_estimator("knn", {"neighbours": 3}, iris)
    with pytest.raises(ConfigError, match=r"baseline 'knn': Expected n_neighbors <= n_samples_fit"):
        fit_estimator("knn", {"n_neighbors": 1000}, iris)
    one_class = iris.with_ndata(train_mask=iris.train_mask & (iris.labels == 1))
    with pytest.raises(ConfigError, match=r"baseline 'logistic_regression': .* 2 classes"):
        fit_estimator("logistic_regression", {}, one_class)


def test_a_wrong_dataset_option_is_named(recipe, tmp_path):
    wrong = recipe(dataset={"name": "iris", "missing": 1.0})
    with pytest.raises(ConfigError, match=r"no option 'missing'.*missing_rate"):
        train(wrong, tmp_path / "run", verbose=False)
    with pytest.raises(ConfigError, match="must not hold require_labels"):
        recipe(dataset={"name": "iris", "require_labels": False})


@pytest.mark.slow
def test_children_end_with_a_killed_parent(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "architecture: gat_lip_8\ndataset: {name: iris}\nepochs: 100000\nseeds: [0, 1]\n"
        "eval_every: 5\nearly_stopping: {patience: 100000}\n"
    )
    run = tmp_path / "run"
    command = [sys.executable, "-m", "lipzoo.cli", "train", str(path), "--out", str(run)]
    process = subprocess.Popen([*command, "--jobs", "2", "--quiet"], stdout=subprocess.DEVNULL)
    logs = [run / f"seed_{seed}" / "metrics.csv" for seed in (0, 1)]
    wait_until(lambda: all(log.is_file() for log in logs))
    process.kill()
    process.wait()
    wait_until_still(lambda: logs)


@pytest.mark.parametrize("how", [{}, {"device": "cpu"}, {"jobs": 2}], ids=str)
def test_seeds_of_other_data_do_not_mix(recipe, tmp_path, how):
    """The file may have changed since the first seed was trained."""
    wine = load_dataset("wine")
    save_npz(wine, tmp_path / "mine.npz")
    of_file = recipe(dataset={"name": str(tmp_path / "mine.npz")}, epochs=2)
    options = {"resume": True, "verbose": False, **how}
    train(of_file, tmp_path / "run", seeds=[0], **options)
    summary = (tmp_path / "run/summary.yaml").read_bytes()
    save_npz(load_dataset("iris"), tmp_path / "mine.npz")
    with pytest.raises(OutputError, match="the data has changed since this training was begun"):
        train(of_file, tmp_path / "run", seeds=[0, 1], **options)
    assert (tmp_path / "run/summary.yaml").read_bytes() == summary


@pytest.mark.parametrize("epochs", [2, 4])
@pytest.mark.parametrize("is_finished", [False, True])
def test_a_seed_does_not_go_on_with_other_data(recipe, tmp_path, epochs, is_finished):
    """Of the same sizes: else the weights would not fit either."""
    iris, file = load_dataset("iris"), tmp_path / "mine.npz"
    save_npz(iris, file)
    of_file = {"dataset": {"name": str(file)}, "seeds": [0]}
    train(recipe(**of_file, epochs=2), tmp_path / "run", verbose=False)
    save_npz(iris.with_ndata(label=(iris.labels + 1) % 3), file)
    if not is_finished:  # killed before its last file was there
        (tmp_path / "run/seed_0/result.yaml").unlink()
    before = snapshot(tmp_path / "run")
    again = recipe(**of_file, epochs=epochs)
    with pytest.raises(OutputError, match=r"the data has changed since .*--overwrite"):
        train(again, tmp_path / "run", resume=True, verbose=False)
    assert snapshot(tmp_path / "run") == before, "a run that is refused is left as it was"
    save_npz(iris, file)
    assert train(again, tmp_path / "run", resume=True, verbose=False)["seeds"] == [0]
