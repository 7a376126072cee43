"""The closed-form stack as what a card compares with."""

import pytest
import torch
from block_graphs import accuracy, blocks

from lipzoo.context import ClosedFormStack
from lipzoo.errors import ConfigError
from lipzoo.training.baselines import fit_estimator


def test_it_is_an_estimator_of_recipes():
    task = blocks()
    found = fit_estimator("closed_form_stack", {"seed": 1}, task)
    assert set(found) == {"val_accuracy", "test_accuracy"}
    expected = accuracy(task, ClosedFormStack(seed=1).fit(task).predict())
    assert found["test_accuracy"] == pytest.approx(expected)


def test_of_several_labels_a_node():
    task = blocks(noise=1.0)
    graph = task.graph.clone()
    graph.ndata["label"] = torch.nn.functional.one_hot(task.labels, 3).float()
    several = type(task).from_graph(graph)
    assert fit_estimator("closed_form_stack", {}, several)["test_micro_f1"] > 0.6


def test_a_strange_argument_is_named():
    with pytest.raises(ConfigError, match=r"closed_form_stack.*depth"):
        fit_estimator("closed_form_stack", {"depth": 3}, blocks(n=30))
