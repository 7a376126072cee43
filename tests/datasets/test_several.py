import pytest
import torch

from lipzoo._dgl import dgl
from lipzoo.datasets import GraphTask, load_dataset, save_npz
from lipzoo.errors import DataError


def path_graph(num_nodes, seed=0, width=3):
    """A path of nodes with features and two classes; node 0 has no label."""
    node = torch.arange(num_nodes - 1)
    graph = dgl.graph((node, node + 1), num_nodes=num_nodes)
    generator = torch.Generator().manual_seed(seed)
    graph.ndata["feat"] = torch.randn(num_nodes, width, generator=generator)
    graph.ndata["label"] = torch.arange(num_nodes) % 2
    graph.ndata["label"][0] = -1
    return graph


def test_each_graph_is_in_its_split():
    graphs = [path_graph(n) for n in (4, 3, 5, 2)]
    task = GraphTask.from_graphs(graphs[:2], graphs[2:3], graphs[3:], "mine").validate()
    assert (task.num_nodes, task.num_edges, task.num_classes) == (14, 10, 2)
    nodes = {split: getattr(task, f"{split}_mask").nonzero().flatten().tolist() for split in SPLITS}
    assert nodes == {"train": [1, 2, 3, 5, 6], "val": [8, 9, 10, 11], "test": [13]}
    parts = dgl.unbatch(task.graph)
    for part, graph in zip(parts, graphs):
        assert torch.equal(part.ndata["feat"], graph.ndata["feat"])
        assert torch.equal(torch.stack(part.edges()), torch.stack(graph.edges()))
    assert "train_mask" not in graphs[0].ndata


SPLITS = ("train", "val", "test")


def test_kinds_of_graphs_may_differ():
    """int32 beside int64, one node, masks and other columns of their own, float64."""
    first, second, third = path_graph(4).int(), path_graph(3), dgl.graph(([], []), num_nodes=1)
    second.ndata["train_mask"] = torch.ones(3)
    second.edata["weight"] = torch.ones(2)
    second.ndata["feat"] = second.ndata["feat"].double()
    third.ndata["feat"], third.ndata["label"] = torch.ones(1, 3), torch.ones(1).long()
    task = GraphTask.from_graphs([first], [second], [third]).validate()
    assert task.train_mask.sum() == 3
    assert task.feat.dtype == torch.float32


def test_multilabel():
    graph = path_graph(4)
    graph.ndata["label"] = torch.tensor([[-1, -1], [0, 1], [1, 1], [0, 0]])
    task = GraphTask.from_graphs([graph], [graph], [graph]).validate()
    assert task.multilabel
    assert task.train_mask.tolist() == [False, True, True, True, *[False] * 8]


def test_it_can_be_kept_in_a_file(tmp_path):
    task = GraphTask.from_graphs([path_graph(4)], [path_graph(3)], [path_graph(5)])
    again = load_dataset(save_npz(task, tmp_path / "mine.npz"))
    assert again.fingerprint == task.fingerprint


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda g: g.ndata.pop("label"), "graph 1 of train: there is no 'label'"),
        (lambda g: g.ndata.pop("feat"), "graph 1 of train: there is no 'feat'"),
        (
            lambda g: g.ndata.update(feat=torch.ones(3, 7)),
            r"graph 1 of train: 'feat' is \(N, 7\), but \(N, 3\) in the first",
        ),
        (
            lambda g: g.ndata.update(label=torch.ones(3, 2)),
            r"graph 1 of train: 'label' is \(N, 2\), but \(N\) in the first",
        ),
    ],
)
def test_a_graph_that_does_not_go_with_the_others_is_named(change, words):
    odd = path_graph(3)
    change(odd)
    with pytest.raises(DataError, match=words):
        GraphTask.from_graphs([path_graph(4), odd], [path_graph(3)], [path_graph(3)])


@pytest.mark.parametrize("val", [[], path_graph(3)])
def test_a_split_is_a_list_of_graphs(val):
    with pytest.raises(DataError, match="val must be a list of at least one graph"):
        GraphTask.from_graphs([path_graph(4)], val, [path_graph(3)])
