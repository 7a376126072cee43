"""What a converted file says of itself: which weights it holds, and what it reads."""

from __future__ import annotations

from torch import nn

from lipzoo import __version__
from lipzoo.card import Card
from lipzoo.weights import CARD_FILE, Checkpoint

__all__ = ["describe"]


def describe(model: nn.Module, card: Card | None, checkpoint: Checkpoint | None) -> dict[str, str]:
    """``name``, ``feat``, ``edge_index``, ``logits`` and ``lipzoo``, its version; where the weights
    are those of a checkpoint, their ``sha256`` and the ``card``, as YAML.

    Parameters
    ----------
    model : torch.nn.Module
        What is converted.
    card : Card, optional
        Of what the model was loaded from: says how features are made, though the weights changed.
    checkpoint : Checkpoint, optional
        Whose weights these are.
    """
    facts = {
        "name": type(model).__name__,
        "feat": f"float32 (N, {model.in_feats}): {_features(card)}",
        "edge_index": (
            "int64 (2, E): sources in row 0, targets in row 1, ids from 0; "
            + ("self-loops are left out" if model.sep else _self_loops(model))
        ),
        "logits": f"float32 (N, {model.num_classes})",
        "lipzoo": __version__,
    }
    if checkpoint is not None:
        facts["name"] = checkpoint.card.full_name
        facts["sha256"] = checkpoint.card.weights.sha256
        facts["card"] = checkpoint.files[CARD_FILE].decode()
    return facts


def _features(card: Card | None) -> str:
    if card is None:
        return "features of the nodes"
    if card.encoding:
        arguments = ", ".join(f"{key}={value}" for key, value in card.encoding.items())
        return f"encoded features of the nodes, lipzoo.datasets.encode_task(task, {arguments})"
    scaling = card.dataset.options.get("scaling")
    if scaling is not None:
        by = "" if card.scaling is None else ", by mean and scale on the card"
        return f"features of the nodes, scaled ({scaling}{by}: lipzoo.datasets.scale_features)"
    return "features of the nodes"


def _self_loops(model: nn.Module) -> str:
    if model.add_self_loops:
        return "with a self-loop at each node, which the caller adds where it is missing"
    return "no self-loops are added"
