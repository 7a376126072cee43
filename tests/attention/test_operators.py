"""Fused attention as operators: what compilers, profilers and autograd see of it."""

import gc
import sys

import pytest
import torch
from graph_zoo import multigraph
from kinds import KINDS
from torch.testing import assert_close

import lipzoo
from lipzoo.attention import as_structure, graph_attention
from lipzoo.attention.fused import operators

NAMES = {"gat": "additive", "gat_lip": "additive", "gatv2_lip": "gatv2", "dot_lip": "dot_product"}
ALL = pytest.mark.parametrize("kind_name", NAMES)
RATES = pytest.mark.parametrize(
    ("kind_name", "rate"), [("gat", 0), ("gat_lip", 0.4), ("gatv2_lip", 0.4), ("dot_lip", 0)]
)

pytestmark = pytest.mark.skipif(
    not hasattr(torch.library, "opcheck"), reason="PyTorch before 2.4 has no opcheck"
)


@pytest.fixture(autouse=True)
def anew():
    """Dynamo counts how often a function was compiled."""
    yield
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()


def run(kind, structure, leaves, **options):
    scores, norm = kind.build(leaves)
    torch.manual_seed(5)
    return graph_attention(structure, scores, score_norm=norm, backend="fused", **options)[0]


def call_of(kind_name, leaves, rate, monkeypatch):
    """The name of the operator that computes a kind, and what it is called with."""
    seen = []
    original = operators.Attention.__call__

    def spy(kind, structure, dropout, tensors, options):
        index = structure.derived(operators._edge_index, True, dropout.drops)
        seed = torch.as_tensor(dropout.seed) if dropout.drops else None
        seen.append((kind.name, (*tensors, *index, seed, dropout.kept, *options)))
        return original(kind, structure, dropout, tensors, options)

    monkeypatch.setattr(operators.Attention, "__call__", spy)
    run(KINDS[kind_name], as_structure(multigraph()), leaves, attn_drop=rate)
    [(name, arguments)] = seen
    assert name == f"{NAMES[kind_name]}_attention"
    return name, [
        x.detach().requires_grad_(x.requires_grad) if isinstance(x, torch.Tensor) else x
        for x in arguments
    ]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@RATES
def test_opcheck(kind_name, rate, dtype, monkeypatch):
    """Schema, fake kernel, autograd formula and compiled gradients, by PyTorch's own test."""
    leaves = KINDS[kind_name].leaves(multigraph(), dtype=dtype)
    name, arguments = call_of(kind_name, leaves, rate, monkeypatch)
    torch.library.opcheck(getattr(torch.ops.lipzoo, name).default, tuple(arguments))


@pytest.mark.parametrize("kind_name", ["gat_lip", "gatv2_lip", "dot_lip"])
def test_gradients_lie_as_is_foretold(kind_name, monkeypatch):
    """However the inputs lie: here heads before nodes."""
    leaves = {
        key: leaf.detach().transpose(0, 1).contiguous().transpose(0, 1).requires_grad_()
        for key, leaf in KINDS[kind_name].leaves(multigraph()).items()
    }
    name, arguments = call_of(kind_name, leaves, 0.0, monkeypatch)
    with torch.no_grad():
        out, kept = getattr(torch.ops.lipzoo, name)(*arguments)
    backward = getattr(torch.ops.lipzoo, f"{name}_backward").default
    given = *arguments, out, kept, torch.ones_like(out)
    torch.library.opcheck(backward, given, test_utils=("test_faketensor",))


def compiled(function, backend="aot_eager"):
    """``function`` compiled, and the names of what its graphs call, in a list that fills."""
    names = []

    def look(module, inputs):
        names.extend(str(node.target) for node in module.graph.nodes)
        return torch._dynamo.lookup_backend(backend)(module, inputs)

    return torch.compile(function, backend=look), names


@pytest.mark.slow
@RATES
def test_compiled(kind_name, rate):
    """One operator in one graph; results and gradients to the bit."""
    structure, kind = as_structure(multigraph()), KINDS[kind_name]
    leaves = kind.leaves(multigraph())
    wanted = run(kind, structure, leaves, attn_drop=rate)
    readout = torch.linspace(-1, 1, wanted.numel(), dtype=wanted.dtype).view_as(wanted)
    inputs = list(leaves.values())
    gradients = torch.autograd.grad(wanted, inputs, readout, materialize_grads=True)

    def attend(*tensors):
        scores, norm = kind.build(dict(zip(leaves, tensors)))
        return graph_attention(structure, scores, score_norm=norm, backend="fused", attn_drop=rate)[
            0
        ]

    fast, names = compiled(attend)
    torch.manual_seed(5)
    out = fast(*inputs)
    assert names.count(f"lipzoo.{NAMES[kind_name]}_attention") == 1
    assert_close(out, wanted, rtol=0, atol=1e-13)
    found = torch.autograd.grad(out, inputs, readout, materialize_grads=True)
    for ours, theirs in zip(found, gradients):
        assert_close(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "is_warm"), [("dgl", True), ("dgl", False), ("edge_index", False)]
)
def test_a_compiled_model(form, is_warm):
    """Whatever the graph, and whether it was read before; the next graph, too."""
    torch.manual_seed(0)
    model = lipzoo.create_model(
        "gat_lip_2", in_feats=6, num_classes=3, hidden_feats=8, num_heads=2, backend="fused"
    ).eval()
    fast, names = compiled(model)
    for seed in (0, 1):
        graph, feat = some_graph(form, seed), torch.randn(30, 6)
        wanted = torch.autograd.grad(model(graph, feat).square().sum(), list(model.parameters()))
        if not is_warm:
            graph = some_graph(form, seed)
        out = fast(graph, feat)
        found = torch.autograd.grad(out.square().sum(), list(model.parameters()))
        for ours, theirs in zip(found, wanted):
            assert_close(ours, theirs)
    assert not is_warm or "lipzoo.additive_attention" in names


@pytest.mark.slow
def test_a_compiled_model_and_graphs_that_are_gone():
    """What is kept of graphs is none of the compiler's business."""
    model = lipzoo.create_model(
        "gat_lip_2", in_feats=6, num_classes=3, hidden_feats=8, num_heads=2, backend="fused"
    ).eval()
    fast, _ = compiled(model)
    others, graph, feat = (
        [some_graph("dgl", k) for k in range(5)],
        some_graph("dgl", 9),
        torch.randn(30, 6),
    )
    with torch.no_grad():
        for other in (*others, graph):
            model(other, feat)
        wanted = fast(graph, feat)
        del others, other
        gc.collect()
        assert_close(fast(graph, feat), wanted, rtol=0, atol=0)
        assert_close(fast(some_graph("dgl", 9), feat), wanted, rtol=0, atol=0)


def some_graph(form, seed):
    generator = torch.Generator().manual_seed(seed)
    edges = torch.randint(30, (2, 100 + seed), generator=generator)
    return edges if form == "edge_index" else pytest.importorskip("dgl").graph(tuple(edges))


@pytest.mark.slow
def test_compiled_by_inductor(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch.manual_seed(0)
    model = lipzoo.create_model(
        "gat_lip_2", in_feats=6, num_classes=3, hidden_feats=8, num_heads=2, backend="fused"
    )
    model.eval()
    structure = as_structure(some_graph("edge_index", 0), add_self_loops=True)
    feat = torch.randn(30, 6)
    wanted = model(structure, feat)
    try:
        out = torch.compile(model)(structure, feat)
    except Exception as fault:
        if "compiler" in str(fault).lower():
            pytest.skip("there is no C++ compiler")
        raise
    assert_close(out, wanted)


@pytest.mark.slow
def test_a_second_derivative_of_what_is_compiled_is_refused_in_words():
    structure, kind = as_structure(multigraph()), KINDS["gat_lip"]
    leaves = kind.leaves(multigraph())

    def attend(v):
        return run_plain(kind, structure, {**leaves, "v": v})

    fast, _ = compiled(attend)
    out = fast(leaves["v"])
    (grad,) = torch.autograd.grad(out.sum(), leaves["v"], create_graph=True)
    with pytest.raises(RuntimeError, match="double backward"):
        grad.sum().backward()


def run_plain(kind, structure, leaves):
    scores, norm = kind.build(leaves)
    return graph_attention(structure, scores, score_norm=norm, backend="fused")[0]


@pytest.mark.slow
def test_compiled_within_func_it_is_another_backend():
    structure, kind = as_structure(multigraph()), KINDS["gat_lip"]
    leaves = {name: leaf.detach() for name, leaf in kind.leaves(multigraph()).items()}
    structure.csc, structure.csr  # noqa: B018 - made before a compiler looks on

    def energy(v):
        return run_plain(kind, structure, {**leaves, "v": v}).square().sum()

    fast, names = compiled(torch.func.grad(energy))
    assert_close(fast(leaves["v"]), torch.func.grad(energy)(leaves["v"]))
    assert not any("lipzoo" in name for name in names)


@ALL
def test_a_profiler_names_it(kind_name):
    leaves = KINDS[kind_name].leaves(multigraph())
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
        run(KINDS[kind_name], as_structure(multigraph()), leaves).sum().backward()
    names = {event.key for event in seen.key_averages()}
    name = f"lipzoo::{NAMES[kind_name]}_attention"
    assert {name, f"{name}_backward"} <= names


def test_what_is_kept_of_a_layer():
    """The backward pass is given the projection, the output, and three numbers a node and head."""
    graph, kind = multigraph(), KINDS["gat_lip"]
    leaves, kept = kind.leaves(graph), []
    structure = as_structure(graph)
    run(kind, structure, leaves)
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        out = run(kind, structure, leaves)
    heads, width = out.shape[1:]
    sizes = [x.numel() for x in kept if x.numel() > heads * width * 2]
    nodes = graph.num_nodes()
    assert sorted(sizes) == sorted([nodes * heads * width] * 2 + [nodes * heads * 3])
