"""The card beside the weights: checked when it is made and when it is read."""

import numpy as np
import pytest
from checkpoints import card, edit_card, small_model

import lipzoo
from lipzoo.card import Card, versions
from lipzoo.errors import CheckpointError, ConfigError
from lipzoo.weights import read_checkpoint, write_checkpoint


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"nmae": "x"}, "unknown key 'nmae'; did you mean 'name'"),
        ({"tag": 3}, "tag: input should be a valid string"),
        ({"dataset": {"name": "cora"}}, r"key 'dataset\.fingerprint' is missing"),
        ({"metrics": {"a": {"mean": 1.0}}}, r"key 'metrics\.a\.std' is missing"),
        ({"seeds": ["x"]}, "seeds.0: input should be a valid integer"),
        ({"weights": {"url": "x"}}, r"unknown key 'weights\.url'"),
    ],
)
def test_faults(tmp_path, change, words):
    with pytest.raises(ConfigError, match=f"here: .*{words}"):
        card(**change)
    checkpoint = write_checkpoint(tmp_path / "out", small_model(), card())
    edit_card(checkpoint, lambda content: content.update(change))
    with pytest.raises(CheckpointError, match=words):
        lipzoo.load_pretrained(checkpoint)


def test_all_faults_at_once():
    with pytest.raises(ConfigError) as caught:
        Card.from_dict({"tag": 3, "sede": []}, where="here")
    for name in ("'name' is missing", "'architecture' is missing", "tag", "'sede'"):
        assert name in str(caught.value)


def test_round_trip(tmp_path):
    """NaN is the spread of one seed; None and text like a number are values too."""
    summary = {"mean": 0.81, "std": float("nan"), "values": [0.81]}
    written = card(
        metrics={"test_accuracy": summary},
        baselines={"gat_2": {"test_accuracy": summary}},
        seeds=[3],
        recipe={"schedule": None, "nested": {"a": None, "b": [1, "1e5"]}, "rate": 5e-4},
        versions=versions(),
        licence="CC0",
    )
    stored = read_checkpoint(write_checkpoint(tmp_path / "out", small_model(), written)).card
    np.testing.assert_equal(
        stored.model_dump(exclude={"weights"}), written.model_dump(exclude={"weights"})
    )


def test_versions():
    assert {"lipzoo", "python", "torch", "dgl", "numpy", "machine"} == set(versions())
    assert versions()["lipzoo"] == lipzoo.__version__
