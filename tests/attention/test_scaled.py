"""Attention vectors times the norm's scale, in NumPy, against PyTorch's operations."""

import pytest
import torch
from torch.testing import assert_close

from lipzoo.attention.fused.plain import scaled_vectors
from lipzoo.attention.fused.scaled import ScaledVectors


@pytest.mark.parametrize("size", [0.0, 1e-30, 1.0, 1e30])
@pytest.mark.parametrize("per_head", [True, False])
@pytest.mark.parametrize("number", [1, 2])
def test_values_and_gradients(size, per_head, number):
    random = torch.Generator().manual_seed(0)
    draws = torch.randn(2, number, 1, 3, 5, generator=random, dtype=torch.float64)
    vectors = [(size * x).requires_grad_() for x in draws[0]]
    with torch.no_grad():
        vectors[0][:, 1] = 0
    right = scaled_vectors(2.5, per_head, *vectors)
    found = ScaledVectors(2.5, per_head, *vectors)
    for row, vector in zip(found.rows, right, strict=True):
        assert_close(torch.from_numpy(row), vector.detach().view(1, -1))
    gradients = torch.autograd.grad(right, vectors, list(draws[1]))
    # As the kernels give them: without the first dimension.
    given = found.gradients([g.reshape(-1).numpy() for g in draws[1]])
    for ours, theirs in zip(given, gradients, strict=True):
        assert_close(ours * max(size, 1e-300), theirs * max(size, 1e-300))


def test_without_a_norm_nothing_changes():
    vector = torch.randn(1, 2, 3)
    found = ScaledVectors(0.0, True, vector)
    assert torch.equal(torch.from_numpy(found.rows[0]).view_as(vector), vector)
    assert torch.equal(found.gradients([vector.numpy()])[0], vector)
