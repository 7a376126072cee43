"""Bounds in floating point are no less than those in 40 digits, and hardly more."""

import math
from fractions import Fraction

import mpmath
import pytest
import torch
from exact_bounds import exact_bound, matrix_of, norm
from hypothesis import given, settings
from hypothesis import strategies as st

from adversary.measure import Case
from adversary.wild import wild_case
from lipzoo.lipschitz import Constant, neighbourhood
from lipzoo.lipschitz.attention import head_alphas
from lipzoo.lipschitz.constant import ONE
from lipzoo.lipschitz.rounding import add_up, div_up, down, exp_down, hypot_up, mul_up, sqrt_up, up
from lipzoo.lipschitz.spectral import spectral_norm
from lipzoo.nn import AttentionConv
from lipzoo.nn.conv import IdentityMappedLinear

POSITIVE = st.floats(0, 1e300, allow_subnormal=True)


def is_above(got, exact):
    """No less, and by no more than two units in the last place."""
    if not math.isfinite(got):
        return exact > 1e307
    allowed = exact * (1 + Fraction(1, 2**51)) + Fraction(2, 2**1074)
    return exact <= Fraction(got) <= allowed


@given(a=POSITIVE, b=POSITIVE)
@settings(max_examples=400, deadline=None)
def test_one_operation_is_no_less_than_the_exact_one(a, b):
    x, y = Fraction(a), Fraction(b)
    for number in (float, lambda v: torch.tensor(v, dtype=torch.float64)):
        first, second = number(a), number(b)
        assert is_above(float(add_up(first, second)), x + y)
        assert is_above(float(mul_up(first, second)), x * y)
        if b > 0:
            assert is_above(float(div_up(first, second)), x / y)
        root = Fraction(float(sqrt_up(first)))
        assert root**2 >= x
        assert root**2 <= x * (1 + Fraction(1, 2**50))
        assert (a == 0 or b == 0) == (float(mul_up(first, second)) == 0), "no underflow to zero"
    assert Fraction(hypot_up(a, b)) ** 2 >= x**2 + y**2 or hypot_up(a, b) == math.inf


@given(value=st.floats(0, 800))
@settings(max_examples=200, deadline=None)
def test_exponentials_are_no_more_than_the_exact_one(value):
    exact = mpmath.exp(-mpmath.mpf(value))
    assert 0 <= exp_down(-value) <= exact
    assert exp_down(-value) >= exact * (1 - mpmath.mpf(2) ** -49) - mpmath.mpf(2) ** -1070


@given(values=st.lists(POSITIVE.filter(lambda v: v < 1e200), min_size=2, max_size=50))
@settings(max_examples=100, deadline=None)
def test_a_row_of_operations(values):
    exact, got = sum(map(Fraction, values)), sum(values)
    assert down(got, len(values)) <= exact <= up(got, len(values))


# --------------------------------------------------------------------------- spectral norms


@pytest.mark.parametrize("shape", [(1, 3), (4, 4), (9, 3), (3, 12)])
def test_spectral_norms_against_40_digits(shape):
    for seed in range(12):
        generator = torch.Generator().manual_seed(seed)
        matrix = torch.randn(*shape, generator=generator, dtype=torch.float64)
        if seed % 3 == 1:  # all singular values alike
            u, _, v = torch.linalg.svd(matrix, full_matrices=False)
            matrix = u @ v
        if seed % 3 == 2:
            matrix = matrix * 10 ** (60 * torch.randn(shape[0], 1, generator=generator).double())
        exact, got = norm(matrix_of(matrix)), spectral_norm(matrix)
        assert exact <= got <= exact * (1 + 1e-11)


def test_an_identity_map_whose_parts_cancel():
    linear = IdentityMappedLinear(3, 0.7).double()
    torch.nn.init.eye_(linear.weight).data.mul_(-0.3 / 0.7)
    from lipzoo.lipschitz.modules import linear_weight

    beta = mpmath.mpf(0.7)
    exact = abs(1 - beta + beta * mpmath.mpf(linear.weight[0, 0].item()))
    assert exact < 1e-15
    got = spectral_norm(linear_weight(linear))
    assert exact <= got <= exact * (1 + 1e-11)


# ------------------------------------------------------------------------------ whole layers


def schur_weights(monkeypatch):
    """A list to which each Schur test adds its weights."""
    recorded = []
    original = neighbourhood._Rows.average_up_to

    def spy(rows, weight):
        if bool((weight == 1).all()):
            recorded.append([])
        recorded[-1].append(weight.tolist())
        return original(rows, weight)

    monkeypatch.setattr(neighbourhood._Rows, "average_up_to", spy)
    return recorded


@pytest.mark.slow
def test_layers_against_40_digits(monkeypatch):
    """Random graphs, blocks, weights, slopes and alpha up to 1e8."""
    recorded = schur_weights(monkeypatch)
    worst, kinds = 0.0, set()
    for seed in range(400):
        case = wild_case(seed)
        if not isinstance(case, Case) or not isinstance(case.module, AttentionConv):
            continue
        layer = case.module
        graph = layer.attended(case.graph)
        if layer.sep:
            layer.res_fc = None
        is_whole = getattr(layer.score_norm, "scope", "node") == "graph"
        if layer.res_fc is not None or layer.activation is not None or is_whole:
            continue
        if not graph.num_edges or graph.num_src > 12:
            continue
        recorded.clear()
        got = Case("", layer, case.graph, case.feat).bound()
        exact = exact_bound(layer, graph, recorded)
        for computed, wanted in zip((got.frobenius, got.per_node), exact):
            assert wanted <= computed <= wanted * (1 + mpmath.mpf(1e-10)), (seed, case.kind)
            worst = max(worst, float(computed / wanted - 1)) if wanted else worst
        kinds.add((type(layer).__name__, layer.sep))
    assert len(kinds) == 7, "DotGatConv has no sep"
    print(f"largest excess {worst:.2g}")


def test_shares_of_heads_of_very_different_length():
    from lipzoo.attention import LipschitzNorm

    norm = LipschitzNorm(0.25, per_head=False)
    lengths = torch.tensor([1.0, 1e-200, 0.0, 0.5], dtype=torch.float64)
    got = head_alphas(norm, lengths)
    whole = mpmath.sqrt(sum(mpmath.mpf(x) ** 2 for x in lengths.tolist()))
    for alpha, length in zip(got.tolist(), lengths.tolist()):
        assert alpha >= mpmath.mpf("0.25") * mpmath.mpf(length) / whole
        assert (alpha == 0) == (length == 0)


def test_networks_multiply_and_add_upwards():
    one = Constant(1 / 3, 1e-200)
    assert Fraction(one.then(one).frobenius) >= Fraction(1 / 3) ** 2
    assert one.then(one).per_node > 0, "a product that underflows is not nothing"
    assert one.then(Constant(0.0, math.inf)).frobenius == 0
    three = Constant.side_by_side([one, one, one])
    assert Fraction(three.frobenius) ** 2 >= 3 * Fraction(1 / 3) ** 2
    assert Fraction(Constant.mean_of([one] * 7).frobenius) >= Fraction(1 / 3)
    assert Fraction(Constant.mean_of([one, ONE]).frobenius) >= (Fraction(1 / 3) + 1) / 2
