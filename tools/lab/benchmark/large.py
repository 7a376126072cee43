"""Deep networks on graphs that do not fit into memory with their activations: clusters, exactly."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from lab.benchmark.graphs import planted_task
from lab.benchmark.process import resident, rows_apart
from lipzoo.datasets import GraphTask
from lipzoo.errors import ConfigError
from lipzoo.registry import create_model
from lipzoo.settings import FitSettings
from lipzoo.training.loop import fit

__all__ = ["measure_large"]

_DEGREE, _FEATS, _CLASSES, _WIDTH = 10, 32, 10, 64
#: Nodes of a cluster, and clusters of a batch.
_CLUSTER, _PER_BATCH = 25_000, 2
#: Chosen by validation on five epochs of 20M edges, as many steps as one of 100M: docs/size.md.
_LR = 0.003
#: What learns, and with how many layers.
_NETWORKS = {"gat_lip_res_16": 16, "gat_lip_2": 2}


def measure_large(file: Path, sizes: Sequence[int], epochs: int = 1, say: Callable = print) -> None:
    """Write a row a size in edges and network: some epochs in cluster mode, an exact evaluation.

    A process of its own, with one thread, makes a :func:`~lab.benchmark.graphs.planted_task` with
    10 edges a node, trains on clusters of 25,000 nodes, two a batch, and evaluates on the whole
    graph. 64 wide, 8 heads, float32. ``load``: seconds of the processor to make the graph.
    ``train`` and ``evaluate``: nanoseconds of it an edge and layer, for an epoch and for the pass
    behind the last one, with the indices that each makes. ``graph`` and ``peak``: GiB that the
    process holds with the graph, and at its peak.
    """
    if not sizes or min(sizes) < 1000 or epochs < 1:
        raise ConfigError("edges must be at least 1,000, and epochs 1")
    work = [(size, name, epochs) for size in sizes for name in _NETWORKS]
    rows_apart(file, _row, work, say)


def _row(item: tuple[int, str, int]) -> dict[str, object]:
    num_edges, name, epochs = item
    _learn(name, planted_task(1000, 10_000), 1)  # compiles
    begin = time.process_time()
    task = planted_task(num_edges // _DEGREE, num_edges)
    load, graph = time.process_time() - begin, resident()
    trained, evaluated, accuracy = _learn(name, task, epochs)
    layers = _NETWORKS[name]

    def an_edge(seconds: float) -> float:
        return round(1e9 * seconds / (num_edges * layers), 1)

    return {
        "num_nodes": task.num_nodes,
        "num_edges": num_edges,
        "architecture": name,
        "layers": layers,
        "epochs": epochs,
        "load": round(load, 1),
        "train": an_edge(trained / epochs),
        "evaluate": an_edge(evaluated),
        "graph": _gib(graph),
        "peak": _gib(resident(peak=True)),
        "test_accuracy": round(accuracy, 4),
    }


def _learn(name: str, task: GraphTask, epochs: int) -> tuple[float, float, float]:
    """Seconds of the processor for the epochs and for the pass at the end, and test accuracy."""
    torch.manual_seed(0)
    drops = dict.fromkeys(("input_drop", "feat_drop", "head_drop", "attn_drop"), 0.0)
    sizes = {"in_feats": _FEATS, "num_classes": _CLASSES, "hidden_feats": _WIDTH, "num_heads": 8}
    model = create_model(name, **sizes, **drops)
    parts = max(_PER_BATCH, task.num_nodes // _CLUSTER)
    clusters = {"name": "clusters", "method": "contiguous"}
    settings = FitSettings(
        epochs=epochs,
        optimizer={"lr": _LR, "weight_decay": 0.0},
        schedule={"name": "cosine"},
        eval_every=epochs,
        batching={**clusters, "parts": parts, "per_batch": _PER_BATCH},
    )
    times = [time.process_time()]
    # The last epoch's weights are kept: no pass for validation.
    metrics = fit(
        model,
        task,
        settings,
        splits=("test",),
        on_evaluation=lambda _: times.append(time.process_time()),
        verbose=False,
    ).metrics
    times.append(time.process_time())
    return times[1] - times[0], times[2] - times[1], metrics["test_accuracy"]


def _gib(kib: int | None) -> float | str:
    return "" if kib is None else round(kib / 2**20, 2)
