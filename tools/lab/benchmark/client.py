"""A process of the benchmark, from where it is told what to measure."""

from __future__ import annotations

import multiprocessing
import multiprocessing.context
import signal
from functools import cache
from pathlib import Path

from lab.benchmark.cases import Case, has_pyg
from lab.benchmark.worker import serve
from lipzoo.errors import LipzooError

__all__ = ["OutOfMemory", "Worker"]


class OutOfMemory(Exception):
    """A case needs more memory than it may have."""


@cache
def _context() -> multiprocessing.context.BaseContext:
    """Processes that are forked from one which has imported what takes seconds.

    Of this room's modules it knows nothing: it does not look beside the script.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    pyg = ["torch_geometric.nn"] if has_pyg() else []
    context.set_forkserver_preload(["lipzoo.nn", "lipzoo.datasets", *pyg])
    return context


class Worker:
    """A process that builds cases and runs their steps (:mod:`lab.benchmark.worker`).

    It ends with the first case that fails. ``numba_cache`` is where Numba looks for compiled
    kernels.
    """

    def __init__(
        self,
        graph: Path,
        threads: int,
        limit_mib: float | None = None,
        numba_cache: Path | None = None,
    ) -> None:
        # What a user waits for at the first call begins with importing Numba.
        context = _context() if numba_cache is None else multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(
            target=serve, args=(other, graph, threads, limit_mib, numba_cache), daemon=True
        )
        self._process.start()
        other.close()

    def warm(self, case: Case, measure_memory: bool = True) -> dict:
        """Run a case's first steps; what is measured: see :mod:`lab.benchmark.worker`.

        Raises
        ------
        OutOfMemory
            If the case needs more memory than it may have.
        LipzooError
            If the process fails.
        """
        return self._ask(case, {"measure_memory": measure_memory})

    def steps(self, case: Case, number: int) -> list[float]:
        """Seconds of some steps of a case that is warm; raises like :meth:`warm`."""
        return self._ask(case, number)["seconds"]

    def _ask(self, case: Case, request: dict | int) -> dict:
        try:
            self._pipe.send((case, request))
            answer = self._pipe.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self._process.join()
            if self._process.exitcode == -signal.SIGKILL:  # the system's out-of-memory killer
                raise OutOfMemory from None
            answer = {"error": f"the process ended with exit code {self._process.exitcode}"}
        if answer.get("out_of_memory"):
            raise OutOfMemory
        if "error" in answer:
            raise LipzooError(f"benchmark: {case} failed: {answer['error']}")
        return answer

    def close(self) -> None:
        """End the process: it ends by itself where it is not in the middle of a step."""
        self._pipe.close()
        self._process.join(timeout=1)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process.close()
