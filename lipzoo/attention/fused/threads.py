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
from _thread import start_new_thread
from collections.abc import Callable
from functools import cache
from queue import SimpleQueue
from threading import get_ident

import torch

__all__ = ["run_together"]

_POOLS: dict[int, SimpleQueue[Callable[[], None]]] = {}
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
        _with_others(guarded, threads - 1, faults)
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


def _with_others(work: Callable[[], None], number: int, faults: list[BaseException]) -> None:
    """``work()``, which raises nothing, here and on so many other threads; not on those that come
    when it is done. An interrupt on the way is added to the faults: nobody works on afterwards."""
    begun, ended, is_over = [], [], []
    turns: SimpleQueue[None] = SimpleQueue()

    def on_another() -> None:
        begun.append(1)
        if not is_over:
            work()
        ended.append(1)
        turns.put(None)

    try:
        for _ in range(number):
            _tasks(number).put(on_another)
    except KeyboardInterrupt as fault:
        faults.append(fault)
    work()
    is_over.append(1)
    while len(ended) < len(begun):
        try:
            turns.get()
        except KeyboardInterrupt as fault:
            faults.append(fault)


def _tasks(threads: int) -> SimpleQueue[Callable[[], None]]:
    """What so many threads of our own take their work from.

    Not an executor: an interrupt among its locks may leave one locked, or come out as another
    error. A queue of this kind, written in C, is changed or not.
    """
    if threads not in _POOLS:
        _POOLS[threads] = tasks = SimpleQueue()
        for _ in range(threads):
            start_new_thread(_serve, (tasks,))
    return _POOLS[threads]


def _serve(tasks: SimpleQueue[Callable[[], None]]) -> None:
    while True:
        tasks.get()()
