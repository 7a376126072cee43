"""The processes of a benchmark: they take turns, as many at a time as memory allows."""

from __future__ import annotations

import multiprocessing
import multiprocessing.context
import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from lab.benchmark.cases import Case, has_pyg
from lab.benchmark.worker import serve
from lipzoo.errors import LipzooError

__all__ = ["OutOfMemory", "Pool", "Worker"]


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
    """A process that measures one case (:mod:`lab.benchmark.worker`).

    ``numba_cache`` is where Numba looks for compiled kernels.
    """

    def __init__(
        self,
        case: Case,
        graph: Path,
        limit_mib: float | None = None,
        numba_cache: Path | None = None,
    ) -> None:
        self.case = case
        # What a user waits for at the first call begins with importing Numba.
        context = _context() if numba_cache is None else multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(
            target=serve, args=(other, case, graph, limit_mib, numba_cache), daemon=True
        )
        self._process.start()
        other.close()

    def warm(self, measure_memory: bool = True) -> dict:
        """Run the first steps: see :mod:`lab.benchmark.worker`; raises like :meth:`steps`."""
        return self._ask({"measure_memory": measure_memory})

    def steps(self, number: int) -> list[float]:
        """Seconds of some steps.

        Raises
        ------
        OutOfMemory
            If the case needs more memory than it may have.
        LipzooError
            If the process fails.
        """
        return self._ask(number)["seconds"]

    def _ask(self, request: dict | int) -> dict:
        try:
            self._pipe.send(request)
            answer = self._pipe.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self._process.join()
            if self._process.exitcode == -signal.SIGKILL:  # the system's out-of-memory killer
                raise OutOfMemory from None
            answer = {"error": f"the process ended with exit code {self._process.exitcode}"}
        if answer.get("out_of_memory"):
            raise OutOfMemory
        if "error" in answer:
            raise LipzooError(f"benchmark: {self.case} failed: {answer['error']}")
        return answer

    def close(self) -> None:
        """End the process: it ends by itself where it is not in the middle of a step."""
        self._pipe.close()
        self._process.join(timeout=1)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process.close()


class Pool:
    """The workers of one group of cases, alive side by side as far as memory allows.

    Where it does not, the worker whose turn is farthest away ends, and starts again (with an
    untimed step) when its turn comes.
    """

    def __init__(self, graph: Path, num_nodes: int, num_edges: int, limit_mib: float) -> None:
        self.graph, self.limit_mib = graph, limit_mib
        self.num_nodes, self.num_edges = num_nodes, num_edges
        self._live: dict[Case, Worker] = {}  # the one whose turn was last stands last
        self._facts: dict[Case, dict] = {}

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *exception) -> None:
        for worker in self._live.values():
            worker.close()
        self._live.clear()

    def warm(self, case: Case) -> dict:
        """Run a case's first steps; see :mod:`lab.benchmark.worker`.

        Raises
        ------
        OutOfMemory, LipzooError
            See :meth:`Worker.steps`.
        """
        self._facts[case] = self._run(case, lambda worker: worker.warm())
        return self._facts[case]

    def steps(self, case: Case, number: int) -> list[float]:
        """Seconds of some steps of a case that is warm; raises like :meth:`warm`."""

        def run(worker: Worker) -> list[float]:
            if not was_live:
                worker.warm(measure_memory=False)
            return worker.steps(number)

        was_live = case in self._live
        return self._run(case, run)

    def _run(self, case: Case, use: Callable[[Worker], Any]) -> Any:
        worker = self._live.pop(case, None)
        self._make_room(case)
        worker = worker or Worker(case, self.graph, self.limit_mib)
        try:
            answer = use(worker)
        except BaseException:
            worker.close()
            raise
        self._live[case] = worker
        return answer

    def _make_room(self, case: Case) -> None:
        expected = case.expected_mib(self.num_nodes, self.num_edges)
        needed = self._facts.get(case, {}).get("peak_mib", min(expected, self.limit_mib))
        # Turns go round: the worker whose turn was last waits longest for the next.
        while self._live and self._held() + needed > self.limit_mib:
            _, worker = self._live.popitem()
            worker.close()

    def _held(self) -> float:
        return sum(self._facts[case].get("idle_mib", 0.0) for case in self._live)
