"""Metrics against scikit-learn on probabilities, and against their definitions."""

import json

import numpy as np
import pytest
import torch
from block_graphs import blocks
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    precision_recall_curve,
    roc_auc_score,
)
from torch.testing import assert_close

import lipzoo
from lipzoo.cli import main
from lipzoo.datasets import GraphTask
from lipzoo.datasets.metric import METRICS
from lipzoo.errors import ConfigError, DataError
from lipzoo.training import evaluate, export_run, fit, predict, train
from lipzoo.training.baselines import fit_estimator
from lipzoo.training.metrics import is_multilabel, score, task_loss
from lipzoo.training.recipe import FitSettings
from lipzoo.training.warm_start import PENALTIES, best_regression


def drawn(num_classes, seed=0, n=200, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, num_classes, (n,), generator=generator)
    noise = torch.randn(n, num_classes, generator=generator, dtype=dtype)
    return noise + torch.nn.functional.one_hot(labels, num_classes), labels


@pytest.mark.parametrize("seed", range(3))
def test_two_classes(seed):
    logits, labels = drawn(2, seed)
    logits[::7] = logits[0]  # ties
    truth = labels.numpy()
    chance = logits.double().softmax(1)[:, 1].numpy()
    assert score(logits, labels, "roc_auc") == pytest.approx(roc_auc_score(truth, chance), abs=1e-9)
    expected = average_precision_score(truth, chance)
    assert score(logits, labels, "average_precision") == pytest.approx(expected, abs=1e-9)
    # The definitions: pairs in the right order, and precision over the steps of the recall.
    gap = (logits[:, 1] - logits[:, 0]).double().numpy()
    wins = gap[truth == 1][:, None] - gap[truth == 0]
    auc = np.mean((wins > 0) + 0.5 * (wins == 0))
    assert score(logits, labels, "roc_auc") == pytest.approx(auc, abs=1e-6)
    precision, recall, _ = precision_recall_curve(truth, chance)
    area = -np.sum(np.diff(recall) * precision[:-1])
    assert score(logits, labels, "average_precision") == pytest.approx(area, abs=1e-9)


@pytest.mark.parametrize("num_classes", [2, 5])
def test_decisions(num_classes):
    logits, labels = drawn(num_classes)
    truth, decided = labels.numpy(), logits.argmax(1).numpy()
    right = accuracy_score(truth, decided)
    assert score(logits, labels, "accuracy") == score(logits, labels, "micro_f1") == right
    macro = f1_score(truth, decided, average="macro")
    assert score(logits, labels, "macro_f1") == pytest.approx(macro)
    by_hand = [
        2 * np.sum((truth == c) & (decided == c)) / (np.sum(truth == c) + np.sum(decided == c))
        for c in range(num_classes)
    ]
    assert macro == pytest.approx(np.mean(by_hand))


def test_several_labels_a_node():
    logits, _ = drawn(4)
    labels = (torch.randn(200, 4, generator=torch.Generator().manual_seed(9)) > 0).float()
    truth, chance = labels.numpy(), logits.sigmoid().numpy()
    for metric, expected in {
        "roc_auc": roc_auc_score(truth, chance, average="macro"),
        "average_precision": average_precision_score(truth, chance, average="macro"),
        "micro_f1": f1_score(truth, chance > 0.5, average="micro"),
        "macro_f1": f1_score(truth, chance > 0.5, average="macro"),
    }.items():
        assert score(logits, labels, metric) == pytest.approx(expected, abs=1e-6)


def test_labels_that_all_nodes_have_do_not_count():
    logits, _ = drawn(3)
    labels = (torch.randn(200, 3, generator=torch.Generator().manual_seed(9)) > 0).float()
    labels[:, 0], labels[:, 2] = 1, 0
    expected = roc_auc_score(labels[:, 1].numpy(), logits[:, 1].numpy())
    assert score(logits, labels, "roc_auc") == pytest.approx(expected)
    labels[:, 1] = 1
    with pytest.raises(DataError, match="roc_auc is not defined on nodes that are all of one"):
        score(logits, labels, "roc_auc")


@pytest.mark.parametrize("metric", METRICS)
def test_a_network_that_diverged_is_at_chance_not_an_error(metric):
    _, labels = drawn(2)
    value = score(torch.full((200, 2), float("nan")), labels, metric)
    assert 0 <= value <= 1
    if metric == "roc_auc":
        assert value == 0.5
    infinite = torch.tensor([[0.0, float("inf")]]).repeat(200, 1)
    assert 0 <= score(infinite, labels, metric) <= 1


@pytest.mark.parametrize("metric", ["roc_auc", "average_precision"])
def test_ranking_knows_no_more_than_two_classes(metric):
    logits, labels = drawn(3)
    with pytest.raises(DataError, match=f"{metric} is for two classes, or several .* there are 3"):
        score(logits, labels, metric)


# -------------------------------------------------------------------------- tasks


@pytest.fixture(scope="module")
def tumours():
    return lipzoo.load_dataset("breast_cancer", metric="roc_auc")


def test_a_metric_of_ones_own_choice(tumours):
    assert tumours.metric == "roc_auc"
    assert tumours.options["metric"] == "roc_auc"
    again = lipzoo.load_dataset(tumours.name, **tumours.options)
    assert (again.metric, again.fingerprint) == (tumours.metric, tumours.fingerprint)
    assert "metric" not in lipzoo.load_dataset("breast_cancer").options
    with pytest.raises(ConfigError, match="metric is 'roc'; did you mean 'roc_auc'"):
        lipzoo.load_dataset("breast_cancer", metric="roc")
    with pytest.raises(DataError, match=r"iris: the metric roc_auc is for two classes.*macro_f1"):
        lipzoo.load_dataset("iris", metric="roc_auc")


def one_class_tests(tumours):
    """All test nodes are of class 1."""
    mask = tumours.test_mask & (tumours.labels == 1)
    return tumours.with_ndata(test_mask=mask)


def test_a_split_of_one_class_is_refused_before_any_training(tumours, tiny_source, tmp_path):
    task = one_class_tests(tumours)
    words = r"roc_auc is not defined on nodes that are all of one class, as those in test_mask are"
    with pytest.raises(DataError, match=words):
        task.validate()
    with pytest.raises(DataError, match=words):
        lipzoo.finetune(tiny_source, task, out=tmp_path / "out", verbose=False)
    assert not (tmp_path / "out").exists()
    model = lipzoo.create_model("test_tiny", in_feats=task.in_feats, num_classes=2)
    with pytest.raises(DataError, match=words):
        fit(model, task, FitSettings(epochs=1), verbose=False)
    with pytest.raises(DataError, match="breast_cancer: test_mask: the metric roc_auc is not def"):
        evaluate(model, task)
    accuracy = GraphTask.from_graph(task.graph)
    assert "test_accuracy" in evaluate(model, accuracy.validate())


def test_the_metric_chooses_the_epoch(tumours):
    model = lipzoo.create_model("test_tiny", in_feats=30, num_classes=2)
    result = fit(model, tumours, FitSettings(epochs=15), verbose=False)
    best = max(result.history, key=lambda row: (row["val_roc_auc"], -row["val_loss"]))
    assert result.best_epoch == best["epoch"]
    assert result.metrics["val_roc_auc"] == best["val_roc_auc"]
    mask = tumours.test_mask
    chance = predict(model, tumours)[mask, 1].numpy()
    expected = roc_auc_score(tumours.labels[mask].numpy(), chance)
    assert result.metrics["test_roc_auc"] == pytest.approx(expected, abs=1e-6)


def test_recipe_card_evaluation_and_prediction(recipe, tmp_path, capsys):
    """A card with a ROC AUC was always of several labels a node; now it need not be."""
    mine = recipe(
        dataset={"name": "breast_cancer"},
        metric="roc_auc",
        baselines={"knn": {"estimator": "knn"}},
    )
    summary = train(mine, tmp_path / "run", baselines=True, verbose=False)
    assert set(summary["baselines"]["knn"]) == {"val_roc_auc", "test_roc_auc"}
    folder = export_run(tmp_path / "run", tmp_path / "out")
    model = lipzoo.load_pretrained(folder)
    assert "test_roc_auc" in model.card.metrics
    assert model.card.recipe["metric"] == "roc_auc"
    assert model.card.dataset.options["metric"] == "roc_auc"
    best = max(range(2), key=lambda seed: summary["metrics"]["val_roc_auc"]["values"][seed])
    assert model.card.weights.seed == best
    capsys.readouterr()
    assert main(["evaluate", str(folder), "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)["metrics"]
    assert measured["test_roc_auc"] == pytest.approx(model.card.weights.metrics["test_roc_auc"])
    assert main(["evaluate", str(folder), "--data-option", "metric=macro_f1"]) == 0
    assert "test_macro_f1" in capsys.readouterr().out
    task = lipzoo.load_dataset("breast_cancer")
    assert not is_multilabel(model, task)
    assert torch.allclose(predict(model, task).sum(1), torch.ones(task.num_nodes))


def test_a_recipe_has_one_place_for_the_metric(recipe):
    with pytest.raises(ConfigError, match="must not hold metric; say it beside dataset"):
        recipe(dataset={"name": "iris", "metric": "macro_f1"})
    with pytest.raises(ConfigError, match="metric: input should be 'accuracy', 'micro_f1'"):
        recipe(metric="auc")


def test_estimators_are_judged_by_the_metric(tumours):
    found = fit_estimator("logistic_regression", {"max_iter": 5000}, tumours)
    train_mask, mask = tumours.train_mask.numpy(), tumours.test_mask.numpy()
    features, labels = tumours.feat.numpy(), tumours.labels.numpy()
    estimator = LogisticRegression(max_iter=5000).fit(features[train_mask], labels[train_mask])
    expected = roc_auc_score(labels[mask], estimator.decision_function(features[mask]))
    assert found["test_roc_auc"] == pytest.approx(expected, abs=1e-6)
    # So is the penalty of a warm start.
    best = best_regression(features, tumours)
    val = tumours.val_mask.numpy()
    areas = [
        roc_auc_score(
            labels[val],
            LogisticRegression(C=penalty, max_iter=500)
            .fit(features[train_mask], labels[train_mask])
            .decision_function(features[val]),
        )
        for penalty in PENALTIES
    ]
    assert PENALTIES[int(np.argmax(areas))] == best.C


def test_an_older_card_of_several_labels_a_node(multilabel, tiny_source):
    result = lipzoo.finetune(tiny_source, multilabel, epochs=1, verbose=False)
    card = result.model.card
    assert card.dataset.multilabel is True
    before = card.dataset.model_copy(update={"multilabel": None})
    result.model.card = card.model_copy(update={"dataset": before})
    assert is_multilabel(result.model, GraphTask.from_graph(multilabel.graph))


def test_labels_of_another_kind_than_the_weights_were_trained_for(multilabel, tiny_source):
    """A softmax is no answer to several labels a node, nor the other way round."""
    several = lipzoo.finetune(tiny_source, multilabel, epochs=1, verbose=False).model
    iris = lipzoo.load_dataset("iris")

    def labelled(task, labels):
        return GraphTask.from_graph(task.with_ndata(label=labels).graph)

    one = lipzoo.load_pretrained(tiny_source)
    with pytest.raises(DataError, match=r"has several classes a node, and .* for one class a node"):
        evaluate(one, labelled(iris, torch.eye(3, dtype=torch.int64)[iris.labels]))
    with pytest.raises(DataError, match=r"has one class a node, and .* for several classes a node"):
        evaluate(several, labelled(multilabel, multilabel.labels[:, 0].long()))
    for other in (torch.cat([multilabel.labels, multilabel.labels], 1), multilabel.labels[:, 1:]):
        width = other.shape[1]
        with pytest.raises(DataError, match=rf"has {width} classes, and the model tells \d+ apart"):
            evaluate(several, labelled(multilabel, other))


def test_each_module_keeps_its_mode_even_where_the_model_fails():
    task = lipzoo.load_dataset("iris")
    sizes = {"in_feats": task.in_feats, "num_classes": task.num_classes}
    model = lipzoo.create_model("gat_lip_2", **sizes).train()
    model.layers[0].eval()  # frozen by its owner
    modes = [module.training for module in model.modules()]
    seen = []
    model.head.register_forward_hook(lambda *_: seen.append(model.head.training))
    evaluate(model, task)
    lipzoo.training.predict(model, task)
    assert seen == [False, False]
    assert [module.training for module in model.modules()] == modes

    def fail(*_):
        raise RuntimeError("in the middle")

    model.head.register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="in the middle"):
        evaluate(model, task)
    assert [module.training for module in model.modules()] == modes


def test_splits_that_are_none():
    task = blocks()
    masks = {name: task.graph.ndata[name] for name in ("train_mask", "val_mask", "test_mask")}
    task.graph.ndata.update({name: torch.stack([m, m], 1) for name, m in masks.items()})
    several = GraphTask.from_graph(task.graph)
    model = lipzoo.create_model("gat_lip_2", in_feats=task.in_feats, num_classes=3)
    with pytest.raises(DataError, match=r"train_mask holds several splits; choose with_split\(0\)"):
        evaluate(model, several)
    assert several.with_split(1).train_mask.dim() == 1
    for index in (True, 1.0, "0", None):
        with pytest.raises(ConfigError, match="split_index must be a whole number"):
            several.with_split(index)


def test_smoothed_labels_of_several_classes_a_node():
    """Yes and no are the two classes of each: the loss against (1 - s) y + s / 2."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(20, 4, generator=generator, dtype=torch.float64)
    labels = torch.randint(2, (20, 4), generator=generator)
    soft = 0.8 * labels + 0.1
    p = logits.sigmoid()
    wanted = -(soft * p.log() + (1 - soft) * (1 - p).log()).mean()
    assert_close(task_loss(logits, labels, True, 0.2), wanted)
    plain = -(labels * p.log() + (1 - labels) * (1 - p).log()).mean()
    assert_close(task_loss(logits, labels, True), plain)


def test_labels_that_are_nowhere_do_not_count():
    """As classes do not: what is right throughout has 1."""
    labels = torch.tensor([[1.0, 0, 0], [0, 0, 1], [1, 0, 0], [0, 0, 1]])
    assert score(labels * 2 - 1, labels, "macro_f1") == 1
    label = torch.tensor([0, 2, 0, 2])
    assert score(torch.eye(3)[label], label, "macro_f1") == 1
    wrong = labels.clone()
    wrong[0, 1] = 1  # which is predicted, and not there
    assert score(wrong * 2 - 1, labels, "macro_f1") == pytest.approx(2 / 3)
    assert score(-torch.ones(4, 3), torch.zeros(4, 3), "macro_f1") == 0
