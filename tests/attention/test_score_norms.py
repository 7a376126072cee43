"""What a score norm is, apart from its values (test_functional) and bounds (test_bounds)."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from graph_zoo import homogeneous
from kinds import KINDS
from torch.testing import assert_close

from lipzoo.attention import (
    SCORE_NORMS,
    AdditiveScores,
    DotProductLipschitzNorm,
    DotProductScores,
    LipschitzNorm,
    Structure,
    as_structure,
    graph_attention,
    make_score_norm,
)
from lipzoo.attention.ops import make_ops
from lipzoo.errors import ConfigError


@pytest.mark.parametrize("per_head", [True, False])
@pytest.mark.parametrize("slope", [0.0, 0.2, 1.0])
def test_before_and_after_leaky_relu_is_the_same(slope, per_head):
    """The paper norms before LeakyReLU; lipzoo after, where a score hook can see it."""
    graph = homogeneous()
    leaves = KINDS["gat"].leaves(graph)
    tensors = (leaves["v"], leaves["v"], leaves["attn_l"], leaves["attn_r"])
    norm = LipschitzNorm(0.7, per_head)
    ops = make_ops(as_structure(graph), "torch", leaves["v"])
    raw, after = AdditiveScores(*tensors, 1.0), AdditiveScores(*tensors, slope)
    norm_first = F.leaky_relu(norm(raw.compute(ops), raw, ops), slope)
    assert_close(norm(after.compute(ops), after, ops), norm_first, rtol=0, atol=1e-14)


@pytest.mark.parametrize("factor", [1e-3, 7.0])
@pytest.mark.parametrize("kind", ["gat_lip", "gatv2_lip"])
def test_neither_features_nor_attention_vectors_can_scale_the_scores(kind, factor):
    graph, kind = homogeneous(), KINDS[kind]
    leaves = kind.leaves(graph)
    plain = kind.attend(graph, leaves, "torch")[0]
    for names in ({"v", "t"}, {"attn_l", "attn_r", "attn"}):
        scaled = {key: t * factor if key in names else t for key, t in leaves.items()}
        assert_close(kind.attend(graph, scaled, "torch")[0], plain)


@pytest.mark.parametrize(
    ("kind", "factor"),
    [
        *product(["gat_lip", "gat_lip_all_heads", "gatv2_lip"], [1e-3, 1.0, 100.0]),
        *product(["dot_lip"], [1.0, 100.0]),  # smaller products are no numbers of float16
    ],
)
def test_lengths_that_float16_has_no_squares_of(kind, factor):
    """Scores and gradients are those of float64, to the rounding of the inputs."""
    graph, kind = homogeneous(), KINDS[kind]
    vectors = {"attn_l", "attn_r", "attn"}
    given = {
        key: (leaf.detach() * (factor if key not in vectors else 1)).half()
        for key, leaf in kind.leaves(graph).items()
    }
    found = []
    for dtype in (torch.float16, torch.float64):
        leaves = {key: x.to(dtype).requires_grad_() for key, x in given.items()}
        scores = kind.attend(graph, leaves, "torch")[0]
        assert scores.dtype == dtype
        # Of few scores, and as small as they are large: they must be numbers of float16, too.
        gradients = torch.autograd.grad((factor * scores).sum(), [*leaves.values()])
        found.append([x.double() for x in (scores, *gradients)])
    for ours, right in zip(*found, strict=True):
        assert_close(ours, right, rtol=0, atol=0.01 * float(right.abs().max()))


def test_norms_hold_no_parameters_or_buffers():
    for kind in SCORE_NORMS.values():
        assert not kind().state_dict()


@pytest.mark.parametrize(
    ("norm", "kind"), [(LipschitzNorm(), "dot"), (DotProductLipschitzNorm(), "gat")]
)
def test_a_norm_refuses_scores_that_it_cannot_read(norm, kind):
    graph = homogeneous()
    scores, _ = KINDS[kind].build(KINDS[kind].leaves(graph))
    ops = make_ops(as_structure(graph), "torch", scores.value)
    with pytest.raises(
        ConfigError, match=f"{type(norm).__name__} is for .*{type(scores).__name__}"
    ):
        norm(scores.compute(ops), scores, ops)


@pytest.mark.parametrize("alpha", [0, -1, float("nan")])
def test_alpha_must_be_positive(alpha):
    with pytest.raises(ConfigError, match="alpha must be > 0"):
        LipschitzNorm(alpha)


def test_scope_is_checked():
    with pytest.raises(ConfigError, match="did you mean 'graph'"):
        DotProductLipschitzNorm(scope="grph")


def test_make_score_norm():
    assert make_score_norm(None) is None
    ours = LipschitzNorm()
    assert make_score_norm(ours) is ours
    made = make_score_norm({"name": "lipschitz", "alpha": 2, "per_head": False})
    assert str(made) == "LipschitzNorm(alpha=2, per_head=False)"
    assert str(make_score_norm("dot_lipschitz")) == "DotProductLipschitzNorm(scope='node')"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("lipshitz", "did you mean 'lipschitz'"),
        ({"name": "dot_lipshitz"}, "did you mean 'dot_lipschitz'"),
        ({"alpha": 1.0}, "no score norm None"),
        ({"name": "lipschitz", "alhpa": 1.0}, "alhpa"),
    ],
)
def test_make_score_norm_says_what_is_wrong(spec, words):
    with pytest.raises(ConfigError, match=words):
        make_score_norm(spec)


def test_make_score_norm_leaves_its_argument_alone():
    spec = {"name": "lipschitz"}
    make_score_norm(spec)
    assert spec == {"name": "lipschitz"}


@pytest.mark.parametrize("backend", ["torch", "dgl", "fused"])
@pytest.mark.parametrize("scope", ["node", "graph"])
def test_a_query_longer_than_any_number_whose_node_has_no_in_edge(backend, scope):
    """Infinity times a longest key of 0 is no number; no score reads it."""
    structure = Structure(torch.tensor([0, 1]), torch.tensor([0, 2]), 3, 3)
    query, key, value = (torch.ones(3, 2, 3) for _ in range(3))
    query[1] = 1e20
    leaves = [x.requires_grad_() for x in (query, key, value)]
    norm = DotProductLipschitzNorm(scope)
    scores = DotProductScores(*leaves)
    out, _ = graph_attention(structure, scores, score_norm=norm, backend=backend)
    for gradient in torch.autograd.grad(out.sum(), leaves):
        assert gradient.isfinite().all()
    assert out.isfinite().all()
