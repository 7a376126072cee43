"""What others may ask of a model class beside ``forward``."""

from __future__ import annotations

from typing import Any

from torch import nn

from lipzoo.errors import ConfigError
from lipzoo.models.base import DeepAttentionNet

__all__ = ["check_has_head", "missing_for_finetuning"]

#: What `lipzoo.finetune` takes a model apart with.
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
    """The methods that a model, or its class, would need to be fine-tuned."""
    return [name for name in _FINETUNING if not hasattr(model, name)]
