import pytest
import torch

from lipzoo._dgl import dgl
from lipzoo.datasets import GraphTask, erase_features, load_dataset, propagate_features
from lipzoo.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def wine():
    return load_dataset("wine")


def erased(before, after):
    return ((before.feat != 0).any(dim=1) & (after.feat == 0).all(dim=1)).nonzero().flatten()


def test_all_nodes_that_do_not_train_lose_their_features(wine):
    gone = erase_features(wine, 1.0)
    assert torch.equal(gone.feat[wine.train_mask], wine.feat[wine.train_mask])
    assert gone.feat[~wine.train_mask].abs().sum() == 0
    assert gone.options["missing_rate"] == 1.0


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_share_is_exact_and_the_original_untouched(wine, rate):
    before = wine.feat.clone()
    gone = erase_features(wine, rate, seed=2)
    nodes = erased(wine, gone)
    assert len(nodes) == round(rate * 118)
    assert not wine.train_mask[nodes].any()
    assert torch.equal(wine.feat, before)
    assert "missing_rate" not in wine.options


def test_seeds(wine):
    one, again, other = (erase_features(wine, 0.5, seed=seed) for seed in (1, 1, 2))
    assert one.fingerprint == again.fingerprint != other.fingerprint


def test_a_higher_rate_erases_more_of_the_same(wine):
    few, many = (set(erased(wine, erase_features(wine, r)).tolist()) for r in (0.2, 0.6))
    assert few < many


def test_rate_zero_changes_nothing(wine):
    assert erase_features(wine, 0.0) is wine


@pytest.mark.parametrize("rate", [-0.1, 1.5, 100, float("nan")])
def test_rates_outside_0_to_1_are_refused(wine, rate):
    with pytest.raises(ConfigError, match=r"missing_rate is .*, a share from 0 to 1"):
        erase_features(wine, rate)


def test_a_training_mask_is_needed(graph):
    del graph.ndata["train_mask"]
    with pytest.raises(DataError, match="needs a train_mask"):
        erase_features(GraphTask.from_graph(graph), 0.5)


def test_propagation_follows_the_equation_written_out():
    graph = dgl.graph(([0, 1, 1, 2, 3, 3, 3], [1, 0, 2, 1, 2, 2, 0]), num_nodes=5)
    feat = torch.tensor([[1.0, -2.0], [0, 0], [0, 0], [3.0, 0.5], [0, 0]], dtype=torch.float64)
    known = torch.tensor([True, False, False, True, False])
    # Edges (source, destination) without the parallel one.
    edges = [(0, 1), (1, 0), (1, 2), (2, 1), (3, 2), (3, 0)]
    into = [sum(v == node for _, v in edges) or 1 for node in range(5)]
    out = [sum(u == node for u, _ in edges) or 1 for node in range(5)]
    x = [[0.0, 0.0] for _ in range(5)]
    for node in (0, 3):
        x[node] = feat[node].tolist()
    for _ in range(7):
        new = [[0.0, 0.0] for _ in range(5)]
        for u, v in edges:
            for k in range(2):
                new[v][k] += x[u][k] / (into[v] * out[u]) ** 0.5
        for node in (0, 3):
            new[node] = feat[node].tolist()
        x = new
    goal = (3.0 + 3.5) / 2
    for node in (1, 2):
        total = sum(map(abs, x[node]))
        x[node] = [value * goal / total for value in x[node]]
    filled = propagate_features(graph, feat, known, num_steps=7)
    torch.testing.assert_close(filled, torch.tensor(x, dtype=torch.float64), rtol=1e-6, atol=1e-6)
    assert filled[4].abs().sum() == 0  # nothing reaches it


def test_filled_features_come_from_the_known_ones_alone(wine):
    filled = erase_features(wine, 1.0, fill="propagate")
    other = wine.with_ndata(
        feat=torch.where(wine.train_mask[:, None], wine.feat, torch.tensor(7.0))
    )
    assert torch.equal(erase_features(other, 1.0, fill="propagate").feat, filled.feat)
    assert torch.equal(filled.feat[wine.train_mask], wine.feat[wine.train_mask])
    assert (filled.feat[~wine.train_mask] != 0).any()
    again = load_dataset(filled.name, **filled.options)
    assert torch.equal(again.feat, filled.feat)
    # Of what it was made of, whatever the machine makes of the last bits.
    assert filled.fingerprint == erase_features(wine, 1.0).fingerprint


def test_an_unknown_fill_is_refused(wine):
    with pytest.raises(ConfigError, match="propagate"):
        erase_features(wine, 1.0, fill="propagat")


def test_the_axes_of_the_known_rows_keep_all_inner_products(wine):
    wide = wine.with_ndata(feat=torch.cat([wine.feat, wine.feat.square(), wine.feat.sin()] * 5, 1))
    filled = erase_features(wide, 1.0, fill="propagate")
    narrow = erase_features(wide, 1.0, fill="propagate-svd")
    assert narrow.in_feats <= int(wine.train_mask.sum()) < filled.in_feats
    torch.testing.assert_close(
        narrow.feat @ narrow.feat.T, filled.feat @ filled.feat.T, rtol=1e-4, atol=1e-3
    )
    assert narrow.fingerprint == filled.fingerprint
    assert narrow.options["missing_fill"] == "propagate-svd"
