import math

import pytest
import torch

import lipzoo
from lab.studies import run_sweep, write_report
from lab.studies.worker import gradient_norms
from lipzoo.training.metrics import task_loss


@pytest.mark.parametrize("start_logits", [False, True])
def test_norms_are_those_of_finite_differences(start_logits):
    task = lipzoo.load_dataset("iris")
    task = task.with_ndata(feat=task.feat.double())
    torch.manual_seed(0)
    sizes = {"in_feats": task.in_feats, "num_classes": 3, "start_logits": start_logits}
    model = lipzoo.create_model("test_tiny", **sizes).double()
    model.train()
    loss, norms = gradient_norms(model, task)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    model.eval()

    @torch.no_grad()
    def value():
        logits = model(task.graph, task.feat)[task.train_mask]
        return task_loss(logits, task.labels[task.train_mask], False).item()

    assert loss == pytest.approx(value())
    square, step = 0.0, 1e-5
    for parameter in model.layer_groups()["layer_2"]:
        flat = parameter.data.view(-1)
        for i in range(len(flat)):
            flat[i] += step
            above = value()
            flat[i] -= 2 * step
            square += ((above - value()) / (2 * step)) ** 2
            flat[i] += step
    assert norms[1][0] == pytest.approx(math.sqrt(square), rel=1e-5)
    # At the output of the last layer the gradient is known: (softmax - onehot) W_out / n.
    with torch.no_grad():
        logits = model(task.graph, task.feat)[task.train_mask]
        onehot = torch.nn.functional.one_hot(task.labels[task.train_mask], 3)
        by_logits = (logits.softmax(1) - onehot) / len(logits)
        expected = (by_logits @ model.head.weight).norm().item()
    assert norms[-1][1] == pytest.approx(expected)


def test_rows_are_a_layer_and_epoch(tiny, tmp_path):
    tiny |= {"kind": "gradients", "record_epochs": [0, 4], "seeds": [0]}
    table = run_sweep(tiny, tmp_path, models=["GAT"], depths=[3], say=lambda line: None)
    assert [(row["epoch"], row["layer"]) for row in table.rows] == [
        (epoch, layer) for epoch in "04" for layer in "123"
    ]
    # At initialisation they are those of the model that seed 0 draws.
    task = lipzoo.load_dataset("iris")
    torch.manual_seed(0)
    model = lipzoo.create_model(
        "gat_2", in_feats=task.in_feats, num_classes=3, hidden_feats=8, num_heads=2, num_layers=3
    )
    _, norms = gradient_norms(model, task)
    for row, (weights, features) in zip(table.rows, norms):
        assert float(row["weight_gradient"]) == pytest.approx(weights, rel=1e-5)
        assert float(row["feature_gradient"]) == pytest.approx(features, rel=1e-5)
    assert float(table.rows[3]["train_loss"]) < float(table.rows[0]["train_loss"])
    said = []
    run_sweep(tiny, tmp_path, models=["GAT"], depths=[3], say=said.append)
    assert said == ["gradients on iris: 0 of 1 runs to do"]
    text = write_report(tiny, tmp_path)
    assert "| GAT | 3 | 4 |" in text
    assert (tmp_path / "gradients_iris.svg").is_file() == (
        tmp_path / "gradients_iris.png"
    ).is_file()
