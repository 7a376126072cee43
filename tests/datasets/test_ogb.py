"""The package ogb is optional: a stand-in with its interface is enough to test the loaders."""

import sys
import types

import numpy as np
import pytest
import torch

from lipzoo._dgl import dgl
from lipzoo.datasets import load_dataset
from lipzoo.errors import DataError

PARTS = {"train": np.array([0, 1]), "valid": np.array([2, 4]), "test": np.array([3, 5])}


class FakeDataset:
    """The interface of `ogb.nodeproppred.DglNodePropPredDataset`."""

    def __init__(self, name, root):
        print("Downloading http://snap.stanford.edu/ogb/data/nodeproppred/")
        self.name, self.root = name, root

    def __getitem__(self, index):
        assert index == 0
        graph = dgl.graph(([0, 1, 2], [1, 2, 2]), num_nodes=6)
        if self.name == "ogbn-arxiv":
            graph.ndata["year"] = torch.tensor([[2010], [2011], [2018], [2020], [2018], [2020]])
            graph.ndata["feat"] = torch.ones(6, 128)
            return graph, torch.tensor([[3], [0], [39], [1], [7], [8]])
        graph.ndata["species"] = torch.ones(6, 1, dtype=torch.int64)
        graph.edata["feat"] = torch.tensor([[1.0] * 8, [2.0] * 8, [4.0] * 8])
        return graph, torch.tensor([[0, 1] * 56, [1, 0] * 56] * 2 + [[1, 0] * 56, [0, 1] * 56])

    def get_idx_split(self):
        return {part: torch.from_numpy(nodes) for part, nodes in PARTS.items()}


@pytest.fixture
def ogb(monkeypatch):
    module = types.ModuleType("ogb.nodeproppred")
    module.DglNodePropPredDataset = FakeDataset
    monkeypatch.setitem(sys.modules, "ogb", types.ModuleType("ogb"))
    monkeypatch.setitem(sys.modules, "ogb.nodeproppred", module)
    return module


def test_arxiv(ogb, tmp_path, capsys):
    task = load_dataset("ogbn-arxiv", raw_dir=tmp_path)
    assert (task.num_classes, task.in_feats, task.metric) == (40, 128, "accuracy")
    assert set(zip(*(ends.tolist() for ends in task.graph.edges()))) == {
        (0, 1), (1, 0), (1, 2), (2, 1), (2, 2),
    }  # fmt: skip
    assert task.labels.tolist() == [3, 0, 39, 1, 7, 8]
    assert task.train_mask.tolist() == [True, True, False, False, False, False]
    assert capsys.readouterr().out == ""


def test_proteins(ogb, tmp_path):
    task = load_dataset("ogbn-proteins", raw_dir=tmp_path)
    assert (task.num_classes, task.multilabel, task.metric) == (112, True, "roc_auc")
    # The mean of the incoming edges' features; 0 where there are none.
    assert task.feat[:, 0].tolist() == [0.0, 1.0, 3.0, 0.0, 0.0, 0.0]
    assert "feat" not in task.graph.edata


def test_without_a_network(ogb, tmp_path, monkeypatch):
    monkeypatch.setenv("LIPZOO_OFFLINE", "1")
    with pytest.raises(DataError, match=f"the network is forbidden .*into {tmp_path}/ogbn_arxiv"):
        load_dataset("ogbn-arxiv", raw_dir=tmp_path)
    (tmp_path / "ogbn_arxiv").mkdir()  # fetched before
    assert load_dataset("ogbn-arxiv", raw_dir=tmp_path).num_nodes == 6


def test_without_ogb(monkeypatch):
    monkeypatch.setitem(sys.modules, "ogb", None)
    monkeypatch.setitem(sys.modules, "ogb.nodeproppred", None)
    with pytest.raises(DataError, match=r"needs the package ogb: pip install 'lipzoo\[ogb\]'"):
        load_dataset("ogbn-arxiv")


@pytest.mark.parametrize("fault", [OSError("no route"), SystemExit(-1), EOFError()])
def test_ogb_fails(ogb, monkeypatch, tmp_path, fault):
    def fail(**_):
        raise fault

    monkeypatch.setattr(ogb, "DglNodePropPredDataset", fail)
    with pytest.raises(DataError, match=f"ogbn-arxiv: ogb can neither read it under {tmp_path}"):
        load_dataset("ogbn-arxiv", raw_dir=tmp_path)
