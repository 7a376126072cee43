"""LipschitzNorm for dot products within the CPU's operator."""

import pytest
import torch
from graph_zoo import homogeneous
from torch.testing import assert_close

from lipzoo.attention import DotProductLipschitzNorm, DotProductScores, as_structure
from lipzoo.attention import graph_attention as attend

HEADS, WIDTH = 2, 5


def drawn(structure, sizes):
    """Queries, keys and values of these sizes, in float64."""
    random = torch.Generator().manual_seed(0)
    shape = structure.num_src, HEADS, WIDTH
    return [s * torch.randn(shape, generator=random, dtype=torch.float64) for s in sizes]


def gradients(structure, rows, backend, dtype):
    """The output and the gradients of queries, keys and values."""
    leaves = [x.to(dtype).requires_grad_() for x in rows]
    out, _ = attend(
        structure,
        DotProductScores(*leaves),
        score_norm=DotProductLipschitzNorm(),
        backend=backend,
    )
    readout = torch.linspace(-1, 1, out.numel(), dtype=dtype).view_as(out)
    return [out, *torch.autograd.grad(out, leaves, readout)]


@pytest.mark.parametrize(
    "sizes",
    [(1, 1, 1), (1e15, 1e-15, 1), (1e-12, 1e12, 1), (1e-17, 1e-17, 1e-17), (1e17, 1e17, 1e17)],
    ids=str,
)
def test_rows_of_any_size_in_float32(sizes):
    """Each gradient is as exact as its own size allows, be it 1e-15 or 1e15."""
    structure = as_structure(homogeneous())
    rows = drawn(structure, sizes)
    exact = gradients(structure, rows, "torch", torch.float64)
    for found, right in zip(gradients(structure, rows, "fused", torch.float32), exact):
        size = right.abs().max()
        assert_close(found.double() / size, right / size, rtol=0, atol=2e-6)


def test_nodes_that_have_no_divisor_score_nothing():
    structure = as_structure(homogeneous())
    rows = drawn(structure, (0, 1, 0))  # no queries, no values: max(uv, uw, vw) = 0
    out, d_query, d_key, d_value = gradients(structure, rows, "fused", torch.float32)
    assert not any(x.any() for x in (out, d_query, d_key))
    assert d_value.isfinite().all()
    assert d_value.any()


def test_nothing_but_the_rows_is_kept():
    """For the backward pass: no scaled copies of queries and keys."""
    structure = as_structure(homogeneous())
    leaves = [x.requires_grad_() for x in drawn(structure, (1, 1, 1))]
    kept = {}

    def pack(x):
        kept[x.untyped_storage().data_ptr()] = x.numel()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        attend(
            structure,
            DotProductScores(*leaves),
            score_norm=DotProductLipschitzNorm(),
            backend="fused",
        )
    a_head = 4 * WIDTH + 2  # of q, k, v and the output; two numbers of the softmax
    assert sum(kept.values()) == structure.num_src * HEADS * a_head
