"""What a card says of the data, from a task."""

from __future__ import annotations

from lipzoo.card import DatasetEntry
from lipzoo.datasets import GraphTask

__all__ = ["dataset_entry"]


def dataset_entry(task: GraphTask) -> DatasetEntry:
    """Name, options, fingerprints and kind of labels of a task."""
    return DatasetEntry(
        name=task.name,
        options=task.options,
        fingerprint=task.fingerprint,
        data_fingerprint=task.data_fingerprint,
        multilabel=task.multilabel,
    )
