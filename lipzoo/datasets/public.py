"""Public benchmark graphs that DGL has dataset classes for, from its files, with its edges."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from lipzoo._files import open_regular
from lipzoo._graph import AnyGraph, make_graph, to_bidirected
from lipzoo.datasets.arrays import graph_of_arrays
from lipzoo.datasets.catalogue import register_dataset
from lipzoo.datasets.csr import Csr
from lipzoo.datasets.fixed_split import fixed_split
from lipzoo.datasets.npz import read_arrays
from lipzoo.datasets.planetoid import read_planetoid
from lipzoo.datasets.raw_files import read_raw
from lipzoo.datasets.task import GraphTask
from lipzoo.errors import DataError

__all__ = [
    "amazon_computers",
    "amazon_photo",
    "citeseer",
    "coauthor_cs",
    "coauthor_physics",
    "cora",
    "pubmed",
]

RawDir = str | os.PathLike | None

#: Shchur et al., "Pitfalls of Graph Neural Network Evaluation", 2018: 20 nodes a class train,
#: 30 a class validate, the rest test.
PITFALLS_SPLIT = {"train_per_class": 20, "val_per_class": 30}

_SPARSE = {of: [f"{of}_{part}" for part in Csr._fields] for of in ("adj", "attr")}
_SHCHUR_ARRAYS = (*_SPARSE["adj"], *_SPARSE["attr"], "labels")


def _planetoid(name: str, archive: str, raw_dir: RawDir) -> GraphTask:
    graph, num_classes = read_raw(
        lambda folder: read_planetoid(folder, archive), archive, name, raw_dir
    )
    return GraphTask.from_graph(graph, name, num_classes=num_classes)


def _shchur(name: str, archive: str, raw_dir: RawDir) -> GraphTask:
    """A graph of Shchur et al., whose nodes are numbered as in the file.

    DGL numbers them anew, by SciPy's reverse Cuthill-McKee, which is another in each version of
    SciPy. Here published splits name the nodes, and random ones are drawn of them.
    """
    graph = read_raw(lambda folder: _read_shchur(folder, f"{archive}.npz"), archive, name, raw_dir)
    return GraphTask.from_graph(graph, name)


def _read_shchur(folder: Path, file_name: str) -> AnyGraph:
    """Sparse features and adjacency, of which both directions are taken; sorted by destination."""
    with open_regular(folder / file_name, folder) as file:
        size = os.fstat(file.fileno()).st_size
        arrays = read_arrays(file_name, file, size, _SHCHUR_ARRAYS)
    missing = [key for key in _SHCHUR_ARRAYS if key not in arrays]
    if missing:
        raise DataError(f"{file_name}: there is no array {missing[0]!r}; fetch it again")
    adjacency, words = (Csr(*(arrays[key] for key in keys)) for keys in _SPARSE.values())
    src, dst = adjacency.check(file_name, "adj").entries()
    feat = words.check(file_name, "attr", size).dense()
    graph, _ = graph_of_arrays(
        file_name, {"src": src, "dst": dst, "feat": feat, "label": arrays["labels"]}
    )
    src, dst = to_bidirected(graph).edges(order="eid")
    # As DGL orders them. The sort is not stable; with another, weights would not replay to the bit.
    order = torch.from_numpy(np.argsort(dst.numpy()))
    ordered = make_graph(src[order], dst[order], graph.num_nodes())
    ordered.ndata.update(graph.ndata)
    return ordered


@register_dataset("cora")
def cora(*, raw_dir: RawDir = None) -> GraphTask:
    """2,708 papers, 10,556 citations, row-normalised words F = 1,433, C = 7 (Planetoid)."""
    return _planetoid("cora", "cora_v2", raw_dir)


@register_dataset("citeseer")
def citeseer(*, raw_dir: RawDir = None) -> GraphTask:
    """3,327 papers, 9,228 citations, row-normalised words F = 3,703, C = 6 (Planetoid)."""
    return _planetoid("citeseer", "citeseer", raw_dir)


@register_dataset("pubmed")
def pubmed(*, raw_dir: RawDir = None) -> GraphTask:
    """19,717 papers, 88,651 citations, row-normalised TF-IDF F = 500, C = 3 (Planetoid)."""
    return _planetoid("pubmed", "pubmed", raw_dir)


@register_dataset("amazon_computers", fixed_split=fixed_split("amazon-computer"), **PITFALLS_SPLIT)
def amazon_computers(*, raw_dir: RawDir = None) -> GraphTask:
    """13,752 goods, 491,722 joint purchases, words F = 767, C = 10 (Shchur et al. 2018)."""
    return _shchur("amazon_computers", "amazon_co_buy_computer", raw_dir)


@register_dataset("amazon_photo", fixed_split=fixed_split("amazon-photo"), **PITFALLS_SPLIT)
def amazon_photo(*, raw_dir: RawDir = None) -> GraphTask:
    """7,650 goods, 238,163 joint purchases, words F = 745, C = 8 (Shchur et al. 2018)."""
    return _shchur("amazon_photo", "amazon_co_buy_photo", raw_dir)


@register_dataset("coauthor_cs", fixed_split=fixed_split("coauthor-cs"), **PITFALLS_SPLIT)
def coauthor_cs(*, raw_dir: RawDir = None) -> GraphTask:
    """18,333 authors, 163,788 joint papers, keywords F = 6,805, C = 15 (Shchur et al. 2018)."""
    return _shchur("coauthor_cs", "coauthor_cs", raw_dir)


@register_dataset("coauthor_physics", fixed_split=fixed_split("coauthor-physics"), **PITFALLS_SPLIT)
def coauthor_physics(*, raw_dir: RawDir = None) -> GraphTask:
    """34,493 authors, 495,924 joint papers, keywords F = 8,415, C = 5 (Shchur et al. 2018)."""
    return _shchur("coauthor_physics", "coauthor_physics", raw_dir)
