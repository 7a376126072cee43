"""Second derivatives through the fused kernels, against the torch backend."""

import pytest
import torch
from graph_zoo import GRAPHS, homogeneous, multigraph
from kinds import KINDS
from masks import draw_mask
from torch.testing import assert_close

from lipzoo.attention import (
    LipschitzNorm,
    Structure,
    as_structure,
    functional,
    graph_attention,
)
from lipzoo.attention.fused.dropout_mask import DropoutMask
from lipzoo.models import DeepGAT, DeepGATv2, DeepGraphTransformer
from lipzoo.nn import DotGatConv, GATConv, GATv2Conv, TransformerConv

ALL_KINDS = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
LAYERS = {
    "gat": lambda backend: GATConv(4, 3, 2, attn_drop=0.5, backend=backend),
    "gat_lip": lambda b: GATConv(4, 3, 2, attn_drop=0.5, score_norm="lipschitz", backend=b),
    "gatv2": lambda backend: GATv2Conv(4, 3, 2, attn_drop=0.5, backend=backend),
    # Source and destination rows are one tensor.
    "gatv2_lip": lambda b: GATv2Conv(
        4, 3, 2, attn_drop=0.5, share_weights=True, score_norm="lipschitz", backend=b
    ),
    "transformer": lambda b: TransformerConv(4, 3, 2, attn_drop=0.5, backend=b),
    "transformer_lip": lambda b: TransformerConv(
        4, 3, 2, attn_drop=0.5, score_norm="dot_lipschitz", backend=b
    ),
    "dot": lambda backend: DotGatConv(4, 3, 2, backend=backend),
}
MODELS = {
    f"{kind.__name__}{'_checkpointed' * checkpoint}": lambda backend, kind=kind, c=checkpoint: kind(
        4,
        3,
        num_layers=3,
        hidden_feats=6,
        num_heads=2,
        activation="relu",
        input_drop=0.0,
        feat_drop=0.0,
        head_drop=0.0,
        attn_drop=0.5,
        score_norm="dot_lipschitz" if kind is DeepGraphTransformer else "lipschitz",
        checkpoint_layers=c,
        backend=backend,
    )
    for kind in (DeepGAT, DeepGATv2, DeepGraphTransformer)
    for checkpoint in (False, True)
}
ALL_MODULES = pytest.mark.parametrize("name", [*LAYERS, *MODELS])
DROPPING = pytest.mark.parametrize("training", [False, True], ids=["plain", "dropout"])


@pytest.fixture(autouse=True)
def _same_masks(monkeypatch):
    """The torch backend drops the attention weights that the kernels drop: its dropout is replaced
    by theirs, which draws its seed from the same generator at the same moment."""

    def dropout(weights, rate):
        mask = draw_mask(rate, *weights.shape) if rate else torch.ones(())
        return weights * mask.to(weights.dtype)

    monkeypatch.setattr(functional, "dropout", dropout)


def modules(name, dtype=torch.float64, training=True):
    """The same module with either backend, and features."""
    make = (LAYERS | MODELS)[name]
    torch.manual_seed(0)
    fused, plain = make("fused"), make("torch")
    plain.load_state_dict(fused.state_dict())
    feat = torch.randn(10, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return [m.to(dtype).train(training) for m in (fused, plain)], feat.to(dtype)


def output(module, feat, readout=False):
    torch.manual_seed(5)
    out = module(homogeneous(), feat)
    return out.sum() if readout else out


def hessian_vector_products(module, feat):
    """Of the sum of the output's squares: by the features, and by the parameters."""
    feat = feat.clone().requires_grad_()
    inputs = [feat, *module.parameters()]
    value = output(module, feat).square().sum()
    first = torch.autograd.grad(value, inputs, create_graph=True)
    seed = torch.Generator().manual_seed(2)
    vectors = [torch.randn(g.shape, generator=seed, dtype=g.dtype) for g in first]
    product = sum((g * v).sum() for g, v in zip(first, vectors))
    return [*first, *torch.autograd.grad(product, inputs, materialize_grads=True)]


@DROPPING
@ALL_MODULES
def test_hessian_vector_products(name, training):
    (fused, plain), feat = modules(name, training=training)
    found = hessian_vector_products(fused, feat)
    wanted = hessian_vector_products(plain, feat)
    assert wanted[len(wanted) // 2].abs().max() > 1e-3  # there is something to get wrong
    for ours, theirs in zip(found, wanted, strict=True):
        assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@DROPPING
@ALL_MODULES
def test_the_sum_of_the_squares_of_a_gradient(name, training):
    """No gradient comes in that needs one: this is what was silently wrong."""
    (fused, plain), feat = modules(name, training=training)
    results = []
    for module in (fused, plain):
        x = feat.clone().requires_grad_()
        first = torch.autograd.grad(output(module, x, readout=True), x, create_graph=True)[0]
        results.append(torch.autograd.grad(first.square().sum(), x)[0])
    assert results[1].abs().max() > 1e-4
    assert_close(*results, rtol=1e-9, atol=1e-9)


@ALL_MODULES
def test_a_gradient_penalty_in_float32(name):
    """As it is used: a loss and the size of its gradient, learnt from together."""
    (fused, plain), feat = modules(name, torch.float32)
    exact, _ = modules(name)
    results = []
    for module in (fused, plain, exact[1]):
        x = feat.to(next(module.parameters()).dtype).requires_grad_()
        loss = output(module, x).square().mean()
        penalty = torch.autograd.grad(loss, x, create_graph=True)[0].norm()
        (loss + penalty).backward()
        results.append([p.grad for p in module.parameters() if p.grad is not None])
    for ours, theirs, right in zip(*results, strict=True):
        size = right.abs().max().clamp(min=1e-6)
        error, usual = ((x - right).abs().max() / size for x in (ours, theirs))
        assert error <= 4 * usual + 1e-5


@pytest.mark.parametrize("name", ["gat", "gat_lip", "gatv2_lip", "transformer_lip", "DeepGAT"])
def test_torch_autograd_functional(name):
    (fused, plain), feat = modules(name)
    vector = torch.linspace(-1, 1, feat.numel(), dtype=feat.dtype).view_as(feat)

    def both(compute):
        results = [compute(lambda x, m=m: output(m, x).square().sum()) for m in (fused, plain)]
        assert_close(*results, rtol=1e-9, atol=1e-9)

    A = torch.autograd.functional
    both(lambda f: A.hvp(f, feat, vector))
    both(lambda f: A.vhp(f, feat, vector))
    both(lambda f: A.hessian(f, feat[:, :1].expand(10, 4).contiguous()))
    both(lambda f: A.jacobian(f, feat, create_graph=True).detach())
    jacobians = [A.jacobian(lambda x, m=m: output(m, x), feat) for m in (fused, plain)]
    assert_close(*jacobians, rtol=1e-9, atol=1e-9)


@ALL_KINDS
@pytest.mark.parametrize("graph_name", ["homogeneous", "multigraph", "block"])
def test_gradgradcheck(graph_name, kind):
    graph = GRAPHS[graph_name]()
    structure, leaves = as_structure(graph), kind.leaves(graph)

    def out(*tensors):
        torch.manual_seed(7)
        scores, norm = kind.build(dict(zip(leaves, tensors)))
        return graph_attention(structure, scores, score_norm=norm, attn_drop=0.3, backend="fused")[
            0
        ]

    assert torch.autograd.gradgradcheck(out, tuple(leaves.values()), fast_mode=True)


@ALL_KINDS
@pytest.mark.parametrize("graph_name", ["zero_rows", "zero_neighbourhood"])
def test_zero_rows_have_finite_second_derivatives(graph_name, kind):
    graph = GRAPHS[graph_name]()
    structure, leaves = as_structure(graph), kind.leaves(graph, graph_name)
    results = []
    for backend in ("fused", "torch"):
        scores, norm = kind.build(leaves)
        out, _ = graph_attention(structure, scores, score_norm=norm, backend=backend)
        inputs = list(leaves.values())
        first = torch.autograd.grad(
            out.square().sum(), inputs, create_graph=True, materialize_grads=True
        )
        total = sum(g.square().sum() for g in first)
        results.append(torch.autograd.grad(total, inputs, materialize_grads=True))
    for ours, theirs in zip(*results):
        assert ours.isfinite().all()
        assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_third_derivatives():
    (fused, plain), feat = modules("gat_lip")
    results = []
    for module in (fused, plain):
        x = feat.clone().requires_grad_()
        value = output(module, x, readout=True)
        for _ in range(3):
            value = torch.autograd.grad(value, x, create_graph=True)[0].square().sum()
        results.append(value)
    assert results[1].abs() > 1e-9
    assert_close(*results, rtol=1e-8, atol=0)


def test_a_plain_backward_pass_stores_nothing_of_the_size_of_the_edges():
    """The torch operations are for ``create_graph=True`` alone."""
    (fused, _), feat = modules("gat_lip")
    sizes = []
    feat.requires_grad_()
    out = output(fused, feat, readout=True)

    def keep(x):
        sizes.append(x.numel())
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        torch.autograd.grad(out, feat, retain_graph=True)
        assert not sizes
        torch.autograd.grad(out, feat, create_graph=True)
    assert max(sizes) >= as_structure(homogeneous()).num_edges * 6


# --- The mask ------------------------------------------------------------------------------------


@pytest.mark.many
@pytest.mark.parametrize("rate", [0.0, 0.05, 0.5, 0.97])
@pytest.mark.parametrize("seed", [0, 1, 4])
def test_the_mask_is_the_kernels(seed, rate):
    """In NumPy, in PyTorch's operations, and as the kernels draw it, edge by edge."""
    number, heads = 500, 5
    torch.manual_seed(seed)
    wanted = draw_mask(rate, number, heads)
    torch.manual_seed(seed)
    mask = DropoutMask.draw(rate).mask(number, heads, torch.device("cpu"))
    assert (mask is None) == (rate == 0)
    if rate:
        assert torch.equal(mask, wanted > 0)
        assert 0 < (wanted == 0).sum() < wanted.numel()
    for kind in ("additive", "gatv2", "dot"):
        # Edge e goes from node e to node 500 - e: its weight is 1, and the output its mask.
        ends = torch.arange(number)
        structure = Structure(ends, ends.flip(0), number, number)
        value = torch.ones(number, heads, 2, dtype=torch.float64)
        leaves = {"v": value, "t": value, "q": value, "k": value}
        leaves |= {"attn": value[:1], "attn_l": value[:1], "attn_r": value[:1]}
        torch.manual_seed(seed)
        scores, norm = next(k for k in KINDS.values() if k.scores == kind).build(leaves)
        out, _ = graph_attention(
            structure, scores, score_norm=norm, attn_drop=rate, backend="fused"
        )
        assert_close(out[:, :, 0].flip(0), wanted)


@ALL_KINDS
def test_either_way_of_computing_a_gradient_drops_the_same(kind):
    structure, leaves = as_structure(multigraph()), kind.leaves(multigraph())
    torch.manual_seed(9)
    scores, norm = kind.build(leaves)
    out, _ = graph_attention(structure, scores, score_norm=norm, attn_drop=0.5, backend="fused")
    inputs = list(leaves.values())
    kernels, operations = (
        torch.autograd.grad(
            out.square().sum(),
            inputs,
            retain_graph=True,
            create_graph=again,
            materialize_grads=True,
        )
        for again in (False, True)
    )
    for ours, theirs in zip(kernels, operations):
        assert ours.grad_fn is None
        assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


# --- One tensor in two places --------------------------------------------------------------------


@pytest.mark.parametrize("how", ["detached", "two leaves"])
def test_rows_that_share_memory_but_not_a_gradient(how):
    """Destination rows that lie where the source rows do may be another tensor to autograd."""
    structure, kind = as_structure(homogeneous()), KINDS["gat_lip"]
    leaves = kind.leaves(homogeneous())
    gradients = []
    for backend in ("fused", "torch"):
        v_dst = leaves["v"].detach()
        if how == "two leaves":
            v_dst.requires_grad_()
        scores, norm = kind.build(leaves | {"v_dst": v_dst})
        assert isinstance(norm, LipschitzNorm)
        out, _ = graph_attention(structure, scores, score_norm=norm, backend=backend)
        wanted = [leaves["v"], *[v_dst] * v_dst.requires_grad]
        gradients.append(torch.autograd.grad(out.square().sum(), wanted))
    for ours, theirs in zip(*gradients, strict=True):
        assert_close(ours, theirs)
