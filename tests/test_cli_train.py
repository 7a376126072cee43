"""`lipzoo train` and `finetune`: an architecture on one's own data, more epochs, what is said."""

import json
import shutil
import threading

import numpy as np
import pytest
import torch
from registry_state import fresh_registry

import lipzoo
from lipzoo import _progress
from lipzoo._yaml import read_yaml
from lipzoo.cli import main
from lipzoo.errors import ConfigError, DataError
from lipzoo.training import evaluate, export_run, fit, train
from lipzoo.training.recipe import FitSettings, load_recipe, make_recipe

TINY = {"architecture": "test_tiny", "dataset": {"name": "iris"}}


def ran(capsys, *argv):
    capsys.readouterr()
    assert main([str(arg) for arg in argv]) == 0
    return capsys.readouterr()


def refused(capsys, *argv):
    capsys.readouterr()
    assert main([str(arg) for arg in argv]) == 2
    [line] = capsys.readouterr().err.splitlines()
    return line


def weights(run, seed=0):
    return (run / f"seed_{seed}" / "model.safetensors").read_bytes()


@pytest.fixture
def mine(tmp_path):
    """A graph of the user's: a ring of 60 nodes whose class is the sign of the first feature."""
    node = np.arange(60)
    feat = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    label = (feat[:, 0] > 0).astype(np.int64)
    masks = {name: node % 3 == i for i, name in enumerate(("train_mask", "val_mask", "test_mask"))}
    file = tmp_path / "mine.npz"
    np.savez(file, src=node, dst=(node + 1) % 60, feat=feat, label=label, **masks)
    return file


# ------------------------------------------------------------- architectures


@pytest.mark.parametrize("way", [["--architecture", "test_tiny"], ["test_tiny"]])
def test_an_architecture_on_data_of_ones_own(mine, tmp_path, capsys, way):
    options = ["--data", mine, "--epochs", 6, "--lr", 0.01, "--seeds", "0", "--quiet"]
    options += ["--patience", 5, "--weight-decay", 0.001, "--metric", "roc_auc"]
    options += ["--set", "overrides.feat_drop=0.2", "--data-option", "scaling=standard"]
    run = tmp_path / "run"
    facts = json.loads(ran(capsys, "train", *way, *options, "--out", run, "--json").out)
    assert facts["name"] == "test_tiny.mine"
    assert "test_roc_auc" in facts["metrics"]
    kept = load_recipe(run / "recipe.yaml")
    assert kept.dataset == {"name": str(mine), "scaling": "standard"}
    assert (kept.epochs, kept.optimizer.lr, kept.optimizer.weight_decay) == (6, 0.01, 0.001)
    assert (kept.early_stopping.patience, kept.overrides) == (5, {"feat_drop": 0.2})
    ran(capsys, "train", run / "recipe.yaml", "--out", tmp_path / "b", "--seeds", "0", "--quiet")
    assert weights(run) == weights(tmp_path / "b")


def test_what_is_to_be_trained_is_said_whole(mine, tmp_path, capsys):
    out = ["--out", tmp_path / "out"]
    line = refused(capsys, "train", "gat_lip_16", *out)
    assert "gat_lip_16: is an architecture" in line
    assert "lipzoo train --architecture gat_lip_16 --data DATA" in line
    assert "recipes of it that ship: gat_lip_16.cora, gat_lip_16.digits" in line
    assert "did you mean" not in line
    assert "say what" in refused(capsys, "train", *out)
    assert "leave one out" in refused(
        capsys, "train", "gat_lip_16.cora", "--architecture", "gat_2", "--data", mine, *out
    )
    assert "a recipe names its data" in refused(
        capsys, "train", "gat_lip_16.cora", "--data", mine, *out
    )
    assert "did you mean 'gat_lip_16'" in refused(
        capsys, "train", "--architecture", "gat_lipp_16", "--data", mine, *out
    )
    assert "did you mean 'gat_lip_16.cora'" in refused(capsys, "train", "gat_lip_16.coraa", *out)
    assert not (tmp_path / "out").exists()


def test_a_recipe_without_seeds_has_five():
    assert make_recipe(TINY, "test").seeds == [0, 1, 2, 3, 4]


# --------------------------------------------------------------- more epochs


@pytest.mark.parametrize("schedule", ["constant", "plateau"])
def test_a_longer_run_is_that_of_as_many_epochs_from_the_start(tmp_path, schedule):
    content = {**TINY, "seeds": [0, 1], "overrides": {"feat_drop": 0.3}, "early_stopping": {}}
    content["schedule"] = {"name": schedule, "patience": 2}
    content["baselines"] = {"plain": {"overrides": {"score_norm": None}}}
    short, long = (make_recipe({**content, "epochs": n}, "test") for n in (6, 14))
    train(short, tmp_path / "parts", baselines=True, verbose=False)
    train(long, tmp_path / "whole", baselines=True, verbose=False)
    # One seed is asked for: the other, and the baseline, are not left at another length.
    found = train(long, tmp_path / "parts", seeds=[1], resume=True, verbose=False)
    assert found == read_yaml(tmp_path / "whole/summary.yaml")
    for place in ("", "baselines/plain"):
        for seed in (0, 1):
            for file in ("model.safetensors", "metrics.csv", "result.yaml"):
                one, two = (
                    tmp_path / run / place / f"seed_{seed}" / file for run in ("parts", "whole")
                )
                assert one.read_bytes() == two.read_bytes()
    assert load_recipe(tmp_path / "parts/recipe.yaml") == load_recipe(
        tmp_path / "whole/recipe.yaml"
    )


@pytest.mark.parametrize(
    ("before", "changes", "words"),
    [
        ({"epochs": 6}, {"epochs": 4}, "6 epochs are done already"),
        ({"epochs": 5, "eval_every": 2}, {"epochs": 8}, "eval_every is 2"),
        ({"epochs": 4, "schedule": {"name": "cosine"}}, {"epochs": 8}, "schedule 'cosine'"),
    ],
)
def test_what_would_not_be_the_same_is_refused_in_words(tmp_path, before, changes, words):
    content = {**TINY, "seeds": [0], **before}
    train(make_recipe(content, "test"), tmp_path, verbose=False)
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match=f"cannot go on to {changes['epochs']}: .*{words}"):
        train(make_recipe({**content, **changes}, "test"), tmp_path, resume=True, verbose=False)
    assert kept == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_without_a_state_there_is_nothing_to_go_on_from(tmp_path):
    content = {**TINY, "seeds": [0]}
    train(make_recipe({**content, "epochs": 3}, "test"), tmp_path, verbose=False)
    (tmp_path / "seed_0/state.pt").unlink()
    with pytest.raises(ConfigError, match="keeps no state"):
        train(make_recipe({**content, "epochs": 6}, "test"), tmp_path, resume=True, verbose=False)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    train(make_recipe({**TINY, "epochs": 5, "seeds": [0]}, "test"), folder / "run", verbose=False)
    return export_run(folder / "run", folder / "test_tiny.iris")


@pytest.mark.parametrize("options", [{}, {"warm_start": True}, {"unfreeze_every": 3}])
def test_a_longer_fine_tuning_is_that_of_as_many_epochs(source, tmp_path, options):
    task = lipzoo.load_dataset("wine")
    options = {**options, "verbose": False, "feat_drop": 0.3}
    whole = lipzoo.finetune(source, task, out=tmp_path / "whole", epochs=15, **options)
    lipzoo.finetune(source, task, out=tmp_path / "parts", epochs=6, **options)
    parts = lipzoo.finetune(source, task, out=tmp_path / "parts", epochs=15, resume=True, **options)
    assert (parts.history, parts.metrics) == (whole.history, whole.metrics)
    for name in ("model.safetensors", "card.yaml", "training/settings.yaml"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    with pytest.raises(ConfigError, match="15 epochs are done already"):
        lipzoo.finetune(source, task, out=tmp_path / "parts", epochs=9, resume=True, **options)


def test_the_same_command_names_resume(source, tmp_path, capsys):
    command = ["finetune", source, "--data", "wine", "--out", tmp_path / "out", "--epochs", 2]
    ran(capsys, *command, "--quiet")
    line = refused(capsys, *command)
    assert "go on with --resume" in line
    assert "--overwrite" in line
    ran(capsys, *command[:-1], 4, "--resume", "--quiet")
    assert read_yaml(tmp_path / "out/card.yaml")["recipe"]["epochs"] == 4
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange/mine.txt").write_text("mine")
    line = refused(capsys, "finetune", source, "--data", "wine", "--out", tmp_path / "strange")
    assert "--resume" not in line


# ------------------------------------------------------------- what is said


@pytest.fixture
def lopsided(tmp_path):
    """A ring whose features say nothing; nine nodes in ten are of class 0."""
    node = np.arange(60)
    masks = {name: node % 3 == i for i, name in enumerate(("train_mask", "val_mask", "test_mask"))}
    label = (node // 3 % 10 == 0).astype(np.int64)
    file = tmp_path / "lopsided.npz"
    feat = np.ones((60, 4), np.float32)
    np.savez(file, src=node, dst=(node + 1) % 60, feat=feat, label=label, **masks)
    return file


def test_a_fine_tuning_to_one_class_says_so(source, lopsided):
    task = lipzoo.load_dataset(lopsided)
    with pytest.warns(UserWarning, match="predicts class 0 for every node.*class_weight") as said:
        result = lipzoo.finetune(source, task, epochs=5, verbose=False)
    assert len([each for each in said if "every node" in str(each.message)]) == 1
    assert result.only_class == 0
    assert result.metrics["test_accuracy"] > 0.8  # which looks fine
    task.metric = "roc_auc"  # for which the order counts, and not the class
    assert lipzoo.finetune(source, task, epochs=2, verbose=False).only_class is None


@pytest.mark.parametrize("options", [[], ["--jobs", "2"], ["--device", "cpu"]])
def test_a_training_to_one_class_says_so_at_the_end(lopsided, tmp_path, capsys, options):
    argv = ["train", "test_tiny", "--data", lopsided, "--epochs", 20, "--seeds", "0,2", *options]
    printed = ran(capsys, *argv, "--out", tmp_path / "run", "--json")
    facts = json.loads(printed.out)
    assert facts["only_class"] == [{"seed": 0, "class": 0}, {"seed": 2, "class": 0}]
    assert facts["metrics"]["test_accuracy"]["mean"] == 0.9
    [line] = printed.err.splitlines()
    assert line.startswith(
        "lipzoo: note: test_tiny.lopsided, seeds 0, 2: the model predicts class 0"
    )
    assert "optimizer.lr" in line


def test_a_learnt_fine_tuning_says_nothing(source, tmp_path, capsys, recwarn):
    argv = ["finetune", source, "--data", "iris", "--out", tmp_path / "o", "--epochs", 30]
    facts = json.loads(ran(capsys, *argv, "--json").out)
    assert facts["only_class"] is None
    assert facts["name"] == "test_tiny.iris"


def test_what_takes_long_is_said_and_what_does_not_is_not(capsys, monkeypatch):
    with _progress.stage(True, "loading a"):
        pass
    assert capsys.readouterr().err == ""
    said = threading.Event()
    monkeypatch.setattr(_progress, "STAGE_SECONDS", 0.01)
    say = _progress.say

    def noted(*args, **facts):
        say(*args, **facts)
        said.set()

    monkeypatch.setattr(_progress, "say", noted)
    with _progress.stage(True, "loading b"):
        assert said.wait(30)
    with _progress.stage(False, "loading c"):
        pass
    assert capsys.readouterr().err == "loading b ...\n"


def test_stages_of_a_program(source, tmp_path, capsys):
    argv = ["finetune", source, "--data", "wine", "--out", tmp_path, "--epochs", 3, "--json"]
    printed = ran(capsys, *argv, "--progress", "json")
    events = [json.loads(line) for line in printed.err.splitlines()]
    stages = [event["what"] for event in events if event["event"] == "stage"]
    assert stages[0] == "loading wine"
    assert "reading the graph" in stages[1]
    assert "first epoch" in stages[2]
    assert [e["epoch"] for e in events if e["event"] == "evaluation"] == [1, 2, 3]
    [end] = [event for event in events if event["event"] == "end"]  # a remark may follow
    assert json.loads(printed.out)["best_epoch"] == end["best_epoch"]


@pytest.mark.parametrize("options", [["--quiet"], ["--progress", "none"], ["--json"]])
def test_silence(source, tmp_path, capsys, options):
    argv = ["finetune", source, "--data", "wine", "--out", tmp_path, "--epochs", 3]
    assert ran(capsys, *argv, *options).err == ""


# ------------------------------------------------------------------- metrics


@pytest.mark.parametrize("use", ["evaluate", "fit", "finetune"])
def test_a_misspelt_metric_is_caught(source, use):
    task = lipzoo.load_dataset("iris")
    task.metric = "roc_acu"
    model = lipzoo.load_pretrained(source)
    uses = {
        "evaluate": lambda: evaluate(model, task),
        "fit": lambda: fit(model, task, FitSettings(epochs=1), verbose=False),
        "finetune": lambda: lipzoo.finetune(source, task, epochs=1, verbose=False),
    }
    with pytest.raises(DataError, match="no metric 'roc_acu'; did you mean 'roc_auc'"):
        uses[use]()
    task.metric = "roc_auc"  # of three classes
    with pytest.raises(DataError, match="is for two classes"):
        uses[use]()


# ------------------------------------------------- classes that are no DeepAttentionNet


class Plain(torch.nn.Module):
    """A network of one's own, whose layers have names of their own."""

    def __init__(self, in_feats: int, num_classes: int, width: int = 8) -> None:
        super().__init__()
        self.first = torch.nn.Linear(in_feats, width)
        self.middle = torch.nn.Linear(width, width)
        self.last = torch.nn.Linear(width, num_classes)

    def forward(self, graph, feat):
        return self.last(self.middle(self.first(feat).relu()).relu())


class Movable(Plain):
    """The same, with what is needed to be fine-tuned."""

    def layer_groups(self):
        parts = {"input": self.first, "layer_1": self.middle, "head": self.last}
        return {name: list(part.parameters()) for name, part in parts.items()}

    def reset_input(self, in_feats):
        self.first = torch.nn.Linear(in_feats, self.first.out_features)

    def reset_classifier(self, num_classes):
        self.last = torch.nn.Linear(self.last.in_features, num_classes)


@pytest.fixture
def registered(tmp_path):
    with fresh_registry():
        for kind in (Plain, Movable):
            lipzoo.register_model(kind)
            text = f"model: {kind.__name__}\ndescription: Mine.\n"
            (tmp_path / "configs").mkdir(exist_ok=True)
            (tmp_path / "configs" / f"{kind.__name__.lower()}.yaml").write_text(text)
        lipzoo.add_config_dir(tmp_path / "configs")
        yield tmp_path


@pytest.fixture
def plain(registered):
    """Weights of a plain module: 4 features, 3 classes."""
    recipe = make_recipe({**TINY, "architecture": "plain", "epochs": 2, "seeds": [0]}, "test")
    with pytest.warns(UserWarning, match="fine-tuned as a whole, .* it has no layer_groups, reset"):
        train(recipe, registered / "run", verbose=False)
    return export_run(registered / "run", registered / "plain.iris")


def test_a_plain_module_is_fine_tuned_as_a_whole(plain, tmp_path):
    before, wine = lipzoo.load_pretrained(plain), lipzoo.load_dataset("wine")
    other = wine.with_ndata(feat=wine.feat[:, :4] / wine.feat[:, :4].amax(0))
    for task in (lipzoo.load_dataset("iris", split_seed=1), other):
        still = lipzoo.finetune(plain, task, epochs=1, lr=1e-12, verbose=False)
        assert still.metrics == pytest.approx(evaluate(before, task), abs=1e-6)
        result = lipzoo.finetune(plain, task, epochs=5, lr=0.01, out=tmp_path / "o", verbose=False)
        assert (result.kept, result.replaced) == (["model"], [])
        after = lipzoo.load_pretrained(tmp_path / "o")
        assert evaluate(after, task) == pytest.approx(result.metrics, abs=1e-7)
        for name, tensor in before.state_dict().items():
            assert not torch.equal(tensor, after.state_dict()[name]), name
        again = lipzoo.finetune(tmp_path / "o", task, epochs=1, verbose=False)  # its own result too
        assert again.kept == ["model"]
        shutil.rmtree(tmp_path / "o")


@pytest.mark.parametrize(
    ("dataset", "options", "words"),
    [
        (
            "wine",
            {},
            "wine: to go from 4 features and 3 classes to 13 and 3: a Plain has no reset_in",
        ),
        ("digits", {}, "to 64 and 10: a Plain has no reset_input and no reset_classifier"),
        ("iris", {"freeze": "body"}, "freeze: a Plain has no layer_groups; add"),
        (
            "iris",
            {"unfreeze_every": 2, "layer_lr_decay": 0.5},
            "unfreeze_every and layer_lr_decay: a Plain has no layer_groups",
        ),
        ("iris", {"edge_feats": 2}, "edge_feats is 2, and the width of the graph's edge features"),
        ("iris", {"start": "stack"}, "has no start_logits"),
        ("iris", {"warm_start": True}, "warm_start: a Plain has no linear head"),
    ],
)
def test_what_a_plain_module_would_need(plain, tmp_path, dataset, options, words):
    with pytest.raises(ConfigError if "edge_feats" not in options else DataError, match=words):
        lipzoo.finetune(plain, dataset, **options, out=tmp_path / "o", verbose=False)
    assert not (tmp_path / "o").exists()


def test_a_plain_module_with_what_is_needed_is_fine_tuned(registered, recwarn):
    recipe = make_recipe({**TINY, "architecture": "movable", "epochs": 2, "seeds": [0]}, "test")
    train(recipe, registered / "run", verbose=False)
    assert not [each for each in recwarn if "fine-tuned" in str(each.message)]
    made = export_run(registered / "run", registered / "movable.iris")
    wine = lipzoo.load_dataset("wine")
    out = registered / "tuned"
    result = lipzoo.finetune(made, wine, epochs=3, freeze="body", out=out, verbose=False)
    assert (result.kept, result.replaced) == (["layer_1"], ["input", "head"])
    before, after = lipzoo.load_pretrained(made), lipzoo.load_pretrained(out)
    assert torch.equal(before.middle.weight, after.middle.weight)
    assert evaluate(after, wine) == pytest.approx(result.metrics, abs=1e-7)
    with pytest.raises(ConfigError, match="has no start_logits"):
        lipzoo.finetune(made, wine, start="stack", epochs=1, verbose=False)


# --------------------------------------------------------------- training in parts


def test_batching_is_an_option_of_both_commands(source, tmp_path, capsys):
    run, tuned = tmp_path / "run", tmp_path / "tuned"
    common = ["--epochs", 2, "--quiet", "--batching"]
    train_it = ["train", "test_tiny", "--data", "iris", "--out", run, "--seeds", 0, *common]
    ran(capsys, *train_it, "clusters", "--set", "batching.parts=8")
    assert read_yaml(run / "recipe.yaml")["batching"] == {"name": "clusters", "parts": 8}
    said = "{name: clusters, parts: 8, per_batch: 2}"
    ran(capsys, "finetune", source, "--data", "iris", "--out", tuned, *common, said)
    wanted = {"name": "clusters", "parts": 8, "per_batch": 2, "method": "metis"}
    assert read_yaml(tuned / "card.yaml")["recipe"]["batching"] == wanted


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("cluster", "did you mean 'clusters'"),
        ("{name: [", "must be a name, or a mapping in YAML"),
        ("[1]", "must be a name, or a mapping in YAML"),
        ("{name: clusters, parts: 1000}", "cannot be cut into 1000 parts"),
        ("{name: neighbours, fanouts: [1]}", "fanouts are for 1 layers"),
    ],
)
def test_a_batching_that_there_is_not_is_refused(source, tmp_path, capsys, said, words):
    out = tmp_path / "out"
    common = ["--data", "iris", "--out", out, "--quiet", "--batching", said]
    assert words in refused(capsys, "train", "test_tiny", *common)
    assert words in refused(capsys, "finetune", source, *common)
    assert not out.exists()
