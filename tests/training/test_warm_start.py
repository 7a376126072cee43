"""A head that begins as a logistic regression."""

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

import lipzoo
from lipzoo.errors import ConfigError, OutputError
from lipzoo.training import evaluate, warm_start_head


def fresh(task, **changes):
    torch.manual_seed(0)
    sizes = {"in_feats": task.in_feats, "num_classes": task.num_classes}
    return lipzoo.create_model("gat_lip_2", **sizes, hidden_feats=16, **changes)


@pytest.mark.parametrize("name", ["wine", "breast_cancer"])  # 3 classes, and 2
@pytest.mark.parametrize("is_weighted", [False, True])
def test_the_head_is_the_logistic_regression_that_suits_validation_best(name, is_weighted):
    task = lipzoo.load_dataset(name)
    weights = torch.arange(1.0, task.num_classes + 1) if is_weighted else None
    model = fresh(task).eval()
    warm_start_head(model, task, weights)
    with torch.no_grad():
        hidden = model.forward_features(task.graph, task.feat).numpy()
        logits = model(task.graph, task.feat).double().numpy()
    # Independent of how the head is made: the same probabilities.
    z = hidden - hidden.mean(0)
    z = z / np.linalg.norm(z, axis=1).mean()
    train, val = task.train_mask.numpy(), task.val_mask.numpy()
    labels = task.labels.numpy()
    by_class = dict(enumerate(weights.tolist())) if is_weighted else None
    fitted = [
        LogisticRegression(C=c, max_iter=500, class_weight=by_class).fit(z[train], labels[train])
        for c in (0.1, 1, 10, 100)
    ]
    best = max(fitted, key=lambda found: found.score(z[val], labels[val]))
    assert np.abs(softmax(logits, axis=1) - best.predict_proba(z)).max() < 1e-3
    assert evaluate(model, task)["test_accuracy"] > 0.85


def test_the_body_and_the_mode_stay():
    task = lipzoo.load_dataset("wine")
    model = fresh(task)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    warm_start_head(model, task)
    assert model.training
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {"head.weight", "head.bias"}


def test_a_class_without_training_nodes_is_never_predicted():
    task = lipzoo.load_dataset("wine")
    task = task.with_ndata(train_mask=task.train_mask & (task.labels != 1))
    model = fresh(task)
    warm_start_head(model, task)
    with torch.no_grad():
        assert 1 not in model.eval()(task.graph, task.feat).argmax(1)


def test_finetune_keeps_the_start_where_no_epoch_is_better(tiny_source, tmp_path):
    wine = lipzoo.load_dataset("wine", split_seed=1)
    options = {"warm_start": True, "epochs": 3, "verbose": False}
    # A rate that ruins the weights at once.
    result = lipzoo.finetune(tiny_source, wine, lr=50.0, out=tmp_path / "out", **options)
    assert result.best_epoch == 0
    assert "head" in result.replaced
    assert len(result.history) == 3
    again = lipzoo.load_pretrained(tmp_path / "out")
    assert again.card.weights.epoch == 0
    assert again.card.recipe["warm_start"] is True
    assert evaluate(again, wine) == pytest.approx(result.metrics, abs=1e-6)


def test_finetune_goes_on_from_the_start(tiny_source):
    wine = lipzoo.load_dataset("wine", split="random", train_per_class=2, num_val=60)
    options = {"freeze": "body", "lr": 1e-4, "epochs": 2, "verbose": False}
    cold = lipzoo.finetune(tiny_source, wine, **options)
    warm = lipzoo.finetune(tiny_source, wine, warm_start=True, **options)
    assert warm.metrics["val_accuracy"] > cold.metrics["val_accuracy"] + 0.1


def test_refusals(multilabel, tiny_source, tmp_path):
    with pytest.raises(ConfigError, match="ring: nodes may have several labels"):
        lipzoo.finetune(tiny_source, multilabel, warm_start=True, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    wine = lipzoo.load_dataset("wine")
    one = wine.with_ndata(train_mask=wine.train_mask & (wine.labels == 1))
    with pytest.raises(ConfigError, match="wine: the training nodes have one class only"):
        warm_start_head(fresh(wine), one)
    with pytest.raises(ConfigError, match="DeepGAT has no linear head"):
        warm_start_head(lipzoo.create_model("gat_lip_2", in_feats=13, num_classes=0), wine)


def test_an_occupied_folder_is_refused_before_the_body_runs(tiny_source, tmp_path, monkeypatch):
    (tmp_path / "notes.txt").write_text("mine")
    ran = []
    forward = lipzoo.models.DeepAttentionNet.forward_features
    monkeypatch.setattr(
        lipzoo.models.DeepAttentionNet,
        "forward_features",
        lambda *args: ran.append(1) or forward(*args),
    )
    wine = lipzoo.load_dataset("wine")
    options = {"warm_start": True, "epochs": 1, "verbose": False}
    with pytest.raises(OutputError, match="already holds files"):
        lipzoo.finetune(tiny_source, wine, out=tmp_path, **options)
    assert not ran
    lipzoo.finetune(tiny_source, wine, out=tmp_path / "new", **options)
    assert ran
