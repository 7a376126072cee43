import pytest
import torch

from lipzoo.errors import ConfigError
from lipzoo.training.consistency import consistency_loss
from lipzoo.training.loop import fit
from lipzoo.training.recipe import Consistency, FitSettings
from tests.training.test_loop import tiny


def test_is_zero_where_the_passes_agree_and_are_sure():
    sure = torch.tensor([[40.0, 0.0, 0.0], [0.0, 0.0, 40.0]])
    assert consistency_loss([sure, sure], Consistency(), epoch=100).item() == pytest.approx(0)


def test_equals_the_equation_written_out():
    torch.manual_seed(0)
    passes = [torch.randn(5, 3, dtype=torch.float64) for _ in range(3)]
    options = Consistency(passes=3, weight=0.7, temperature=0.4, warmup=10)
    expected = 0.0
    for i in range(5):
        p = [torch.exp(z[i]) / torch.exp(z[i]).sum() for z in passes]
        mean = (p[0] + p[1] + p[2]) / 3
        q = mean**2.5 / (mean**2.5).sum()
        expected += sum(((one - q) ** 2).sum() for one in p) / 3 / 5
    loss = consistency_loss(passes, options, epoch=5)
    torch.testing.assert_close(loss, 0.7 * 0.5 * expected)


@pytest.mark.parametrize(("classes", "temperature"), [(7, 0.01), (70, 0.02), (3, 1e-6)])
def test_sharp_targets_of_many_classes(classes, temperature):
    """A power of each probability is 0 in float32, and their sum, too."""
    torch.manual_seed(0)
    passes = [(0.1 * torch.randn(5, classes)).requires_grad_() for _ in range(2)]
    options = Consistency(temperature=temperature, warmup=0)
    loss = consistency_loss(passes, options, epoch=1)
    loss.backward()
    assert all(each.grad.isfinite().all() for each in passes)
    exact = consistency_loss([each.detach().double() for each in passes], options, epoch=1)
    torch.testing.assert_close(loss.double(), exact, rtol=1e-4, atol=0)


def test_unlabelled_nodes_are_drawn_and_the_target_is_not():
    torch.manual_seed(0)
    passes = [torch.randn(4, 3, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    consistency_loss(passes, Consistency(), epoch=100).backward()
    predictions = torch.stack([p.detach() for p in passes]).requires_grad_()
    target = predictions.detach().softmax(-1).mean(0) ** 2
    target = target / target.sum(-1, keepdim=True)
    (predictions.softmax(-1) - target).square().sum(-1).mean().backward()
    torch.testing.assert_close(torch.stack([p.grad for p in passes]), predictions.grad)


@pytest.mark.slow
def test_training_with_it_learns_and_makes_the_passes_agree(iris):
    spreads = []
    for options in (None, Consistency(weight=20.0, temperature=1.0, warmup=0)):
        model = tiny(iris, input_drop=0.3, feat_drop=0.1)
        settings = FitSettings(epochs=60, consistency=options)
        result = fit(model, iris, settings, verbose=False)
        assert result.metrics["test_accuracy"] > 0.7
        torch.manual_seed(0)
        model.train()
        passes = [model(iris.graph, iris.feat).softmax(-1) for _ in range(2)]
        spreads.append((passes[0] - passes[1]).square().sum(-1).mean().item())
    assert spreads[1] < spreads[0]


def test_multilabel_tasks_are_refused(iris):
    labels = torch.nn.functional.one_hot(iris.labels, 3).float()
    task = iris.with_ndata(label=labels)
    task.multilabel, task.metric = True, "micro_f1"
    with pytest.raises(ConfigError, match="multilabel"):
        fit(tiny(task), task, FitSettings(epochs=1, consistency=Consistency()), verbose=False)
