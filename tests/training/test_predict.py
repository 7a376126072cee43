import csv

import numpy as np
import pytest
import torch

import lipzoo
from lipzoo._dgl import dgl
from lipzoo.cli import main
from lipzoo.datasets import GraphTask
from lipzoo.errors import OutputError
from lipzoo.training import predict, write_predictions
from lipzoo.training.metrics import is_multilabel


@pytest.fixture(scope="module")
def multilabel_weights(tiny_source, multilabel, tmp_path_factory):
    out = tmp_path_factory.mktemp("multilabel") / "weights"
    lipzoo.finetune(tiny_source, multilabel, epochs=30, lr=0.02, out=out, verbose=False)
    return out


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_one_class_a_node(tiny_source, iris, tmp_path):
    probabilities = predict(lipzoo.load_pretrained(tiny_source), iris)
    assert torch.allclose(probabilities.sum(1), torch.ones(iris.num_nodes))
    rows = rows_of(write_predictions(tmp_path / "p.csv", probabilities, multilabel=False))
    assert [int(row["node"]) for row in rows] == list(range(iris.num_nodes))
    assert [int(row["class"]) for row in rows] == probabilities.argmax(1).tolist()
    read = torch.tensor([[float(row[f"p_{c}"]) for c in range(3)] for row in rows])
    assert torch.allclose(read, probabilities, atol=1e-5)


def test_several_classes_a_node_on_a_graph_without_labels(multilabel_weights, multilabel, tmp_path):
    model = lipzoo.load_pretrained(multilabel_weights)
    bare = dgl.graph(multilabel.graph.edges())
    bare.ndata["feat"] = multilabel.feat
    task = GraphTask.from_graph(bare)
    assert not task.multilabel
    assert is_multilabel(model, task)
    probabilities = predict(model, task)
    expected = model(bare, multilabel.feat).sigmoid()
    assert torch.allclose(probabilities, expected)
    rows = rows_of(write_predictions(tmp_path / "p.csv", probabilities, multilabel=True))
    for row, chances in zip(rows, probabilities):
        expected = (chances > 0.5).nonzero().flatten().tolist()
        assert [int(c) for c in row["class"].split()] == expected
    assert {len(row["class"].split()) for row in rows} - {1}


def test_what_would_be_lost_is_kept(tmp_path):
    path = write_predictions(tmp_path / "p.csv", torch.ones(1, 1), multilabel=False)
    before = path.read_text()
    with pytest.raises(OutputError, match="--overwrite"):
        write_predictions(path, torch.ones(2, 1), multilabel=False)
    with pytest.raises(OutputError, match="is no folder"):
        write_predictions(tmp_path / "no" / "p.csv", torch.ones(1, 1), multilabel=False)
    assert path.read_text() == before


def write_npz(folder):
    np.savez(folder / "g.npz", src=[0, 1], dst=[1, 2], feat=FEAT)
    return folder / "g.npz"


def write_bin(folder):
    graph = dgl.graph(([0, 1], [1, 2]))
    graph.ndata["feat"] = torch.tensor(FEAT)
    dgl.save_graphs(str(folder / "g.bin"), [graph])
    return folder / "g.bin"


def write_csv(folder):
    (folder / "meta.yaml").write_text(
        "dataset_name: g\nedge_data: [{file_name: e.csv}]\nnode_data: [{file_name: n.csv}]\n"
    )
    cells = [f'{node},"{",".join(map(str, row))}"' for node, row in zip((7, 70, 700), FEAT)]
    (folder / "n.csv").write_text("\n".join(["node_id,feat", *reversed(cells)]) + "\n")
    (folder / "e.csv").write_text("src_id,dst_id\n7,70\n70,700\n")
    return folder


FEAT = np.random.default_rng(0).normal(size=(3, 5)).astype("float32").tolist()


@pytest.mark.parametrize(
    ("write", "ids"),
    [(write_npz, [0, 1, 2]), (write_bin, [0, 1, 2]), (write_csv, [7, 70, 700])],
)
def test_graphs_of_your_own(multilabel_weights, tmp_path, capsys, write, ids):
    out = tmp_path / "p.csv"
    source = tmp_path / "graph"
    source.mkdir()
    data = str(write(source))
    assert main(["predict", str(multilabel_weights), "--data", data, "--out", str(out)]) == 0
    assert "3 nodes written" in capsys.readouterr().out
    rows = rows_of(out)
    assert [int(row["node"]) for row in rows] == ids
    model = lipzoo.load_pretrained(multilabel_weights)
    expected = model(dgl.graph(([0, 1], [1, 2])), torch.tensor(FEAT)).sigmoid()
    for row, chances in zip(rows, expected.tolist()):
        assert [float(row[f"p_{c}"]) for c in range(4)] == pytest.approx(chances, abs=1e-5)
