"""Fused kernels on features of any size: as good as the torch backend, in either dtype."""

import math

import pytest
import torch
from graph_zoo import GRAPHS
from kinds import HEADS, KINDS, WIDTH

from adversary.kernels import Case, errors
from lipzoo.attention import (
    AdditiveScores,
    DotProductScores,
    GATv2Scores,
    Structure,
    as_structure,
    graph_attention,
)

#: A score's size is that of features, of features and attention vectors, or of features squared.
POWERS = [-30, -25, -19, -18, -10, -5, 0, 1, 2, 3, 4, 5, 8, 10, 15, 18, 19, 20, 25, 30]
ALL_KINDS = pytest.mark.parametrize("name", KINDS)


def compute(kind, structure, leaves, backend, dtype, **options):
    leaves = {key: leaf.detach().to(dtype).requires_grad_() for key, leaf in leaves.items()}
    torch.manual_seed(0)
    scores, norm = kind.build(leaves)
    out, _ = graph_attention(structure, scores, score_norm=norm, backend=backend, **options)
    readout = torch.linspace(-1, 1, out.numel(), dtype=dtype).view_as(out)
    gradients = torch.autograd.grad(out, list(leaves.values()), readout, materialize_grads=True)
    return {"out": out.detach(), **dict(zip(leaves, gradients))}


def check(kind, structure, leaves, dtype=torch.float32):
    """By the adversary's rule."""
    readout = torch.linspace(-1, 1, structure.num_dst * HEADS * WIDTH, dtype=torch.float64)
    readout = readout.view(-1, HEADS, WIDTH)
    leaves = {key: leaf.detach().to(dtype) for key, leaf in leaves.items()}
    norm = kind.norm or None
    case = Case(kind.scores, structure, leaves, readout, norm, 0.2, 0.0, dtype, 0)
    verdicts = errors(case)
    assert [verdict for verdict in verdicts if verdict.is_fault] == []
    return verdicts


def scaled(kind, graph, feat=1.0, attn=1.0, dtype=torch.float32):
    """Leaves whose features, and whose attention vectors, are this much larger."""
    leaves = kind.leaves(graph, dtype=dtype)
    with torch.no_grad():
        for key, leaf in leaves.items():
            leaf *= attn if "attn" in key else feat
    return leaves


@pytest.mark.many
@pytest.mark.parametrize("graph_name", ["homogeneous", "directed", "multigraph", "block"])
@ALL_KINDS
def test_features_of_any_size(name, graph_name):
    graph = GRAPHS[graph_name]()
    for power in POWERS:
        for dtype in (torch.float32, torch.float64):
            leaves = scaled(KINDS[name], graph, feat=10.0**power, dtype=dtype)
            check(KINDS[name], as_structure(graph), leaves, dtype)


@pytest.mark.parametrize("name", [name for name in KINDS if not name.startswith("dot")])
def test_attention_vectors_of_any_size(name):
    graph = GRAPHS["homogeneous"]()
    for power in POWERS:
        leaves = scaled(KINDS[name], graph, attn=10.0**power)
        check(KINDS[name], as_structure(graph), leaves)


@pytest.mark.parametrize("graph_name", ["directed", "multigraph"])
@pytest.mark.parametrize("size", [1e-30, 1e-20, 1e10, 1e20, 1e30])
@ALL_KINDS
def test_one_row_of_another_size(name, size, graph_name):
    """Without self-loops the score norm does not bound such a row's scores."""
    graph = GRAPHS[graph_name]()
    leaves = KINDS[name].leaves(graph, dtype=torch.float32)
    for key in leaves:
        if "attn" not in key:
            leaves[key].data[-1] *= size
    check(KINDS[name], as_structure(graph), leaves)


@pytest.mark.parametrize("key_size", [1e-27, 1e-14, 1.0, 1e20])
@pytest.mark.parametrize("value_size", [1e-27, 1e-18, 1.0, 1e15])
@pytest.mark.parametrize("name", [name for name in KINDS if name.startswith("dot_")])
def test_keys_and_values_of_different_sizes_under_the_norm(name, key_size, value_size):
    """Neither a gradient, nor what it is multiplied from, underflows."""
    graph, kind = GRAPHS["directed"](), KINDS[name]
    leaves = scaled(kind, graph)
    with torch.no_grad():
        leaves["k"] *= key_size
        leaves["v"] *= value_size
    check(kind, as_structure(graph), leaves)


@pytest.mark.parametrize("size", [1e-30, 1e-22, 1e19, 1e25, 1e30])
@pytest.mark.parametrize(
    "name", ["gat_lip", "gat_lip_all_heads", "gatv2_lip", "gatv2_lip_all_heads"]
)
def test_the_norm_does_not_see_the_size_of_features(name, size):
    """It is invariant to it; squares in float32 would be infinite or zero."""
    graph, kind = GRAPHS["directed"](), KINDS[name]
    leaves = scaled(kind, graph, size)
    ours, right = (
        compute(kind, as_structure(graph), leaves, backend, dtype)
        for backend, dtype in (("fused", torch.float32), ("torch", torch.float64))
    )
    for key in right:
        error = (ours[key].double() - right[key]).abs().max() / right[key].abs().max()
        assert error < 1e-5, key


@pytest.mark.parametrize("rate", [0.0, 0.5])
@pytest.mark.parametrize("name", ["gat", "gatv2", "dot"])
def test_a_saturated_softmax_passes_no_gradient_to_its_scores(name, rate):
    """One weight is 1, the others 0: exactly, and so is the gradient, dropout or not."""
    graph, kind = GRAPHS["homogeneous"](), KINDS[name]
    leaves = scaled(kind, graph, 1e12)
    found = compute(kind, as_structure(graph), leaves, "fused", torch.float32, attn_drop=rate)
    for key in found.keys() - {"out", "v"}:
        assert (found[key] == 0).all(), key


@pytest.mark.parametrize("gap", [86.0, 90.0, 95.0, 100.0])
@pytest.mark.parametrize("name", ["additive", "gatv2", "dot"])
def test_weights_as_small_as_float32_has_them(name, gap):
    """An edge whose score is so much less than the largest has a weight that is hardly a number."""
    structure = Structure(torch.tensor([0, 1]), torch.tensor([0, 0]), 2, 1)
    v = torch.tensor([[[gap, 0.0]], [[0.0, 1e20]]])  # its score, and what it brings
    zero, pick = torch.zeros(1, 1, 2), torch.tensor([[[1.0, 0.0]]])
    scores = {
        "additive": AdditiveScores(v, zero, pick, zero),
        "gatv2": GATv2Scores(v, zero, pick),
        "dot": DotProductScores(2**0.5 * pick, v, v),
    }[name]
    out, _ = graph_attention(structure, scores, backend="fused")
    weight = math.exp(-gap)
    assert out[0, 0, 1].item() == pytest.approx(weight * 1e20, rel=1e-5 + 2**-149 / weight)
