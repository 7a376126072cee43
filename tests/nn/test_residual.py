"""Residual schemes by hand, on states of one node and width 2."""

import math

import pytest
import torch
from torch.testing import assert_close

from lipzoo.errors import ConfigError
from lipzoo.nn.residual import (
    RESIDUAL_SCHEMES,
    InitialResidual,
    JumpingKnowledge,
    make_residual,
)

H0, H1, H2 = (torch.tensor([row]) for row in ([1.0, 2.0], [10.0, -4.0], [-5.0, 8.0]))
OUT = torch.tensor([[100.0, 200.0]])
EACH = pytest.mark.parametrize("name", RESIDUAL_SCHEMES)


def rows(tensor):
    return tensor.tolist()[0]


@pytest.mark.parametrize(
    ("spec", "reads", "before", "after", "head_reads"),
    [
        ("none", [10, -4], [100, 200], [100, 200], [-5, 8]),
        ("residual", [10, -4], [100, 200], [110, 196], [-5, 8]),
        ("linear", [10, -4], [100, 200], [100, 200], [-5, 8]),
        # 0.75 * 100 + 0.25 * 1
        ({"name": "initial", "initial": 0.25}, [10, -4], [75.25, 150.5], [100, 200], [-5, 8]),
        ("dense", [1, 2, 10, -4], [100, 200], [100, 200], [1, 2, 10, -4, -5, 8]),
        ("jumping", [10, -4], [100, 200], [100, 200], [10, 8]),
        ({"name": "jumping", "mode": "mean"}, [10, -4], [100, 200], [100, 200], [2.5, 2]),
        ({"name": "jumping", "mode": "cat"}, [10, -4], [100, 200], [100, 200], [10, -4, -5, 8]),
        # 0.25 * 1 + 0.75 * 100: two layers keep the share that each stream keeps
        ({"name": "reversible", "kept": 0.25}, [10, -4], [100, 200], [75.25, 150.5], [2.5, 2]),
    ],
    ids=["none", "residual", "linear", "initial", "dense", "max", "mean", "cat", "reversible"],
)
def test_by_hand(spec, reads, before, after, head_reads):
    scheme = make_residual(spec, hidden_feats=2, num_layers=2)
    assert rows(scheme.input([H0, H1])) == reads
    assert rows(scheme.before_activation(OUT, [H0, H1])) == before
    assert rows(scheme.after_activation(OUT, [H0, H1])) == after
    assert rows(scheme.output([H0, H1, H2])) == head_reads
    assert scheme.in_feats(2) == len(reads)
    assert scheme.out_feats == len(head_reads)


@EACH
@pytest.mark.parametrize("num_layers", [1, 5])
def test_widths_are_those_of_the_tensors(name, num_layers):
    scheme = make_residual(name, 4, num_layers)
    states = [torch.rand(3, 4)]
    for layer in range(1, num_layers + 1):
        assert scheme.input(states).shape == (3, scheme.in_feats(layer))
        states.append(torch.rand(3, 4))
    assert scheme.output(states).shape == (3, scheme.out_feats)


def test_initial_residual_at_its_ends():
    assert_close(InitialResidual(2, 1, initial=0.0).before_activation(OUT, [H0]), OUT)
    assert_close(InitialResidual(2, 1, initial=1.0).before_activation(OUT, [H0, H1]), H0)


def test_identity_mapping_fades_with_depth():
    """beta_l = ln(decay / l + 1), GCNII's equation 5, never above 1."""
    scheme = InitialResidual(2, 4, decay=0.5)
    assert scheme.identity_map(1) == pytest.approx(math.log(1.5))
    assert scheme.identity_map(4) == pytest.approx(math.log(1.125))
    assert InitialResidual(2, 4, decay=100).identity_map(1) == 1.0


def test_a_reversible_scheme_goes_back():
    scheme = make_residual({"name": "reversible", "kept": 0.01, "decay": 0.5}, 2, 8)
    assert (1 - scheme.share) ** 4 == pytest.approx(0.01)
    assert scheme.identity_map(4) == InitialResidual(2, 8).identity_map(4)
    state = scheme.after_activation(OUT, [H0, H1])
    assert_close(scheme.state_before(state, OUT), H0, rtol=0, atol=1e-4)
    first = scheme.after_activation(OUT, [H0])
    assert_close(scheme.state_before(first, OUT), H0, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", sorted(set(RESIDUAL_SCHEMES) - {"initial"}))
def test_other_schemes_map_no_identity(name):
    assert make_residual(name, 2, 2).identity_map(1) is None


@EACH
def test_layers_have_weights_beside_them_where_the_scheme_says(name):
    scheme = make_residual(name, 2, 2)
    assert scheme.layer_residual(1) == ("linear" if name == "linear" else False)


@EACH
def test_schemes_hold_no_parameters(name):
    assert not make_residual(name, 2, 2).state_dict()


def test_repr():
    assert repr(make_residual("initial", 2, 2)) == "InitialResidual(initial=0.1, decay=0.5)"
    assert repr(JumpingKnowledge(2, 2)) == "JumpingKnowledge(mode='max')"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("denes", "did you mean 'dense'"),
        ({}, "no residual scheme None"),
        ({"name": "residual", "depth": 3}, "residual 'residual': .*depth"),
        ({"name": "jumping", "mode": "maximum"}, "no mode 'maximum'"),
        ({"name": "initial", "initial": 1.5}, "0 <= initial <= 1"),
        ({"name": "initial", "decay": -1.0}, "decay >= 0"),
        ({"name": "reversible", "kept": 1.0}, r"kept must be in \[0.01, 1\), got 1.0"),
        ({"name": "reversible", "kept": 0.001}, "kept must be in"),
        ({"name": "reversible", "kept": math.nan}, "kept must be in"),
        ({"name": "reversible", "decay": -1.0}, "decay must be >= 0"),
        ({"name": "reversible", "keep_states": 1}, "keep_states must be true or false, got 1"),
    ],
)
def test_make_residual_says_what_is_wrong(spec, words):
    with pytest.raises(ConfigError, match=words):
        make_residual(spec, 2, 2)
