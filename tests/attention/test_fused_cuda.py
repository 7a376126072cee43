"""The GPU kernels against the reference and the torch backend.

Where there is no GPU, they run in Triton's interpreter, on the CPU; where there is one, the same
checks run on it. The interpreter takes about a millisecond an operation: the graphs are tiny.
"""

import dataclasses
import importlib.util
import subprocess
import sys

import numpy as np
import pytest
import torch
from graph_zoo import GRAPHS, homogeneous, multigraph
from kinds import HEADS, KINDS, NORMED, WIDTH
from masks import draw_mask
from torch.testing import assert_close

from lipzoo.attention import (
    AdditiveScores,
    DotProductLipschitzNorm,
    DotProductScores,
    LipschitzNorm,
    Structure,
    as_structure,
    graph_attention,
)
from lipzoo.attention.fused.cuda import (
    cuda_attention,
    cuda_attention_together,
    suits_cuda,
    suits_together,
)
from lipzoo.attention.fused.cuda import index as cuda_index
from lipzoo.attention.fused.cuda.function import is_covered
from lipzoo.attention.ops import TorchOps

if importlib.util.find_spec("triton") is None:
    pytest.skip("Triton is absent: pip install lipzoo[cuda]", allow_module_level=True)

HAS_GPU = torch.cuda.is_available()
if "triton" in sys.modules and not HAS_GPU:
    pytest.skip("Triton was imported before this file, to compile", allow_module_level=True)


@pytest.fixture(autouse=True)
def _interpreted(monkeypatch):
    if not HAS_GPU:
        monkeypatch.setenv("TRITON_INTERPRET", "1")


with pytest.MonkeyPatch.context() as patch:
    # Triton decides where a kernel is defined, too, whether it is compiled or interpreted.
    if not HAS_GPU:
        patch.setenv("TRITON_INTERPRET", "1")
    from lipzoo.attention.fused.cuda import additive, dot_product, gatv2  # noqa: F401

pytestmark = pytest.mark.parametrize("device", ["cuda" if HAS_GPU else "cpu"])
ALL_KINDS = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
ONE_OF_EACH = pytest.mark.parametrize(
    "kind", [KINDS["gat_lip"], KINDS["gatv2_lip"], KINDS["dot_lip"]], ids=["gat", "gatv2", "dot"]
)


def to(leaves, device):
    return {key: leaf.detach().to(device).requires_grad_() for key, leaf in leaves.items()}


def run(kind, structure, leaves, **options):
    scores, norm = kind.build(leaves)
    assert is_covered(scores, norm, structure) == (structure.num_edges > 0)
    return cuda_attention(structure, scores, norm, **options)


def run_torch(kind, structure, leaves, mask=None):
    """The same by the torch backend, the attention weights multiplied by ``mask`` (E, H)."""
    scores, norm = kind.build(leaves)
    ops = TorchOps(structure.to(scores.value.device))
    e = scores.compute(ops)
    weights = ops.edge_softmax(e if norm is None else norm(e, scores, ops))
    return ops.u_mul_e_sum(scores.value, weights if mask is None else weights * mask)


def gradients(out, leaves):
    readout = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view_as(out)
    readout = readout.to(out.device, out.dtype)
    return torch.autograd.grad(out, list(leaves.values()), readout, materialize_grads=True)


def check(kind, structure, leaves, tolerance, mask=None, **options):
    """Output and gradients against the torch backend in float64, relative to the largest."""
    out = run(kind, structure, leaves, **options)
    exact_leaves = {k: leaf.detach().double().requires_grad_() for k, leaf in leaves.items()}
    exact = run_torch(kind, structure, exact_leaves, mask)
    assert out.dtype == leaves["v"].dtype
    assert_close(out.double(), exact, rtol=0, atol=tolerance * max(1, exact.abs().max().item()))
    pairs = zip(leaves, gradients(out, leaves), gradients(exact, exact_leaves))
    for name, got, wanted in pairs:
        size = max(1.0, wanted.abs().max().item())
        assert_close(
            got.double(),
            wanted,
            rtol=0,
            atol=tolerance * size,
            msg=lambda message, name=name: f"{name}: {message}",
        )
    return out


@ALL_KINDS
@pytest.mark.parametrize("graph_name", sorted(GRAPHS.keys() - {"homogeneous", "int32", "star"}))
def test_output_and_gradients(graph_name, kind, device):
    graph = GRAPHS[graph_name]()
    leaves = kind.leaves(graph, graph_name)
    out = check(kind, as_structure(graph), to(leaves, device), 1e-11)
    wanted = kind.expect(graph, leaves)[2]
    np.testing.assert_allclose(out.detach().cpu(), wanted, rtol=1e-11, atol=1e-11)


@ALL_KINDS
def test_int32_graphs(kind, device):
    leaves = to(kind.leaves(multigraph()), device)
    check(kind, as_structure(multigraph().int()), leaves, 1e-11)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    # Half precision: the results are rounded, and nothing before them.
    [(torch.float32, 1e-5), (torch.bfloat16, 2**-8), (torch.float16, 2**-11)],
    ids=lambda x: str(x).split(".")[-1],
)
@ALL_KINDS
def test_dtypes(kind, dtype, tolerance, device):
    graph = GRAPHS["block"]()
    check(kind, as_structure(graph), to(kind.leaves(graph, dtype=dtype), device), tolerance)


@pytest.mark.parametrize("name", NORMED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_zero_rows_have_no_gradient(name, dtype, device):
    """In ``directed``, all that node 3 hears is zero, and it is zero itself."""
    graph, kind = GRAPHS["zero_neighbourhood"](), KINDS[name]
    leaves = to(kind.leaves(graph, "zero_neighbourhood", dtype), device)
    out = run(kind, as_structure(graph), leaves)
    assert (out[3] == 0).all()
    for leaf, grad in zip(leaves, torch.autograd.grad(out[3].sum(), list(leaves.values()))):
        assert grad.isfinite().all()
        # Values are averaged, so they have a gradient; what scores them has none.
        assert leaf == "v" or (grad == 0).all(), leaf


@pytest.mark.parametrize(("heads", "width"), [(1, 1), (5, 3), (3, 70), (130, 1)])
@ONE_OF_EACH
def test_heads_and_features_beyond_the_blocks(kind, heads, width, device):
    """Nothing here is a power of two, and 70 features or 130 heads take several programs."""
    structure = as_structure(multigraph())
    torch.manual_seed(0)
    shapes = {key: len(leaf) for key, leaf in kind.leaves(multigraph()).items()}
    leaves = {key: torch.randn(rows, heads, width).double() for key, rows in shapes.items()}
    check(kind, structure, to(leaves, device), 1e-10)


@ONE_OF_EACH
def test_rows_that_do_not_lie_together(kind, device):
    """A model hands over views; so does a readout that is summed."""
    structure = as_structure(multigraph())
    leaves = to(kind.leaves(multigraph()), device)
    wanted = torch.autograd.grad(run(kind, structure, leaves).sum(), list(leaves.values()))
    views = {key: leaf.transpose(0, 2).contiguous().transpose(0, 2) for key, leaf in leaves.items()}
    assert not views["v"].is_contiguous()
    got = torch.autograd.grad(run(kind, structure, views).sum(), list(leaves.values()))
    for one, other in zip(got, wanted):
        assert_close(
            one, other, rtol=1e-13, atol=1e-14
        )  # PyTorch's sums over views round otherwise


# --- Stacks of models ----------------------------------------------------------------------------


def _stacked(attend, kind, structure, leaves):
    """``attend`` of several models at once; what one lacks, all share."""
    in_dims = [None if name == "attn_r" else 0 for name in leaves]

    def one(*tensors):
        scores, norm = kind.build(dict(zip(leaves, tensors)))
        return attend(structure, scores, norm)

    return torch.func.vmap(one, in_dims=tuple(in_dims))(*leaves.values())


@ALL_KINDS
def test_a_stack_of_models_is_one_layer_of_more_heads(kind, device):
    """Inside of ``vmap``; attn_r is the same tensor in all of them."""
    structure = as_structure(multigraph())
    leaves = {}
    for name, leaf in kind.leaves(multigraph()).items():
        torch.manual_seed(len(name))
        copies = leaf.detach() * torch.rand(3, *leaf.shape, dtype=torch.float64)
        leaves[name] = (copies[0] if name == "attn_r" else copies).to(device).requires_grad_()
    shares_heads = kind.norm.get("per_head") is False
    if shares_heads:
        _, norm = kind.build(leaves)
        assert not suits_together(kind.build(kind.leaves(multigraph()))[0], norm, structure)
        return
    out = _stacked(cuda_attention_together, kind, structure, leaves)
    structure = structure.to(device)
    exact = _stacked(
        lambda s, scores, norm: graph_attention(s, scores, score_norm=norm, backend="torch")[0],
        kind,
        structure,
        leaves,
    )
    assert_close(out, exact, rtol=1e-11, atol=1e-12)
    for got, wanted in zip(gradients(out, leaves), gradients(exact, leaves)):
        assert_close(got, wanted, rtol=1e-10, atol=1e-11)


# --- Hubs ----------------------------------------------------------------------------------------


def cut(graph, size, monkeypatch):
    """The structure of ``graph``, not from the cache, in segments of ``size`` edges."""
    monkeypatch.setattr(cuda_index, "SEGMENT", size)
    whole = as_structure(graph)
    return Structure(whole.src, whole.dst, whole.num_src, whole.num_dst)


@pytest.mark.parametrize("size", [1, 3])
def test_segments_hold_each_edge_once(size, device, monkeypatch):
    structure = cut(GRAPHS["star"](), size, monkeypatch).to(device)
    index = cuda_index.cuda_index(structure)
    for segments, own, other in (
        (index.in_edges, structure.dst, structure.src),
        (index.out_edges, structure.src, structure.dst),
    ):
        length = segments.end - segments.begin
        assert length.max() == size
        assert segments.hubs.tolist() == [0]
        first, last = segments.parts.tolist()
        assert (first, last) == (21, len(length))
        assert segments.node.tolist() == [*range(21), *[0] * (last - first)]
        at = [
            p for b, e in zip(segments.begin.tolist(), segments.end.tolist()) for p in range(b, e)
        ]
        assert sorted(at) == list(range(40))
        edge = segments.edge[at].long()
        assert torch.equal(own[edge], segments.node.repeat_interleave(length).long())
        assert torch.equal(other[edge], segments.other[at].long())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=["float64", "bfloat16"])
@ALL_KINDS
def test_segments_are_brought_together(kind, dtype, device, monkeypatch):
    structure = cut(multigraph(), 1, monkeypatch)
    leaves = to(kind.leaves(multigraph(), dtype=dtype), device)
    check(kind, structure, leaves, 1e-11 if dtype == torch.float64 else 2**-8)


@pytest.mark.parametrize("is_out", [False, True], ids=["in-edges", "out-edges"])
def test_a_hub_whose_edges_several_programs_share(is_out, device):
    number, kind = 2100, KINDS["gat_lip"]
    torch.manual_seed(0)
    # To few leaves: a program a node would be slow to interpret.
    ends = [torch.randint(4, (number,)), torch.zeros(number, dtype=torch.int64)]
    structure = Structure(*(ends[::-1] if is_out else ends), 4, 4)
    leaves = kind.leaves(GRAPHS["no_edges"](), dtype=torch.float32)
    check(kind, structure, to(leaves, device), 1e-5)
    index = cuda_index.cuda_index(structure.to(device))
    segments = index.out_edges if is_out else index.in_edges
    assert segments.hubs.tolist() == [0]
    assert segments.parts.tolist() == [4, 8]


@ALL_KINDS
def test_ties_go_to_the_first_in_edge(kind, device, monkeypatch):
    """Also where the edges that tie lie in different segments."""
    leaves = to(kind.leaves(multigraph()), device)
    with torch.no_grad():
        for name in {"v", "k"} & leaves.keys():
            leaves[name][:] = leaves[name][:1]
    for size in (512, 1):
        check(kind, cut(multigraph(), size, monkeypatch), leaves, 1e-11)


@pytest.mark.parametrize("kind_name", ["gat_lip", "dot_lip"])
def test_ties_of_edges_in_different_blocks(kind_name, device):
    kind, structure = KINDS[kind_name], Structure(torch.arange(40), torch.zeros(40).long(), 40, 1)
    torch.manual_seed(0)
    leaves = {
        key: torch.randn(len(leaf), HEADS, WIDTH).double().requires_grad_()
        for key, leaf in kind.leaves(multigraph()).items()
    }
    for name in leaves.keys() & {"v", "k"}:
        signs = torch.randint(2, (40, HEADS, WIDTH)) * 2 - 1
        leaves[name] = leaves[name].detach()[:1].abs() * signs  # of one length, each different
    if "q" in leaves:
        leaves["q"] = leaves["q"].detach()[:1]
    check(kind, structure, to(leaves, device), 1e-11)


# --- Dropout -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])  # seeds with and without the highest bit
@ALL_KINDS
def test_dropout(kind, seed, device):
    structure = as_structure(multigraph())
    leaves = to(kind.leaves(multigraph()), device)
    torch.manual_seed(seed)
    mask = draw_mask(0.4, structure.num_edges, HEADS)
    assert 0 < (mask == 0).sum() < mask.numel()
    torch.manual_seed(seed)
    check(kind, structure, leaves, 1e-11, mask.to(device), attn_drop=0.4)


@ONE_OF_EACH
def test_dropout_over_several_segments(kind, device, monkeypatch):
    structure = cut(multigraph(), 1, monkeypatch)
    leaves = to(kind.leaves(multigraph(), dtype=torch.float32), device)
    torch.manual_seed(5)
    mask = draw_mask(0.7, structure.num_edges, HEADS)
    torch.manual_seed(5)
    check(kind, structure, leaves, 1e-5, mask.to(device), attn_drop=0.7)


def test_a_seed_gives_the_same_mask_as_on_the_cpu(device):
    structure, kind = as_structure(homogeneous()), KINDS["gat_lip"]
    leaves = kind.leaves(homogeneous(), dtype=torch.float32)
    torch.manual_seed(1)
    scores, norm = kind.build(leaves)
    cpu, _ = graph_attention(structure, scores, score_norm=norm, attn_drop=0.6, backend="fused")
    torch.manual_seed(1)
    assert_close(run(kind, structure, to(leaves, device), attn_drop=0.6).cpu(), cpu)


# --- Derivatives ---------------------------------------------------------------------------------


@ONE_OF_EACH
def test_gradcheck(kind, device):
    """With dropout: the backward pass draws the mask of the forward pass again."""
    leaves = to(kind.leaves(multigraph()), device)

    def output(*tensors):
        torch.manual_seed(7)
        leaves_now = dict(zip(leaves, tensors))
        return run(kind, as_structure(multigraph()), leaves_now, attn_drop=0.4)

    assert torch.autograd.gradcheck(output, tuple(leaves.values()), fast_mode=True)


@ALL_KINDS
@pytest.mark.parametrize("graph_name", ["multigraph", "zero_neighbourhood"])
def test_second_derivatives(graph_name, kind, device):
    """With the mask of the forward pass; also where no gradient comes in that needs one."""
    graph = GRAPHS[graph_name]()
    structure, leaves = as_structure(graph), to(kind.leaves(graph, graph_name), device)
    inputs, results = list(leaves.values()), []
    for attend in (run, run_torch):
        torch.manual_seed(3)
        mask = draw_mask(0.4, structure.num_edges, HEADS).to(device)
        torch.manual_seed(3)
        options = {"attn_drop": 0.4} if attend is run else {"mask": mask}
        out = attend(kind, structure, leaves, **options)
        first = torch.autograd.grad(out.sum(), inputs, create_graph=True, materialize_grads=True)
        size = sum(g.square().sum() for g in first)
        results.append([*first, *torch.autograd.grad(size, inputs, materialize_grads=True)])
    for ours, theirs in zip(*results):
        assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("power", [-30, -19, 4, 19, 25])
@pytest.mark.parametrize("name", ["gat", "gat_lip", "gatv2", "gatv2_lip", "dot"])
def test_features_of_any_size(name, power, device):
    """Output and gradients are as good as the torch backend's, and finite where those are."""
    graph, kind = GRAPHS["homogeneous"](), KINDS[name]
    structure = as_structure(graph)
    leaves = kind.leaves(graph, dtype=torch.float32)
    for key, leaf in leaves.items():
        if not key.startswith("attn"):
            leaf.data *= 10.0**power

    def compute(attend, dtype):
        own = {
            key: leaf.detach().to(device, dtype).requires_grad_() for key, leaf in leaves.items()
        }
        out = attend(kind, structure, own)
        return [out.detach(), *gradients(out, own)]

    exact = compute(run_torch, torch.float64)
    found, usual = compute(run, torch.float32), compute(run_torch, torch.float32)
    for ours, theirs, right in zip(found, usual, exact):
        size = right.abs().max().clamp(min=1e-300)
        error, reference = ((x.double() - right).abs().max() / size for x in (ours, theirs))
        if theirs.isfinite().all():
            assert error <= 4 * reference + 1e-5


@ALL_KINDS
def test_nothing_of_the_size_of_the_edges_survives(kind, device):
    nodes, number = 3, 200
    torch.manual_seed(0)
    structure = Structure(*torch.randint(nodes, (2, number)), nodes, nodes)
    leaves = to(kind.leaves(multigraph(), dtype=torch.float32), device)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, id):
        run(kind, structure, leaves, attn_drop=0.1)
    assert saved
    assert max(saved) <= nodes * HEADS * WIDTH < number


@ONE_OF_EACH
def test_runs_are_the_same_to_the_last_bit(kind, device):
    structure = as_structure(GRAPHS["directed"]())
    leaves = to(kind.leaves(GRAPHS["directed"](), dtype=torch.float32), device)
    one, two = (gradients(run(kind, structure, leaves), leaves) for _ in range(2))
    assert all(map(torch.equal, one, two))


# --- Values that break things --------------------------------------------------------------------


@pytest.mark.parametrize("kind", [KINDS["gat"], KINDS["gat_lip"], KINDS["gatv2"], KINDS["dot"]])
def test_huge_scores_do_not_overflow(kind, device):
    structure = Structure(torch.tensor([1, 2]), torch.tensor([0, 0]), 3, 3)
    leaves = kind.leaves(multigraph(), dtype=torch.float32)
    with torch.no_grad():
        leaves["v"][:] = torch.tensor([1e4, 1.0, 2.0]).view(3, 1, 1)
        for name in leaves.keys() & {"attn", "attn_l", "attn_r", "k"}:
            leaves[name][:] = 1
        for name in leaves.keys() & {"q", "t"}:
            leaves[name][:] = 1e4
    out = run(kind, structure, to(leaves, device))
    assert_close(out.cpu(), run_torch(kind, structure, leaves))


@pytest.mark.parametrize("kind_name", ["gat", "gat_lip", "gatv2", "gatv2_lip", "dot"])
def test_nan_shows(kind_name, device):
    structure, kind = as_structure(multigraph()), KINDS[kind_name]
    leaves = to(kind.leaves(multigraph(), dtype=torch.float32), device)
    with torch.no_grad():
        leaves["v"][int(structure.src[0])] = torch.nan
    out = run(kind, structure, leaves)
    assert out[int(structure.dst[0])].isnan().all()


# --- Where it applies ----------------------------------------------------------------------------


class OwnNorm(LipschitzNorm):
    """Somebody's own."""


@ALL_KINDS
def test_suits(kind, device):
    structure = as_structure(multigraph())
    leaves = to(kind.leaves(multigraph()), device)
    scores, norm = kind.build(leaves)
    assert is_covered(scores, norm, structure)
    assert suits_cuda(scores, norm, structure) == HAS_GPU


def test_what_it_does_not_compute(device):
    structure = as_structure(multigraph())
    v, a = torch.randn(3, HEADS, WIDTH, device=device), torch.randn(1, HEADS, WIDTH, device=device)
    scores = AdditiveScores(v, v, a, a)
    assert is_covered(scores, None, structure)
    assert not is_covered(scores, OwnNorm(), structure)
    assert not is_covered(scores, DotProductLipschitzNorm(), structure)
    no_edges = Structure(torch.arange(0), torch.arange(0), 3, 3)
    assert not is_covered(scores, None, no_edges)
    many = v.unsqueeze(1)
    assert not is_covered(dataclasses.replace(scores, v_src=many), None, structure)
    wide = torch.randn(3, HEADS, 7, device=device)
    assert not is_covered(DotProductScores(v, v, wide), None, structure)

    class OwnScores(AdditiveScores):
        pass

    assert not is_covered(OwnScores(v, v, a, a), None, structure)


def test_importing_lipzoo_does_not_import_triton(device):
    program = "import sys, lipzoo, lipzoo.attention.fused.cuda; sys.exit('triton' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
