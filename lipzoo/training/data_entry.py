"""What a card says of the data, from a task."""

from __future__ import annotations

from lipzoo.card import DatasetEntry
from lipzoo.datasets import GraphTask

__all__ = ["dataset_entry"]


#: Options that say what was made of a task.
_MADE = ("start", "evidence")


def dataset_entry(task: GraphTask) -> DatasetEntry:
    """Name, options, fingerprints and kind of labels of a task.

    What its features became for these weights is no option of ``load_dataset``: the card says it
    elsewhere.
    """
    options = {key: value for key, value in task.options.items() if key not in _MADE}
    if task.reads_labels:
        options.pop("encoding", None)
    return DatasetEntry(
        name=task.name,
        options=options,
        fingerprint=task.fingerprint,
        data_fingerprint=task.data_fingerprint,
        multilabel=task.multilabel,
        class_names=list(task.class_names) or None,
    )
