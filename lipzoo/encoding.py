"""A task as weights read it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lipzoo._schema import validate
from lipzoo.card import Card
from lipzoo.context import encode_context, hidden_parts, num_start_columns, start_columns
from lipzoo.datasets import GraphTask, encode_task
from lipzoo.datasets.scaling import scale_features
from lipzoo.errors import ConfigError
from lipzoo.models import InContextGATv2
from lipzoo.registry import find_checkpoint, load_pretrained
from lipzoo.settings import Start

__all__ = ["add_start", "as_start", "encode_for", "encode_to_train", "is_in_context"]

#: What a card's encoding may be, by its ``kind``; without one, encoded features.
_ENCODINGS = {None: encode_task, "context": encode_context}


def encode_for(reader: Any, task: GraphTask) -> GraphTask:
    """The task as a model or a checkpoint reads it: encoded where its card names an encoding,
    scaled as what it was trained on, where the features are as many, and with what it starts from.

    Whatever takes weights and a task does this first; what it calls then gets the task so. A
    model that was not loaded has no card, and a task that is encoded, scaled or started is returned
    as it is.
    """
    card = getattr(reader, "card", None)
    if card is None or "start" in task.options:
        return task
    encoded = _encoded(card, task)
    if card.start is None:
        return encoded
    return _with_columns(encoded, _columns(task, card.start), card.start)


def encode_to_train(reader: Any, task: GraphTask, start: Start | None = None) -> GraphTask:
    """:func:`encode_for`, and what training needs besides: ``parts``, where the weights read what
    was made of the training labels. ``start`` is that of the card where none is given."""
    card = reader.card
    start = card.start if start is None else start
    if "start" in task.options or (start is None and not is_in_context(card)):
        return encode_for(reader, task)
    if start is not None:
        return add_start(_encoded(card, task), start, task)
    made = encode_for(reader, task)
    made.parts = tuple(
        encode_for(reader, seen).with_ndata(train_mask=hidden)
        for seen, hidden in hidden_parts(task)
    )
    return made


def is_in_context(card: Card) -> bool:
    """Whether the weights read rows made of evidence, and no features."""
    return card.encoding is not None and card.encoding.get("kind") == "context"


def _encoded(card: Card, task: GraphTask) -> GraphTask:
    width = card.architecture.args.get("in_feats")
    if card.start is not None:
        width -= num_start_columns(task.num_classes)
    if (card.encoding or width == task.in_feats) and not (
        {"scaling", "encoding"} & task.options.keys()
    ):
        task = scale_features(task, card.dataset.options.get("scaling"))
    if not card.encoding:
        return task
    spec = dict(card.encoding)
    return _ENCODINGS[spec.pop("kind", None)](task, **spec)


def as_start(start: Start | str | None) -> Start | None:
    """What a user may say: ``"stack"``, ``"context"`` (the weights in context that ship), the name
    of weights in context, or None; with the hash of the weights.

    Raises
    ------
    UnknownNameError
        If there are no such weights.
    ConfigError
        If they are none in context.
    """
    if start is None or start == "none":
        return None
    if isinstance(start, str):
        start = validate(Start, {"of": start}, where="start")
    if start.of == "stack":
        return start
    name = "gat_lip_context_8" if start.of == "context" else start.of
    card = find_checkpoint(name).card
    if not is_in_context(card):
        raise ConfigError(
            f"start: {card.full_name} is no network in context; choose one of gat_lip_context_*, "
            "or 'stack'"
        )
    if start.sha256 not in ("", card.weights.sha256):
        raise ConfigError(
            f"start: {card.full_name} are other weights than those that were started from (sha256 "
            f"{card.weights.sha256[:12]}… instead of {start.sha256[:12]}…); get those again"
        )
    return start.model_copy(update={"of": card.full_name, "sha256": card.weights.sha256})


def add_start(task: GraphTask, start: Start, known: GraphTask | None = None) -> GraphTask:
    """The task with evidence from its training labels, and logits, behind the features.

    ``feat`` becomes (N, F + 15 C); ``parts`` are the same for each part of the training nodes,
    without the labels of that part: a network that saw what was made of a node's own label would
    learn to read it off. A model with ``start_logits`` adds to the logits.

    Parameters
    ----------
    task : GraphTask
        With the features that are kept.
    start : Start
        What :func:`as_start` gave.
    known : GraphTask, optional
        The same graph and labels with the features that the evidence is made of; by default those
        of ``task``.

    Raises
    ------
    DataError
        See :meth:`ClosedFormStack.fit`.
    """
    known = task if known is None else known
    made = _with_columns(task, _columns(known, start), start)
    made.parts = tuple(
        _with_columns(task, _columns(seen, start), start).with_ndata(train_mask=hidden)
        for seen, hidden in hidden_parts(known)
    )
    return made


def _columns(task: GraphTask, start: Start) -> Tensor:
    read = None
    if start.of != "stack":
        read = _read(as_start(start).of, task.device)
    return start_columns(task, read, start.width, start.num_random, start.seed)


def _read(name: str, device: torch.device) -> Callable[[Any, Tensor], Tensor]:
    model: nn.Module = load_pretrained(name).to(device)
    assert isinstance(model, InContextGATv2)
    return partial(_logits, model)


@torch.no_grad()
def _logits(model: nn.Module, graph: Any, rows: Tensor) -> Tensor:
    return model(graph, rows)


def _with_columns(task: GraphTask, columns: Tensor, start: Start) -> GraphTask:
    spec = start.model_dump()
    return task.with_feat(torch.cat([task.feat, columns.to(task.feat)], 1), start=spec)
