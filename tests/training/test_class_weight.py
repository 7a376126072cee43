import numpy as np
import pytest
import torch
import torch.nn.functional as F

import lipzoo
from lipzoo.errors import ConfigError
from lipzoo.training.class_weight import class_weights


def with_train_labels(task, labels):
    """The task with these labels on its first nodes, which alone train."""
    mask = torch.arange(task.num_nodes) < len(labels)
    label = task.labels.clone()
    label[: len(labels)] = torch.as_tensor(labels).to(label)
    return task.with_ndata(train_mask=mask, label=label)


def test_balanced_makes_the_classes_count_alike(iris):
    task = with_train_labels(iris, [0] * 6 + [1] * 3 + [2])
    weights = class_weights("balanced", task)
    assert weights.tolist() == pytest.approx([10 / (3 * n) for n in (6, 3, 1)])
    assert weights.dtype == torch.float32


def test_a_class_without_a_training_node_weighs_one(iris):
    task = with_train_labels(iris, [0] * 6 + [2] * 2)
    assert class_weights("balanced", task).tolist() == pytest.approx([8 / 12, 1, 8 / 4])


def test_multilabel_weights_are_those_of_having_the_class(multilabel):
    labels = np.zeros((10, 4))
    labels[:2, 0] = 1  # 2 have it, 8 have not
    labels[:5, 1] = 1
    labels[:, 2] = 1  # all have it; none has the last
    task = with_train_labels(multilabel, labels)
    assert class_weights("balanced", task).tolist() == pytest.approx([4, 1, 1, 1])


@pytest.mark.parametrize("choice", [[1, 2, 0.5], np.array([1, 2, 0.5]), torch.tensor([1, 2, 0.5])])
def test_numbers_are_taken_as_they_are(iris, choice):
    assert class_weights(choice, iris).tolist() == [1, 2, 0.5]


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ("balancd", "did you mean 'balanced'"),
        ([1.0, 2.0], "for 3 classes"),
        ([1.0, -2.0, 1.0], ">= 0"),
        ([1.0, float("nan"), 1.0], "finite"),
        ([0, 0, 0], "weighs 0"),
        (["a", "b", "c"], "'balanced' or numbers"),
        ({"a": 1}, "'balanced' or numbers"),
    ],
)
def test_what_is_no_weight_is_refused(iris, choice, words):
    with pytest.raises(ConfigError, match=words):
        class_weights(choice, iris)


def test_the_training_loss_is_weighted_and_the_others_are_not(tiny_source, iris):
    """Without dropout and with the pretrained head, the first loss is that of the weights."""
    model = lipzoo.load_pretrained(tiny_source)
    logits = model(iris.graph, iris.feat).detach()
    expected = F.cross_entropy(
        logits[iris.train_mask], iris.labels[iris.train_mask], weight=torch.tensor([1.0, 5.0, 0.0])
    )
    result = lipzoo.finetune(
        tiny_source, iris, class_weight=[1, 5, 0], epochs=1, lr=1e-12, verbose=False
    )
    assert result.history[0]["train_loss"] == pytest.approx(expected.item(), abs=1e-5)
    plain = F.cross_entropy(logits[iris.val_mask], iris.labels[iris.val_mask])
    assert result.metrics["val_loss"] == pytest.approx(plain.item(), abs=1e-5)
    assert abs(expected.item() - plain.item()) > 1e-3
