"""The real graphs where they are there, and small files of the same layout for the others."""

import hashlib
import io
import json
import pickle
import shutil
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from loopback import file_server, quick_downloads

from lipzoo._dgl import dgl
from lipzoo.datasets import load_dataset
from lipzoo.errors import ConfigError, DataError


def folder_of(root, name, url="https://data.dgl.ai/"):
    """Where DGL looks for a dataset's raw files."""
    suffix = hashlib.sha1(f"{url}dataset/{name}.zip".encode()).hexdigest()[:8]
    folder = root / f"{name}_{suffix}"
    folder.mkdir(parents=True)
    return folder


def listing(folder):
    return sorted(str(path) for path in folder.rglob("*"))


@pytest.mark.parametrize(
    ("name", "nodes", "edges", "features", "classes", "split"),
    [
        ("cora", 2708, 10556, 1433, 7, (140, 500, 1000)),
        ("citeseer", 3327, 9228, 3703, 6, (120, 500, 1000)),
        ("amazon_computers", 13752, 491722, 767, 10, (200, 300, 13252)),
        ("coauthor_cs", 18333, 163788, 6805, 15, (300, 450, 17583)),
        pytest.param(
            "coauthor_physics", 34493, 495924, 8415, 5, (100, 150, 34243), marks=pytest.mark.slow
        ),
    ],
)
def test_real_graphs(raw_dir, name, nodes, edges, features, classes, split, capsys):
    task = load_dataset(name, raw_dir=raw_dir)
    assert (task.num_nodes, task.num_edges) == (nodes, edges)
    assert (task.in_feats, task.num_classes) == (features, classes)
    assert tuple(int(m.sum()) for m in (task.train_mask, task.val_mask, task.test_mask)) == split
    assert task.options["split"] == ("public" if name in ("cora", "citeseer") else "random")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "archive", "theirs"),
    [
        ("cora", "cora_v2", dgl.data.CoraGraphDataset),
        ("citeseer", "citeseer", dgl.data.CiteseerGraphDataset),
    ],
)
def test_citations_are_what_dgl_gives(raw_dir, tmp_path, monkeypatch, name, archive, theirs):
    folder = next(raw_dir.glob(f"{archive}_*"))
    shutil.copytree(folder, tmp_path / folder.name, copy_function=shutil.copyfile)
    (tmp_path / folder.name).chmod(0o755)
    expected = theirs(raw_dir=str(tmp_path), verbose=False)[0]
    monkeypatch.setenv("DGL_DOWNLOAD_DIR", str(raw_dir))
    task = load_dataset(name)
    for column in ("feat", "label", "train_mask", "val_mask", "test_mask"):
        assert torch.equal(task.graph.ndata[column], expected.ndata[column])
    assert torch.equal(torch.stack(task.graph.edges()), torch.stack(expected.edges()))


def test_shopping_is_what_dgl_gives(raw_dir):
    """But for the numbers of the nodes: see `lipzoo.datasets.public`."""

    class InFileOrder(dgl.data.AmazonCoBuyPhotoDataset):
        def has_cache(self):
            return False

        def save(self):
            pass

        def process(self):
            graph = self._load_npz(f"{self.raw_path}/{self.name}.npz")
            self._graph = dgl.reorder_graph(
                graph, node_permute_algo=None, edge_permute_algo="dst", store_ids=False
            )

    expected = InFileOrder(raw_dir=str(raw_dir))[0]
    graph = load_dataset("amazon_photo", raw_dir=raw_dir).graph
    for column in ("feat", "label"):
        assert torch.equal(graph.ndata[column], expected.ndata[column])
    assert torch.equal(torch.stack(graph.edges()), torch.stack(expected.edges()))


def test_a_random_split_of_cora(raw_dir):
    one, other = (
        load_dataset("cora", raw_dir=raw_dir, split="random", num_test=1000, split_seed=seed)
        for seed in (1, 2)
    )
    assert int(one.train_mask.sum()) == 140
    assert not torch.equal(one.train_mask, other.train_mask)
    assert one.options == {"split": "random", "num_test": 1000, "split_seed": 1}


def test_pubmed_of_the_same_layout(tmp_path):
    rng = np.random.default_rng(0)
    num_train, num_all, num_test, num_words = 9, 560, 40, 12
    words = sp.random(num_all + num_test, num_words, density=0.5, format="csr", random_state=0)
    labels = np.eye(3, dtype=np.int32)[rng.integers(0, 3, num_all + num_test)]
    test_index = num_all + rng.permutation(num_test)
    neighbours = {node: [(node + 1) % (num_all + num_test)] for node in range(num_all + num_test)}
    parts = {
        "x": words[:num_train],
        "y": labels[:num_train],
        "allx": words[:num_all],
        "ally": labels[:num_all],
        "tx": words[num_all:],
        "ty": labels[num_all:],
        "graph": neighbours,
    }
    folder = folder_of(tmp_path, "pubmed")
    for part, content in parts.items():
        (folder / f"ind.pubmed.{part}").write_bytes(pickle.dumps(content))
    (folder / "ind.pubmed.test.index").write_text("\n".join(map(str, test_index)))
    before = listing(tmp_path)

    task = load_dataset("pubmed", raw_dir=tmp_path)
    assert (task.num_nodes, task.num_edges, task.in_feats, task.num_classes) == (600, 1200, 12, 3)
    assert task.test_mask.nonzero().flatten().tolist() == list(range(560, 600))
    # Row i of tx belongs to the node that line i of test.index names.
    assert task.labels[test_index].tolist() == labels[num_all:].argmax(axis=1).tolist()
    assert listing(tmp_path) == before


def test_amazon_photo_of_the_same_layout(tmp_path):
    num_nodes = 8 * 60
    ring = sp.csr_matrix(np.roll(np.eye(num_nodes, dtype=np.float32), 1, axis=1))
    words = sp.random(num_nodes, 5, density=0.5, format="csr", random_state=0, dtype=np.float32)
    parts = {}
    for prefix, matrix in (("adj", ring), ("attr", words)):
        parts |= {f"{prefix}_{key}": getattr(matrix, key) for key in ("data", "indices", "indptr")}
        parts[f"{prefix}_shape"] = matrix.shape
    folder = folder_of(tmp_path, "amazon_co_buy_photo")
    np.savez(folder / "amazon_co_buy_photo.npz", labels=np.arange(num_nodes) % 8, **parts)
    before = listing(tmp_path)

    task = load_dataset("amazon_photo", raw_dir=tmp_path, split_seed=5)
    assert (task.num_nodes, task.num_edges, task.num_classes) == (480, 960, 8)
    assert [int(m.sum()) for m in (task.train_mask, task.val_mask, task.test_mask)] == [
        160,
        240,
        80,
    ]
    # DGL numbers nodes anew; published splits name them as the file does.
    assert torch.equal(task.feat, torch.from_numpy(words.toarray()))
    assert task.labels.tolist() == [node % 8 for node in range(num_nodes)]
    src, dst = task.graph.edges()
    assert set(((dst - src) % num_nodes).tolist()) == {1, num_nodes - 1}
    assert listing(tmp_path) == before


@pytest.fixture
def ppi_dir(tmp_path):
    """Two graphs of 3 nodes to train on, one each to validate and test; an edge crosses two."""
    folder = folder_of(tmp_path, "ppi")
    rng = np.random.default_rng(0)
    for mode, graph_ids in (("train", [1, 1, 1, 2, 2, 2]), ("valid", [21] * 3), ("test", [23] * 3)):
        links = [(0, 1), (1, 2), (2, 2)] + ([(2, 3), (3, 4)] if mode == "train" else [])
        structure = {
            "directed": False,
            "multigraph": False,
            "graph": {},
            "nodes": [{"id": node} for node in range(len(graph_ids))],
            "links": [{"source": source, "target": target} for source, target in links],
        }
        (folder / f"{mode}_graph.json").write_text(json.dumps(structure))
        np.save(folder / f"{mode}_feats.npy", rng.normal(size=(len(graph_ids), 50)))
        np.save(folder / f"{mode}_labels.npy", rng.integers(0, 2, (len(graph_ids), 121)))
        np.save(folder / f"{mode}_graph_id.npy", np.array(graph_ids))
    return tmp_path


def test_ppi_of_the_same_layout(ppi_dir):
    before = listing(ppi_dir)
    task = load_dataset("ppi", raw_dir=ppi_dir)
    assert (task.num_nodes, task.in_feats, task.num_classes) == (12, 50, 121)
    assert (task.multilabel, task.metric) == (True, "micro_f1")
    assert task.graph.batch_num_nodes().tolist() == [3, 3, 3, 3]
    # Both directions of an undirected edge, a self-loop once, none between two graphs.
    assert task.graph.batch_num_edges().tolist() == [5, 2, 5, 5]
    assert task.train_mask.tolist() == [True] * 6 + [False] * 6
    assert task.test_mask.tolist() == [False] * 9 + [True] * 3
    assert listing(ppi_dir) == before


def test_ppi_is_what_dgl_gives(ppi_dir, monkeypatch):
    networkx = pytest.importorskip("networkx")
    read = networkx.node_link_graph
    monkeypatch.setattr(
        dgl.data.ppi.json_graph, "node_link_graph", lambda data: read(data, edges="links")
    )
    task = load_dataset("ppi", raw_dir=ppi_dir)
    theirs = dgl.data.PPIDataset("train", raw_dir=str(ppi_dir))
    # DGL asks for graphs 1 to 20, of which 3 to 20 are empty here.
    for mine, graph in zip(dgl.unbatch(task.graph)[:2], theirs):
        assert set(zip(*map(torch.Tensor.tolist, mine.edges()))) == set(
            zip(*map(torch.Tensor.tolist, graph.edges()))
        )
        assert torch.equal(mine.ndata["feat"], graph.ndata["feat"])
        assert torch.equal(mine.ndata["label"], graph.ndata["label"])


def test_a_public_split_is_asked_of_a_graph_that_has_none(raw_dir):
    with pytest.raises(ConfigError, match="amazon_computers: there is no public split"):
        load_dataset("amazon_computers", raw_dir=raw_dir, split="public")


def test_raw_files_that_are_damaged(tmp_path):
    folder_of(tmp_path, "pubmed")
    with pytest.raises(DataError, match=r"pubmed: its raw files under .* cannot be read") as caught:
        load_dataset("pubmed", raw_dir=tmp_path)
    assert "\n" not in str(caught.value)


class Harmful:
    def __reduce__(self):
        return eval, ("open('/tmp/harm', 'w')",)


@pytest.mark.parametrize(
    ("part", "content", "words"),
    [
        ("graph", Harmful(), "builtins.eval is not unpickled"),
        ("graph", {0: [10**6]}, "names nodes outside of"),
        ("graph", {0: ["b"]}, "neither arrays nor lists"),
        ("y", np.array([["a"]], dtype=object), "no numbers"),
        ("tx", sp.csr_matrix(np.ones((3, 9))), "of different graphs"),
        ("allx", np.ones((3, 9)), "expected CSR matrices"),
    ],
)
def test_pickles_that_do_not_fit(raw_dir, tmp_path, part, content, words):
    folder = next(raw_dir.glob("cora_v2_*"))
    shutil.copytree(folder, tmp_path / folder.name, copy_function=shutil.copyfile)
    (tmp_path / folder.name).chmod(0o755)
    (tmp_path / folder.name / f"ind.cora_v2.{part}").write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match=words) as caught:
        load_dataset("cora", raw_dir=tmp_path)
    assert "\n" not in str(caught.value)


def test_absent_files_and_no_network(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("DGL_REPO", "http://127.0.0.1:9/")
    with pytest.raises(DataError) as caught:
        load_dataset("citeseer", raw_dir=tmp_path / "raw")
    message = str(caught.value)
    assert f"citeseer: there is no folder {tmp_path}/raw/citeseer_" in message
    assert "DGL_DOWNLOAD_DIR" in message
    assert "\n" not in message
    assert not (tmp_path / "raw").exists()
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def mirror(ppi_dir, tmp_path, monkeypatch):
    """A server of the archive of ``"ppi"``, which ``DGL_REPO`` names."""
    quick_downloads(monkeypatch, tmp_path / "home")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for file in next(ppi_dir.glob("ppi_*")).iterdir():
            archive.write(file, file.name)
    with file_server() as server:
        server.files[PPI] = content.getvalue()
        monkeypatch.setenv("DGL_REPO", server.url)
        yield server


PPI = "/dataset/ppi.zip"


def fetched(server):
    return server.log.count_of("GET", "ppi.zip", 200)


def test_download(mirror, tmp_path, capfd):
    raw = tmp_path / "fresh"
    assert load_dataset("ppi", raw_dir=raw).num_nodes == 12
    (folder,) = raw.iterdir()
    assert len(list(folder.iterdir())) == 12
    assert not list((tmp_path / "home").rglob("*.part")), "the archive is gone"
    load_dataset("ppi", raw_dir=raw)
    assert fetched(mirror) == 1
    assert capfd.readouterr() == ("", "")


def test_a_download_that_breaks_off_is_gone_on_with(mirror, tmp_path):
    size = len(mirror.files[PPI])
    mirror.cuts[PPI] = [size // 2, 0, 0, 0]
    with pytest.raises(DataError, match=r"there is no folder .* the next call goes on .*raw_dir"):
        load_dataset("ppi", raw_dir=tmp_path / "fresh")
    assert not (tmp_path / "fresh").exists()
    mirror.log.clear()
    assert load_dataset("ppi", raw_dir=tmp_path / "fresh").num_nodes == 12
    assert [status for _, _, status in mirror.log] == [206], "the rest of it"


def test_several_at_once_fetch_once(mirror, tmp_path):
    mirror.pause = 0.02  # so that all have begun before one is done
    raw = tmp_path / "fresh"
    with ThreadPoolExecutor(4) as pool:
        tasks = list(pool.map(lambda _: load_dataset("ppi", raw_dir=raw), range(4)))
    assert {task.num_nodes for task in tasks} == {12}
    assert fetched(mirror) == 1
    assert len(list(raw.iterdir())) == 1


def test_a_folder_that_appears_meanwhile_is_taken(mirror, ppi_dir, tmp_path, monkeypatch):
    """As where DGL fetches it, too, which knows nothing of our lock."""
    [theirs] = ppi_dir.glob("ppi_*")
    name = f"ppi_{hashlib.sha1(f'{mirror.url}{PPI}'.encode()).hexdigest()[:8]}"

    def extract(archive, path):
        shutil.copytree(theirs, tmp_path / "fresh" / name)
        path.mkdir()

    monkeypatch.setattr(zipfile.ZipFile, "extractall", extract)
    assert load_dataset("ppi", raw_dir=tmp_path / "fresh").num_nodes == 12


def test_without_a_network_nothing_is_fetched(mirror, tmp_path, monkeypatch):
    monkeypatch.setenv("LIPZOO_OFFLINE", "1")
    words = r"ppi: there is no folder .*fetched before, and the network is forbidden .*DGL_DOWNLOAD"
    with pytest.raises(DataError, match=words):
        load_dataset("ppi", raw_dir=tmp_path / "fresh")
    assert not mirror.log
    assert not (tmp_path / "fresh").exists()


def test_a_download_that_is_no_archive_leaves_nothing(mirror, tmp_path):
    mirror.files[PPI] = b"<html>not found</html>"
    with pytest.raises(DataError, match="not a zip file"):
        load_dataset("ppi", raw_dir=tmp_path / "fresh")
    assert not list((tmp_path / "fresh").iterdir())
    assert not list((tmp_path / "home").rglob("*.part"))


@pytest.mark.parametrize("file", ["feats", "labels", "graph_id"])
@pytest.mark.parametrize("change", ["longer", "shorter", "flat"])
def test_ppi_of_other_sizes(ppi_dir, file, change):
    """DGL's C++ code ends the process where a node's number is none."""
    path = next(ppi_dir.glob(f"ppi_*/train_{file}.npy"))
    array = np.load(path)
    array = {
        "longer": np.concatenate([array, array]),
        "shorter": array[:-1],
        "flat": array.reshape(-1, 1) if file == "graph_id" else array.reshape(-1),
    }[change]
    np.save(path, array)
    with pytest.raises(DataError, match=r"ppi: .*train_"):
        load_dataset("ppi", raw_dir=ppi_dir)


@pytest.mark.parametrize("node", [-1, -(2**40), 10**6, 2**62])
def test_ppi_with_links_to_no_node(ppi_dir, node):
    path = next(ppi_dir.glob("ppi_*/train_graph.json"))
    content = json.loads(path.read_text())
    content["links"][0]["target"] = node
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"train_graph.json links the nodes"):
        load_dataset("ppi", raw_dir=ppi_dir)


@pytest.mark.parametrize(
    ("name", "stem"), [("amazon_photo", "amazon_co_buy_photo"), ("coauthor_cs", "coauthor_cs")]
)
def test_published_splits_name_the_nodes_of_the_file(raw_dir, name, stem):
    task = load_dataset(name, raw_dir=raw_dir, split="fixed")
    with np.load(next(raw_dir.glob(f"{stem}_*/{stem}.npz"))) as file:
        labels = file["labels"]
        counts = np.diff(file["attr_indptr"])
    assert task.labels.tolist() == labels.tolist()
    assert (task.feat != 0).sum(1).tolist() == counts.tolist()
    with np.load(raw_dir / "splits" / f"{name.replace('_', '-')}_split.npz") as file:
        assert task.train_mask.nonzero().flatten().tolist() == sorted(file["train"].tolist())
