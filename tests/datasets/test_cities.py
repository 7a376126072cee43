"""Road networks: the real files where they are there, small ones of the same layout."""

import numpy as np
import pytest
from public_files import NUM_NODES, city_arrays, save

from lipzoo.datasets import load_dataset
from lipzoo.errors import DataError


@pytest.mark.parametrize("name", ["huangpu", "pasadena"])
def test_small_files_of_the_layout(tmp_path, name):
    save(tmp_path / "city_networks" / f"{name}.npz", city_arrays())
    task = load_dataset(name, raw_dir=tmp_path, split_seed=3)
    assert (task.num_nodes, task.num_classes) == (NUM_NODES, 10)
    # Both ways of each street, and none twice.
    assert task.num_edges == 2 * NUM_NODES
    src, dst = (ends.tolist() for ends in task.graph.edges())
    assert {*zip(src, dst)} == {*zip(dst, src)}
    assert [int(m.sum()) for m in (task.train_mask, task.val_mask, task.test_mask)] == [4, 4, 32]
    assert task.options == {"split": "random", "split_seed": 3}
    again = load_dataset(name, raw_dir=tmp_path, **task.options)
    assert again.fingerprint == task.fingerprint


def test_sizes_of_ones_own(tmp_path):
    save(tmp_path / "huangpu.npz", city_arrays())
    task = load_dataset("huangpu", raw_dir=tmp_path, train_per_class=2, num_test=10)
    assert [int(m.sum()) for m in (task.train_mask, task.test_mask)] == [20, 10]


@pytest.mark.parametrize(
    ("name", "nodes", "edges"), [("huangpu", 5268, 14_876), ("pasadena", 12_409, 32_744)]
)
def test_real_graphs(raw_dir, name, nodes, edges):
    task = load_dataset(name, raw_dir=raw_dir)
    assert (task.num_nodes, task.num_edges, task.in_feats) == (nodes, edges, 37)
    sizes = [int(m.sum()) for m in (task.train_mask, task.val_mask, task.test_mask)]
    assert sizes == [round(nodes / 10)] * 2 + [nodes - 2 * round(nodes / 10)]
    assert np.ptp(np.bincount(task.labels.numpy())) < 10  # tenths, the last a little smaller


def test_what_cannot_be_downloaded_says_how_to_make_it(tmp_path):
    with pytest.raises(DataError, match=r"huangpu: there is neither .*pickles.*docs/data\.md"):
        load_dataset("huangpu", raw_dir=tmp_path)
