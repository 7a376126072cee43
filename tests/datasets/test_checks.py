import pytest
import torch

from lipzoo._dgl import dgl
from lipzoo.datasets import GraphTask
from lipzoo.datasets.checks import find_faults
from lipzoo.errors import DataError


def test_a_sound_task_has_no_faults(task):
    assert find_faults(task) == []
    assert task.validate() is task


def test_masks_that_are_not_needed_may_be_missing_or_empty(task):
    graph = task.graph.local_var()
    del graph.ndata["val_mask"]
    graph.ndata["test_mask"] = torch.zeros_like(graph.ndata["test_mask"])
    some = GraphTask("ring", graph, num_classes=task.num_classes)
    assert find_faults(some, masks=["train_mask"]) == []
    (absent,) = find_faults(some, masks=["train_mask", "val_mask"])
    assert "no val_mask" in absent
    (empty,) = find_faults(some, masks=["train_mask", "test_mask"])
    assert "test_mask is empty" in empty


def faults_after(graph, **columns):
    for name, column in columns.items():
        if column is None:
            del graph.ndata[name]
        else:
            graph.ndata[name] = column
    return find_faults(GraphTask("ring", graph, num_classes=3))


def set_at(tensor, index, value):
    tensor = tensor.clone()
    tensor[index] = value
    return tensor


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_features_that_are_not_finite(graph, value):
    feat = set_at(graph.ndata["feat"], [2, 5], value)
    (fault,) = faults_after(graph, feat=feat)
    assert fault.startswith("features are NaN or infinite on 2 nodes (first: node 2);")


def test_no_features_names_what_there_is(graph):
    (fault,) = faults_after(graph, feat=None, x=torch.zeros(6, 1))
    assert fault.startswith("no node features: put a float array (N, F) under 'feat'")
    assert fault.endswith("test_mask, x)")


def test_no_labels(graph):
    (fault,) = faults_after(graph, label=None)
    assert fault.startswith("no labels: put an integer array (N,) under 'label'")


@pytest.mark.parametrize("label", [3, -2])
def test_labels_out_of_range(graph, label):
    (fault,) = faults_after(graph, label=set_at(graph.ndata["label"], 4, label))
    assert fault == (
        f"labels must lie in 0..2 (or be -1 for unknown), but do not on node 4, which has {label}"
    )


def test_multilabel_values(graph):
    graph.ndata["label"] = set_at(torch.ones(6, 3), (1, 2), 0.5)
    task = GraphTask("ring", graph, num_classes=3, multilabel=True)
    assert find_faults(task) == ["multilabel labels are neither 0 nor 1 on node 1"]


def test_shapes_and_types(graph):
    faults = faults_after(
        graph, feat=torch.zeros(6, 2, 2), label=torch.zeros(6), val_mask=torch.zeros(6)
    )
    assert faults == [
        "features must be floats (N, F), but are torch.float32 (6, 2, 2)",
        "labels must be int64 (N,), but are torch.float32 (6,)",
        "val_mask must be bool (N,), but is torch.float32 (6,)",
    ]


def test_empty_and_overlapping_masks(graph):
    faults = faults_after(
        graph,
        train_mask=torch.tensor([True, True, True, False, False, False]),
        test_mask=torch.zeros(6, dtype=torch.bool),
    )
    assert faults == [
        "test_mask is empty: it must select at least one node",
        "train_mask and val_mask overlap on node 2; a node belongs to one split",
    ]


def test_missing_mask(graph):
    (fault,) = faults_after(graph, val_mask=None)
    assert fault == "no val_mask: give all three masks, or none for a random split"


def test_unlabelled_nodes_in_a_mask(graph):
    (fault,) = faults_after(graph, label=set_at(graph.ndata["label"], 3, -1))
    assert fault == "val_mask selects node 3 without a label (-1)"


def test_no_nodes():
    task = GraphTask("nothing", dgl.graph(([], [])), num_classes=0)
    assert find_faults(task) == ["the graph has no nodes"]


def test_every_fault_is_in_the_one_line_of_the_error(graph):
    graph.ndata["feat"] = graph.ndata["feat"] / 0
    graph.ndata["label"] = graph.ndata["label"] - 2
    with pytest.raises(DataError) as caught:
        GraphTask("ring", graph, num_classes=3).validate()
    message = str(caught.value)
    assert message.startswith("ring: features are NaN")
    assert "; labels must lie in 0..2" in message
    assert "\n" not in message


def test_without_labels_a_graph_can_be_predicted_on(graph):
    for name in ("label", "train_mask", "val_mask", "test_mask"):
        del graph.ndata[name]
    task = GraphTask.from_graph(graph, "ring")
    assert task.validate(require_labels=False) is task
    assert (task.labels, task.train_mask, task.num_classes) == (None, None, 0)
    with pytest.raises(DataError, match="no labels"):
        task.validate()
