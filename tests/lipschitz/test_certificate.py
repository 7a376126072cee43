"""Certificates: what they hold, what is written, and the command."""

import csv
import json
from dataclasses import replace

import pytest
import torch

import lipzoo
from lipzoo import GraphTask
from lipzoo._tables import read_csv
from lipzoo.cli import main
from lipzoo.errors import ConfigError, OutputError
from lipzoo.lipschitz import certify
from lipzoo.training.predict import predict, write_predictions


@pytest.fixture(scope="module")
def task():
    return lipzoo.load_dataset("iris")


def make(task, name="gat_lip_2"):
    return lipzoo.create_model(
        name, in_feats=task.in_feats, num_classes=task.num_classes, hidden_feats=8, num_heads=2
    )


@pytest.fixture(scope="module")
def certificate(task):
    return certify(make(task), task, name="mine", iterations=10, search=1)


@pytest.mark.slow
def test_what_it_holds(certificate, task):
    assert 0 < certificate.tightness <= 1
    content = certificate.to_dict()
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert content["nodes"] == task.num_nodes
    assert content["bound"]["frobenius"] == float(certificate.bound)
    assert [layer["name"] for layer in content["bound"]["layers"]][-1] == "head"
    shares = [point["share"] for point in content["certified"]]
    assert shares[0] == 1 >= shares[-1] > 0
    text = certificate.text()
    assert "layer_2" in text
    assert "of the bound" in text
    assert "certified radius" in text


def test_what_is_written(certificate, task, tmp_path):
    folder = certificate.write(tmp_path / "out")
    content = json.loads((folder / "certificate.json").read_text())
    assert content == certificate.to_dict()
    with (folder / "layers.csv").open() as file:
        layers = list(csv.DictReader(file))
    assert float(layers[1]["frobenius"]) == certificate.bound.layers[1].frobenius
    with (folder / "radii.csv").open() as file:
        radii = list(csv.DictReader(file))
    assert len(radii) == task.num_nodes
    assert float(radii[5]["radius"]) == certificate.radii.radius[5].item()
    page = (folder / "report.html").read_text()
    assert "mine on iris" in page
    assert "layer_2" in page
    with pytest.raises(OutputError, match="already holds files"):
        certificate.write(folder)
    certificate.write(folder, overwrite=True)
    assert (folder / "radii.csv").is_file()
    replace(certificate, radii=None).write(folder, overwrite=True)
    assert not (folder / "radii.csv").exists(), "that of the certificate before"


def test_what_was_made_of_the_features_is_said(task):
    """The numbers are of what the network reads."""
    scaled = lipzoo.load_dataset("iris", scaling="standard", missing_rate=0.5)
    filled = lipzoo.load_dataset("iris", missing_rate=0.5, missing_fill="propagate")
    for made, are in ((task, None), (scaled, "scaled"), (filled, "filled in")):
        found = certify(make(made), made, iterations=0)
        words = f"the features are {are}: bound and radii are of the {are} ones"
        assert found.notes == ([] if are is None else [words])
        [note] = [found.sections()[0].words.partition("Note: ")[2]]
        assert note == ("" if are is None else f"{words}.")
        assert (f"note: {words}" in found.text()) == (are is not None)
    both = lipzoo.load_dataset("iris", scaling="standard", encoding={"width": 8})
    [note] = certify(make(both), both, iterations=0, radii=False).notes
    assert note.startswith("the features are scaled and encoded:")


def test_nodes_and_classes_are_called_as_where_predictions_are_written(tmp_path):
    graph = lipzoo.load_dataset("wine").graph
    names, ids = ("red", "white", "rose"), [f"bottle {n}" for n in range(graph.num_nodes())]
    task = GraphTask.from_graph(graph, "wine", class_names=names, node_ids=ids)
    model = lipzoo.finetune("gat_lip_2.cora", task, epochs=1, verbose=False).model
    folder = certify(model, task, iterations=0).write(tmp_path / "out")
    write_predictions(tmp_path / "p.csv", predict(model, task), False, nodes=ids, classes=names)
    rows = [read_csv(file) for file in (folder / "radii.csv", tmp_path / "p.csv")]
    ours, theirs = ([(row["node"], row["class"]) for row in each] for each in rows)
    assert ours == theirs


@pytest.mark.slow
def test_a_page_escapes_what_it_shows_and_draws_the_curve(task):
    page = certify(make(task), task, name="<script>", iterations=1).report()
    assert "<script>" not in page
    pytest.importorskip("matplotlib")
    assert page.count("<svg") == 1


@pytest.mark.slow
def test_a_plain_model_says_why(task, tmp_path):
    certificate = certify(make(task, "gat_2"), task, iterations=3)
    assert certificate.tightness is None
    content = certificate.to_dict()
    assert content["bound"]["frobenius"] is None
    assert "without a score norm" in content["bound"]["reason"]
    assert json.dumps(content, allow_nan=False)
    certificate.write(tmp_path / "out")
    assert "∞" in (tmp_path / "out/report.html").read_text()


def test_what_can_be_left_out(task):
    certificate = certify(make(task), task, iterations=0, radii=False)
    assert certificate.estimate is certificate.radii is None
    assert "radii" not in certificate.to_dict()
    with pytest.raises(ConfigError, match="must be >= 0"):
        certify(make(task), task, iterations=-1)


def test_the_weights_say_whether_a_node_has_one_class(task):
    """A graph to certify on need not have labels, or has others."""
    flags = torch.nn.functional.one_hot(task.labels, 3).float()
    several, bare = task.with_ndata(label=flags).graph, task.graph.local_var()
    del bare.ndata["label"]
    several, bare = GraphTask.from_graph(several), GraphTask.from_graph(bare)
    options = {"epochs": 1, "splits": ("train",), "verbose": False}
    one, many = (lipzoo.finetune("gat_lip_2.cora", t, **options).model for t in (task, several))
    for data in (task, several, bare):
        assert certify(one, data, iterations=0).radii is not None
        found = certify(many, data, iterations=0)
        assert found.radii is None
        assert "several labels" in found.notes[0]


@pytest.mark.slow
def test_the_command(tmp_path, capsys):
    out = tmp_path / "out"
    command = ["certify", "gat_lip_16.digits", "--out", str(out), "--iterations", "2"]
    assert main([*command, "--no-radii", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["name"] == "gat_lip_16.digits"
    assert "radii" not in facts
    assert (out / "certificate.json").is_file()
    assert main(command) == 2
    assert "already holds files" in capsys.readouterr().err
