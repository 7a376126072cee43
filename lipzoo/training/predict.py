"""Class probabilities of every node, as a tensor and as CSV."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

from torch import Tensor, nn

from lipzoo._yaml import write_atomically
from lipzoo.datasets import GraphTask
from lipzoo.errors import OutputError
from lipzoo.training.metrics import infer

__all__ = ["predict", "write_predictions"]


def predict(model: nn.Module, task: GraphTask) -> Tensor:
    """Probabilities (N, C): softmax, or a sigmoid per class where the task is multilabel."""
    logits = infer(model, task)
    return logits.sigmoid() if task.multilabel else logits.softmax(dim=1)


def write_predictions(
    path: str | os.PathLike, probabilities: Tensor, multilabel: bool, overwrite: bool = False
) -> Path:
    """Write ``node, class, p_0, …, p_{C-1}``; several classes are joined by a space.

    Raises
    ------
    OutputError
        If the file exists and ``overwrite`` is false, or cannot be written.
    """
    target = Path(path)
    if target.exists() and not overwrite:
        raise OutputError(f"{target}: exists; choose another file, or pass --overwrite")
    if target.parent != Path() and not target.parent.is_dir():
        raise OutputError(f"{target.parent}: is no folder; make it first")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["node", "class", *(f"p_{c}" for c in range(probabilities.shape[1]))])
    for node, row in enumerate(probabilities.tolist()):
        if multilabel:
            named = " ".join(str(c) for c, p in enumerate(row) if p > 0.5)
        else:
            named = str(max(range(len(row)), key=row.__getitem__))
        writer.writerow([node, named, *(f"{p:.6g}" for p in row)])
    write_atomically(target, text.getvalue().encode("utf-8"))
    return target
