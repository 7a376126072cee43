"""Certified radii hold in floating point: saturated softmaxes, long rows, extreme weights."""

import exact_model
import pytest
import torch

from lipzoo.attention import Structure
from lipzoo.errors import ConfigError
from lipzoo.lipschitz import attack, local_attention, robustness
from lipzoo.lipschitz.radii import _Network
from lipzoo.lipschitz.softmax import softmax_limits
from lipzoo.models import DeepGAT, DeepGATv2, DeepGraphTransformer
from lipzoo.nn import DotGatConv, GATConv, GATv2Conv, TransformerConv


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


@pytest.mark.many
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


@pytest.mark.slow
def test_the_attack_finds_what_a_saturated_softmax_hides():
    """There the margin has no slope; the score has."""
    model, graph, feat = saturated()
    for seed in range(10):
        found = attack(model, graph, feat, 0, 1e-3, seed=seed)
        assert found.flipped.all()
        assert ((found.feat - feat).norm(dim=1) <= 1e-3).all()
        assert model(graph, found.feat)[0].argmax() != model(graph, feat)[0].argmax()


EXTREME = {
    "sharp plain attention": ({}, 1e4, 1.0),
    "sharp attention with its norm": ({"norm": True}, 1e6, 1.0),
    "tiny features": ({"norm": True}, 1.0, 1e-7),
    "squares that underflow": ({"norm": True}, 1.0, 1e-160),
    "long features": ({"norm": True}, 1.0, 1e8),
    "squares that overflow": ({"norm": True}, 1.0, 1e155),
    "a large alpha": ({"norm": True, "alpha": 300.0}, 1.0, 1.0),
    "a falling LeakyReLU": ({"slope": -0.5}, 30.0, 1.0),
    "heads divided together": ({"norm": True, "alpha": 30.0, "per_head": False}, 1.0, 1.0),
}


def extreme(kind, options, sharpness, size, seed):
    torch.manual_seed(seed)
    norm = None
    if options.get("norm"):
        norm = {"name": "lipschitz", "alpha": options.get("alpha", 0.25)}
        norm["per_head"] = options.get("per_head", True)
        norm = "dot_lipschitz" if kind is DeepGraphTransformer else norm
    activation = ["elu", "identity", "relu"][seed % 3]
    model = kind(2, 3, 2, 4, 2, score_norm=norm, activation=activation, backend="torch").double()
    model.eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if "attn" in name or "query" in name or "key" in name:
            parameter *= sharpness
        if name.endswith("bias") and name != "head.bias":
            parameter.zero_()
    for layer in model.layers:
        if hasattr(layer, "leaky_relu"):
            layer.leaky_relu.negative_slope = options.get("slope", 0.2)
    draw = torch.Generator().manual_seed(seed)
    feat = torch.randn(5, 2, generator=draw, dtype=torch.float64) * size
    feat[seed % 5] = 0
    graph = Structure(torch.randint(5, (7,), generator=draw), torch.arange(7) % 5, 5, 5)
    return model, graph, feat


@pytest.mark.many
@pytest.mark.parametrize("kind", [DeepGAT, DeepGATv2, DeepGraphTransformer])
@pytest.mark.parametrize("case", EXTREME)
def test_exact_and_computed_features_stay_within_their_radii(case, kind):
    """Against 50 digits, with no room for rounding."""
    options, sharpness, size = EXTREME[case]
    for seed in range(2):
        model, graph, feat = extreme(kind, options, sharpness, size, seed)
        network = _Network(model, graph, feat)
        centre, structure = model.forward_features(graph, feat), graph.with_self_loops()
        draw = torch.Generator().manual_seed(seed)
        for radius in (0.0, 1e-12 * size, 1e-3 * size):
            limit, apart = network.radii(radius)
            change = torch.randn(feat.shape, generator=draw, dtype=torch.float64)
            moved = feat + change / change.norm(dim=1, keepdim=True) * radius * 0.999
            exact = exact_model.features(model, structure, moved)
            computed = exact_model.numbers(model.forward_features(graph, moved).nan_to_num(0))
            for i, row in enumerate(exact):
                if not limit[i].isfinite():
                    assert size > 1e100, "only lengths that overflow are given up"
                    continue
                middle = exact_model.numbers(centre[i])
                for got in (row, computed[i]):
                    far = exact_model.length([a - b for a, b in zip(got, middle)])
                    assert far <= limit[i].item()
                far = exact_model.length([a - b for a, b in zip(row, computed[i])])
                assert far <= apart[i].item()


@pytest.mark.many
@pytest.mark.parametrize("kind", [DeepGAT, DeepGATv2, DeepGraphTransformer])
def test_exact_classes_stay_within_certified_radii(kind):
    for case in ("sharp plain attention", "a large alpha", "tiny features"):
        model, graph, feat = extreme(kind, *EXTREME[case], seed=3)
        result = robustness(model, graph, feat, points=8)
        node = int(result.radius.argmax())
        assert result.radius[node] > 0
        found = attack(model, graph, feat, node, result.radius[node].item(), steps=5)
        logits = exact_model.logits(model, graph.with_self_loops(), found.feat)[node]
        assert max(range(3), key=lambda c: logits[c]) == result.predicted[node]


TOGETHER = {"name": "lipschitz", "per_head": False}
WHOLE = {"name": "dot_lipschitz", "scope": "graph"}
SCORED = {
    "gat": (GATConv, {}),
    "gat norm": (GATConv, {"score_norm": "lipschitz"}),
    "gat together": (GATConv, {"score_norm": TOGETHER}),
    "gat sep": (GATConv, {"score_norm": TOGETHER, "sep": True}),
    "gatv2": (GATv2Conv, {}),
    "gatv2 norm": (GATv2Conv, {"score_norm": "lipschitz"}),
    "gatv2 together": (GATv2Conv, {"score_norm": TOGETHER}),
    "dot": (DotGatConv, {}),
    "dot norm": (DotGatConv, {"score_norm": "dot_lipschitz"}),
    "dot graph": (DotGatConv, {"score_norm": WHOLE}),
    "transformer": (TransformerConv, {}),
    "transformer norm": (TransformerConv, {"score_norm": "dot_lipschitz"}),
    "transformer graph": (TransformerConv, {"score_norm": WHOLE}),
}


@pytest.mark.parametrize("name", SCORED)
def test_the_intervals_of_scores_hold_the_exact_ones(name, monkeypatch):
    """At the given features themselves, where an interval is as wide as rounding alone."""
    monkeypatch.setattr(local_attention, "attend", lambda structure, value, scores: scores)
    kind, options = SCORED[name]
    draw = torch.Generator().manual_seed(1)
    graph = Structure(torch.randint(4, (6,), generator=draw), torch.arange(6) % 4, 4, 4)
    for seed, heads in ((0, 1), (1, 3)):
        torch.manual_seed(seed)
        layer = kind(4, 2, heads, allow_zero_in_degree=True, **options).double()
        layer.requires_grad_(False)
        structure = layer.attended(graph.with_self_loops())
        feat = torch.randn(4, 4, generator=draw, dtype=torch.float64)
        scores = local_attention.ATTENTION_RULES[kind](layer, structure, feat)
        low, high = scores.around(torch.zeros(4, dtype=torch.float64))
        assert ((high - low) < 1e-12).all()
        exact = exact_model.edge_scores(layer, structure, feat)
        for row, *ends in zip(exact, low.tolist(), high.tolist(), strict=True):
            for score, least, most in zip(row, *ends, strict=True):
                assert least <= score <= most


def test_logits_that_differ_by_their_rounding_are_not_certified():
    model, graph, feat = extreme(DeepGAT, {"norm": True}, 1.0, 1.0, 0)
    before = robustness(model, graph, feat).radius
    model.head.bias += 1e17
    after = robustness(model, graph, feat)
    assert (before > 0).all()
    assert (after.radius == 0).all()
    assert after.reason


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, 1e300])
def test_nothing_is_certified_where_features_are_not_finite_or_overflow(value):
    model, graph, feat = extreme(DeepGAT, {"norm": True}, 1.0, 1.0, 0)
    feat[:] = value
    for method in ("local", "global"):
        result = robustness(model, graph, feat, method=method)
        assert (result.radius == 0).all()
        assert result.reason


def test_ties_are_not_certified():
    model, graph, feat = extreme(DeepGAT, {"norm": True}, 1.0, 1.0, 0)
    model.head.weight[1], model.head.bias[1] = model.head.weight[0], model.head.bias[0]
    model.head.weight[2], model.head.bias[2] = model.head.weight[0], model.head.bias[0] - 1
    result = robustness(model, graph, feat)
    assert (result.margin == 0).all()
    assert (result.radius == 0).all()


def test_features_of_other_types_are_the_same_numbers():
    model, graph, feat = extreme(DeepGAT, {"norm": True}, 1.0, 1.0, 0)
    for dtype in (torch.float16, torch.float32):
        short = feat.to(dtype)
        expected = robustness(model, graph, short.double()).radius
        assert torch.equal(robustness(model, graph, short).radius, expected)
    sparse = robustness(model, graph, feat.to_sparse_csr()).radius
    assert torch.equal(sparse, robustness(model, graph, feat).radius)


def test_heads_that_nothing_is_known_about_are_refused():
    model, graph, feat = extreme(DeepGAT, {"norm": True}, 1.0, 1.0, 0)
    model.head = torch.nn.Sequential(model.head, torch.nn.Linear(3, 3).double())
    with pytest.raises(ConfigError, match="the head is a Sequential"):
        robustness(model, graph, feat)


def test_a_model_of_two_classes_and_one_without_a_head():
    for classes in (2, 0):
        torch.manual_seed(0)
        model = DeepGAT(2, classes, 1, 4, 2, score_norm="lipschitz").double().eval()
        _, graph, feat = extreme(DeepGAT, {}, 1.0, 1.0, 0)
        result = robustness(model, graph, feat)
        assert (result.radius > 0).any()
        node = int(result.radius.argmax())
        assert not attack(model, graph, feat, node, result.radius[node].item()).flipped
