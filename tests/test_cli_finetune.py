"""`lipzoo finetune` and `lipzoo predict` as a user calls them."""

import json

import numpy as np
import pytest

import lipzoo
from lipzoo.cli import main
from lipzoo.training import export_run, train
from lipzoo.training.recipe import make_recipe


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    content = {"architecture": "test_tiny", "dataset": {"name": "iris"}, "epochs": 5, "seeds": [0]}
    train(make_recipe(content, "test"), folder / "run", verbose=False)
    return str(export_run(folder / "run", folder / "test_tiny.iris"))


def finetune(capsys, *argv):
    capsys.readouterr()
    assert main(["finetune", *map(str, argv), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys, *argv):
    capsys.readouterr()
    try:
        code = main(["finetune", *map(str, argv)])
    except SystemExit as stop:  # argparse
        code = stop.code
    assert code == 2
    [line] = capsys.readouterr().err.splitlines()
    return line


OPTIONS = {
    "--freeze": "body",
    "--unfreeze-every": "2",
    "--layer-lr-decay": "0.9",
    "--class-weight": "1,2,0.5",
    "--epochs": "6",
    "--lr": "0.02",
    "--weight-decay": "0.001",
    "--patience": "4",
    "--seed": "5",
    "--save-every": "2",
    "--set": "feat_drop=0.25",
}


def test_every_option_arrives(weights, tmp_path, capsys):
    options = [word for pair in OPTIONS.items() for word in pair]
    options.append("--warm-start")
    facts = finetune(capsys, weights, "--data", "wine", "--out", tmp_path, *options)
    card = lipzoo.load_pretrained(tmp_path).card
    got = card.recipe
    assert (got["freeze"], got["unfreeze_every"], got["layer_lr_decay"]) == ("body", 2, 0.9)
    assert got["class_weights"] == [1, 2, 0.5]
    assert got["warm_start"] is True
    assert got["optimizer"] | {"lr": 0.02, "weight_decay": 0.001} == got["optimizer"]
    assert (got["epochs"], got["early_stopping"]["patience"], got["seed"]) == (6, 4, 5)
    assert card.architecture.args["feat_drop"] == 0.25
    assert facts["metrics"] == card.weights.metrics


def test_resume_goes_on_with_the_same_command(weights, tmp_path, capsys):
    command = [weights, "--data", "wine", "--out", tmp_path, "--epochs", "4"]
    command += ["--class-weight", "balanced"]
    first = finetune(capsys, *command)
    assert "--overwrite" in refused(capsys, *command)
    assert finetune(capsys, *command, "--resume") == first
    line = refused(capsys, *command, "--resume", "--layer-lr-decay", "0.5")
    assert "recipe.layer_lr_decay differ" in line


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--class-weight", "balancd"], "did you mean 'balanced'"),
        (["--class-weight", "1,2"], "for 3 classes"),
        (["--class-weight", "1;2"], "such as 1,1,2.5"),
        (["--layer-lr-decay", "2"], "layer_lr_decay"),
        (["--unfreeze-every", "0"], "unfreeze_every"),
        (["--unfreeze-every", "soon"], "--unfreeze-every"),
        (["--save-every", "0"], "save_every"),
        (["--set", "feat_dropp=0.1"], "did you mean 'feat_drop'"),
        (["--set", "epochs=3"], "no argument of the model"),
        (["--set", "in_feats=3"], "come from the task"),
        (["--set", "feat_drop"], "key=value"),
    ],
)
def test_wrong_options(weights, tmp_path, capsys, argv, words):
    out = tmp_path / "out"
    assert words in refused(capsys, weights, "--data", "wine", "--out", out, *argv)
    assert not out.exists()


def test_multilabel_to_the_csv(weights, tmp_path, capsys):
    node = np.arange(40)
    feat = np.random.default_rng(0).normal(size=(40, 3))
    arrays = {"src": node, "dst": (node + 1) % 40, "feat": feat}
    np.savez(tmp_path / "known.npz", **arrays, label=(feat > 0).astype(int))
    np.savez(tmp_path / "new.npz", **arrays)
    out, table = tmp_path / "tuned", tmp_path / "p.csv"
    options = ["--epochs", "5", "--class-weight", "balanced", "--out", out]
    facts = finetune(capsys, weights, "--data", tmp_path / "known.npz", *options)
    assert "test_micro_f1" in facts["metrics"]
    new = str(tmp_path / "new.npz")
    assert main(["predict", str(out), "--data", new, "--out", str(table)]) == 0
    header, *rows = (line.split(",") for line in table.read_text().splitlines())
    assert header == ["node", "class", "p_0", "p_1", "p_2"]
    for _, named, *chances in rows:
        assert named.split() == [str(c) for c, p in enumerate(chances) if float(p) > 0.5]
