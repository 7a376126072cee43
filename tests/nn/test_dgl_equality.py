"""Without a score norm, a layer equals DGL's on the same state_dict."""

import itertools

import pytest
import torch
from graph_zoo import bipartite, block, homogeneous, int32, isolated
from torch import nn
from torch.testing import assert_close

from lipzoo import nn as ours
from lipzoo._dgl import dgl

BOTH = pytest.mark.parametrize("backend", ["dgl", "torch"])
SOURCE, TARGET, HEADS, WIDTH = 5, 3, 2, 4


def pair_of_layers(name, in_feats, backend, **arguments):
    """DGL's layer and ours with the same parameters, none of them left at zero."""
    theirs = getattr(dgl.nn, name)(in_feats, WIDTH, HEADS, **arguments)
    layer = getattr(ours, name)(in_feats, WIDTH, HEADS, backend=backend, **arguments)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    assert list(layer.state_dict()) == list(theirs.state_dict())
    layer.load_state_dict(theirs.state_dict())
    return theirs, layer


def cast(feat, dtype):
    return tuple(each.to(dtype) for each in feat) if isinstance(feat, tuple) else feat.to(dtype)


def assert_same(theirs, layer, graph, feat, **arguments):
    """Equal output and attention; in float64 also the gradients of every parameter."""
    feat32, feat = feat, cast(feat, torch.float64)
    wanted = theirs(graph, feat32, **arguments).detach()
    atol = 1e-6 * max(1.0, wanted.abs().max().item())
    assert_close(layer(graph, feat32, **arguments).detach(), wanted, rtol=0, atol=atol)
    results = []
    for module in (theirs.double(), layer.double()):
        out, attention = module(graph, feat, get_attention=True, **arguments)
        readout = torch.linspace(-1, 1, out.numel()).view_as(out)
        grads = torch.autograd.grad((out * readout).sum(), list(module.parameters()))
        results.append((out, attention, *grads))
    assert_close(module(graph, feat, **arguments), out)
    for wanted, got in zip(*results):
        assert_close(got, wanted, rtol=1e-10, atol=1e-10)
    theirs.float(), layer.float()


def features(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


GATCONV = [
    dict(zip(("residual", "bias", "activation"), values))
    for values in itertools.product([False, True], [False, True], [None, torch.tanh])
]
GATV2CONV = [
    {**arguments, "share_weights": share} for arguments in GATCONV for share in (False, True)
]
CASES = [
    *(("GATConv", arguments) for arguments in GATCONV),
    *(("GATv2Conv", arguments) for arguments in GATV2CONV),
    ("DotGatConv", {}),
]


def each_of(cases):
    ids = [f"{n}-{'-'.join(key for key, on in a.items() if on) or 'plain'}" for n, a in cases]
    return pytest.mark.parametrize(("name", "arguments"), cases, ids=ids)


EACH = each_of(CASES)
# Two widths cannot share weights.
EACH_UNSHARED = each_of([(n, a) for n, a in CASES if not a.get("share_weights")])


@BOTH
@EACH
# An input as wide as the output makes the residual an identity, another width a linear map.
@pytest.mark.parametrize("in_feats", [SOURCE, HEADS * WIDTH])
def test_on_a_graph(name, arguments, in_feats, backend):
    layers = pair_of_layers(name, in_feats, backend, **arguments)
    assert_same(*layers, homogeneous(), features(10, in_feats))


@BOTH
@EACH
def test_on_a_block(name, arguments, backend):
    graph = block()
    layers = pair_of_layers(name, SOURCE, backend, allow_zero_in_degree=True, **arguments)
    assert_same(*layers, graph, features(graph.num_src_nodes(), SOURCE))


@BOTH
@EACH_UNSHARED
def test_on_a_pair_of_node_types(name, arguments, backend):
    widths = (SOURCE, TARGET)
    layers = pair_of_layers(name, widths, backend, allow_zero_in_degree=True, **arguments)
    assert_same(*layers, bipartite(), (features(4, SOURCE), features(3, TARGET)))


@BOTH
@pytest.mark.parametrize("name", ["GATConv", "GATv2Conv"])
def test_a_pair_of_features_of_one_width(name, backend):
    layers = pair_of_layers(name, SOURCE, backend, allow_zero_in_degree=True)
    assert_same(*layers, bipartite(), (features(4, SOURCE), features(3, SOURCE)))


@BOTH
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("in_feats", [SOURCE, HEADS * WIDTH])
def test_gatconv_with_extra_feature_dimensions(in_feats, residual, backend):
    layers = pair_of_layers("GATConv", in_feats, backend, residual=residual)
    feat = features(10, 2, 3, in_feats)
    assert_same(*layers, homogeneous(), feat)
    out, attention = layers[1](homogeneous(), feat, get_attention=True)
    assert out.shape == (10, 2, 3, HEADS, WIDTH)
    assert attention.shape == (homogeneous().num_edges(), 2, 3, HEADS, 1)


@BOTH
def test_gatconv_with_edge_weights(backend):
    graph = homogeneous()
    layers = pair_of_layers("GATConv", SOURCE, backend)
    assert_same(*layers, graph, features(10, SOURCE), edge_weight=torch.rand(graph.num_edges()))


@BOTH
@pytest.mark.parametrize("name", ["GATConv", "GATv2Conv", "DotGatConv"])
def test_int32_and_isolated_nodes(name, backend):
    layers = pair_of_layers(name, SOURCE, backend, allow_zero_in_degree=True)
    assert_same(*layers, int32(), features(10, SOURCE))
    assert_same(*layers, isolated(), features(6, SOURCE))


@pytest.mark.parametrize("name", ["GATConv", "GATv2Conv"])
def test_nodes_without_in_edges_raise_as_in_dgl(name):
    theirs, layer = pair_of_layers(name, SOURCE, "auto")
    for module in (theirs, layer):
        with pytest.raises(dgl.DGLError, match="0-in-degree"):
            module(isolated(), features(6, SOURCE))
        module.set_allow_zero_in_degree(True)
    assert_same(theirs, layer, isolated(), features(6, SOURCE))


@pytest.mark.parametrize("name", ["GATConv", "GATv2Conv"])
def test_dropout_is_off_in_evaluation_mode_and_on_in_training(name):
    theirs, layer = pair_of_layers(name, SOURCE, "auto", feat_drop=0.5, attn_drop=0.5)
    graph, feat = homogeneous(), features(10, SOURCE)
    assert_close(layer.eval()(graph, feat), theirs.eval()(graph, feat))
    layer.train()
    assert not torch.equal(layer(graph, feat), layer(graph, feat))


@pytest.mark.parametrize("name", ["GATConv", "GATv2Conv"])
def test_an_activation_with_parameters(name):
    """They are the activation's to initialise, and come under DGL's keys."""
    theirs = getattr(dgl.nn, name)(SOURCE, WIDTH, HEADS, activation=nn.PReLU(init=0.3))
    layer = getattr(ours, name)(SOURCE, WIDTH, HEADS, activation=nn.PReLU(init=0.3))
    assert layer.activation.weight.item() == pytest.approx(0.3)
    layer.load_state_dict(theirs.state_dict())
    graph, feat = homogeneous(), features(10, SOURCE)
    assert_close(layer(graph, feat), theirs(graph, feat))


@pytest.mark.parametrize("name", ["GATConv", "GATv2Conv"])
def test_initialisation_has_the_spread_of_dgl(name):
    arguments = (400, 30, 10)
    theirs = getattr(dgl.nn, name)(*arguments)
    layer = getattr(ours, name)(*arguments)
    for (key, wanted), got in zip(theirs.named_parameters(), layer.parameters()):
        assert got.std().item() == pytest.approx(wanted.std().item(), rel=0.15), key
        assert abs(got.mean().item()) < 0.02, key
