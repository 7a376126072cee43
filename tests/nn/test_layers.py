"""What all layers share: score norms, hooks, checks, copies; and TransformerConv's values."""

import copy
import math
import pickle

import numpy as np
import pytest
import reference
import torch
from graph_zoo import GRAPHS, bipartite, block, homogeneous, isolated
from torch import nn
from torch.testing import assert_close

from lipzoo._dgl import dgl
from lipzoo.attention import LipschitzNorm, ScoreNorm, Structure, as_structure
from lipzoo.errors import ConfigError, DataError
from lipzoo.nn import DotGatConv, GATConv, GATv2Conv, TransformerConv, keep_degrees
from lipzoo.nn.conv import IdentityMappedLinear

LAYERS = {
    "GATConv": (GATConv, "lipschitz"),
    "GATv2Conv": (GATv2Conv, "lipschitz"),
    "DotGatConv": (DotGatConv, "dot_lipschitz"),
    "TransformerConv": (TransformerConv, "dot_lipschitz"),
}
EACH = pytest.mark.parametrize(("kind", "norm"), LAYERS.values(), ids=LAYERS)


def heads_of(x):
    return x.detach().double().numpy().reshape(len(x), 2, 3)


@pytest.mark.parametrize("backend", ["dgl", "torch"])
@pytest.mark.parametrize("scope", [None, "node", "graph"])
@pytest.mark.parametrize("graph_name", ["homogeneous", "block", "bipartite", "isolated"])
def test_transformer_conv_equals_the_reference(graph_name, scope, backend):
    graph = GRAPHS[graph_name]()
    torch.manual_seed(0)
    norm = {"name": "dot_lipschitz", "scope": scope} if scope else None
    layer = TransformerConv(
        *(5, 3, 2),
        residual=True,
        activation=torch.tanh,
        allow_zero_in_degree=True,
        score_norm=norm,
        backend=backend,
    ).double()
    nn.init.normal_(layer.bias)
    x = torch.randn(graph.num_src_nodes(), 5, dtype=torch.float64)
    num_dst = graph.num_dst_nodes()
    x_dst = x[:num_dst]
    if graph_name == "bipartite":
        x_dst = torch.randn(num_dst, 5, dtype=torch.float64)
    out, attention = layer(graph, (x, x_dst), get_attention=True)

    src, dst = (ends.numpy() for ends in graph.edges(order="eid"))
    query, key, value = (
        heads_of(fc(h))
        for fc, h in zip((layer.fc_query, layer.fc_key, layer.fc_value), (x_dst, x, x))
    )
    weights = reference.softmax(
        dst, num_dst, reference.dot_scores(src, dst, query, key, value, scope)
    )
    wanted = reference.aggregate(src, dst, num_dst, weights, value)
    wanted = np.tanh(wanted + heads_of(layer.res_fc(x_dst)) + heads_of(layer.bias.view(1, -1)))
    np.testing.assert_allclose(attention.detach().squeeze(-1), weights, atol=1e-12)
    np.testing.assert_allclose(out.detach(), wanted, atol=1e-12)
    if graph_name != "bipartite":
        assert_close(layer(graph, x), out)


@EACH
def test_a_score_norm_by_name_is_the_norm_itself(kind, norm):
    layer = kind(5, 3, 2, score_norm=norm)
    assert type(layer.score_norm).__name__ in str(layer)
    assert layer.state_dict().keys() == kind(5, 3, 2).state_dict().keys()
    with pytest.raises(ConfigError, match="did you mean"):
        kind(5, 3, 2, score_norm=norm + "z")


@EACH
def test_the_wrong_score_norm_is_refused(kind, norm):
    other = {"lipschitz": "dot_lipschitz", "dot_lipschitz": "lipschitz"}[norm]
    with pytest.raises(ConfigError, match="is for"):
        kind(5, 3, 2, score_norm=other)(homogeneous(), torch.rand(10, 5))


class Temperature(ScoreNorm):
    """A user's score norm with a parameter of its own."""

    def __init__(self):
        super().__init__()
        self.temperature = nn.Parameter(torch.tensor([2.0]))

    def forward(self, e, scores, ops):
        return e / self.temperature


@pytest.mark.parametrize("kind", [GATConv, GATv2Conv, TransformerConv])
def test_a_score_norm_with_parameters(kind):
    layer = kind(5, 3, 2, score_norm=Temperature())
    layer.reset_parameters()
    assert layer.score_norm.temperature.item() == 2.0, "it is not the layer's to initialise"
    layer(homogeneous(), torch.rand(10, 5)).square().sum().backward()
    assert layer.score_norm.temperature.grad.item() != 0


# ------------------------------------------------------ pairs, blocks and single features


def roots_of(graph, of_layer):
    """Square roots of the in-degrees of the source nodes in the whole graph, (N, 1)."""
    src, dst = (ends.numpy() for ends in homogeneous().edges())
    counted = dst[src != dst] if of_layer.sep else dst
    degrees = np.bincount(counted, minlength=10).clip(1)
    nodes = graph.srcdata[dgl.NID].numpy() if graph.is_block else np.arange(10)
    return np.sqrt(degrees[nodes])[:, None] if of_layer.degree_norm == "symmetric" else 1.0


def by_reference(layer, graph, x, y):
    """The output (N_dst, H * D) for source and destination features, in NumPy."""
    src, dst = (ends.numpy() for ends in graph.edges(order="eid"))
    if layer.sep:
        src, dst = src[src != dst], dst[src != dst]
    num_dst, roots = len(y), roots_of(graph, layer)
    own_roots = roots[:num_dst] if isinstance(roots, np.ndarray) else roots
    x, y = x.numpy() / roots, y.numpy() / own_roots

    def heads(linear, rows):
        out = rows @ linear.weight.numpy().T
        return (out if linear.bias is None else out + linear.bias.numpy()).reshape(len(rows), 2, 3)

    alpha = getattr(layer.score_norm, "alpha", None)
    scope = getattr(layer.score_norm, "scope", None)
    if isinstance(layer, GATConv):
        v, t = heads(layer.fc, x), heads(layer.fc, y)
        vectors = layer.attn_l.numpy(), layer.attn_r.numpy()
        scores = reference.additive_scores(src, dst, v, t, *vectors, alpha, with_own=layer.sep)
    elif isinstance(layer, GATv2Conv):
        v, t = heads(layer.fc_src, x), heads(layer.fc_dst, y)
        scores = reference.gatv2_scores(src, dst, v, t, layer.attn.numpy(), alpha)
    else:
        maps = ("fc",) * 3 if isinstance(layer, DotGatConv) else ("fc_query", "fc_key", "fc_value")
        q, k, v = (heads(getattr(layer, m), h) for m, h in zip(maps, (y, x, x)))
        scores = reference.dot_scores(src, dst, q, k, v, scope)
    out = reference.aggregate(src, dst, num_dst, reference.softmax(dst, num_dst, scores), v)
    out, biases = out.reshape(num_dst, 6), [layer.bias, getattr(layer.res_fc, "bias", None)]
    if layer.res_fc is not None:
        weight = layer.res_fc.weight.numpy() if isinstance(layer.res_fc, nn.Linear) else np.eye(6)
        out = out + y @ weight.T
    return own_roots * out + sum(b.numpy() for b in biases if b is not None)


#: DotGatConv has no residual.
PAIRED = {"plain": {}, "residual": {"residual": True}, "linear": {"residual": "linear"}}
PAIRED["sep"] = {"sep": True}
CASES = [(layer, o) for layer in LAYERS for o in PAIRED if o == "plain" or layer != "DotGatConv"]


@pytest.mark.parametrize("given", ["single", "pair", "block"])
@pytest.mark.parametrize("degree_norm", ["none", "symmetric"])
@pytest.mark.parametrize("normed", [False, True])
@pytest.mark.parametrize(("name", "option"), CASES)
def test_source_and_destination_features_are_read_as_they_are(
    name, option, normed, degree_norm, given
):
    kind, norm = LAYERS[name]
    torch.manual_seed(0)
    options = {**PAIRED[option], "degree_norm": degree_norm, "score_norm": norm if normed else None}
    layer = kind(6, 3, 2, **options).double().requires_grad_(False)
    for name, parameter in layer.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter)
    graph = block() if given == "block" else homogeneous()
    if given == "block":
        keep_degrees([graph], homogeneous())
    x = torch.randn(graph.num_src_nodes(), 6, dtype=torch.float64)
    y = torch.randn(graph.num_dst_nodes(), 6, dtype=torch.float64)
    if given == "single":
        out = layer(graph, x)
        y = x
    else:
        out = layer(graph, (x, y))
        assert (layer(graph, (x, 2 * y + 1)) - out).abs().max() > 1e-4, "it reads the second"
    np.testing.assert_allclose(out.flatten(1), by_reference(layer, graph, x, y), atol=1e-12)


@EACH
def test_nodes_of_another_kind_have_no_degrees(kind, norm):
    layer = kind((5, 4), 3, 2, allow_zero_in_degree=True, degree_norm="symmetric")
    pair, known = (torch.rand(4, 5), torch.rand(3, 4)), as_structure(bipartite())
    told = Structure(known.src, known.dst, 4, 3, is_bipartite=True, parent_degrees=torch.ones(4))
    for graph in (bipartite(), told):
        with pytest.raises(DataError, match=r"source nodes of this graph.*have none"):
            layer(graph, pair)


# ---------------------------------------------------------------------- checks


@EACH
@pytest.mark.parametrize("shape", [(10, 4), (9, 5), (10,)])
def test_features_that_do_not_fit(kind, norm, shape):
    with pytest.raises(DataError, match=r"source features are .*need \(10, 5\)"):
        kind(5, 3, 2)(homogeneous(), torch.rand(shape))


@EACH
def test_destination_features_that_do_not_fit(kind, norm):
    layer = kind((5, 4), 3, 2, allow_zero_in_degree=True)
    with pytest.raises(DataError, match=r"destination features are .*need \(3, 4\)"):
        layer(bipartite(), (torch.rand(4, 5), torch.rand(4, 4)))


@EACH
def test_two_node_types_need_two_feature_tensors(kind, norm):
    """Users' features must not be taken for items', as those of a block are."""
    with pytest.raises(DataError, match="pass a pair"):
        kind(5, 3, 2, allow_zero_in_degree=True)(bipartite(), torch.rand(4, 5))


@EACH
def test_zero_in_degree(kind, norm):
    layer, feat = kind(5, 3, 2), torch.rand(6, 5)
    with pytest.raises(dgl.DGLError, match="0-in-degree"):
        layer(isolated(), feat)
    layer.set_allow_zero_in_degree(True)
    assert (layer(isolated(), feat)[3:] == 0).all()


def test_an_unknown_backend_is_refused_at_once():
    with pytest.raises(ConfigError, match="did you mean 'torch'"):
        GATConv(5, 3, 2, backend="pytorch")


@EACH
def test_the_graph_is_not_touched(kind, norm):
    graph = homogeneous()
    kind(5, 3, 2)(graph, torch.rand(10, 5))
    assert not graph.ndata
    assert not graph.edata


# ----------------------------------------------------------------- score hooks


@EACH
def test_hooks_run_in_order_after_the_norm_and_before_the_softmax(kind, norm):
    graph, layer, feat = homogeneous(), kind(5, 3, 2, score_norm=norm), torch.rand(10, 5)
    plain = layer(graph, feat, get_attention=True)[1]
    calls = []

    def look(layer, structure, scores):
        calls.append(("look", layer, structure, scores))

    def only_self_loops(layer, structure, scores):
        calls.append(("change", layer, structure, scores))
        is_loop = (structure.src == structure.dst).unsqueeze(1)
        return torch.where(is_loop, scores, -math.inf)

    first = layer.register_score_hook(look)
    second = layer.register_score_hook(only_self_loops)
    third = layer.register_score_hook(look)
    attention = layer(graph, feat, get_attention=True)[1].squeeze(-1)
    assert [call[0] for call in calls] == ["look", "change", "look"]
    assert all(call[1] is layer for call in calls)
    structure, scores = calls[0][2:]
    assert torch.equal(structure.src, graph.edges()[0])
    assert scores.shape == (graph.num_edges(), 2)
    if norm == "lipschitz":
        assert scores.abs().max() <= 0.25, "the norm was applied before the hook"
    assert (calls[2][3] == -math.inf).any(), "the third hook sees what the second returned"
    is_loop = (graph.edges()[0] == graph.edges()[1]).float()
    assert_close(attention, is_loop.unsqueeze(1).expand(-1, 2))

    for handle in (first, second, third):
        handle.remove()
    assert torch.equal(layer(graph, feat, get_attention=True)[1], plain)
    assert len(calls) == 3
    first.remove()  # twice is once, as in PyTorch


def test_a_hook_must_keep_the_shape():
    layer = GATConv(5, 3, 2)
    layer.register_score_hook(lambda layer, structure, e: e[:, :1])
    with pytest.raises(ConfigError, match=r"a score hook returned shape \(\d+, 1\)"):
        layer(homogeneous(), torch.rand(10, 5))


def double(layer, structure, scores):
    return 2 * scores


@EACH
@pytest.mark.parametrize("copier", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_take_the_hooks_along(kind, norm, copier):
    graph, layer, feat = homogeneous(), kind(5, 3, 2, score_norm=norm), torch.rand(10, 5)
    plain = layer(graph, feat)
    handle = layer.register_score_hook(double)
    hooked = layer(graph, feat)
    assert not torch.equal(plain, hooked)
    other = copier(layer)
    assert torch.equal(other(graph, feat), hooked)
    handle.remove()
    assert torch.equal(layer(graph, feat), plain)
    assert torch.equal(other(graph, feat), hooked), "the copy has hooks of its own"


# ---------------------------------------------------------------- identity map


def test_identity_mapped_linear_by_hand():
    layer = IdentityMappedLinear(2, beta=0.25, bias=True)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[4.0, 8.0], [0.0, -4.0]]))
        layer.bias.copy_(torch.tensor([1.0, 2.0]))
    # 0.75 I + 0.25 W = [[1.75, 2], [0, -0.25]]
    assert layer.mapped_weight.tolist() == [[1.75, 2.0], [0.0, -0.25]]
    assert layer(torch.tensor([[1.0, 1.0]])).tolist() == [[4.75, 1.75]]
    assert "beta=0.25" in str(layer)


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_identity_mapped_linear_at_its_ends(beta):
    layer, x = IdentityMappedLinear(3, beta), torch.rand(4, 3)
    assert_close(layer(x), x if beta == 0 else nn.functional.linear(x, layer.weight))


@pytest.mark.parametrize("kind", [GATConv, GATv2Conv, TransformerConv])
def test_identity_map_of_a_layer_needs_one_width(kind):
    with pytest.raises(ConfigError, match="identity_map needs in_feats == num_heads"):
        kind(5, 3, 2, identity_map=0.5)
    layer = kind(6, 3, 2, identity_map=0.0, allow_zero_in_degree=True)
    graph = GRAPHS["one_node_with_loop"]()
    x = torch.rand(1, 6)
    # One node that hears only itself, through the identity.
    assert_close(layer(graph, x).flatten(), x.flatten())


def test_blocks_read_the_first_source_nodes_as_destinations():
    graph = block()
    x = torch.rand(graph.num_src_nodes(), 6)
    layer = GATConv(6, 3, 2, residual=True, score_norm=LipschitzNorm(), allow_zero_in_degree=True)
    num_dst = graph.num_dst_nodes()
    assert_close(layer(graph, x), layer(graph, (x, x[:num_dst])))
