"""Scores, score norms and sums with edge features: every kind against plain loops in float64."""

import numpy as np
import pytest
import reference_edges
import torch
from graph_zoo import GRAPHS, homogeneous, multigraph
from hypothesis import given, settings
from hypothesis import strategies as st
from kinds import ALPHA, HEADS, KINDS, NORMED, WIDTH
from torch.testing import assert_close

from lipzoo.attention import (
    AdditiveScores,
    DotProductScores,
    GATv2Scores,
    as_structure,
    graph_attention,
)

ALL_KINDS = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
VALUES = pytest.mark.parametrize("edge_values", [False, True], ids=["scores", "values"])
BACKENDS = pytest.mark.parametrize("backend", ["dgl", "torch"])


def leaves_of(kind, graph, name="", dtype=torch.float64, seed=1):
    """Those of the kind, and edges of which every third is zero."""
    generator = torch.Generator().manual_seed(seed + 7)
    leaves = kind.leaves(graph, name, dtype, seed)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    w = random(graph.num_edges(), HEADS, WIDTH)
    w[::3] = 0
    if name == "zero_neighbourhood":
        w[:] = 0
    leaves["w"] = w.to(dtype).requires_grad_()
    if kind.scores == "additive":
        leaves["a_e"] = random(1, HEADS, WIDTH).to(dtype).requires_grad_()
    return leaves


def scores_of(kind, leaves, edge_values):
    v, w = leaves["v"], leaves["w"]
    if kind.scores == "additive":
        return AdditiveScores(
            *(v, leaves.get("v_dst"), leaves["attn_l"], leaves["attn_r"]),
            with_own=kind.with_own,
            edge=w,
            attn_edge=leaves["a_e"],
            edge_values=edge_values,
        )
    if kind.scores == "gatv2":
        return GATv2Scores(v, leaves["t"], leaves["attn"], edge=w, edge_values=edge_values)
    return DotProductScores(leaves["q"], leaves["k"], v, w, edge_values)


def attend(kind, graph, leaves, edge_values, backend, need_weights=True):
    seen = []
    out, weights = graph_attention(
        as_structure(graph),
        scores_of(kind, leaves, edge_values),
        score_norm=kind.build(leaves)[1],
        score_hook=(lambda e: seen.append(e) or e) if need_weights else None,
        backend=backend,
        need_weights=need_weights,
    )
    return (seen[0], weights, out) if need_weights else out


def expect(kind, graph, leaves, edge_values):
    src, dst = (ends.numpy().astype(int) for ends in graph.edges(order="eid"))
    num_dst = graph.num_dst_nodes()
    array = {key: leaf.detach().double().numpy() for key, leaf in leaves.items()}
    v, w = array["v"], array["w"]
    if kind.scores == "additive":
        vectors = array["attn_l"], array["attn_r"], array["a_e"]
        e = reference_edges.additive(
            *(src, dst, v, array.get("v_dst", v[:num_dst]), w, *vectors),
            **kind.norm,
            with_own=kind.with_own,
        )
    elif kind.scores == "gatv2":
        e = reference_edges.gatv2(src, dst, v, array["t"], w, array["attn"], **kind.norm)
    else:
        e = reference_edges.dot(
            *(src, dst, array["q"], array["k"], v, w), **kind.norm, edge_values=edge_values
        )
    return e, *reference_edges.attend(src, dst, num_dst, e, v, w, edge_values)


@pytest.mark.many
@VALUES
@BACKENDS
@ALL_KINDS
@pytest.mark.parametrize("graph_name", GRAPHS)
def test_equals_the_reference(graph_name, kind, backend, edge_values):
    graph = GRAPHS[graph_name]()
    leaves = leaves_of(kind, graph, graph_name)
    wanted = expect(kind, graph, leaves, edge_values)
    for got, want in zip(attend(kind, graph, leaves, edge_values, backend), wanted, strict=True):
        np.testing.assert_allclose(got.detach(), want, rtol=1e-12, atol=1e-12)
    out = attend(kind, graph, leaves, edge_values, backend, need_weights=False)
    np.testing.assert_allclose(out.detach(), wanted[-1], rtol=1e-12, atol=1e-12)


@VALUES
@ALL_KINDS
@pytest.mark.parametrize(
    "graph_name", ["multigraph", "zero_rows", "zero_neighbourhood", "no_edges"]
)
def test_backends_have_the_same_finite_gradients(graph_name, kind, edge_values):
    graph, found = GRAPHS[graph_name](), []
    for backend in ("torch", "dgl"):
        leaves = leaves_of(kind, graph, graph_name)
        _, weights, out = attend(kind, graph, leaves, edge_values, backend)
        readout = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
        total = (out * readout).sum() + weights.square().sum()
        found.append(torch.autograd.grad(total, list(leaves.values()), materialize_grads=True))
    for one, two in zip(*found, strict=True):
        assert one.isfinite().all()
        assert_close(one, two, rtol=1e-10, atol=1e-11)


@VALUES
@ALL_KINDS
@pytest.mark.parametrize("backend", ["auto", "fused"])
def test_other_backends_take_one_that_can(kind, backend, edge_values, monkeypatch):
    """Also where the graph is large enough for "auto" to take the kernels."""
    monkeypatch.setattr("lipzoo.attention.functional._FUSED_PAYS", 0)
    leaves = leaves_of(kind, homogeneous())
    wanted = expect(kind, homogeneous(), leaves, edge_values)[-1]
    out = attend(kind, homogeneous(), leaves, edge_values, backend, need_weights=False)
    np.testing.assert_allclose(out.detach(), wanted, rtol=1e-12, atol=1e-12)


@VALUES
@ALL_KINDS
def test_derivatives_of_both_orders(kind, edge_values):
    """``torch`` against finite differences."""
    graph, leaves = multigraph(), leaves_of(kind, multigraph())
    names = list(leaves)

    def out(*tensors):
        return attend(kind, graph, dict(zip(names, tensors)), edge_values, "torch")[2]

    assert torch.autograd.gradcheck(out, tuple(leaves.values()))
    assert torch.autograd.gradgradcheck(out, tuple(leaves.values()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@ALL_KINDS
def test_all_zero_is_no_nan(kind, dtype):
    graph = homogeneous()
    leaves = leaves_of(kind, graph, "", dtype)
    zero = {key: torch.zeros_like(leaf).requires_grad_() for key, leaf in leaves.items()}
    for left_out in ("", "w", "v"):  # nothing, edges only, nodes only
        tensors = zero | ({left_out: leaves[left_out]} if left_out else {})
        out = attend(kind, graph, tensors, True, "auto")[2]
        slopes = torch.autograd.grad(
            out.square().sum(), list(tensors.values()), materialize_grads=True
        )
        assert all(tensor.isfinite().all() for tensor in (out, *slopes))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    name=st.sampled_from([name for name in NORMED if not name.startswith("dot")]),
    sizes=st.tuples(*[st.sampled_from([1e-8, 1e-2, 1.0, 1e3])] * 3),
    points=st.booleans(),
)
def test_scores_stay_within_alpha(seed, name, sizes, points):
    """Also where all vectors point along the attention vectors, where it is reached."""
    kind, graph = KINDS[name], homogeneous()
    leaves = leaves_of(kind, graph, seed=seed)
    leaves["v"] = leaves["v"] * sizes[0]
    leaves["w"] = leaves["w"] * sizes[1]
    if points and kind.scores == "additive":
        leaves["w"] = leaves["a_e"].expand_as(leaves["w"]) * sizes[2]
    e = attend(kind, graph, leaves, False, "torch")[0]
    assert e.abs().max() <= ALPHA * (1 + 1e-12)
    if kind.norm.get("per_head", True):
        # What the bound would be without the edges is exceeded: they belong under the root.
        assert e.abs().max() > 0


def test_alpha_is_reached_through_the_edges():
    """a_e and w alone: the score is alpha times their cosine over sqrt 2 of the root's parts."""
    kind, graph = KINDS["gat_lip"], homogeneous()
    leaves = leaves_of(kind, graph)
    leaves = {key: torch.zeros_like(leaf) for key, leaf in leaves.items()}
    leaves["a_e"] += 1.0
    leaves["w"] = torch.ones_like(leaves["w"]) * 1e-3
    assert_close(
        attend(kind, graph, leaves, False, "torch")[0],
        torch.full((graph.num_edges(), HEADS), ALPHA, dtype=torch.float64),
    )


@ALL_KINDS
def test_float32_is_near(kind):
    graph = GRAPHS["star"]()
    leaves = leaves_of(kind, graph, dtype=torch.float32)
    wanted = expect(kind, graph, leaves, True)
    for got, want in zip(attend(kind, graph, leaves, True, "auto"), wanted, strict=True):
        np.testing.assert_allclose(got.detach(), want, rtol=1e-5, atol=1e-5)
