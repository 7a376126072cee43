"""|e_ij| <= alpha, for any features and attention vectors that a float can hold squared."""

import math

import pytest
import torch
from graph_zoo import GRAPHS, is_pair
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lipzoo._dgl import dgl
from lipzoo.nn import GATConv, GATv2Conv, TransformerConv

HEADS, WIDTH = 2, 4
ALPHA = 0.25
SLACK = 1 + 1e-6  # a few roundings of float32

quick = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 2**32 - 1)
dtypes = st.sampled_from([torch.float32, torch.float64])
per_head = st.booleans()
# Ends of a range of scales: nodes of one graph differ by up to 45 orders of magnitude.
scales = st.tuples(st.floats(-30, 15), st.floats(-30, 15))
attention_scales = st.tuples(st.floats(-10, 3), st.floats(-10, 3))


def scaled(generator, rows, ends, dtype):
    """Rows of lengths between ``10**ends[0]`` and ``10**ends[1]``, (rows, HEADS * WIDTH)."""
    direction = torch.randn(rows, HEADS * WIDTH, generator=generator, dtype=torch.float64)
    direction /= direction.norm(dim=1, keepdim=True)
    share = torch.rand(rows, 1, generator=generator, dtype=torch.float64)
    return (direction * 10 ** (ends[0] + share * (ends[1] - ends[0]))).to(dtype)


def make_identity(*projections):
    with torch.no_grad():
        for projection in projections:
            projection.weight.copy_(torch.eye(HEADS * WIDTH))


def largest_score(layer, graph, feat):
    """Largest |e_ij| that a score hook sees."""
    seen = []
    handle = layer.register_score_hook(lambda layer, structure, e: seen.append(e))
    out = layer(graph, feat)
    handle.remove()
    assert seen[0].isfinite().all()
    assert out.isfinite().all()
    return seen[0].detach().abs().max().item() if seen[0].numel() else 0.0


@pytest.mark.parametrize("backend", ["dgl", "torch"])
@given(seed=seeds, dtype=dtypes, per_head=per_head, scale=scales, attn_scale=attention_scales)
@example(seed=0, dtype=torch.float32, per_head=True, scale=(-19, -18.5), attn_scale=(-10, -10))
@example(seed=1, dtype=torch.float32, per_head=True, scale=(15, 15), attn_scale=(3, 3))
@quick
def test_additive_scores_with_self_loops(backend, seed, dtype, per_head, scale, attn_scale):
    generator = torch.Generator().manual_seed(seed)
    graph = dgl.add_self_loop(dgl.graph(tuple(torch.randint(7, (2, 15), generator=generator))))
    norm = {"name": "lipschitz", "alpha": ALPHA, "per_head": per_head}
    layer = GATConv(
        HEADS * WIDTH, WIDTH, HEADS, score_norm=norm, allow_zero_in_degree=True, backend=backend
    ).to(dtype)
    make_identity(layer.fc)
    feat = scaled(generator, graph.num_nodes(), scale, dtype)
    with torch.no_grad():
        for vectors in (layer.attn_l, layer.attn_r):
            vectors.copy_(scaled(generator, 1, attn_scale, dtype).view_as(vectors))
    assert largest_score(layer, graph, feat) <= ALPHA * SLACK


@pytest.mark.parametrize("backend", ["dgl", "torch"])
@pytest.mark.parametrize("graph_name", GRAPHS)
@given(seed=seeds, dtype=dtypes, per_head=per_head, scale=scales, attn_scale=attention_scales)
@settings(max_examples=8, deadline=None)
def test_gatv2_scores_on_every_graph(graph_name, backend, seed, dtype, per_head, scale, attn_scale):
    """The norm for GATv2 reads the destination too, and needs no self-loops."""
    graph = GRAPHS[graph_name]()
    generator = torch.Generator().manual_seed(seed)
    norm = {"name": "lipschitz", "alpha": ALPHA, "per_head": per_head}
    layer = GATv2Conv(
        *(HEADS * WIDTH, WIDTH, HEADS),
        bias=False,
        score_norm=norm,
        allow_zero_in_degree=True,
        backend=backend,
    ).to(dtype)
    make_identity(layer.fc_src, layer.fc_dst)
    feat = scaled(generator, graph.num_src_nodes(), scale, dtype)
    if is_pair(graph):
        feat = feat, scaled(generator, graph.num_dst_nodes(), scale, dtype)
    with torch.no_grad():
        layer.attn.copy_(scaled(generator, 1, attn_scale, dtype).view_as(layer.attn))
    assert largest_score(layer, graph, feat) <= ALPHA * SLACK


@pytest.mark.parametrize("backend", ["dgl", "torch"])
@given(seed=seeds, dtype=dtypes, query=scales, key=scales, value=scales)
@quick
def test_dot_product_scores_on_every_graph(backend, seed, dtype, query, key, value):
    """|q·k| <= u v, so the score is at most u v / max(u v, …) / sqrt(D) <= 1 / sqrt(D)."""
    generator = torch.Generator().manual_seed(seed)
    graph = dgl.graph(tuple(torch.randint(7, (2, 15), generator=generator)), num_nodes=8)
    width = HEADS * WIDTH
    # One input holds query, key and value side by side, so that each has its own scale.
    layer = TransformerConv(
        *(3 * width, WIDTH, HEADS),
        score_norm="dot_lipschitz",
        allow_zero_in_degree=True,
        backend=backend,
    ).to(dtype)
    projections = (layer.fc_query, layer.fc_key, layer.fc_value)
    with torch.no_grad():
        for position, projection in enumerate(projections):
            projection.weight.zero_()
            projection.weight[:, position * width : (position + 1) * width] = torch.eye(width)
    feat = torch.cat([scaled(generator, 8, s, dtype) for s in (query, key, value)], dim=1)
    assert largest_score(layer, graph, feat) <= SLACK / math.sqrt(WIDTH)


@pytest.mark.parametrize("per_head", [True, False])
def test_the_additive_bound_is_attained(per_head):
    """One node that sees itself, with its own features for attention vectors."""
    graph = GRAPHS["one_node_with_loop"]()
    norm = {"name": "lipschitz", "alpha": ALPHA, "per_head": per_head}
    layer = GATConv(HEADS * WIDTH, WIDTH, HEADS, score_norm=norm)
    make_identity(layer.fc)
    feat = torch.tensor([[3.0, -1.0, 0.5, 2.0] * HEADS])
    with torch.no_grad():
        layer.attn_l.copy_(feat.view(1, HEADS, WIDTH))
        layer.attn_r.copy_(feat.view(1, HEADS, WIDTH))
    # Over all heads, the norm of the vectors is sqrt(HEADS) times that of one.
    wanted = ALPHA if per_head else ALPHA / math.sqrt(HEADS)
    assert largest_score(layer, graph, feat) == pytest.approx(wanted, rel=1e-6)


def test_without_self_loops_the_additive_bound_can_fail():
    """Why models add self-loops: ||v_i|| is not under the root of an edge that leaves out i."""
    graph = dgl.graph(([0], [1]))
    layer = GATConv(1, 1, 1, score_norm="lipschitz", allow_zero_in_degree=True)
    with torch.no_grad():
        for parameter in (layer.fc.weight, layer.attn_l, layer.attn_r):
            parameter.fill_(1)
    assert largest_score(layer, graph, torch.tensor([[1.0], [100.0]])) > 10 * ALPHA


def test_the_dot_product_bound_is_attained():
    graph = GRAPHS["one_node_with_loop"]()
    layer = TransformerConv(WIDTH, WIDTH, 1, score_norm="dot_lipschitz")
    with torch.no_grad():
        layer.fc_query.weight.copy_(torch.eye(WIDTH))
        layer.fc_key.weight.copy_(torch.eye(WIDTH))
        layer.fc_value.weight.copy_(torch.eye(WIDTH) / 2)
    feat = torch.tensor([[1.0, -2.0, 0.5, 1.0]])
    assert largest_score(layer, graph, feat) == pytest.approx(1 / math.sqrt(WIDTH), rel=1e-6)
