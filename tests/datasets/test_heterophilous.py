"""Graphs with ten public splits: the real files where they are there, small ones for all names."""

import os

import numpy as np
import pytest
import torch
from public_files import NUM_NODES, heterophilous_arrays, save

from lipzoo.datasets import load_dataset
from lipzoo.datasets.heterophilous import FILES
from lipzoo.errors import ConfigError, DataError

BINARY = {"minesweeper", "questions", "tolokers"}


@pytest.mark.parametrize("name", sorted(FILES))
@pytest.mark.parametrize("folder", ["heterophilous", ""])
def test_small_files_of_the_layout(tmp_path, name, folder):
    arrays = heterophilous_arrays()
    save(tmp_path / folder / f"{name}.npz", arrays)
    task = load_dataset(name, raw_dir=tmp_path, split_index=7)
    assert (task.num_nodes, task.num_edges, task.num_classes) == (NUM_NODES, 2 * NUM_NODES, 2)
    src, dst = (ends.tolist() for ends in task.graph.edges())
    there = {(int(a), int(b)) for a, b in arrays["edges"]}
    assert {*zip(src, dst)} == there | {(b, a) for a, b in there}
    assert np.array_equal(task.feat.numpy(), arrays["node_features"])
    assert np.array_equal(task.labels.numpy(), arrays["node_labels"])
    for part in ("train", "val", "test"):
        mask = getattr(task, f"{part}_mask").numpy()
        assert np.array_equal(mask, arrays[f"{part}_masks"][7])
    assert task.metric == ("roc_auc" if name in BINARY else "accuracy")
    assert task.num_splits == 10


@pytest.mark.parametrize(
    ("name", "nodes", "edges", "features", "classes", "split"),
    [
        ("minesweeper", 10_000, 78_804, 7, 2, (5000, 2500, 2500)),
        ("tolokers", 11_758, 1_038_000, 10, 2, (5879, 2939, 2940)),
        ("chameleon_filtered", 890, 17_708, 2325, 5, (412, 294, 184)),
        ("squirrel_filtered", 2223, 93_996, 2089, 5, (1060, 713, 450)),
        ("actor", 7600, 53_318, 932, 5, (3648, 2432, 1520)),
    ],
)
def test_real_graphs(raw_dir, name, nodes, edges, features, classes, split):
    task = load_dataset(name, raw_dir=raw_dir, split_index=3)
    assert (task.num_nodes, task.num_edges) == (nodes, edges)
    assert (task.in_feats, task.num_classes, task.num_splits) == (features, classes, 10)
    assert tuple(int(m.sum()) for m in (task.train_mask, task.val_mask, task.test_mask)) == split
    with np.load(raw_dir / "heterophilous" / f"{name}.npz") as file:
        assert np.array_equal(task.test_mask.numpy(), file["test_masks"][3])


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A small Minesweeper where DGL's raw files are."""
    save(tmp_path / "heterophilous" / "minesweeper.npz", heterophilous_arrays())
    monkeypatch.setenv("DGL_DOWNLOAD_DIR", str(tmp_path))
    return tmp_path


def test_the_first_split_is_the_default_and_options_load_it_again(small):
    task = load_dataset("minesweeper")
    assert task.options == {"split": "public", "split_index": 0}
    other = load_dataset("minesweeper", split_index=4)
    assert other.options == {"split": "public", "split_index": 4}
    again = load_dataset(other.name, **other.options)
    assert again.fingerprint == other.fingerprint != task.fingerprint
    assert other.data_fingerprint == task.data_fingerprint


def test_a_random_split_instead(small):
    task = load_dataset("minesweeper", split="random", split_seed=2)
    assert task.options == {"split": "random", "split_seed": 2}
    assert task.train_mask.dim() == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"split_index": 10}, r"split_index is 10, .* \(choices: 0\.\.9\)"),
        ({"split_index": -1}, r"split_index is -1, .* \(choices: 0\.\.9\)"),
        ({"split_index": 1, "split": "random"}, "drawn at random; leave it out, or say split_seed"),
        ({"split": "fixed"}, "there is no fixed split of it .there is of amazon_computers"),
        ({"split": "fixd"}, "split is 'fixd'; did you mean 'fixed'?"),
    ],
)
def test_splits_that_are_not_there(small, options, words):
    with pytest.raises(ConfigError, match=f"minesweeper: .*{words}"):
        load_dataset("minesweeper", **options)


def test_erased_features_are_those_of_the_split(small):
    tasks = [load_dataset("minesweeper", split_index=k, missing_rate=1.0) for k in (0, 1)]
    for task in tasks:
        assert torch.equal((task.feat != 0).any(dim=1), task.train_mask)
    assert not torch.equal(tasks[0].feat, tasks[1].feat)
    # The features as they came are what another split begins with.
    assert (tasks[0].with_split(1).feat != 0).any(dim=1).all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"edges": None}, "there is no array 'edges' .found: node_features, node_labels"),
        ({"edges": np.zeros((2, 3), int)}, r"edges must be \(E, 2\), but is \(2, 3\)"),
        ({"edges": np.array([[0, NUM_NODES]])}, "dst.0. is 40, but nodes are numbered 0..39"),
        ({"extra": np.zeros(3)}, "unknown array 'extra'"),
        ({"train_masks": np.zeros((9, NUM_NODES), bool)}, "different numbers of splits"),
        ({"train_masks": np.ones((10, NUM_NODES), bool)}, "train_mask and val_mask overlap on"),
        ({"train_masks": np.zeros((10, 3), bool)}, r"train_mask is \(10, 3\), but there are 40"),
        ({"node_labels": np.array([None] * NUM_NODES)}, "damaged, or not plain arrays"),
    ],
)
def test_faults(small, changes, words):
    save(small / "heterophilous" / "minesweeper.npz", heterophilous_arrays(**changes))
    with pytest.raises(DataError, match=f"minesweeper: .*{words}"):
        load_dataset("minesweeper")


def test_a_pipe_in_its_place_is_not_opened(small):
    path = small / "heterophilous" / "minesweeper.npz"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DataError, match="it is no regular file"):
        load_dataset("minesweeper")
