"""``curve.csv`` beside weights: how they were trained, which nothing depends on."""

import csv
import itertools
import json
import os

import pytest
from checkpoints import card, small_model

import lipzoo
from lipzoo.card import WeightsEntry
from lipzoo.cli import main
from lipzoo.errors import CheckpointError
from lipzoo.training import export_run, load_recipe, train
from lipzoo.training.history import read_history
from lipzoo.weights import CURVE_FILE, read_checkpoint, read_curve, write_checkpoint


def history(count, **more):
    return [
        {"epoch": n, "lr": 0.1, "train_loss": 1 / n, "val_loss": 1.0, "val_accuracy": n / count}
        | more
        for n in range(1, count + 1)
    ]


def written(folder, rows, epoch=3, seed=0):
    weights = WeightsEntry(seed=4, epoch=epoch, metrics={"val_accuracy": 0.5, "val_loss": 1.0})
    return write_checkpoint(folder, small_model(seed), card(weights=weights), True, rows)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("curve")
    (folder / "recipe.yaml").write_text(
        "architecture: test_tiny\ndataset: {name: iris}\nepochs: 12\nseeds: 0..2\n"
    )
    train(load_recipe(folder / "recipe.yaml"), folder / "run", verbose=False)
    return folder / "run"


def test_export_writes_the_curve_of_the_exported_seed(run, tmp_path):
    folder = export_run(run, tmp_path / "out")
    weights = lipzoo.load_pretrained(folder).card.weights
    curve = read_curve(folder)
    assert (curve.sha256, curve.epoch) == (weights.sha256, weights.epoch)
    recorded = read_history(run / f"seed_{weights.seed}")
    assert len(curve.rows) == len(recorded) == 12
    for row, full in zip(curve.rows, recorded):
        assert row == {key: pytest.approx(full[key], rel=1e-5) for key in row}
    columns = ["epoch", "train_loss", "val_loss", "val_accuracy"]
    assert list(curve.rows[0]) == columns
    kept = next(row for row in curve.rows if row["epoch"] == weights.epoch)
    assert kept["val_accuracy"] == pytest.approx(weights.metrics["val_accuracy"], rel=1e-5)
    assert "these weights" in curve.words(lipzoo.load_pretrained(folder).card)
    # A table for anyone who skips the first line.
    lines = (folder / CURVE_FILE).read_text(encoding="utf-8").splitlines()
    assert next(iter(csv.reader(lines[1:]))) == columns


def test_the_replay_of_a_card_has_the_same_curve(run, tmp_path):
    folder = export_run(run, tmp_path / "out")
    seed = lipzoo.load_pretrained(folder).card.weights.seed
    recipe = load_recipe(folder / "card.yaml")
    train(recipe, tmp_path / "replay", seeds=[seed], verbose=False)
    again = export_run(tmp_path / "replay", tmp_path / "again")
    assert (again / CURVE_FILE).read_bytes() == (folder / CURVE_FILE).read_bytes()


@pytest.mark.parametrize("epoch", [1, 2, 499, 734, 1000])
def test_a_long_training_is_thinned(tmp_path, epoch):
    curve = read_curve(written(tmp_path / "x", history(1000), epoch))
    epochs = [row["epoch"] for row in curve.rows]
    assert 190 <= len(epochs) <= 200
    assert {1, 1000, epoch} <= set(epochs)
    assert epochs == sorted(epochs)
    assert max(b - a for a, b in itertools.pairwise(epochs)) <= 6
    assert (tmp_path / "x" / CURVE_FILE).stat().st_size < 10_000


def test_fine_tuned_weights_keep_theirs(tmp_path):
    options = {"epochs": 3, "out": tmp_path / "out", "verbose": False}
    tuned = lipzoo.finetune("gat_lip_16.digits", "iris", **options)
    curve = read_curve(tmp_path / "out")
    assert [row["epoch"] for row in curve.rows] == [1, 2, 3]
    assert (curve.epoch, curve.sha256) == (tuned.best_epoch, tuned.model.card.weights.sha256)


def test_overwriting_leaves_no_curve_of_the_weights_before(tmp_path):
    folder = written(tmp_path / "x", history(5))
    written(folder, (), seed=1)
    assert not (folder / CURVE_FILE).exists()
    written(folder, history(4), seed=2)
    assert len(read_curve(folder).rows) == 4
    assert read_curve(folder).sha256 == read_checkpoint(folder).card.weights.sha256
    assert not list(folder.glob(".*"))


DAMAGED = {
    "empty": b"",
    "no first line": b"epoch,train_loss\n1,2\n",
    "binary": b"\x00\xff" * 99,
    "no rows": b"# sha256 " + b"a" * 64 + b" epoch 3\nepoch,train_loss\n",
    "cut short": b"# sha256 " + b"a" * 64 + b" epoch 3\nepoch,train_loss,val_loss\n1,2",
    "words": b"# sha256 " + b"a" * 64 + b" epoch 3\nepoch,train_loss\n1,<b>\n",
    "too many cells": b"# sha256 " + b"a" * 64 + b" epoch 3\nepoch,train_loss\n1,2,3\n",
    "epochs fall": b"# sha256 " + b"a" * 64 + b" epoch 3\nepoch,train_loss\n2,1\n1,1\n",
    "epoch is NaN": b"# sha256 " + b"a" * 64 + b" epoch 3\nepoch,train_loss\nnan,1\n",
    "a column twice": b"# sha256 " + b"a" * 64 + b" epoch 3\nepoch,train_loss,epoch\n1,2,3\n",
    "a long cell": b"# sha256 " + b"a" * 64 + b" epoch 3\nepoch,train_loss\n1," + b"1" * 200_000,
    "NUL": b"# sha256 " + b"a" * 64 + b" epoch 3\nepoch,train_loss\n1,\x001\n",
    "too large": b"# sha256 " + b"a" * 64 + b" epoch 3\n" + b"x" * 2**20,
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_curve_is_told_and_hinders_nothing(tmp_path, data):
    folder = written(tmp_path / "x", history(5))
    (folder / CURVE_FILE).write_bytes(data)
    with pytest.raises(CheckpointError, match=r"curve\.csv: (is no training curve|cannot be read)"):
        read_curve(folder)
    assert lipzoo.load_pretrained(folder).card.tag == "test"


def test_weights_without_a_curve_load(tmp_path):
    folder = written(tmp_path / "x", history(5))
    (folder / CURVE_FILE).unlink()
    assert read_curve(folder) is None
    assert set(read_checkpoint(folder).files) == {"card.yaml", "model.safetensors"}
    lipzoo.load_pretrained(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_curve_that_is_no_file_of_its_folder_is_not_read(tmp_path):
    folder = written(tmp_path / "x", history(5))
    secret = tmp_path / "secret.csv"
    os.replace(folder / CURVE_FILE, secret)
    (folder / CURVE_FILE).symlink_to(secret)
    with pytest.raises(CheckpointError, match="leads out of its folder"):
        read_curve(folder)
    assert CURVE_FILE not in read_checkpoint(folder).files
    (folder / CURVE_FILE).unlink()
    os.mkfifo(folder / CURVE_FILE)
    with pytest.raises(CheckpointError, match="no regular file"):
        read_curve(folder)
    lipzoo.load_pretrained(folder)


def test_a_report_on_weights_draws_their_curve(run, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    folder = export_run(run, tmp_path / "weights")
    command = ["report", str(folder), "--radii", "no", "--embedding", "pca", "--json", "--out"]
    assert main([*command, str(tmp_path / "one")]) == 0
    found = json.loads(capsys.readouterr().out)
    weights = lipzoo.load_pretrained(folder).card.weights
    [[seed, facts]] = found["sections"]["curves"]["seeds"].items()
    assert (seed, facts["best_epoch"]) == (str(weights.seed), weights.epoch)
    assert facts["val_accuracy"] == pytest.approx(weights.metrics["val_accuracy"], rel=1e-5)
    assert {"curves_loss.svg", "curves_metric.svg"} <= set(found["files"])
    page = (tmp_path / "one/report.html").read_text(encoding="utf-8")
    assert f"The weights of epoch {weights.epoch} were kept." in page

    text = (folder / CURVE_FILE).read_text(encoding="utf-8")
    (folder / CURVE_FILE).write_text(text.replace(weights.sha256, "b" * 64), encoding="utf-8")
    assert main([*command, str(tmp_path / "two")]) == 0
    page = (tmp_path / "two/report.html").read_text(encoding="utf-8")
    assert "Recorded in a replay of the recipe" in page
    assert "(difference +0.0000)" in page

    (folder / CURVE_FILE).write_text("nothing", encoding="utf-8")
    assert main([*command, str(tmp_path / "three")]) == 0
    (folder / CURVE_FILE).unlink()
    assert main([*command, str(tmp_path / "four")]) == 0
    printed = [json.loads(part) for part in _objects(capsys.readouterr().out)]
    reasons = [part["sections"]["curves"]["not_drawn"] for part in printed[-2:]]
    assert "is no training curve" in reasons[0]
    assert f"lipzoo train {folder / 'card.yaml'} --seeds {weights.seed} --out DIR" in reasons[1]


def _objects(text):
    return [f"{part}\n}}" for part in text.split("\n}\n") if part.strip()]
