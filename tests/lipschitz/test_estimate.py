"""The power method against the whole Jacobian; the search climbs; large graphs go in blocks."""

import importlib

import pytest
import torch
from graph_zoo import GRAPHS, homogeneous
from torch.testing import assert_close

import lipzoo
from adversary.draw import random_case
from adversary.measure import Case, jacobian, local_constants
from lipzoo.errors import ConfigError, DataError
from lipzoo.lipschitz import blocks, bound, estimate
from lipzoo.models import DeepGAT
from lipzoo.nn import GATConv

module = importlib.import_module("lipzoo.lipschitz.power_method")


def features(nodes=10, width=9, seed=0):
    return torch.randn(nodes, width, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def net():
    torch.manual_seed(0)
    return lipzoo.create_model(
        "gat_lip_2", in_feats=9, num_classes=3, hidden_feats=4, num_heads=2
    ).eval()


@pytest.mark.many
@pytest.mark.parametrize("seed", range(12))
def test_it_is_the_largest_singular_value(seed):
    case = random_case(seed)
    wanted, _ = local_constants(jacobian(case))
    found = estimate(case.module, case.graph, case.feat, iterations=300)
    assert float(found) <= wanted * (1 + 1e-9)
    assert float(found) == pytest.approx(wanted, rel=0.02, abs=1e-12)
    assert found.history == sorted(found.history)
    assert found.feat is not None


def test_the_module_and_the_features_are_left_alone(net):
    feat = features().requires_grad_()
    net.train()
    before = {name: t.clone() for name, t in net.state_dict().items()}
    first = estimate(net, homogeneous(), feat, search=2)
    assert net.training
    assert net.layers[0].backend == "auto"
    assert next(net.parameters()).dtype == torch.float32
    assert next(net.parameters()).grad is None
    assert feat.grad is None
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())
    with torch.inference_mode():
        again = estimate(net, homogeneous(), feat, search=2)
    assert float(again) == float(first), "and it is repeatable"


def test_a_short_input_gives_the_same_value(net):
    """In the basis of the input layer's row space, 4 columns stand for 9."""
    function = module._Function(net, homogeneous(), features())
    assert function.start.shape == (10, 4)
    assert_close(function(function.start), net.double()(homogeneous(), features().double()))
    case = Case("", net.requires_grad_(False), homogeneous(), features().double())
    for layer in net.layers:
        layer.backend = "torch"
    wanted, _ = local_constants(jacobian(case))
    assert float(estimate(net, homogeneous(), features(), iterations=200)) == pytest.approx(
        wanted, rel=1e-3
    )


class Bent(DeepGAT):
    def forward(self, graph, feat, **options):
        return super().forward(graph, feat.tanh(), **options)


READERS = {
    "a hook on the input layer": lambda net: net.input.register_forward_hook(
        lambda layer, given, out: 10 * out
    ),
    "a hook before it": lambda net: net.input.register_forward_pre_hook(
        lambda layer, given: (given[0].tanh(),)
    ),
    "a hook on the model": lambda net: net.register_forward_pre_hook(
        lambda layer, given: (given[0], given[1].tanh())
    ),
    "no dropout": lambda net: setattr(net, "input_drop", torch.nn.Tanh()),
    "a hook on dropout": lambda net: net.input_drop.register_forward_hook(
        lambda layer, given, out: out.tanh()
    ),
    "a forward of its own": lambda net: setattr(net, "__class__", Bent),
}


@pytest.mark.parametrize("reader", READERS)
def test_what_else_reads_the_columns_gets_all_of_them(net, reader):
    READERS[reader](net)
    function = module._Function(net, homogeneous(), features())
    wanted = net.double()(homogeneous(), features().double())
    assert_close(function(function.start), wanted)


@pytest.mark.slow
def test_a_search_climbs_and_its_point_is_where_it_says(net):
    start = estimate(net, homogeneous(), features(), iterations=100)
    found = estimate(net, homogeneous(), features(), iterations=100, search=15)
    assert float(found) > 1.02 * float(start)
    assert float(found) <= float(bound(net, homogeneous()))
    assert found.feat.shape == (10, 9)
    assert found.feat.dtype == torch.float32
    there = estimate(net, homogeneous(), found.feat, iterations=300)
    assert float(there) == pytest.approx(float(found), rel=0.01)


@pytest.mark.many
@pytest.mark.parametrize("name", ["homogeneous", "directed", "isolated", "multigraph", "star"])
@pytest.mark.parametrize("architecture", ["gat_lip_2", "gatv2_lip_2", "gt_lip_2", "test_tiny"])
def test_large_graphs_go_in_blocks(architecture, name, monkeypatch):
    model = lipzoo.create_model(architecture, in_feats=9, num_classes=3)
    graph = GRAPHS[name]()
    feat = features(graph.num_nodes())
    wanted = estimate(model, graph, feat, iterations=3)
    made = []
    make = blocks._blocks
    monkeypatch.setattr(module, "_KEPT", 0)
    monkeypatch.setattr(blocks, "_NUMBERS", 5 * model.hidden_feats)
    monkeypatch.setattr(blocks, "_blocks", lambda *args: made.extend(make(*args)) or made)
    got = estimate(model, graph, feat, iterations=3)
    assert_close(got.history, wanted.history, rtol=1e-9, atol=1e-12)
    assert len(made) > 1
    assert sum(block.num_dst for _, block, _ in made) == graph.num_nodes()
    assert all("forward" not in vars(layer) for layer in model.layers)


def test_bad_input_is_answered(net):
    with pytest.raises(ConfigError, match="iterations must be >= 1"):
        estimate(net, homogeneous(), features(), iterations=0)
    with pytest.raises(DataError, match="NaN or infinity"):
        estimate(net, homogeneous(), features() / 0)
    with pytest.raises(DataError, match="must be real numbers"):
        estimate(net, homogeneous(), torch.ones(10, 9, dtype=torch.complex64))
    with pytest.raises(DataError, match="features are"):
        estimate(net, homogeneous(), features(10, 3))


def test_whole_numbers_are_read_as_such(net):
    ones = torch.ones(10, 9, dtype=torch.long)
    found, wanted = (float(estimate(net, homogeneous(), each)) for each in (ones, ones.float()))
    assert found == wanted > 0


def test_a_map_that_moves_nothing():
    layer = GATConv(3, 2, 1, score_norm="lipschitz")
    torch.nn.init.zeros_(layer.fc.weight)
    assert float(estimate(layer, homogeneous(), features(width=3))) == 0


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_no_square_overflows_on_the_way(size):
    model = torch.nn.Linear(4, 4, bias=False).double().requires_grad_(False)
    plain = float(estimate(_OnGraph(model), homogeneous(), torch.ones(10, 4).double()))
    model.weight.mul_(size)
    found = float(estimate(_OnGraph(model), homogeneous(), torch.ones(10, 4).double()))
    assert found == pytest.approx(plain * size, rel=1e-9)
    assert found <= bound(model, homogeneous()).frobenius * (1 + 1e-12)


class _OnGraph(torch.nn.Module):
    def __init__(self, linear):
        super().__init__()
        self.linear = linear

    def forward(self, graph, feat):
        return self.linear(feat)
