"""DistDGL: the files of its parts, and the processes that hold them.

A server needs PyTorch and DGL, and nothing else of this package.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from lipzoo._dgl import need_dgl, quiet
from lipzoo._notes import show_notes
from lipzoo._processes import start_worker
from lipzoo.errors import LipzooError

__all__ = ["GRAPH_NAME", "Plan", "be_child", "serve", "write_distdgl_parts"]

GRAPH_NAME = "graph"


@dataclass(frozen=True)
class Plan:
    """What each process has to know.

    Parameters
    ----------
    folder : Path
        Of the parts.
    ip_file : str
        A line a server, as DGL reads it.
    number : int
        Of parts.
    master : tuple
        Address and port at which the trainers meet.
    shared : str
        What the names in shared memory begin with.
    log : str
        The folder of what DGL says.
    """

    folder: Path
    ip_file: str
    number: int
    master: tuple[str, int]
    shared: str
    log: str


def write_distdgl_parts(graph: Any, owner: Any, parts: int, folder: Any) -> Any:
    """Write ``graph.json`` and ``part0/``, … as `dgl.distributed` reads them; which node of the
    graph each node of the parts is, int64 (N,), those of part 0 first.

    Parameters
    ----------
    graph : DGLGraph
        On the CPU, 64 bits; its columns are cut too.
    owner : Tensor (N,)
        The part of each node; every part has a node and an in-edge.
    parts : int
        At least 2.
    """
    distributed = need_dgl("DistDGL's parts").distributed
    found = distributed.partition
    # It asks METIS itself, which takes the process down on some graphs.
    metis, found.metis_partition_assignment = (
        found.metis_partition_assignment,
        lambda *_, **__: owner,
    )
    try:
        with quiet():
            nodes, _ = distributed.partition_graph(
                graph, GRAPH_NAME, parts, str(folder), return_mapping=True
            )
    finally:
        found.metis_partition_assignment = metis
    return nodes


def be_child(
    plan: Plan, name: str, rank: int, pipe: Connection, function: Callable, arguments: tuple
) -> None:
    """What each process is: what it says itself goes to stderr, and what DGL says into a log."""
    start_worker()
    said = os.fdopen(os.dup(2), "w", buffering=1)
    with open(Path(plan.log) / f"{name}.log", "w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    sys.stderr = said
    show_notes("lipzoo")
    os.environ |= {
        "DGL_ROLE": "server" if name.startswith("server") else "client",
        "DGL_DIST_MODE": "distributed",
        "DGL_NUM_SAMPLER": "0",
        "DGL_NUM_SERVER": "1",
        "MASTER_ADDR": plan.master[0],
        "MASTER_PORT": str(plan.master[1]),
        "WORLD_SIZE": str(plan.number),
        "RANK": str(rank),
    }
    _name_memory(f"{plan.shared}{rank}-")
    try:
        pipe.send(("result", function(plan, rank, pipe, *arguments)))
    except LipzooError as fault:
        pipe.send(("fault", fault))
    except Exception as fault:
        traceback.print_exc()
        words = " ".join(f"{type(fault).__name__}: {fault}".split())[:300]
        pipe.send(("fault", LipzooError(f"DistDGL: {name}: {words}")))
    # DGL's threads wait for ever for who is gone.
    os._exit(0)


def _name_memory(prefix: str) -> None:
    """DGL names shared memory after the column alone: two servers of a host would share it."""
    store = need_dgl("DistDGL").distributed.kvstore
    made = store.empty_shared_mem
    store.empty_shared_mem = lambda name, *rest: made(prefix + name, *rest)


def serve(plan: Plan, rank: int, pipe: Connection) -> None:
    """Answer the trainers until they are done."""
    distributed = need_dgl("DistDGL").distributed
    server = distributed.DistGraphServer(
        rank,
        plan.ip_file,
        1,
        plan.number,
        str(plan.folder / f"{GRAPH_NAME}.json"),
        disable_shared_mem=True,  # the graph's, whose names two servers of a host would share
        graph_format=("csc",),
    )
    server.start()
