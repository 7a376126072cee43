"""Class probabilities of every node, as a tensor and as CSV."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lipzoo._atomic import write_atomically
from lipzoo._output import output_file
from lipzoo._rows import row_chunks
from lipzoo._schema import validate
from lipzoo._tables import to_csv
from lipzoo.datasets import GraphTask
from lipzoo.datasets.loading import as_task
from lipzoo.encoding import encode_for
from lipzoo.errors import ConfigError, DataError, shown
from lipzoo.models import check_has_head
from lipzoo.settings import Batching, Clusters, FitSettings, Full
from lipzoo.training.batching import chosen_nodes, infer_sampled
from lipzoo.training.metrics import infer, is_multilabel, warn_if_diverged, with_classes_of

__all__ = ["predict", "probabilities", "rows_of", "write_predictions"]


def predict(
    model: nn.Module,
    task: GraphTask | Any,
    nodes: Tensor | Sequence[int] | None = None,
    *,
    batching: Batching | dict[str, Any] | str = "full",
    seed: int = 0,
) -> Tensor:
    """Probabilities (m, C): softmax, or a sigmoid per class where the model is multilabel.

    Parameters
    ----------
    model : torch.nn.Module
    task : GraphTask, or anything that `lipzoo.datasets.as_task` takes
        Labels are not needed, but those of the training nodes by weights that read them.
    nodes : integer Tensor (m,), or sequence, optional
        Which; some may be there twice. By default all N in their order.
    batching : str or dict
        ``full``: a pass over the whole graph. ``shadow`` and ``neighbours``: of a sample of what
        the nodes read, at a cost that does not grow with the graph; an estimate, but where all
        neighbours are drawn for as many hops as there are layers. See
        :func:`~lipzoo.training.batching.infer_sampled`.
    seed : int
        Of what is drawn.

    Raises
    ------
    ConfigError
        If the model is a body without a head, or the batching is none for this.
    DataError
        If there is no such node.
    """
    check_has_head(model)
    task = with_classes_of(model, as_task(task, require_labels=False), is_judged=False)
    options = validate(FitSettings, {"batching": batching}, "predict").batching
    logits = _logits(model, task, nodes, options, seed)
    warn_if_diverged(logits, task.name)
    return probabilities(logits, is_multilabel(model, task))


def _logits(
    model: nn.Module,
    task: GraphTask,
    nodes: Tensor | Sequence[int] | None,
    batching: Batching,
    seed: int,
) -> Tensor:
    if isinstance(batching, Clusters):
        raise ConfigError(
            "predict: clusters leave out the edges between them, in training alone; say full, "
            "which reads all, or shadow or neighbours for some nodes"
        )
    if not isinstance(batching, Full):
        every = torch.arange(task.num_nodes)
        return infer_sampled(model, task, every if nodes is None else nodes, batching, seed)
    wanted = slice(None) if nodes is None else chosen_nodes(task, nodes)
    return infer(model, encode_for(model, task), gives_back=True)[wanted]


def probabilities(logits: Tensor, multilabel: bool) -> Tensor:
    """Of the classes, (N, C): they sum to 1, or each is for itself where ``multilabel``."""
    return logits.sigmoid() if multilabel else logits.softmax(dim=1)


def rows_of(words: str, ids: Sequence[int | str], name: str) -> list[int]:
    """The rows of nodes that are named by their ids, with commas between.

    Raises
    ------
    DataError
        If a node is not there.
    """
    places = {str(each): row for row, each in reversed(list(enumerate(ids)))}
    rows = []
    for word in words.split(","):
        if word.strip() not in places:
            known = ", ".join(str(each) for each in ids[:5])
            raise DataError(f"{name}: no node '{shown(word.strip())}'; ids are such as {known}")
        rows.append(places[word.strip()])
    return rows


def write_predictions(
    path: str | os.PathLike,
    probabilities: Tensor,
    multilabel: bool,
    overwrite: bool = False,
    nodes: Sequence[int | str] | None = None,
    classes: Sequence[str] = (),
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
    nodes : sequence of N ints or str, optional
        What stands under ``node``; by default 0..N-1.
    classes : sequence of C str, optional
        Names, in place of 0..C-1 in ``class`` and in the columns ``p_…``.

    Raises
    ------
    OutputError
        If the file exists and ``overwrite`` is false, cannot be written, or is being written.
    """
    with output_file(path, overwrite) as target:
        write_atomically(target, _to_csv(probabilities, multilabel, nodes, classes))
    return target


def _to_csv(
    probabilities: Tensor,
    multilabel: bool,
    nodes: Sequence[int | str] | None,
    classes: Sequence[str],
) -> bytes:
    names = classes or [str(c) for c in range(probabilities.shape[1])]
    columns = ["node", "class", *(f"p_{name}" for name in names)]
    numbers = range(len(probabilities)) if nodes is None else nodes
    rows = (row for part in row_chunks(probabilities, probabilities.dtype) for row in part.tolist())

    def line(node: int | str, row: list[float]) -> dict[str, int | str]:
        if multilabel:
            named = " ".join(names[c] for c, p in enumerate(row) if p > 0.5)
        else:
            named = names[max(range(len(row)), key=row.__getitem__)]
        return dict(zip(columns, [node, named, *(f"{p:.6g}" for p in row)]))

    return to_csv(map(line, numbers, rows), columns)
