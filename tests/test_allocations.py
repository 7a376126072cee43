"""What a computation allocates, told from small inputs."""

import numpy as np
import pytest
import torch

from lipzoo._allocations import record, trace


def test_peak_of_what_is_alive_at_once():
    def run(n):
        a = torch.ones(n, 4)  # 16 n
        b = a * 2  # 32 n
        del a
        view = b[: n // 2]  # a view is no allocation, and keeps its storage
        del b
        return view + 1  # 8 n: 24 n in all

    found = trace(run, ((10,), 10), ((20,), 20))
    assert found.peak(1000) == 32_000
    assert found.bytes(1000).tolist() == [16_000, 16_000, 8_000]


def test_arrays_of_numpy_count_as_long_as_a_tensor_has_them():
    def run(n):
        tensor = torch.from_numpy(np.empty((n, 2), np.float32)).view(-1)
        np.empty(3 * n, np.float32)  # gone at once
        return tensor + 1

    found = trace(run, ((10,), 10), ((20,), 20))
    assert found.bytes(100).tolist() == [800, 1200, 800]
    assert found.peak(100) == 2000


def test_what_the_backward_pass_makes_is_seen():
    def run(n):
        x = torch.ones(n, requires_grad=True)
        (x.exp() * 3).sum().backward()
        return x.grad

    events, sizes = record(lambda: run(1000))
    assert sizes.count(4000) >= 4
    assert len([e for e in events if e < 0]) > 0


def test_sparse_tensors_count_by_their_parts():
    def run(n):
        indptr = torch.arange(n + 1)
        return torch.sparse_csr_tensor(indptr, torch.zeros(n, dtype=torch.long), torch.ones(n))

    assert trace(run, ((10,), 10), ((30,), 30)).peak(1000) >= 8 * 1001 + 8 * 1000 + 4 * 1000


def test_another_computation_on_another_size_is_refused():
    with pytest.raises(ValueError, match="does not allocate the same"):
        trace(lambda n: torch.ones(n) + 1 if n > 15 else torch.ones(n), ((10,), 10), ((20,), 20))


def test_an_error_leaves_numpy_as_it_was():
    before = np.empty
    with pytest.raises(KeyError):
        record(lambda: {}["absent"])
    assert np.empty is before
