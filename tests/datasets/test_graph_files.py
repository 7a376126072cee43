"""GraphML, GML, folders of tables and PyG's tensors: read as what they say, bad ones refused."""

import io
import pickle
import random
import zipfile

import networkx as nx
import numpy as np
import pytest
import scipy.io
import scipy.sparse as sp
import torch
from trust.kinds import outcome

from lipzoo._dgl import dgl
from lipzoo.datasets import GraphTask, load_dataset
from lipzoo.datasets.files import looks_like_path
from lipzoo.datasets.matrix_market import read_matrix_market
from lipzoo.errors import ConfigError, DataError

geometric = pytest.importorskip("torch_geometric")

N = 30
FEAT = np.random.default_rng(0).normal(size=(N, 2)).astype("float32").round(3)
LABEL = np.arange(N) % 3
SPLIT = ["train"] * 15 + ["val"] * 6 + ["test"] * 9
NAMES = [f"n{i}" for i in np.random.default_rng(1).permutation(N)]


@pytest.fixture(scope="module")
def wanted():
    """A ring of 30 named nodes, one way, as a task of DGL's graph."""
    graph = dgl.graph((torch.arange(N), (torch.arange(N) + 1) % N))
    graph.ndata["feat"], graph.ndata["label"] = torch.from_numpy(FEAT), torch.from_numpy(LABEL)
    for part in ("train", "val", "test"):
        graph.ndata[f"{part}_mask"] = torch.tensor([each == part for each in SPLIT])
    return GraphTask.from_graph(graph)


def ring(make=nx.DiGraph, label="label"):
    graph = make()
    for node, name in enumerate(NAMES):
        a, b = FEAT[node].tolist()
        graph.add_node(name, a=a, b=b, **{label: int(LABEL[node])}, split=SPLIT[node])
    graph.add_edges_from((NAMES[i], NAMES[(i + 1) % N]) for i in range(N))
    return graph


def write_csv(folder):
    rows = zip(NAMES, FEAT.tolist(), LABEL, SPLIT)
    lines = ["id,a,b,label,split", *(f"{n},{a},{b},{c},{s}" for n, (a, b), c, s in rows)]
    (folder / "nodes.csv").write_text("\n".join(lines) + "\n")
    lines = ["source,target,weight", *(f"{NAMES[i]},{NAMES[(i + 1) % N]},0.5" for i in range(N))]
    (folder / "edges.csv").write_text("\n".join(lines) + "\n")
    return folder


def write_parquet(folder):
    pandas, _ = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    write_csv(folder)
    for name in ("nodes", "edges"):
        pandas.read_csv(folder / f"{name}.csv").to_parquet(folder / f"{name}.parquet", index=False)
        (folder / f"{name}.csv").unlink()
    return folder


def write_matrix(folder):
    write_csv(folder)
    (folder / "edges.csv").unlink()
    ends = np.arange(N), (np.arange(N) + 1) % N
    scipy.io.mmwrite(folder / "graph.mtx", sp.coo_array((np.ones(N), ends), (N, N)))
    return folder


def write_graphml(folder):
    nx.write_graphml(ring(), folder / "x.graphml")
    return folder / "x.graphml"


def write_gml(folder):
    nx.write_gml(ring(label="y"), folder / "x.gml")
    return folder / "x.gml"


def as_data(wanted):
    data = wanted.graph.ndata
    masks = {key: data[key] for key in ("train_mask", "val_mask", "test_mask")}
    index = torch.stack(wanted.graph.edges())
    return geometric.data.Data(edge_index=index, x=wanted.feat, y=wanted.labels, **masks)


def write_pt(folder, task):
    torch.save(as_data(task).to_dict(), folder / "x.pt")
    return folder / "x.pt"


WRITERS = {
    "csv": write_csv,
    "parquet": write_parquet,
    "mtx": write_matrix,
    "graphml": write_graphml,
    "gml": write_gml,
}


@pytest.mark.parametrize("kind", [*WRITERS, "pt"])
def test_what_is_read_is_what_was_written(kind, wanted, tmp_path):
    path = write_pt(tmp_path, wanted) if kind == "pt" else WRITERS[kind](tmp_path)
    before = sorted(tmp_path.iterdir())
    task = load_dataset(path)
    assert task.fingerprint == wanted.fingerprint
    assert task.options == {"split": "public"}
    assert task.node_ids == (None if kind == "pt" else NAMES)
    assert load_dataset(task.name, **task.options).fingerprint == task.fingerprint
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("kind", WRITERS)
def test_which_columns_are_features(kind, wanted, tmp_path):
    task = load_dataset(WRITERS[kind](tmp_path), features=["b"])
    assert torch.equal(task.feat, wanted.feat[:, 1:])
    assert task.options == {"split": "public", "features": ["b"]}
    assert load_dataset(task.name, **task.options).fingerprint == task.fingerprint
    with pytest.raises(DataError, match="no column 'c'"):
        load_dataset(task.name, features=["c"])
    with pytest.raises(ConfigError, match="features"):
        load_dataset(task.name, features=3)


def test_other_files_have_no_columns(tmp_path, wanted):
    with pytest.raises(ConfigError, match="no option 'features'"):
        load_dataset(write_pt(tmp_path, wanted), features=["b"])


def test_undirected_files_go_both_ways(tmp_path, wanted):
    nx.write_graphml(ring(nx.Graph), tmp_path / "x.graphml")
    nx.write_gml(ring(nx.Graph, "y"), tmp_path / "x.gml")
    both = dgl.to_bidirected(wanted.graph).edges()
    for name in ("x.graphml", "x.gml"):
        found = load_dataset(tmp_path / name).graph
        assert {*zip(*(e.tolist() for e in found.edges()))} == {*zip(*(e.tolist() for e in both))}
        assert found.num_edges() == 2 * N
    write_matrix(tmp_path)
    matrix = sp.coo_array(([1.0], ([1], [0])), (N, N))
    scipy.io.mmwrite(tmp_path / "graph.mtx", matrix + matrix.T, symmetry="symmetric")
    found = load_dataset(tmp_path).graph
    assert sorted(zip(*(e.tolist() for e in found.edges()))) == [(0, 1), (1, 0)]


def test_words_as_labels_and_a_split_that_is_drawn(tmp_path):
    folder = write_csv(tmp_path)
    text = (folder / "nodes.csv").read_text()
    for number, word in enumerate(("spam", "ham", "eggs")):
        text = text.replace(f",{number},train", f",{word},").replace(f",{number},val", f",{word},")
        text = text.replace(f",{number},test", f",{word},")
    (folder / "nodes.csv").write_text(text)
    task = load_dataset(folder, split="random")
    assert task.class_names == ("eggs", "ham", "spam")
    assert task.labels.tolist() == [(2, 1, 0)[i % 3] for i in range(N)]
    assert task.options == {"split": "random", "split_seed": 0}


def test_words_as_labels_in_dgl_s_folder(tmp_path):
    (tmp_path / "meta.yaml").write_text(
        "dataset_name: g\nedge_data: [{file_name: e.csv}]\nnode_data: [{file_name: n.csv}]\n"
    )
    (tmp_path / "n.csv").write_text("node_id,label,feat\nzoe,ham,1\nann,,2\nbob,eggs,3\n")
    (tmp_path / "e.csv").write_text("src_id,dst_id\nann,zoe\n")
    task = load_dataset(tmp_path, require_labels=False)
    assert task.node_ids == ["ann", "bob", "zoe"]
    assert (task.class_names, task.labels.tolist()) == (("eggs", "ham"), [-1, 0, 1])
    assert task.feat.flatten().tolist() == [2, 3, 1]


def test_gml_whose_labels_are_classes(tmp_path):
    nodes = "".join(f'  node [ id {i} label "{"ab"[i % 2]}" f {i}.5 ]\n' for i in range(4))
    (tmp_path / "x.gml").write_text(
        f"graph [\n  directed 1\n{nodes}  edge [ source 0 target 3 ]\n]\n"
    )
    task = load_dataset(tmp_path / "x.gml", require_labels=False)
    assert (task.class_names, task.labels.tolist()) == (("a", "b"), [0, 1, 0, 1])
    assert task.node_ids == [0, 1, 2, 3]
    assert task.feat.flatten().tolist() == [0.5, 1.5, 2.5, 3.5]


@pytest.mark.parametrize("suffix", [".graphml", ".gml", ".pt", ".csv", ".parquet", ".mtx"])
def test_they_are_paths(suffix):
    assert looks_like_path(f"mine{suffix}")


# -------------------------------------------------------------------- refusals


def message_of(path):
    with pytest.raises(DataError) as caught:
        load_dataset(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".mtx"])
def test_half_a_graph(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    path.write_text("source,target\n")
    assert f"put it into a folder, as edges{suffix}" in message_of(path)


def test_a_folder_with_too_little_or_too_much(tmp_path):
    assert "nothing holds a table of nodes" in message_of(tmp_path)
    write_csv(tmp_path)
    (tmp_path / "edges.csv").rename(tmp_path / "away.csv")
    assert "nothing holds the edges" in message_of(tmp_path)
    (tmp_path / "away.csv").rename(tmp_path / "edges.csv")
    (tmp_path / "graph.mtx").write_text("")
    assert "edges.csv and graph.mtx both hold the edges" in message_of(tmp_path)


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        (
            "edges.csv",
            f"\n{NAMES[1]},",
            "\nzoe,",
            "edges.csv, row 3: source 'zoe' is not among the",
        ),
        ("edges.csv", "source", "src", "edges.csv: no columns of sources and targets"),
        ("nodes.csv", f"\n{NAMES[1]},", f"\n{NAMES[0]},", "row 3: node '.*' is there twice"),
        ("nodes.csv", f"\n{NAMES[1]},", "\n,", "nodes.csv, row 3, column 'id': the id is missing"),
        (
            "nodes.csv",
            "val",
            "dev",
            "nodes.csv, row 17, column 'split': 'dev' is no part of a split",
        ),
        ("nodes.csv", "id,a", "name,a", "nodes.csv, row 2, column 'name': '.*' is no number"),
        ("nodes.csv", "label", "a", "nodes.csv: two columns have the same header"),
    ],
)
def test_what_is_wrong_in_a_table(tmp_path, file, old, new, words):
    path = write_csv(tmp_path) / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(DataError, match=words):
        load_dataset(tmp_path)


MATRIX = "%%MatrixMarket matrix coordinate real general\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is no sparse matrix of Matrix Market"),
        ("hello", "is no sparse matrix of Matrix Market"),
        (f"{MATRIX}30 30 1\n1 31 1\n", "is no sparse matrix of Matrix Market"),
        (f"{MATRIX}29 30 1\n1 1 1\n", "is 29 x 30, and there are 30 nodes"),
        (f"{MATRIX}31 31 1\n1 1 1\n", "is 31 x 31, and there are 30 nodes"),
        (
            f"{MATRIX}30 30 900000000000\n1 1 1\n",
            "900,000,000,000 entries are announced, and 3 numbers follow",
        ),
        (
            "%%MatrixMarket matrix array real general\n30 30\n1\n",
            "it is no sparse matrix .coordinate., but array",
        ),
    ],
)
def test_what_is_wrong_in_a_matrix(tmp_path, content, words):
    write_matrix(tmp_path)
    (tmp_path / "graph.mtx").write_text(content)
    with pytest.raises(DataError, match=words):
        load_dataset(tmp_path)


@pytest.mark.parametrize("field", ["real", "complex", "pattern", "integer"])
@pytest.mark.parametrize("symmetry", ["general", "symmetric", "skew-symmetric", "hermitian"])
def test_a_matrix_is_what_scipy_reads(field, symmetry):
    if (field, symmetry) in [("pattern", "skew-symmetric"), ("pattern", "hermitian")]:
        pytest.skip("no such matrices")
    rows = np.random.default_rng(0).integers(9, size=(2, 20))
    below = rows[:, rows[0] > rows[1]]
    matrix = sp.coo_array((np.ones(below.shape[1]), tuple(below)), (9, 9)).tocsr()
    matrix = {"general": matrix, "skew-symmetric": matrix - matrix.T}.get(
        symmetry, matrix + matrix.T
    )
    file = io.BytesIO()
    scipy.io.mmwrite(file, matrix, comment="% a\n% b", field=field, symmetry=symmetry)
    shape, row, column = read_matrix_market(file.getvalue())
    wanted = scipy.io.mmread(io.BytesIO(file.getvalue())).tocoo()
    assert shape == (9, 9)
    assert sorted(zip(row, column)) == sorted(zip(wanted.row, wanted.col))


def test_links_that_lead_out_of_the_folder(tmp_path):
    folder = tmp_path / "inner"
    folder.mkdir()
    write_matrix(folder)
    (folder / "graph.mtx").rename(tmp_path / "graph.mtx")
    (folder / "graph.mtx").symlink_to(tmp_path / "graph.mtx")
    assert "a link there leads out of its folder" in message_of(folder)


class Trap:
    def __reduce__(self):
        return (print, ("unpickled",))


@pytest.mark.parametrize("make", [lambda task: Trap(), as_data, lambda task: [as_data(task)]])
def test_objects_are_not_unpickled(tmp_path, wanted, make, capsys):
    path = tmp_path / "x.pt"
    torch.save(make(wanted), path)
    assert "torch.save(data.to_dict(), path)" in message_of(path)
    assert "unpickled" not in capsys.readouterr().out


def test_what_is_no_graph_in_a_pt(tmp_path, wanted):
    path = tmp_path / "x.pt"
    for content, words in (
        (torch.ones(3), "holds a Tensor, no graph"),
        (({"x": torch.ones(3)}, None), r"holds a tuple, no graph; .* of one graph (dataset[0])"),
        ({"x": torch.ones(3, 1)}, "neither edge_index nor adj_t (found: x)"),
        ({"edge_index": torch.zeros(2, 1, dtype=torch.long)}, "no node features x"),
        ({"edge_index": [[0], [1]], "x": torch.ones(3, 1)}, "edge_index is no tensor of numbers"),
    ):
        torch.save(content, path)
        for part in words.split(" .* "):
            assert part in message_of(path)
    path.write_bytes(pickle.dumps({"x": 1}))
    assert "not a file of torch.save" in message_of(path)
    data = write_pt(tmp_path, wanted).read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert "damaged (File is not a zip file)" in message_of(path)


def test_tensors_that_claim_more_than_the_file_holds(tmp_path):
    path = tmp_path / "x.pt"
    index = torch.zeros(2, 1, dtype=torch.long)
    torch.save({"edge_index": index, "x": torch.zeros(1, 1).expand(10**6, 10**4)}, path)
    assert path.stat().st_size < 5000
    assert "its tensors have 80,000,000,016 bytes" in message_of(path)
    huge = torch.sparse_coo_tensor(torch.zeros(2, 0, dtype=torch.long), [], (10**6, 10**6))
    torch.save({"edge_index": index, "x": huge}, path)
    assert "its tensors have 8,000,000,000,016 bytes" in message_of(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", b"\0" * 2**27)
    assert "unpacks to 134,217,728 bytes" in message_of(path)


def test_parquet_that_claims_more_than_the_file_holds(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow as pa

    write_parquet(tmp_path)
    many = pa.table({"id": pa.array(np.zeros(2**24)), "a": pa.array(np.zeros(2**24))})
    parquet.write_table(many, tmp_path / "nodes.parquet", compression="zstd")
    assert (tmp_path / "nodes.parquet").stat().st_size < 2**20
    assert "too many times as large as the file" in message_of(tmp_path)
    # A word that all rows share, 16 GiB if each had its own: read, and no id.
    words = pa.DictionaryArray.from_arrays(np.zeros(2**14, np.int32), ["x" * 2**20])
    ones = np.ones(2**14)
    parquet.write_table(pa.table({"id": words, "a": ones}), tmp_path / "nodes.parquet")
    assert "is there twice; ids must differ" in message_of(tmp_path)


def test_parquet_of_words_that_are_none(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow as pa

    write_parquet(tmp_path)
    ends = pa.py_buffer(np.array([0, 1, 2], np.int32).tobytes())
    words = pa.StringArray.from_buffers(2, ends, pa.py_buffer(b"\xffa"))  # no UTF-8
    parquet.write_table(pa.table({"id": words, "a": [1, 2]}), tmp_path / "nodes.parquet")
    assert "is no Parquet that pyarrow reads" in message_of(tmp_path)


def test_a_pt_that_spans_disks(tmp_path, wanted):
    data = bytearray(write_pt(tmp_path, wanted).read_bytes())
    data[data.rindex(b"PK\6\7") + 4] = 7
    (tmp_path / "x.pt").write_bytes(bytes(data))
    assert "damaged" in message_of(tmp_path / "x.pt")


def test_entities_are_not_read(tmp_path):
    path = tmp_path / "x.graphml"
    path.write_text(
        '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]><graphml>&a;</graphml>'
    )
    assert "declares XML entities" in message_of(path)


@pytest.mark.parametrize("kind", ["graphml", "gml"])
@pytest.mark.parametrize("content", ["", "<a/>", "graph [", "graph [ node [ id 0 ] ]", "\0"])
def test_what_is_no_graph_in_words(tmp_path, kind, content):
    path = tmp_path / f"x.{kind}"
    path.write_text(content)
    message_of(path)


def test_deeply_nested(tmp_path):
    path = tmp_path / "x.gml"
    path.write_text("graph [ " * 10_000 + "]" * 10_000)
    message_of(path)


@pytest.mark.many
@pytest.mark.parametrize("kind", ["pt", *WRITERS])
def test_damage_is_refused_or_read(kind, wanted, tmp_path):
    """300 changes of bytes, cuts and insertions; whatever comes of it is a graph or words."""
    path = write_pt(tmp_path, wanted) if kind == "pt" else WRITERS[kind](tmp_path)
    files = [path] if path.is_file() else sorted(path.iterdir())
    chance, outcomes = random.Random(0), set()
    for _ in range(300):
        file = chance.choice(files)
        good = file.read_bytes()
        data, place = bytearray(good), chance.randrange(len(good))
        how = chance.randrange(4)
        if how == 0:
            data[place] = chance.randrange(256)
        elif how == 1:
            del data[place : place + chance.choice((1, 10, len(data)))]
        elif how == 2:
            data[place:place] = chance.choice((b"-1", b"9" * 12, b"nan", b"\n", b",", b"\0", b"]"))
        else:
            data[place : place + 1] = b"%d" % chance.randrange(10**6)
        file.write_bytes(bytes(data))
        outcomes.add(outcome(lambda folder: load_dataset(folder, require_labels=False), path))
        file.write_bytes(good)
    assert outcomes == {"loaded", "refused"}
    assert load_dataset(path).fingerprint == wanted.fingerprint
