"""Fused kernels on bfloat16: rows in 16 bits, all else in float32."""

import dgl
import pytest
import torch
from graph_zoo import GRAPHS, homogeneous, multigraph
from kinds import KINDS
from torch.testing import assert_close

from adversary.kernels import Case
from lipzoo.attention import (
    AdditiveScores,
    DotProductScores,
    GATv2Scores,
    Structure,
    as_structure,
    functional,
    graph_attention,
)
from lipzoo.attention.fused import suits_fused
from lipzoo.models import DeepGAT, DeepGATv2, DeepGraphTransformer
from lipzoo.nn import DotGatConv, GATConv, GATv2Conv, TransformerConv

#: Half a unit in the last place, relative: what rounding once does to the largest of its numbers.
HALF = 2.0**-9
ALL_KINDS = pytest.mark.parametrize("name", KINDS)
MODELS = {DeepGAT: "lipschitz", DeepGATv2: "lipschitz", DeepGraphTransformer: "dot_lipschitz"}


def some_edges(num_nodes, num_edges, seed=0):
    """Hubs among the destinations; nothing reaches the last ten nodes, and nothing leaves five."""
    random = torch.Generator().manual_seed(seed)
    src = torch.randint(num_nodes - 5, (num_edges,), generator=random)
    dst = torch.rand(num_edges, generator=random) ** 3 * (num_nodes - 10)
    return Structure(src, dst.long(), num_nodes, num_nodes)


def case_of(name, structure, heads, width, rate=0.0, alike=False, seed=1):
    """Numbers that bfloat16 has; ``alike``: all nodes have about the same features."""
    random, kind = torch.Generator().manual_seed(seed), KINDS[name]

    def draw(rows):
        x = torch.randn(rows, heads, width, generator=random)
        if alike and rows > 1:
            x = x / 16 + torch.randn(1, heads, width, generator=random)
        return x.bfloat16()

    num_src, num_dst = structure.num_src, structure.num_dst
    leaves = {
        "additive": lambda: {"v": draw(num_src), "attn_l": draw(1), "attn_r": draw(1)},
        "gatv2": lambda: {"v": draw(num_src), "t": draw(num_dst), "attn": draw(1)},
        "dot": lambda: {"v": draw(num_src), "k": draw(num_src), "q": draw(num_dst)},
    }[kind.scores]()
    if kind.with_own:
        leaves["v_dst"] = draw(num_dst)
    readout = torch.randn(num_dst, heads, width, generator=random).bfloat16()
    seed = 5 if kind.with_own else 6  # as a Case takes it
    return Case(
        kind.scores, structure, leaves, readout, kind.norm or None, 0.2, rate, torch.bfloat16, seed
    )


def errors(case, backend="fused"):
    """Of output and gradients, against float64: ``(root mean square, largest)``, relative."""
    right = case.derivatives("torch", torch.float64)
    found = case.derivatives(backend, torch.bfloat16)
    assert all(x.dtype == torch.bfloat16 for x in found.values())
    off = {key: (found[key].double() - x).abs() for key, x in right.items()}
    # Where all scores of a node are of one sign, the gradient of what they share is 0.
    return {
        key: (
            (x.norm() / right[key].norm().clamp(min=0.01)).item(),
            (x.max() / right[key].abs().max().clamp(min=0.01)).item(),
        )
        for key, x in off.items()
    }


def check(case, roundings=2):
    """As good as ``roundings`` of its numbers, whatever cancels; a query is rounded when it is
    divided by the norm as well."""
    roundings += case.scores == "dot" and case.norm is not None
    for key, (usual, largest) in errors(case).items():
        assert usual < roundings * HALF, key
        assert largest < 2 * roundings * HALF, key


@pytest.mark.many
@ALL_KINDS
def test_rounded_and_no_worse(name):
    check(case_of(name, some_edges(300, 4000), 2, 3))


@pytest.mark.many
@pytest.mark.parametrize("name", ["gat_lip", "gatv2_lip", "dot_lip"])
@pytest.mark.parametrize(("heads", "width"), [(8, 8), (8, 4), (1, 5), (8, 64), (16, 40)])
def test_heads_of_any_width(heads, width, name):
    check(case_of(name, some_edges(200, 3000), heads, width))


@pytest.mark.many
@pytest.mark.parametrize("name", ["gat", "gat_lip", "gatv2_lip", "dot_lip"])
def test_dropout(name):
    """What is kept is divided by its share after it is rounded."""
    check(case_of(name, some_edges(300, 4000), 2, 3, rate=0.4), roundings=3)


@pytest.mark.many
@ALL_KINDS
def test_neighbours_that_are_alike(name):
    """What a deep network makes of them: an output that is rounded is further off than they are
    from each other, and so would be the gradients of the scores."""
    case = case_of(name, some_edges(300, 4000), 2, 3, alike=True)
    check(case)
    if name == "gat":
        assert errors(case, "torch")["attn_l"][0] > 0.05


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gat", "gat_lip", "gatv2_lip", "dot_lip"])
def test_a_hub_with_a_hundred_thousand_in_edges(name):
    nodes = torch.arange(100_000)
    structure = Structure(
        torch.cat([nodes, nodes[1:]]),
        torch.cat([torch.zeros_like(nodes), nodes[1:]]),
        len(nodes),
        len(nodes),
    )
    check(case_of(name, structure, 2, 3))


@ALL_KINDS
def test_graphs_of_every_kind(name):
    for graph_name in ("homogeneous", "isolated", "zero_neighbourhood", "block", "star"):
        graph, kind = GRAPHS[graph_name](), KINDS[name]
        leaves = kind.leaves(graph, graph_name, torch.bfloat16)
        readout = torch.ones(graph.num_dst_nodes(), 2, 3)
        case = Case(kind.scores, as_structure(graph), leaves, readout, kind.norm, 0.2, 0.0, None, 1)
        right = case.derivatives("torch", torch.float64)
        for key, ours in case.derivatives("fused", torch.bfloat16).items():
            size = max(1.0, right[key].abs().max().item())
            assert (ours.double() - right[key]).abs().max() < 6 * HALF * size, (graph_name, key)


def test_every_number_arrives():
    """A node that hears itself alone has its own row, also where it is subnormal."""
    bits = torch.arange(-(2**15), 2**15).to(torch.int16)
    value = bits.view(torch.bfloat16).view(-1, 1, 1)
    value = value[value.isfinite()].view(-1, 1, 1)
    nodes = torch.arange(len(value))
    structure = Structure(nodes, nodes, len(nodes), len(nodes))
    none = torch.zeros(1, 1, 1)
    out, _ = graph_attention(structure, AdditiveScores(value, None, none, none), backend="fused")
    assert torch.equal(out, value)


def test_rounded_to_the_nearest_and_ties_to_even():
    """The mean of two rows is PyTorch's, for any two numbers: some become infinite."""
    random = torch.Generator().manual_seed(0)
    bits = torch.randint(-(2**15), 2**15, (20_000,), generator=random).to(torch.int16)
    value = bits.view(torch.bfloat16)
    value = torch.cat([value, value + value * 2**-7, -value * (1 - 2**-8)])
    value = value[value.isfinite()][: 2 * 15_000].view(-1, 1, 1)
    to = torch.arange(len(value) // 2)
    structure = Structure(torch.arange(len(value)), to.repeat(2), len(value), len(to))
    none = torch.zeros(1, 1, 1)
    scores = AdditiveScores(value, value[: len(to)], none, none)
    out, _ = graph_attention(structure, scores, backend="fused")
    wanted = ((value[: len(to)].float() + value[len(to) :].float()) / 2).bfloat16()
    assert torch.equal(out, wanted)


@ALL_KINDS
def test_what_is_no_number_shows(name):
    structure = as_structure(homogeneous())
    for number in (torch.nan, torch.inf, -torch.inf):
        leaves = KINDS[name].leaves(homogeneous(), dtype=torch.bfloat16)
        with torch.no_grad():
            leaves["v"][int(structure.src[0])] = number
        scores, norm = KINDS[name].build(leaves)
        out, _ = graph_attention(structure, scores, score_norm=norm, backend="fused")
        assert not out[int(structure.dst[0])].isfinite().any()
        assert out.isfinite().any()


@pytest.mark.parametrize("name", ["gat", "gatv2", "dot"])
def test_a_saturated_softmax_passes_no_gradient_to_its_scores(name):
    case = case_of(name, as_structure(homogeneous()), 2, 3)
    case.leaves = {k: x if "attn" in k else x * 1e12 for k, x in case.leaves.items()}
    found = case.derivatives("fused", torch.bfloat16)
    for key in found.keys() - {"out", "v"}:
        assert (found[key] == 0).all(), key


@pytest.mark.parametrize("size", [1e-30, 1e-22, 1e19, 1e30])
@pytest.mark.parametrize("name", ["gat_lip", "gatv2_lip"])
def test_the_norm_does_not_see_the_size_of_features(name, size):
    case = case_of(name, some_edges(300, 4000), 2, 3)
    case.leaves = {k: x if "attn" in k else x * size for k, x in case.leaves.items()}
    check(case)


@pytest.mark.parametrize("name", ["gat_lip", "gatv2_lip", "dot_lip"])
def test_second_derivatives(name):
    """In PyTorch's operations, in float32."""
    case = case_of(name, some_edges(300, 2000), 2, 3)

    def second(backend, dtype):
        leaves = case.own(dtype)
        inputs = list(leaves.values())
        out = case.output(leaves, backend)
        value = (out * case.readout.to(dtype)).sum()
        first = torch.autograd.grad(value, inputs, create_graph=True)
        return torch.autograd.grad(sum(x.square().sum() for x in first), inputs, allow_unused=True)

    ours, right = second("fused", torch.bfloat16), second("torch", torch.float64)
    for mine, exact in zip(ours, right, strict=True):
        assert mine.dtype == torch.bfloat16
        assert (mine.double() - exact).norm() < 8 * HALF * exact.norm()


@ALL_KINDS
def test_attention_vectors_in_float32(name):
    """As autocast leaves them: their gradients are in float32, all else is in bfloat16."""
    leaves = KINDS[name].leaves(multigraph(), dtype=torch.bfloat16)
    wide = {k: x.detach().float().requires_grad_() if "attn" in k else x for k, x in leaves.items()}
    found = []
    for given in (leaves, wide):
        scores, norm = KINDS[name].build(given)
        out, _ = graph_attention(
            as_structure(multigraph()), scores, score_norm=norm, backend="fused"
        )
        assert out.dtype == torch.bfloat16
        gradients = torch.autograd.grad(out.float().square().sum(), list(given.values()))
        assert [g.dtype for g in gradients] == [x.dtype for x in given.values()]
        found.append([out.detach(), *gradients])
    for one, other in zip(*found):
        assert torch.equal(one, other.bfloat16())


def test_what_suits():
    structure, half = as_structure(homogeneous()), torch.ones(10, 2, 3, dtype=torch.bfloat16)
    vectors = torch.ones(1, 2, 3)
    for given in (
        AdditiveScores(half, half, vectors, vectors),
        GATv2Scores(half, half, vectors),
        DotProductScores(half, half, half),
    ):
        assert suits_fused(given, None, structure)
    for mixed in (
        AdditiveScores(half, half.float(), vectors, vectors),
        GATv2Scores(half.float(), half, vectors),
        DotProductScores(half.float(), half, half),
    ):
        assert not suits_fused(mixed, None, structure)


@pytest.fixture
def calls(monkeypatch):
    """The types of what the fused kernels were called with."""
    seen = []

    def attend(structure, scores, *others):
        seen.append(scores.value.dtype)
        return original(structure, scores, *others)

    original = functional.fused_attention
    monkeypatch.setattr(functional, "fused_attention", attend)
    return seen


@pytest.mark.parametrize("autocast", [False, True])
def test_auto_takes_it_where_it_pays(calls, autocast):
    edges = torch.randint(500, (2, 500 * 20))
    layer, feat = GATConv(5, 8, 8, score_norm="lipschitz"), torch.randn(500, 5)
    small = torch.randint(500, (2, 2000))
    if not autocast:
        layer, feat = layer.bfloat16(), feat.bfloat16()
    layer.set_allow_zero_in_degree(True)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        layer(small, feat)
        assert calls == []
        assert layer(edges, feat).dtype == torch.bfloat16
    assert calls == [torch.bfloat16]


LAYERS = {
    "gat": lambda **options: GATConv(5, 3, 2, score_norm="lipschitz", **options),
    "gat_plain": lambda **options: GATConv(5, 3, 2, **options),
    "gatv2": lambda **options: GATv2Conv(5, 3, 2, score_norm="lipschitz", **options),
    "transformer": lambda **options: TransformerConv(5, 3, 2, **options),
    "dot": lambda **options: DotGatConv(5, 3, 2, score_norm="dot_lipschitz", **options),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_under_autocast_is_as_wide_as_a_linear_map(calls, name):
    """Whatever the backend: in bfloat16, as its projections; gradients as its parameters."""
    torch.manual_seed(0)
    graph, feat, found = homogeneous(), torch.randn(10, 5), []
    layer = LAYERS[name]()
    exact = layer(graph, feat)
    for backend in ("torch", "fused"):
        layer.backend = backend
        with torch.autocast("cpu", torch.bfloat16):
            out = layer(graph, feat)
        assert out.dtype == torch.bfloat16
        assert_close(out.float(), exact, rtol=0.03, atol=0.03)
        gradients = torch.autograd.grad(out.float().square().sum(), list(layer.parameters()))
        assert all(g.dtype == torch.float32 for g in gradients)
        found.append(gradients)
    assert calls == [torch.bfloat16]
    for theirs, ours in zip(*found):
        assert_close(ours, theirs, rtol=0.05, atol=0.05 * theirs.abs().max().item())


@pytest.mark.parametrize(
    "options",
    [{"residual": "linear"}, {"degree_norm": "symmetric"}, {"residual": True}],
    ids=lambda options: next(iter(options)) + str(next(iter(options.values()))),
)
@pytest.mark.parametrize("name", ["gat", "gatv2", "transformer"])
def test_options_of_a_layer_under_autocast(name, options):
    torch.manual_seed(0)
    graph, feat = homogeneous(), torch.randn(10, 5)
    layer = LAYERS[name](backend="fused", **options)
    for more in ({}, {"degree_norm": "symmetric"}):
        layer = LAYERS[name](backend="fused", **options | more)
        exact = layer(graph, feat)
        with torch.autocast("cpu", torch.bfloat16):
            out = layer(graph, feat)
            with torch.no_grad():
                assert torch.equal(layer(graph, feat), out)
        assert out.dtype == torch.bfloat16
        assert_close(out.float(), exact, rtol=0.03, atol=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("residual", ["initial", "reversible", "none"])
@pytest.mark.parametrize("how", ["autocast", "bfloat16"])
@pytest.mark.parametrize("kind", MODELS)
def test_a_deep_model_learns(calls, kind, how, residual):
    """Norms, dropout, residuals and all, as in float32 with the same masks."""
    random = torch.Generator().manual_seed(0)
    half = torch.randint(30, (2, 200), generator=random)
    edges = torch.cat([half, half + 30], 1)  # two parts, of a class each
    graph = dgl.add_self_loop(dgl.graph(tuple(edges), num_nodes=60))
    label = torch.arange(60) // 30
    feat = torch.randn(60, 5, generator=random) + label.unsqueeze(1)

    def losses(how):
        torch.manual_seed(0)
        model = kind(
            5,
            2,
            num_layers=4,
            hidden_feats=8,
            num_heads=2,
            feature_norm="layernorm",
            residual=residual,
            score_norm=MODELS[kind],
            input_drop=0.1,
            feat_drop=0.1,
            head_drop=0.1,
            attn_drop=0.1,
            backend="fused",
        )
        given = feat
        if how == "bfloat16":
            model, given = model.bfloat16(), feat.bfloat16()
        optimiser, found = torch.optim.Adam(model.parameters(), 0.01), []
        for _ in range(25):
            with torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
                logits = model(graph, given)
            loss = torch.nn.functional.cross_entropy(logits.float(), label)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            found.append(loss.item())
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
            assert model.eval()(graph, given).isfinite().all()
        return found

    ours = losses(how)
    assert set(calls) == {torch.bfloat16}
    exact = losses("float32")
    assert max(abs(a - b) for a, b in zip(ours, exact, strict=True)) < 0.06
    assert sum(ours[-5:]) < 0.9 * sum(ours[:5])
