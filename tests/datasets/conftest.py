"""A small graph that is fit to train on, for tests to break."""

import pytest
import torch

from lipzoo._dgl import dgl
from lipzoo.datasets import GraphTask


@pytest.fixture
def graph():
    """6 nodes in a ring, F = 2, C = 3, split 2/2/2."""
    graph = dgl.graph(([0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 0]))
    graph.ndata["feat"] = torch.arange(12.0).reshape(6, 2)
    graph.ndata["label"] = torch.tensor([0, 1, 2, 0, 1, 2])
    for place, mask in enumerate(("train_mask", "val_mask", "test_mask")):
        graph.ndata[mask] = torch.arange(6) // 2 == place
    return graph


@pytest.fixture
def task(graph):
    return GraphTask.from_graph(graph, "ring")
