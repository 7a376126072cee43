"""What several processes cost that train one network: their time together against one's."""

from __future__ import annotations

import ctypes
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from lab.benchmark.graphs import planted_task
from lab.benchmark.process import apart
from lipzoo._atomic import write_atomically
from lipzoo._processes import free_ports, in_processes
from lipzoo._tables import to_csv
from lipzoo.errors import ConfigError
from lipzoo.registry import create_model
from lipzoo.settings import FitSettings
from lipzoo.training.ranks import Ranks, joined
from lipzoo.training.step import train_step

__all__ = ["measure_processes"]

_WIDTH, _CLASSES, _DEGREE = 64, 10, 10
_DROPS = dict.fromkeys(("input_drop", "feat_drop", "head_drop", "attn_drop"), 0.0)
#: Steps that are timed, after one that compiles and makes the index. The fastest counts: what else
#: the machine does only adds, and it adds more to some.
_STEPS = 10


def measure_processes(
    file: Path,
    num_nodes: int,
    depths: Sequence[int],
    numbers: Sequence[int] = (2,),
    rate: str | None = None,
    say: Callable = print,
) -> None:
    """Write a row a depth and number of processes: a step of ``gat_lip_res_16`` on all of a graph.

    Each process on one thread, the one that is alone too; 64 features, 64 wide, 8 heads, float32,
    on a :func:`~lab.benchmark.graphs.planted_task` with 10 edges a node. ``alone`` and
    ``together``: the processor's seconds of the fastest step, those of all processes summed, and
    ``efficiency`` the one over the other; what processes take from each other on one machine
    (memory, caches) is in it. ``halo``: nodes of others that the processes ask for,
    over all nodes. ``mib``: what they send a step, in the layers and of the gradients of the
    parameters. ``faster``: seconds of the clock of the fastest step alone, over those of the
    slowest process's. ``waited``: the mean share of a process's steps in which it waits for rows of
    others. ``difference``: of the gradient of the first step from that of one process, in the
    Euclidean norm, over that norm.

    Parameters
    ----------
    rate : str, optional
        Of the network between the processes, as ``tc`` writes it, such as ``1gbit``: this process
        then goes into a network of its own (root; Linux). None: as fast as the loopback is.

    Raises
    ------
    ConfigError
        If there are fewer than 1,000 nodes, no depths, or fewer than two processes; if there can
        be no such network.
    """
    if num_nodes < 1000 or not depths or min(depths) < 1:
        raise ConfigError("nodes must be at least 1,000, depths at least 1")
    if not numbers or min(numbers) < 2:
        raise ConfigError("processes must be at least 2")
    if rate is not None:
        _slow_down(rate)
    os.environ["OMP_NUM_THREADS"] = "1"  # OpenMP reads it when a worker imports torch
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for depth in depths:
        alone = apart(_alone, (num_nodes, depth))
        for number in numbers:
            found = _together(num_nodes, depth, number)
            seconds = sum(each.processor for each in found)
            gap = (found[0].gradient - alone.gradient).norm() / alone.gradient.norm()
            rows.append(
                {
                    "num_nodes": num_nodes,
                    "num_edges": sum(each.edges for each in found),
                    "layers": depth,
                    "processes": number,
                    "rate": rate or "",
                    "alone": round(alone.processor, 3),
                    "together": round(seconds, 3),
                    "efficiency": round(alone.processor / seconds, 3),
                    "faster": round(alone.clock / max(each.clock for each in found), 2),
                    "waited": round(sum(each.waited for each in found) / number, 3),
                    "halo": round(sum(each.halo for each in found) / num_nodes, 3),
                    "mib": round(sum(each.sent for each in found) / 2**20, 1),
                    "difference": f"{float(gap):.1e}",
                }
            )
            write_atomically(file, to_csv(rows))
            say(", ".join(f"{name} {value}" for name, value in rows[-1].items()))


class _Steps(NamedTuple):
    """Of one process: seconds of its fastest step by its processor and by the clock, the gradient
    of the first, edges, nodes of others, bytes sent a step, share of the steps that it waited."""

    processor: float
    clock: float
    gradient: Tensor
    edges: int
    halo: int
    sent: float
    waited: float


def _slow_down(rate: str) -> None:
    """Go into a network of one's own, whose loopback is so fast."""
    new_network = 0x40000000  # CLONE_NEWNET; os.unshare comes with Python 3.12
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "unshare") or libc.unshare(new_network):
        raise ConfigError("rate: a network of its own needs Linux, and root")
    limit = ("tbf", "rate", rate, "burst", "256kb", "latency", "100ms")
    for command in (
        ("ip", "link", "set", "lo", "up"),
        ("tc", "qdisc", "add", "dev", "lo", "root", *limit),
    ):
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except OSError:
            raise ConfigError(f"rate: there is no command {command[0]} (iproute2)") from None
        except subprocess.CalledProcessError as fault:
            reason = fault.stderr.strip().splitlines()[:1] or ["it failed"]
            raise ConfigError(f"rate {rate!r}: {command[0]} says {reason[0]}") from None


def _together(num_nodes: int, depth: int, number: int) -> list[_Steps]:
    """What each process measures, the first one's first."""
    [port] = free_ports(1)
    work = partial(_one_of, num_nodes=num_nodes, depth=depth, number=number, port=port)
    with closing(in_processes(work, range(number), number)) as found:
        results = {rank: result() for rank, result in found}
    return [results[rank] for rank in range(number)]


def _one_of(rank: int, num_nodes: int, depth: int, number: int, port: int) -> _Steps:
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ.update(place, WORLD_SIZE=str(number), RANK=str(rank))
    with joined() as ranks:
        return _steps(num_nodes, depth, ranks)


def _alone(item: tuple[int, int]) -> _Steps:
    return _steps(*item, None)


def _steps(num_nodes: int, depth: int, ranks: Ranks | None) -> _Steps:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    task = planted_task(num_nodes, num_nodes * _DEGREE, _CLASSES, _WIDTH)
    sizes = {"in_feats": _WIDTH, "num_classes": _CLASSES, "hidden_feats": _WIDTH, "num_heads": 8}
    model = create_model("gat_lip_res_16", **sizes, **_DROPS, num_layers=depth, backend="fused")
    optimizer = torch.optim.Adam(model.parameters())
    own, edges, halo, exchange = task, task.num_edges, 0, None
    if ranks is not None:
        own = ranks.part(model, task, None)
        edges, exchange = own.graph.num_edges, own.graph.exchange
        halo = own.graph.num_src - own.graph.num_dst

    def step() -> None:
        train_step(model, own, optimizer, FitSettings(), None, 1, ranks)

    step()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
    if exchange is not None:
        exchange.num_bytes, exchange.waited = 0, 0.0
    processor, clock = [], []
    for _ in range(_STEPS):
        begin = time.process_time(), time.perf_counter()
        step()
        processor.append(time.process_time() - begin[0])
        clock.append(time.perf_counter() - begin[1])
    sent = waited = 0.0
    if exchange is not None:
        sent = exchange.num_bytes / _STEPS + gradient.numel() * gradient.element_size()
        waited = exchange.waited / sum(clock)
    return _Steps(min(processor), min(clock), gradient, edges, halo, sent, waited)
