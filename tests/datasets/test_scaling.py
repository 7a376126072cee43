import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler

import lipzoo
from lipzoo._graph import make_graph
from lipzoo.card import Card
from lipzoo.datasets import erase_features, grown, load_dataset, scale_features
from lipzoo.datasets.loading import is_same_data
from lipzoo.datasets.scaling import columns_of
from lipzoo.encoding import encode_for
from lipzoo.errors import ConfigError, DataError
from lipzoo.training import export_run, finetune, predict, predict_new, train
from lipzoo.training.data_entry import scaling_entry
from lipzoo.training.metrics import evaluate
from lipzoo.training.recipe import FitSettings, make_recipe
from lipzoo.training.together import fit_together


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
    task = load_dataset("digits")
    assert task.feat.mean() > 0.1
    scaled = scale_features(task, "standard")
    wanted = StandardScaler().fit_transform(task.feat.double().numpy())
    np.testing.assert_allclose(scaled.feat.numpy(), wanted, rtol=0, atol=1e-5)
    assert scaled.feat.dtype == task.feat.dtype
    constant = task.with_ndata(feat=torch.full_like(task.feat, 121.45))
    assert (scale_features(constant, "standard").feat == 0).all()


def test_the_fingerprint_is_that_of_the_data():
    raw, scaled = load_dataset("digits"), load_dataset("digits", scaling="standard")
    assert scaled.fingerprint == raw.fingerprint
    assert is_same_data(raw, scaled.name, scaled.options, scaled.fingerprint)
    assert scaled.source.feat.equal(raw.feat)
    erased = load_dataset("digits", scaling="standard", missing_rate=0.7)
    assert erased.fingerprint == load_dataset("digits", missing_rate=0.7).fingerprint
    assert is_same_data(raw, erased.name, erased.options, erased.fingerprint)


@pytest.mark.parametrize("fill", ["zero", "propagate"])
def test_missing_features_are_erased_from_scaled_ones(fill):
    """Whichever comes first: what is erased counts in no mean, neither as 0 nor as it was."""
    missing = {"missing_rate": 0.8, "missing_seed": 3, "missing_fill": fill}
    scaled = load_dataset("digits", scaling="standard", **missing)
    late = scale_features(load_dataset("digits", **missing), "standard")
    assert torch.equal(late.feat, scaled.feat)
    assert late.options == scaled.options
    assert late.fingerprint == scaled.fingerprint
    if fill == "zero":
        is_erased = (scaled.feat == 0).all(1)
        assert is_erased.sum() == round(0.8 * int((~scaled.train_mask).sum()))
        known = load_dataset("digits").feat[~is_erased].double()
        assert columns_of(scaled)[0] == pytest.approx(known.mean(0).tolist())
        assert scaled.feat[~is_erased].mean(0).abs().max() < 1e-6


def test_what_cannot_be_scaled_is_refused():
    task = load_dataset("wine")
    with pytest.raises(ConfigError, match="did you mean 'standard'"):
        load_dataset("wine", scaling="standart")
    with pytest.raises(ConfigError, match="scaling: input should be a valid string"):
        load_dataset("wine", scaling=["row"])
    with pytest.raises(ConfigError, match="scaling is"):
        scale_features(task, ["row"])
    with pytest.raises(DataError, match="negative"):
        scale_features(task.with_ndata(feat=-task.feat.abs()), "row")
    with pytest.raises(DataError, match="no node features"):
        scale_features(task.with_ndata(feat=task.feat[:, :0]), "standard")
    scaled = load_dataset("digits", scaling="row")
    assert scale_features(scaled, "row") is scaled
    with pytest.raises(ConfigError, match="already"):
        scale_features(scaled, "standard")
    with pytest.raises(ConfigError, match="already"):
        scale_features(load_dataset("digits", encoding={"width": 8}), "standard")


def test_whole_numbers_are_not_cut_off():
    task = load_dataset("digits")
    whole = (16 * task.feat).long()
    wanted = scale_features(task.with_ndata(feat=whole.float()), "row").feat
    assert torch.equal(scale_features(task.with_ndata(feat=whole), "row").feat, wanted)
    assert wanted.sum(1).min() > 0.99


def test_weights_scale_what_they_read(tmp_path):
    """A raw task is brought to the scale that the weights were trained on, and no other is."""
    content = {
        "architecture": "test_tiny",
        "dataset": {"name": "digits", "scaling": "standard"},
        "epochs": 30,
        "seeds": [0],
    }
    train(make_recipe(content, where="test"), tmp_path / "run", verbose=False)
    folder = export_run(tmp_path / "run", tmp_path / "test_tiny.digits")
    model = lipzoo.load_pretrained(folder)
    assert len(model.card.scaling.mean) == 64
    raw, scaled = load_dataset("digits"), load_dataset("digits", scaling="standard")
    assert evaluate(model, raw) == evaluate(model, scaled)
    model.card, card = None, model.card
    assert evaluate(model, raw)["test_loss"] > 1.1 * evaluate(model, scaled)["test_loss"]
    model.card = card
    [alone] = fit_together([model], [raw], [FitSettings(epochs=1)])
    assert alone.metrics == pytest.approx(evaluate(model, scaled), abs=1e-5)
    tuned = finetune(folder, raw, epochs=1, verbose=False)
    assert tuned.model.card.dataset.options["scaling"] == "standard"
    other = load_dataset("iris")
    tuned = finetune(folder, other, epochs=1, verbose=False)
    assert "scaling" not in tuned.model.card.dataset.options


@pytest.mark.slow
def test_encoded_weights_that_were_tuned_on_scaled_data_scale_first(tmp_path):
    scaled = load_dataset("digits", scaling="standard")
    name = "gat_lip_universal_16.cs_computers_digits"
    finetune(name, scaled, epochs=2, out=tmp_path / "tuned", verbose=False)
    model = lipzoo.load_pretrained(tmp_path / "tuned")
    assert evaluate(model, load_dataset("digits")) == evaluate(model, scaled)


def without_scaling(card):
    return card.model_copy(update={"scaling": None})


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """Weights that were fine-tuned on columns of different units."""
    raw = load_dataset("digits")
    units = torch.logspace(-2, 4, raw.in_feats)
    raw = raw.with_ndata(feat=raw.feat * units + 100 * units)
    out = tmp_path_factory.mktemp("scaled") / "tuned"
    options = {"epochs": 5, "out": out, "verbose": False}
    finetune("gat_lip_2.cora", scale_features(raw, "standard"), **options)
    return lipzoo.load_pretrained(out), raw


def few(task, nodes):
    """Some nodes of a task, and no edges, without labels."""
    none = torch.empty(0, dtype=torch.int64)
    graph = lipzoo.GraphTask.from_graph(make_graph(none, none, len(nodes)))
    return graph.with_ndata(feat=task.feat[nodes])


def test_other_graphs_are_scaled_as_the_training_was(tuned):
    model, raw = tuned
    scaled = scale_features(raw, "standard")
    assert len(model.card.scaling.mean) == raw.in_feats
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for nodes in ([5], (raw.labels == 2).nonzero().flatten().tolist()):
            assert encode_for(model, few(raw, nodes)).feat.equal(scaled.feat[nodes])
        assert encode_for(model, raw).feat.equal(scaled.feat)
        assert encode_for(model, scaled) is scaled
        alone = scale_features(few(raw, [3, 4, 5]), "standard")
        found = encode_for(model, alone)
    assert found.feat.equal(scaled.feat[3:6]), "though it was scaled by its own columns"
    assert found.fingerprint == alone.fingerprint
    raw_erased = erase_features(raw, 0.5)
    erased = scale_features(raw_erased, "standard")
    by_others, is_known = encode_for(model, erased), (erased.feat != 0).any(1)
    assert by_others.feat.equal(scaled.feat * is_known.unsqueeze(1))
    assert by_others.options == erased.options
    assert encode_for(model, raw_erased).feat.equal(by_others.feat)
    relabelled = alone.with_ndata(label=torch.tensor([0, 1, 2]))  # how it came is not known
    with pytest.warns(UserWarning, match="nobody knows how its features came"):
        assert encode_for(model, relabelled) is relabelled
    assert scaling_entry(relabelled) is None


def test_classes_that_are_counted_otherwise_leave_the_scaling_alone():
    """A graph with some of the classes: they are counted as the weights count them."""
    torch.manual_seed(0)
    ring, label = torch.arange(60), torch.arange(60) % 3
    graph = make_graph(ring, (ring + 3) % 60, 60)
    graph.ndata["feat"] = 100 * label.unsqueeze(1) + torch.rand(60, 2)
    graph.ndata["label"] = label
    for part, name in enumerate(("train", "val", "test")):
        graph.ndata[f"{name}_mask"] = ring // 3 % 3 == part
    whole = lipzoo.GraphTask.from_graph(graph, "whole", class_names=["a", "b", "c"])
    model = finetune(
        "gat_lip_2.cora", scale_features(whole, "standard"), epochs=1, verbose=False
    ).model
    some = graph.local_var()
    some.ndata["label"] = (label - 1).clamp(min=0)
    some.ndata["feat"] = graph.ndata["feat"].clamp(min=100)
    rest = lipzoo.GraphTask.from_graph(some, "rest", class_names=["b", "c"])
    scaled = scale_features(rest, "standard")
    assert scaled.with_classes("abc").source.feat.equal(rest.feat)
    wanted, found = predict(model, rest), predict(model, scaled)
    assert torch.equal(torch.as_tensor(wanted), torch.as_tensor(found))
    assert evaluate(model, rest) == evaluate(model, scaled)


def test_an_older_card_warns_where_the_graph_is_not_its_own(tuned):
    model, raw = tuned
    old = SimpleNamespace(card=without_scaling(model.card))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert encode_for(old, raw).feat.equal(encode_for(model, raw).feat)
    with pytest.warns(UserWarning, match="their card does not hold"):
        encode_for(old, few(raw, [1, 2, 3]))


def test_a_fine_tuning_scales_by_its_own_data(tuned):
    model, raw = tuned
    other = raw.with_ndata(feat=3 * raw.feat)
    again = finetune(model, other, epochs=1, verbose=False).model
    assert again.card.scaling.mean == pytest.approx([3 * m for m in model.card.scaling.mean])
    scaled = scale_features(other, "standard")
    assert encode_for(again, other).feat.equal(scaled.feat)
    later = finetune(model, scaled, epochs=1, verbose=False).model
    assert later.card.scaling == again.card.scaling
    assert all(map(torch.equal, later.parameters(), again.parameters()))


def test_a_card_s_scaling_is_checked(tuned):
    content = tuned[0].card.model_dump(exclude_none=True)
    for scaling, words in (
        ({"mean": [0.0], "scale": [0.0]}, "greater than 0"),
        ({"mean": [0.0], "scale": [1.0, 1.0]}, "as many numbers"),
        ({"mean": [float("nan")], "scale": [1.0]}, "finite"),
    ):
        with pytest.raises(ConfigError, match=words):
            Card.from_dict({**content, "scaling": scaling}, "test")


def test_columns_that_a_card_has_no_room_for_are_not_kept():
    none = torch.empty(0, dtype=torch.int64)
    task = lipzoo.GraphTask.from_graph(make_graph(none, none, 2)).with_ndata(
        feat=torch.rand(2, 10_001)
    )
    assert scaling_entry(scale_features(task, "standard")) is None


def test_new_nodes_are_scaled_as_the_training_was(tuned):
    model, raw = tuned
    feat, edges = raw.feat[:2] * 1.5, [[3, 4], [raw.num_nodes, raw.num_nodes + 1]]
    wanted = predict(model, grown(raw, feat, edges))[-2:]
    found = predict_new(model, raw, feat, edges).proba
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    card, model.card = model.card, without_scaling(model.card)
    with pytest.raises(ConfigError, match="their card does not hold"):
        predict_new(model, raw, feat, edges)
    model.card = card
