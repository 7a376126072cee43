"""What the classes and the nodes of a task are called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lipzoo.datasets.columns import is_whole_text
from lipzoo.errors import DataError, did_you_mean, shown

__all__ = ["as_class_names", "as_feature_names", "as_node_ids", "node_ids", "recount"]


def node_ids(task: Any) -> list[int | str]:
    """The ids of a task's nodes: those of the data; else ``ndata["node_id"]``, else 0..N-1."""
    if task.node_ids is not None:
        return list(task.node_ids)
    ids = task.graph.ndata.get("node_id")
    if ids is None or ids.shape != (task.num_nodes,) or ids.dtype not in (torch.int32, torch.int64):
        return list(range(task.num_nodes))
    return ids.tolist()


def as_class_names(names: Any, num_classes: int, where: str) -> tuple[str, ...]:
    """Words, one a class; none where there are no names.

    Raises
    ------
    DataError
        If they are no words, one stands there twice, or they are not as many as the classes.
    """
    return _as_names(names, num_classes, f"{where}: class_names", "class", "classes")


def as_feature_names(names: Any, in_feats: int, where: str) -> tuple[str, ...]:
    """Words, one a column of features; none where there are no names.

    Raises
    ------
    DataError
        As of :func:`as_class_names`.
    """
    return _as_names(names, in_feats, f"{where}: feature_names", "column", "columns")


def _as_names(names: Any, number: int, where: str, one: str, several: str) -> tuple[str, ...]:
    found = _listed(names, where)
    if not all(isinstance(name, str) for name in found):
        raise DataError(f"{where} must be words, one a {one}")
    if len(set(found)) < len(found):
        raise DataError(f"{where}: a {one} stands there twice")
    if found and len(found) != number:
        raise DataError(f"{where} are {len(found)}, and there are {number} {several}; name each")
    return tuple(map(str, found))


def as_node_ids(ids: Any, num_nodes: int, where: str) -> list[int | str] | None:
    """Numbers or words, one a node; None where there are none.

    Raises
    ------
    DataError
        If they are neither, not as many as the nodes, or two are the same once they are written.
    """
    if ids is None:
        return None
    found = _listed(ids, f"{where}: node_ids")
    if len(found) != num_nodes:
        raise DataError(
            f"{where}: node_ids are {len(found)}, and there are {num_nodes} nodes; give each one"
        )
    if not all(isinstance(node, (int, str)) and not isinstance(node, bool) for node in found):
        raise DataError(f"{where}: node_ids must be whole numbers or words")
    written: dict[str, int] = {}
    for row, node in enumerate(found):
        first = written.setdefault(str(node), row)
        if first != row:
            raise DataError(
                f"{where}: nodes {first} and {row} are both called '{shown(node)}', at least in a "
                "file, where 1 and '1' are one; rename one"
            )
    return found


def _listed(values: Any, what: str) -> list:
    if isinstance(values, (Tensor, np.ndarray)):
        return values.tolist()
    if isinstance(values, (str, bytes)) or not hasattr(values, "__iter__"):
        raise DataError(f"{what} must be a list, got {type(values).__name__}")
    return [value.item() if isinstance(value, (np.generic, Tensor)) else value for value in values]


def recount(
    labels: Tensor | None, names: Sequence[str], wanted: Sequence[str], where: str
) -> Tensor | None:
    """Labels of classes that are called ``names``, counted as ``wanted`` counts them.

    Where one of both has no names, a class is called by its number: where the words of a column
    all look like numbers, they have become numbers.

    Parameters
    ----------
    labels : Tensor or None
        int64 (N,) with -1 for unknown; or, where both have names, 0/1 (N, C) with rows of -1.

    Raises
    ------
    DataError
        If a class is none of ``wanted``.
    """
    found = [] if labels is None or labels.dim() == 2 else labels.unique().tolist()
    called = dict(enumerate(names)) or {label: str(label) for label in found if label >= 0}
    # Without names a class is its number, if it is one.
    place = {name: number for number, name in enumerate(wanted)} or {
        name: int(name) for name in names if is_whole_text(name) and int(name) >= 0
    }
    absent = [name for name in called.values() if name not in place]
    if absent and not (names and wanted):
        raise DataError(f"{where}: {_unmatched(list(called.values()), wanted)}")
    if absent:
        raise DataError(
            f"{where}: the weights know no class {absent[0]!r}{did_you_mean(absent[0], wanted)}; "
            "fine-tune them on it"
        )
    if labels is None:
        return None
    if labels.dim() == 1:
        places = [place[called[label]] if label >= 0 else label for label in found]
        rows = torch.searchsorted(labels.new_tensor(found), labels)
        return labels.new_tensor(places)[rows]
    counted = labels.new_zeros(len(labels), len(wanted))
    counted[:, [place[name] for name in names]] = labels
    counted[(labels < 0).any(1)] = -1
    return counted


def _unmatched(classes: list[str], wanted: Sequence[str]) -> str:
    """What to say where words stand on one side, numbers on the other."""
    there = shown(", ".join(classes), 200)
    if wanted:
        return (
            f"its classes are the numbers {there}, and the weights call theirs "
            f"{shown(', '.join(wanted), 200)}: which is which cannot be told; give the labels by "
            "these names (GraphTask.from_graph takes class_names=[...]), or fine-tune them on it"
        )
    return (
        f"its classes are called {there}, and those of the weights are numbers from 0 on: which "
        "is which cannot be told; give the labels as these numbers, or fine-tune them on it"
    )
