"""Public benchmark graphs that DGL has dataset classes for, with the edges as DGL gives them."""

from __future__ import annotations

import os

from lipzoo._dgl import dgl
from lipzoo.datasets.catalogue import register_dataset
from lipzoo.datasets.fixed_split import fixed_split
from lipzoo.datasets.raw_files import InMemory, read_dataset
from lipzoo.datasets.task import GraphTask

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


class _Cora(InMemory, dgl.data.CoraGraphDataset):
    pass


class _Citeseer(InMemory, dgl.data.CiteseerGraphDataset):
    pass


class _Pubmed(InMemory, dgl.data.PubmedGraphDataset):
    pass


class _InFileOrder(InMemory):
    """For the graphs of Shchur et al.: DGL numbers their nodes anew, by SciPy's reverse
    Cuthill-McKee, which is another in each version of SciPy. Here a node keeps its number in the
    file: published splits name it, and random ones are drawn of it.
    """

    def process(self) -> None:
        graph = self._load_npz(os.path.join(self.raw_path, f"{self.name}.npz"))
        self._graph = dgl.reorder_graph(
            graph, node_permute_algo=None, edge_permute_algo="dst", store_ids=False
        )
        self._data = [self._graph]


class _AmazonComputers(_InFileOrder, dgl.data.AmazonCoBuyComputerDataset):
    pass


class _AmazonPhoto(_InFileOrder, dgl.data.AmazonCoBuyPhotoDataset):
    pass


class _CoauthorCS(_InFileOrder, dgl.data.CoauthorCSDataset):
    pass


class _CoauthorPhysics(_InFileOrder, dgl.data.CoauthorPhysicsDataset):
    pass


def _load(dataset_class: type, name: str, raw_dir: RawDir) -> GraphTask:
    dataset = read_dataset(dataset_class, name, raw_dir)
    return GraphTask.from_graph(dataset[0], name, num_classes=dataset.num_classes)


@register_dataset("cora")
def cora(*, raw_dir: RawDir = None) -> GraphTask:
    """2,708 papers, 10,556 citations, row-normalised words F = 1,433, C = 7 (Planetoid)."""
    return _load(_Cora, "cora", raw_dir)


@register_dataset("citeseer")
def citeseer(*, raw_dir: RawDir = None) -> GraphTask:
    """3,327 papers, 9,228 citations, row-normalised words F = 3,703, C = 6 (Planetoid)."""
    return _load(_Citeseer, "citeseer", raw_dir)


@register_dataset("pubmed")
def pubmed(*, raw_dir: RawDir = None) -> GraphTask:
    """19,717 papers, 88,651 citations, row-normalised TF-IDF F = 500, C = 3 (Planetoid)."""
    return _load(_Pubmed, "pubmed", raw_dir)


@register_dataset("amazon_computers", fixed_split=fixed_split("amazon-computer"), **PITFALLS_SPLIT)
def amazon_computers(*, raw_dir: RawDir = None) -> GraphTask:
    """13,752 goods, 491,722 joint purchases, words F = 767, C = 10 (Shchur et al. 2018)."""
    return _load(_AmazonComputers, "amazon_computers", raw_dir)


@register_dataset("amazon_photo", fixed_split=fixed_split("amazon-photo"), **PITFALLS_SPLIT)
def amazon_photo(*, raw_dir: RawDir = None) -> GraphTask:
    """7,650 goods, 238,163 joint purchases, words F = 745, C = 8 (Shchur et al. 2018)."""
    return _load(_AmazonPhoto, "amazon_photo", raw_dir)


@register_dataset("coauthor_cs", fixed_split=fixed_split("coauthor-cs"), **PITFALLS_SPLIT)
def coauthor_cs(*, raw_dir: RawDir = None) -> GraphTask:
    """18,333 authors, 163,788 joint papers, keywords F = 6,805, C = 15 (Shchur et al. 2018)."""
    return _load(_CoauthorCS, "coauthor_cs", raw_dir)


@register_dataset("coauthor_physics", fixed_split=fixed_split("coauthor-physics"), **PITFALLS_SPLIT)
def coauthor_physics(*, raw_dir: RawDir = None) -> GraphTask:
    """34,493 authors, 495,924 joint papers, keywords F = 8,415, C = 5 (Shchur et al. 2018)."""
    return _load(_CoauthorPhysics, "coauthor_physics", raw_dir)
