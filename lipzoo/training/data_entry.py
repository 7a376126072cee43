"""What a card says of the data, from a task, and of what one seed reached."""

from __future__ import annotations

from lipzoo.card import Card, DatasetEntry, ScalingEntry, Summary, WeightsEntry
from lipzoo.datasets import GraphTask
from lipzoo.datasets.scaling import columns_of

__all__ = ["dataset_entry", "kept_feature_names", "scaling_entry", "with_result"]


#: Options that say what was made of a task.
_MADE = ("start", "evidence")

#: Two numbers each, of the 50,000 that a YAML file may hold.
_MOST_COLUMNS = 10_000


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
        feature_names=kept_feature_names(task) or None,
    )


def kept_feature_names(task: GraphTask) -> list[str]:
    """What the columns are called, where a YAML file has room for it."""
    return list(task.feature_names) if len(task.feature_names) <= _MOST_COLUMNS else []


def scaling_entry(task: GraphTask) -> ScalingEntry | None:
    """What the columns of a task were scaled by, where that is known and a card has room for it."""
    found = columns_of(task)
    if found is None or len(found[0]) > _MOST_COLUMNS:
        return None
    return ScalingEntry(mean=found[0], scale=found[1])


def with_result(card: Card, metrics: dict[str, float], epoch: int, seed: int) -> Card:
    """The card with what the weights of one seed, those of an epoch, reach."""
    return card.model_copy(
        update={
            "weights": WeightsEntry(seed=seed, epoch=epoch, metrics=metrics),
            "metrics": {
                key: Summary(mean=value, std=0.0, values=[value]) for key, value in metrics.items()
            },
        }
    )
