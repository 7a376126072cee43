"""The fused kernels against the reference, the other backends, and what they promise."""

import os
import subprocess
import sys
from dataclasses import replace

import dgl
import numpy as np
import pytest
import torch
from graph_zoo import GRAPHS, homogeneous, multigraph
from kinds import HEADS, KINDS, WIDTH
from torch.testing import assert_close

from lipzoo.attention import (
    AdditiveScores,
    DotProductLipschitzNorm,
    DotProductScores,
    LipschitzNorm,
    Structure,
    as_structure,
)
from lipzoo.attention import graph_attention as attend
from lipzoo.attention.fused import suits_fused

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}
ALL_KINDS = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def run(kind, structure, leaves, backend="fused", **options):
    scores, norm = kind.build(leaves)
    return attend(structure, scores, score_norm=norm, backend=backend, **options)


@pytest.mark.many
@pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda d: str(d).split(".")[1])
@ALL_KINDS
@pytest.mark.parametrize("graph_name", GRAPHS)
def test_output_and_gradients(graph_name, kind, dtype):
    """Forward against the reference; gradients against the torch backend."""
    graph = GRAPHS[graph_name]()
    structure = as_structure(graph)
    leaves = kind.leaves(graph, graph_name, dtype)
    out, weights = run(kind, structure, leaves)
    assert weights is None
    tolerance = TOLERANCE[dtype]
    wanted = kind.expect(graph, leaves)[2]
    np.testing.assert_allclose(out.detach(), wanted, rtol=tolerance, atol=tolerance)
    readout = torch.linspace(-1, 1, out.numel(), dtype=dtype).view_as(out)
    other, _ = run(kind, structure, leaves, backend="torch")
    inputs = list(leaves.values())
    for name, got, torchs in zip(
        leaves,
        torch.autograd.grad(out, inputs, readout, materialize_grads=True),
        torch.autograd.grad(other, inputs, readout, materialize_grads=True),
    ):
        size = max(1.0, torchs.abs().max().item())
        assert_close(
            got, torchs, rtol=0, atol=tolerance * size, msg=lambda m, name=name: f"{name}: {m}"
        )


@pytest.mark.many
@ALL_KINDS
@pytest.mark.parametrize("graph_name", ["homogeneous", "multigraph", "block"])
def test_gradcheck(graph_name, kind):
    graph = GRAPHS[graph_name]()
    leaves = kind.leaves(graph, graph_name)

    def output(*tensors):
        return run(kind, as_structure(graph), dict(zip(leaves, tensors)))[0]

    assert torch.autograd.gradcheck(output, tuple(leaves.values()))


@pytest.mark.many
@ALL_KINDS
def test_gradcheck_with_dropout(kind):
    """The backward pass draws the mask of the forward pass again."""
    graph = multigraph()
    leaves = kind.leaves(graph)

    def output(*tensors):
        torch.manual_seed(7)
        return run(kind, as_structure(graph), dict(zip(leaves, tensors)), attn_drop=0.4)[0]

    assert torch.autograd.gradcheck(output, tuple(leaves.values()))


@pytest.mark.many
@ALL_KINDS
def test_ties_go_to_the_first_in_edge(kind):
    """And where a GATv2 destination is as long as its longest neighbour, half to each."""
    graph = multigraph()
    leaves = kind.leaves(graph)
    with torch.no_grad():
        for name in leaves:
            leaves[name][:] = leaves["v"][:1] if name == "t" else leaves[name][:1]
    grads = []
    for backend in ("fused", "torch"):
        out, _ = run(kind, as_structure(graph), leaves, backend)
        readout = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
        grads.append(
            torch.autograd.grad(out, list(leaves.values()), readout, materialize_grads=True)
        )
    for ours, theirs in zip(*grads):
        assert_close(ours, theirs, rtol=0, atol=1e-12)


def hub(num_leaves):
    """All nodes point at node 0, and each at itself."""
    nodes = torch.arange(num_leaves)
    return Structure(
        torch.cat([nodes, nodes[1:]]),
        torch.cat([torch.zeros_like(nodes), nodes[1:]]),
        num_leaves,
        num_leaves,
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gat", "gat_lip", "gatv2", "gatv2_lip", "dot", "dot_lip"])
def test_a_hub_with_a_hundred_thousand_in_edges(name):
    """Within 1e-5 of the largest entry, or where terms cancel, no further off than torch."""
    structure, kind = hub(100_000), KINDS[name]
    random = kind.leaves(dgl.graph(([], []), num_nodes=100_000), dtype=torch.float32)

    def compute(backend, dtype):
        leaves = {key: leaf.detach().to(dtype).requires_grad_() for key, leaf in random.items()}
        out, _ = run(kind, structure, leaves, backend)
        gradients = torch.autograd.grad(out[0].sum(), list(leaves.values()))
        return {"out": out.detach()} | dict(zip(leaves, gradients))

    exact = compute("torch", torch.float64)
    torchs = compute("torch", torch.float32)
    for key, value in compute("fused", torch.float32).items():
        size = exact[key].abs().max()
        ours, theirs = ((x - exact[key]).abs().max() / size for x in (value, torchs[key]))
        assert ours < max(1e-5, theirs), key


@pytest.mark.slow
def test_dropout_follows_the_seed_and_not_the_threads():
    structure, kind = hub(5000), KINDS["gat_lip"]
    torch.manual_seed(0)
    leaves = {
        "v": torch.randn(5000, HEADS, WIDTH),
        "attn_l": torch.randn(1, HEADS, WIDTH),
        "attn_r": torch.randn(1, HEADS, WIDTH),
    }

    def output(seed, threads):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        torch.manual_seed(seed)
        leaves["v"].requires_grad_()
        out, _ = run(kind, structure, leaves, attn_drop=0.3)
        grad = torch.autograd.grad(out.square().sum(), leaves["v"])[0]
        torch.set_num_threads(before)
        return out.detach(), grad

    for one, two in zip(output(3, 1), output(3, 2)):
        assert torch.equal(one, two)
    assert not torch.equal(output(3, 1)[0], output(4, 1)[0])


@pytest.mark.parametrize("rate", [1e-12, 2**-17, 0.1, 0.6, 0.9])
def test_dropout_drops_its_share_and_keeps_the_mean(rate):
    number = 20_000
    structure = Structure(torch.arange(number), torch.arange(number), number, number)
    value = torch.ones(number, HEADS, WIDTH)
    vectors = torch.zeros(1, HEADS, WIDTH)
    torch.manual_seed(0)
    out, _ = attend(
        structure,
        AdditiveScores(value, None, vectors, vectors),
        attn_drop=rate,
        backend="fused",
    )
    weights = out[:, :, 0]  # one edge a node: the output is the weight
    spread = (rate * (1 - rate) / weights.numel()) ** 0.5
    assert (weights == 0).double().mean().item() == pytest.approx(rate, abs=5 * spread)
    assert weights[weights > 0].unique().item() == pytest.approx(1 / (1 - rate))
    # Heads are dropped independently of each other.
    both = ((weights[:, 0] == 0) & (weights[:, 1] == 0)).double().mean().item()
    assert both == pytest.approx(rate**2, abs=5 * spread)


def test_a_large_alpha_does_not_overflow():
    """The score norm bounds scores by alpha, which may be too large for a softmax as it is."""
    structure = Structure(torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 1, 1]), 2, 2)
    value = torch.tensor([[[1.0] * WIDTH] * HEADS, [[-1.0] * WIDTH] * HEADS])
    vectors = torch.ones(1, HEADS, WIDTH)
    scores = AdditiveScores(value, None, vectors, vectors)
    fused, other = (
        attend(structure, scores, score_norm=LipschitzNorm(1e3), backend=backend)[0]
        for backend in ("fused", "torch")
    )
    assert_close(fused, other)


@pytest.mark.parametrize("kind_name", ["gat", "gat_lip"])
def test_huge_scores_do_not_overflow(kind_name):
    """Without self-loops the score norm does not bound the scores: the softmax is shifted."""
    structure = Structure(torch.tensor([1, 2]), torch.tensor([0, 0]), 3, 3)
    v = torch.tensor([1e4, 1.0, 2.0]).view(3, 1, 1).expand(3, HEADS, WIDTH).contiguous()
    leaves = {"v": v, "attn_l": torch.ones(1, HEADS, WIDTH), "attn_r": torch.ones(1, HEADS, WIDTH)}
    out, _ = run(KINDS[kind_name], structure, leaves)
    wanted, _ = run(KINDS[kind_name], structure, leaves, backend="torch")
    assert_close(out, wanted)


@ALL_KINDS
def test_nan_shows(kind):
    structure = as_structure(homogeneous())
    node = {"t": int(structure.dst[0]), "q": int(structure.dst[0])}
    for name in ("v", "t", "k", "q"):
        leaves = kind.leaves(homogeneous(), dtype=torch.float32)
        if name in leaves:
            with torch.no_grad():
                leaves[name][node.get(name, int(structure.src[0]))] = torch.nan
            out, _ = run(kind, structure, leaves)
            assert out[int(structure.dst[0])].isnan().all(), name


LAID = {
    "apart": lambda x: torch.stack([x, x + 1], -1)[..., 0],
    "transposed": lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),
    "one number": lambda x: x[:, :1, :1].expand_as(x),
}


@pytest.mark.parametrize("name", ["gat", "gat_lip", "gatv2", "gatv2_lip", "dot", "dot_lip"])
@pytest.mark.parametrize("lay", LAID.values(), ids=LAID)
def test_tensors_whose_numbers_do_not_lie_side_by_side(name, lay):
    """As slices of a parameter, or one that is expanded, do not."""
    structure, kind, found = as_structure(homogeneous()), KINDS[name], {}
    leaves = {key: lay(leaf.detach()) for key, leaf in kind.leaves(homogeneous()).items()}
    assert not any(leaf.is_contiguous() for leaf in leaves.values())
    for backend in ("fused", "torch"):
        inputs = {key: leaf.detach().requires_grad_() for key, leaf in leaves.items()}
        out, _ = run(kind, structure, inputs, backend)
        found[backend] = out, *torch.autograd.grad(out.square().sum(), [*inputs.values()])
    for ours, theirs in zip(found["fused"], found["torch"], strict=True):
        assert_close(ours, theirs)


def test_what_it_does_not_compute_goes_elsewhere():
    structure, kind = as_structure(homogeneous()), KINDS["gat_lip"]
    leaves = kind.leaves(homogeneous())
    seen = []
    hooked, _ = run(kind, structure, leaves, score_hook=lambda e: seen.append(e) or e)
    assert seen
    weighted, weights = run(kind, structure, leaves, need_weights=True)
    assert weights is not None
    plain, _ = run(kind, structure, leaves)
    assert_close(hooked, plain)
    assert_close(weighted, plain)
    scores, norm = kind.build(leaves)
    assert suits_fused(scores, norm, structure)
    assert not suits_fused(replace(scores, negative_slope=-0.1), norm, structure)
    wide = torch.randn(10, HEADS, 7, dtype=scores.value.dtype)
    assert not suits_fused(DotProductScores(scores.value, scores.value, wide), None, structure)
    assert not suits_fused(scores, DotProductLipschitzNorm(), structure)
    half = {name: leaf.half() for name, leaf in leaves.items()}
    scores, norm = kind.build(half)
    assert not suits_fused(scores, norm, structure)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["additive", "gatv2", "dot_product"])
def test_a_machine_compiles_a_kernel_once(kind, tmp_path):
    """The next process reads it from the disk, whatever a kernel closes over."""
    program = (
        "import sys, numpy as np, torch\n"
        "from lipzoo.attention import *\n"
        "from lipzoo.attention.fused.runtime import kernels_for\n"
        "s = Structure(torch.arange(9), torch.arange(9), 9, 9)\n"
        "v = torch.randn(9, 1, 2, requires_grad=True)\n"
        "scores, norm = {\n"
        "    'additive': (AdditiveScores(v, None, v[:1], v[:1]), LipschitzNorm()),\n"
        "    'gatv2': (GATv2Scores(v, v, v[:1]), LipschitzNorm()),\n"
        "    'dot_product': (DotProductScores(v, v, v), None),\n"
        "}[sys.argv[1]]\n"
        "graph_attention(s, scores, score_norm=norm, backend='fused')[0].sum().backward()\n"
        "flags = {'additive': (True, False), 'gatv2': (True,), 'dot_product': ()}[sys.argv[1]]\n"
        "kernels = vars(kernels_for(sys.argv[1], torch.float32, 1, 2, *flags)).values()\n"
        "print('scipy.linalg' in sys.modules)\n"
        "print(sum(sum(k.stats.cache_misses.values()) for k in kernels if hasattr(k, 'stats')))\n"
    )
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", program, kind]
    first, second = (
        subprocess.check_output(command, env=environment, text=True).split()[-2:] for _ in range(2)
    )
    assert int(first[1]) >= 3
    # What Numba needs to compile a kernel is not loaded to read one.
    assert second == ["False", "0"]


def test_importing_lipzoo_does_not_import_numba():
    program = "import sys, lipzoo; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_a_forked_child_survives():
    """A DataLoader's worker is one; GNU OpenMP's parallel kernels would end it."""
    program = (
        "import os, torch\n"
        "from lipzoo.attention import *\n"
        "s = Structure(torch.arange(9), torch.arange(9), 9, 9)\n"
        f"v, a = torch.randn(9, {HEADS}, {WIDTH}), torch.randn(1, {HEADS}, {WIDTH})\n"
        "run = lambda: graph_attention(s, AdditiveScores(v, None, a, a), backend='fused')[0]\n"
        "before = run()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os._exit(0 if torch.equal(run(), before) else 1)\n"
        "os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=300).returncode == 0
