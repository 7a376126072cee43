"""Ego and neighbours apart: what of it is not in ``test_options.py``."""

import pytest
import torch
from option_zoo import KINDS, features, heterophilous, make
from torch.testing import assert_close

from lipzoo._dgl import dgl
from lipzoo.attention import as_structure
from lipzoo.errors import ConfigError
from lipzoo.lipschitz import bound
from lipzoo.lipschitz.neighbourhood import neighbourhood_of
from lipzoo.nn import GATConv, GATv2Conv, TransformerConv

LAYERS = {
    "gat": lambda **options: GATConv(4, 2, 2, score_norm="lipschitz", **options),
    "gatv2": lambda **options: GATv2Conv(4, 2, 2, score_norm="lipschitz", **options),
    "gt": lambda **options: TransformerConv(4, 2, 2, score_norm="dot_lipschitz", **options),
}
EACH_LAYER = pytest.mark.parametrize("kind", LAYERS)


@EACH_LAYER
def test_one_head_is_a_linear_map_of_ego_and_mean_side_by_side(kind):
    """GAT-sep's update: [W_own, V] times [x_i, mean of x_j]."""
    cls = type(LAYERS[kind]())
    layer = cls(4, 3, 1, sep=True, score_norm=KINDS[kind][1]).double()
    x = torch.rand(10, 4, dtype=torch.float64)
    out, weights = layer(heterophilous(), x, get_attention=True)
    others = as_structure(heterophilous()).without_self_loops()
    mean = torch.zeros(10, 4).double().index_add(0, others.dst, weights.squeeze(-1) * x[others.src])
    value = {"gat": "fc", "gatv2": "fc_src", "gt": "fc_value"}[kind]
    value = getattr(layer, value)
    together = torch.cat([layer.res_fc.weight, value.weight], 1)
    bias = layer.res_fc.bias if layer.bias is None else layer.bias
    if kind == "gatv2":  # its values have a bias of their own, where there are any
        bias = bias + value.bias * (others.in_degrees > 0).unsqueeze(1)
    wanted = torch.cat([x, mean], 1) @ together.T + bias
    assert_close(out.flatten(1), wanted)


@EACH_LAYER
def test_self_loops_make_no_difference(kind):
    layer, x = LAYERS[kind](sep=True).double(), torch.rand(10, 4, dtype=torch.float64)
    without = dgl.remove_self_loop(heterophilous())
    with_all = dgl.add_self_loop(heterophilous())
    for graph in (heterophilous(), with_all):
        assert_close(layer(graph, x), layer(without, x))
        assert bound(layer, graph) == bound(layer, without)
    for changed in ({"degree_norm": "symmetric"}, {}):
        model = make(kind, "sep", **changed)
        found = [model(graph, features()) for graph in (without, heterophilous(), with_all)]
        assert_close(found[1], found[0])
        assert_close(found[2], found[0])
        model.add_self_loops = False
        assert_close(model(without, features()), found[0])


@EACH_LAYER
def test_its_own_weights_are_those_of_the_linear_residual(kind):
    """On a graph without self-loops, and without a norm that looks at the node itself."""
    torch.manual_seed(0)
    layer = LAYERS[kind](sep=True)
    plain = LAYERS[kind](residual="linear", allow_zero_in_degree=True)
    assert layer.state_dict().keys() == plain.state_dict().keys()
    plain.load_state_dict(layer.state_dict())
    x, graph = torch.rand(10, 4), dgl.remove_self_loop(heterophilous())
    if kind != "gat":
        assert_close(layer(graph, x), plain(graph, x))
    layer.score_norm = plain.score_norm = None
    assert_close(layer(graph, x), plain(graph, x))
    linear, apart = make(kind, "linear"), make(kind, "sep")
    both = make(kind, "sep", residual="linear")
    assert apart.state_dict().keys() == linear.state_dict().keys()
    assert_close(apart(graph, features()), both(graph, features()))


@EACH_LAYER
def test_a_node_alone_has_its_own_part(kind):
    layer = LAYERS[kind](sep=True)
    x = torch.rand(3, 4)
    out = layer(dgl.graph(([0, 1], [0, 1]), num_nodes=3), x)
    bias = 0 if layer.bias is None else layer.bias
    assert_close(out.flatten(1), layer.res_fc(x) + bias)
    limit = bound(layer, dgl.graph(([0], [0]), num_nodes=3))
    assert float(limit) == pytest.approx(torch.linalg.matrix_norm(layer.res_fc.weight, 2).item())


def test_edge_weights_are_those_of_the_edges():
    layer, x = LAYERS["gat"](sep=True).double(), torch.rand(10, 4, dtype=torch.float64)
    graph = heterophilous()
    weight = torch.rand(graph.num_edges(), dtype=torch.float64) + 1
    src, dst = graph.edges(order="eid")
    without = dgl.remove_self_loop(graph)
    assert_close(
        layer(graph, x, edge_weight=weight), layer(without, x, edge_weight=weight[src != dst])
    )
    limit = bound(layer, graph, edge_weight=weight)
    assert limit.frobenius <= bound(layer, graph).frobenius * weight.max().item() * (1 + 1e-9)


def test_additive_scores_stay_below_alpha_though_no_node_sees_itself():
    """The norm still looks at the node; without that a long ego lets scores grow."""
    alpha, largest = 0.3, []
    for options in ({"sep": True}, {"residual": "linear", "allow_zero_in_degree": True}):
        torch.manual_seed(0)
        norm = {"name": "lipschitz", "alpha": alpha}
        layer = GATConv(4, 2, 2, score_norm=norm, **options)
        scores = []
        layer.register_score_hook(lambda layer, structure, e, seen=scores: seen.append(e))
        for size in (1.0, 100.0):
            x = torch.randn(10, 4)
            x[::2] *= size
            layer(dgl.remove_self_loop(heterophilous()), x)
        largest.append(max(e.abs().max().item() for e in scores))
    assert largest[0] <= alpha * (1 + 1e-6)
    assert largest[1] > 3 * alpha


def test_with_self_loops_taken_out_by_hand_there_is_no_bound():
    """What ``sep`` adds to it: the node under the root."""
    graph = dgl.remove_self_loop(heterophilous())
    assert bound(make("gat", "sep"), graph).is_finite
    plain = make("gat", "linear", add_self_loops=False)
    assert "no self-loop" in bound(plain, graph).reason


def test_a_selection_may_be_the_node_itself():
    """A star: the hub is selected by each leaf, and by itself."""
    leaves = torch.arange(1, 6)
    both = torch.cat([leaves, leaves % 5 + 1]), torch.cat([leaves * 0, leaves])
    star = dgl.graph((torch.cat([both[0], leaves * 0]), torch.cat([both[1], leaves])))
    structure = as_structure(star)
    closed = neighbourhood_of(structure, 0.3, with_own=True)
    plain = neighbourhood_of(structure, 0.3)
    assert plain.selection == pytest.approx(5**0.5)
    assert closed.selection == pytest.approx(6**0.5)
    assert closed.candidates == plain.candidates + 1 == 6
    looped = neighbourhood_of(as_structure(dgl.add_self_loop(star)), 0.3)
    assert looped.selection == closed.selection


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrong", [1, "yes", None])
def test_sep_is_true_or_false(kind, wrong):
    with pytest.raises(ConfigError, match=f"sep must be true or false, got {wrong!r}"):
        make(kind, "sep", sep=wrong)
