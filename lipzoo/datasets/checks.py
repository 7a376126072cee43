"""Is a `GraphTask` fit to train on? Every fault at once: what it is, where, what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Protocol

import torch
from torch import Tensor

from lipzoo._graph import AnyGraph
from lipzoo._rows import row_chunks
from lipzoo.datasets.convert import MASKS, MAX_CLASSES
from lipzoo.datasets.metric import metric_fault, split_fault
from lipzoo.errors import DataError

__all__ = ["find_faults", "metric_faults", "validate_task"]


class Task(Protocol):
    """What is looked at of a `GraphTask`, which calls these checks itself."""

    name: str
    graph: AnyGraph
    num_classes: int
    multilabel: bool
    metric: str
    mapped: bool

    @property
    def num_nodes(self) -> int: ...

    @property
    def stored_feat(self) -> Tensor: ...

    @property
    def edge_feat(self) -> Tensor | None: ...

    @property
    def labels(self) -> Tensor | None: ...


def validate_task(task: Task, require_labels: bool = True, masks: Sequence[str] = MASKS) -> None:
    """Raise one `DataError` that names every fault of the task.

    Parameters
    ----------
    task : GraphTask
    require_labels : bool
        False lets labels and masks be missing or empty: enough to predict with.
    masks : sequence of str
        The masks that are needed; others may be missing or empty too.

    Raises
    ------
    DataError
        On missing, malformed or non-finite features, of edges too; missing or out-of-range labels;
        missing, malformed, empty or overlapping masks; nodes without a label inside a mask; a
        metric that is not for such labels, or not defined on the nodes of a mask.
    """
    faults = find_faults(task, require_labels, masks)
    if faults:
        raise DataError(f"{task.name}: {'; '.join(faults)}")


def find_faults(task: Task, require_labels: bool = True, masks: Sequence[str] = MASKS) -> list[str]:
    """What is wrong with the task, one line a fault; empty where nothing is."""
    if task.num_nodes == 0:
        return ["the graph has no nodes"]
    is_judged = require_labels and task.labels is not None
    return [
        *_feature_faults(task),
        *_edge_feature_faults(task),
        *_label_faults(task, require_labels),
        *_mask_faults(task, masks if require_labels else ()),
        *(metric_faults(task) if is_judged else ()),
    ]


def _feature_faults(task: Task) -> Iterator[str]:
    if "feat" not in task.graph.ndata:
        yield (
            f"no node features: put a float array (N, F) under 'feat' "
            f"(found: {', '.join(task.graph.ndata) or 'nothing'})"
        )
        return
    yield from _number_faults(task.stored_feat, "features", "(N, F)", "node", task.mapped)


def _edge_feature_faults(task: Task) -> Iterator[str]:
    if task.edge_feat is not None:
        yield from _number_faults(task.edge_feat, "edge features", "(E, K)", "edge")


def _number_faults(
    feat: Tensor, what: str, shape: str, row: str, mapped: bool = False
) -> Iterator[str]:
    if feat.dim() != 2 or feat.shape[1] == 0 or not (mapped or feat.is_floating_point()):
        instead = "; without any give each a constant one" * (0 in feat.shape[1:])
        yield f"{what} must be floats {shape}, but are {feat.dtype} {tuple(feat.shape)}{instead}"
        return
    if feat.dtype != torch.float32 and not mapped:
        yield (
            f"{what} must be float32, but are {feat.dtype}; GraphTask.from_graph, instead of "
            "GraphTask(...), converts them"
        )
        return
    if not len(feat):
        return
    # Of each row two numbers, which NaN passes on to: no second copy of the features is made.
    ends = [torch.aminmax(rows, dim=1) for rows in row_chunks(feat.detach())]
    bad = torch.cat([~(least.isfinite() & most.isfinite()) for least, most in ends])
    if bad.any():
        yield (
            f"{what} are NaN or infinite on {_places(bad, row)}; "
            f"fill them (0 means missing), scale what is above 3.4e38, or drop these {row}s"
        )


def _label_faults(task: Task, require_labels: bool) -> Iterator[str]:
    labels = task.labels
    if task.num_classes > MAX_CLASSES:
        yield (
            f"{task.num_classes} classes, and lipzoo takes {MAX_CLASSES:,} at most: number them "
            "0..C-1 without gaps"
        )
        return
    if labels is None:
        if require_labels:
            yield "no labels: put an integer array (N,) under 'label', with -1 for unknown"
        return
    if task.multilabel:
        if labels.dim() != 2 or labels.shape[1] != task.num_classes:
            yield f"multilabel labels must be (N, {task.num_classes}), but are {_shape(labels)}"
            return
        bad = ~((labels == 0) | (labels == 1)).all(dim=1) & ~(labels == -1).all(dim=1)
        if bad.any():
            yield f"multilabel labels are neither 0 nor 1 on {_nodes(bad)}"
        return
    if labels.dim() != 1 or labels.dtype != torch.int64:
        yield f"labels must be int64 (N,), but are {labels.dtype} {_shape(labels)}"
        return
    bad = (labels < -1) | (labels >= task.num_classes)
    if bad.any():
        yield (
            f"labels must lie in 0..{task.num_classes - 1} (or be -1 for unknown), "
            f"but do not on {_nodes(bad)}, which has {int(labels[bad][0])}"
        )


def _mask_faults(task: Task, needed: Sequence[str]) -> Iterator[str]:
    masks = {name: task.graph.ndata[name] for name in MASKS if name in task.graph.ndata}
    absent = [name for name in needed if name not in masks]
    # Without labels there is nothing to split: that fault is enough.
    if absent and task.labels is not None:
        yield f"no {' and no '.join(absent)}: give all three masks, or none for a random split"
    for name, mask in list(masks.items()):
        if mask.dtype != torch.bool or mask.dim() != 1:
            several = "; choose a split with with_split(0)" if mask.dim() == 2 else ""
            yield f"{name} must be bool (N,), but is {mask.dtype} {_shape(mask)}{several}"
            del masks[name]
        elif name in needed and not mask.any():
            yield f"{name} is empty: it must select at least one node"
    for (one, mask), (other, other_mask) in combinations(masks.items(), 2):
        both = mask & other_mask
        if both.any():
            yield f"{one} and {other} overlap on {_nodes(both)}; a node belongs to one split"
    if task.labels is not None and len(task.labels.shape) in (1, 2):
        unknown = task.labels == -1
        unknown = unknown.all(dim=1) if unknown.dim() == 2 else unknown
        for name, mask in masks.items():
            if (mask & unknown).any():
                yield f"{name} selects {_nodes(mask & unknown)} without a label (-1)"


def metric_faults(task: Task) -> Iterator[str]:
    """What keeps a labelled task from being judged by its metric."""
    fault = metric_fault(task.metric, task.num_classes, task.multilabel)
    if fault:
        yield fault
        return
    for name in MASKS:
        mask = task.graph.ndata.get(name)
        if mask is not None and mask.dtype == torch.bool and mask.dim() == 1 and mask.any():
            fault = split_fault(task.metric, task.labels[mask])
            if fault:
                yield f"{fault}, as those in {name} are; take another split or metric"


def _nodes(which: Tensor) -> str:
    """``"3 nodes (first: node 7)"``, or ``"node 7"``."""
    return _places(which, "node")


def _places(which: Tensor, row: str) -> str:
    where = which.nonzero().flatten()
    first = f"{row} {int(where[0])}"
    return first if len(where) == 1 else f"{len(where)} {row}s (first: {first})"


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))
