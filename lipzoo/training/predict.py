"""Class probabilities of every node, as a tensor and as CSV."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from lipzoo._atomic import remove_leftovers, write_atomically
from lipzoo._tables import to_csv
from lipzoo._writing import writing_file
from lipzoo.datasets import GraphTask
from lipzoo.encoding import encode_for
from lipzoo.errors import OutputError
from lipzoo.training.metrics import infer

__all__ = ["is_multilabel", "node_ids", "predict", "predictions_file", "write_predictions"]

#: What is measured where a node may have several classes, on cards that do not say it outright.
_MULTILABEL_METRICS = ("_micro_f1", "_roc_auc")


def predict(model: nn.Module, task: GraphTask) -> Tensor:
    """Probabilities (N, C): softmax, or a sigmoid per class where the model is multilabel."""
    logits = infer(model, encode_for(model, task))
    return logits.sigmoid() if is_multilabel(model, task) else logits.softmax(dim=1)


def is_multilabel(model: nn.Module, task: GraphTask) -> bool:
    """Whether a node may have several of the model's classes.

    The model's card says so, for a graph to predict on need not have labels; a model without a
    card, with that of weights without a head, or in context, is taken to be made for the task.
    """
    card = getattr(model, "card", None)
    if card is None or not card.weights.metrics or card.reads_context:
        return task.multilabel
    if card.dataset.multilabel is not None:
        return card.dataset.multilabel
    return any(name.endswith(_MULTILABEL_METRICS) for name in card.weights.metrics)


def node_ids(task: GraphTask) -> list[int]:
    """The ids of the nodes: ``ndata["node_id"]`` where it is there, else 0..N-1.

    A CSV folder brings its whole-numbered ids along; text ids are counted in sorted order.
    """
    ids = task.graph.ndata.get("node_id")
    if ids is None or ids.shape != (task.num_nodes,) or ids.dtype not in (torch.int32, torch.int64):
        return list(range(task.num_nodes))
    return ids.tolist()


def write_predictions(
    path: str | os.PathLike,
    probabilities: Tensor,
    multilabel: bool,
    overwrite: bool = False,
    nodes: Sequence[int] | None = None,
) -> Path:
    """Write ``node, class, p_0, …, p_{C-1}``; several classes are joined by a space.

    Parameters
    ----------
    path : path
        In a folder that exists.
    probabilities : Tensor (N, C)
        What :func:`predict` returned.
    multilabel : bool
        Name all classes above 0.5 (there may be none), instead of the most probable one.
    overwrite : bool
        Replace a file that is there.
    nodes : sequence of N ints, optional
        What stands under ``node``; by default 0..N-1.

    Raises
    ------
    OutputError
        If the file exists and ``overwrite`` is false, cannot be written, or is being written.
    """
    with predictions_file(path, overwrite) as target:
        write_atomically(target, _to_csv(probabilities, multilabel, nodes))
    return target


@contextmanager
def predictions_file(path: str | os.PathLike, overwrite: bool) -> Iterator[Path]:
    """Keep other writers from the file that :func:`write_predictions` is to write.

    Raises
    ------
    OutputError
        See :func:`write_predictions`.
    """
    with writing_file(path) as target:
        if os.path.lexists(target) and not overwrite:
            raise OutputError(f"{target}: exists; choose another file, or pass --overwrite")
        remove_leftovers(target.parent, target.name)
        yield target


def _to_csv(probabilities: Tensor, multilabel: bool, nodes: Sequence[int] | None) -> bytes:
    columns = ["node", "class", *(f"p_{c}" for c in range(probabilities.shape[1]))]
    rows, lines = probabilities.tolist(), []
    for node, row in zip(range(len(rows)) if nodes is None else nodes, rows):
        if multilabel:
            named = " ".join(str(c) for c, p in enumerate(row) if p > 0.5)
        else:
            named = str(max(range(len(row)), key=row.__getitem__))
        lines.append(dict(zip(columns, [node, named, *(f"{p:.6g}" for p in row)])))
    return to_csv(lines, columns)
