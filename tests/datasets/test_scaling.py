import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler

import lipzoo
from lipzoo.datasets import load_dataset, scale_features
from lipzoo.datasets.loading import is_same_data
from lipzoo.errors import ConfigError, DataError
from lipzoo.training import export_run, finetune, train
from lipzoo.training.metrics import evaluate
from lipzoo.training.recipe import make_recipe


def test_rows_are_shares():
    task = load_dataset("digits")
    scaled = load_dataset("digits", scaling="row")
    wanted = task.feat / task.feat.sum(1, keepdim=True).clamp(min=1)
    assert torch.equal(scaled.feat, wanted)
    assert scaled.options["scaling"] == "row"
    assert load_dataset(scaled.name, **scaled.options).feat.equal(scaled.feat)


def test_a_graph_of_ones_own_and_a_node_without_words(tmp_path):
    """30 nodes in a ring, 5 counted words, none at node 0."""
    node = np.arange(30)
    feat = np.random.default_rng(0).poisson(2.0, (30, 5)).astype("float32")
    feat[0] = 0
    np.savez(tmp_path / "words.npz", src=node, dst=(node + 1) % 30, feat=feat, label=node % 3)
    sizes = {"train_per_class": 3, "num_val": 6, "num_test": 9}
    scaled = load_dataset(tmp_path / "words.npz", scaling="row", **sizes)
    assert (scaled.feat[0] == 0).all()
    assert scaled.feat[1:].sum(1).numpy() == pytest.approx(np.ones(29))


def test_columns_are_standardised():
    task = load_dataset("wine")
    scaled = scale_features(task, "standard")
    wanted = StandardScaler().fit_transform(task.feat.double().numpy())
    assert scaled.feat.numpy() == pytest.approx(wanted, abs=1e-6)
    assert scaled.feat.dtype == task.feat.dtype
    constant = task.with_ndata(feat=torch.full_like(task.feat, 121.45))
    assert (scale_features(constant, "standard").feat == 0).all()


def test_the_fingerprint_is_that_of_the_data():
    raw, scaled = load_dataset("wine"), load_dataset("wine", scaling="standard")
    assert scaled.fingerprint == raw.fingerprint
    assert is_same_data(raw, scaled.name, scaled.options, scaled.fingerprint)
    assert scaled.source.feat.equal(raw.feat)


def test_missing_features_are_erased_from_scaled_ones():
    scaled = load_dataset("wine", scaling="standard", missing_rate=1.0)
    others = ~scaled.train_mask
    assert (scaled.feat[others] == 0).all()
    assert scaled.feat[scaled.train_mask].std() == pytest.approx(1, abs=0.3)


def test_what_cannot_be_scaled_is_refused():
    task = load_dataset("wine")
    with pytest.raises(ConfigError, match="did you mean 'standard'"):
        load_dataset("wine", scaling="standart")
    with pytest.raises(DataError, match="negative"):
        scale_features(task.with_ndata(feat=-task.feat), "row")


def test_weights_scale_what_they_read(tmp_path):
    """A raw task is brought to the scale that the weights were trained on, and no other is."""
    content = {
        "architecture": "test_tiny",
        "dataset": {"name": "wine", "scaling": "standard"},
        "epochs": 15,
        "seeds": [0],
    }
    train(make_recipe(content, where="test"), tmp_path / "run", verbose=False)
    folder = export_run(tmp_path / "run", tmp_path / "test_tiny.wine")
    model = lipzoo.load_pretrained(folder)
    raw, scaled = load_dataset("wine"), load_dataset("wine", scaling="standard")
    assert evaluate(model, raw) == evaluate(model, scaled)
    assert evaluate(model, raw)["test_accuracy"] > 0.8
    tuned = finetune(folder, raw, epochs=1, verbose=False)
    assert tuned.model.card.dataset.options["scaling"] == "standard"
    other = load_dataset("iris")
    tuned = finetune(folder, other, epochs=1, verbose=False)
    assert "scaling" not in tuned.model.card.dataset.options
