import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lipzoo.datasets import random_split
from lipzoo.errors import ConfigError, DataError

LABELS = torch.arange(400) % 4


def sizes(masks):
    return [int(mask.sum()) for mask in masks.values()]


def test_default_sizes_and_order():
    masks = random_split(LABELS)
    assert list(masks) == ["train_mask", "val_mask", "test_mask"]
    assert sizes(masks) == [80, 160, 160]
    assert torch.bincount(LABELS[masks["train_mask"]]).tolist() == [20] * 4


@pytest.mark.parametrize(
    ("num_val", "num_test", "expected"),
    [(100, None, [80, 100, 220]), (None, 50, [80, 270, 50]), (30, 40, [80, 30, 40])],
)
def test_a_size_that_is_not_given_takes_the_rest(num_val, num_test, expected):
    assert sizes(random_split(LABELS, num_val=num_val, num_test=num_test)) == expected


def test_validation_nodes_per_class():
    masks = random_split(LABELS, 20, val_per_class=30)
    assert sizes(masks) == [80, 120, 200]
    assert torch.bincount(LABELS[masks["val_mask"]]).tolist() == [30] * 4
    assert sizes(random_split(LABELS, 20, num_val=7, val_per_class=30)) == [80, 7, 313]


def test_same_seed_same_split_whatever_the_global_seed():
    first = random_split(LABELS, seed=3)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    again, other = random_split(LABELS, seed=3), random_split(LABELS, seed=4)
    assert all(torch.equal(first[mask], again[mask]) for mask in first)
    assert not torch.equal(first["train_mask"], other["train_mask"])


def test_small_classes_keep_half_by_default():
    labels = torch.tensor([0] * 10 + [1] * 100 + [2])
    train = labels[random_split(labels)["train_mask"]]
    assert torch.bincount(train).tolist() == [5, 20, 1]


def test_multilabel_draws_from_all_nodes():
    assert sizes(random_split(torch.ones(400, 5))) == [100, 150, 150]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-1, 3), min_size=30, max_size=80), st.integers(0, 5))
def test_masks_are_disjoint_and_hold_labelled_nodes_only(labels, seed):
    labels = torch.tensor(labels)
    if (labels >= 0).sum() < 10:
        return
    masks = random_split(labels, seed=seed)
    total = sum(mask.int() for mask in masks.values())
    assert torch.equal(total, (labels >= 0).int())


def test_a_class_with_too_few_nodes_is_named():
    labels = torch.tensor([0] * 50 + [1] * 7)
    with pytest.raises(DataError, match="mine: class 1 has 7 labelled nodes, fewer than the 20"):
        random_split(labels, 20, name="mine")


@pytest.mark.parametrize(
    "sizes", [{"num_val": 320}, {"num_test": 320}, {"num_val": 300, "num_test": 30}]
)
def test_too_few_nodes_remain(sizes):
    with pytest.raises(DataError, match="320 labelled nodes remain"):
        random_split(LABELS, **sizes)


def test_the_message_names_only_sizes_that_were_asked_for():
    with pytest.raises(DataError, match=r"too few for validation and test nodes; .*masks of your"):
        random_split(torch.arange(10))
    with pytest.raises(DataError, match=r"too few for num_test=5;"):
        random_split(torch.arange(10), num_test=5)


def test_sizes_below_one_are_refused():
    with pytest.raises(ConfigError, match="num_val is 0, it must be at least 1"):
        random_split(LABELS, num_val=0)


def test_nothing_is_labelled():
    with pytest.raises(DataError, match="0 labelled nodes remain"):
        random_split(torch.full((9,), -1))
