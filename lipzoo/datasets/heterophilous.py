"""Graphs whose neighbours differ (Platonov et al., ICLR 2023), with ten public splits each.

"A critical look at the evaluation of GNNs under heterophily: are we really making progress?",
yandex-research/heterophilous-graphs. Edges are stored once and taken in both directions. About half
of the nodes train; ``split_index`` (0..9) says which of the ten splits. Where there are two classes
the metric is ROC AUC, as in the paper.
"""

from __future__ import annotations

import os

from lipzoo._graph import to_bidirected
from lipzoo.datasets.arrays import graph_of_arrays
from lipzoo.datasets.catalogue import register_dataset
from lipzoo.datasets.public_file import pinned_files, read_public
from lipzoo.datasets.task import GraphTask
from lipzoo.errors import DataError

__all__ = [
    "FILES",
    "actor",
    "amazon_ratings",
    "chameleon_filtered",
    "minesweeper",
    "questions",
    "roman_empire",
    "squirrel_filtered",
    "tolokers",
]

RawDir = str | os.PathLike | None

#: The authors' arrays, and what they are called in an ``.npz`` of one's own.
_ARRAYS = {
    "node_features": "feat",
    "node_labels": "label",
    "edges": "",
    "train_masks": "train_mask",
    "val_masks": "val_mask",
    "test_masks": "test_mask",
}

_URL = (
    "https://raw.githubusercontent.com/yandex-research/heterophilous-graphs/"
    "a431395582e929d88271309716bea4fe24ce6318/data/"
)
#: SHA-256 and bytes of the files at this commit. Those of amazon_ratings, questions and
#: roman_empire are as others have published them, whose hashes of minesweeper and tolokers agree
#: with ours; the rest were computed from the files. A hash that is wrong means that what is
#: fetched is refused, never that another file is taken.
_HASHES = {
    "actor": (
        "c350eef06b2c2a9bf8218be2b57cac6d4003d0922eb597a039e9123f75817816",
        252_956,
    ),
    "amazon_ratings": (
        "4c3a3e3b9d9f6cba0fede4625a00aad8c5721c1a36ed771367f446763241c7dd",
        27_744_018,
    ),
    "chameleon_filtered": (
        "bf46f07e1fb5249280447e5fe3100f3e82fc4b93ad1e13ffcfdec924b6ac0bb5",
        58_924,
    ),
    "minesweeper": (
        "e664c8dacf1e8ac466c2c09ed4b237bd2c5541f47a6eae9c6092cb87f16412b3",
        135_045,
    ),
    "questions": (
        "757ebd772bab1475c4dd951ca9e364400c6db161656cff9d21780ee874cf3074",
        47_369_919,
    ),
    "roman_empire": (
        "a58ba741d123bf892fe5c872138d07463d75a2e9012360b8dd78ac2d4766d428",
        20_401_489,
    ),
    "squirrel_filtered": (
        "f06370ffb3116c5de8b7a600005400b2293c025e0ce2f6916d8201a825505ac7",
        208_215,
    ),
    "tolokers": (
        "dacf3ac94cec53d03cd2adb5255c08b33dee1656c33ca8164a464bd9450a1667",
        1_329_769,
    ),
}
FILES = pinned_files("heterophilous", _URL, _HASHES)


def _load(name: str, raw_dir: RawDir, metric: str = "") -> GraphTask:
    where, arrays = read_public(FILES[name], name, raw_dir, _ARRAYS)
    edges = arrays.pop("edges")
    if edges.ndim != 2 or edges.shape[1] != 2:
        raise DataError(
            f"{where}: edges must be (E, 2), but is {edges.shape}; take the file as its authors "
            "publish it"
        )
    arrays = {_ARRAYS[key]: array for key, array in arrays.items()}
    graph, facts = graph_of_arrays(where, {**arrays, "src": edges[:, 0], "dst": edges[:, 1]})
    return GraphTask.from_graph(to_bidirected(graph), name, **{**facts, "metric": metric})


@register_dataset("roman_empire")
def roman_empire(*, raw_dir: RawDir = None) -> GraphTask:
    """22,662 words of an article, 32,927 neighbours, F = 300, C = 18 syntactic roles."""
    return _load("roman_empire", raw_dir)


@register_dataset("amazon_ratings")
def amazon_ratings(*, raw_dir: RawDir = None) -> GraphTask:
    """24,492 goods, 93,050 joint purchases, F = 300, C = 5 ratings."""
    return _load("amazon_ratings", raw_dir)


@register_dataset("minesweeper")
def minesweeper(*, raw_dir: RawDir = None) -> GraphTask:
    """10,000 cells of a grid, 39,402 neighbours, F = 7, C = 2 (a mine or none); ROC AUC."""
    return _load("minesweeper", raw_dir, "roc_auc")


@register_dataset("tolokers")
def tolokers(*, raw_dir: RawDir = None) -> GraphTask:
    """11,758 workers, 519,000 joint tasks, F = 10, C = 2 (banned or not); ROC AUC."""
    return _load("tolokers", raw_dir, "roc_auc")


@register_dataset("questions")
def questions(*, raw_dir: RawDir = None) -> GraphTask:
    """48,921 users, 153,540 answers, F = 301, C = 2 (still active or not); ROC AUC."""
    return _load("questions", raw_dir, "roc_auc")


@register_dataset("chameleon_filtered")
def chameleon_filtered(*, raw_dir: RawDir = None) -> GraphTask:
    """890 articles, 8,854 links, F = 2,325 nouns, C = 5; without the duplicates of Chameleon."""
    return _load("chameleon_filtered", raw_dir)


@register_dataset("squirrel_filtered")
def squirrel_filtered(*, raw_dir: RawDir = None) -> GraphTask:
    """2,223 articles, 46,998 links, F = 2,089 nouns, C = 5; without the duplicates of Squirrel."""
    return _load("squirrel_filtered", raw_dir)


@register_dataset("actor")
def actor(*, raw_dir: RawDir = None) -> GraphTask:
    """7,600 actors, 26,659 joint articles, F = 932 keywords, C = 5 (Pei et al., ICLR 2020)."""
    return _load("actor", raw_dir)
