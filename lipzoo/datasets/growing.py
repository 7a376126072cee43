"""A graph that has grown: nodes and edges appended to a task's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lipzoo._graph import make_graph
from lipzoo.datasets.arrays import as_numbers
from lipzoo.datasets.columns import plain
from lipzoo.datasets.convert import MASKS
from lipzoo.datasets.task import GraphTask
from lipzoo.errors import DataError

__all__ = ["check_growth", "grown"]


def grown(
    task: GraphTask,
    feat_new: Any,
    edges_new: Any,
    edge_feat_new: Any = None,
    node_ids_new: Sequence[int | str] | None = None,
) -> GraphTask:
    """The task with M more nodes, behind the old ones, and E' more edges; the task is not touched.

    New nodes have no label (-1, or in multilabel tasks rows of -1), and are in no mask.

    Parameters
    ----------
    feat_new : Tensor or array (M, F)
        Of the new nodes, which become N..N+M-1.
    edges_new : integer Tensor or array (2, E')
        Sources and destinations, numbered as in the grown graph.
    edge_feat_new : Tensor or array (E', K), optional
        Where the edges of the task have features.
    node_ids_new : sequence of M ids, optional
        Where the nodes of the task have ids; numbers are by default counted on.

    Raises
    ------
    DataError
        If something has another shape, is no number, or an edge leads out of the graph; or if the
        features of the task were made of its labels.
    """
    feat, edges, edge_feat = check_growth(task, feat_new, edges_new, edge_feat_new)
    num_new = len(feat)
    src, dst = (
        torch.cat([old.to(new.dtype), new])
        for old, new in zip(task.graph.edges(order="eid"), edges.to(task.device))
    )
    graph = make_graph(src, dst, task.num_nodes + num_new)
    for key, column in task.graph.ndata.items():
        if key not in ("feat", "label", *MASKS):
            continue  # what else nodes carry, the new ones lack
        fill = -1 if key == "label" else 0
        more = column.new_full((num_new, *column.shape[1:]), fill)
        # Features that are mapped come into memory here.
        both = [task.feat, feat.to(task.feat)] if key == "feat" else [column, more]
        graph.ndata[key] = torch.cat(both)
    if edge_feat is not None:
        graph.edata["feat"] = torch.cat([task.edge_feat, edge_feat.to(task.edge_feat)])
    ids = _ids(task, num_new, node_ids_new)
    return GraphTask.from_graph(
        graph,
        task.name,
        num_classes=task.num_classes,
        metric=task.metric,
        class_names=task.class_names,
        node_ids=ids,
        feature_names=task.feature_names,
    )


def _ids(task: GraphTask, num_new: int, given: Any) -> list[int | str] | None:
    """The ids of all nodes; new numbers are counted on from the largest."""
    if task.node_ids is None:
        if given is not None:
            raise DataError(f"{task.name}: its nodes have no ids; leave node_ids_new out")
        return None
    old = list(task.node_ids)
    if given is None and num_new:
        if not all(isinstance(node, int) for node in old):
            raise DataError(f"{task.name}: its nodes have ids; pass node_ids_new, {num_new} more")
        first = max(old, default=-1) + 1
        given = range(first, first + num_new)
    ids = [*old, *(given if given is not None else ())]
    if len(ids) != task.num_nodes + num_new or len(set(ids)) < len(ids):
        raise DataError(f"{task.name}: node_ids_new must be {num_new} ids that are not taken")
    return ids


def check_growth(
    task: GraphTask,
    feat_new: Any,
    edges_new: Any,
    edge_feat_new: Any = None,
    *,
    reads_edge_feat: bool = True,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Features (M, F), edges int64 (2, E'), and edge features (E', K) or None, as tensors.

    Edge features are needed where the task has some, unless nobody reads them.

    Raises
    ------
    DataError
        See :func:`grown`.
    """
    if made := sorted({"scaling", "encoding", "start", "missing_fill"} & task.options.keys()):
        raise DataError(
            f"{task.name}: the features were made of the data's ({', '.join(made)}), and those of "
            "new nodes are not; pass the raw task: the weights say by themselves what they read"
        )
    feat = _numbers(task, "feat_new", feat_new)
    if feat.dim() != 2 or feat.shape[1] != task.in_feats:
        raise DataError(
            f"{task.name}: feat_new is {tuple(feat.shape)}; it must be (M, {task.in_feats})"
        )
    try:
        edges = torch.as_tensor(edges_new)
    except (TypeError, ValueError, RuntimeError):
        raise DataError(
            f"{task.name}: edges_new must be whole numbers (2, E): sources, destinations; got a "
            f"{type(edges_new).__name__}"
        ) from None
    if edges.numel() == 0:
        edges = edges.long().reshape(2, 0)
    is_whole = not (edges.is_floating_point() or edges.is_complex() or edges.dtype is torch.bool)
    if edges.dim() != 2 or edges.shape[0] != 2 or not is_whole:
        raise DataError(
            f"{task.name}: edges_new is {tuple(edges.shape)} of {edges.dtype}; it must be whole "
            "numbers (2, E): sources, destinations"
        )
    num_nodes = task.num_nodes + len(feat)
    if edges.numel() and not 0 <= int(edges.min()) <= int(edges.max()) < num_nodes:
        raise DataError(
            f"{task.name}: edges_new holds {int(edges.min())}..{int(edges.max())}, but the nodes "
            f"of the grown graph are 0..{num_nodes - 1}, the new ones from {task.num_nodes} on"
        )
    if task.edge_feat is None or not reads_edge_feat:
        if edge_feat_new is not None:
            whose = "the network reads" if task.edge_feat is not None else "its edges have"
            raise DataError(f"{task.name}: {whose} no edge features; leave edge_feat_new out")
        return feat, edges.long(), None
    if edge_feat_new is None:
        raise DataError(f"{task.name}: its edges have features; pass edge_feat_new, (E, K)")
    edge_feat = _numbers(task, "edge_feat_new", edge_feat_new)
    wanted = (edges.shape[1], task.edge_feats)
    if edge_feat.shape != wanted:
        raise DataError(
            f"{task.name}: edge_feat_new is {tuple(edge_feat.shape)}; it must be {wanted}"
        )
    return feat, edges.long(), edge_feat


def _numbers(task: GraphTask, name: str, values: Any) -> Tensor:
    try:
        array = np.asarray(plain(values))
    except ValueError:  # rows of different lengths
        array = np.empty(0, object)
    found = as_numbers(task.name, name, array).float()
    if not found.isfinite().all():
        raise DataError(f"{task.name}: {name} holds NaN or infinite numbers")
    return found
