"""No local constant is above its bound, and the bound is infinite where none exists."""

import copy
import math
from itertools import pairwise

import pytest
import torch
from graph_zoo import directed, homogeneous, star
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

import lipzoo
from adversary.ascent import ascend
from adversary.draw import random_case
from adversary.measure import Case, jacobian, local_constants
from lipzoo.attention import LipschitzNorm, Structure, as_structure
from lipzoo.errors import ConfigError, DataError
from lipzoo.lipschitz import Constant, bound, register_bound
from lipzoo.lipschitz.neighbourhood import neighbourhood_of
from lipzoo.models import DeepGAT
from lipzoo.nn import DotGatConv, GATConv, GATv2Conv, TransformerConv

ROUNDING = 1 + 1e-9


def features(nodes=10, width=4, seed=0):
    return torch.randn(
        nodes, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


# ------------------------------------------------------------------ estimate <= bound


@pytest.mark.slow
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=120, deadline=None)
def test_no_case_is_above_its_bound(seed):
    """A share of tools/adversary_bounds.py."""
    assert max(random_case(seed).ratios()) <= ROUNDING


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=4, deadline=None)
def test_weights_found_by_gradient_ascent_are_not_above_it_either(seed):
    case = random_case(seed)
    found = ascend(case, steps=6)
    assert max(found.ratios()) >= max(case.ratios()), "it climbs"
    assert max(found.ratios()) <= ROUNDING


def averaging_case(alpha=0.25, scale=1.0):
    """Two nodes that see both, whose features differ: nothing about it is trivial."""
    graph = Structure(torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 1, 1]), 2, 2)
    norm = {"name": "lipschitz", "alpha": alpha}
    layer = GATConv(2, 2, 1, score_norm=norm, bias=False, backend="torch").double()
    layer.requires_grad_(False)
    layer.fc.weight.copy_(torch.eye(2) * scale)
    return Case("GATConv", layer, graph, torch.tensor([[1.0, 0.2], [1.0, -0.2]]).double())


def test_the_bound_is_tight_somewhere():
    """tools/adversary_bounds.py finds 0.9; the figure to reach is 0.4."""
    assert min(ascend(averaging_case(), steps=5).ratios()) > 0.6


@pytest.mark.slow
def test_the_search_would_see_a_bound_that_is_too_small():
    ratios = [max(random_case(seed).ratios()) for seed in range(60)]
    with_choice = [
        ratio for seed, ratio in enumerate(ratios) if random_case(seed).graph.in_degrees.min() > 1
    ]
    assert max(with_choice) > 0.6


def test_the_jacobian_is_that_of_finite_differences():
    for seed in range(6):
        case = random_case(seed)
        case = Case(case.kind, case.module, case.graph, features(*case.feat.shape))
        exact = jacobian(case)
        step = 1e-6
        for position in torch.cartesian_prod(*map(torch.arange, case.feat.shape))[:6]:
            moved = torch.zeros_like(case.feat)
            moved[tuple(position)] = step
            ends = [case.module(case.graph, case.feat + s * moved).flatten(1) for s in (1, -1)]
            slope = (ends[0] - ends[1]) / (2 * step)
            got = exact[(..., *position)]
            assert torch.allclose(got, slope, atol=1e-4 * max(1.0, slope.abs().max().item()))


@pytest.mark.slow
def test_distances_between_far_points_stay_below_it_too():
    """A Lipschitz constant is about any two points, not only close ones."""
    for seed in range(200):
        case = random_case(seed)
        limit = case.bound()
        for scale in (1e-3, 1.0, 1e3):
            other = case.feat + scale * features(*case.feat.shape, seed=seed)
            moved = case.module(case.graph, other) - case.module(case.graph, case.feat)
            moved, change = moved.flatten(1), other - case.feat
            # Rounding of features of length 1e17 shows in the difference of two outputs.
            rounding = 1e-13 * (case.feat.abs().max() + other.abs().max()) * (1 + float(limit))
            assert moved.norm() <= limit.frobenius * change.norm() * ROUNDING + rounding
            by_node = (moved.norm(dim=1).max(), change.norm(dim=1).max())
            assert by_node[0] <= limit.per_node * by_node[1] * ROUNDING + rounding


# --------------------------------------------------------------- what it depends on


@pytest.mark.parametrize("per_head", [True, False])
def test_the_length_of_attention_vectors_does_not_matter(per_head):
    norm = {"name": "lipschitz", "per_head": per_head}
    layer = GATConv(4, 2, 2, score_norm=norm)
    before = float(bound(layer, homogeneous()))
    with torch.no_grad():
        layer.attn_l.mul_(1e3)
        layer.attn_r.mul_(1e3)
    assert float(bound(layer, homogeneous())) == pytest.approx(before)


def test_it_is_no_looser_than_the_plain_formula():
    """The bound of one layer: ||W|| (sqrt c + sqrt 2 alpha (sqrt(c + 1) + sqrt(c + kappa)))."""
    for graph in (homogeneous(), lipzoo.attention.as_structure(star(), add_self_loops=True)):
        structure = as_structure(graph)
        layer = GATConv(4, 4, 1, score_norm="lipschitz")
        degree = structure.in_degrees.double()
        column = torch.zeros(structure.num_src).double()
        column.index_add_(0, structure.src, 1 / degree[structure.dst])
        c = math.exp(1.2 * 0.25) * column.max().item()
        kappa = torch.bincount(structure.src).max().item()
        roots = math.sqrt(c + 1) + math.sqrt(c + kappa)
        norm = torch.linalg.matrix_norm(layer.fc.weight.detach().double(), 2).item()
        plain = norm * (math.sqrt(c) + math.sqrt(2) * 0.25 * roots)
        assert float(bound(layer, structure)) < plain


def test_attention_without_a_choice_is_linear():
    """One in-edge a node: the weight is 1, whatever the score norm."""
    loops = Structure(torch.arange(3), torch.arange(3), 3, 3)
    layer = GATConv(4, 2, 2, score_norm={"name": "lipschitz", "alpha": 9.0})
    norm = torch.linalg.matrix_norm(layer.fc.weight.detach().double(), 2).item()
    assert float(bound(layer, loops)) == pytest.approx(norm)


def test_heads_that_are_averaged():
    layer = GATConv(4, 2, 4, score_norm="lipschitz")
    beside = float(bound(layer, homogeneous()))
    mean = bound(layer, homogeneous(), heads="mean")
    assert float(mean) == pytest.approx(beside / 2)
    assert float(mean) < beside
    case = Case("mean", _Mean(layer).double(), as_structure(homogeneous()), features())
    assert local_constants(jacobian(case))[0] <= float(mean)
    with pytest.raises(DataError, match="heads: must be"):
        bound(layer, homogeneous(), heads="sum")
    with pytest.raises(DataError, match="Linear has no heads"):
        bound(nn.Linear(2, 2), homogeneous(), heads="mean")


class _Mean(nn.Module):
    def __init__(self, layer):
        super().__init__()
        layer.backend = "torch"
        self.layer = layer

    def forward(self, graph, feat):
        return self.layer(graph, feat).mean(1)


def test_a_larger_alpha_and_a_hub_cost():
    def of(alpha, graph):
        torch.manual_seed(0)
        norm = {"name": "lipschitz", "alpha": alpha}
        return float(bound(GATConv(4, 2, 2, score_norm=norm), as_structure(graph, True)))

    assert of(0.1, homogeneous()) < of(1.0, homogeneous())
    assert of(0.25, homogeneous()) < of(0.25, star())


@pytest.mark.parametrize("alpha", [1e-3, 100.0, 578.0, 592.0, 1e3, 1e4, 1e8])
@pytest.mark.parametrize("kind", [GATConv, GATv2Conv])
def test_alpha_may_be_as_large_as_one_likes(kind, alpha):
    """exp(alpha) overflows from 710 on; the attention may then be any."""
    graph = as_structure(star(), add_self_loops=True)
    torch.manual_seed(0)
    norm = {"name": "lipschitz", "alpha": alpha}
    layer = kind(4, 2, 2, score_norm=norm, negative_slope=1.5, backend="torch").double()
    limit = bound(layer, graph)
    assert limit.is_finite
    assert limit.frobenius >= alpha * 0.1
    feat = features(graph.num_src)
    assert max(Case("", layer, graph, feat).ratios()) <= ROUNDING
    around = neighbourhood_of(graph, 2.5 * alpha)
    assert around.average >= around.column * (1 - 1e-9) / math.sqrt(graph.num_src)
    assert 1 <= around.overlap <= graph.in_degrees.max()


@pytest.mark.parametrize("alpha", [math.inf, math.nan, -math.inf])
def test_alpha_is_a_number(alpha):
    with pytest.raises(ConfigError, match="alpha must be > 0 and finite"):
        LipschitzNorm(alpha)
    layer = GATConv(4, 2, 2, score_norm="lipschitz")
    layer.score_norm.alpha = alpha
    assert "alpha must be a finite number" in bound(layer, homogeneous()).reason


def full_block(num_src, num_dst):
    """Each destination sees every source."""
    src, dst = torch.cartesian_prod(torch.arange(num_src), torch.arange(num_dst)).T
    return Structure(src, dst, num_src, num_dst)


@pytest.mark.parametrize("sizes", [(101, 1), (40, 6, 1), (9, 9, 2)])
def test_blocks_have_fewer_nodes_behind_than_before(sizes):
    """All inputs of a node that move alike move it as far as one of them, not 1/sqrt(N)."""
    blocks = [full_block(*pair) for pair in pairwise(sizes)]
    for seed in range(4):
        torch.manual_seed(seed)
        model = DeepGAT(
            3, 0, len(blocks), 4, 1, score_norm="lipschitz", activation="identity", backend="torch"
        )
        model = model.double().eval().requires_grad_(False)
        case = Case("", model, blocks, features(sizes[0], 3, seed))
        limit = case.bound()
        frobenius, per_node = local_constants(jacobian(case))
        assert frobenius <= limit.frobenius * ROUNDING
        assert per_node <= min(limit.per_node, limit.features_per_node) * ROUNDING
        change = torch.ones(sizes[0], 3).double() * model.input.weight.sum(0)
        moved = case(case.feat + change) - case(case.feat)
        assert moved.norm(dim=1).max() <= limit.per_node * change[0].norm() * ROUNDING


def test_a_head_that_is_no_linear_map_counts_too():
    model = DeepGAT(4, 3, score_norm="lipschitz")
    once = float(bound(model, homogeneous()))
    model.head = nn.Sequential(model.head)
    assert "nothing is known about Sequential" in bound(model, homogeneous()).reason
    model.head = nn.LeakyReLU(3.0)
    model_without = DeepGAT(4, 0, score_norm="lipschitz")
    model_without.load_state_dict(model.state_dict())
    without = float(bound(model_without, homogeneous()))
    assert float(bound(model, homogeneous())) == pytest.approx(3 * without)
    assert once != without


def test_edge_weights_scale_what_attention_hands_over():
    graph = as_structure(homogeneous(), add_self_loops=True)
    weight = torch.randn(graph.num_edges, generator=torch.Generator().manual_seed(0)).double() * 3
    for residual in (False, True):
        torch.manual_seed(0)
        layer = GATConv(4, 2, 2, score_norm="lipschitz", residual=residual, backend="torch")
        layer = layer.double().requires_grad_(False)
        plain, weighted = bound(layer, graph), bound(layer, graph, edge_weight=weight)
        largest = weight.abs().max().item()
        if not residual:
            assert weighted.frobenius == pytest.approx(largest * plain.frobenius)
        assert weighted.frobenius <= largest * plain.frobenius * ROUNDING
        case = Case("", layer, graph, features(graph.num_src), edge_weight=weight)
        assert max(ascend(case, 6).ratios()) <= ROUNDING
        assert local_constants(jacobian(case))[0] > plain.frobenius * 0.5, "it does scale"
    with pytest.raises(DataError, match="edge_weight: TransformerConv takes none"):
        bound(TransformerConv(4, 2, 2), graph, edge_weight=weight)
    with pytest.raises(DataError, match="edge_weight: holds NaN"):
        bound(layer, graph, edge_weight=weight * math.nan)


def test_attention_vectors_of_any_length():
    """Their squares neither overflow nor count as zero."""
    for per_head in (True, False):
        norm = {"name": "lipschitz", "per_head": per_head}
        torch.manual_seed(0)
        layer = GATConv(4, 2, 3, score_norm=norm).double().requires_grad_(False)
        plain = bound(layer, homogeneous())
        for size in (1e-300, 1e-200, 1e200, 1e300):
            other = copy.deepcopy(layer)
            other.attn_l.mul_(size)
            other.attn_r.mul_(size)
            assert float(bound(other, homogeneous())) == pytest.approx(float(plain))
        # A head beside which the others are short takes nearly all of alpha.
        layer.attn_l[0, 0] *= 1e200
        assert bound(layer, homogeneous()).is_finite


# --------------------------------------------------------------------- infinite, and why


@pytest.mark.parametrize("kind", [GATConv, GATv2Conv, TransformerConv, DotGatConv])
def test_plain_attention_has_none(kind):
    limit = bound(kind(4, 2, 2), homogeneous())
    assert float(limit) == limit.per_node == math.inf
    assert not limit.is_finite
    assert "without a score norm is not Lipschitz" in limit.reason
    assert limit.to_dict()["frobenius"] is None


def test_plain_attention_really_has_none():
    """The local constant grows with the features, and with the norm it does not."""

    def local(norm, scale):
        graph = Structure(torch.tensor([0, 1, 2] * 3), torch.arange(3).repeat_interleave(3), 3, 3)
        torch.manual_seed(0)
        layer = TransformerConv(2, 2, 1, score_norm=norm, bias=False, backend="torch").double()
        feat = torch.tensor([[0.0, 0.0], [scale, 0.0], [-scale, 0.0]]).double()
        return local_constants(jacobian(Case("", layer, graph, feat)))[0]

    assert local(None, 100.0) > 50 * local(None, 1.0)
    assert local("dot_lipschitz", 1e4) < 2 * local("dot_lipschitz", 1.0)


def test_additive_scores_need_self_loops():
    limit = bound(GATConv(4, 2, 2, score_norm="lipschitz"), directed())
    assert float(limit) == math.inf
    assert "1 nodes have several in-edges but no self-loop" in limit.reason
    assert bound(GATv2Conv(4, 2, 2, score_norm="lipschitz"), directed()).is_finite


class _OwnForward(GATConv):
    def forward(self, *args, **kwargs):
        return 100 * super().forward(*args, **kwargs)


class _OwnNorm(LipschitzNorm):
    def forward(self, e, scores, ops):
        return 100 * e


def test_what_is_unknown_has_none():
    def reason(layer):
        limit = bound(layer, homogeneous())
        assert float(limit) == math.inf
        return limit.reason

    assert "nothing is known about _OwnForward" in reason(_OwnForward(4, 2, 2))
    assert "score norm _OwnNorm" in reason(GATConv(4, 2, 2, score_norm=_OwnNorm()))
    hooked = GATConv(4, 2, 2, score_norm="lipschitz")
    handle = hooked.register_score_hook(lambda layer, structure, e: 9 * e)
    assert "score hooks" in reason(hooked)
    handle.remove()
    assert bound(hooked, homogeneous()).is_finite
    activated = GATConv(4, 2, 2, score_norm="lipschitz", activation=torch.sin)
    assert "nothing is known about sin" in reason(activated)
    usual = GATConv(4, 2, 2, score_norm="lipschitz", activation=torch.nn.functional.elu)
    assert bound(usual, homogeneous()).is_finite
    assert "two kinds of nodes" in reason(GATConv((4, 4), 2, 2, score_norm="lipschitz"))


class _OwnStep(GATConv):
    def _finish(self, *args):
        return 100 * super()._finish(*args)


class _SameStep(GATConv):
    """Another initialisation and printing change nothing."""

    def extra_repr(self):
        return "same"


class _OwnRun(DeepGAT):
    def run(self, *args, **kwargs):
        return [100 * state for state in super().run(*args, **kwargs)]


def test_what_is_overridden_may_do_anything():
    assert not bound(_OwnStep(4, 2, 2, score_norm="lipschitz"), homogeneous()).is_finite
    assert bound(_SameStep(4, 2, 2, score_norm="lipschitz"), homogeneous()).is_finite
    model = _OwnRun(4, 3, score_norm="lipschitz")
    assert "_OwnRun has a run of its own" in bound(model, homogeneous()).reason
    model = DeepGAT(4, 3, score_norm="lipschitz")
    handle = model.layers[1].register_forward_hook(lambda layer, args, out: 9 * out)
    assert "layers.1 has forward hooks" in bound(model, homogeneous()).reason
    handle.remove()
    assert bound(model, homogeneous()).is_finite


def test_a_rule_of_ones_own():
    class Twice(nn.Module):
        def forward(self, x):
            return 2 * x

    assert not bound(Twice(), homogeneous()).is_finite
    register_bound(Twice)(lambda module, structure: Constant(2.0, 2.0))
    assert float(bound(Twice(), homogeneous())) == 2


# ------------------------------------------------------------------------- networks


def test_a_network_names_the_layer_that_has_none():
    model = lipzoo.create_model("gat_2", in_feats=4, num_classes=3)
    limit = bound(model, homogeneous())
    assert limit.reason.startswith("layer 1: GATConv without a score norm")
    assert [layer.name for layer in limit.layers] == ["input", "layer_1", "layer_2", "head"]
    assert "without a score norm" in str(limit)


@pytest.mark.slow
def test_every_architecture_has_a_bound_or_a_reason():
    for name in lipzoo.list_models():
        is_in_context = "_context_" in name  # it reads what was made of labels
        model = lipzoo.create_model(name, in_feats=4, num_classes=0 if is_in_context else 3)
        limit = bound(model, homogeneous())
        has_norm = "lip" in name or name == "test_tiny"
        assert limit.is_finite == (has_norm and not is_in_context), name
        assert bool(limit.reason) != limit.is_finite


def test_schemes_by_hand():
    """With factors read from the plain model, the other schemes are sums of their products."""

    def of(scheme, **options):
        torch.manual_seed(0)
        model = DeepGAT(4, 3, 2, 4, 2, score_norm="lipschitz", residual={"name": scheme, **options})
        return bound(model, homogeneous())

    plain = of("none")
    first, one, two, head = (layer.frobenius for layer in plain.layers)
    root = math.sqrt(10)
    node = [layer.per_node for layer in plain.layers]
    per_node = math.prod(node)
    assert plain.per_node == pytest.approx(per_node)
    assert float(plain) == pytest.approx(min(first * one * two * head, root * per_node))

    skipped = of("residual")
    assert skipped.per_node == pytest.approx(node[0] * (1 + node[1]) * (1 + node[2]) * node[3])
    mean = of("jumping", mode="mean")
    assert mean.per_node == pytest.approx(node[0] * (node[1] + node[1] * node[2]) / 2 * node[3])
    side_by_side = of("jumping", mode="cat")
    features = math.hypot(node[0] * node[1], node[0] * node[1] * node[2])
    assert side_by_side.features_per_node == pytest.approx(features)


def test_nothing_times_infinity_is_nothing():
    model = lipzoo.create_model("gat_2", in_feats=4, num_classes=3)
    nn.init.zeros_(model.head.weight)
    assert float(bound(model, homogeneous())) == 0


def test_blocks_and_graphs_of_another_kind():
    layer = TransformerConv(4, 2, 2, score_norm="dot_lipschitz")
    assert bound(layer, lipzoo._dgl.dgl.to_block(homogeneous())).is_finite
    with pytest.raises(DataError, match="needs a graph, got the number 3"):
        bound(layer, 3)


@example(rows=4, columns=3, seed=0)
@given(rows=st.integers(1, 6), columns=st.integers(1, 6), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_with_nodes_holds_for_linear_maps(rows, columns, seed):
    """max_i |x_i| <= |X|_F <= sqrt(N) max_i |x_i|, on maps between nodes of one feature."""
    matrix = features(rows, columns, seed)
    frobenius = torch.linalg.matrix_norm(matrix, 2).item()
    per_node = matrix.abs().sum(1).max().item()
    from_node = Constant(math.inf, per_node).with_nodes(columns, rows)
    assert frobenius <= from_node.frobenius * ROUNDING
    from_frobenius = Constant(frobenius, math.inf).with_nodes(columns, rows)
    assert per_node <= from_frobenius.per_node * ROUNDING
