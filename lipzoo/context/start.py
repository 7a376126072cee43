"""A task whose features say what is known of the labels, for a network to correct."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lipzoo.context.evidence import Context
from lipzoo.context.rows import context_rows, predictors_of
from lipzoo.context.stack import ClosedFormStack
from lipzoo.datasets import GraphTask
from lipzoo.errors import DataError

__all__ = ["hidden_parts", "num_start_columns", "start_columns"]

#: Logits (N, C) or (N, G) of a graph and rows; see `lipzoo.models.InContextGATv2`.
Reader = Callable[[Any, Tensor], Tensor]


def num_start_columns(num_classes: int) -> int:
    """How many columns :func:`start_columns` gives: the predictors', the stack's, the logits."""
    return 15 * num_classes


def start_columns(
    task: GraphTask, read: Reader | None, width: int, num_random: int, seed: int
) -> Tensor:
    r"""Evidence, then logits, (N, 15 C), float32, from the labels of the training nodes.

    The evidence of a class are :math:`(\log p_k(c) - \log \pi_c) / 2` of the 13 predictors and the
    stack (:func:`.context_rows`); where a node may have several labels, the difference of those of
    1 and 0. The logits are those of ``read``, a network in context, or without one the stack's.
    """
    stack = ClosedFormStack(width=width, num_random=num_random, seed=seed).fit(task)
    rows = context_rows(stack).to(task.device)
    said = predictors_of(rows)
    logits = stack.predict_logits().to(task.device) if read is None else read(task.graph, rows)
    if task.multilabel:
        said = said[:, :, 1] - said[:, :, 0]
    return torch.cat([said.flatten(1), logits], 1)


def hidden_parts(task: GraphTask) -> list[tuple[GraphTask, Tensor]]:
    """The task with a part of its training nodes hidden, and that part, (N,); for each part.

    At most five parts, of about the same labels each.

    Raises
    ------
    DataError
        If there is one training node, and see :meth:`.Context.of`.
    """
    index = task.train_mask.nonzero().squeeze(1)
    if len(index) < 2:
        raise DataError(
            f"{task.name}: has one training node; to learn from what others say takes two"
        )
    fold = torch.from_numpy(Context.of(task.to("cpu")).fold).to(task.device)
    found = []
    for part in fold.unique():
        hidden = torch.zeros_like(task.train_mask)
        hidden[index[fold == part]] = True
        found.append((task.with_ndata(train_mask=task.train_mask & ~hidden), hidden))
    return found
