"""A user's mistake: exit code 2, one line that says what to do, and nothing is lost."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from lipzoo.cli import main
from lipzoo.training import export_run, train
from lipzoo.training.recipe import make_recipe


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    content = {"architecture": "test_tiny", "dataset": {"name": "iris"}, "epochs": 2, "seeds": [0]}
    train(make_recipe(content, "test"), folder / "run", verbose=False)
    return export_run(folder / "run", folder / "checkpoint")


@pytest.fixture
def work(tmp_path, checkpoint, monkeypatch):
    """A folder with a checkpoint, a run, a recipe and a good graph; the current directory."""
    shutil.copytree(checkpoint, tmp_path / "checkpoint")
    shutil.copytree(checkpoint.parent / "run", tmp_path / "run")
    (tmp_path / "recipe.yaml").write_text((tmp_path / "run/recipe.yaml").read_text())
    save_graph(tmp_path / "good.npz")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def save_graph(path: Path, **changes):
    """30 nodes in a ring with 4 features and 3 classes; ``None`` leaves an array out."""
    rng = np.random.default_rng(0)
    node = np.arange(30)
    arrays = {
        "src": node,
        "dst": (node + 1) % 30,
        "feat": rng.normal(size=(30, 4)).astype("float32"),
        "label": node % 3,
        "train_mask": node < 10,
        "val_mask": (node >= 10) & (node < 20),
        "test_mask": node >= 20,
    }
    arrays.update(changes)
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})


def snapshot(folder: Path) -> dict:
    return {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.rglob("*") if p.is_file()}


def refused(work: Path, capsys, *argv) -> str:
    """The one line that a command is refused with; no file was changed or added."""
    before = snapshot(work)
    capsys.readouterr()
    try:
        code = main([str(arg) for arg in argv])
    except SystemExit as stop:  # argparse
        code = stop.code
    printed = capsys.readouterr()
    assert code == 2
    lines = printed.err.strip().splitlines()
    assert "Traceback" not in printed.err
    assert lines[-1].startswith("lipzoo")
    assert len(lines) == 1
    assert snapshot(work) == before
    return lines[-1]


def finetune_on(data, out="new"):
    return ["finetune", "./checkpoint", "--data", data, "--out", out, "--epochs", "2", "--quiet"]


def test_the_good_case_works(work):
    assert main(finetune_on("good.npz")) == 0


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["info", "gat_lipp_16"], "did you mean 'gat_lip_16'"),
        (["evaluate", "gat_lip_16.corra"], "no pretrained weights 'gat_lip_16.corra'"),
        (["evaluate", "checkpoint/", "--data", "irs"], "did you mean 'iris'"),
        (["evaluate", "checkpoint/", "--data", "wine"], "features are (178, 13)"),
        (["evaluate", "no/such/folder"], "there is no such folder"),
        (["train", "recipe.yaml", "--out", "run"], "--overwrite"),
        (["train", "recipe.yaml", "--out", "recipe.yaml"], "is a file"),
        (["train", "recipe.yaml", "--out", "recipe.yaml/run"], "cannot be made"),
        (["train", "recipe.yaml", "--out", "new", "--set", "epoch=3"], "did you mean 'epochs'"),
        (["train", "recipe.yaml", "--out", "new", "--set", "epochs=many"], "epochs"),
        (["train", "recipe.yaml", "--out", "new", "--seeds", "x"], "--seeds"),
        (["train", "recipe.yaml", "--out", "new", "--jobs", "x"], "--jobs"),
        (["train", "recipe.yaml", "--out", "new", "--jobs", "0"], "jobs must be at least 1"),
        ([*finetune_on("good.npz"), "--epochs", "0"], "epochs"),
        ([*finetune_on("good.npz"), "--lr", "-1"], "optimizer.lr"),
        ([*finetune_on("good.npz"), "--patience", "0"], "early_stopping.patience"),
        (["export", "run", "--out", "checkpoint"], "--overwrite"),
        (["export", "checkpoint"], "holds no run"),
        (["finetune", "checkpoint/", "--data", "iris", "--out", "checkpoint"], "--overwrite"),
        (["predict", "checkpoint/", "--data", "iris", "--out", "good.npz"], "--overwrite"),
        (["predict", "checkpoint/", "--data", "iris", "--out", "no/p.csv"], "is no folder"),
        (["demo", "--out", "run"], "--overwrite"),
    ],
)
def test_wrong_names_options_and_outputs(work, capsys, argv, words):
    assert words in refused(work, capsys, *argv)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ("{num_head: 2}", "did you mean 'num_heads'"),
        ("{num_heads: two}", "num_heads"),
        ("{hidden_feats: 7}", "multiple of num_heads"),
        ("{score_norm: lipshitz}", "did you mean 'lipschitz'"),
        ("{score_norm: {name: lipschitz, alpha: 0}}", "alpha must be > 0"),
        ("{residual: skip}", "no residual scheme"),
        ("{feature_norm: pairnrm}", "did you mean 'pairnorm'"),
        ("{activation: rely}", "did you mean 'relu'"),
        ("{backend: fast}", "no backend"),
        ("{feat_drop: 1.5}", "feat_drop"),
    ],
)
def test_wrong_model_arguments(work, capsys, overrides, words):
    recipe = (work / "recipe.yaml").read_text()
    (work / "wrong.yaml").write_text(f"{recipe}overrides: {overrides}\n")
    argv = ["train", "wrong.yaml", "--out", "run", "--overwrite", "--quiet"]
    assert words in refused(work, capsys, *argv)  # and the old run is still there


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"feat": None}, "feat"),
        ({"label": None}, "label"),
        ({"feat": np.full((30, 4), np.nan, "float32")}, "NaN"),
        ({"label": np.arange(30) - 5}, "label"),
        ({"train_mask": np.zeros(30, bool)}, "train_mask"),
        ({"val_mask": np.arange(30) < 20}, "overlap"),
        ({"dst": np.arange(30) + 1}, "dst"),
        ({"feat": np.zeros((29, 4), "float32")}, "29"),
    ],
)
def test_wrong_graphs(work, capsys, changes, words):
    save_graph(work / "wrong.npz", **changes)
    line = refused(work, capsys, *finetune_on("wrong.npz"))
    assert words in line
    assert "wrong.npz" in line


@pytest.mark.parametrize("name", ["empty.npz", "empty.bin", "empty.csv"])
def test_zero_byte_files(work, capsys, name):
    (work / name).write_bytes(b"")
    refused(work, capsys, *finetune_on(f"./{name}"))


class TestWeights:
    def test_wrong_hash(self, work, capsys):
        file = work / "checkpoint/model.safetensors"
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
        assert "hash" in refused(work, capsys, "evaluate", "checkpoint/")

    def test_cut_short(self, work, capsys):
        file = work / "checkpoint/model.safetensors"
        file.write_bytes(file.read_bytes()[:-100])
        assert "cut short" in refused(work, capsys, "evaluate", "checkpoint/")

    def test_zero_bytes(self, work, capsys):
        (work / "checkpoint/model.safetensors").write_bytes(b"")
        assert "0 bytes" in refused(work, capsys, "evaluate", "checkpoint/")

    def test_no_weights(self, work, capsys):
        (work / "checkpoint/model.safetensors").unlink()
        assert "model.safetensors" in refused(work, capsys, "evaluate", "checkpoint/")

    def test_a_broken_card(self, work, capsys):
        card = work / "checkpoint/card.yaml"
        card.write_text(card.read_text().replace("fingerprint:", "fingerprnt:"))
        line = refused(work, capsys, "evaluate", "checkpoint/")
        assert "fingerprint" in line
        card.write_bytes(b"")
        assert "empty" in refused(work, capsys, "evaluate", "checkpoint/")

    def test_a_pickle_is_not_opened(self, work, capsys):
        class Evil:
            def __reduce__(self):
                return Path.touch, (work / "executed",)

        (work / "model.pt").write_bytes(pickle.dumps(Evil()))
        line = refused(work, capsys, "evaluate", "./model.pt")
        assert "never loaded" in line
        (work / "state.pt").write_bytes(b"")
        torch.save({"a": torch.ones(2)}, work / "state.pt")
        assert "never loaded" in refused(work, capsys, "evaluate", "./state.pt")
