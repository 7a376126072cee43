"""What an epoch costs in parts: edges touched, time on index and overhead, bytes at the peak."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import torch

from lab.benchmark.graphs import planted_task
from lab.benchmark.process import growth_of, rows_apart
from lipzoo.attention import as_structure
from lipzoo.attention.fused.index import kernel_index
from lipzoo.errors import ConfigError
from lipzoo.registry import create_model
from lipzoo.settings import Batching, Clusters, FitSettings, Full
from lipzoo.training.batching import make_batches
from lipzoo.training.step import train_step

__all__ = ["measure_batching"]

_WIDTH, _CLASSES, _DEGREE = 64, 10, 10
_BATCHINGS: tuple[Batching, ...] = (
    Full(name="full"),
    Clusters(name="clusters", parts=32, per_batch=8),
    Clusters(name="clusters", parts=32, per_batch=4),
    Clusters(name="clusters", parts=32, per_batch=1),
)


def measure_batching(
    file: Path, num_nodes: int, depths: Sequence[int], say: Callable = print
) -> None:
    """Write a row a depth and batching: the second epoch of a training with dropout.

    Each in a process of its own, on one thread: ``gat_lip_16`` with other depths, 64 features, 64
    wide, 8 heads, float32, on a :func:`~lab.benchmark.graphs.planted_task` with 10 edges a node:
    METIS has to find its communities, and one edge in five leads out of them. ``edges``: those that
    the steps are on, over those of the graph. ``cutting`` and ``index``: the shares of the epoch's
    processor time that go into making the batches, and into the index that the kernels read.
    ``bytes`` a node of the graph: what the process holds at the peak above graph, features,
    weights, and what is kept of the clusters. ``seconds``: the processor's, of the epoch. ``once``:
    of METIS and the index of the whole graph.

    Raises
    ------
    ConfigError
        If there are fewer than 1,000 nodes, or no depths.
    """
    if num_nodes < 1000 or not depths or min(depths) < 1:
        raise ConfigError("nodes must be at least 1,000, depths at least 1")
    items = product([num_nodes], depths, range(len(_BATCHINGS)))
    rows_apart(file, _row, items, say)


def _row(item: tuple[int, int, int]) -> dict[str, object]:
    num_nodes, depth, number = item
    torch.manual_seed(0)
    batching = _BATCHINGS[number]
    task = planted_task(num_nodes, num_nodes * _DEGREE, _CLASSES, _WIDTH)
    sizes = {"in_feats": _WIDTH, "num_classes": _CLASSES, "hidden_feats": _WIDTH, "num_heads": 8}
    model = create_model("gat_lip_16", **sizes, num_layers=depth, backend="fused")
    begin = time.process_time()
    batches = make_batches(model, task, batching)
    once = time.process_time() - begin
    epoch = _Epoch(model, task, batches)
    epoch.run()  # compiles, makes the index of the whole graph, and moves malloc's threshold
    growth = growth_of(epoch.run)
    size = "" if growth is None else round(1024 * growth / num_nodes)
    return {
        "num_nodes": num_nodes,
        "num_edges": task.num_edges,
        "layers": depth,
        "batching": batching.name,
        "parts": getattr(batching, "parts", 1),
        "per_batch": getattr(batching, "per_batch", 1),
        "steps": epoch.steps,
        "edges": round(epoch.edges / task.num_edges, 3),
        "cutting": round(epoch.cutting / epoch.seconds, 4),
        "index": round(epoch.index / epoch.seconds, 4),
        "bytes": size,
        "seconds": round(epoch.seconds, 2),
        "once": round(once, 2),
    }


class _Epoch:
    """An epoch as :func:`~lipzoo.training.batching.train_epoch` runs it, with a clock."""

    def __init__(self, model, task, batches) -> None:
        self.model, self.task, self.batches = model, task, batches
        self.optimizer = torch.optim.Adam(model.parameters())

    def run(self) -> None:
        self.steps = self.edges = 0
        self.cutting = self.index = 0.0
        begin = time.process_time()
        parts = iter([self.task] if self.batches is None else self.batches(self.task))
        while True:
            start = time.process_time()
            part = next(parts, None)
            cut = time.process_time()
            if part is None:
                break
            index = kernel_index(as_structure(part.graph, add_self_loops=True))
            index.in_edges(with_ids=True)  # as dropout of attention weights reads them
            index.out_edges(with_ids=True)
            self.cutting += cut - start
            self.index += time.process_time() - cut
            train_step(self.model, part, self.optimizer, FitSettings(), None, 1)
            self.steps += 1
            self.edges += part.graph.num_edges()
            del part, index  # before the next one is made, as in a loop that holds none
        self.seconds = time.process_time() - begin
