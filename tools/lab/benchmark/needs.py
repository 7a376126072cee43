"""The memory that ``lipzoo info`` says a training needs, and what the process then holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from lab.benchmark.graphs import powerlaw_graph
from lab.benchmark.process import apart, peak_of, resident, rows_apart
from lipzoo.datasets import GraphTask
from lipzoo.errors import ConfigError
from lipzoo.info import describe_memory
from lipzoo.registry import create_model
from lipzoo.settings import FitSettings
from lipzoo.training import fit
from lipzoo.training.memory import GraphSizes
from lipzoo.training.metrics import infer

__all__ = ["CASES", "measure_needs"]

_FEATS, _CLASSES, _DEGREE = 64, 10, 10
#: Architecture, and how it is trained.
CASES = (
    ("gat_lip_res_16", "training"),
    ("gat_lip_res_16", "checkpoint_layers"),
    ("gat_lip_res_16", "evaluation"),
    ("gat_lip_rev_16", "reversible"),
    ("gt_lip_16", "evaluation"),
    ("gt_lip_16", "training"),
)


def measure_needs(
    file: Path,
    num_nodes: int,
    cases: Sequence[tuple[str, str]] = CASES,
    say: Callable = print,
) -> None:
    """Write a row a network and a way to train it; those that the file has are kept.

    The estimate is made in one process, two epochs of ``fit`` (or an evaluation) run in another, on
    one thread, on a graph of power-law in-degrees with 10 edges a node. All in MB: ``in_use`` and
    ``held`` as ``lipzoo info`` says, ``measured`` what the process holds at its peak.
    """
    if num_nodes < 10:
        raise ConfigError("nodes must be at least 10")
    items = [(num_nodes, *case) for case in cases]
    rows_apart(file, _row, items, say, names=("num_nodes", "architecture", "way"))


def _row(item: tuple[int, str, str]) -> dict[str, object]:
    num_nodes, name, way = item
    graph = {"num_nodes": num_nodes, "architecture": name, "way": way}
    said = apart(_said, item)
    measured = _measured(item)
    found = {key: round(value / 1e6) for key, value in (*said.items(), ("measured", measured))}
    return {**graph, **found, "held/measured": round(said["held"] / measured, 3)}


def _said(item: tuple[int, str, str]) -> dict[str, int]:
    num_nodes, name, way = item
    sizes = GraphSizes(num_nodes, num_nodes * _DEGREE, _FEATS, _CLASSES, loops=num_nodes)
    return describe_memory(name, sizes)[0]["ways"][way]


def _measured(item: tuple[int, str, str]) -> int:
    num_nodes, name, way = item
    torch.manual_seed(0)
    task = _task(num_nodes)
    options = {"checkpoint_layers": True} if way == "checkpoint_layers" else {}
    model = create_model(name, in_feats=_FEATS, num_classes=_CLASSES, **options)

    def work() -> None:
        if way == "evaluation":
            infer(model, task, gives_back=True)
        else:
            fit(model, task, FitSettings(epochs=2), verbose=False)

    _, peak = peak_of(work)
    return 1024 * (resident(peak=True) if peak is None else peak)


def _task(num_nodes: int) -> GraphTask:
    graph = powerlaw_graph(num_nodes, num_nodes * _DEGREE)
    graph.ndata["feat"] = torch.randn(num_nodes, _FEATS)
    graph.ndata["label"] = torch.arange(num_nodes) % _CLASSES
    kind = torch.rand(num_nodes)
    graph.ndata["train_mask"], graph.ndata["val_mask"] = kind < 0.6, (kind >= 0.6) & (kind < 0.8)
    graph.ndata["test_mask"] = kind >= 0.8
    return GraphTask.from_graph(graph, "powerlaw")
