"""Fit a pretrained model to another task: the sizes that come from the data."""

from __future__ import annotations

from typing import Any

from torch import nn

from lipzoo.card import Card
from lipzoo.datasets import GraphTask
from lipzoo.datasets.loading import is_same_data
from lipzoo.errors import ConfigError, DataError
from lipzoo.models import DeepAttentionNet, check_has
from lipzoo.registry import build_pretrained, find_class
from lipzoo.weights import Checkpoint

__all__ = ["adapt", "sizes_of", "was_trained_on"]


def adapt(
    checkpoint: Checkpoint, task: GraphTask, overrides: dict[str, Any]
) -> tuple[nn.Module, list[str]]:
    """The pretrained model with input and head of the task's sizes; which layer groups are new.

    Raises
    ------
    ConfigError
        If a class of one's own would need methods for that which it has not.
    """
    if checkpoint.card.reads_context:
        model, _ = build_pretrained(checkpoint, **overrides)
        return model.to(task.device), []
    kind = find_class(checkpoint.card.architecture.model)
    # Of another class nobody knows which weights the sizes change: it does that itself, below.
    is_ours = kind is None or issubclass(kind, DeepAttentionNet)
    if not is_ours and "start" in task.options:
        raise ConfigError(
            f"start: a {kind.__name__} has no start_logits; derive it from "
            "lipzoo.models.DeepAttentionNet, or leave start out"
        )
    sizes = sizes_of(checkpoint.card, task, overrides)
    edge_feats = sizes.pop("edge_feats", 0)
    others = {key: value for key, value in overrides.items() if key != "edge_feats"}
    model, _ = build_pretrained(checkpoint, **(sizes if is_ours else {}), **others)
    card, before = checkpoint.card, checkpoint.card.architecture.args
    begins_anew = task.options.get("start") != (card.start and card.start.model_dump())
    new_input = before["in_feats"] != task.in_feats or begins_anew
    new_edges = getattr(model, "edge_feats", 0) != edge_feats
    new_sizes = before["num_classes"] != task.num_classes or begins_anew
    needed = {"reset_input": new_input, "reset_edges": new_edges, "reset_classifier": new_sizes}
    check_has(
        model,
        [method for method, is_needed in needed.items() if is_needed],
        f"{task.name}: to go from {before['in_feats']} features and {before['num_classes']} "
        f"classes to {task.in_feats} and {task.num_classes}",
    )
    replaced = []
    if new_input:
        model.reset_input(task.in_feats)
        replaced.append("input")
    if new_edges:
        model.reset_edges(edge_feats)
        replaced.append("edges")
    # A class of one's own that cannot do that goes on with the head it has.
    can_reset = hasattr(model, "reset_classifier")
    if new_sizes or (can_reset and not was_trained_on(card, task)):
        model.reset_classifier(task.num_classes)
        replaced.append("head")
    return model.to(task.device), replaced


def sizes_of(card: Card, task: GraphTask, overrides: dict[str, Any]) -> dict[str, Any]:
    """The arguments that come from the task.

    Raises
    ------
    DataError
        If edge features are read, and the task has none, or others than asked for.
    """
    if card.reads_context:
        return {}
    sizes = {"in_feats": task.in_feats, "num_classes": task.num_classes}
    if "start" in task.options:
        sizes["start_logits"] = True
    before = card.architecture.args.get("edge_feats", 0)
    asked = overrides.get("edge_feats", before and task.edge_feats)
    if before and not task.edge_feats and "edge_feats" not in overrides:
        raise DataError(
            f"{task.name}: {card.full_name} read edge features (edge_feats={before}), and the "
            "graph has none: give it edata['feat'], (E, K), or pass edge_feats=0 to leave out "
            "what reads them"
        )
    if overrides.get("edge_values") and not before:
        raise DataError(
            "edge_values: is of weights that have read edge features from the start; leave it out, "
            "or train the architecture"
        )
    if asked and asked != task.edge_feats:
        raise DataError(
            f"{task.name}: edge_feats is {asked}, and the width of the graph's edge features, "
            f"edata['feat'], is {task.edge_feats}; leave it out, or pass 0 to ignore them"
        )
    return {**sizes, "edge_feats": asked} if before or asked else sizes


def was_trained_on(card: Card, task: GraphTask) -> bool:
    """Whether the classes of a card's head are those of the task: it is the same data."""
    entry = card.dataset
    if tuple(entry.class_names or task.class_names) != task.class_names:
        return False
    if entry.data_fingerprint is not None:
        return entry.data_fingerprint == task.data_fingerprint
    return is_same_data(task, entry.name, entry.options, entry.fingerprint)
