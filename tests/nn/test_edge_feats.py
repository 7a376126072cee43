"""Layers with edge features: as DGL's and PyG's where the formula is theirs; what is refused."""

import numpy as np
import pytest
import torch
from graph_zoo import bipartite, block, directed, homogeneous, multigraph
from torch.testing import assert_close

from lipzoo._dgl import dgl
from lipzoo.attention import as_structure
from lipzoo.errors import ConfigError, DataError
from lipzoo.nn import DotGatConv, GATConv, GATv2Conv, TransformerConv

KINDS = {"gat": GATConv, "gatv2": GATv2Conv, "gt": TransformerConv}
NORMS = {"gat": "lipschitz", "gatv2": "lipschitz", "gt": "dot_lipschitz"}
EACH = pytest.mark.parametrize("kind", KINDS)
F, D, H, K = 5, 3, 2, 4


def make(kind, norm=None, **options):
    torch.manual_seed(0)
    options = {"backend": "torch", "edge_feats": K, "allow_zero_in_degree": True, **options}
    return KINDS[kind](F, D, H, score_norm=norm, **options).double()


def inputs(graph, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rows = (graph.num_src_nodes(), F), (graph.num_edges(), K)
    return [torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in rows]


# ---------------------------------------------------------------------------- the same as others


@pytest.mark.parametrize("backend", ["torch", "dgl", "auto", "fused"])
@pytest.mark.parametrize("graph", [homogeneous, multigraph, block], ids=lambda g: g.__name__)
def test_equals_dgl(graph, backend):
    """EdgeGATConv hands the edges over too, and brings no self-loop."""
    ours = make("gat", edge_values=True, backend=backend)
    theirs = dgl.nn.EdgeGATConv(F, K, D, H, residual=False, allow_zero_in_degree=True).double()
    assert theirs.state_dict().keys() == ours.state_dict().keys()
    theirs.load_state_dict(ours.state_dict())
    feat, edge = inputs(graph())
    out, weights = ours(graph(), feat, edge_feat=edge, get_attention=True)
    wanted = theirs(graph(), feat, edge, get_attention=True)
    assert_close((out, weights), wanted, rtol=1e-10, atol=1e-10)


def copied(layer, **names):
    """PyG's layer with our parameters, by its names for them."""
    state, found = layer.state_dict(), {}
    for theirs, ours in names.items():
        found[theirs.replace("__", ".")] = state[ours]
    return found


@pytest.mark.parametrize("graph", [homogeneous, multigraph], ids=lambda g: g.__name__)
@EACH
def test_equals_pyg(kind, graph):
    nn = pytest.importorskip("torch_geometric.nn")
    layer = make(kind, edge_values=kind == "gt")
    for name, parameter in layer.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    options = {"heads": H, "edge_dim": K}
    if kind == "gat":
        other = nn.GATConv(F, D, add_self_loops=False, **options)
        names = {"lin__weight": "fc.weight", "lin_edge__weight": "fc_edge.weight", "bias": "bias"}
        names |= {"att_src": "attn_l", "att_dst": "attn_r", "att_edge": "attn_edge"}
    elif kind == "gatv2":
        other = nn.GATv2Conv(F, D, add_self_loops=False, **options)
        names = {"lin_l__weight": "fc_src.weight", "lin_r__weight": "fc_dst.weight"}
        names |= {"lin_l__bias": "fc_src.bias", "lin_r__bias": "fc_dst.bias", "att": "attn"}
        names |= {"lin_edge__weight": "fc_edge.weight"}
    else:
        other = nn.TransformerConv(F, D, root_weight=False, **options)
        names = {f"lin_{name}__weight": f"fc_{name}.weight" for name in ("query", "key", "value")}
        names |= {"lin_edge__weight": "fc_edge.weight"}
    missing, unexpected = other.double().load_state_dict(copied(layer, **names), strict=False)
    assert not unexpected
    for name in missing:  # PyG has biases that we lack
        assert "bias" in name or "lin_skip" in name
        torch.nn.init.zeros_(other.get_parameter(name))
    g = graph()
    feat, edge = inputs(g)
    out = layer(g, feat, edge_feat=edge).flatten(1)
    if kind == "gt":
        out = out - layer.bias
    wanted = other(feat, torch.stack(g.edges(order="eid")), edge)
    assert_close(out, wanted, rtol=1e-5, atol=1e-5)


@EACH
def test_without_edge_features_nothing_changes(kind):
    plain = KINDS[kind](F, D, H)
    assert not [key for key in plain.state_dict() if "edge" in key]
    assert plain.edge_feats == 0
    assert not list(plain.edge_parameters())
    more = set(make(kind).state_dict()) - set(plain.state_dict())
    assert more == {"fc_edge.weight"} | ({"attn_edge"} if kind == "gat" else set())


# --------------------------------------------------------------------------------- what they do


@EACH
@pytest.mark.parametrize("is_normed", [False, True], ids=["plain", "norm"])
def test_edges_may_come_in_any_order(kind, is_normed):
    layer = make(kind, NORMS[kind] if is_normed else None, edge_values=True)
    graph = multigraph()
    feat, edge = inputs(graph)
    order = torch.randperm(graph.num_edges(), generator=torch.Generator().manual_seed(3))
    src, dst = graph.edges(order="eid")
    other = dgl.graph((src[order], dst[order]), num_nodes=graph.num_nodes())
    out = layer(graph, feat, edge_feat=edge)
    assert_close(layer(other, feat, edge_feat=edge[order]), out)
    assert (layer(graph, feat, edge_feat=edge[order]) - out).abs().max() > 1e-3, "it matters"


@EACH
def test_sep_leaves_out_the_loops_with_their_features(kind):
    layer = make(kind, NORMS[kind], sep=True, edge_values=True)
    graph = homogeneous()
    feat, edge = inputs(graph)
    src, dst = graph.edges(order="eid")
    others = src != dst
    without = dgl.graph((src[others], dst[others]), num_nodes=10)
    assert_close(layer(graph, feat, edge_feat=edge), layer(without, feat, edge_feat=edge[others]))


@EACH
@pytest.mark.parametrize("edge_values", [False, True])
def test_a_loop_of_the_graph_keeps_its_features(kind, edge_values):
    layer, graph = make(kind, edge_values=edge_values), homogeneous()
    feat, edge = inputs(graph)
    src, dst = graph.edges(order="eid")
    changed = torch.where((src == dst).unsqueeze(1), edge + 1, edge)
    moved = layer(graph, feat, edge_feat=changed) - layer(graph, feat, edge_feat=edge)
    assert moved.abs().max() > 1e-3


@pytest.mark.parametrize("kind", ["gat", "gt"])
@pytest.mark.parametrize("is_normed", [False, True], ids=["plain", "norm"])
def test_features_of_more_dimensions_share_the_edges(kind, is_normed):
    norm = NORMS[kind] if is_normed else None
    layer, graph = make(kind, norm, edge_values=True), homogeneous()
    (feat, edge), (other, _) = inputs(graph), inputs(graph, seed=1)
    for backend in ("torch", "dgl"):
        layer.backend = backend
        both = layer(graph, torch.stack([feat, other], 1), edge_feat=edge)
        for place, x in enumerate((feat, other)):
            assert_close(both[:, place], layer(graph, x, edge_feat=edge))


@EACH
def test_a_pair_of_features_over_a_bipartite_graph(kind):
    graph = bipartite()
    layer = KINDS[kind]((F, 6), D, H, edge_feats=K, allow_zero_in_degree=True).double()
    feat, edge = inputs(graph)
    own = torch.randn(3, 6, dtype=torch.float64)
    assert layer(graph, (feat, own), edge_feat=edge).shape == (3, H, D)


def test_edge_weights_beside_edge_features():
    layer, graph = make("gat", "lipschitz"), homogeneous()
    feat, edge = inputs(graph)
    weight = torch.rand(graph.num_edges(), dtype=torch.float64)
    ones = torch.ones_like(weight)
    plain = layer(graph, feat, edge_feat=edge)
    assert_close(layer(graph, feat, ones, edge_feat=edge), plain)
    assert (layer(graph, feat, weight, edge_feat=edge) - plain).abs().max() > 1e-3


@EACH
def test_zero_rows_are_no_nan(kind):
    layer, graph = make(kind, NORMS[kind], edge_values=True), homogeneous()
    feat = torch.zeros(10, F, dtype=torch.float64).requires_grad_()
    edge = torch.zeros(graph.num_edges(), K, dtype=torch.float64).requires_grad_()
    out = layer(graph, feat, edge_feat=edge)
    slopes = torch.autograd.grad(out.square().sum(), [feat, edge, *layer.parameters()])
    assert all(tensor.isfinite().all() for tensor in (out, *slopes))


@EACH
def test_a_graph_without_edges(kind):
    layer = make(kind, NORMS[kind], edge_values=True)
    for graph in (dgl.graph(([], []), num_nodes=3), dgl.graph(([], []), num_nodes=0)):
        feat, edge = inputs(graph)
        assert layer(graph, feat, edge_feat=edge).shape == (graph.num_nodes(), H, D)


@EACH
def test_another_width_is_read_by_fresh_weights(kind):
    layer, graph = make(kind, NORMS[kind]), homogeneous()
    kept = {k: v.clone() for k, v in layer.state_dict().items() if "edge" not in k}
    feat, _ = inputs(graph)
    layer.reset_edges(7)
    edge = torch.randn(graph.num_edges(), 7, dtype=torch.float64)
    assert layer(graph, feat, edge_feat=edge).isfinite().all()
    assert layer.fc_edge.weight.abs().min() > 0
    layer.reset_edges(0)
    assert layer(graph, feat).isfinite().all()
    assert layer.state_dict().keys() == kept.keys()
    assert all(torch.equal(layer.state_dict()[k], v) for k, v in kept.items())
    layer.reset_edges(2)
    assert layer.fc_edge.weight.dtype == torch.float64


def test_the_start_is_that_of_the_other_maps():
    layer = GATConv(64, 32, 4, edge_feats=64)
    assert layer.fc_edge.weight.std().item() == pytest.approx(layer.fc.weight.std().item(), rel=0.1)
    layer.reset_parameters("glorot_uniform", 0.5)
    limit = 0.5 * np.sqrt(6 / (64 + 128))
    assert 0.9 * limit < layer.fc_edge.weight.abs().max() <= limit


# ------------------------------------------------------------------------------- what is refused


@EACH
def test_what_does_not_fit_is_said(kind):
    layer, graph = make(kind), directed()
    feat, edge = inputs(graph)
    with pytest.raises(DataError, match=r"was built for edge features .*pass edge_feat, \(6, 4\)"):
        layer(graph, feat)
    for wrong in (edge[:-1], edge[:, :2], edge.unsqueeze(1), edge[:, 0]):
        with pytest.raises(DataError, match=r"edge features are .* need \(6, 4\)"):
            layer(graph, feat, edge_feat=wrong)
    for wrong in (edge.numpy(), edge.long(), [[1.0]]):
        with pytest.raises(DataError, match="edge_feat must be a tensor of floats"):
            layer(graph, feat, edge_feat=wrong)
    plain = KINDS[kind](F, D, H, allow_zero_in_degree=True).double()
    with pytest.raises(DataError, match=r"built without edge features, .* is given"):
        plain(graph, feat, edge_feat=edge)
    with pytest.raises(DataError, match=r"need \(9, 4\)"):
        layer(as_structure(graph, add_self_loops=True), feat, edge_feat=edge)


@EACH
@pytest.mark.parametrize("wrong", [-1, 2.0, "4", True, None])
def test_a_width_is_a_number(kind, wrong):
    with pytest.raises(ConfigError, match="edge_feats must be the width"):
        KINDS[kind](F, D, H, edge_feats=wrong)


@EACH
def test_values_need_edges(kind):
    with pytest.raises(ConfigError, match="edge_values needs edge features"):
        KINDS[kind](F, D, H, edge_values=True)
    with pytest.raises(ConfigError, match="edge_values must be true or false"):
        KINDS[kind](F, D, H, edge_feats=2, edge_values=1)


def test_the_layer_with_one_projection_has_none():
    with pytest.raises(TypeError):
        DotGatConv(F, D, H, edge_feats=K)
