"""Both backends against the reference, against each other, and their derivatives."""

import numpy as np
import pytest
import torch
from graph_zoo import GRAPHS, homogeneous, multigraph
from kinds import HEADS, KINDS, NORMED, WIDTH, Kind
from torch.testing import assert_close

from lipzoo.attention import AdditiveScores, Structure, as_structure, graph_attention

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda d: str(d).split(".")[1])
BACKENDS = pytest.mark.parametrize("backend", ["dgl", "torch"])
ALL_KINDS = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
ALL_GRAPHS = pytest.mark.parametrize("graph_name", GRAPHS)


@pytest.mark.many
@BACKENDS
@DTYPES
@ALL_KINDS
@ALL_GRAPHS
def test_equals_the_reference(graph_name, kind, dtype, backend):
    graph = GRAPHS[graph_name]()
    leaves = kind.leaves(graph, graph_name, dtype)
    for got, wanted in zip(kind.attend(graph, leaves, backend), kind.expect(graph, leaves)):
        assert got.dtype == dtype
        assert got.shape == wanted.shape
        tolerance = TOLERANCE[dtype]
        np.testing.assert_allclose(got.detach(), wanted, rtol=tolerance, atol=tolerance)


def gradients(kind, graph, leaves, backend):
    _, weights, out = kind.attend(graph, leaves, backend)
    # A plain sum would hide errors of the softmax, whose rows sum to 1.
    readout = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
    total = (out * readout).sum() + (weights * torch.arange(weights.numel()).view_as(weights)).sum()
    return torch.autograd.grad(total, list(leaves.values()), materialize_grads=True)


@pytest.mark.many
@DTYPES
@ALL_KINDS
@ALL_GRAPHS
def test_backends_have_the_same_gradients(graph_name, kind, dtype):
    graph = GRAPHS[graph_name]()
    leaves = kind.leaves(graph, graph_name, dtype)
    by_dgl = gradients(kind, graph, leaves, "dgl")
    by_torch = gradients(kind, graph, leaves, "torch")
    for name, a, b in zip(leaves, by_dgl, by_torch):
        assert a.isfinite().all(), name
        # Gradients of a hub add up 20 terms: compare with their size.
        tolerance = TOLERANCE[dtype] * max(1.0, float(a.abs().max()))
        assert_close(a, b, rtol=0, atol=tolerance, msg=lambda m, name=name: f"{name}: {m}")


@ALL_KINDS
def test_backends_have_the_same_gradients_where_rows_tie(kind):
    """Identical rows all attain the neighbourhood maximum; its gradient must not be split.

    In float64: DGL's float32 kernel settles ties in another way (test_ops).
    """
    graph = multigraph()
    leaves = kind.leaves(graph)
    with torch.no_grad():
        for name in {"v", "k"} & leaves.keys():
            leaves[name][:] = leaves[name][:1]
    by_dgl = gradients(kind, graph, leaves, "dgl")
    for a, b in zip(by_dgl, gradients(kind, graph, leaves, "torch")):
        assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.many
@BACKENDS
@ALL_KINDS
@pytest.mark.parametrize("graph_name", ["homogeneous", "multigraph", "block"])
def test_gradcheck(graph_name, kind, backend):
    graph = GRAPHS[graph_name]()
    leaves = kind.leaves(graph, graph_name)

    def output(*tensors):
        return kind.attend(graph, dict(zip(leaves, tensors)), backend)[1:]

    assert torch.autograd.gradcheck(output, tuple(leaves.values()), fast_mode=True)


@ALL_KINDS
@pytest.mark.parametrize("graph_name", ["homogeneous", "multigraph", "zero_neighbourhood"])
@pytest.mark.parametrize("backend", ["torch", "dgl", "auto"])
def test_gradgradcheck(graph_name, kind, backend):
    """DGL's own ``edge_softmax`` has no second derivative."""
    graph = GRAPHS[graph_name]()
    # Zero rows sit on the kink of the norm, where there is no numerical derivative to compare.
    leaves = kind.leaves(graph)

    def output(*tensors):
        return kind.attend(graph, dict(zip(leaves, tensors)), backend)[2]

    assert torch.autograd.gradgradcheck(output, tuple(leaves.values()), fast_mode=True)


@pytest.mark.many
@ALL_KINDS
def test_torch_func_transforms(kind):
    """``auto`` must not lead into DGL's kernels under ``torch.func``."""
    graph = homogeneous()
    leaves = {key: leaf.detach() for key, leaf in kind.leaves(graph).items()}
    v = leaves.pop("v")

    def output(v, backend="auto"):
        return kind.attend(graph, {"v": v, **leaves}, backend)[2]

    jacobian = torch.autograd.functional.jacobian(lambda v: output(v, "dgl"), v)
    assert_close(torch.func.jacrev(output)(v), jacobian)
    assert_close(torch.func.jacfwd(output)(v), jacobian)
    tangent = torch.linspace(-1, 1, v.numel(), dtype=v.dtype).view_as(v)
    value, moved = torch.func.jvp(output, (v,), (tangent,))
    assert_close(value, output(v, "dgl"))
    assert_close(moved, torch.tensordot(jacobian, tangent, 3))
    value, pull = torch.func.vjp(output, v)
    assert_close(pull(value)[0], torch.tensordot(value, jacobian, 3))
    many = torch.stack([v, 2 * v, v.flip(0)])
    assert_close(torch.func.vmap(output)(many), torch.stack([output(each) for each in many]))


@pytest.mark.parametrize(
    ("backend", "dtype"),
    [
        ("dgl", torch.float32),
        ("dgl", torch.float64),
        ("torch", torch.float32),
        ("torch", torch.float64),
        ("torch", torch.bfloat16),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", [KINDS[name] for name in NORMED], ids=NORMED)
@pytest.mark.parametrize("graph_name", ["zero_rows", "zero_neighbourhood"])
def test_zero_rows(graph_name, kind, backend, dtype):
    graph = GRAPHS[graph_name]()
    leaves = kind.leaves(graph, graph_name, dtype)
    scores, weights, out = kind.attend(graph, leaves, backend)
    assert scores.isfinite().all()
    grads = torch.autograd.grad(
        out.square().sum() + weights.square().sum() + scores.sum(), list(leaves.values())
    )
    assert all(grad.isfinite().all() for grad in grads)


@BACKENDS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("kind", [KINDS[name] for name in NORMED], ids=NORMED)
def test_score_and_gradient_of_a_zero_neighbourhood_are_exactly_zero(kind, dtype, backend):
    graph = GRAPHS["zero_neighbourhood"]()
    leaves = kind.leaves(graph, "zero_neighbourhood", dtype)
    scores, weights, _ = kind.attend(graph, leaves, backend)
    heard_by_3 = graph.in_edges(3, form="eid")
    assert (scores[heard_by_3] == 0).all()
    assert (weights[heard_by_3] == 0.5).all()
    grads = torch.autograd.grad(scores[heard_by_3].sum(), list(leaves.values()))
    assert all((grad == 0).all() for grad in grads)


@pytest.mark.parametrize("kind", [KINDS[name] for name in NORMED], ids=NORMED)
def test_all_zero_features_give_uniform_attention(kind):
    graph = homogeneous()
    leaves = {key: torch.zeros_like(leaf) for key, leaf in kind.leaves(graph).items()}
    _, weights, out = kind.attend(graph, leaves, "torch")
    uniform = 1 / graph.in_degrees()[graph.edges()[1]].double()
    assert_close(weights, uniform.unsqueeze(1).expand(-1, HEADS))
    assert (out == 0).all()


@BACKENDS
@ALL_KINDS
@ALL_GRAPHS
def test_attention_of_a_node_sums_to_one(graph_name, kind, backend):
    graph = GRAPHS[graph_name]()
    _, weights, out = kind.attend(graph, kind.leaves(graph, graph_name), backend)
    total = torch.zeros(graph.num_dst_nodes(), HEADS, dtype=torch.float64)
    total = total.index_add(0, graph.edges(order="eid")[1].long(), weights)
    heard = (graph.in_degrees() > 0).double().unsqueeze(1).expand(-1, HEADS)
    assert_close(total, heard)
    assert (out[graph.in_degrees() == 0] == 0).all()


@BACKENDS
@ALL_KINDS
def test_nodes_and_edges_have_no_order(kind, backend):
    """Renaming nodes and reordering edges renames and reorders the result, and nothing else."""
    src, dst = multigraph().edges()
    leaves = kind.leaves(multigraph())
    rename, order = torch.tensor([2, 0, 1]), torch.tensor([5, 3, 0, 7, 1, 2, 6, 4])
    nodes = torch.argsort(rename)
    plain, other = (
        Structure(src, dst, 3, 3),
        Structure(rename[src][order], rename[dst][order], 3, 3),
    )
    permuted = {k: t[nodes] if len(t) == 3 else t for k, t in leaves.items()}
    results = []
    for structure, tensors in ((plain, leaves), (other, permuted)):
        scores, norm = kind.build(tensors)
        common = {"score_norm": norm, "backend": backend, "need_weights": True}
        results.append(graph_attention(structure, scores, **common))
    (out, weights), (other_out, other_weights) = results
    assert_close(other_out, out[nodes])
    assert_close(other_weights, weights[order])


@BACKENDS
def test_edge_weight_multiplies_the_attention(backend):
    kind, graph = KINDS["gat"], multigraph()
    leaves = kind.leaves(graph)
    scores, _ = kind.build(leaves)
    factor = torch.arange(8, dtype=torch.float64)
    common = {"backend": backend, "need_weights": True}
    _, weights = graph_attention(as_structure(graph), scores, **common)
    out, weighted = graph_attention(as_structure(graph), scores, edge_weight=factor, **common)
    assert_close(weighted, weights * factor.unsqueeze(1))
    by_hand = torch.zeros_like(out).index_add(
        0, graph.edges()[1], scores.value[graph.edges()[0]] * weighted.unsqueeze(2)
    )
    assert_close(out, by_hand)


@BACKENDS
def test_attention_dropout(backend):
    """Weights are dropped after the softmax; the rest grow so that the mean stays."""
    leaves_in = 4000
    src, dst = torch.arange(leaves_in), torch.zeros(leaves_in, dtype=torch.long)
    structure = Structure(src, dst, leaves_in, 1, is_bipartite=True)
    value = torch.ones(leaves_in, 1, 1)
    scores = AdditiveScores(value, value[:1], torch.zeros(1, 1, 1), torch.zeros(1, 1, 1))

    def attend(seed):
        torch.manual_seed(seed)
        common = {"backend": backend, "need_weights": True}
        return graph_attention(structure, scores, attn_drop=0.25, **common)

    out, weights = attend(0)
    assert (weights == 0).double().mean().item() == pytest.approx(0.25, abs=0.03)
    assert weights[weights > 0].unique().item() == pytest.approx(1 / (0.75 * leaves_in))
    assert out.item() == pytest.approx(1.0, abs=0.05)
    assert torch.equal(weights, attend(0)[1])
    assert not torch.equal(weights, attend(1)[1])


@BACKENDS
def test_extra_feature_dimensions(backend):
    """(N, *, H, D): each slice is attended to on its own."""
    kind, graph = Kind("additive", {"alpha": 0.5}), homogeneous()
    slices = [kind.leaves(graph, seed=seed) for seed in (1, 2)]
    shared = {key: slices[0][key] for key in ("attn_l", "attn_r")}
    stacked = {"v": torch.stack([leaves["v"] for leaves in slices], 1), **shared}
    scores, weights, out = kind.attend(graph, stacked, backend)
    assert out.shape == (10, 2, HEADS, WIDTH)
    assert scores.shape == weights.shape == (graph.num_edges(), 2, HEADS)
    for index, leaves in enumerate(slices):
        wanted = kind.attend(graph, {"v": leaves["v"], **shared}, backend)
        for got, one in zip((scores, weights, out), wanted):
            assert_close(got[:, index], one)
