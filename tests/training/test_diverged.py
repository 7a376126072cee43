"""Networks whose outputs are NaN: they are said to be so, and never preferred to others."""

import json
import math

import pytest
import torch
from block_graphs import blocks

import lipzoo
from lipzoo._yaml import write_yaml
from lipzoo.cli import main
from lipzoo.datasets import save_npz
from lipzoo.settings import FitSettings
from lipzoo.training import evaluate, fit, predict
from lipzoo.training.export import _best_seed
from lipzoo.training.loop import FitResult
from lipzoo.training.metrics import selection_key
from lipzoo.training.warm_start import or_start

DIVERGED = "outputs are NaN or infinite: the network has diverged"


@pytest.mark.parametrize("monitor", ["metric", "loss"])
def test_the_least_of_all_epochs(monitor):
    diverged = {"val_roc_auc": 0.5, "val_loss": math.nan}
    least = selection_key(diverged, "roc_auc", monitor)
    for loss in (1e300, 0.1):
        poor = {"val_roc_auc": 0.0, "val_loss": loss}
        assert selection_key(poor, "roc_auc", monitor) > least
    assert not least > selection_key({**diverged, "val_loss": math.inf}, "roc_auc", monitor)


def test_no_seed_is_exported_that_has_diverged(tmp_path):
    for seed, loss in enumerate((0.7, math.nan, 0.6, math.inf)):
        (tmp_path / f"seed_{seed}").mkdir()
        metrics = {"val_accuracy": 0.5 + 0.1 * (seed % 2), "val_loss": loss}
        write_yaml(tmp_path / f"seed_{seed}" / "result.yaml", {"seed": seed, "metrics": metrics})
    assert _best_seed(tmp_path, [0, 1, 2, 3], "accuracy")["seed"] == 2


def test_a_training_that_has_diverged_is_not_better_than_its_start():
    start = {"val_accuracy": 0.5, "val_loss": 0.7}
    result = FitResult({"val_accuracy": 0.6, "val_loss": math.nan}, 3, [])
    assert or_start(result, start, "val_accuracy").metrics == start
    result.metrics["val_loss"] = 0.6
    assert or_start(result, start, "val_accuracy") is result


class Diverging(torch.nn.Module):
    """Says the contrary at validation nodes, and NaN from the third pass in evaluation on."""

    def __init__(self, task):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.register_buffer("said", torch.zeros(task.num_nodes, 2))
        self.said[torch.arange(task.num_nodes), task.labels] = 1
        self.said[task.val_mask] *= -1
        self.passes = 0

    def forward(self, graph, feat):
        self.passes += not self.training
        return self.said * self.weight * (1 if self.passes < 3 else math.nan)


def binary():
    task = blocks(classes=2)
    task.metric = "roc_auc"
    return task


@pytest.mark.parametrize("monitor", ["metric", "loss"])
def test_a_finite_epoch_is_kept(monitor):
    task = binary()
    settings = FitSettings(
        epochs=6, early_stopping={"monitor": monitor, "patience": 6}, optimizer={"lr": 1e-12}
    )
    with pytest.warns(UserWarning, match=DIVERGED):
        result = fit(Diverging(task), task, settings, verbose=False)
    assert result.best_epoch <= 2
    assert [math.isnan(row["val_loss"]) for row in result.history] == [False] * 2 + [True] * 4
    assert result.history[0]["val_roc_auc"] < 0.1
    assert result.history[-1]["val_roc_auc"] == 0.5


def test_it_is_said_wherever_it_shows(tmp_path, capsys):
    task, file = binary(), tmp_path / "two.npz"
    save_npz(task, file)
    with pytest.warns(UserWarning, match=DIVERGED):
        result = lipzoo.finetune(
            "gat_lip_2.cora", task, epochs=4, lr=1e30, verbose=False, out=tmp_path / "w"
        )
    for work in (predict, evaluate):
        with pytest.warns(UserWarning, match=DIVERGED):
            work(result.model, task)
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "w"), "--data", str(file), "--json"]) == 0
    said = capsys.readouterr()
    assert DIVERGED in said.err
    facts = json.loads(said.out, parse_constant=pytest.fail)
    assert None in facts["metrics"].values()
