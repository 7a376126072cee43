"""Rows of any number of heads of any width: the kernels' sums, products and lengths."""

import numpy as np
import pytest
import torch

from lipzoo.attention import AdditiveScores, LipschitzNorm, Structure, graph_attention
from lipzoo.attention.fused.index import NUM_CHUNKS
from lipzoo.attention.fused.runtime import kernels_for

#: Below a register, whole registers, what no power of two divides, and more than is written out.
SHAPES = [(1, 1), (8, 4), (3, 5), (5, 2), (2, 20), (1, 7), (12, 12), (33, 3), (1, 600), (16, 48)]
NODES = 70


def random(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(("heads", "width"), SHAPES)
def test_products_lengths_and_sums(heads, width):
    kernels = kernels_for("additive", torch.float32, heads, width)
    rng = np.random.default_rng(heads * 1000 + width)
    v, a = random(rng, NODES, heads * width), random(rng, 1, heads * width)
    wide = v.reshape(NODES, heads, width).astype(np.float64)
    attn = a.reshape(heads, width).astype(np.float64)
    found = np.zeros((NODES, 2 * heads), np.float32)
    kernels.row_products(0, NUM_CHUNKS, v, a, found, heads)
    kernels.lengths(0, NUM_CHUNKS, v, found, 0)
    np.testing.assert_allclose(found[:, heads:], (wide * attn).sum(-1), rtol=0, atol=1e-4)
    np.testing.assert_allclose(found[:, :heads], np.linalg.norm(wide, axis=-1), rtol=1e-6)
    d = random(rng, NODES, heads)
    v[3], found[3, :heads] = 0, 0
    d_v = np.zeros_like(v)
    kernels.add_from_lengths(0, NUM_CHUNKS, v, found, d, 0, 0, d_v)
    wide = v.reshape(NODES, heads, width).astype(np.float64)
    size = np.linalg.norm(wide, axis=-1, keepdims=True)
    wanted = (wide / np.where(size > 0, size, 1) * d[:, :, None]).reshape(NODES, -1)
    np.testing.assert_allclose(d_v, wanted, rtol=0, atol=1e-5)
    d_v, d_a = np.zeros_like(v), np.zeros((NUM_CHUNKS, heads * width), np.float32)
    kernels.combine(0, NUM_CHUNKS, v, d, 0, a, d_v, d_a)
    wanted = (d[:, :, None] * attn).reshape(NODES, -1)
    np.testing.assert_allclose(d_v, wanted, rtol=1e-6)
    wanted = (d[:, :, None].astype(np.float64) * wide).sum(0).reshape(-1)
    np.testing.assert_allclose(d_a.sum(0), wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("heads", "width"), SHAPES)
def test_lengths_of_any_size(heads, width):
    """Squares of 1e25 and 1e-30 are no float32; 0 is 0, and what is no number shows."""
    kernels = kernels_for("additive", torch.float32, heads, width)
    v = random(np.random.default_rng(0), 5, heads * width)
    sizes = np.array([1e25, 1e-30, 0, 1, np.nan])
    v *= sizes.astype(np.float32)[:, None]
    found = np.zeros((5, heads), np.float32)
    kernels.lengths(0, NUM_CHUNKS, v, found, 0)
    wanted = np.linalg.norm(v.reshape(5, heads, width).astype(np.float64), axis=-1)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("in_degree", [1, 3, 4, 5, 8, 9, 255, 257, 700])
def test_any_number_of_in_edges(in_degree):
    """Scores of several edges are computed together: what is behind the last is left out."""
    num_nodes = 800
    rng = torch.Generator().manual_seed(in_degree)
    src = torch.randint(num_nodes, (3 * in_degree,), generator=rng)
    structure = Structure(src, torch.arange(3).repeat(in_degree), num_nodes, num_nodes)
    v, a, b = (torch.randn(n, 8, 4, generator=rng) for n in (num_nodes, 1, 1))
    found = []
    for backend, dtype in (("fused", torch.float32), ("torch", torch.float64)):
        leaves = [x.to(dtype).requires_grad_() for x in (v, a, b)]
        scores = AdditiveScores(leaves[0], None, *leaves[1:])
        out, _ = graph_attention(structure, scores, score_norm=LipschitzNorm(), backend=backend)
        readout = torch.linspace(-1, 1, out.numel(), dtype=dtype).view_as(out)
        found.append([out.detach(), *torch.autograd.grad(out, leaves, readout)])
    for ours, right in zip(*found):
        assert (ours - right).abs().max() < 1e-5 * max(1, right.abs().max())
