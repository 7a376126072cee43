"""What others may ask of a model class beside ``forward``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from lipzoo.errors import ConfigError
from lipzoo.models.base import DeepAttentionNet

__all__ = ["check_has", "check_has_head", "missing_for_finetuning", "parameter_groups"]

#: What `lipzoo.finetune` takes a model apart with, where it has to.
_FINETUNING = ("layer_groups", "reset_classifier", "reset_input")


def check_has_head(model: nn.Module, name: str = "") -> None:
    """Refuse a body without a head, whose output are features and no logits.

    ``name`` stands in the message, by default that on the model's card.

    Raises
    ------
    ConfigError
        Which names `finetune`.
    """
    if isinstance(model, DeepAttentionNet) and not model.num_classes:
        card = getattr(model, "card", None)
        name = name or (card.full_name if card is not None else type(model).__name__)
        raise ConfigError(
            f"{name}: is a body without a head, which predicts no classes; fine-tune it on your "
            f"data first: lipzoo finetune {name} --data DATA --out DIR (lipzoo.finetune in Python)"
        )


def missing_for_finetuning(model: nn.Module | type[nn.Module] | Any) -> list[str]:
    """The methods without which a model, or its class, is fine-tuned whole, at its sizes alone."""
    return [name for name in _FINETUNING if not hasattr(model, name)]


def check_has(model: nn.Module | type[nn.Module], methods: Iterable[str], what: str) -> None:
    """Refuse a class of one's own that lacks what somebody asks of it.

    Raises
    ------
    ConfigError
        ``"{what}: a Mine has no layer_groups; …"``.
    """
    kind = model if isinstance(model, type) else type(model)
    missing = [name for name in methods if not hasattr(model, name)]
    if missing:
        raise ConfigError(
            f"{what}: a {kind.__name__} has no {' and no '.join(missing)}; add to the class what "
            "lipzoo.models.DeepAttentionNet has under that name, or derive it from that"
        )


def parameter_groups(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """``layer_groups()``; of a model that has none, all its parameters as ``model``."""
    if hasattr(model, "layer_groups"):
        return model.layer_groups()
    return {"model": list(model.parameters())}
