"""Launching kernels: compiled at their first call, on as many threads as PyTorch takes."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from lipzoo.attention.fused.index import NUM_CHUNKS

__all__ = ["Launcher", "kernels_for", "rows"]

#: Numbers gathered (E * H * D) from which waking other threads pays.
_WORTH_THREADS = 2**20
#: Pieces of work for each thread: one that is held up leaves its pieces to the others.
_SHARES = 4

# Numba's own threads would do, but for three things: one layer of them dies after a fork, the
# other runs one kernel at a time, and waking them costs more than a small graph's kernel takes.
_POOLS: dict[int, ThreadPoolExecutor] = {}
if hasattr(os, "register_at_fork"):
    # Threads do not survive a fork; the child makes its own.
    os.register_at_fork(after_in_child=_POOLS.clear)


class Launcher:
    """Runs kernels ``kernel(chunk_from, chunk_to, *arguments)`` over all chunks.

    Parameters
    ----------
    work : int
        Numbers that are gathered over the edges, E * H * D.
    """

    def __init__(self, work: int) -> None:
        threads = min(torch.get_num_threads(), NUM_CHUNKS)
        self.threads = threads if work >= _WORTH_THREADS else 1

    def __call__(self, kernel: Callable, *arguments) -> None:
        if self.threads == 1:
            kernel(0, NUM_CHUNKS, *arguments)
            return
        step = max(1, NUM_CHUNKS // (_SHARES * self.threads))
        shares = iter(range(0, NUM_CHUNKS, step))

        def work() -> None:
            for chunk in shares:
                kernel(chunk, min(chunk + step, NUM_CHUNKS), *arguments)

        others = [_pool(self.threads - 1).submit(work) for _ in range(self.threads - 1)]
        try:
            work()
        finally:
            wait(others)
        for other in others:
            other.result()


def _pool(threads: int) -> ThreadPoolExecutor:
    if threads not in _POOLS:
        _POOLS[threads] = ThreadPoolExecutor(threads, thread_name_prefix="lipzoo")
    return _POOLS[threads]


@cache
def kernels_for(scores: str, dtype: torch.dtype, *sizes) -> SimpleNamespace:
    """The kernels of ``scores`` ("additive", "gatv2", "dot_product"), compiled at their first
    call. Numba is imported here: importing lipzoo must stay quick."""
    module = importlib.import_module(f"lipzoo.attention.fused.{scores}_kernels")
    return module.make_kernels(*sizes, dtype == torch.float64)


def rows(x: Tensor) -> np.ndarray:
    """(N, H, D) as a contiguous array (N, H * D) that shares its memory where it can."""
    return x.detach().contiguous().view(x.shape[0], -1).numpy()
