"""Features brought to one scale before anything else happens to them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import torch
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from lipzoo.datasets.missing import erase_features, known_nodes
from lipzoo.datasets.task import GraphTask
from lipzoo.errors import ConfigError, DataError, did_you_mean, shown

__all__ = [
    "COMMON",
    "MOST_APART",
    "SCALINGS",
    "Columns",
    "columns_of",
    "scale_features",
    "scaled_by",
]

#: Columns whose sizes are further apart are of units of their own: weights of one size cannot read
#: both.
MOST_APART = 1e3
#: Share of the nodes that have a number in a column that is compared with others: words that few
#: nodes have are neither large nor small.
COMMON = 0.1


class Columns(Protocol):
    """Of each column: what is taken from it, and what it is divided by then."""

    mean: Sequence[float]
    scale: Sequence[float]


def _row(feat: Tensor, columns: Columns | None = None) -> Tensor:
    if (feat < 0).any():
        raise DataError("scaling 'row' is for counts, and some features are negative")
    return feat / feat.sum(1, keepdim=True).clamp(min=1)


def _standard(feat: Tensor, columns: Columns | None = None) -> Tensor:
    columns = _fitted(feat) if columns is None else columns
    mean, scale = (
        torch.as_tensor(each, dtype=torch.float64) for each in (columns.mean, columns.scale)
    )
    return ((feat.double() - mean) / scale).to(feat.dtype)


class _Fitted(NamedTuple):
    mean: list[float]
    scale: list[float]


def _fitted(feat: Tensor) -> _Fitted:
    if not len(feat):
        raise DataError("the features of all nodes are erased")
    scaler = StandardScaler().fit(feat.double().cpu().numpy())
    return _Fitted(scaler.mean_.tolist(), scaler.scale_.tolist())


#: What :func:`erase_features` puts into a task's options, and what it calls that itself.
_ERASED = {"missing_rate": "missing_rate", "missing_seed": "seed", "missing_fill": "fill"}

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
        over all nodes whose features are not erased: columns of different units, such as
        longitudes beside flags.
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
    return _scaled(task, scaling, columns)


def _scaled(task: GraphTask, scaling: str, columns: Columns | None) -> GraphTask:
    """Scaled and then erased, whatever came first: what is erased is 0 on the new scale."""
    erased = {_ERASED[key]: task.options[key] for key in _ERASED if key in task.options}
    try:
        if erased and columns is None and scaling == "standard":
            columns = _fitted(_known_rows(task))
        if erased or "scaling" in task.options:
            task = _as_it_came(task)
        feat = task.feat.cpu()
        feat = SCALINGS[scaling](feat if feat.is_floating_point() else feat.float(), columns)
    except DataError as fault:
        raise DataError(f"{task.name}: {fault}") from None
    scaled = task.with_feat(feat.to(task.device), scaling=scaling)
    return erase_features(scaled, **erased) if erased else scaled


def _as_it_came(task: GraphTask) -> GraphTask:
    """The task with its split, and with features that are neither scaled nor erased."""
    raw = task.with_ndata(feat=task.source.feat.to(task.device))
    raw._source = task.source
    raw.options = {k: v for k, v in task.options.items() if k not in {"scaling", *_ERASED}}
    return raw


def _known_rows(task: GraphTask) -> Tensor:
    """The features as they came, of the nodes that :func:`erase_features` left."""
    feat, rate = task.source.feat.cpu(), task.options.get("missing_rate", 0.0)
    if not rate:
        return feat
    return feat[known_nodes(task, rate, task.options["missing_seed"]).cpu()]


def columns_of(task: GraphTask) -> tuple[list[float], list[float]] | None:
    """Mean and deviation (1 where it is 0) of each column of the features as they came, where the
    task was scaled by them; None also where nobody knows how they came, for the task was changed
    since."""
    if task.options.get("scaling") != "standard" or "scaling" in task.source.options:
        return None
    return _fitted(_known_rows(task))


def scaled_by(task: GraphTask, columns: Columns) -> GraphTask:
    """A task that was scaled by means and deviations of its own, scaled by others; itself where
    these are its own, are for other features, or :func:`columns_of` it is not known."""
    own, wanted = columns_of(task), (list(columns.mean), list(columns.scale))
    if own is None and task.options.get("scaling") == "standard":
        warnings.warn(
            f"{task.name}: was scaled by its own columns and changed since, so that nobody knows "
            "how its features came; the weights read features scaled by those of their training: "
            "pass the raw task, which they scale themselves",
            stacklevel=2,  # said once
        )
    if own in (None, wanted) or task.source.in_feats != len(columns.mean):
        return task
    return _scaled(task, "standard", columns)
