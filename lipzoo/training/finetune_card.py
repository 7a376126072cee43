"""The card of fine-tuned weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lipzoo.card import ArchitectureEntry, Card, versions
from lipzoo.datasets import GraphTask
from lipzoo.settings import FinetuneSettings
from lipzoo.training.adapting import sizes_of
from lipzoo.training.data_entry import dataset_entry, scaling_entry

__all__ = ["card_before", "identity"]


def card_before(
    before: Card,
    task: GraphTask,
    overrides: dict[str, Any],
    settings: FinetuneSettings,
    class_weight: str | Sequence[float] | Tensor | None,
    weights: Tensor | None,
) -> Card:
    """The card, with everything that is known before the training."""
    args = {**before.architecture.args, **overrides, **sizes_of(before, task, overrides)}
    recipe = {
        "finetuned_from": before.full_name,
        "weights_sha256": before.weights.sha256,
        **settings.model_dump(mode="json"),
        "class_weight": class_weight if isinstance(class_weight, str) else None,
        "class_weights": None if weights is None else weights.tolist(),
        "num_threads": torch.get_num_threads(),
    }
    return Card(
        name=before.name,
        tag=Path(task.name).stem,
        description=f"{before.full_name}, fine-tuned on {task.name}",
        source=before.source,
        licence=before.licence,
        architecture=ArchitectureEntry(model=before.architecture.model, args=args),
        dataset=dataset_entry(task),
        encoding=before.encoding,
        start=task.options.get("start"),
        scaling=scaling_entry(task),
        seeds=[settings.seed],
        recipe={key: value for key, value in recipe.items() if value is not None},
        versions=versions(),
    )


def identity(card: Card) -> dict[str, Any]:
    """What two runs must share for one to go on with the other."""
    parts = {"recipe", "architecture", "dataset", "start", "encoding"}
    content = card.model_dump(mode="json", include=parts)
    del content["recipe"]["num_threads"]  # others round differently, but are no other fine-tuning
    return content
