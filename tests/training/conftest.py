import pytest
import torch

import lipzoo
from lipzoo._dgl import dgl
from lipzoo.datasets import GraphTask
from lipzoo.training import export_run, train
from lipzoo.training.recipe import make_recipe


@pytest.fixture(scope="session")
def iris():
    return lipzoo.load_dataset("iris")


@pytest.fixture
def recipe():
    """A recipe that trains in a second: ``recipe(epochs=3)`` changes fields."""

    def make(**changes):
        content = {
            "architecture": "test_tiny",
            "overrides": {"feat_drop": 0.3, "attn_drop": 0.2},
            "dataset": {"name": "iris"},
            "epochs": 12,
            "seeds": [0, 1],
            "eval_every": 2,
        }
        return make_recipe({**content, **changes}, where="test")

    return make


@pytest.fixture(scope="session")
def tiny_source(tmp_path_factory):
    """The folder of weights of three attention layers, trained on iris (4 features, 3 classes)."""
    folder = tmp_path_factory.mktemp("tiny_source")
    content = {"architecture": "test_tiny", "dataset": {"name": "iris"}, "epochs": 20, "seeds": [0]}
    train(make_recipe(content, where="test"), folder / "run", verbose=False)
    return export_run(folder / "run", folder / "test_tiny.iris")


@pytest.fixture(scope="session")
def multilabel():
    """60 nodes in a ring, 5 features; class c is there where feature c is positive (4 classes).

    Neighbours are alike: features come in runs of six nodes.
    """
    node = torch.arange(60)
    graph = dgl.graph((node, (node + 1) % 60))
    feat = torch.randn(10, 5, generator=torch.Generator().manual_seed(0)).repeat_interleave(6, 0)
    graph.ndata["feat"], graph.ndata["label"] = feat, (feat[:, :4] > 0).float()
    for place, mask in enumerate(("train_mask", "val_mask", "test_mask")):
        graph.ndata[mask] = node % 3 == place
    return GraphTask.from_graph(graph, "ring")
