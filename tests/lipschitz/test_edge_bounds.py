"""Bounds with edge features: no local constant is above them; where there is none it is said."""

import copy
import json
import math
from unittest import mock

import mpmath
import pytest
import torch
from climbing import climb, covariance
from exact_bounds import exact_bound
from graph_zoo import homogeneous, multigraph, star
from torch.testing import assert_close

from adversary.ascent import ascend
from adversary.measure import Case, jacobian, local_constants
from lipzoo._dgl import dgl
from lipzoo.attention import Structure, as_structure
from lipzoo.datasets import GraphTask
from lipzoo.errors import ConfigError
from lipzoo.lipschitz import bound, certify, estimate, gradient_flow, neighbourhood, robustness
from lipzoo.lipschitz.blocks import in_blocks
from lipzoo.models import DeepGAT, DeepGATv2, DeepGraphTransformer
from lipzoo.nn import GATConv, GATv2Conv, TransformerConv

ROUNDING = 1 + 1e-9
KINDS = {"gat": GATConv, "gatv2": GATv2Conv, "gt": TransformerConv}
NORMS = {"gat": "lipschitz", "gatv2": "lipschitz", "gt": "dot_lipschitz"}
EACH = pytest.mark.parametrize("kind", KINDS)
F, D, K = 4, 3, 2


def layer_of(kind, seed=0, heads=2, norm=None, **options):
    torch.manual_seed(seed)
    options = {"backend": "torch", "edge_feats": K, "allow_zero_in_degree": True, **options}
    layer = KINDS[kind](F, D, heads, score_norm=norm or NORMS[kind], **options)
    return layer.double().requires_grad_(False)


def random_case(kind, seed):
    """Small graphs with hubs and repeated edges; features and edges of any size; zero rows."""
    generator = torch.Generator().manual_seed(seed)

    def draw(options):
        return options[int(torch.randint(len(options), (), generator=generator))]

    def size():
        return 10.0 ** draw([-12, -6, -3, -1, 0, 0, 0, 1, 3, 6])

    nodes = draw([2, 3, 4, 5])
    edges = draw([nodes, 2 * nodes, 4 * nodes])
    src, dst = torch.randint(nodes, (2, edges), generator=generator)
    structure = Structure(src, dst, nodes, nodes)
    options = {"sep": draw([False, False, True])} if kind == "gat" else {}
    if not options.get("sep"):
        structure = structure.with_self_loops()
    norm = {"name": NORMS[kind]}
    if kind == "gt":
        norm["scope"] = draw(["node", "node", "graph"])
        options["edge_values"] = draw([False, True])
    else:
        norm |= {"alpha": draw([0.05, 0.25, 1.0, 5.0, 40.0]), "per_head": draw([True, False])}
        options["negative_slope"] = draw([0.2, 0.2, 1.5, -0.5])
    layer = layer_of(kind, seed, draw([1, 1, 2, 3]), norm, bias=False, **options)
    for _, parameter in layer.edge_parameters():
        parameter.mul_(draw([1.0, 1.0, 10.0, 1e-3, 0.0]))
    feat = torch.randn(nodes, F, generator=generator, dtype=torch.float64) * size()
    if draw([False, False, True]):
        feat[0] = 0
    edge = torch.randn(structure.num_edges, K, generator=generator, dtype=torch.float64) * size()
    if draw([False, True]):
        edge[structure.src == structure.dst] = 0
    return Case(kind, layer, structure, feat, edge_feat=edge)


# -------------------------------------------------------------------------- estimate <= bound


@pytest.mark.parametrize("seeds", [range(30), pytest.param(range(30, 300), marks=pytest.mark.slow)])
@EACH
def test_no_layer_is_above_its_bound(kind, seeds):
    ratios = []
    for seed in seeds:
        case = random_case(kind, seed)
        assert case.limit.is_finite, case.limit.reason
        ratios += case.ratios()
        assert max(ratios[-2:]) <= ROUNDING, seed
    assert max(ratios) > 0.3


@EACH
def test_gradient_ascent_does_not_get_above_it(kind):
    for seed in range(3):
        case = random_case(kind, 1000 + seed)
        found = ascend(case, steps=6)
        assert max(found.ratios()) >= max(case.ratios())
        assert max(found.ratios()) <= ROUNDING


@EACH
def test_distances_between_far_points_stay_below_it_too(kind):
    for seed in range(20):
        case = random_case(kind, 2000 + seed)
        for scale in (1e-3, 1.0, 1e3):
            other = case.feat + scale * torch.randn_like(case.feat)
            assert max(case.far_ratios(other)) <= ROUNDING


@EACH
@pytest.mark.parametrize("per_head", [True, False])
def test_the_formula_in_40_digits(kind, per_head):
    """That of docs/lipschitz.md, section 11, with the weights that Schur's test was made with."""
    norm = {"name": NORMS[kind], **({} if kind == "gt" else {"per_head": per_head})}
    layer = layer_of(kind, 3, 2, norm, bias=False)
    structure, tried = as_structure(star(), add_self_loops=True), []
    average_up_to = neighbourhood._Rows.average_up_to

    def record(rows, weight):
        tried.append(weight.tolist())
        return average_up_to(rows, weight)

    with mock.patch.object(neighbourhood._Rows, "average_up_to", record):
        limit = bound(layer, structure)
    exact = exact_bound(layer, structure, [tried, tried])
    for got, want in zip((limit.frobenius, limit.per_node), exact, strict=True):
        assert want <= got <= want * (1 + mpmath.mpf("4e-11"))


@EACH
def test_it_does_not_depend_on_the_edges(kind):
    layer, graph = layer_of(kind), as_structure(homogeneous())
    limit = float(bound(layer, graph))
    layer.fc_edge.weight.mul_(1e3)
    assert float(bound(layer, graph)) == limit


def test_a_longer_vector_of_the_edges_makes_scores_less_sensitive():
    layer, graph = layer_of("gat"), as_structure(homogeneous())
    limits = []
    for factor in (1.0, 10.0, 100.0):
        layer.attn_edge.mul_(factor)
        limits.append(float(bound(layer, graph)))
    assert limits == sorted(limits, reverse=True)
    layer.attn_edge.mul_(0)
    without = copy.deepcopy(layer)
    without.reset_edges(0)
    assert float(bound(layer, graph)) == float(bound(without, graph))


@pytest.mark.parametrize("kind", [DeepGAT, DeepGATv2, DeepGraphTransformer])
@pytest.mark.parametrize("option", [{}, {"sep": True}, {"degree_norm": "symmetric"}], ids=str)
def test_networks(kind, option):
    norm = "dot_lipschitz" if kind is DeepGraphTransformer else "lipschitz"
    sizes = {"in_feats": F, "num_classes": 2, "num_layers": 2, "hidden_feats": 4, "num_heads": 2}
    for seed, graph in enumerate((multigraph(), homogeneous())):
        torch.manual_seed(seed)
        model = kind(**sizes, score_norm=norm, edge_feats=K, backend="torch", **option)
        model = model.double().eval().requires_grad_(False)
        feat = torch.randn(graph.num_nodes(), F, dtype=torch.float64)
        edge = torch.randn(graph.num_edges(), K, dtype=torch.float64)
        case = Case("", model, as_structure(graph), feat, edge_feat=edge)
        assert case.limit.is_finite
        assert max(case.ratios()) <= ROUNDING
        assert max(ascend(case, 2).ratios()) <= ROUNDING


# ------------------------------------------------------------------------- one term at a time

NEIGHBOURS, WIDTH = 4, 3
SHAPES = [(NEIGHBOURS,), (NEIGHBOURS, WIDTH), (NEIGHBOURS, WIDTH), (3 * WIDTH,)]


def parts(v, w, attention):
    """Of an additive score's derivative at a node that is its own neighbour 0, alpha = 1."""
    left, right, edge = (attention / attention.norm()).chunk(3)
    longest = v.norm(dim=1).max()
    root = (longest.square() + v.square().sum(1) + w.square().sum(1)).sqrt()
    tau = (v @ left + v[0] @ right + w @ edge) / root
    source = left - (tau / root).unsqueeze(1) * v
    return left.norm(), right.norm(), root, source, -tau * longest / root, tau


def test_the_parts_are_those_of_the_score():
    torch.manual_seed(0)
    v, w = torch.randn(2, NEIGHBOURS, WIDTH, dtype=torch.float64)
    attention = torch.randn(3 * WIDTH, dtype=torch.float64)
    left, right, edge = (attention / attention.norm()).chunk(3)
    *_, root, source, selection, _ = parts(v, w, attention)
    for j in range(NEIGHBOURS):

        def score(v_j, v_i, m, j=j):
            square = m.square() + v_j.square().sum() + w[j].square().sum()
            return (left @ v_j + right @ v_i + edge @ w[j]) / square.sqrt()

        slopes = torch.func.grad(score, argnums=(0, 1, 2))(v[j], v[0], v.norm(dim=1).max())
        assert_close(root[j] * slopes[0], source[j])
        assert_close(root[j] * slopes[1], right)
        assert_close(root[j] * slopes[2], selection[j])


def test_the_score_stays_within_alpha():
    def ratio(v, w, attention):
        return parts(v, w, attention)[-1].abs().max()

    assert 0.99 < climb(ratio, [*SHAPES[1:]]) <= 1 + 1e-9


def test_the_slope_in_the_source():
    """Section 11: its square is at most (1 + lambda^2) / 2, which edges reach as well."""

    def ratio(v, w, attention):
        lam, _, _, source, _, _ = parts(v, w, attention)
        return source.norm(dim=1).max() / ((1 + lam.square()) / 2).sqrt()

    assert 0.9 < climb(ratio, [*SHAPES[1:]]) <= 1 + 1e-9


@pytest.mark.slow
def test_the_terms_of_the_covariance():
    def source(logits, v, w, attention, change):
        p = logits.softmax(0)
        lam, _, root, slope, _, _ = parts(v, w, attention)
        part = covariance(p, v, (slope * change).sum(1) / root).norm()
        return part / ((1 + lam.square()) / 2 * (p @ change.square().sum(1))).sqrt()

    def target(logits, v, w, attention, change):
        _, rho, root, _, _, _ = parts(v, w, attention)
        right = (attention / attention.norm()).chunk(3)[1]
        part = covariance(logits.softmax(0), v, right @ change[0] / root).norm()
        return part / (rho * change[0].norm() / math.sqrt(2))

    def selection(logits, v, w, attention, change):
        *_, root, _, slope, _ = parts(v, w, attention)
        return covariance(logits.softmax(0), v, slope / root).norm() * math.sqrt(3)

    for term in (source, target, selection):
        assert 0.4 < climb(term, [*SHAPES, (NEIGHBOURS, WIDTH)]) <= 1 + 1e-9


# ------------------------------------------------------------------------------ infinite, and why


@pytest.mark.parametrize("kind", ["gat", "gatv2"])
def test_edge_values_have_none_under_additive_norms(kind):
    limit = bound(layer_of(kind, edge_values=True), homogeneous())
    assert float(limit) == math.inf
    assert "with edge_values is not Lipschitz under LipschitzNorm" in limit.reason


@pytest.mark.parametrize("kind", ["gat", "gatv2"])
def test_they_really_have_none(kind):
    """Near zero features the scores of the loops turn, and the other edge's value is not small."""
    graph = Structure(torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 1, 1]), 2, 2)
    edge = torch.zeros(4, K, dtype=torch.float64)
    edge[1] = edge[2] = 1.0

    def local(edge_values, size):
        norm = {"name": "lipschitz", "alpha": 1.0}
        layer = layer_of(kind, 1, 1, norm, edge_values=edge_values, bias=False)
        torch.manual_seed(0)
        feat = size * torch.randn(2, F, dtype=torch.float64)
        return local_constants(jacobian(Case("", layer, graph, feat, edge_feat=edge)))[0]

    assert local(True, 1e-6) > 1e3 * local(True, 1.0)
    assert local(False, 1e-6) < 10 * local(False, 1.0)


@EACH
def test_plain_attention_has_none_either(kind):
    layer = KINDS[kind](F, D, 2, edge_feats=K)
    assert "without a score norm is not Lipschitz" in bound(layer, homogeneous()).reason


@EACH
def test_weights_that_are_no_numbers(kind):
    layer = layer_of(kind)
    layer.fc_edge.weight[0, 0] = math.nan
    assert "NaN" in bound(layer, homogeneous()).reason


# ---------------------------------------------------------------------- what reads the graph too


def model_and_task(**options):
    torch.manual_seed(0)
    graph = homogeneous()
    graph.ndata["feat"], graph.ndata["label"] = torch.randn(10, F), torch.arange(10) % 2
    graph.edata["feat"] = torch.randn(graph.num_edges(), K)
    model = DeepGAT(F, 2, 2, 4, 2, score_norm="lipschitz", edge_feats=K, **options).eval()
    return model, GraphTask.from_graph(graph)


def test_estimate_is_the_norm_of_the_jacobian():
    model, task = model_and_task()
    found = float(estimate(model, task.graph, task.feat, iterations=200))
    exact = copy.deepcopy(model).double().requires_grad_(False)
    for layer in exact.layers:
        layer.backend = "torch"
    case = Case("", exact, as_structure(task.graph), task.feat.double())
    case = Case("", exact, case.graph, case.feat, edge_feat=task.edge_feat.double())
    assert found == pytest.approx(local_constants(jacobian(case))[0], rel=1e-4)
    assert found <= float(bound(model, task.graph))


@EACH
def test_estimate_of_a_layer_is_told_the_edges(kind):
    layer, graph = layer_of(kind), homogeneous()
    feat, edge = torch.randn(10, F), torch.randn(graph.num_edges(), K)
    found = float(estimate(layer, graph, feat, edge_feat=edge))
    assert 0 < found <= float(bound(layer, graph))
    assert found != float(estimate(layer, graph, feat, edge_feat=3 * edge))


@pytest.mark.parametrize("sep", [False, True])
@EACH
def test_layers_in_blocks_read_the_same_edges(kind, sep, monkeypatch):
    monkeypatch.setattr("lipzoo.lipschitz.blocks._NUMBERS", 60)
    layer, graph = layer_of(kind, sep=sep), homogeneous()
    feat = torch.randn(10, F, dtype=torch.float64)
    edge = torch.randn(graph.num_edges(), K, dtype=torch.float64)
    wanted = layer(graph, feat, edge_feat=edge)
    with in_blocks([layer]):
        assert_close(layer(graph, feat, edge_feat=edge), wanted)


@pytest.mark.parametrize("sep", [False, True])
def test_layers_in_blocks_take_all_that_they_took(sep, monkeypatch):
    monkeypatch.setattr("lipzoo.lipschitz.blocks._NUMBERS", 60)
    layer, graph = layer_of("gat", sep=sep), homogeneous()
    feat = torch.randn(10, F, dtype=torch.float64)
    weight = torch.rand(graph.num_edges(), dtype=torch.float64)
    edge = torch.randn(graph.num_edges(), K, dtype=torch.float64)
    wanted = layer(graph, feat, weight, False, edge)
    attention = layer(graph, feat, weight, True, edge)[1]
    with in_blocks([layer]):
        assert_close(layer(graph, feat, weight, False, edge), wanted)
        assert_close(layer(graph, feat, edge_weight=weight, edge_feat=edge), wanted)
        assert_close(layer(graph, feat, weight, True, edge)[1], attention)


def test_radii_are_refused_in_words(tmp_path):
    model, task = model_and_task()
    with pytest.raises(ConfigError, match="no radii are derived for a model that reads edge"):
        robustness(model, task.graph, task.feat)
    certificate = certify(model, task, iterations=2)
    assert certificate.radii is None
    assert certificate.bound.is_finite
    assert any("edge features" in note for note in certificate.notes)
    json.dumps(certificate.to_dict())


def test_the_flow_of_gradients_is_there():
    model, task = model_and_task()
    flow = gradient_flow(model, task.graph, task.feat, task.labels)
    assert [row["layer"] for row in flow.rows] == ["input", "layer_1", "layer_2", "head"]


def test_without_edges_in_the_graph_it_is_said():
    model, task = model_and_task()
    bare = dgl.graph(task.graph.edges(order="eid"))
    assert bound(model, bare).is_finite, "it holds whatever the edges carry"
    with pytest.raises(Exception, match="reads edge features"):
        estimate(model, bare, task.feat)
