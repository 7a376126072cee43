"""Certified radii hold: under random moves, under attack, and for every kind of layer."""

import pytest
import torch
from graph_zoo import directed, homogeneous, star

import lipzoo
from adversary.draw import random_case
from lipzoo.attention import as_structure
from lipzoo.errors import ConfigError, DataError
from lipzoo.lipschitz import attack, bound, robustness
from lipzoo.lipschitz.local import local_rule
from lipzoo.models import DeepGAT, DeepGATv2, DeepGraphTransformer
from lipzoo.models.activations import ACTIVATIONS
from lipzoo.nn import (
    BatchNorm,
    DotGatConv,
    GATConv,
    GATv2Conv,
    LayerNorm,
    NeighborNorm,
    PairNorm,
    TransformerConv,
)
from lipzoo.nn.residual import RESIDUAL_SCHEMES


def features(nodes=10, width=4, seed=0):
    return torch.randn(
        nodes, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def moved(feat, radius, seed):
    """Every row by at most its radius, most of them by all of it."""
    change = features(*feat.shape, seed=seed)
    change = change / change.norm(dim=1, keepdim=True)
    share = torch.rand(len(feat), 1, generator=torch.Generator().manual_seed(seed)).sqrt()
    return feat + change * radius.unsqueeze(1) * share


LAYERS = {
    "gat": lambda: GATConv(4, 2, 2, score_norm="lipschitz"),
    "gat plain": lambda: GATConv(4, 2, 2),
    "gat together": lambda: GATConv(
        4, 2, 2, score_norm={"name": "lipschitz", "per_head": False, "alpha": 2.0}, residual=True
    ),
    "gat slope": lambda: GATConv(4, 2, 2, score_norm="lipschitz", negative_slope=-0.5),
    "gatv2": lambda: GATv2Conv(4, 2, 2, score_norm="lipschitz"),
    "gatv2 plain": lambda: GATv2Conv(4, 2, 2),
    "gatv2 shared": lambda: GATv2Conv(4, 2, 2, score_norm="lipschitz", share_weights=True),
    "dot": lambda: TransformerConv(4, 2, 2, score_norm="dot_lipschitz", activation=torch.nn.ELU()),
    "dot plain": lambda: TransformerConv(4, 2, 2),
    "dot graph": lambda: TransformerConv(
        4, 2, 2, score_norm={"name": "dot_lipschitz", "scope": "graph"}
    ),
    "dotgat": lambda: DotGatConv(4, 2, 2, score_norm="dot_lipschitz"),
    "pairnorm": lambda: PairNorm(4),
    "pairnorm_si": lambda: PairNorm(4, individually=True),
    "layernorm": lambda: LayerNorm(4),
    "batchnorm": lambda: BatchNorm(4),
    "neighbornorm": lambda: NeighborNorm(4),
    "linear": lambda: torch.nn.Linear(4, 3),
    "gelu": lambda: torch.nn.GELU(),
}
GRAPHS = {
    "homogeneous": homogeneous,
    "star": lambda: lipzoo._dgl.dgl.add_self_loop(star()),
    "no loops": directed,
}


@pytest.mark.many
@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("name", LAYERS)
def test_no_row_leaves_its_radius(name, graph):
    torch.manual_seed(0)
    structure = as_structure(GRAPHS[graph]())
    module = LAYERS[name]().double().eval().requires_grad_(False)
    if hasattr(module, "allow_zero_in_degree"):
        module.allow_zero_in_degree, module.backend = True, "torch"
    for seed in range(12):
        feat = features(structure.num_src, seed=seed) * 10.0 ** (seed % 4 - 1)
        feat[seed % structure.num_src] = 0
        if seed % 2:
            feat[:2] *= 1e-3
        with torch.no_grad():
            out, passage = local_rule(module, structure, feat)
        takes_graph = not isinstance(module, (torch.nn.Linear, torch.nn.GELU))

        def run(x, takes_graph=takes_graph):
            return (module(structure, x) if takes_graph else module(x)).flatten(1)

        assert torch.equal(out, run(feat))
        for size in (1e-6, 1e-2, 0.3, 3.0):
            radius = (
                size
                * torch.rand(
                    structure.num_src, generator=torch.Generator().manual_seed(seed)
                ).double()
            )
            if seed % 3 == 0:  # one node moves, far from most others
                radius[torch.arange(structure.num_src) != seed % structure.num_src] = 0
            limit = passage.spread(radius)
            assert not limit.isnan().any()
            for other in range(4):
                change = (run(moved(feat, radius, 100 * seed + other)) - out).norm(dim=1)
                assert (change <= limit).all(), "with no room for rounding"


@pytest.mark.many
@pytest.mark.parametrize("name", LAYERS)
def test_radii_are_close_to_the_slope_where_they_are_small(name):
    """Not only sound: near a point, within a factor of what really happens."""
    torch.manual_seed(0)
    structure = as_structure(homogeneous())
    module = LAYERS[name]().double().eval().requires_grad_(False)
    feat, radius = features(), torch.full((10,), 1e-7, dtype=torch.float64)
    with torch.no_grad():
        out, passage = local_rule(module, structure, feat)
        limit = passage.spread(radius)
        takes_graph = not isinstance(module, (torch.nn.Linear, torch.nn.GELU))
        worst = torch.zeros(10, dtype=torch.float64)
        for seed in range(200):
            x = moved(feat, radius, seed)
            got = (module(structure, x) if takes_graph else module(x)).flatten(1)
            worst = torch.maximum(worst, (got - out).norm(dim=1))
    assert (limit < 25 * worst).all()


MODELS = {
    "gat none": (DeepGAT, {"score_norm": "lipschitz"}),
    "gat residual": (DeepGAT, {"score_norm": "lipschitz", "residual": "residual"}),
    "gat initial layernorm": (
        DeepGAT,
        {"score_norm": "lipschitz", "residual": "initial", "feature_norm": "layernorm"},
    ),
    "gat dense": (DeepGAT, {"score_norm": "lipschitz", "residual": "dense"}),
    "gatv2 jumping max": (DeepGATv2, {"score_norm": "lipschitz", "residual": "jumping"}),
    "gatv2 jumping cat": (
        DeepGATv2,
        {"score_norm": "lipschitz", "residual": {"name": "jumping", "mode": "cat"}},
    ),
    "gt pairnorm": (
        DeepGraphTransformer,
        {"score_norm": "dot_lipschitz", "feature_norm": "pairnorm"},
    ),
    "gat plain jumping mean": (DeepGAT, {"residual": {"name": "jumping", "mode": "mean"}}),
}


def make(name):
    torch.manual_seed(0)
    kind, arguments = MODELS[name]
    return kind(4, 3, 2, 8, 2, **arguments).eval()


@pytest.mark.many
@pytest.mark.parametrize("method", ["local", "global"])
@pytest.mark.parametrize("name", MODELS)
def test_no_node_flips_under_attack_inside_its_radius(name, method):
    model = make(name)
    result = robustness(model, homogeneous(), features(), method=method)
    model = model.double()
    predicted = model(homogeneous(), features()).argmax(1)
    assert torch.equal(result.predicted, predicted)
    if method == "local":
        assert (result.radius > 0).all()
    for node in range(0, 10, 2):
        radius = result.radius[node].item()
        found = attack(model, homogeneous(), features(), node, radius, steps=10)
        change = (found.feat - features()).norm(dim=1)
        assert (change <= radius * (1 + 1e-9) + 1e-15).all()
        assert not found.flipped.any()
        assert found.margin < result.margin[node] or radius == 0, "it did move"
    together = attack(model, homogeneous(), features(), torch.arange(10), result.radius.min())
    assert not together.flipped.any()


def test_the_attack_flips_nodes_well_outside():
    """Else the test above would show nothing."""
    model = make("gat none").double()
    found = attack(model, homogeneous(), features(), torch.arange(10), 5.0)
    assert found.flipped.sum() >= 5
    assert torch.equal(found.flipped, found.margin < 0)


@pytest.mark.many
@pytest.mark.parametrize("name", [name for name in MODELS if "plain" not in name])
def test_local_radii_are_never_smaller_than_global_ones(name):
    near = robustness(make(name), homogeneous(), features())
    far = robustness(make(name), homogeneous(), features(), method="global")
    assert (near.radius >= far.radius).all()
    assert near.radius.median() > 1.2 * far.radius.median()


def test_global_radii_are_margin_over_constant():
    model = make("gat none")
    result = robustness(model, homogeneous(), features(), method="global")
    limit = bound(model, homogeneous())
    weight = model.head.weight.double()
    logits = model.double()(homogeneous(), features())
    node = 3
    top = result.predicted[node]
    radii = [
        (logits[node, top] - logits[node, c])
        / ((weight[top] - weight[c]).norm() * limit.features_per_node)
        for c in range(3)
        if c != top
    ]
    assert result.radius[node].item() == pytest.approx(min(radii).item(), rel=1e-6)


def test_a_plain_model_has_no_global_certificate_but_a_local_one():
    model = make("gat plain jumping mean")
    result = robustness(model, homogeneous(), features(), method="global")
    assert (result.radius == 0).all()
    assert "without a score norm" in result.reason
    assert not robustness(model, homogeneous(), features()).reason


def test_a_curve_falls_from_one():
    result = robustness(make("gat none"), homogeneous(), features())
    curve = result.curve(points=20)
    shares = [share for _, share in curve]
    assert shares[0] == 1.0
    assert shares == sorted(shares, reverse=True)
    assert result.share_at(0.0) == 1.0
    assert result.share_at(1e9) == 0.0
    mask = torch.arange(10) < 3
    assert result.summary(mask)["nodes"] == 3
    assert result.share_at(result.radius[:3].max().item(), mask) >= 1 / 3


@pytest.mark.slow
def test_a_random_network_of_every_scheme():
    seen = set()
    for seed in range(200):
        case = random_case(seed)
        if not case.kind.startswith("Deep") or case.module.num_classes < 2:
            continue
        if case.feat.abs().max() > 1e6:  # float64 leaves no margin to check against
            continue
        result = robustness(case.module, case.graph, case.feat, points=8)
        for node in range(min(2, case.graph.num_dst)):
            radius = min(result.radius[node].item(), 1e6)
            found = attack(case.module, case.graph, case.feat, node, radius, steps=5)
            assert not found.flipped or result.margin[node] < 1e-9, (seed, case.kind)
        seen.add(case.kind.split()[1])
    assert seen == set(RESIDUAL_SCHEMES)


def test_a_function_that_makes_an_activation_leaves_radii_as_they_are():
    model = make("gat none").double()
    before = robustness(model, homogeneous(), features(), points=4).radius
    ACTIVATIONS.register("steep_softplus")(lambda: torch.nn.Softplus(beta=9.0, threshold=50.0))
    try:
        assert torch.equal(robustness(model, homogeneous(), features(), points=4).radius, before)
        model.activation = ACTIVATIONS.make("steep_softplus")
        assert (robustness(model, homogeneous(), features(), points=4).radius > 0).any()
    finally:
        ACTIVATIONS.remove("steep_softplus")


def test_a_layer_between_degrees_keeps_its_activation():
    activation = torch.nn.Hardtanh(-0.1, 0.1)
    layer = GATConv(4, 2, 2, degree_norm="symmetric", activation=activation).double().eval()
    structure = as_structure(homogeneous())
    for _ in range(2):
        assert torch.equal(
            local_rule(layer, structure, features())[0], layer(structure, features()).flatten(1)
        )
    assert layer.activation is activation


def test_bad_arguments_are_answered():
    model = make("gat none")
    with pytest.raises(ConfigError, match="no method 'globl'; did you mean 'global'"):
        robustness(model, homogeneous(), features(), method="globl")
    with pytest.raises(
        ConfigError, match="needs a model of the zoo that reads features, got Linear"
    ):
        robustness(torch.nn.Linear(4, 3), homogeneous(), features())
    with pytest.raises(DataError, match="features of all its nodes"):
        robustness(model, homogeneous(), features(3))
    handle = model.layers[0].register_forward_pre_hook(lambda layer, args: None)
    with pytest.raises(ConfigError, match="forward hooks"):
        robustness(model, homogeneous(), features())
    handle.remove()
    model.reset_classifier(1)
    with pytest.raises(ConfigError, match="at least two classes"):
        robustness(model, homogeneous(), features())
