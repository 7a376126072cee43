"""Features that stay in their file: the same results, in any type, and no copy of them."""

import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import lipzoo
from lipzoo._memory import anonymous_memory
from lipzoo.datasets import GraphTask, grown, load_dataset, save_npz
from lipzoo.datasets import parquet as parquet_module
from lipzoo.errors import DataError, LipzooError
from lipzoo.lipschitz import certify
from lipzoo.settings import FitSettings
from lipzoo.training import evaluate, fit, predict, predict_new
from lipzoo.training.batching import infer_sampled

N, F = 60, 5
TYPES = ["float32", "float16", "float64", "int8", "uint8", "int64"]


def arrays(dtype="float32", num_nodes=N, width=F):
    random = np.random.default_rng(0)
    label = np.arange(num_nodes) % 3
    feat = random.integers(0, 5, (num_nodes, width)) + 8 * (np.arange(width) % 3 == label[:, None])
    split = np.arange(num_nodes) % 4
    return {
        "src": random.integers(num_nodes, size=4 * num_nodes),
        "dst": random.integers(num_nodes, size=4 * num_nodes),
        "feat": feat.astype(dtype),
        "label": label,
        "train_mask": split < 2,
        "val_mask": split == 2,
        "test_mask": split == 3,
    }


def write(folder, content):
    folder.mkdir(exist_ok=True)
    for name, array in content.items():
        np.save(folder / f"{name}.npy", array)
    return folder


def model(task, **overrides):
    torch.manual_seed(0)
    sizes = {"in_feats": task.in_feats, "num_classes": 3, "hidden_feats": 4, "num_heads": 2}
    return lipzoo.create_model("gat_lip_2", **{**sizes, **overrides}).eval()


def is_mapped(tensor):
    """Whether a tensor lies in a mapping of a file."""
    place = tensor.data_ptr()
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, *rest = line.split(maxsplit=5)
        first, last = (int(end, 16) for end in span.split("-"))
        if first <= place < last:
            return len(rest) == 5 and rest[-1].strip().startswith("/")
    return False


@pytest.fixture
def plain(tmp_path):
    """The same data in memory."""
    np.savez(tmp_path / "plain.npz", **arrays())
    return load_dataset(tmp_path / "plain.npz")


# ---------------------------------------------------------------- the same results


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", TYPES)
def test_a_folder_of_arrays_is_the_archive_of_them(tmp_path, plain, dtype, order):
    content = arrays(dtype)
    content["feat"] = np.asarray(content["feat"], order=order)
    task = load_dataset(write(tmp_path / "mine", content))
    assert task.mapped
    assert is_mapped(task.stored_feat)
    assert str(task.stored_feat.dtype) == f"torch.{dtype}"
    assert task.in_feats == F
    assert task.feat.dtype == torch.float32
    assert torch.equal(task.feat, plain.feat)
    assert task.fingerprint == plain.fingerprint
    assert task.data_fingerprint == plain.data_fingerprint
    assert task.sparse_feat is None
    net = model(task)
    torch.testing.assert_close(predict(net, task), predict(net, plain))
    assert evaluate(net, task) == pytest.approx(evaluate(net, plain))


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_training_growing_sampling_and_certificates(tmp_path, plain, dtype):
    task = load_dataset(write(tmp_path / "mine", arrays(dtype)))
    net = model(task)
    one, other = (certify(net, each, iterations=3) for each in (task, plain))
    assert one.estimate == pytest.approx(other.estimate)
    torch.testing.assert_close(one.radii.radius, other.radii.radius)
    for options in ("full", {"name": "clusters", "parts": 4, "per_batch": 2}):
        settings = FitSettings.model_validate({"epochs": 2, "batching": options})
        nets = [model(plain).train() for _ in range(2)]
        for each, data in zip(nets, (task, plain)):
            torch.manual_seed(1)
            fit(each, data, settings)
        for a, b in zip(nets[0].parameters(), nets[1].parameters()):
            torch.testing.assert_close(a, b)
    new, edges = [[1.5] * F], [[0, 3], [N, N]]
    torch.testing.assert_close(grown(task, new, edges).feat, grown(plain, new, edges).feat)
    torch.testing.assert_close(
        predict_new(net, task, new, edges).proba, predict_new(net, plain, new, edges).proba
    )
    nodes = torch.tensor([3, 1, 3])
    torch.testing.assert_close(infer_sampled(net, task, nodes), infer_sampled(net, plain, nodes))
    save_npz(task, tmp_path / "saved.npz")
    assert load_dataset(tmp_path / "saved.npz").fingerprint == plain.fingerprint


def test_edge_features_keep_their_type(tmp_path):
    content = arrays("int8")
    content["edge_feat"] = np.random.default_rng(1).normal(size=(4 * N, 2)).astype("float32")
    task = load_dataset(write(tmp_path / "mine", content))
    net = model(task, edge_feats=2)
    whole = net(task.graph, task.feat)
    torch.testing.assert_close(net(task.graph, task.stored_feat), whole)
    with torch.no_grad():
        torch.testing.assert_close(net(task.graph, task.stored_feat), whole.detach())


def test_scaled_and_erased_features_are_in_memory(tmp_path, plain):
    folder = write(tmp_path / "mine", arrays("int8"))
    options = {"scaling": "standard", "missing_rate": 0.5}
    task = load_dataset(folder, **options)
    assert not task.mapped
    assert torch.equal(task.feat, load_dataset(tmp_path / "plain.npz", **options).feat)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_python_holds(tmp_path, plain, dtype):
    content = arrays(dtype)
    np.save(tmp_path / "feat.npy", content["feat"])
    feat = np.load(tmp_path / "feat.npy", mmap_mode="r")
    task = GraphTask.from_edges(
        np.stack([content["src"], content["dst"]]),
        {**content, "feat": feat} | {"src": content["label"], "dst": content["label"]},
        features=["feat"],
    )
    assert task.mapped
    assert is_mapped(task.stored_feat)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain.graph.ndata["feat"] = torch.from_numpy(feat)
    task = GraphTask.from_graph(plain.graph, mapped=True)
    assert is_mapped(task.stored_feat)
    assert task.validate().feat.dtype == torch.float32
    copied = GraphTask.from_graph(plain.graph)
    assert copied.stored_feat.dtype == torch.float32
    np.testing.assert_array_equal(task.feat, copied.feat)


# ---------------------------------------------------------------- tables


@pytest.fixture
def tables(tmp_path):
    """A folder of tables without features, and the features."""
    pd = pytest.importorskip("pandas")
    content, folder = arrays(), tmp_path / "tables"
    folder.mkdir()
    names = np.array([f"n{i}" for i in range(N)])
    split = np.array(["train", "train", "val", "test"])[np.arange(N) % 4]
    nodes = pd.DataFrame({"id": names, "label": content["label"], "split": split})
    ends = {"source": names[content["src"]], "target": names[content["dst"]]}
    pd.DataFrame(ends).to_csv(folder / "edges.csv", index=False)
    return folder, nodes, content["feat"]


def test_features_beside_a_table(tables, plain):
    folder, nodes, feat = tables
    nodes.to_csv(folder / "nodes.csv", index=False)
    np.save(folder / "feat.npy", feat.astype("int8"))
    task = load_dataset(folder)
    assert task.mapped
    assert task.node_ids[1] == "n1"
    assert task.fingerprint == plain.fingerprint
    with pytest.raises(DataError, match="names columns; keep one"):
        load_dataset(folder, features=["label"])
    nodes.assign(feat=1.0).to_csv(folder / "nodes.csv", index=False)
    with pytest.raises(DataError, match="has a column feat; keep one"):
        load_dataset(folder)
    nodes.to_csv(folder / "nodes.csv", index=False)
    np.save(folder / "feat.npy", feat[:-1])
    with pytest.raises(DataError, match=r"different numbers of rows .*id 60.*feat.npy 59"):
        load_dataset(folder)


@pytest.mark.parametrize("form", ["feat", "x", "columns", "chosen"])
def test_large_parquet_is_written_to_a_file_once(tables, plain, monkeypatch, form):
    pytest.importorskip("pyarrow")
    folder, nodes, feat = tables
    options = {}
    if form in ("feat", "x"):
        nodes[form] = list(feat)
        nodes["y" if form == "x" else "other"] = nodes.pop("label") if form == "x" else 1.0
    else:
        for place in range(F):
            nodes[f"f{place}"] = feat[:, place].astype("int16" if place else "float32")
        if form == "chosen":
            nodes["feat"] = "no number"
            options["features"] = [f"f{place}" for place in range(F)]
    nodes.to_parquet(folder / "nodes.parquet", row_group_size=7)
    small = load_dataset(folder, **options)
    assert not small.mapped
    assert small.fingerprint == plain.fingerprint
    monkeypatch.setattr(parquet_module, "_MAPPED_FROM", 4 * N * F)
    monkeypatch.setattr(parquet_module, "_ROWS_AT_ONCE", 11)
    with pytest.warns(UserWarning, match=r"Parquet cannot be mapped.*feat\.npy"):
        large = load_dataset(folder, **options)
    assert large.mapped
    assert is_mapped(large.stored_feat)
    assert large.node_ids == small.node_ids
    assert large.fingerprint == plain.fingerprint


def test_large_parquet_that_is_no_features(tables, monkeypatch):
    pytest.importorskip("pyarrow")
    monkeypatch.setattr(parquet_module, "_MAPPED_FROM", 1)
    folder, nodes, feat = tables
    lists = [list(map(float, row)) for row in feat]
    for change, words in (
        ({"feat": [*lists[:-1], [1.0]]}, "differ in length"),
        ({"feat": [*lists[:-1], None]}, "missing"),
        ({"feat": [*lists[:-1], [float("nan")] * F]}, "NaN or infinite on node 59"),
        ({"f": feat[:, 0], "g": "word"}, "no number"),
    ):
        nodes.assign(**change).to_parquet(folder / "nodes.parquet")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(DataError, match=words):
                load_dataset(folder)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("feat", "words"),
    [
        (np.ones((N, F), ">f4"), "must be one of"),
        (np.ones((N, F), "complex64"), "must be one of"),
        (np.array(["a"] * N), "must be one of"),
        (np.ones((N, F, 2), "float32"), "must be one of"),
        (np.ones((0, F), "float32"), "has no numbers"),
        (np.ones((N, 0), "float32"), "none of numbers|has no numbers"),
        (np.ones((N - 1, F), "float32"), "give it one row|59"),
        (np.full((N, F), np.nan, "float16"), "NaN or infinite on 60 nodes"),
        (np.full((N, F), 1e300), "NaN or infinite on 60 nodes"),
    ],
)
def test_features_that_are_none(tmp_path, feat, words):
    folder = write(tmp_path / "mine", {**arrays(), "feat": feat})
    with pytest.raises(DataError, match=words):
        load_dataset(folder)


def test_files_that_are_none(tmp_path):
    folder = write(tmp_path / "mine", arrays())
    whole = (folder / "feat.npy").read_bytes()
    for data in (b"", b"no array", whole[:-1], whole + b"0", whole[:80]):
        (folder / "feat.npy").write_bytes(data)
        with pytest.raises(DataError, match=r"feat\.npy"):
            load_dataset(folder)
    (folder / "feat.npy").unlink()
    with pytest.raises(DataError, match="no array 'feat'"):
        load_dataset(folder)
    (folder / "feat.npy").symlink_to("/dev/zero")
    with pytest.raises(LipzooError):
        load_dataset(folder)
    (folder / "feat.npy").unlink()
    np.save(folder / "feat.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(DataError, match=r"feat\.npy"):
        load_dataset(folder)
    write(folder, {**arrays(), "labels": np.zeros(N)})
    with pytest.raises(DataError, match=r"unknown array 'labels'.*'label'"):
        load_dataset(folder)


def test_one_number_a_node_and_no_edges(tmp_path):
    content = {"src": np.empty(0, int), "dst": np.empty(0, int), "feat": np.arange(3, dtype="i1")}
    task = load_dataset(write(tmp_path / "mine", content), require_labels=False)
    assert task.mapped
    assert task.in_feats == 1
    assert predict(model(task), task).shape == (3, 3)


# ---------------------------------------------------------------- memory


class Peak:
    """The most anonymous memory of the process meanwhile, above what it had before."""

    def __enter__(self):
        self.before = self.most = anonymous_memory()
        self.is_over = threading.Event()
        self.thread = threading.Thread(target=self._look)
        self.thread.start()
        return self

    def _look(self):
        while not self.is_over.wait(0.001):
            self.most = max(self.most, anonymous_memory())

    def __exit__(self, *error):
        self.is_over.set()
        self.thread.join()
        self.rise = self.most - self.before


@pytest.mark.skipif(anonymous_memory() is None, reason="Linux says what is anonymous")
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_no_copy_of_the_features_is_held(tmp_path, dtype):
    num_nodes, width = 100_000, 1024
    content = arrays("int8", num_nodes, 1)
    content |= {"src": np.arange(10), "dst": np.arange(10)}
    content["feat"] = np.ones((num_nodes, width), dtype)
    folder = write(tmp_path / "large", content)
    del content
    sizes = {"hidden_feats": 4, "num_heads": 1, "num_layers": 1}
    net = model(load_dataset(folder), **sizes)
    evaluate(net, load_dataset(folder))  # what is imported and compiled at first
    with Peak() as peak:
        task = load_dataset(folder)
        evaluate(net, task)
        predict(net, task)
        assert task.fingerprint
    assert peak.rise < num_nodes * width * 4 / 4  # a quarter of them in 32 bits
