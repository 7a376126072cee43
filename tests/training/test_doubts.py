"""Data that nothing, or little, can be learnt from: said before, in words, and of no other data."""

import json
import warnings

import pytest
import torch
from block_graphs import blocks
from torch.nn.functional import one_hot

import lipzoo
from lipzoo import GraphTask
from lipzoo._graph import make_graph
from lipzoo.cli import main
from lipzoo.datasets import encode_task, load_dataset, save_npz, scale_features
from lipzoo.training.doubts import one_label, warn_of_data
from lipzoo.training.metrics import only_class, only_class_words

N = 3000


def of(*columns):
    """A task without a split whose features are these columns."""
    none = torch.empty(0, dtype=torch.int64)
    task = GraphTask.from_graph(make_graph(none, none, N))
    labels, train = torch.arange(N) % 2, torch.ones(N, dtype=torch.bool)
    feat = torch.stack([column.float() for column in columns], 1)
    return task.with_ndata(feat=feat, label=labels, train_mask=train)


def said(task):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        warn_of_data(task)
    return [str(each.message) for each in found]


def normal(seed=0):
    return torch.randn(N, generator=torch.Generator().manual_seed(seed))


YEAR, INCOME, SHARE = 2000 + 5 * normal(), 5e4 + 1e4 * normal(1), torch.rand(N)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ((YEAR, SHARE), r"feature 0 \(2e\+03 ± 5\) hardly differs"),
        ((SHARE, 121.5 + 0.01 * normal()), r"feature 1 \(122 ± 0.01\) hardly differs"),
        ((INCOME, SHARE), r"features 0 \(.*\) and 1 \(.*\) are of very different sizes"),
        ((SHARE, torch.where(SHARE < 0.2, INCOME, 0.0)), "features 1 .* and 0 "),
        ((SHARE, torch.full((N,), 1e6)), r"features 1 \(1e\+06 ± 0\) and 0 "),
    ],
)
def test_columns_in_units_of_their_own(columns, words):
    task = of(*columns)
    with pytest.warns(UserWarning, match=f"{words}.*scaling=standard"):
        warn_of_data(task)
    assert said(encode_task(task, width=8)) == []
    assert said(scale_features(task, "standard")) == []
    assert said(task.with_feat(torch.ones(N, 2))) == []


def words_of(seed=0):
    """Bags of words of all frequencies, one of a thousand words in each node's text."""
    frequent = torch.logspace(-3.5, 0, 40)
    drawn = torch.rand(N, 40, generator=torch.Generator().manual_seed(seed))
    counts = (drawn < frequent) * torch.randint(1, 200, (N, 40))
    counts[:, 0] = torch.arange(N) == 0
    return counts


def test_words_flags_and_constants_are_of_one_unit():
    counts = words_of()
    flags = counts > 0
    nearly = torch.arange(N) != 5  # a flag that all nodes but one have
    assert said(of(*flags.T, nearly)) == []
    assert said(of(*counts.T)) == []
    shares = counts / counts.sum(1, keepdim=True).clamp(min=1)
    assert said(of(*shares.T)) == []
    assert said(of(SHARE, torch.ones(N), torch.full((N,), -1e-9), torch.zeros(N))) == []
    assert said(of(SHARE)) == []
    for name in ("digits", "iris"):
        assert said(load_dataset(name)) == []


def test_training_nodes_of_one_class(recwarn):
    task = blocks()
    assert not one_label(task)
    label = task.labels.clone()
    label[task.train_mask] = 1
    task = task.with_ndata(label=label)
    lipzoo.finetune("gat_lip_2.cora", task, epochs=2, verbose=False)
    [words] = [str(each.message) for each in recwarn if each.category is UserWarning]
    assert "all training nodes are of class 1" in words
    assert "class_weight" not in words


@pytest.mark.parametrize("labels", [["+1", "-1"] * 30, [0] * 60], ids=["words", "numbers"])
def test_one_class(labels):
    ring = torch.stack([torch.arange(60), torch.arange(60).roll(1)])
    task = GraphTask.from_edges(ring, {"feat": torch.randn(60, 2), "label": labels})
    assert task.num_classes == 1
    with pytest.warns(UserWarning, match="has one class, so that every prediction is right"):
        lipzoo.finetune("gat_lip_2.cora", task, epochs=1, verbose=False)


@pytest.mark.parametrize("command", ["train", "tune"])
def test_a_training_on_one_class(tmp_path, capsys, command):
    task = blocks()
    label = task.labels.clone()
    label[task.train_mask] = 1
    save_npz(task.with_ndata(label=label), tmp_path / "one.npz")
    call = [command, "test_tiny", "--data", tmp_path / "one.npz", "--epochs", 2, "--seeds", 0]
    if command == "tune":
        (tmp_path / "space.yaml").write_text("optimizer.lr: [0.01, 0.001]")
        call += ["--space", tmp_path / "space.yaml", "--trials", 2]
    assert main([*map(str, call), "--out", str(tmp_path / "run"), "--json"]) == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if "note:" in line]
    assert len(notes) == 1
    assert "all training nodes are of class 1" in notes[0]


def several():
    """A task whose nodes all have label 0 nearly always, and features that say nothing."""
    task = blocks()
    flags = one_hot(task.labels, task.num_classes).float()
    flags[:, 0] = 1
    graph = task.graph.local_var()
    graph.ndata.update(label=flags, feat=torch.ones_like(task.feat))
    return GraphTask.from_graph(graph)


def test_the_same_labels_for_every_node():
    task = several()
    logits = torch.tensor([1.0, -1.0, 2.0] + [-1.0] * (task.num_classes - 3))
    logits = logits.expand(task.num_nodes, -1).clone()
    assert only_class(logits, task) == [0, 2]
    assert "predicts the same labels (0, 2) for every" in only_class_words("x", [0, 2], "")
    assert only_class(-logits.abs(), task) == []
    assert "predicts none of the labels for every node" in only_class_words("x", [], "")
    logits[3] *= -1
    assert only_class(logits, task) is None


def test_a_model_that_gives_all_nodes_the_same_labels_is_told_of(tmp_path, capsys):
    with pytest.warns(UserWarning, match="predicts the same labels .* for every node"):
        result = lipzoo.finetune(
            "gat_lip_2.cora", several(), epochs=3, out=tmp_path / "out", verbose=False
        )
    assert result.only_class == [0]
    save_npz(several(), tmp_path / "several.npz")
    command = ["predict", tmp_path / "out", "--data", tmp_path / "several.npz", "--out"]
    assert main([*map(str, command), str(tmp_path / "p.csv")]) == 0
    assert "all are predicted as the same labels (0)" in capsys.readouterr().out
    command = ["train", "test_tiny", "--data", tmp_path / "several.npz", "--epochs", 5]
    command += ["--seeds", "0", "--out", tmp_path / "run", "--json"]
    assert main(list(map(str, command))) == 0
    printed = capsys.readouterr()
    [only] = json.loads(printed.out)["only_class"]
    assert only["seed"] == 0
    assert only_class_words("x", only["class"], "")[2:60] in printed.err


def test_training_nodes_of_the_same_labels():
    task = several()
    assert not one_label(task.with_ndata(train_mask=torch.ones(task.num_nodes, dtype=torch.bool)))
    first = (task.labels == task.labels[0]).all(1)
    task = task.with_ndata(train_mask=first)
    [words] = said(task)
    assert "training nodes are of the same labels (0" in words


def test_weights_that_were_chosen_by_the_order_of_nodes_are_not_doubted(tmp_path, capsys):
    task = blocks(classes=2)
    task = task.with_ndata(feat=torch.ones_like(task.feat))
    save_npz(task, tmp_path / "two.npz")
    for metric in ("accuracy", "roc_auc"):
        task.metric, out = metric, tmp_path / metric
        lipzoo.finetune("gat_lip_2.cora", task, epochs=1, out=out, verbose=False)
        command = ["predict", out, "--data", tmp_path / "two.npz", "--out", f"{out}.csv"]
        assert main(list(map(str, command))) == 0
        assert ("all are predicted" in capsys.readouterr().out) == (metric == "accuracy")
