import dgl
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from checkpoints import SMALL, card

import lipzoo
from lipzoo.datasets import GraphTask, encoding
from lipzoo.datasets.encoding import (
    NUM_STRUCTURAL,
    adjacency_matrix,
    encode_features,
    encode_task,
    structural_features,
)
from lipzoo.errors import ConfigError, DataError
from lipzoo.lipschitz import certify
from lipzoo.training import FitSettings, evaluate, fit, predict, warm_start_head
from lipzoo.weights import write_checkpoint


def words(nodes=300, feats=200, seed=0):
    rng = np.random.default_rng(seed)
    return sp.random(nodes, feats, 0.1, random_state=rng, format="csr").toarray()


@pytest.mark.parametrize("feats", [1, 3, 64, 65, 500])
@pytest.mark.parametrize("width", [8, 64])
def test_any_width_becomes_one_width(feats, width):
    out = encode_features(words(feats=feats), width)
    assert out.shape == (300, width)
    assert np.isfinite(out).all()


def test_rows_have_one_length():
    length = np.linalg.norm(encode_features(words()), axis=1)
    np.testing.assert_allclose(length, 8.0)  # the root of 64


def test_the_rotation_spreads_the_variance_over_the_columns():
    variance = encode_features(words(), 16).var(axis=0)
    assert variance.max() < 4 * variance.min()


def test_sparse_and_dense_agree_and_repeat_themselves():
    dense = encode_features(words())
    assert np.array_equal(dense, encode_features(words()))
    np.testing.assert_allclose(encode_features(sp.csr_matrix(words())), dense, atol=1e-9)
    assert not np.allclose(dense, encode_features(words(), seed=1))


@pytest.mark.parametrize("feats", [30, 500])  # exact, and randomised
def test_permuted_nodes_are_permuted_rows(feats):
    features, order = words(feats=feats), np.random.default_rng(1).permutation(300)
    out = encode_features(features, 8)
    np.testing.assert_allclose(encode_features(features[order], 8), out[order], atol=1e-6)


def test_the_sign_of_an_axis_does_not_hang_on_the_order_of_the_features():
    # Column permutation permutes V; the sign by its largest entry stays.
    features, order = words(feats=30), np.random.default_rng(1).permutation(30)
    np.testing.assert_allclose(
        encode_features(features[:, order], 8), encode_features(features, 8), atol=1e-9
    )


def test_measurements_are_standardised():
    features = np.random.default_rng(0).normal(size=(100, 6))
    scaled = encode_features(features * [1, 10, 100, 1, 1, 1], 8)
    np.testing.assert_allclose(scaled, encode_features(features, 8), atol=1e-9)


def test_angles_are_those_of_a_truncated_svd():
    features = words(feats=30)
    features = features[features.any(axis=1)]
    idf = np.log((1 + len(features)) / (1 + (features > 0).sum(0))) + 1
    weighted = features * idf
    u, s, _ = np.linalg.svd(weighted / np.linalg.norm(weighted, axis=1, keepdims=True))
    axes = u[:, :8] * s[:8]
    centred = axes - axes.mean(0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    out = encode_features(features, 8)
    np.testing.assert_allclose(out @ out.T / 8, unit @ unit.T, atol=1e-9)


def test_structural_features_against_dense_powers():
    graph = dgl.rand_graph(60, 200)
    adjacency = adjacency_matrix(graph)
    dense = adjacency.toarray()
    assert set(np.unique(dense)) <= {0, 1}
    assert (dense == dense.T).all()
    assert not dense.diagonal().any()
    degree = dense.sum(1)
    walk = dense / np.maximum(degree, 1)[:, None]
    powers = [np.linalg.matrix_power(walk, k).diagonal() for k in (2, 3, 4)]
    wanted = np.stack([np.log1p(degree), *powers], axis=1)
    wanted = (wanted - wanted.mean(0)) / wanted.std(0)
    np.testing.assert_allclose(structural_features(adjacency), wanted, atol=1e-9)


def test_a_graph_without_edges_has_structural_features():
    out = structural_features(adjacency_matrix(dgl.graph(([], []), num_nodes=5)))
    assert not out.any()


def test_a_task_keeps_its_fingerprint_and_is_encoded_once():
    raw = lipzoo.load_dataset("wine")
    before = raw.feat.clone()
    encoded = encode_task(raw, 8)
    assert encoded.feat.shape == (178, 8 + NUM_STRUCTURAL)
    assert encoded.feat.dtype == torch.float32
    assert encoded.fingerprint == raw.fingerprint
    assert encoded.options["encoding"] == {"width": 8, "seed": 0}
    assert "encoding" not in raw.options
    assert torch.equal(raw.feat, before)
    assert encode_task(encoded, 8) is encoded
    with pytest.raises(ConfigError, match="pass the raw task"):
        encode_task(encoded, 16)


def test_a_loaded_dataset_can_be_encoded_and_its_options_load_it_again():
    task = lipzoo.load_dataset("wine", encoding={"width": 8})
    again = lipzoo.load_dataset(task.name, **task.options)
    assert torch.equal(again.feat, task.feat)
    with pytest.raises(ConfigError, match="unknown key 'with'; did you mean 'width'"):
        lipzoo.load_dataset("wine", encoding={"with": 8})


def test_nothing_is_learnt_from_labels_or_masks():
    one = encode_task(lipzoo.load_dataset("wine", split_seed=1), 8)
    graph = one.graph
    bare = dgl.graph(graph.edges(), num_nodes=graph.num_nodes())
    bare.ndata["feat"] = lipzoo.load_dataset("wine").feat
    assert torch.equal(encode_task(GraphTask.from_graph(bare), 8).feat, one.feat)


def test_refusals():
    wine = lipzoo.load_dataset("wine")
    for width in (0, 4097):  # what cards take, and no more
        with pytest.raises(ConfigError, match="encoding: width: input should be"):
            encode_task(wine, width)
    with pytest.raises(ConfigError, match="width >= 1"):
        encode_features(wine.feat.numpy(), 0)
    broken = wine.with_ndata(feat=torch.full_like(wine.feat, float("nan")))
    with pytest.raises(DataError, match="finite"):
        encode_task(broken)


# -------------------------------------------------- weights that read encoded features


@pytest.fixture
def reader(tmp_path):
    """A model whose card names an encoding in 8 columns."""
    sizes = SMALL | {"in_feats": 8 + NUM_STRUCTURAL, "num_classes": 3}
    entry = {"model": "DeepGAT", "args": sizes}
    torch.manual_seed(0)
    model = lipzoo.create_model("gat_lip_2", **sizes)
    described = card(architecture=entry, encoding={"width": 8, "seed": 0})
    return lipzoo.load_pretrained(write_checkpoint(tmp_path / "reader", model, described))


def trained(model, task):
    torch.manual_seed(0)
    return fit(model, task, FitSettings(epochs=3, ema_decay=0.5), verbose=False).metrics


def warm_started(model, task):
    warm_start_head(model, task)
    return evaluate(model, task)


DOORS = {
    "evaluate": evaluate,
    "predict": lambda model, task: predict(model, task).tolist(),
    "fit": trained,
    "warm_start_head": warm_started,
    "certify": lambda model, task: certify(model, task).to_dict(),
    "finetune": lambda model, task: (
        lipzoo.finetune(model, task, epochs=3, freeze="none", verbose=False).metrics
    ),
}


@pytest.mark.many
@pytest.mark.parametrize("door", DOORS)
def test_a_raw_task_is_encoded_once_at_the_door(reader, monkeypatch, door):
    """Whatever takes weights and a task does the same to both."""
    wine = lipzoo.load_dataset("wine")
    wanted = DOORS[door](lipzoo.load_pretrained(reader), encode_task(wine, 8))
    real, calls = encoding.encode_features, []
    monkeypatch.setattr(
        encoding, "encode_features", lambda *args: calls.append(args) or real(*args)
    )
    assert DOORS[door](lipzoo.load_pretrained(reader), wine) == wanted
    assert len(calls) == (2 if door == "warm_start_head" else 1)  # and `evaluate`'s own
