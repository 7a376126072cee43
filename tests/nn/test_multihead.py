"""LipschitzMultiheadAttention: PyTorch's layer without the norm, the formula with it."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from adversary.measure import local_constants
from lipzoo.attention import Structure
from lipzoo.errors import ConfigError, DataError
from lipzoo.lipschitz import bound
from lipzoo.nn import TransformerConv
from lipzoo.nn.multihead import LipschitzMultiheadAttention

HEADS, WIDTH = 2, 8
LENGTH, BATCH = 5, 3

ARGUMENTS = {
    "plain": {},
    "batch_first": {"batch_first": True},
    "no bias": {"bias": False},
    "constant keys": {"add_bias_kv": True, "add_zero_attn": True},
    "other widths": {"kdim": 6, "vdim": 5},
}
CAUSAL = torch.ones(LENGTH, LENGTH).triu(1).bool()
PADDING = torch.zeros(BATCH, LENGTH).bool()
PADDING[0, 3:] = True
PER_HEAD = torch.zeros(BATCH * HEADS, LENGTH, LENGTH).bool()
PER_HEAD[1, :, 2] = True
AS_FLOATS = torch.zeros(LENGTH, LENGTH).masked_fill(CAUSAL, -math.inf) + torch.eye(LENGTH)
MASKS = {
    "none": {},
    "causal": {"attn_mask": CAUSAL},
    "causal hint": {"attn_mask": CAUSAL, "is_causal": True},
    "padding": {"key_padding_mask": PADDING},
    "both": {"attn_mask": CAUSAL, "key_padding_mask": PADDING},
    "per head": {"attn_mask": PER_HEAD},
    "floats": {"attn_mask": AS_FLOATS.double()},
    "float padding": {"key_padding_mask": torch.randn(BATCH, LENGTH).double()},
}


def inputs(layer, batched=True):
    generator = torch.Generator().manual_seed(1)
    shape = (LENGTH,)
    if batched:
        shape = (BATCH, LENGTH) if layer.batch_first else (LENGTH, BATCH)
    return [
        torch.randn(*shape, width, generator=generator, dtype=torch.float64)
        for width in (WIDTH, layer.kdim, layer.vdim)
    ]


def pair(arguments, norm=None):
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(WIDTH, HEADS, **arguments).double()
    if theirs.in_proj_bias is not None:
        nn.init.normal_(theirs.in_proj_bias)
    ours = LipschitzMultiheadAttention(WIDTH, HEADS, **arguments, score_norm=norm).double()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("case", ARGUMENTS)
def test_without_the_norm_it_is_pytorchs(case, mask, need_weights):
    theirs, ours = pair(ARGUMENTS[case])
    given = {**MASKS[mask], "need_weights": need_weights}
    if (case, mask, need_weights) == ("constant keys", "causal hint", False):
        # PyTorch then drops the mask and hides the constant keys, but not with need_weights.
        theirs(*inputs(theirs), **given)
        given = {**given, "is_causal": False}
    wanted, weights = theirs(*inputs(theirs), **given)
    got, own_weights = ours(*inputs(ours), **given)
    assert_close(got, wanted)
    assert_close(own_weights, weights)
    if need_weights:
        given["average_attn_weights"] = False
        assert_close(ours(*inputs(ours), **given)[1], theirs(*inputs(theirs), **given)[1])


def test_unbatched():
    theirs, ours = pair({})
    padding = PADDING[0]
    for given in ({}, {"key_padding_mask": padding}, {"attn_mask": CAUSAL}):
        wanted, weights = theirs(*inputs(theirs, batched=False), **given)
        got, own = ours(*inputs(ours, batched=False), **given)
        assert_close(got, wanted)
        assert_close(own, weights)


def reference(layer, x, allowed):
    """Self-attention over ``allowed`` (L, S) keys, query by query, in NumPy."""
    weight, bias = (p.detach().numpy() for p in (layer.in_proj_weight, layer.in_proj_bias))
    q, k, v = np.split(x.numpy() @ weight.T + bias, 3, axis=1)
    depth = WIDTH // HEADS
    out = np.zeros_like(q)
    for head in range(HEADS):
        part = slice(head * depth, (head + 1) * depth)
        for i in range(len(x)):
            keys = [j for j in range(len(x)) if allowed[i, j]]
            u = np.linalg.norm(q[i, part])
            longest = [max(np.linalg.norm(m[j, part]) for j in keys) for m in (k, v)]
            by = max(u * longest[0], u * longest[1], longest[0] * longest[1])
            score = np.array([q[i, part] @ k[j, part] / math.sqrt(depth) / by for j in keys])
            assert np.abs(score).max() <= 1 / math.sqrt(depth) + 1e-12
            share = np.exp(score) / np.exp(score).sum()
            out[i, part] = sum(p * v[j, part] for p, j in zip(share, keys))
    return torch.from_numpy(out) @ layer.out_proj.weight.T + layer.out_proj.bias


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("mask", [None, CAUSAL])
def test_with_the_norm_it_is_the_formula(mask, need_weights):
    _, layer = pair({}, "dot_lipschitz")
    x = inputs(layer, batched=False)[0] * torch.tensor([1e-3, 1, 10, 1e3, 1]).double()[:, None]
    allowed = torch.ones(LENGTH, LENGTH).bool() if mask is None else ~mask
    got = layer(x, x, x, attn_mask=mask, need_weights=need_weights)[0]
    assert_close(got, reference(layer, x, allowed))


def test_it_is_transformer_conv_on_the_complete_graph():
    _, dense = pair({"bias": False}, "dot_lipschitz")
    src, dst = torch.cartesian_prod(torch.arange(LENGTH), torch.arange(LENGTH)).T
    sparse = TransformerConv(WIDTH, WIDTH // HEADS, HEADS, bias=False, score_norm="dot_lipschitz")
    weights = dense.in_proj_weight.chunk(3)
    sparse = sparse.double()
    with torch.no_grad():
        for part, weight in zip((sparse.fc_query, sparse.fc_key, sparse.fc_value), weights):
            part.weight.copy_(weight)
        dense.out_proj.weight.copy_(torch.eye(WIDTH))
    x = inputs(dense, batched=False)[0]
    wanted = sparse(Structure(src, dst, LENGTH, LENGTH), x).flatten(1)
    assert_close(dense(x, x, x)[0], wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_zero_rows_have_no_nan(dtype):
    layer = LipschitzMultiheadAttention(WIDTH, HEADS, bias=False).to(dtype)
    for zeros in (slice(0, 2), slice(None)):
        x = torch.randn(LENGTH, BATCH, WIDTH).to(dtype)
        x[zeros] = 0
        x.requires_grad_()
        out = layer(x, x, x, need_weights=False)[0]
        out.square().sum().backward()
        assert out.isfinite().all()
        assert x.grad.isfinite().all()
        assert all(p.grad.isfinite().all() for p in layer.parameters())


def test_a_query_without_keys_gets_nothing():
    layer = LipschitzMultiheadAttention(WIDTH, HEADS).double()
    mask = torch.zeros(LENGTH, LENGTH).bool()
    mask[2] = True
    x = inputs(layer)[0].requires_grad_()
    for need_weights in (True, False):
        out, weights = layer(x, x, x, attn_mask=mask, need_weights=need_weights)
        assert_close(out[2], layer.out_proj.bias.expand_as(out[2]))
        assert weights is None or (weights[:, 2] == 0).all()
    out.sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.complex64])
@pytest.mark.parametrize("name", ["attn_mask", "key_padding_mask"])
def test_masks_of_whole_numbers_are_refused_as_pytorch_does(name, dtype):
    theirs, ours = pair({})
    mask = {"attn_mask": CAUSAL, "key_padding_mask": PADDING}[name].to(dtype)
    with pytest.raises((RuntimeError, AssertionError)):
        theirs(*inputs(theirs), **{name: mask})
    with pytest.raises(DataError, match=rf"{name} is of type .*{name}\.bool\(\)"):
        ours(*inputs(ours), **{name: mask})


CLOSING = {
    "infinite": (torch.float64, -math.inf),
    "a billion": (torch.float64, -1e9),
    "least": (torch.float64, torch.finfo(torch.float64).min),
    "just enough": (torch.float64, -753.0),
    "in 32 bits": (torch.float32, -112.0),
    "least in 32 bits": (torch.float32, torch.finfo(torch.float32).min),
    "in 16 bits": (torch.bfloat16, -112.0),
}


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("closing", CLOSING)
def test_a_key_that_gets_no_weight_does_not_count_in_the_norm(closing, need_weights):
    dtype, low = CLOSING[closing]
    layer = pair({}, "dot_lipschitz")[1].to(dtype)
    x = inputs(layer)[0].to(dtype)
    bias = torch.randn(LENGTH, LENGTH, generator=torch.Generator().manual_seed(0)).to(dtype)
    mask = torch.where(CAUSAL, low, bias)
    given = {"attn_mask": mask, "need_weights": need_weights}
    out, weights = layer(x, x, x, **given)
    assert weights is None or (weights[:, CAUSAL] == 0).all()
    closed = layer(x, x, x, **{**given, "attn_mask": bias.masked_fill(CAUSAL, -math.inf)})[0]
    assert torch.equal(out, closed)
    later = x.clone()
    later[3:] = 1000 * later[3:]
    assert torch.equal(layer(later, later, later, **given)[0][:3], out[:3]), "no look ahead"


def test_a_bias_that_leaves_weight_counts():
    """ALiBi's, and a row that all of is closed alike: what is added to all keys changes nothing."""
    layer = pair({}, "dot_lipschitz")[1]
    x = inputs(layer, batched=False)[0]
    x[4] *= 1000
    places = torch.arange(LENGTH).double()
    alibi = -0.5 * (places[:, None] - places).abs()
    with_bias, without = (
        layer(x, x, x, attn_mask=mask, need_weights=False)[0]
        for mask in (alibi, alibi.masked_fill(places == 4, -math.inf))
    )
    assert (with_bias - without).abs().max() > 1e-3
    plain = layer(x, x, x)[0]
    assert_close(layer(x, x, x, attn_mask=torch.full((LENGTH, LENGTH), -1e4).double())[0], plain)
    low = torch.full((LENGTH,), torch.finfo(torch.float64).min, dtype=torch.float64)
    both = {"attn_mask": low.expand(LENGTH, LENGTH), "key_padding_mask": low}
    assert layer(x, x, x, **both)[0].isfinite().all(), "their sum is infinite: nothing is open"


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("norm", [None, "dot_lipschitz"])
@pytest.mark.parametrize("masks", [{}, {"attn_mask": torch.zeros(LENGTH, 0)}])
def test_without_keys_nothing_is_attended_to(norm, need_weights, masks):
    theirs, ours = pair({}, norm)
    masks = {name: mask.double() for name, mask in masks.items()}
    x = inputs(ours)[0]
    out = ours(x, x[:0], x[:0], need_weights=need_weights, **masks)[0]
    assert_close(out, theirs(x, x[:0], x[:0], need_weights=need_weights, **masks)[0])


def test_dropout_is_for_training():
    layer = LipschitzMultiheadAttention(WIDTH, HEADS, dropout=0.5).double()
    x = inputs(layer)[0]
    assert not torch.equal(layer(x, x, x)[0], layer(x, x, x)[0])
    layer.eval()
    assert torch.equal(layer(x, x, x)[0], layer(x, x, x)[0])


def test_bad_arguments_are_answered():
    layer = LipschitzMultiheadAttention(WIDTH, HEADS)
    x = torch.randn(LENGTH, BATCH, WIDTH)
    with pytest.raises(DataError, match="attn_mask is \\(2, 2\\)"):
        layer(x, x, x, attn_mask=torch.zeros(2, 2).bool())
    with pytest.raises(DataError, match="key is"):
        layer(x, x[..., :3], x)
    with pytest.raises(DataError, match="is_causal is a hint"):
        layer(x, x, x, is_causal=True)
    with pytest.raises(ConfigError, match="score_norm must be 'dot_lipschitz'"):
        LipschitzMultiheadAttention(WIDTH, HEADS, score_norm="lipschitz")


def test_it_can_be_copied_reset_and_printed():
    layer = LipschitzMultiheadAttention(WIDTH, HEADS)
    other = copy.deepcopy(layer)
    x = torch.randn(LENGTH, BATCH, WIDTH)
    assert_close(other(x, x, x)[0], layer(x, x, x)[0])
    other._reset_parameters()
    assert not torch.equal(other.in_proj_weight, layer.in_proj_weight)
    assert "DotProductLipschitzNorm" in repr(layer)


# ------------------------------------------------------------------------------ its bound


@pytest.mark.many
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("constant_keys", [False, True])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
def test_no_local_constant_is_above_the_bound(scale, constant_keys, masked):
    if masked and constant_keys:
        return
    keys = {"add_bias_kv": constant_keys, "add_zero_attn": constant_keys}
    graph, mask = LENGTH, None
    if masked:
        graph = Structure(*(~CAUSAL).nonzero().flip(1).T, LENGTH, LENGTH)
        mask = CAUSAL
    for seed in range(20):
        torch.manual_seed(seed)
        layer = LipschitzMultiheadAttention(WIDTH, HEADS, **keys).double().requires_grad_(False)
        layer.in_proj_weight.mul_(10 ** torch.randn(()).item())
        x = scale * torch.randn(LENGTH, WIDTH, dtype=torch.float64)
        x[seed % LENGTH] = 0

        def function(x, layer=layer):
            return layer(x, x, x, attn_mask=mask)[0]

        frobenius, per_node = local_constants(torch.func.jacrev(function)(x))
        limit = bound(layer, graph)
        assert frobenius <= limit.frobenius
        assert per_node <= limit.per_node


def test_it_has_a_bound_where_the_plain_layer_has_none():
    assert bound(LipschitzMultiheadAttention(WIDTH, HEADS), 7).is_finite
    plain = bound(LipschitzMultiheadAttention(WIDTH, HEADS, score_norm=None), 7)
    assert "without a score norm" in plain.reason
    unequal = bound(LipschitzMultiheadAttention(WIDTH, HEADS, kdim=3), 7)
    assert "no self-attention" in unequal.reason


@pytest.mark.parametrize("factor", [0.01, 100.0])
def test_lengths_that_float16_has_no_squares_of(factor):
    torch.manual_seed(0)
    layer = LipschitzMultiheadAttention(WIDTH, HEADS).half()
    x = factor * torch.randn(LENGTH, BATCH, WIDTH).half()
    out, weights = layer(x, x, x)
    wide = x.double()
    right, theirs = copy.deepcopy(layer).double()(wide, wide, wide)
    assert (out.dtype, weights.dtype) == (torch.float16, torch.float16)
    assert_close(weights.double(), theirs, rtol=0, atol=2e-3)
    assert_close(out.double(), right, rtol=0, atol=2e-3 * float(right.abs().max()))
