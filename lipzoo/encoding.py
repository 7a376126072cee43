"""A task as weights read it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lipzoo._schema import validate
from lipzoo.card import Card
from lipzoo.context import encode_context, hidden_parts, num_start_columns, start_columns
from lipzoo.datasets import GraphTask, encode_task
from lipzoo.datasets.loading import with_any_split
from lipzoo.datasets.scaling import scale_features, scaled_by
from lipzoo.errors import CheckpointError, ConfigError, DataError, UnknownNameError, shown
from lipzoo.models import InContextGATv2
from lipzoo.registry import find_checkpoint, load_pretrained, split_name
from lipzoo.settings import Start

__all__ = [
    "add_start",
    "as_start",
    "class_names",
    "encode_for",
    "encode_to_train",
    "is_multilabel",
    "started",
]

#: What a card's encoding may be, by its ``kind``; without one, encoded features.
_ENCODINGS = {None: encode_task, "context": encode_context}
_CONTEXT = "gat_lip_context_8"

#: What is measured where a node may have several classes, on cards that do not say it outright.
_MULTILABEL_METRICS = ("_micro_f1", "_roc_auc")

#: Logits of a graph and rows; see `lipzoo.models.InContextGATv2`.
_Reader = Callable[[Any, Tensor], Tensor] | None


def encode_for(reader: Any, task: GraphTask, anew: bool = False) -> GraphTask:
    """The task as a model or a checkpoint reads it: scaled as what it was trained on, where the
    features are as many, encoded where its card names an encoding, and with what it starts from
    (then it is split at random where it has labels and no masks).

    Whatever takes weights and a task does this first; what it calls then gets the task so. A
    model that was not loaded has no card, and a task that is encoded or started is returned as it
    is; so is one that is scaled, but for the columns that the card says it is to be scaled by.
    ``anew``: by its own instead, for weights that are to learn on it, whose columns may mean
    something else than those of the training before.

    Raises
    ------
    ConfigError
        If the task was encoded or started for other weights.
    DataError
        If its columns are those of the training in another order.
    """
    card = getattr(reader, "card", None)
    if card is None or _is_started(task, card.start):
        return task
    _check_columns(card, task, anew)
    if card.start is not None or card.reads_context:
        task = with_any_split(task)
    scaled = _scaled(card, task, anew)
    encoded = _encoded(card, scaled)
    if card.start is None:
        return encoded
    classes = card.architecture.args["num_classes"]
    if task.num_classes > classes:
        raise ConfigError(
            f"{task.name}: has {task.num_classes} classes, and the weights tell {classes} apart; "
            "fine-tune them on it"
        )
    known = replace(scaled, num_classes=classes)
    return _with_columns(encoded, card.start, known, _reader(card.start, task.device))


def encode_to_train(
    reader: Any, task: GraphTask, start: Start | None = None, anew: bool = False
) -> GraphTask:
    """:func:`encode_for`, and what training needs besides: ``parts``, where the weights read what
    was made of the training labels.

    ``reader`` may be a model without a card. ``start`` is that of the card where none is given.

    Raises
    ------
    ConfigError
        Also if the task was made without parts.
    """
    card = getattr(reader, "card", None)
    start = start or (card and card.start)
    if task.reads_labels and not task.parts:
        raise ConfigError(
            f"{task.name}: the features were made of the training labels, all at once, and "
            "whoever learns from them reads those off; pass the raw task"
        )
    if card is None or _is_started(task, start):
        return task
    if start is not None:
        scaled = _scaled(card, task, anew)
        return add_start(_encoded(card, scaled), start, scaled)
    made = encode_for(reader, task, anew)
    if made is task or not card.reads_context:
        return made
    return made.with_parts((encode_for(reader, seen), part) for seen, part in hidden_parts(task))


def as_start(start: Start | dict[str, Any] | str | None) -> Start | None:
    """What a user may say: ``"stack"``, ``"context"`` (the weights in context that ship), the name
    of weights in context, or None; with what those weights' card says (but for another ``seed``
    that is said here), and their hash.

    Raises
    ------
    UnknownNameError
        If there are no such weights.
    ConfigError
        If they are none in context, or others than those of the hash.
    """
    if start is None:
        return None
    if isinstance(start, dict):
        start = validate(Start, start, where="start")
    elif not isinstance(start, Start):
        start = _start_of(start)
    if start.of == "stack":
        return start
    try:
        card = find_checkpoint(_CONTEXT if start.of == "context" else start.of).card
    except UnknownNameError:
        raise UnknownNameError(
            f"start: no weights in context {start.of!r}; choose 'stack', 'context' (or the name of "
            "such weights), or in fine-tuning 'auto'"
        ) from None
    if not card.reads_context or card.architecture.model != InContextGATv2.__name__:
        raise ConfigError(
            f"start: {start.of} is no network in context; choose one of gat_lip_context_*, or "
            "'stack'"
        )
    if start.sha256 not in ("", card.weights.sha256):
        raise ConfigError(
            f"start: {start.of} are other weights than those that were started from (sha256 "
            f"{card.weights.sha256[:12]}… instead of {start.sha256[:12]}…); get those again"
        )
    is_whole = start.of != "context" and split_name(start.of)[1] is not None
    read = {key: value for key, value in card.encoding.items() if key != "kind"}
    asked = start.model_dump(include={"width", "num_random"}, exclude_unset=True)
    for key, value in asked.items():
        if value != read[key]:
            raise ConfigError(f"start: {start.of} reads evidence of {key} {read[key]}, not {value}")
    if "seed" in start.model_fields_set:
        read["seed"] = start.seed
    named = {"of": start.of if is_whole else card.full_name, "sha256": card.weights.sha256}
    return type(start)(**read, **named)


def _start_of(name: Any) -> Start:
    try:
        return validate(Start, {"of": name}, where="start")
    except ConfigError:
        raise ConfigError(
            f"start: expected 'stack', 'context' or the name of weights in context, such as "
            f"'{_CONTEXT}', and no path, got {shown(repr(name))}; None starts from the features"
        ) from None


def started(task: GraphTask, start: Start | dict[str, Any] | str | None) -> GraphTask:
    """:func:`add_start` of what :func:`as_start` takes; the task itself where that is None."""
    found = as_start(start)
    return task if found is None else add_start(task, found)


def is_multilabel(model: Any, task: GraphTask) -> bool:
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


def class_names(model: Any, task: GraphTask) -> tuple[str, ...]:
    """What the classes of the model are called, where that is known.

    Its card says it; a model without one, and one that reads the labels as context, have the
    classes of the task.
    """
    card = getattr(model, "card", None)
    if card is None or card.reads_context:
        return task.class_names
    return tuple(card.dataset.class_names or ())


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
    ConfigError
        If the features that the evidence is to be made of are encoded.
    DataError
        See :meth:`ClosedFormStack.fit`.
    """
    known = task if known is None else known
    read = _reader(start, task.device)
    made = _with_columns(task, start, known, read)
    return made.with_parts(
        (_with_columns(task, start, seen, read), part) for seen, part in hidden_parts(known)
    )


def _is_started(task: GraphTask, start: Start | None) -> bool:
    present = task.options.get("start")
    if present is None:
        return False
    if start is None or present != start.model_dump():
        raise ConfigError(f"{task.name}: starts from {present}, not {start}; pass the raw task")
    return True


def _check_columns(card: Card, task: GraphTask, anew: bool) -> None:
    """Refuse columns that have changed places; warn of others, but where the weights learn them."""
    there, known = task.feature_names, tuple(card.dataset.feature_names or ())
    if not there or not known or there == known or len(there) != len(known) or card.encoding:
        return
    words = f"the weights read {shown(', '.join(known))}, and here is {shown(', '.join(there))}"
    if {*there} == {*known}:
        raise DataError(
            f"{task.name}: its columns have changed places: {words}; bring them into the first "
            f"order (of a table: features=[{shown(', '.join(known))}])"
        )
    if not anew:
        warnings.warn(f"{task.name}: has other columns: {words}", stacklevel=3)


def _scaled(card: Card, task: GraphTask, anew: bool) -> GraphTask:
    width, classes = (card.architecture.args.get(name) for name in ("in_feats", "num_classes"))
    if card.start is not None:
        width -= num_start_columns(classes)
    made = {"scaling", "encoding", "start"} & task.options.keys()
    if made == {"scaling"} and not anew and card.scaling is not None:
        return scaled_by(task, card.scaling)
    if made:
        return task
    if not card.encoding and width != task.in_feats:
        return task
    scaling, columns = card.dataset.options.get("scaling"), card.scaling
    if anew or (columns is not None and len(columns.mean) != task.in_feats):
        columns = None
    # The same data have the same columns.
    elif scaling == "standard" and columns is None and not _is_of(card, task):
        warnings.warn(
            f"{task.name}: {card.full_name} read features scaled by the mean and the deviation of "
            "each column, which their card does not hold: those of this graph are taken. Where its "
            "nodes are few, or others than in the training, predictions suffer; fine-tune the "
            "weights on all the data that are there, which keeps what they were scaled by",
            stacklevel=2,  # said once
        )
    return scale_features(task, scaling, columns)


def _is_of(card: Card, task: GraphTask) -> bool:
    return card.dataset.data_fingerprint == task.data_fingerprint


def _encoded(card: Card, task: GraphTask) -> GraphTask:
    if not card.encoding:
        return task
    spec = dict(card.encoding)
    return _ENCODINGS[spec.pop("kind", None)](task, **spec)


def _reader(start: Start, device: torch.device) -> _Reader:
    """What reads the rows, loaded once; None for the stack."""
    if start.of == "stack":
        return None
    model = load_pretrained(as_start(start).of).to(device)
    if not isinstance(model, InContextGATv2):
        raise CheckpointError(f"{start.of}: is no network in context")

    @torch.no_grad()
    def read(graph: Any, rows: Tensor) -> Tensor:
        return model(graph, rows)

    return read


def _with_columns(task: GraphTask, start: Start, known: GraphTask, read: _Reader) -> GraphTask:
    if "encoding" in known.options:
        raise ConfigError(
            f"{task.name}: start is made of features that are not encoded; leave the encoding out"
        )
    columns = start_columns(known, read, start.width, start.num_random, start.seed)
    feat = torch.cat([task.feat, columns.to(task.feat)], 1)
    return task.with_feat(feat, start=start.model_dump())
