"""Work spread over processes, which end with the one that started them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, closing
from typing import TypeVar

from lipzoo.errors import LipzooError

__all__ = ["WorkerKilled", "free_ports", "in_processes", "results", "start_worker"]

Item = TypeVar("Item")
Result = TypeVar("Result")


class WorkerKilled(LipzooError):
    """A worker process died of a signal."""


def in_processes(
    function: Callable[[Item], Result],
    work: Sequence[Item],
    jobs: int,
    start: Callable[[], object] | None = None,
) -> Iterator[tuple[Item, Callable[[], Result]]]:
    """``function`` of each item, as they finish: the item, and what gives or raises its result.

    Closing the iterator, or an exception of the caller's, ends the workers.

    Parameters
    ----------
    function : callable
        It goes to the workers: a function of a module, or a ``functools.partial`` of one.
    work : sequence
        Of what can be pickled.
    jobs : int
        Processes.
    start : callable, optional
        What each worker calls first.

    Raises
    ------
    WorkerKilled
        By the result, if a worker was killed.
    """
    before = set(multiprocessing.active_children())
    # A forked child of a process that has used OpenMP may hang: spawn.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(
        jobs, mp_context=context, initializer=start_worker, initargs=(start,)
    )
    try:
        running: dict[Future, Item] = {pool.submit(function, item): item for item in work}
        while running:
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                yield running.pop(future), lambda future=future: _result(future)
    except BaseException:
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def results(
    function: Callable[[Item], Result], work: Sequence[Item], jobs: int
) -> Iterator[Result]:
    """What ``function`` gives for each item, in this process where ``jobs`` is 1, else as
    :func:`in_processes` finishes them."""
    if jobs == 1:
        yield from map(function, work)
        return
    with closing(in_processes(function, work, jobs)) as found:
        for _, result in found:
            yield result()


def _result(future: Future) -> Result:
    try:
        return future.result()
    except BrokenProcessPool:
        raise WorkerKilled(
            "a worker process was killed, perhaps for want of memory; the same command goes on "
            "(of a run, with --resume), with fewer --jobs"
        ) from None


def start_worker(start: Callable[[], object] | None = None) -> None:
    """What a process that was spawned does first: from here on it ends with its parent."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Ctrl-C reaches the whole group; the parent ends the workers, which would all print.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if start is not None:
        start()


def _end_with_parent() -> None:
    """Children of a killed process would work on, in a folder that is somebody else's now."""
    multiprocessing.parent_process().join()
    os._exit(1)


def free_ports(number: int) -> list[int]:
    """Different ports of the loopback interface that nothing listens at now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
