"""What the closed-form stack takes, by nodes and classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from lab.benchmark.graphs import planted_task
from lab.benchmark.process import cost_of, rows_apart
from lipzoo.context import ClosedFormStack
from lipzoo.errors import ConfigError

__all__ = ["measure_stack"]

_DEGREE, _FEATS = 10, 128


def measure_stack(
    file: Path, num_nodes: int, numbers: Sequence[int], say: Callable = print
) -> None:
    """Write a row a number of classes, each in a process of its own, on one thread.

    A :func:`~lab.benchmark.graphs.planted_task` with 10 edges a node and 128 features, a tenth of
    the nodes labelled. ``seconds``: the processor's, to fit and to predict all nodes. ``gib``: what
    the process holds at its peak above graph and features.
    """
    if num_nodes < 1000 or min(numbers, default=0) < 2:
        raise ConfigError("nodes must be at least 1,000, classes at least 2")
    rows_apart(file, _row, [(num_nodes, number) for number in numbers], say)


def _row(item: tuple[int, int]) -> dict[str, object]:
    num_nodes, num_classes = item
    _work(planted_task(1000, 1000 * _DEGREE, num_classes, _FEATS))  # imports, compiles
    task = planted_task(num_nodes, num_nodes * _DEGREE, num_classes, _FEATS)
    seconds, growth = cost_of(lambda: _work(task))
    return {
        "num_nodes": num_nodes,
        "num_edges": task.num_edges,
        "feats": _FEATS,
        "classes": num_classes,
        "seconds": round(seconds, 1),
        "gib": "" if growth is None else round(growth / 2**20, 2),
    }


def _work(task) -> None:
    ClosedFormStack().fit(task).predict_logits()
