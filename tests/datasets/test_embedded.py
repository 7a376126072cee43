import numpy as np
import pytest
import torch
from sklearn.neighbors import kneighbors_graph

from lipzoo.datasets import load_dataset
from lipzoo.datasets.embedded import neighbour_graph
from lipzoo.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "nodes", "features", "classes", "split"),
    [
        ("digits", 1797, 64, 10, (200, 500, 1097)),
        ("breast_cancer", 569, 30, 2, (40, 264, 265)),
        ("wine", 178, 13, 3, (60, 59, 59)),
        ("iris", 150, 4, 3, (60, 45, 45)),
    ],
)
def test_sizes(name, nodes, features, classes, split):
    task = load_dataset(name)
    assert (task.num_nodes, task.in_feats, task.num_classes) == (nodes, features, classes)
    assert tuple(int(m.sum()) for m in (task.train_mask, task.val_mask, task.test_mask)) == split
    assert task.options == {"k": 8, "split": "random", "split_seed": 0}
    src, dst = task.graph.edges()
    assert task.graph.has_edges_between(dst, src).all()
    assert not (src == dst).any()
    assert task.graph.in_degrees().min() >= 8


def test_digits_scale_and_homophily():
    task = load_dataset("digits")
    assert task.feat.min() == 0
    assert task.feat.max() == 1
    src, dst = task.graph.edges()
    assert (task.labels[src] == task.labels[dst]).float().mean() > 0.9


def test_the_same_graph_on_every_run_and_machine():
    # Pixels are whole numbers: no rounding comes into this one.
    assert (
        load_dataset("digits").fingerprint
        == "33184f0126b071660fd6e58707acac1f0db2c56cf55453634b693bbf2fbb8a3b"
    )


def test_k():
    few, many = load_dataset("iris", k=3), load_dataset("iris", k=20)
    assert few.num_edges < many.num_edges
    assert few.options["k"] == 3


@pytest.mark.parametrize("k", [0, 150])
def test_k_out_of_range(k):
    with pytest.raises(ConfigError, match=rf"iris: k is {k}, it must lie in 1\.\.149"):
        load_dataset("iris", k=k)


def test_neighbours_are_scikit_learns_where_there_are_no_ties():
    points = np.random.default_rng(0).normal(size=(60, 3))
    expected = kneighbors_graph(points, 5).toarray().astype(bool)
    src, dst = neighbour_graph(points, 5).edges()
    found = np.zeros((60, 60), dtype=bool)
    found[src, dst] = True
    assert np.array_equal(found, expected | expected.T)


def test_ties_go_to_the_lower_node_number():
    src, dst = neighbour_graph(np.array([[0.0], [1.0], [2.0], [3.0]]), 1).edges()
    assert sorted(zip(src.tolist(), dst.tolist())) == [
        (0, 1), (1, 0), (1, 2), (2, 1), (2, 3), (3, 2),
    ]  # fmt: skip
    assert torch.equal(src.unique(), torch.arange(4))
