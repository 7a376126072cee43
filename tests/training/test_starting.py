"""What fine-tuning begins from where it may choose, and what it says of the stack beside it."""

import json

import pytest
import torch
from block_graphs import blocks
from context_zoo import context_weights
from registry_state import fresh_registry

import lipzoo
from lipzoo.cli import main
from lipzoo.context import ClosedFormStack
from lipzoo.datasets import GraphTask
from lipzoo.errors import ConfigError
from lipzoo.sklearn import NodeClassifier
from lipzoo.training import evaluate
from lipzoo.training.starting import best_start, start_of

NETWORK = "gat_lip_context_8.synthetic"


def few_labels(name, per_class=5):
    return lipzoo.load_dataset(name, split="random", train_per_class=per_class, num_val=50)


def val_accuracy(task, proba):
    return (proba.argmax(1) == task.labels)[task.val_mask].double().mean().item()


@pytest.mark.parametrize(("name", "of"), [("wine", "stack"), ("iris", NETWORK)])
def test_the_better_on_validation_nodes_is_chosen(name, of):
    task = few_labels(name)
    by_stack = val_accuracy(task, ClosedFormStack().fit(task).predict_proba())
    by_network = evaluate(lipzoo.load_pretrained(NETWORK), task)["val_accuracy"]
    assert of == (NETWORK if by_network > by_stack else "stack")
    assert best_start(task).of == of
    options = {"epochs": 2, "verbose": False}
    result = lipzoo.finetune("gat_lip_2.cora", task, start="auto", **options)
    assert result.model.card.start.of == of
    assert result.metrics["val_accuracy"] >= max(by_stack, by_network)
    # The choice draws no numbers: the same start by its name gives the same bits.
    named = lipzoo.finetune("gat_lip_2.cora", task, start=of, **options)
    for key, tensor in named.model.state_dict().items():
        assert torch.equal(tensor, result.model.state_dict()[key])


class Own(torch.nn.Module):
    def __init__(self, in_feats: int, num_classes: int) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(in_feats, num_classes)

    def forward(self, graph, feat):
        return self.linear(feat)


def test_nothing_is_chosen_where_nothing_can_be(tmp_path):
    task, options = blocks(), {"epochs": 1, "verbose": False, "start": "auto"}
    lipzoo.finetune("gat_lip_2.cora", task, epochs=1, verbose=False, out=tmp_path / "own")
    folder = context_weights(tmp_path / "context")
    for weights in (tmp_path / "own", folder):  # of the same data; begin from the stack already
        result = lipzoo.finetune(weights, task, **options)
        assert result.model.card.start is None
        assert result.replaced == []
    with fresh_registry():
        lipzoo.register_model(Own)
        card = lipzoo.load_pretrained(tmp_path / "own").card
        assert start_of(card, blocks(seed=1), "auto").of == "stack"
        own = card.architecture.model_copy(update={"model": "Own"})
        reads_no_start = card.model_copy(update={"architecture": own})
        assert start_of(reads_no_start, blocks(seed=1), "auto") is None
    with pytest.raises(ConfigError, match="choose one"):
        lipzoo.finetune("gat_lip_2.cora", task, warm_start=True, **options)
    graph = task.graph.clone()
    del graph.ndata["val_mask"]
    unjudged = GraphTask.from_graph(graph)
    assert best_start(unjudged).of == "stack"
    for seen in (unjudged, task):
        result = lipzoo.finetune("gat_lip_2.cora", seen, splits=("train", "test"), **options)
        assert result.model.card.start.of == "stack"


def test_the_estimator_chooses_too():
    task = blocks()
    known = (task.train_mask | task.val_mask).numpy()
    labels = task.labels.numpy().copy()
    labels[~known] = -1
    fitted = NodeClassifier("gat_lip_2", start="auto", epochs=2).fit(
        task.feat.numpy(), labels, adjacency=task.graph.adj_external(scipy_fmt="csr")
    )
    assert fitted.model_.card.start.of in ("stack", NETWORK)


def test_what_is_behind_the_stack_is_said(tmp_path, capsys):
    command = ["finetune", "gat_lip_2.cora", "--data", "digits", "--epochs", "1", "--out"]
    assert main([*command, str(tmp_path / "a")]) == 0
    said = capsys.readouterr().err
    assert "the closed-form stack, without training, has val_accuracy" in said
    assert "--start stack" in said
    assert main([*command, str(tmp_path / "b"), "--start", "auto"]) == 0
    said = capsys.readouterr().err
    assert f"{NETWORK} " in said
    assert "without training, has" not in said
    task = few_labels("digits")
    lipzoo.finetune("gat_lip_2.cora", task, epochs=1, verbose="json")
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    [behind] = [event for event in events if event["event"] == "behind_stack"]
    stack = val_accuracy(task, ClosedFormStack().fit(task).predict_proba())
    assert behind["stack"] == pytest.approx(stack)
    assert behind["model"] < stack
    lipzoo.finetune("gat_lip_2.cora", task, epochs=1, verbose=False)
    assert capsys.readouterr().err == ""
