"""Certified radii hold in floating point: saturated softmaxes, long rows, extreme weights."""

import pytest
import torch

from lipzoo.attention import Structure
from lipzoo.lipschitz import attack, robustness
from lipzoo.lipschitz.softmax import softmax_limits
from lipzoo.models import DeepGraphTransformer


def saturated():
    """Node 0 reads 0.75 of node 1's value, until its query turns: then nothing of it.

    Its upper score is 36 nats and more above its own loop's, so that in float64 the sum of all
    exponentials less its own is zero.
    """
    model = DeepGraphTransformer(2, 2, 1, 2, 1, activation="identity").double().eval()
    model.requires_grad_(False)
    conv, keep = model.layers[0], torch.zeros(2, 2, dtype=torch.float64)
    model.input.weight.copy_(torch.eye(2))
    model.input.bias.zero_()
    for linear, row, column, size in (
        (conv.fc_query, 0, 0, 1.0),
        (conv.fc_key, 0, 1, 1e6),
        (conv.fc_value, 0, 1, 1.0),
        (model.head, 0, 0, 1.0),
    ):
        linear.weight.copy_(keep)
        linear.weight[row, column] = size
    conv.bias.zero_()
    model.head.bias.copy_(torch.tensor([-0.06, 0.0]))
    feat = torch.tensor([[1.5536e-6, 0.0], [0.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    return model, Structure(torch.tensor([1]), torch.tensor([0]), 3, 3), feat


def test_a_saturated_softmax_is_not_certified_too_far():
    model, graph, feat = saturated()
    radius = robustness(model, graph, feat).radius[0]
    moved = feat.clone()
    moved[0, 0] -= 1.2e-4
    assert model(graph, feat)[0].argmax() != model(graph, moved)[0].argmax()
    assert 0 < radius < 1.2e-4
    assert radius > 1e-6, "the query changes its sign at 1.55e-6"


@pytest.mark.parametrize("size", [1e-3, 1.0, 50.0, 1e3, 1e6, 1e12, 1e300])
def test_softmax_limits_hold_every_softmax(size):
    draw = torch.Generator().manual_seed(0)
    graph = Structure(torch.arange(12) % 5, torch.arange(12) % 4 % 3, 5, 4)
    for _ in range(50):
        low = torch.randn(12, 2, generator=draw, dtype=torch.float64) * size
        width = torch.rand(12, 2, generator=draw, dtype=torch.float64) * size
        width[torch.rand(12, 2, generator=draw) < 0.3] = 0
        high = low + width
        least, most = softmax_limits(graph, low, high)
        assert ((least >= 0) & (least <= most) & (most <= 1)).all()
        for _ in range(5):
            corner = torch.rand(12, 2, generator=draw) < 0.5
            score = torch.where(corner, low, high)
            for node in range(3):
                edges = graph.dst == node
                weight = score[edges].softmax(0)
                assert (weight <= most[edges] + 1e-15).all()
                assert (weight >= least[edges] - 1e-15).all()


def test_softmax_limits_of_infinite_intervals():
    graph = Structure(torch.arange(3), torch.tensor([0, 0, 1]), 3, 2)
    infinity = torch.full((3, 1), torch.inf, dtype=torch.float64)
    least, most = softmax_limits(graph, -infinity, infinity)
    assert (least[:2] == 0).all()
    assert (most == 1).all()
    zero = torch.zeros(3, 1, dtype=torch.float64)
    high = zero.clone()
    high[0] = torch.inf
    least, most = softmax_limits(graph, zero, high)
    assert most[0] == 1
    assert least[1] == 0
    assert least[0] == pytest.approx(0.5)
    assert most[1] == pytest.approx(0.5)
    assert least[2] == pytest.approx(1.0)


def test_the_attack_finds_what_a_saturated_softmax_hides():
    """There the margin has no slope; the score has."""
    model, graph, feat = saturated()
    for seed in range(10):
        found = attack(model, graph, feat, 0, 1e-3, seed=seed)
        assert found.flipped.all()
        assert ((found.feat - feat).norm(dim=1) <= 1e-3).all()
        assert model(graph, found.feat)[0].argmax() != model(graph, feat)[0].argmax()
