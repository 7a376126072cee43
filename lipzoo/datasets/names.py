"""What the classes and the nodes of a task are called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lipzoo.errors import DataError, did_you_mean, shown

__all__ = ["as_class_names", "as_node_ids", "recount"]


def as_class_names(names: Any, num_classes: int, where: str) -> tuple[str, ...]:
    """Words, one a class; none where there are no names.

    Raises
    ------
    DataError
        If they are no words, one stands there twice, or they are not as many as the classes.
    """
    found = _listed(names, f"{where}: class_names")
    if not all(isinstance(name, str) for name in found):
        raise DataError(f"{where}: class_names must be words, one a class")
    if len(set(found)) < len(found):
        raise DataError(f"{where}: class_names: a class stands there twice")
    if found and len(found) != num_classes:
        raise DataError(
            f"{where}: class_names are {len(found)}, and there are {num_classes} classes; name each"
        )
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

    Parameters
    ----------
    labels : Tensor or None
        int64 (N,) with -1 for unknown, or 0/1 (N, C) with rows of -1.

    Raises
    ------
    DataError
        If a class is none of ``wanted``.
    """
    place = {name: number for number, name in enumerate(wanted)}
    absent = [name for name in names if name not in place]
    if absent:
        raise DataError(
            f"{where}: the weights know no class {absent[0]!r}{did_you_mean(absent[0], wanted)}; "
            "fine-tune them on it"
        )
    if labels is None:
        return None
    places = torch.tensor([place[name] for name in names], device=labels.device)
    if labels.dim() == 1:
        return torch.cat([places, places.new_tensor([-1])])[labels]
    counted = labels.new_zeros(len(labels), len(wanted))
    counted[:, places] = labels
    counted[(labels < 0).any(1)] = -1
    return counted
