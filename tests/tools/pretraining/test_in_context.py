"""Pretraining on drawn tasks."""

import itertools

import pytest
import torch

import lipzoo
from lab.pretraining.drawn import Batches
from lab.pretraining.in_context import pretrain_in_context
from lab.pretraining.recipe import ContextRecipe, load_pretraining, make_pretraining
from lipzoo._tables import read_csv
from lipzoo.context import ClosedFormStack
from lipzoo.errors import ConfigError
from lipzoo.training.predict import predict
from lipzoo.training.state import STATE_FILE
from lipzoo.weights import read_checkpoint, read_curve


def recipe(**changes):
    content = {
        "architecture": "gat_lip_context_6",
        "overrides": {"num_layers": 2, "hidden_feats": 8},
        "tag": "tiny",
        "prior": {"nodes": (50, 80), "large_share": 0.0},
        "evidence": {"width": 16, "num_random": 16},
        "steps": 4,
        "batch": 3,
        "fresh": 2,
        "kept": 4,
        "validation": 2,
        "optimizer": {"name": "adamw", "lr": 0.01, "weight_decay": 0.01},
        "warmup": 1,
    }
    return make_pretraining({**content, **changes}, "test")


def run(folder, content=None, **options):
    return pretrain_in_context(content or recipe(), folder, say=lambda line: None, **options)


def test_its_weights_predict_any_graph_at_once(tmp_path):
    folder = run(tmp_path / "run")
    model = lipzoo.load_pretrained(folder)
    assert model.card.encoding == {"kind": "context", "width": 16, "num_random": 16, "seed": 0}
    assert make_pretraining(model.card.recipe, "card") == recipe()
    for name, classes in (("wine", 3), ("digits", 10)):
        task = lipzoo.load_dataset(name)
        found = predict(model, task)
        assert found.shape == (task.num_nodes, classes)
        start = ClosedFormStack(width=16, num_random=16).fit(task).predict_proba()
        assert not torch.allclose(found, start, atol=1e-5)  # four steps have taught it something


@pytest.mark.parametrize("ahead", [0, 1])
def test_the_same_recipe_gives_the_same_bits_also_when_resumed(tmp_path, ahead, monkeypatch):
    monkeypatch.setattr("lab.pretraining.in_context._ROW_EVERY", 1)
    whole = read_checkpoint(run(tmp_path / "whole")).tensors

    def stop(line):
        if line.startswith("step 3"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain_in_context(recipe(), tmp_path / "cut", say=stop, ahead=ahead)
    assert (tmp_path / "cut" / STATE_FILE).is_file()
    again = read_checkpoint(run(tmp_path / "cut", resume=True, ahead=ahead)).tensors
    assert all(torch.equal(whole[key], again[key]) for key in whole)
    assert (tmp_path / "cut/losses.csv").read_text().count("\n") == 5


def test_its_curve_has_the_rows_that_were_validated(tmp_path, monkeypatch):
    monkeypatch.setattr("lab.pretraining.in_context._ROW_EVERY", 1)
    monkeypatch.setattr("lab.pretraining.in_context._LOOK_EVERY", 2)
    folder = run(tmp_path / "run")
    curve = read_curve(folder)
    card = read_checkpoint(folder).card
    assert (curve.sha256, curve.epoch) == (card.weights.sha256, 4)
    rows = [row for row in read_csv(tmp_path / "run/losses.csv") if row["val_loss"]]
    assert [row["epoch"] for row in curve.rows] == [float(row["step"]) for row in rows] == [2, 4]
    names = {"train_loss": "loss", "val_loss": "val_loss", "val_accuracy": "val_accuracy"}
    for ours, theirs in names.items():
        wanted = [float(row[theirs]) for row in rows]
        assert [row[ours] for row in curve.rows] == pytest.approx(wanted, rel=1e-5)
    assert "synthetic tasks" in curve.words(card)


def test_batches_are_of_their_step_whatever_was_before():
    def sums(batches, steps):
        return [[float(t.rows.double().sum()) for t in batches.next()] for _ in range(steps)]

    whole = sums(Batches(recipe(), 0, 0), 6)
    assert [len(batch) for batch in whole] == [2, 3, 3, 3, 3, 3]
    assert sums(Batches(recipe(), 4, 0), 2) == whole[4:]
    news = [batch[:2] for batch in whole]
    assert len({*itertools.chain(*news)}) == 12
    # The others are of the last four.
    assert whole[4][2] in {*news[2], *news[3]}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fresh": 4}, "fresh must not be above batch"),
        ({"prior": {"nodes": (0, 5)}}, "nodes"),
        ({"graphs": [{"name": "wine"}]}, "graphs"),
    ],
)
def test_faults_of_a_recipe(changes, words):
    with pytest.raises(ConfigError, match=words):
        recipe(**changes)


def test_an_architecture_that_reads_no_rows_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="a prior needs an InContextGATv2"):
        run(tmp_path / "run", recipe(architecture="gat_lip_2", overrides={}))


def test_the_recipe_that_ships_is_one():
    assert isinstance(load_pretraining("context_8"), ContextRecipe)
