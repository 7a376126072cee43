"""Road networks: the real files where they are there, small ones of the same layout."""

import numpy as np
import pytest
from public_files import NUM_NODES, city_arrays, save

from lipzoo.datasets import load_dataset
from lipzoo.datasets.cities import eccentricities, tenths
from lipzoo.errors import ConfigError, DataError


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
    assert task.options == {"split": "random", "split_seed": 3, "hops": 16}
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


def test_eccentricities_written_out():
    """0 -> 1 -> 2 -> 3, a way back 3 -> 0, and a shorter second edge 0 -> 1."""
    src, dst = np.array([0, 1, 2, 3, 0]), np.array([1, 2, 3, 0, 1])
    length = np.array([9.0, 2.0, 4.0, 10.0, 1.0])
    # Within one hop of 0 lies 3, 10 away; of 1: 0, and of the two edges the last counts.
    assert eccentricities(src, dst, length, 4, 1).tolist() == [10, 1, 2, 4]
    # Two hops: {0, 3, 2}, {1, 0, 3}, {2, 1, 0}, {3, 2, 1}.
    assert eccentricities(src, dst, length, 4, 2).tolist() == [14, 11, 3, 6]
    # All: the ways may go against the edges, 0 - 1 - 2 - 3 is 7 long.
    assert eccentricities(src, dst, length, 4, 9).tolist() == [7, 6, 4, 7]
    # Both ways of one street, of two lengths: each step has that of its own direction.
    ways = np.array([0, 1]), np.array([1, 0]), np.array([5.0, 7.0])
    assert eccentricities(*ways, 2, 1).tolist() == [7, 5]
    assert eccentricities(src[:1], dst[:1], length[:1], 3, 4).tolist() == [0, 9, 0]


def test_tenths():
    assert tenths(np.array([5.0, 1.0, 3.0])).tolist() == [2, 0, 1]
    assert tenths(np.arange(8, 0, -1.0)).tolist() == [7, 6, 5, 4, 3, 2, 1, 0]
    assert tenths(np.zeros(20)).tolist() == [r for r in range(10) for _ in "ab"]


def test_labels_of_other_hops(tmp_path):
    save(tmp_path / "huangpu.npz", city_arrays())
    near, stored = (load_dataset("huangpu", raw_dir=tmp_path, hops=h) for h in (3, 16))
    assert near.options["hops"] == 3
    assert near.fingerprint != stored.fingerprint
    arrays = city_arrays()
    found = eccentricities(arrays["src"], arrays["dst"], arrays["edge_length"], NUM_NODES, 3)
    assert near.labels.tolist() == tenths(found).tolist()
    again = load_dataset("huangpu", raw_dir=tmp_path, **near.options)
    assert again.fingerprint == near.fingerprint
    for hops in (0, 1.5, True, "8", 10**9):
        with pytest.raises(ConfigError, match="huangpu: hops"):
            load_dataset("huangpu", raw_dir=tmp_path, hops=hops)
    for length in (np.full(41, -1.0), np.full(41, np.nan), np.full(41, np.inf), np.ones(3)):
        save(tmp_path / "huangpu.npz", city_arrays(edge_length=length.astype(np.float32)))
        with pytest.raises(DataError, match=r"huangpu\.npz: .*edge_length"):
            load_dataset("huangpu", raw_dir=tmp_path, hops=3)
    for length in (np.full(41, "3 m"), np.full(41, True), np.full(41, 1j)):
        save(tmp_path / "huangpu.npz", city_arrays(edge_length=length))
        with pytest.raises(DataError, match=r"huangpu\.npz: .*edge_length"):
            load_dataset("huangpu", raw_dir=tmp_path, hops=3)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "share"), [("huangpu", 0.995), ("pasadena", 0.991)])
def test_the_stored_labels_come_out(raw_dir, name, share):
    with np.load(raw_dir / f"city_networks/{name}.npz") as file:
        arrays = dict(file)
    parts = [arrays[key] for key in ("src", "dst", "edge_length")]
    found = eccentricities(*parts, len(arrays["label"]), 16)
    stored = arrays["eccentricity_16"]
    assert np.isclose(found, stored, rtol=1e-4).mean() > 0.97
    assert (tenths(stored) == arrays["label"]).all()
    assert (tenths(found) == arrays["label"]).mean() > share
