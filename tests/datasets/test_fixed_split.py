"""Splits that others have published for graphs without one."""

import numpy as np
import pytest
from public_files import save

from lipzoo.datasets import DATASETS, load_dataset, register_dataset
from lipzoo.datasets.embedded import iris
from lipzoo.datasets.fixed_split import FILES, fixed_split
from lipzoo.datasets.loading import is_same_data
from lipzoo.errors import ConfigError, DataError

NODES = np.random.default_rng(0).permutation(150)
ARRAYS = {"train": NODES[:90], "valid": NODES[90:120], "test": NODES[120:]}


@pytest.fixture
def flowers():
    """Iris under another name, with the split of a file."""
    register_dataset("flowers", fixed_split=fixed_split("amazon-photo"))(lambda *, k=8: iris(k=k))
    yield "flowers"
    DATASETS.remove("flowers")


@pytest.mark.parametrize("folder", ["splits", ""])
def test_the_masks_of_the_file(flowers, tmp_path, folder):
    save(tmp_path / folder / "amazon-photo_split.npz", ARRAYS)
    task = load_dataset(flowers, raw_dir=tmp_path, split="fixed")
    for part, key in (("train", "train"), ("val", "valid"), ("test", "test")):
        nodes = getattr(task, f"{part}_mask").nonzero().flatten().tolist()
        assert nodes == sorted(ARRAYS[key].tolist())
    assert task.options == {"k": 8, "split": "fixed"}
    again = load_dataset(flowers, raw_dir=tmp_path, **task.options)
    assert again.fingerprint == task.fingerprint
    random = load_dataset(flowers)
    assert random.data_fingerprint == task.data_fingerprint
    # Without the file nobody can say; with the same masks the fingerprint does.
    card = ("flowers", task.options, task.fingerprint)
    assert is_same_data(task, *card)
    assert not is_same_data(random, *card)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"test": np.array([150])},
            "test names node 150, but nodes are numbered 0..149: it is",
        ),
        ({"test": np.array([-1])}, "test names node -1"),
        ({"test": np.array([0.5])}, r"test must be a list of node numbers, but is float64 \(1,\)"),
        ({"test": NODES[:5]}, "train_mask and test_mask overlap on 5 nodes"),
        ({"tset": NODES[:5]}, "unknown array 'tset'; did you mean 'test'"),
    ],
)
def test_faults(flowers, tmp_path, changes, words):
    save(tmp_path / "splits" / "amazon-photo_split.npz", {**ARRAYS, **changes})
    with pytest.raises(DataError, match=words):
        load_dataset(flowers, raw_dir=tmp_path, split="fixed")


def test_a_fixed_split_has_no_number(flowers, tmp_path):
    save(tmp_path / "splits" / "amazon-photo_split.npz", ARRAYS)
    with pytest.raises(ConfigError, match=r"split_index is 1, .* \(choices: none\)"):
        load_dataset(flowers, raw_dir=tmp_path, split="fixed", split_index=1)


@pytest.mark.parametrize(
    ("name", "stem", "split"),
    [
        ("amazon_photo", "amazon-photo", (4590, 1530, 1530)),
        ("amazon_computers", "amazon-computer", (8251, 2750, 2751)),
        pytest.param("coauthor_cs", "coauthor-cs", (10999, 3666, 3668), marks=pytest.mark.slow),
        pytest.param(
            "coauthor_physics", "coauthor-physics", (20695, 6898, 6900), marks=pytest.mark.slow
        ),
    ],
)
def test_real_graphs(raw_dir, name, stem, split):
    task = load_dataset(name, raw_dir=raw_dir, split="fixed")
    assert tuple(int(m.sum()) for m in (task.train_mask, task.val_mask, task.test_mask)) == split
    assert stem in FILES
    assert sum(split) == task.num_nodes
