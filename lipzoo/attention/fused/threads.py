"""The threads that kernels run on.

Those that PyTorch has woken already, where it is built with GNU OpenMP (Linux): after each of its
operations they spin for some milliseconds, in case another one follows. Other threads would share
the cores with them, and waking them takes time. Elsewhere, and after a fork, which OpenMP's threads
do not survive, threads of our own; Numba's would run one kernel at a time, or die after a fork.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from queue import SimpleQueue
from threading import get_ident

import torch

__all__ = ["run_together"]

_POOLS: dict[int, ThreadPoolExecutor] = {}
_is_forked = False

if hasattr(os, "register_at_fork"):

    def _leave_threads() -> None:
        global _is_forked
        _is_forked = True
        _POOLS.clear()

    os.register_at_fork(after_in_child=_leave_threads)


def run_together(work: Callable[[], None], threads: int) -> None:
    """Call ``work()`` on so many threads, this one among them, and wait for all.

    ``threads`` is what PyTorch takes in this thread (``torch.get_num_threads()``), or fewer. There
    may be fewer calls: within a parallel region of OpenMP it is one. What any of them raises, this
    raises.
    """
    entered: set[int] = set()
    faults: list[BaseException] = []

    def guarded() -> None:
        try:
            entered.add(get_ident())
            work()
        except BaseException as fault:
            faults.append(fault)

    team = None if _is_forked else _team()
    if team is not None:
        # As many as PyTorch's own operations take: another number would end and begin threads.
        team(_call, guarded, 0, 0)
    else:
        # Not `futures.wait`: an interrupt within it may come out as another error.
        finished: SimpleQueue[None] = SimpleQueue()

        def on_another() -> None:
            guarded()
            finished.put(None)

        for _ in range(threads - 1):
            _pool(threads - 1).submit(on_another)
        try:
            guarded()
        finally:
            for _ in range(threads - 1):
                finished.get()
    if faults:
        raise faults[0]
    if get_ident() not in entered:  # an interrupt came before `guarded` could catch it
        raise KeyboardInterrupt


@ctypes.CFUNCTYPE(None, ctypes.py_object)
def _call(function: Callable[[], None]) -> None:
    function()


@cache
def _team() -> Callable | None:
    """``GOMP_parallel(function, data, num_threads, flags)`` of the OpenMP that PyTorch has loaded;
    None where it has another. It runs ``function(data)`` on all threads of a team."""
    if not sys.platform.startswith("linux") or not torch.backends.openmp.is_available():
        return None
    try:
        # Looked up in what PyTorch depends on: other packages bring an OpenMP of their own.
        library = ctypes.CDLL(torch._C.__file__, mode=os.RTLD_NOLOAD | os.RTLD_NOW)
        team = library.GOMP_parallel
    except (OSError, AttributeError):
        return None
    team.argtypes = [type(_call), ctypes.py_object, ctypes.c_uint, ctypes.c_uint]
    team.restype = None
    return team


def _pool(threads: int) -> ThreadPoolExecutor:
    if threads not in _POOLS:
        _POOLS[threads] = ThreadPoolExecutor(threads, thread_name_prefix="lipzoo")
    return _POOLS[threads]
