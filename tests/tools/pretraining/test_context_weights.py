"""The weights in context that ship."""

import pytest
import torch
from block_graphs import accuracy, blocks

import lipzoo
from lab.pretraining.recipe import load_pretraining
from lipzoo.context import ClosedFormStack
from lipzoo.training import evaluate, predict
from lipzoo.weights import read_checkpoint

NAME = "gat_lip_context_8.synthetic"


@pytest.fixture(scope="module")
def model():
    return lipzoo.load_pretrained("gat_lip_context_8")


def test_the_card_says_where_they_come_from(model):
    card = model.card
    assert card.full_name == NAME
    assert load_pretraining("context_8").to_dict() == card.recipe
    assert [entry.name for entry in card.pretrained_on] == ["drawn tasks"]
    assert "no data that anybody collected" in card.description
    assert set(read_checkpoint(model.pretrained_folder).files) == {
        "card.yaml",
        "curve.csv",
        "model.safetensors",
    }


@pytest.mark.parametrize("classes", [2, 3, 12])
@pytest.mark.parametrize("same", [0.85, 0.05])
def test_they_predict_graphs_of_any_kind(model, classes, same):
    task = blocks(n=500, classes=classes, same=same, noise=1.5, seed=3)
    stack = ClosedFormStack().fit(task).predict()
    found = predict(model, task)
    assert found.shape == (500, classes)
    majority = task.labels.bincount().max().item() / 500
    assert accuracy(task, found.argmax(1)) > max(majority + 0.05, accuracy(task, stack) - 0.04)


def test_they_are_better_than_the_stack_where_little_is_known(model):
    """On tables, which none of the drawn graphs is: means over five splits."""
    stack, network = [], []
    for seed in range(5):
        task = lipzoo.load_dataset(
            "wine", split="random", train_per_class=5, num_val=5, num_test=100, split_seed=seed
        )
        network.append(evaluate(model, task, ("test",))["test_accuracy"])
        stack.append(accuracy(task, ClosedFormStack().fit(task).predict()))
    assert sum(network) > sum(stack)
    assert torch.tensor(network).mean() > 0.9
