"""What cannot be converted is refused in words, and nothing is written."""

import sys

import pytest
import torch
from checkpoints import card, small_model
from convert_zoo import SIZES, network
from torch import nn

import lipzoo
from lipzoo import ConfigError, OutputError
from lipzoo.cli import main
from lipzoo.convert import FORMATS, checking, to_onnx, to_pt2
from lipzoo.convert import network as networks
from lipzoo.convert.metadata import describe
from lipzoo.models import InContextGATv2
from lipzoo.nn import FeatureNorm
from lipzoo.weights import save_checkpoint


def body():
    return lipzoo.create_model("gat_lip_2", in_feats=4, num_classes=0)


def with_start():
    return lipzoo.models.DeepGAT(6, 4, **SIZES, start_logits=True)


def with_a_card_that_starts():
    model = small_model()
    model.card = card(start={"of": "stack"})
    return model


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: InContextGATv2(5, num_layers=1), "task's labels"),
        (with_start, "start"),
        (with_a_card_that_starts, "start"),
        (lambda: lipzoo.models.DeepGAT(6, 4, **SIZES, edge_feats=2), "reads edge features"),
        (body, "has no head"),
        (lambda: lipzoo.nn.GATConv(4, 2, 2), "GATConv: is no network"),
        (lambda: nn.Linear(2, 2), "Linear: is no network"),
        (lambda: "gat_lip_universal_16.cora_citeseer_digits", "has no head"),
        (lambda: "gat_lip_context_8", "task's labels"),
        (lambda: "gat_lip_16.corra", "gat_lip_16.corra"),
    ],
)
@pytest.mark.parametrize("kind", FORMATS)
def test_other_networks(kind, make, words, tmp_path):
    with pytest.raises(lipzoo.LipzooError, match=words):
        FORMATS[kind](make(), tmp_path / "file")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("opset", [17, 9, 0, -1, 10_000, "18", 18.0, True, None])
def test_opsets(opset, tmp_path):
    with pytest.raises(ConfigError, match="opset: must be a whole number from 18"):
        to_onnx(network(), tmp_path / "file.onnx", opset=opset)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_package_that_is_missing(package, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf"{package}: pip install 'lipzoo\[onnx\]'"):
        to_onnx(network(), tmp_path / "file")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", FORMATS)
def test_what_is_there_stays(kind, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists; choose another file"):
        FORMATS[kind](network(), path)
    with pytest.raises(ConfigError, match="no head"):
        FORMATS[kind](body(), path, overwrite=True)
    for place, words in ((tmp_path, "is a folder"), (tmp_path / "no" / "x", "is no folder")):
        with pytest.raises(OutputError, match=words):
            FORMATS[kind](network(), place)
    assert path.read_bytes() == b"mine"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


class Shifted(nn.Module):
    """A file that is wrong by a little, on every graph."""

    def __init__(self, network, by):
        super().__init__()
        self.network, self.by = network, by

    def forward(self, feat, edge_index):
        return self.network(feat, edge_index) + self.by


def test_the_check_tells_a_wrong_file():
    right = networks.EdgeIndexNetwork(network("gt"))
    checking.check_file(right, right, "file")
    for by in (1e-2, torch.nan):
        with pytest.raises(ConfigError, match="computes other logits"):
            checking.check_file(Shifted(right, by), right, "file")
    with pytest.raises(ConfigError, match="computes other logits"):
        checking.check_file(lambda feat, edges: right(feat, edges)[:, :1], right, "file")

    def broken(feat, edges):
        raise RuntimeError("no such kernel")

    with pytest.raises(ConfigError, match=r"does not run .*no such kernel"):
        checking.check_file(broken, right, "file")


def test_a_wrong_file_is_not_written(tmp_path, monkeypatch):
    path = tmp_path / "file.pt2"
    path.write_bytes(b"mine")
    load = torch.export.load

    class Loaded:
        def __init__(self, file):
            self.program = load(file)

        def module(self):
            return Shifted(self.program.module(), 0.1)

    monkeypatch.setattr(torch.export, "load", Loaded)
    with pytest.raises(ConfigError, match="computes other logits"):
        to_pt2(network(), path, overwrite=True)
    assert path.read_bytes() == b"mine"
    assert [each.name for each in tmp_path.iterdir()] == ["file.pt2"]


def test_weights_that_are_not_finite(tmp_path):
    model = network()
    with torch.no_grad():
        model.head.bias[0] = torch.nan
    with pytest.raises(ConfigError, match="not finite"):
        to_pt2(model, tmp_path / "file.pt2")


class ByValue(FeatureNorm):
    """Decides by a value, which a trace does not know."""

    def forward(self, graph, feat):
        return feat * 2 if feat.sum() > 0 else feat


class Adding(FeatureNorm):
    """Sums over the in-neighbours in one of the two ways that PyTorch has."""

    way = "index_add"

    def forward(self, graph, feat):
        total = feat.new_zeros(graph.num_dst, feat.shape[1])
        if self.way == "index_add":
            return total.index_add(0, graph.dst, feat[graph.src], alpha=0.5)
        return total.index_put((graph.dst,), feat[graph.src], accumulate=True)


def test_a_norm_that_decides_by_values(tmp_path):
    with pytest.raises(ConfigError, match="PyTorch cannot trace it"):
        to_pt2(network(feature_norm=ByValue(4)), tmp_path / "file.pt2")


@pytest.mark.slow
def test_sums_of_ones_own(tmp_path):
    norm = Adding(4)
    to_onnx(network(feature_norm=norm), tmp_path / "file.onnx")
    norm.way = "index_put"
    with pytest.raises(ConfigError, match="index_put"):
        to_onnx(network(feature_norm=norm), tmp_path / "other.onnx")
    assert [each.name for each in tmp_path.iterdir()] == ["file.onnx"]


class TestMetadata:
    def test_without_a_card(self):
        facts = describe(network("gat_sep"), None, None)
        assert facts["name"] == "DeepGAT"
        assert facts["edge_index"].endswith("self-loops are left out")
        assert not {"card", "sha256"} & set(facts)

    def test_what_is_read(self):
        encoded = describe(network(), card(encoding={"width": 64, "seed": 1}), None)
        assert "encode_task(task, width=64, seed=1)" in encoded["feat"]
        scaled = {"name": "cora", "options": {"scaling": "row"}, "fingerprint": "12"}
        assert "scaled (row" in describe(network(), card(dataset=scaled), None)["feat"]

    def test_changed_weights_are_no_longer_those_of_the_card(self, tmp_path):
        checkpoint = save_checkpoint(tmp_path / "checkpoint", small_model(), card())
        model = lipzoo.load_pretrained(checkpoint)
        assert networks.read_network(model)[1]["sha256"] == checkpoint.card.weights.sha256
        with torch.no_grad():
            model.head.bias += 1
        facts = networks.read_network(model)[1]
        assert facts["name"] == "DeepGAT"
        assert not {"card", "sha256"} & set(facts)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--to", "onx", "--out", "file"], "did you mean 'onnx'"),
        (["--to", "onnx", "--out", "file", "--opset", "12"], "from 18"),
        (["--to", "pt2", "--out", "file", "--opset", "18"], "leave it out"),
        (["--to", "onnx", "--out", "file", "--opset", "new"], "--opset"),
        (["--to", "pt2", "--out", "."], "is a folder"),
        (["--to", "pt2", "--out", "mine"], "pass --overwrite"),
        (["--to", "pt2"], "--out"),
        (["--out", "file"], "--to"),
    ],
)
def test_on_the_command_line(argv, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").write_bytes(b"mine")
    try:
        code = main(["convert", "gat_lip_2.cora", *argv])
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert words in line
    assert [each.name for each in tmp_path.iterdir()] == ["mine"]
    assert (tmp_path / "mine").read_bytes() == b"mine"


def test_the_command(tmp_path, capfd):
    checkpoint = save_checkpoint(tmp_path / "checkpoint", small_model(), card())
    out = tmp_path / "small.pt2"
    out.write_bytes(b"old")
    command = ["convert", str(checkpoint.folder), "--to", "pt2", "--out", str(out), "--overwrite"]
    assert main([*command, "--json"]) == 0
    printed = capfd.readouterr()
    assert '"name": "gat_lip_2.test"' in printed.out
    assert printed.err == ""
    torch.export.load(out)
