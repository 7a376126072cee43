"""Features brought to one scale before anything else happens to them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from lipzoo.datasets.task import GraphTask
from lipzoo.errors import ConfigError, DataError, did_you_mean

__all__ = ["SCALINGS", "scale_features"]


def _row(feat: Tensor) -> Tensor:
    if (feat < 0).any():
        raise DataError(
            "scaling 'row' is for counts, and some features are negative; say 'standard' instead"
        )
    return feat / feat.sum(1, keepdim=True).clamp(min=1)


def _standard(feat: Tensor) -> Tensor:
    scaled = StandardScaler().fit_transform(feat.double().numpy())
    return torch.from_numpy(scaled).to(feat.dtype)


SCALINGS: dict[str, Callable[[Tensor], Tensor]] = {"row": _row, "standard": _standard}


def scale_features(task: GraphTask, scaling: str | None) -> GraphTask:
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

    Raises
    ------
    ConfigError
        If there is no such scaling.
    DataError
        If the features are not for it.
    """
    if scaling is None:
        return task
    if scaling not in SCALINGS:
        raise ConfigError(f"{task.name}: scaling is {scaling!r}{did_you_mean(scaling, SCALINGS)}")
    try:
        feat = SCALINGS[scaling](task.feat.cpu()).to(task.device)
    except DataError as fault:
        raise DataError(f"{task.name}: {fault}") from None
    scaled = task.with_ndata(feat=feat)
    # The last bits of a mean may differ between machines: the fingerprint stays that of the data.
    scaled._fingerprint, scaled._source = task.fingerprint, task.source
    scaled.options["scaling"] = scaling
    return scaled
