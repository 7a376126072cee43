"""Features brought to one scale before anything else happens to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from lipzoo.datasets.missing import erase_features
from lipzoo.datasets.task import GraphTask
from lipzoo.errors import ConfigError, DataError, did_you_mean, shown

__all__ = ["SCALINGS", "Columns", "columns_of", "scale_features", "scaled_by"]


class Columns(Protocol):
    """Of each column: what is taken from it, and what it is divided by then."""

    mean: Sequence[float]
    scale: Sequence[float]


def _row(feat: Tensor, columns: Columns | None = None) -> Tensor:
    if (feat < 0).any():
        raise DataError("scaling 'row' is for counts, and some features are negative")
    return feat / feat.sum(1, keepdim=True).clamp(min=1)


def _standard(feat: Tensor, columns: Columns | None = None) -> Tensor:
    mean, scale = _fitted(feat) if columns is None else (columns.mean, columns.scale)
    mean, scale = (torch.as_tensor(each, dtype=torch.float64) for each in (mean, scale))
    return ((feat.double() - mean) / scale).to(feat.dtype)


def _fitted(feat: Tensor) -> tuple[list[float], list[float]]:
    scaler = StandardScaler().fit(feat.double().cpu().numpy())
    return scaler.mean_.tolist(), scaler.scale_.tolist()


#: What :func:`erase_features` puts into a task's options.
_ERASED = ("missing_rate", "missing_seed", "missing_fill")

#: Of features (N, F), and of the columns that a training was scaled by.
SCALINGS: dict[str, Callable[[Tensor, Columns | None], Tensor]] = {
    "row": _row,
    "standard": _standard,
}


def scale_features(
    task: GraphTask, scaling: str | None, columns: Columns | None = None
) -> GraphTask:
    r"""The task with its features brought to one scale.

    Parameters
    ----------
    task : GraphTask
        Not touched; its fingerprint stays that of the data as they came.
    scaling : {"row", "standard"} or None
        ``"row"`` divides the features of a node by their sum, where that is more than 1: words
        that are counted come to be shares (``NormalizeFeatures`` of PyTorch Geometric,
        ``RowFeatNormalizer`` of DGL). ``"standard"`` brings each column to mean 0 and variance 1
        over all nodes: columns of different units, such as longitudes beside flags.
    columns : optional
        For ``"standard"``, what to scale by instead of the task's own means and deviations: a
        card's ``scaling``, so that a graph of few nodes is read as those of the training were.

    Raises
    ------
    ConfigError
        If there is no such scaling, or the task has another one or an encoding.
    DataError
        If the task has no features, or they are not for it.
    """
    present = task.options.get("scaling")
    if scaling in (None, present):
        return task
    if not isinstance(scaling, str) or scaling not in SCALINGS:
        hint = did_you_mean(str(scaling), SCALINGS)
        raise ConfigError(f"{task.name}: scaling is {shown(scaling)!r}{hint}")
    before = f"scaled ({present})" if present else "encoded" if "encoding" in task.options else ""
    if before:
        raise ConfigError(f"{task.name}: is {before} already; pass the raw task")
    if "feat" not in task.graph.ndata or not task.feat.numel():
        raise DataError(f"{task.name}: has no node features to scale")
    erased = {key: task.options[key] for key in _ERASED if key in task.options}
    if erased:  # what is erased counts in no mean, and is 0 on the new scale
        source = task.source
        task = task.with_ndata(feat=source.feat.to(task.device))
        task._source = source
        task.options = {key: value for key, value in task.options.items() if key not in _ERASED}
    feat = task.feat.cpu()
    try:
        feat = SCALINGS[scaling](feat if feat.is_floating_point() else feat.float(), columns)
    except DataError as fault:
        raise DataError(f"{task.name}: {fault}") from None
    scaled = task.with_feat(feat.to(task.device), scaling=scaling)
    if not erased:
        return scaled
    names = {"missing_rate": "missing_rate", "missing_seed": "seed", "missing_fill": "fill"}
    return erase_features(scaled, **{names[key]: value for key, value in erased.items()})


def columns_of(task: GraphTask) -> tuple[list[float], list[float]] | None:
    """Mean and deviation (1 where it is 0) of each column of the features as they came, where the
    task was scaled by them; None also where nobody knows how they came, for the task was changed
    since."""
    if task.options.get("scaling") != "standard" or "scaling" in task.source.options:
        return None
    return _fitted(task.source.feat)


def scaled_by(task: GraphTask, columns: Columns) -> GraphTask:
    """A task that was scaled by means and deviations of its own, scaled by others; itself where
    these are its own, are for other features, or :func:`columns_of` it is not known."""
    own, wanted = columns_of(task), (list(columns.mean), list(columns.scale))
    is_erased = any(key in task.options for key in _ERASED)
    if own in (None, wanted) or is_erased or task.source.in_feats != len(columns.mean):
        return task
    return task.with_feat(_standard(task.source.feat.cpu(), columns).to(task.device))
