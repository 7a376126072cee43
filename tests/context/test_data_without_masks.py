"""Weights that read labels, on data whose labels came without masks."""

import json

import pytest
import torch
from block_graphs import blocks
from context_zoo import context_weights

import lipzoo
from lipzoo.cli import main
from lipzoo.context import ClosedFormStack
from lipzoo.datasets import GraphTask, load_dataset
from lipzoo.errors import DataError
from lipzoo.training import predict


@pytest.fixture
def unsplit():
    graph = blocks().graph
    for name in ("train_mask", "val_mask", "test_mask"):
        del graph.ndata[name]
    return graph


def test_predictions_are_those_of_the_split_that_training_draws(unsplit, tmp_path):
    task = lipzoo.datasets.as_task(unsplit)
    network = lipzoo.load_pretrained(context_weights(tmp_path / "w"))
    tuned = lipzoo.finetune("gat_lip_2.cora", unsplit, start="stack", epochs=2, verbose=False).model
    for model in (network, tuned):
        wanted = predict(model, task)
        for data in (unsplit, GraphTask.from_graph(unsplit)):
            assert torch.equal(predict(model, data), wanted)
    assert torch.equal(
        ClosedFormStack().fit(unsplit).predict(), ClosedFormStack().fit(task).predict()
    )


def test_the_command_that_fine_tuning_names_works(tmp_path, capsys):
    out = str(tmp_path / "w")
    options = ["--data", "wine", "--start", "stack", "--epochs", "2", "--out", out]
    assert main(["finetune", "gat_lip_2.cora", *options]) == 0
    capsys.readouterr()
    assert main(["predict", out, "--data", "wine", "--out", str(tmp_path / "p.csv")]) == 0
    assert "drawn at random: masks of your own say which" in capsys.readouterr().out
    command = ["predict", "gat_lip_context_8", "--data", "wine", "--out", str(tmp_path / "q.csv")]
    assert main([*command, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    wine = load_dataset("wine")
    assert facts["context"] == {"nodes": int(wine.train_mask.sum()), "split": "random"}


def test_what_is_missing_is_named(unsplit, tmp_path):
    network = lipzoo.load_pretrained(context_weights(tmp_path / "w"))
    del unsplit.ndata["label"]
    with pytest.raises(DataError, match="has no labels; the labels of the training nodes"):
        predict(network, unsplit)
    task = blocks()
    del task.graph.ndata["train_mask"]
    with pytest.raises(DataError, match="has no train_mask; the labels of the training nodes"):
        predict(network, task)


def test_one_class_for_all_is_said_by_predict(tmp_path, capsys):
    task = blocks()
    label = task.labels.clone()
    label[task.train_mask] = 1
    file = tmp_path / "one.npz"
    lipzoo.datasets.save_npz(task.with_ndata(label=label), file)
    command = ["predict", "gat_lip_context_8", "--data", str(file), "--out"]
    assert main([*command, str(tmp_path / "p.csv")]) == 0
    assert "all are predicted as class 1" in capsys.readouterr().out
    with pytest.warns(UserWarning, match="predicts class 1 for every node"):
        result = lipzoo.finetune("gat_lip_2.cora", file, epochs=3, start="stack", verbose=False)
    assert result.only_class == 1
