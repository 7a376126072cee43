"""The inequalities of docs/lipschitz.md at one node, climbed by gradient ascent.

A whole layer is far from its bound in most directions, so a wrong constant in one term would
hide behind the others. Here each term stands alone: nothing found exceeds it, and something
comes close, so that none could be made much smaller.
"""

import math

import pytest
import torch
from climbing import climb, covariance

NEIGHBOURS, WIDTH = 4, 3


def additive(v, attention):
    """Parts of a GAT score's derivative at a node that is its own neighbour 0, alpha = 1."""
    left, right = (attention / attention.norm()).chunk(2)
    longest = v.norm(dim=1).max()
    root = (longest.square() + v.square().sum(1)).sqrt()
    tau = (v @ left + v[0] @ right) / root
    source = left - (tau / root).unsqueeze(1) * v
    return right.norm(), root, source, -tau * longest / root


def test_the_parts_are_those_of_the_score():
    """g_l, g_r and g_m against automatic differentiation of the score itself."""
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(NEIGHBOURS, WIDTH, generator=generator, dtype=torch.float64)
    attention = torch.randn(2 * WIDTH, generator=generator, dtype=torch.float64)
    left, right = (attention / attention.norm()).chunk(2)
    _, root, source, selection = additive(v, attention)
    m = v.norm(dim=1).max()
    for j in range(NEIGHBOURS):

        def score(v_j, v_i, m):
            return (left @ v_j + right @ v_i) / (m.square() + v_j.square().sum()).sqrt()

        slopes = torch.func.grad(score, argnums=(0, 1, 2))(v[j], v[0], m)
        torch.testing.assert_close(root[j] * slopes[0], source[j])
        torch.testing.assert_close(root[j] * slopes[1], right)
        torch.testing.assert_close(root[j] * slopes[2], selection[j])


def test_the_slope_in_the_source():
    def ratio(v, attention):
        rho, _, source, _ = additive(v, attention)
        return source.norm(dim=1).max() / (1 - rho.square() / 2).sqrt()

    assert 0.9 < climb(ratio, [(NEIGHBOURS, WIDTH), (2 * WIDTH,)]) <= 1 + 1e-9


SHAPES = [(NEIGHBOURS,), (NEIGHBOURS, WIDTH), (2 * WIDTH,), (NEIGHBOURS, WIDTH)]


@pytest.mark.slow
def test_the_source_term():
    def moved(logits, v, attention, change):
        p = logits.softmax(0)
        rho, root, source, _ = additive(v, attention)
        part = covariance(p, v, (source * change).sum(1) / root).norm()
        return p, part / (1 - rho.square() / 2).sqrt(), change.norm(dim=1)

    def mean_square(*tensors):
        p, part, size = moved(*tensors)
        return part / (p @ size.square()).sqrt()

    def by_edge(*tensors):
        p, part, size = moved(*tensors)
        return part / (math.sqrt(2) * (p * (1 - p)) @ size)

    assert 0.6 < climb(mean_square, SHAPES) <= 1 + 1e-9
    assert 0.6 < climb(by_edge, SHAPES) <= 1 + 1e-9


@pytest.mark.slow
def test_the_target_term():
    def ratio(logits, v, attention, change):
        rho, root, _, _ = additive(v, attention)
        right = (attention / attention.norm()).chunk(2)[1]
        part = covariance(logits.softmax(0), v, right @ change[0] / root)
        return part.norm() / (rho * change[0].norm() / math.sqrt(2))

    assert climb(ratio, SHAPES) <= 1 + 1e-9

    # A covariance with 1/R_j alone needs lengths that differ; the sign of a LeakyReLU's slope, or
    # one that differs from edge to edge, does not.
    def with_slopes(logits, v, attention, change):
        rho, root, _, _ = additive(v, attention)
        right = (attention / attention.norm()).chunk(2)[1]
        slopes = torch.tensor([1.0, -1.0, 1.0, -1.0]).double()
        part = covariance(logits.softmax(0), v, slopes * (right @ change[0]) / root)
        return part.norm() / (rho * change[0].norm() / math.sqrt(2))

    assert 0.95 < climb(with_slopes, SHAPES) <= 1 + 1e-9


@pytest.mark.slow
def test_the_selection_term():
    def ratio(logits, v, attention, slopes):
        _, root, _, selection = additive(v, attention)
        part = covariance(logits.softmax(0), v, slopes[:, 0].tanh() * selection / root)
        return part.norm() * math.sqrt(3)

    assert 0.65 < climb(ratio, SHAPES, starts=10) <= 1 + 1e-9


@pytest.mark.slow
def test_two_ways_to_bound_a_covariance():
    def cauchy_schwarz(logits, v, x):
        p = logits.softmax(0)
        whole = (p @ v.square().sum(1)).sqrt() * (p @ x[:, 0].square()).sqrt()
        return covariance(p, v, x[:, 0]).norm() / whole

    def edge_by_edge(logits, v, x):
        p, size = logits.softmax(0), v.norm(dim=1)
        whole = (p * (1 - p) * (size + size.max()) * x[:, 0].abs()).sum()
        return covariance(p, v, x[:, 0]).norm() / whole

    shapes = [(NEIGHBOURS,), (NEIGHBOURS, WIDTH), (NEIGHBOURS, 1)]
    assert 0.95 < climb(cauchy_schwarz, shapes) <= 1 + 1e-9
    assert 0.95 < climb(edge_by_edge, shapes) <= 1 + 1e-9


@pytest.mark.parametrize("largest", ["uv", "uw", "vw"])
def test_the_slope_of_a_dot_product_score(largest):
    """w sqrt(D) |de_ij| <= |dq_i| + |dk_j| + |dk_*| + |dv_*|, whichever product divides."""
    generator = torch.Generator().manual_seed(0)
    # Lengths in a ratio that makes this product the largest, but not by far.
    scale = {"uv": (1.0, 1.0, 0.9), "uw": (1.0, 0.9, 1.0), "vw": (0.9, 1.0, 1.0)}[largest]

    def score(q, k, v):
        u, longest = q.norm(), [x.norm(dim=1).max() for x in (k, v)]
        products = torch.stack([u * longest[0], u * longest[1], longest[0] * longest[1]])
        return k[0] @ q / products.max(), products

    best = 0.0
    for _ in range(400):
        q, k, v = (
            torch.randn(*shape, generator=generator, dtype=torch.float64)
            for shape in ((WIDTH,), (NEIGHBOURS, WIDTH), (NEIGHBOURS, WIDTH))
        )
        k[0] = q + 0.3 * k[0]
        q, k, v = (
            x * size / (x.norm() if x.dim() == 1 else x.norm(dim=1).max())
            for x, size in zip((q, k, v), scale)
        )
        _, products = score(q, k, v)
        assert ("uv", "uw", "vw")[products.argmax()] == largest
        slopes = torch.func.grad(lambda *args: score(*args)[0], argnums=(0, 1, 2))(q, k, v)
        star = k.norm(dim=1).argmax()
        w = v.norm(dim=1).max()
        # The derivative's parts: own key and selected key may be the same.
        parts = [slopes[0].norm(), slopes[1].norm(), slopes[2].norm()]
        allowed = [1.0, 2.0 if star == 0 else math.sqrt(2), 1.0]
        for part, limit in zip(parts, allowed):
            assert w * part <= limit * (1 + 1e-9)
        best = max(best, *(w.item() * part.item() for part in parts))
    assert best > 0.6
