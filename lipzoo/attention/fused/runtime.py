"""Launching kernels: compiled at their first call, on as many threads as PyTorch takes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from lipzoo.attention.fused.index import NUM_CHUNKS
from lipzoo.attention.fused.threads import run_together

__all__ = ["Launcher", "kernels_for", "rows", "tensor"]

#: Numbers gathered (E * H * D) from which waking other threads pays.
_WORTH_THREADS = 2**20
#: Pieces of work for each thread: one that is held up leaves its pieces to the others.
_SHARES = 4


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
        # Kernels read rows by their pointers.
        assert all(x.flags.c_contiguous for x in arguments if isinstance(x, np.ndarray))
        if self.threads == 1:
            kernel(0, NUM_CHUNKS, *arguments)
            return
        if not kernel.signatures:
            # Compiled here: another thread's stack may be small.
            kernel(0, 0, *arguments)
        step = max(1, NUM_CHUNKS // (_SHARES * self.threads))
        shares = iter(range(0, NUM_CHUNKS, step))

        def work() -> None:
            for chunk in shares:
                kernel(chunk, min(chunk + step, NUM_CHUNKS), *arguments)

        run_together(work, self.threads)


@cache
def kernels_for(scores: str, dtype: torch.dtype, *sizes) -> SimpleNamespace:
    """The kernels of ``scores`` ("additive", "gatv2", "dot_product"), compiled at their first
    call. Numba is imported here: importing lipzoo must stay quick."""
    from lipzoo.attention.fused.kernel_cache import load_quickly
    from lipzoo.attention.fused.kernels import make_kernels

    kernels = make_kernels(scores, str(dtype).removeprefix("torch."), *sizes)
    load_quickly(vars(kernels).values())
    return kernels


def rows(x: Tensor) -> np.ndarray:
    """(N, H, D) as a contiguous array (N, H * D) that shares its memory where it can; bfloat16 as
    integers of 16 bits."""
    x = x.detach().contiguous().view(x.shape[0], -1)
    return (x.view(torch.int16) if x.dtype == torch.bfloat16 else x).numpy()


def tensor(rows: np.ndarray, like: Tensor) -> Tensor:
    """Rows (N, H * D) as a tensor (N, H, D) of the type of ``like``: those of integers of 16 bits
    are in bfloat16, others are rounded to it."""
    x = torch.from_numpy(rows)
    x = x.view(like.dtype) if x.dtype == torch.int16 else x.to(like.dtype)
    return x.view(-1, *like.shape[1:])
