"""Road networks (Liang et al., "Towards Quantifying Long-Range Interactions in Graph Machine
Learning", 2025; LeonResearch/City-Networks): the label of a junction lies many hops away.

Roads are stored with their direction and taken in both. The label is the tenth of the nodes that
a node's eccentricity within 16 hops (in metres of road) falls into. The paper's protocol is a
random split of 10 % to train, 10 % to validate and 80 % to test, which is the default here.
"""

from __future__ import annotations

import os

from lipzoo._dgl import dgl
from lipzoo.datasets.catalogue import register_dataset
from lipzoo.datasets.npz_file import graph_of_arrays
from lipzoo.datasets.public_file import PublicFile, read_public
from lipzoo.datasets.task import GraphTask

__all__ = ["FILES", "huangpu", "pasadena"]

RawDir = str | os.PathLike | None

CITY_SPLIT = {"train_share": 0.1, "val_share": 0.1}
#: ``edge_length`` (metres) and ``eccentricity_16`` are what the labels were made of.
_ARRAYS = ("src", "dst", "feat", "label", "eccentricity_16", "edge_length")
_GRAPH = ("src", "dst", "feat", "label")

#: In the authors' repository these two cities are PyTorch pickles, which lipzoo does not open:
#: there is nothing to download, and so no hash.
FILES = {
    name: PublicFile(
        f"city_networks/{name}.npz",
        advice="its authors keep it as PyTorch pickles, which lipzoo does not open: docs/data.md "
        "says how to make the file of them",
    )
    for name in ("huangpu", "pasadena")
}


def _load(name: str, raw_dir: RawDir) -> GraphTask:
    where, arrays = read_public(FILES[name], name, raw_dir, _ARRAYS)
    graph, facts = graph_of_arrays(where, {key: arrays[key] for key in _GRAPH})
    return GraphTask.from_graph(dgl.to_bidirected(graph, copy_ndata=True), name, **facts)


@register_dataset("huangpu", **CITY_SPLIT)
def huangpu(*, raw_dir: RawDir = None) -> GraphTask:
    """5,268 junctions of a district of Shanghai, 12,902 roads, F = 37, C = 10."""
    return _load("huangpu", raw_dir)


@register_dataset("pasadena", **CITY_SPLIT)
def pasadena(*, raw_dir: RawDir = None) -> GraphTask:
    """12,409 junctions of Pasadena, 31,373 roads, F = 37, C = 10."""
    return _load("pasadena", raw_dir)
