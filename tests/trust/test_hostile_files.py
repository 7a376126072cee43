"""Files made to do harm, by hand: each was a crash, a hang or gigabytes once."""

import hashlib
import io
import os
import struct
import time
import zipfile

import numpy as np
import pytest
import torch
from checkpoints import card, small_model
from trust.kinds import ARRAYS, CSR, CSV
from trust.limits import bounded_memory

import lipzoo
from lipzoo._dgl import dgl
from lipzoo.datasets.bin_file import read_bin
from lipzoo.errors import CheckpointError, ConfigError, DataError
from lipzoo.weights import write_checkpoint


def refusal(read, path, kind=DataError, room=2**28):
    """The words of it, with little memory and little time."""
    begun = time.monotonic()
    with bounded_memory(room), pytest.raises(kind) as caught:
        read(path)
    assert time.monotonic() - begun < 10
    words = str(caught.value)
    assert "\n" not in words
    assert len(words) < 2000
    return words


# ------------------------------------------------------------------------ .bin


def bin_with(tmp_path, idtype, old, new):
    """A graph as CSC with one of its arrays replaced."""
    graph = dgl.graph((torch.tensor([1, 2, 3, 0]), torch.tensor([0, 1, 2, 3])), idtype=idtype)
    graph.ndata["feat"] = torch.ones(4, 2)
    graph.ndata["label"] = torch.tensor([0, 1, 0, 1])
    path = tmp_path / "x.bin"
    dgl.save_graphs(str(path), [graph.formats("csc")])
    form = f"<{len(old)}{'q' if idtype == torch.int64 else 'i'}"
    data, old = path.read_bytes(), struct.pack(form, *old)
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, struct.pack(form, *new)))
    return path


@pytest.mark.parametrize("idtype", [torch.int64, torch.int32])
@pytest.mark.parametrize(
    "indptr",
    [
        (0, "max", "min", -1, 4),  # each difference wraps around to something that is >= 0
        (0, "max", "min", 3, 4),
        (0, "max", "max", "max", 4),
        (0, -1, 2, 3, 4),
        (0, 5, 5, 5, 5),
        ("min", 1, 2, 3, 4),
        (0, 3, 2, 3, 4),
    ],
)
def test_a_compressed_list_that_wraps_around(tmp_path, idtype, indptr):
    ends = {"max": torch.iinfo(idtype).max, "min": torch.iinfo(idtype).min}
    indptr = [ends.get(each, each) for each in indptr]
    path = bin_with(tmp_path, idtype, (0, 1, 2, 3, 4), indptr)
    assert "does not add up" in refusal(read_bin, path)


def test_numbers_that_no_int64_holds(tmp_path):
    graph = dgl.graph((torch.tensor([0]), torch.tensor([1])))
    graph.ndata["feat"] = torch.ones(2, 1)
    graph.ndata["label"] = torch.tensor([7777, 2])
    path = tmp_path / "x.bin"
    dgl.save_graphs(str(path), [graph])
    data = path.read_bytes()
    place = data.index(struct.pack("<q", 7777))
    head = data.rindex(struct.pack("<iiBBH", 0, 1, 0, 64, 1)[4:], 0, place)
    data = bytearray(data.replace(struct.pack("<q", 7777), struct.pack("<Q", 2**64 - 2)))
    data[head + 4] = 1  # unsigned
    path.write_bytes(data)
    assert "too large for int64" in refusal(read_bin, path)


def test_as_many_classes_as_nodes_take_no_time(tmp_path):
    """One pass over the labels a class would be 10^10 steps."""
    count = 100_000
    np.savez(
        tmp_path / "x.npz",
        src=np.arange(2),
        dst=np.arange(2),
        feat=np.ones((count, 1), np.float32),
        label=np.arange(count),
    )
    assert "labelled nodes remain" in refusal(lipzoo.load_dataset, tmp_path / "x.npz", room=2**30)


# ------------------------------------------------------------------------ .npz


def npz_with(tmp_path, **changes):
    arrays = {key: value for key, value in {**ARRAYS, **changes}.items() if value is not None}
    np.savez_compressed(tmp_path / "x.npz", **arrays)
    return tmp_path / "x.npz"


@pytest.mark.parametrize(
    "shape",
    [(4, 2**28), (4, 2**27), (30, 2**40), (30, 2**62), (30, 2**63 - 1), (2**62, 4), (-1, 4)],
)
def test_sparse_features_of_a_claimed_size(tmp_path, shape):
    rows = shape[0] if 0 < shape[0] < 100 else 30
    empty = {
        "feat_data": np.zeros(0, np.float32),
        "feat_indices": np.zeros(0, np.int64),
        "feat_indptr": np.zeros(rows + 1, np.int64),
        "feat_shape": np.array(shape),
    }
    path = npz_with(tmp_path, **{**CSR, **empty})
    assert path.stat().st_size < 5000
    assert "entries, and written out a file of this size may have" in refusal(read_path, path)


def read_path(path):
    return lipzoo.load_dataset(path)


def test_sparse_features_take_one_copy(tmp_path):
    """240 MB, which 1.4 KB may claim, fit into 600 MB with all that is done to them."""
    indptr = np.zeros(31, np.int64)
    shape = np.array([30, 2 * 10**6])
    changes = {"feat_data": np.zeros(0), "feat_indices": np.zeros(0, int), "feat_indptr": indptr}
    path = npz_with(tmp_path, **{**CSR, **changes, "feat_shape": shape})
    with bounded_memory(600 * 2**20):
        assert read_path(path).in_feats == 2 * 10**6


@pytest.mark.parametrize("key", ["src", "label", "train_mask"])
def test_many_small_numbers_become_large_ones(tmp_path, key):
    """60 MB of zeros in one byte each are 60 KB of a file, and 480 MB as int64."""
    path = npz_with(tmp_path, **{key: np.zeros(60 * 10**6, np.uint8)})
    assert "numbers, and there may be" in refusal(read_path, path)


def test_a_header_of_gigabytes(tmp_path):
    path = tmp_path / "x.npz"
    head = b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**29)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file, file.open("src.npy", "w") as to:
        to.write(head)
        for _ in range(2**9):
            to.write(b" " * 2**20)
    assert "the arrays are too many times as large as the file" in refusal(read_path, path)


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_other_compressions_are_not_taken(tmp_path, method):
    target = io.BytesIO()
    np.save(target, np.arange(30))
    with zipfile.ZipFile(tmp_path / "x.npz", "w", method) as file:
        file.writestr("src.npy", target.getvalue())
    assert "compressed in another way" in refusal(read_path, tmp_path / "x.npz")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"label": np.full(30, 2**31)}, "labels must lie in 0..2"),
        ({"label": np.full(30, 2**31), "num_classes": None}, "classes, and lipzoo takes"),
        ({"label": np.full(30, 2**63, np.uint64)}, "too large for int64"),
        ({"num_classes": np.array(2**40)}, "classes, and lipzoo takes"),
        ({"num_classes": np.array(2**64 - 1, np.uint64)}, "must be one whole number"),
        ({"num_nodes": np.array(2**62)}, "but there are"),
        ({"src": np.full(30, 2**63 + 5, np.uint64)}, "nodes are numbered"),
        ({"src": np.full(30, np.nan)}, "holds node numbers"),
        ({"src": np.zeros(0, "<U3"), "dst": np.zeros(0, "<U3")}, "holds node numbers"),
        ({"feat": np.full((30, 2), 1e300)}, "NaN or infinite"),
        ({"label": np.full(30, 1e300)}, "number the classes"),
        ({"label": np.full(30, np.nan)}, "number the classes"),
        ({**CSR, "feat_indices": np.full(30, 2**63, np.uint64)}, "feat_indices must lie in"),
        ({**CSR, "feat_indptr": np.array([0, 2**63, *[30] * 29], np.uint64)}, "does not rise"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_numbers_that_are_out_of_all_range(tmp_path, changes, words):
    assert words in refusal(read_path, npz_with(tmp_path, **changes))


# ------------------------------------------------------------------------ links


SECRET = "root:x:0:0:hidden"


@pytest.fixture
def outside(tmp_path):
    """What no message may repeat."""
    (tmp_path / "secret").write_text(SECRET + "\n" + SECRET)
    return {
        "file": tmp_path / "secret",
        "device": "/dev/zero",
        "pipe": pipe(tmp_path / "pipe"),
        "folder": tmp_path,
        "nothing": tmp_path / "absent",
        "system": "/proc/self/environ",
    }


def pipe(path):
    os.mkfifo(path)
    return path


TARGETS = ["file", "device", "pipe", "folder", "nothing", "system"]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["meta.yaml", "nodes.csv", "edges.csv"])
def test_a_csv_folder_with_a_link(tmp_path, outside, name, target):
    folder = tmp_path / "mine"
    folder.mkdir()
    for each, data in CSV.items():
        (folder / each).write_bytes(data)
    (folder / name).unlink()
    (folder / name).symlink_to(outside[target])
    words = refusal(read_path, folder)
    assert "hidden" not in words


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["card.yaml", "model.safetensors", "waiting weights"])
def test_a_checkpoint_with_a_link(tmp_path, outside, name, target):
    folder = write_checkpoint(tmp_path / "x", small_model(), card())
    if name == "waiting weights":
        digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
        name = f".model.safetensors.{digest}.new"
        (folder / "model.safetensors").rename(folder / name)
    (folder / name).unlink()
    (folder / name).symlink_to(outside[target])
    words = refusal(lipzoo.load_pretrained, folder, CheckpointError)
    assert "hidden" not in words
    assert "sha256" not in words, "what is outside is not even hashed"


@pytest.mark.parametrize("target", TARGETS)
def test_a_folder_of_architectures_with_a_link(tmp_path, outside, target):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "evil.yaml").symlink_to(outside[target])
    words = refusal(lipzoo.add_config_dir, folder, ConfigError)
    assert "hidden" not in words


@pytest.mark.parametrize("name", ["x.npz", "x.bin", "x.dgl"])
@pytest.mark.parametrize("target", ["device", "pipe", "folder", "system", "file"])
def test_a_graph_file_that_is_none(tmp_path, outside, name, target):
    (tmp_path / name).symlink_to(outside[target])
    assert "hidden" not in refusal(read_path, tmp_path / name)


def test_what_the_user_names_may_be_a_link(tmp_path):
    npz_with(tmp_path)
    (tmp_path / "link.npz").symlink_to("x.npz")
    assert read_path(tmp_path / "link.npz").num_nodes == 30
    write_checkpoint(tmp_path / "weights", small_model(), card())
    (tmp_path / "here").symlink_to("weights")
    lipzoo.load_pretrained(tmp_path / "here")


def test_raw_files_with_a_link(tmp_path, outside):
    folder = tmp_path / "raw" / "cora_v2_d697a464"
    folder.mkdir(parents=True)
    (folder / "ind.cora_v2.x").symlink_to(outside["pipe"])
    assert "cannot be read" in refusal(
        lambda path: lipzoo.load_dataset("cora", raw_dir=path), tmp_path / "raw"
    )
