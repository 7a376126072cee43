import csv
import errno
import struct
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from lipzoo._dgl import dgl
from lipzoo.datasets import GraphTask, load_dataset, load_graph, save_npz
from lipzoo.datasets.bin_file import MAGIC, read_bin
from lipzoo.datasets.files import looks_like_path
from lipzoo.errors import ConfigError, DataError, OutputError, UnknownNameError


def message_of(path, **options):
    """The one line that loading it fails with."""
    with pytest.raises(DataError) as caught:
        load_dataset(path, **options)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message.removeprefix(str(path))


def arrays(**changes):
    """A ring as the arrays of an .npz; a change of None leaves an array out."""
    ring = {
        "src": np.arange(60),
        "dst": np.roll(np.arange(60), 1),
        "feat": np.random.default_rng(0).normal(size=(60, 4)),
        "label": np.arange(60) % 3,
    }
    return {key: value for key, value in {**ring, **changes}.items() if value is not None}


@pytest.fixture
def npz(tmp_path):
    def write(**changes):
        np.savez(tmp_path / "mine.npz", **arrays(**changes))
        return tmp_path / "mine.npz"

    return write


class TestPaths:
    @pytest.mark.parametrize("name", ["a/b", "mine.npz", "mine.bin", "./x", "/abs", "."])
    def test_paths(self, name):
        assert looks_like_path(name)

    @pytest.mark.parametrize("name", ["cora", "ogbn-arxiv", "cora.v2"])
    def test_names(self, name):
        assert not looks_like_path(name)

    def test_absent(self, tmp_path):
        assert message_of(tmp_path / "no.npz").startswith(": no such file or folder; give a DGL")

    def test_another_kind_of_file(self, tmp_path):
        (tmp_path / "graph.txt").write_text("0 1")
        assert message_of(tmp_path / "graph.txt").startswith(": not a graph file; give a DGL graph")

    def test_a_folder_needs_a_slash(self, tmp_path, monkeypatch):
        (tmp_path / "folder").mkdir()
        monkeypatch.chdir(tmp_path)
        for path in ("./folder", Path("folder")):
            with pytest.raises(DataError, match=r"a folder without meta\.yaml"):
                load_dataset(path)
        with pytest.raises(UnknownNameError, match=r"write \./folder"):
            load_dataset("folder")


class TestNpz:
    def test_a_random_split_is_drawn(self, npz):
        task = load_dataset(npz())
        assert (task.num_nodes, task.num_edges, task.in_feats, task.num_classes) == (60, 60, 4, 3)
        # By default at most half of a class of 20 trains.
        assert [int(m.sum()) for m in (task.train_mask, task.val_mask, task.test_mask)] == [
            30,
            15,
            15,
        ]
        assert task.options == {"split": "random", "split_seed": 0}
        assert load_dataset(task.name, **task.options).fingerprint == task.fingerprint

    def test_masks_are_kept(self, npz):
        masks = {
            f"{part}_mask": np.arange(60) % 3 == i
            for i, part in enumerate(("train", "val", "test"))
        }
        task = load_dataset(npz(**masks))
        assert task.options == {"split": "public"}
        assert np.array_equal(task.val_mask.numpy(), masks["val_mask"])

    def test_round_trip(self, task, tmp_path):
        path = save_npz(task, tmp_path / "ring.npz")
        again = load_dataset(path)
        assert again.fingerprint == task.fingerprint
        assert again.num_classes == task.num_classes
        assert [file.name for file in tmp_path.iterdir()] == ["ring.npz"]
        (tmp_path / "other").write_text("")
        assert path.stat().st_mode == (tmp_path / "other").stat().st_mode

    def test_what_is_not_written_leaves_the_old_file(self, task, tmp_path, monkeypatch):
        path = save_npz(task, tmp_path / "ring.npz")

        def full(file, **arrays):
            file.write(b"PK")
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(np, "savez_compressed", full)
        with pytest.raises(OutputError, match=r"No space left on device.*choose a folder"):
            save_npz(task, path)
        assert [file.name for file in tmp_path.iterdir()] == ["ring.npz"]
        assert load_dataset(path).fingerprint == task.fingerprint

    def test_several_splits_of_which_one_is_chosen(self, npz, tmp_path):
        parts = np.stack([np.random.default_rng(k).permutation(60) % 3 for k in range(5)])
        masks = {f"{part}_mask": parts == i for i, part in enumerate(("train", "val", "test"))}
        task = load_dataset(npz(**masks), split_index=3)
        assert task.options == {"split": "public", "split_index": 3}
        assert (task.num_splits, task.num_classes) == (5, 3)
        assert np.array_equal(task.val_mask.numpy(), masks["val_mask"][3])
        assert load_dataset(npz(**masks)).options["split_index"] == 0
        # DGL's and PyG's way round, and one test mask for all.
        turned = {**{key: mask.T for key, mask in masks.items()}, "test_mask": parts[0] == 2}
        turned["train_mask"] = turned["train_mask"] & ~turned["test_mask"][:, None]
        turned["val_mask"] = turned["val_mask"] & ~turned["test_mask"][:, None]
        other = load_dataset(npz(**turned), split_index=4)
        assert np.array_equal(other.train_mask.numpy(), turned["train_mask"][:, 4])
        assert np.array_equal(other.test_mask.numpy(), turned["test_mask"])
        with pytest.raises(ConfigError, match=r"split_index is 5, .* \(choices: 0\.\.4\)"):
            load_dataset(npz(**masks), split_index=5)
        # The split that was chosen is what is written; before one is chosen, all of them.
        again = load_dataset(save_npz(task, tmp_path / "one.npz"))
        assert (again.fingerprint, again.num_splits) == (task.fingerprint, 1)
        every = load_dataset(save_npz(task.source, tmp_path / "all.npz"), split_index=3)
        assert (every.fingerprint, every.num_splits) == (task.fingerprint, 5)

    def test_as_many_splits_as_nodes(self, tmp_path):
        """(N, N) is read as (S, N), and so is what is written."""
        graph = dgl.graph(([0, 1, 2], [1, 2, 0]))
        graph.ndata["feat"], graph.ndata["label"] = torch.ones(3, 1), torch.tensor([0, 1, 0])
        for place, mask in enumerate(("train_mask", "val_mask", "test_mask")):
            graph.ndata[mask] = (torch.arange(3)[:, None] + torch.tensor([0, 2, 2])) % 3 == place
        task = GraphTask.from_graph(graph, "three")
        path = save_npz(task, tmp_path / "three.npz")
        for index in range(3):
            read = load_dataset(path, split_index=index)
            assert read.fingerprint == task.with_split(index).fingerprint

    def test_a_metric(self, npz, tmp_path):
        task = load_dataset(npz(label=np.arange(60) % 2, metric=np.array("roc_auc")))
        assert task.metric == "roc_auc"
        assert "metric" not in task.options, "it comes with the data"
        assert load_dataset(save_npz(task, tmp_path / "again.npz")).metric == "roc_auc"
        assert load_dataset(task.name, metric="macro_f1").metric == "macro_f1"
        words = ": the metric roc_auc is for two classes, or several labels a node, and there are 3"
        assert message_of(npz(metric="roc_auc")).startswith(words)

    def test_sparse_features_unsigned_types_and_multilabel(self, npz):
        feat = sp.random(60, 9, density=0.2, format="csr", random_state=0)
        csr = {f"feat_{key}": getattr(feat, key) for key in ("data", "indices", "indptr", "shape")}
        labels = np.eye(60, 5, dtype=np.uint16)
        task = load_dataset(npz(feat=None, label=labels, src=np.arange(60, dtype=np.uint32), **csr))
        assert np.allclose(task.feat.numpy(), feat.toarray())
        assert (task.multilabel, task.num_classes) == (True, 5)

    def test_num_classes_and_isolated_nodes(self, npz):
        task = load_dataset(npz(num_classes=7, num_nodes=60, src=np.array([0]), dst=np.array([1])))
        assert (task.num_classes, task.num_nodes, task.num_edges) == (7, 60, 1)

    def test_unlabelled_nodes_are_in_no_mask(self, npz):
        label = np.arange(60) % 3
        label[:30] = -1
        task = load_dataset(npz(label=label))
        assert not (task.train_mask | task.val_mask | task.test_mask)[:30].any()

    def test_without_labels(self, npz):
        path = npz(label=None)
        assert load_graph(path, require_labels=False).labels is None
        assert message_of(path).startswith(": no labels: put an integer array")

    def test_labels_without_a_split_are_enough_to_predict(self, npz):
        task = load_graph(npz(label=np.zeros(60, int)), require_labels=False)
        assert (task.num_classes, task.has_any_mask, task.options) == (1, False, {})

    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({"feat": None}, ": there is no array 'feat' (found: src, dst, label);"),
            ({"features": np.ones(3)}, ": unknown array 'features'; did you mean 'feat'?"),
            ({"trian_mask": np.ones(60)}, ": unknown array 'trian_mask'; did you mean 'train_mas"),
            ({"src": np.arange(59)}, ": src and dst must both be (E,), but are (59,), (60,)"),
            ({"src": np.arange(60.0)}, ": src holds node numbers, but is float64; use int64"),
            ({"dst": np.arange(60) + 1}, ": dst[59] is 60, but nodes are numbered 0..59 (1 such"),
            ({"src": np.arange(60) - 2}, ": src[0] is -2, but nodes are numbered 0..59 (2 such"),
            ({"label": np.zeros(59, int)}, ": label is (59,), but there are 60 nodes"),
            ({"label": np.array(["a"] * 60)}, ": label must be numbers, but is <U1"),
            ({"num_nodes": 61}, ": feat is (60, 4), but there are 61 nodes"),
            ({"num_nodes": np.ones(2)}, ": num_nodes must be one whole number"),
            ({"metric": "roc"}, ": there is no metric 'roc'; did you mean 'roc_auc'? (choices: "),
            ({"metric": np.arange(2)}, ": there is no metric 'int64 (2,)'; (choices: accuracy,"),
            ({"metric": np.array(b"roc_auc")}, ": there is no metric 'b'roc_auc''; did you mean"),
            ({"val_mask": np.ones((2, 59), bool)}, ": val_mask is (2, 59), but there are 60 nodes"),
            ({"val_mask": np.ones((2, 60), bool), "test_mask": np.ones((3, 60), bool)},
             ": the masks are of different numbers of splits (val_mask 2, test_mask 3)"),
            ({"num_classes": 2}, ": labels must lie in 0..1 (or be -1 for unknown), but do not on"),
            ({"feat": np.full((60, 4), np.nan)}, ": features are NaN or infinite on 60 nodes"),
            ({"label": np.array([None] * 60)}, ": damaged, or not plain arrays of numbers (Object"),
            (
                {"feat": None, "feat_data": np.ones(2), "feat_indices": np.array([0, 9]),
                 "feat_indptr": np.minimum(np.arange(61), 2), "feat_shape": np.array([60, 4])},
                ": feat_data, feat_indices, feat_indptr, feat_shape are no CSR matrix",
            ),
        ],
    )  # fmt: skip
    def test_faults(self, npz, changes, expected):
        assert message_of(npz(**changes)).startswith(expected)

    @pytest.mark.parametrize("size", [0, 1, 100, 900])
    def test_cut_short(self, npz, size):
        path = npz()
        path.write_bytes(path.read_bytes()[:size])
        assert "is empty" in message_of(path) if size == 0 else "cut short" in message_of(path)

    def test_damaged_inside(self, npz):
        path = npz()
        content = bytearray(path.read_bytes())
        content[600:700] = bytes(100)
        path.write_bytes(content)
        assert message_of(path).startswith(": damaged")

    def test_a_class_too_small_for_what_is_asked(self, npz):
        assert ": class 0 has 20 labelled nodes, fewer than the 30" in message_of(
            npz(), train_per_class=30
        )

    def test_where_nothing_can_be_written(self, task, tmp_path):
        with pytest.raises(OutputError, match=r"must end in \.npz"):
            save_npz(task, tmp_path / "ring.zip")
        with pytest.raises(OutputError, match="cannot be written"):
            save_npz(task, tmp_path / "absent" / "ring.npz")


class TestBin:
    def test_round_trip(self, task, tmp_path):
        path = tmp_path / "ring.bin"
        dgl.save_graphs(str(path), [task.graph, dgl.graph(([0], [0]))])
        again = load_dataset(path)
        assert again.train_mask.dtype == torch.bool
        assert again.fingerprint == task.fingerprint

    def test_the_label_dictionary_fills_in(self, graph, tmp_path):
        label = graph.ndata.pop("label")
        path = tmp_path / "ring.bin"
        extra = {"label": label, "num_classes": torch.tensor([5])}
        dgl.save_graphs(str(path), [graph], extra)
        task = load_dataset(path)
        assert torch.equal(task.labels, label)
        assert task.num_classes == 5
        dgl.save_graphs(str(path), [graph], {"label": label[:3]})
        assert "'label' of the label dictionary has 3 rows, the graph 6 nodes" in message_of(path)

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            (b"", ": the file is empty"),
            (b"hello, I am no graph", ": not a DGL graph file"),
            (MAGIC, ": the file is cut short or damaged"),
            # The number of graphs is absurd: DGL's reader aborts the process.
            (MAGIC + struct.pack("<QQQ", 2, 2, 1 << 60) + bytes(9000), ": the file is cut short"),
        ],
    )
    def test_faults(self, tmp_path, content, expected):
        path = tmp_path / "bad.bin"
        path.write_bytes(content)
        assert message_of(path).startswith(expected)

    def test_cut_short_where_dgl_would_crash(self, tmp_path):
        graph = dgl.rand_graph(300, 2000)
        graph.ndata["feat"] = torch.zeros(300, 5)
        path = tmp_path / "cut.bin"
        dgl.save_graphs(str(path), [graph])
        path.write_bytes(path.read_bytes()[:-2000])
        assert message_of(path).startswith(": the file is cut short or damaged")

    @pytest.mark.parametrize("form", ["coo", "csr", "csc"])
    @pytest.mark.parametrize("idtype", [torch.int32, torch.int64])
    def test_it_is_what_dgl_gives(self, tmp_path, form, idtype):
        graph = dgl.rand_graph(30, 200, idtype=idtype)
        kinds = (torch.float64, torch.float16, torch.int8, torch.uint8, torch.int32, torch.bool)
        for kind in kinds:
            graph.ndata[str(kind)] = torch.randint(0, 2, (30, 3)).to(kind)
        graph.edata["weight"] = torch.rand(200, 2)
        path = tmp_path / "graph.bin"
        dgl.save_graphs(str(path), [graph.formats(form)], {"num_classes": torch.tensor([7])})
        read, facts = read_bin(path)
        [wanted], _ = dgl.load_graphs(str(path))
        ends = wanted.edges(form="all", order="eid" if form == "coo" else "srcdst")
        for mine, dgls in zip(read.edges(order="eid"), ends):
            assert torch.equal(mine[ends[2].long()], dgls)
        assert (read.idtype, facts) == (idtype, {"num_classes": 7})
        for mine, dgls in ((read.ndata, wanted.ndata), (read.edata, wanted.edata)):
            assert mine.keys() == dgls.keys()
            for key, column in dgls.items():
                assert mine[key].dtype == column.dtype
                assert torch.equal(mine[key], column), key

    def test_several_types(self, tmp_path):
        ends = (torch.tensor([0]), torch.tensor([0]))
        graph = dgl.heterograph({("a", "f", "b"): ends, ("a", "g", "b"): ends})
        dgl.save_graphs(str(tmp_path / "two.bin"), [graph])
        assert "the graph has 2 edge types, lipzoo takes one" in message_of(tmp_path / "two.bin")

    def test_an_edge_out_of_the_graph(self, tmp_path):
        graph = dgl.graph((torch.full((50,), 77), torch.full((50,), 78)), num_nodes=100)
        path = tmp_path / "edges.bin"
        dgl.save_graphs(str(path), [graph])
        content, edge = path.read_bytes(), struct.pack("<q", 77)
        assert content.count(edge) == 50
        path.write_bytes(content.replace(edge, struct.pack("<q", 7700)))
        assert ": an edge leads out of the graph" in message_of(path)


@pytest.fixture
def csv_folder(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "meta.yaml").write_text(
        "dataset_name: mine\n"
        "edge_data:\n- file_name: edges.csv\n"
        "node_data:\n- file_name: nodes.csv\n"
    )
    nodes = [f'{node},{node % 2},{node / 10},"{node}, 0.5"' for node in (10, 2, 3, 1, 0, 4)]
    (folder / "nodes.csv").write_text("\n".join(["node_id,label,weight,feat", *nodes]) + "\n")
    (folder / "edges.csv").write_text("src_id,dst_id,age\n0,1,5\n10,2,6\n3,3,7\n")
    return folder


def edit(path, old, new):
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


class TestCsv:
    def test_nodes_are_sorted_by_id(self, csv_folder):
        before = sorted(csv_folder.iterdir())
        task = load_dataset(csv_folder, train_per_class=1)
        assert task.feat[:, 0].tolist() == [0, 1, 2, 3, 4, 10]
        assert task.labels.tolist() == [0, 1, 0, 1, 0, 0]
        assert list(zip(*(e.tolist() for e in task.graph.edges()))) == [(0, 1), (5, 2), (3, 3)]
        assert sorted(csv_folder.iterdir()) == before

    def test_cells_of_thousands_of_features(self, csv_folder):
        """Beyond what Python's reader takes by itself, 131,072 characters."""
        values = [number + 1 / 3 for number in range(10_000)]
        cells = ", ".join(map(repr, values))
        nodes = [f'{node},"{cells}"' for node in range(3)]
        (csv_folder / "nodes.csv").write_text("\n".join(["node_id,feat", *nodes]))
        (csv_folder / "edges.csv").write_text("src_id,dst_id\n0,1\n")
        limit = csv.field_size_limit()
        task = load_graph(csv_folder, require_labels=False)
        assert task.feat[2].tolist() == pytest.approx(values)
        assert csv.field_size_limit() == limit

    def test_it_is_what_dgl_gives(self, csv_folder):
        pytest.importorskip("pandas", reason="dgl.data.CSVDataset needs pandas")
        task = load_dataset(csv_folder, train_per_class=1)
        expected = dgl.data.CSVDataset(str(csv_folder), verbose=False)[0]
        assert torch.equal(torch.stack(task.graph.edges()), torch.stack(expected.edges()))
        for column in ("feat", "label", "weight"):
            assert torch.equal(task.graph.ndata[column], expected.ndata[column])

    def test_ids_that_are_text_and_other_field_names(self, csv_folder):
        (csv_folder / "meta.yaml").write_text(
            "{dataset_name: m, separator: ';', "
            "node_data: [{file_name: nodes.csv, node_id_field: who}], "
            "edge_data: [{file_name: edges.csv, src_id_field: a, dst_id_field: b}]}"
        )
        (csv_folder / "nodes.csv").write_text("who;feat;train_mask\nzoe;1;True\nann;2;False\n")
        (csv_folder / "edges.csv").write_text("a;b\nann;zoe\n")
        task = load_graph(csv_folder, require_labels=False)
        assert task.feat.tolist() == [[2.0], [1.0]]  # ann, zoe
        assert task.train_mask.tolist() == [False, True]
        assert [ends.tolist() for ends in task.graph.edges()] == [[0], [1]]

    @pytest.mark.parametrize(
        ("file", "old", "new", "expected"),
        [
            ("edges.csv", "10,2,6", "11,2,6", "/edges.csv, row 3: src_id '11' is not among the 6 "),
            ("edges.csv", "dst_id", "dest", "/edges.csv: there is no column 'dst_id' (found: de"),
            ("edges.csv", "10,2,6", "10,2", "/edges.csv, row 3: 2 cells under 3 headers"),
            ("nodes.csv", "node_id", "id", "/nodes.csv: there is no column 'node_id' (found: id"),
            (
                "nodes.csv",
                "\n10,",
                "\n2,",
                "/nodes.csv, row 3: node '2' is there twice; ids must differ",
            ),
            ("nodes.csv", "3, 0.5", "3", "/nodes.csv: the lists in column 'feat' differ in length"),
            (
                "nodes.csv",
                "3, 0.5",
                "3, x",
                "/nodes.csv, row 4, column 'feat': '3, x' is no number",
            ),
            ("nodes.csv", "3, 0.5", "3, nan", ": features are NaN or infinite on node 3;"),
            ("nodes.csv", "weight", "val_mask", ": val_mask holds other values than 0 and 1"),
            ("meta.yaml", "nodes.csv", "knots.csv", "/knots.csv: no such file, but meta.yaml nam"),
            ("meta.yaml", "node_data", "nodes", "/meta.yaml: node_data must be a list of one file"),
            ("meta.yaml", "- file_name: n", "- file: n", "/meta.yaml: node_data has no file_name"),
            ("meta.yaml", "mine", "[", "/meta.yaml: is no valid YAML ("),
        ],
    )
    def test_faults(self, csv_folder, file, old, new, expected):
        edit(csv_folder / file, old, new)
        message = message_of(csv_folder)
        assert message.startswith(expected)

    def test_empty_table(self, csv_folder):
        (csv_folder / "edges.csv").write_text("")
        assert message_of(csv_folder).startswith("/edges.csv: not a table of CSV")

    def test_several_graphs(self, csv_folder):
        edit(csv_folder / "edges.csv", "age", "graph_id")
        assert "/edges.csv: there are 3 graphs, lipzoo takes one" in message_of(csv_folder)
