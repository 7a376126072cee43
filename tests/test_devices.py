"""Graphs on devices that the installed DGL was not built for."""

import pytest
import torch

import lipzoo
from lipzoo import _graph
from lipzoo._dgl import dgl
from lipzoo._graph import Graph, make_graph, moved
from lipzoo.datasets import GraphTask, load_dataset
from lipzoo.training import predict
from lipzoo.training.metrics import evaluate


def edges_of(graph):
    return torch.stack(graph.edges(order="eid"))


def test_what_the_installed_dgl_knows():
    graph = dgl.rand_graph(5, 12)
    assert _graph._knows("cpu")
    assert isinstance(moved(graph, "cpu"), dgl.DGLGraph)
    with pytest.raises(KeyError):
        graph.to("meta")
    assert not _graph._knows("meta")


@pytest.fixture
def cpu_is_unknown(monkeypatch):
    """As if the installed DGL had not been built for this machine's only device."""
    monkeypatch.setattr(_graph, "_knows", lambda kind: False)


@pytest.mark.usefixtures("cpu_is_unknown")
def test_the_graph_of_ones_own_has_the_same_edges_and_columns():
    graph = dgl.rand_graph(6, 20)
    graph.ndata["label"], graph.edata["feat"] = torch.arange(6), torch.randn(20, 2)
    own = moved(graph, "cpu")
    assert type(own) is Graph
    assert torch.equal(edges_of(own), edges_of(graph))
    assert own.ndata["label"].equal(graph.ndata["label"])
    assert own.edata["feat"].equal(graph.edata["feat"])
    assert type(make_graph(torch.tensor([0]), torch.tensor([1]), 2)) is Graph
    assert moved(own, "cpu").num_edges() == 20


@pytest.mark.parametrize("batching", [None, {"name": "clusters", "parts": 4}])
def test_training_there_gives_the_same_figures(monkeypatch, batching):
    monkeypatch.setenv("LIPZOO_BACKEND", "torch")
    task = load_dataset("iris")
    with monkeypatch.context() as patch:
        patch.setattr(_graph, "_knows", lambda kind: False)
        own = task.to("cpu")
    assert type(own.graph) is Graph
    assert own.data_fingerprint == task.data_fingerprint
    options = {"epochs": 4, "verbose": False, "batching": batching or "full"}
    here = lipzoo.finetune("gat_lip_2.cora", task, **options)
    there = lipzoo.finetune("gat_lip_2.cora", own, **options)
    assert there.metrics == here.metrics
    assert evaluate(there.model, own) == evaluate(here.model, task)
    assert predict(there.model, own).equal(predict(here.model, task))
    bounds = [
        float(lipzoo.lipschitz.bound(r.model, t.graph)) for r, t in ((here, task), (there, own))
    ]
    assert bounds[0] == bounds[1]


@pytest.mark.usefixtures("cpu_is_unknown")
def test_a_pyg_data_on_such_a_device():
    data = pytest.importorskip("torch_geometric.data")
    made = GraphTask.of(
        data.Data(
            x=torch.randn(3, 2),
            edge_index=torch.tensor([[0, 1], [1, 2]]),
            y=torch.tensor([0, 1, 0]),
        )
    )
    assert type(made.graph) is Graph
