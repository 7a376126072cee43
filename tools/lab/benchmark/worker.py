"""A process that builds cases and runs their steps: one for its memory, several in turns."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from lab.benchmark.cases import IMPLEMENTATIONS, Case
from lab.benchmark.graphs import read_graph
from lab.benchmark.layers import make_step
from lab.benchmark.process import peak_of, resident, timed, trim
from lipzoo._dgl import dgl

__all__ = ["serve"]

#: Seconds of the first step from which on another untimed one, before memory is measured, would
#: cost more than it settles.
_SLOW = 2.0


def serve(
    pipe: Connection, graph: Path, threads: int, limit_mib: float | None, numba_cache: Path | None
) -> None:
    """Answer what comes through ``pipe`` until it is closed.

    Parameters
    ----------
    pipe : Connection
        ``(case, {"measure_memory": bool})`` builds the case's layer and runs its first steps;
        ``(case, n)`` runs ``n`` steps of a case that was built. The answer is a dict: what was
        measured, or ``out_of_memory``, or ``error``.
    graph : path
        What :func:`~lab.benchmark.graphs.save_graph` wrote.
    threads : int
        Of PyTorch, DGL and Numba.
    limit_mib : float, optional
        Memory that this process may take, where the system can limit it.
    numba_cache : path, optional
        Where Numba looks for compiled kernels.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    os.environ["NUMBA_NUM_THREADS"] = str(threads)
    os.environ.setdefault("NUMBA_THREADING_LAYER", "workqueue")
    if numba_cache is not None:
        os.environ["NUMBA_CACHE_DIR"] = str(numba_cache)
    if "numba" in sys.modules:  # PyG has imported it, and with it these variables
        sys.modules["numba"].config.reload_config()
    steps: dict[Case, Callable[[], None]] = {}
    try:
        _set_up(threads, limit_mib)
        while True:
            case, request = pipe.recv()
            if isinstance(request, dict):
                steps[case], answer = _warm(case, graph, **request)
            else:
                answer = {"seconds": [timed(steps[case]) for _ in range(request)]}
            pipe.send(answer)
    except EOFError:
        return
    except Exception as fault:
        if _is_out_of_memory(fault):
            pipe.send({"out_of_memory": True})
        else:
            pipe.send({"error": f"{type(fault).__name__}: {fault}"})


def _is_out_of_memory(fault: Exception) -> bool:
    """Whether PyTorch, NumPy or DGL could not get memory."""
    words = ("can't allocate memory", "not enough memory", "bad_alloc", "Unable to allocate")
    return isinstance(fault, MemoryError) or any(word in str(fault) for word in words)


def _set_up(threads: int, limit_mib: float | None) -> None:
    torch.set_num_threads(threads)
    with contextlib.suppress(AttributeError):  # DGL has an OpenMP of its own
        dgl.utils.set_num_threads(threads)
    if limit_mib is not None:
        with contextlib.suppress(ImportError, AttributeError, ValueError, OSError):
            import resource

            size = int(limit_mib * 2**20)
            resource.setrlimit(resource.RLIMIT_DATA, (size, size))


def _warm(case: Case, graph: Path, measure_memory: bool) -> tuple[Callable[[], None], dict]:
    """Run the first steps; say how long they took, and what memory a step takes.

    ``memory_mib`` is the most a step holds above what the process holds between steps.
    ``held_mib`` is what it holds between steps since the first one: indices of the graph,
    compiled code, the optimiser's state. Both are ``None`` away from Linux.
    """
    if IMPLEMENTATIONS[case.implementation].library == "PyG":
        importlib.import_module("lab.benchmark.pyg")  # not part of the first step
    step = make_step(case, read_graph(graph))
    trim()
    start = resident()
    first = timed(step)
    answer = {"first_call": first, "pace": first, "memory_mib": None, "held_mib": None}
    if not measure_memory:
        return step, answer
    if first < _SLOW:
        step()
    trim()
    before = resident()
    answer["pace"], peak = peak_of(step)
    if peak is not None:
        answer |= {
            "memory_mib": (peak - before) / 1024,
            "held_mib": (before - start) / 1024,
        }
    return step, answer
