import pytest
import torch

from lipzoo.datasets import GraphTask, erase_features, load_dataset
from lipzoo.errors import DataError


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
    with pytest.raises(DataError, match=r"missing_rate is .*, a share from 0 to 1"):
        erase_features(wine, rate)


def test_a_training_mask_is_needed(graph):
    del graph.ndata["train_mask"]
    with pytest.raises(DataError, match="needs a train_mask"):
        erase_features(GraphTask.from_graph(graph), 0.5)
