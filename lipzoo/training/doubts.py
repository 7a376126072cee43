"""Data that nothing, or little, can be learnt from as they are: said before the training."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from lipzoo.datasets import GraphTask
from lipzoo.datasets.scaling import COMMON, MOST_APART
from lipzoo.training.metrics import shown_class

__all__ = ["one_label", "warn_of_data"]

#: Numbers that are looked at: some rows of many.
_NUMBERS = 2**22
#: A column whose mean is off by more of its spreads hides how it changes.
_MOST_OFF = 100


def warn_of_data(task: GraphTask) -> None:
    """Warn where there is one class, where the training nodes are all of one, and, where the
    features are read as they are, of columns in units of their own; ``task`` is as it is trained
    on."""
    if task.num_classes == 1 and not task.multilabel:
        warnings.warn(
            f"{task.name}: has one class, so that every prediction is right and says nothing; "
            "number the classes 0..C-1, or give labels as words ('-1' is no label)",
            stacklevel=4,
        )
    if one_label(task):
        label = task.labels[task.train_mask][0]
        what = shown_class(label.nonzero().flatten().tolist() if task.multilabel else int(label))
        warnings.warn(
            f"{task.name}: all training nodes are of {what}: all that can be learnt from them is a "
            f"model that predicts {what} for every node; label nodes of another class too, or take "
            "other masks (where there are none, nodes of each class are drawn)",
            stacklevel=4,
        )
    if not {"scaling", "encoding"} & task.options.keys():
        # The columns of a start are of one unit; a change of one's own counts.
        words = _units(task.source if "start" in task.options else task)
        if words:
            warnings.warn(
                f"{task.name}: {words}: read as they are, the large drown the rest; bring the "
                "columns to one scale: scaling='standard' (--data-option scaling=standard, "
                "lipzoo.datasets.scale_features)",
                stacklevel=4,
            )


def one_label(task: GraphTask) -> bool:
    """Whether all training nodes have the same label, though there are others, or the same labels
    each."""
    labels = task.labels[task.train_mask]
    return task.num_classes > 1 and len(labels) > 0 and bool((labels == labels[0]).all())


def _units(task: GraphTask) -> str:
    """Which columns are of units of their own; nothing where none is."""
    rows = max(2, _NUMBERS // max(task.in_feats, 1))
    feat = task.feat_of(slice(0, None, -(-task.num_nodes // rows))).double()
    if not feat.numel():
        return ""
    low, high, size = feat.amin(0), feat.amax(0), feat.abs()
    # A flag that nearly all nodes have is off by much, and harmless.
    varies = ~((feat == low) | (feat == high)).all(0)
    mean, spread = feat.mean(0), feat.std(0, correction=0)
    off = varies & (mean.abs() > _MOST_OFF * spread)
    if off.any():
        column = int(off.nonzero()[0])
        words = "hardly differs from node to node beside its size"
        return f"feature {_shown(column, mean, spread)} {words}"
    count = (size > 0).sum(0)
    sizes, common = size.sum(0) / count.clamp(min=1), count >= COMMON * len(feat)
    varying = common & (low < high)
    if not varying.any():
        return ""
    # What is the same everywhere says nothing where it is small; large, it drowns the rest.
    large = int(sizes.masked_fill(~common, 0).argmax())
    small = int(sizes.masked_fill(~varying, torch.inf).argmin())
    if sizes[large] <= MOST_APART * sizes[small]:
        return ""
    both = " and ".join(_shown(column, mean, spread) for column in (large, small))
    return f"features {both} are of very different sizes"


def _shown(column: int, mean: Tensor, spread: Tensor) -> str:
    return f"{column} ({mean[column]:.3g} ± {spread[column]:.2g})"
