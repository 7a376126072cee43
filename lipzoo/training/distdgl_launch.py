"""DistDGL's servers and trainers as processes of this one, which end together.

A server and a trainer for each part run on the part's host. Whatever ends one of them ends all,
with its own words; and who says nothing for too long is taken for dead: DGL waits for ever.
"""

from __future__ import annotations

import os
import socket
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from lipzoo._dgl import need_dgl
from lipzoo._distdgl import GRAPH_NAME, Plan, be_child, serve
from lipzoo._processes import free_ports
from lipzoo.errors import ConfigError, DataError, LipzooError
from lipzoo.training.distdgl_parts import SHARED, check_room
from lipzoo.training.distdgl_trainers import Trainers
from lipzoo.training.ranks import joined
from lipzoo.training.ranks_exchange import OtherEnded
from lipzoo.training.ranks_parts import Parts

__all__ = ["launch"]

#: Seconds until all have found each other, until a trainer has to have made its next step, and for
#: which the causes of a failure are waited for and good endings last.
START, SILENCE, ENDING = 600.0, 600.0, 3.0
_LOOPBACK, _PORT = "127.0.0.1", 30050  # DGL's own


def launch(
    parts: Parts,
    work: Callable[..., Any],
    arguments: tuple,
    ip_config: str | os.PathLike | None = None,
) -> Any:
    """Start servers and trainers, and wait for these.

    Parameters
    ----------
    parts : Parts
    work : callable
        Of a module: each trainer calls it with its
        :class:`~lipzoo.training.distdgl_trainers.Trainers` and ``arguments``.
    arguments : tuple
        Of what can be pickled.
    ip_config : path, optional
        See :func:`~lipzoo.training.distdgl.train_distdgl`.

    Returns
    -------
    What ``work`` gives in the first trainer; None where that is on another host.

    Raises
    ------
    ConfigError, DataError, OutputError
        If the hosts or parts are wrong, or there is no room in shared memory.
    LipzooError
        What a process raises; or if one ends, or does not answer in time.
    """
    number = parts.content["parts"]
    hosts, master = _hosts(ip_config, number)
    here = [rank for rank, (ip, _) in enumerate(hosts) if _is_here(ip)]
    if not here:
        raise ConfigError(f"{ip_config}: no line is of this host; run it on those that it names")
    for rank in here:
        Parts(parts.folder, rank, number, "distdgl")
    if SHARED.is_dir():
        needed = sum(parts.content["shared_bytes"][rank] for rank in here)
        check_room(SHARED, needed, "the features of the parts of this host take")
    with tempfile.TemporaryDirectory(prefix="lipzoo-") as place:
        ip_file = Path(place) / "ip_config.txt"
        ip_file.write_text("".join(f"{ip} {port}\n" for ip, port in hosts))
        plan = Plan(
            parts.folder.resolve(),
            str(ip_file),
            number,
            master,
            f"lipzoo-{os.getpid()}-{os.urandom(4).hex()}-",
            place,
        )
        processes = _Processes(plan)
        try:
            for rank in here:
                processes.start("server", rank, serve)
            for rank in here:
                processes.start("trainer", rank, _trainer, work, arguments)
            return processes.result()
        finally:
            processes.end()


class _Processes:
    """The servers and trainers of this host."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.found: dict[str, Any] = {}
        self.pipes: dict[Connection, str] = {}
        self.last: dict[str, float] = {}  # when each trainer made a step
        self.results: dict[str, Any] = {}
        self.faults: dict[str, LipzooError] = {}

    def start(self, kind: str, rank: int, function: Callable, *arguments: Any) -> None:
        """Start one of them."""
        context, name = get_context("spawn"), f"{kind} {rank}"
        mine, its = context.Pipe(duplex=False)
        process = context.Process(
            target=be_child, args=(self.plan, name, rank, its, function, arguments), name=name
        )
        process.start()
        its.close()
        self.found[name], self.pipes[mine] = process, name

    def result(self) -> Any:
        """What the first trainer gives, once all have given theirs."""
        begun = time.monotonic()
        trainers = [name for name in self.found if name.startswith("trainer")]
        while late := [name for name in trainers if name not in self.results]:
            self._listen(1.0)
            if self.faults or self._dead():
                end = time.monotonic() + ENDING
                while time.monotonic() < end and self.pipes:
                    self._listen(end - time.monotonic())
                raise self._cause()
            since, limit = max(self.last.get(name, 0.0) for name in late), SILENCE
            if len(self.last) < len(trainers):
                late = [name for name in trainers if name not in self.last]
                since, limit = begun, START
            if time.monotonic() - since > limit:
                raise LipzooError(
                    f"DistDGL: nothing was heard of {', '.join(late)} for {limit:.0f} seconds; the "
                    "same command with --resume goes on"
                )
        return self.results.get("trainer 0")

    def end(self) -> None:
        """Let those that are done end, end the others, and leave nothing in shared memory."""
        limit = ENDING if len(self.results) and not self.faults else 0
        end = time.monotonic() + limit
        for process in self.found.values():
            process.join(max(0.0, end - time.monotonic()))
        for process in self.found.values():
            process.kill()
        for process in self.found.values():
            process.join()
            process.close()
        self._unlink()

    def _listen(self, seconds: float) -> None:
        """Read what is said within some seconds."""
        for pipe in wait(list(self.pipes), max(0.0, seconds)) if self.pipes else ():
            name = self.pipes[pipe]
            try:
                kind, content = pipe.recv()
            except (EOFError, OSError):
                del self.pipes[pipe]
                continue
            if kind == "fault":
                self.faults[name] = content
            elif kind == "result":
                self.results[name] = content
            else:
                self.last[name] = time.monotonic()
                if kind == "ready" and len(self.last) == len(self.found) // 2:
                    # All have mapped it: a kill of all leaves nothing there from here on.
                    self._unlink()

    def _dead(self) -> list[str]:
        """Those that ended without a word."""
        return [
            name
            for name, process in self.found.items()
            if process.exitcode is not None
            and name not in {*self.results, *self.faults, *self.pipes.values()}
        ]

    def _cause(self) -> LipzooError:
        """The fault that led to the others."""
        own = [fault for fault in self.faults.values() if not isinstance(fault, OtherEnded)]
        if own:
            return own[0]
        for name in self._dead():
            code = self.found[name].exitcode
            words = f"a signal ({-code}) ended it" if code < 0 else f"it ended with code {code}"
            said = _last_line(Path(self.plan.log) / f"{name}.log")
            return LipzooError(
                f"DistDGL: {name} is gone: {words}{said}; the same command with --resume goes on"
            )
        return next(iter(self.faults.values()))

    def _unlink(self) -> None:
        if SHARED.is_dir():
            for path in SHARED.glob(f"{self.plan.shared}*"):
                with suppress(OSError):
                    path.unlink()


def _last_line(log: Path) -> str:
    with suppress(OSError):
        lines = log.read_text(errors="replace").strip().splitlines()
        if lines:
            return f" (its last words: {lines[-1][-200:]})"
    return ""


def _trainer(plan: Plan, rank: int, pipe: Connection, work: Callable, arguments: tuple) -> Any:
    """Find the servers and the other trainers, and work."""
    distributed = need_dgl("DistDGL").distributed
    # By address DGL takes all trainers of a host for those of its first part.
    distributed.rpc_client.get_local_machine_id = lambda _: rank
    distributed.initialize(plan.ip_file)
    config = str(plan.folder / f"{GRAPH_NAME}.json")
    book = distributed.partition.load_partition_book(config, rank)[0]
    graph = distributed.DistGraph(GRAPH_NAME, gpb=book)
    pipe.send(("ready", None))
    said = [time.monotonic()]

    def on_step() -> None:
        if time.monotonic() - said[0] > 1:
            said[0] = time.monotonic()
            pipe.send(("step", None))

    with joined(partial(Trainers, graph, plan.folder, on_step)) as trainers:
        found = work(trainers, *arguments)
    distributed.exit_client()
    return found


def _hosts(
    ip_config: str | os.PathLike | None, number: int
) -> tuple[list[tuple[str, int]], tuple[str, int]]:
    """Address and port of each server, and where the trainers meet.

    Raises
    ------
    ConfigError, DataError
    """
    if ip_config is None:
        ports = free_ports(number + 1)
        return [(_LOOPBACK, port) for port in ports[1:]], (_LOOPBACK, ports[0])
    try:
        lines = [line.split() for line in Path(ip_config).read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as fault:
        raise DataError(f"{ip_config}: cannot be read ({fault})") from None
    hosts = []
    for words in lines:
        try:
            ip, port = words[0], int(words[1]) if len(words) == 2 else _PORT
            socket.inet_aton(ip)
            if len(words) > 2 or not 0 < port < 2**16 - 1:
                raise ValueError
        except (OSError, ValueError):
            raise ConfigError(
                f"{ip_config}: {' '.join(words)!r} is no line IP [PORT], such as 10.0.0.4 {_PORT}"
            ) from None
        hosts.append((ip, port))
    if len(hosts) != number:
        raise ConfigError(
            f"{ip_config}: names {len(hosts)} servers, and there are {number} parts; a line each"
        )
    # The trainers meet at the port above the first server's.
    master = (hosts[0][0], hosts[0][1] + 1)
    if len({*hosts, master}) <= number:
        raise ConfigError(
            f"{ip_config}: each server needs a port of its own, and the trainers "
            f"{master[0]} {master[1]}"
        )
    return hosts, master


def _is_here(ip: str) -> bool:
    """Whether an address is one of this host's: then what goes there comes from there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as found:
        try:
            found.connect((ip, 1))  # nothing is sent
        except OSError:
            return False
        return ip.startswith("127.") or found.getsockname()[0] == ip
