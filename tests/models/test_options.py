"""Options that graphs unlike Cora need: each with every way to use a model, held against dense
matrices, on a small graph whose neighbours differ."""

import itertools

import dense_model
import numpy as np
import pytest
import torch
from option_zoo import KINDS, OPTIONS, adjacency, features, heterophilous, make
from torch import nn
from torch.testing import assert_close

import lipzoo
from adversary.ascent import ascend
from adversary.measure import Case
from lipzoo._dgl import dgl
from lipzoo.attention import as_structure
from lipzoo.errors import ConfigError
from lipzoo.lipschitz import attack, bound, estimate, robustness
from lipzoo.nn import GATConv, GATv2Conv, TransformerConv

EACH = pytest.mark.parametrize("option", OPTIONS)
EACH_KIND = pytest.mark.parametrize("kind", KINDS)
BACKENDS = pytest.mark.parametrize("backend", ["torch", "dgl", "fused"])
ROUNDING = 1 + 1e-9


def dense_options(option):
    chosen = OPTIONS[option]
    return {
        "input_activation": chosen.get("input_activation"),
        "is_apart": chosen.get("sep", False),
    }


# ------------------------------------------------------------------------------- forward


@EACH
@EACH_KIND
@BACKENDS
@pytest.mark.parametrize("heads", [1, 2])
def test_equals_dense_matrices(kind, option, backend, heads):
    norm = KINDS[kind][1]
    for score_norm, feature_norm in itertools.product(
        (None, norm), (None, "layernorm", "batchnorm")
    ):
        model = make(
            kind,
            option,
            backend=backend,
            num_heads=heads,
            score_norm=score_norm,
            feature_norm=feature_norm,
            activation="relu",
        )
        for part in model.norms if feature_norm == "batchnorm" else ():
            nn.init.uniform_(part.norm.running_var, 0.5, 2)
            nn.init.normal_(part.norm.running_mean)
        wanted = dense_model.states(
            kind, model, adjacency(), features().numpy(), "relu", **dense_options(option)
        )
        with torch.no_grad():
            found = model.forward_intermediates(heterophilous(), features())
            logits = model(heterophilous(), features())
        for state, other in zip(found, wanted, strict=True):
            np.testing.assert_allclose(state, other, rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(
            logits, dense_model.linear(model.head, wanted[-1]), rtol=1e-11, atol=1e-11
        )


@EACH
@EACH_KIND
def test_gradients_agree_between_backends(kind, option):
    found = []
    for backend in ("torch", "dgl", "fused"):
        model, feat = make(kind, option, backend=backend), features().requires_grad_()
        model(heterophilous(), feat).square().sum().backward()
        found.append([feat.grad, *(p.grad for p in model.parameters())])
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            assert_close(one, two, rtol=1e-9, atol=1e-10)


@EACH
@EACH_KIND
def test_blocks_give_the_logits_of_the_whole_graph(kind, option):
    model, seeds = make(kind, option, num_layers=2), torch.tensor([7, 9, 4])
    sampler = dgl.dataloading.MultiLayerFullNeighborSampler(2)
    inputs, _, blocks = sampler.sample(heterophilous(), seeds)
    assert len(inputs) < 10
    whole = model(heterophilous(), features())[seeds]
    assert_close(model(blocks, features()[inputs]), whole)


@EACH
@EACH_KIND
def test_recomputed_layers_give_the_same_gradients(kind, option):
    found = []
    for checkpointed in (False, True):
        model = make(kind, option, checkpoint_layers=checkpointed, feature_norm="batchnorm").train()
        torch.manual_seed(1)
        model(heterophilous(), features()).square().sum().backward()
        found.append([*(p.grad for p in model.parameters()), *model.buffers()])
    assert all(itertools.starmap(torch.equal, zip(*found, strict=True)))


@EACH
@EACH_KIND
def test_layer_groups_hold_each_parameter_once(kind, option):
    model = make(kind, option, feature_norm="layernorm")
    groups = model.layer_groups()
    assert list(groups) == ["input", "layer_1", "layer_2", "layer_3", "head"]
    grouped = [id(p) for group in groups.values() for p in group]
    assert sorted(grouped) == sorted(map(id, model.parameters()))


@EACH
def test_another_input_and_head(option):
    model = make("gat", option)
    model.reset_input(5)
    model.reset_classifier(2)
    feat = torch.rand(10, 5, dtype=torch.float64)
    assert model(heterophilous(), feat).shape == (10, 2)
    model.reset_classifier(0)
    assert_close(model(heterophilous(), feat), model.forward_features(heterophilous(), feat))


@EACH
@EACH_KIND
def test_lipschitzify_gives_the_layers_their_norm(kind, option):
    plain, wanted = make(kind, option, score_norm=None), make(kind, option)
    before = plain.state_dict()
    lipzoo.lipschitzify(plain, verbose=False)
    assert plain.state_dict().keys() == before.keys()
    assert_close(plain(heterophilous(), features()), wanted(heterophilous(), features()))
    assert bound(plain, heterophilous()) == bound(wanted, heterophilous())


@EACH
@EACH_KIND
def test_the_attention_that_is_returned_is_that_of_the_edges(kind, option):
    model = make(kind, option)
    logits, attention = model(heterophilous(), features(), return_attention=True)
    assert_close(logits, model(heterophilous(), features()))
    structure = model.structures(heterophilous())[0]
    reached = (structure.in_degrees > 0).double().unsqueeze(1).expand(10, 2)
    for weights in attention:
        assert weights.shape == (structure.num_edges, 2)
        total = torch.zeros(10, 2).double().index_add(0, structure.dst, weights)
        assert_close(total, reached)


@EACH
@EACH_KIND
def test_it_learns(kind, option):
    wide = {"hidden_feats": 16, "activation": "relu", "feature_norm": "batchnorm"}
    model = make(kind, option, **wide).train()
    labels = torch.arange(10) % 2
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for module in model.modules():
        if hasattr(module, "p"):
            module.p = 0.0
    losses = []
    for _ in range(30):
        loss = nn.functional.cross_entropy(model(heterophilous(), features()), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


# ------------------------------------------------------------------------ bounds, radii


@pytest.mark.many
@EACH
@EACH_KIND
@pytest.mark.parametrize("heads", [1, 2])
def test_no_local_constant_is_above_the_bound(kind, option, heads):
    for seed in range(6):
        model = make(
            kind,
            option,
            seed,
            num_heads=heads,
            num_layers=1 + seed % 3,
            backend="torch",
            activation=("identity", "elu")[seed % 2],
            feature_norm=(None, None, "layernorm")[seed % 3],
        ).requires_grad_(False)
        case = Case("", model, as_structure(heterophilous()), features(seed))
        assert case.bound().is_finite
        assert max(case.ratios()) <= ROUNDING
        assert max(ascend(case, 3).ratios()) <= ROUNDING
    assert float(estimate(model, heterophilous(), features())) <= float(case.bound())


@pytest.mark.many
@EACH
@EACH_KIND
@pytest.mark.parametrize("method", ["local", "global"])
def test_no_node_flips_inside_its_radius(kind, option, method):
    model = make(kind, option, num_layers=2)
    result = robustness(model, heterophilous(), features(), method=method)
    assert (result.radius > 0).sum() > 5
    assert torch.equal(result.predicted, model(heterophilous(), features()).argmax(1))
    for node in range(10):
        radius = result.radius[node].item() * 0.999
        found = attack(model, heterophilous(), features(), node, radius, steps=4, directions=4)
        assert not found.flipped, node


@EACH
def test_without_a_score_norm_there_is_no_bound_but_radii(option):
    model = make("gat", option, score_norm=None, num_layers=1)
    assert "without a score norm" in bound(model, heterophilous()).reason
    assert (robustness(model, heterophilous(), features()).radius > 0).any()


# ------------------------------------------------------------------------ linear residual


@pytest.mark.parametrize("kind", [GATConv, GATv2Conv, TransformerConv])
def test_weights_of_its_own_also_where_widths_agree(kind):
    layer, plain = kind(6, 3, 2, residual="linear"), kind(6, 3, 2, residual=True)
    assert isinstance(layer.res_fc, nn.Linear)
    assert isinstance(plain.res_fc, nn.Identity)
    wide = kind(5, 3, 2, residual=True)
    assert layer.state_dict().keys() == wide.state_dict().keys(), "DGL's keys"


@pytest.mark.parametrize("kind", [GATConv, GATv2Conv, TransformerConv])
def test_the_linear_residual_starts_as_pytorchs_linear_map(kind):
    """U(-1/sqrt F, 1/sqrt F), also when it is started again; the rest as Glorot says."""
    layer = kind(100, 10, 10, residual="linear")
    for _ in range(2):
        assert 0.099 < layer.res_fc.weight.abs().max().item() <= 0.1
        before = layer.res_fc.weight.clone()
        layer.reset_parameters()
        assert not torch.equal(before, layer.res_fc.weight)


@pytest.mark.parametrize("wrong", ["liner", "true", ""])
def test_a_residual_of_a_layer_that_there_is_not(wrong):
    with pytest.raises(ConfigError, match=f"must be true, false or 'linear', got '{wrong}'"):
        GATConv(4, 2, 2, residual=wrong)


def test_the_bound_of_a_layer_adds_the_norm_of_its_weights():
    graph = dgl.add_self_loop(heterophilous())
    torch.manual_seed(0)
    layer = GATConv(4, 2, 2, score_norm="lipschitz", residual="linear").double()
    whole, own = bound(layer, graph), torch.linalg.matrix_norm(layer.res_fc.weight, 2).item()
    layer.res_fc = None
    alone = bound(layer, graph)
    assert whole.frobenius == pytest.approx(alone.frobenius + own, rel=1e-9)
    assert whole.per_node == pytest.approx(alone.per_node + own, rel=1e-9)
    assert whole.frobenius >= alone.frobenius + own


def test_weights_that_are_no_numbers_have_no_bound():
    model = make()
    model.layers[1].res_fc.weight.data[0, 0] = torch.nan
    assert "layer 2" in bound(model, heterophilous()).reason


# ----------------------------------------------------------------------- input activation


def test_the_input_activation_is_the_other_one_where_none_is_given():
    plain, same = make(option="input", input_activation=None), make(option="input")
    same.input_activation = nn.ELU()
    assert plain.state_dict().keys() == same.state_dict().keys()
    assert "input_activation" not in str(plain)
    feat = features()
    assert torch.equal(plain(heterophilous(), feat), same(heterophilous(), feat))
    assert bound(plain, heterophilous()) == bound(same, heterophilous())
    bent = make(option="input", input_activation="gelu")
    states = bent.forward_intermediates(heterophilous(), feat)
    assert_close(states[0], nn.functional.gelu(bent.input(feat)))
    assert bound(bent, heterophilous()).layers[0].what == "Linear, GELU"


def test_the_bound_of_the_input_holds_the_constant_of_its_activation():
    plain = make(option="input", activation="relu")
    steep = make(option="input", input_activation={"name": "leaky_relu", "negative_slope": 3.0})
    without, with_it = (bound(m, heterophilous()).layers[0].frobenius for m in (plain, steep))
    assert with_it == pytest.approx(3 * without)
    assert with_it >= 3 * without
    plain.input_activation = nn.Softplus()
    assert "Softplus jumps" in bound(plain, heterophilous()).reason


def test_parameters_of_the_input_activation_are_the_inputs():
    model = make(option="input", input_activation=nn.PReLU())
    assert any(p is model.input_activation.weight for p in model.layer_groups()["input"])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("rleu", "input_activation: no activation 'rleu'.*did you mean 'relu'"),
        ({"name": "elu", "slope": 1}, "input_activation 'elu': .*slope"),
        (3, "input_activation: no activation 3"),
    ],
)
def test_an_input_activation_that_there_is_not(wrong, words):
    with pytest.raises(ConfigError, match=words):
        make(option="input", input_activation=wrong)
