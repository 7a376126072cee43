"""What launching a kernel takes: one at a time, as many threads as PyTorch, arrays for tensors."""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

__all__ = ["draw_seed", "kernels_for", "launching", "rows"]

# Numba's "workqueue" survives a fork (GNU OpenMP's parallel kernels do not), but runs one
# kernel at a time: a second Python thread has to wait.
_ONE_AT_A_TIME = threading.Lock()


@contextmanager
def launching() -> Iterator[None]:
    """Kernels run inside: no other thread's beside them, on as many threads as PyTorch takes."""
    import numba

    with _ONE_AT_A_TIME:
        numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))
        yield


@cache
def kernels_for(scores: str, dtype: torch.dtype, *sizes) -> SimpleNamespace:
    """The kernels of ``scores`` ("additive", "gatv2", "dot_product"), compiled at their first
    call. Numba is imported here: importing lipzoo must stay quick."""
    os.environ.setdefault("NUMBA_THREADING_LAYER", "workqueue")
    module = importlib.import_module(f"lipzoo.attention.fused.{scores}_kernels")
    return module.make_kernels(*sizes, dtype == torch.float64)


def rows(x: Tensor) -> np.ndarray:
    """(N, H, D) as a contiguous array (N, H * D) that shares its memory where it can."""
    return x.detach().contiguous().view(x.shape[0], -1).numpy()


def draw_seed(attn_drop: float) -> int:
    """The seed of a dropout mask, from PyTorch's generator."""
    return int(torch.randint(2**32, ())) if attn_drop else 0
