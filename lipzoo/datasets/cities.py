"""Road networks (Liang et al., "Towards Quantifying Long-Range Interactions in Graph Machine
Learning", 2025; LeonResearch/City-Networks): the label of a junction lies many hops away.

Roads are stored with their direction and taken in both. The label is the tenth of the nodes that
a node's eccentricity within 16 hops (in metres of road) falls into. The paper's protocol is a
random split of 10 % to train, 10 % to validate and 80 % to test, which is the default here.

``hops`` makes the labels anew, of the stored lengths: among the nodes from which directed roads
lead to a node in so many hops, the greatest distance to it by roads in either direction. That is
how the stored labels seem to be made: with 16 hops, 97 % of the eccentricities and 99.5 %
(Huangpu) and 99.2 % (Pasadena) of the labels come out the same. 16 takes the stored ones.
"""

from __future__ import annotations

import os

import numpy as np
import scipy.sparse as sp
import torch
from scipy.sparse.csgraph import dijkstra

from lipzoo._graph import to_bidirected
from lipzoo.datasets.arrays import graph_of_arrays
from lipzoo.datasets.catalogue import register_dataset
from lipzoo.datasets.public_file import PublicFile, read_public
from lipzoo.datasets.task import GraphTask
from lipzoo.errors import ConfigError, DataError

__all__ = ["FILES", "eccentricities", "huangpu", "pasadena", "tenths"]

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


_STORED_HOPS = 16
#: Nodes whose neighbourhoods are looked for at once.
_AT_ONCE = 512


def _load(name: str, raw_dir: RawDir, hops: int) -> GraphTask:
    if not 1 <= hops <= 1000:
        raise ConfigError(f"{name}: hops is {hops}, it must lie in 1..1000")
    where, arrays = read_public(FILES[name], name, raw_dir, _ARRAYS)
    graph, facts = graph_of_arrays(where, {key: arrays[key] for key in _GRAPH})
    if hops != _STORED_HOPS:
        length = arrays["edge_length"]
        fits = length.shape == (graph.num_edges(),) and length.dtype.kind in "iuf"
        if not fits or not np.isfinite(length).all() or (length < 0).any():
            raise DataError(f"{where}: edge_length must hold a length in metres for each edge")
        src, dst = (ends.numpy() for ends in graph.edges(order="eid"))
        found = eccentricities(src, dst, length.astype(np.float64), graph.num_nodes(), hops)
        graph.ndata["label"] = torch.from_numpy(tenths(found))
    return GraphTask.from_graph(to_bidirected(graph), name, **facts)


def eccentricities(
    src: np.ndarray, dst: np.ndarray, length: np.ndarray, num_nodes: int, hops: int
) -> np.ndarray:
    r"""The greatest distance to a node from its neighbourhood of so many hops, (N,).

    .. math:: \varepsilon_k(i) = \max_{j \in B_k(i)} d_{B_k(i)}(j, i)

    where ``B_k(i)`` are the nodes from which at most ``k`` edges lead to ``i``, and ``d`` is the
    length of the shortest way from ``j`` to ``i`` inside ``B_k(i)``. A step from u to v is as long
    as the edge ``u -> v``, the last one of several; where there is none, as the edge ``v -> u``.

    Parameters
    ----------
    src, dst : ndarray (E,)
        Directed edges.
    length : ndarray (E,)
        Not negative.
    num_nodes, hops : int
        ``N`` and ``k``.
    """
    shape = (num_nodes, num_nodes)
    backwards = sp.csr_matrix((np.ones(len(src)), (dst, src)), shape)
    ends = np.concatenate([src, dst]).astype(np.int64), np.concatenate([dst, src]).astype(np.int64)
    pairs = ends[0] * num_nodes + ends[1]
    last = len(pairs) - 1 - np.unique(pairs[::-1], return_index=True)[1]
    lengths = np.concatenate([length, length])[last].astype(np.float64)
    both = sp.csr_matrix((lengths, (ends[0][last], ends[1][last])), shape)
    found = np.zeros(num_nodes)
    for begin in range(0, num_nodes, _AT_ONCE):
        nodes = np.arange(begin, min(begin + _AT_ONCE, num_nodes))
        steps = dijkstra(backwards, unweighted=True, indices=nodes, limit=hops)
        for node, reached in zip(nodes, np.isfinite(steps), strict=True):
            near = np.flatnonzero(reached)
            ways = dijkstra(both[near][:, near], indices=int(np.searchsorted(near, node)))
            found[node] = ways.max()
    return found


def tenths(values: np.ndarray) -> np.ndarray:
    """The tenth of all that each value is in, 0 to 9; of equal ones the first are the smaller."""
    rank = np.empty(len(values), dtype=np.int64)
    rank[np.argsort(values, kind="stable")] = np.arange(len(values))
    return rank // -(-len(values) // 10)


@register_dataset("huangpu", **CITY_SPLIT)
def huangpu(*, raw_dir: RawDir = None, hops: int = _STORED_HOPS) -> GraphTask:
    """5,268 junctions of a district of Shanghai, 12,902 roads, F = 37, C = 10."""
    return _load("huangpu", raw_dir, hops)


@register_dataset("pasadena", **CITY_SPLIT)
def pasadena(*, raw_dir: RawDir = None, hops: int = _STORED_HOPS) -> GraphTask:
    """12,409 junctions of Pasadena, 31,373 roads, F = 37, C = 10."""
    return _load("pasadena", raw_dir, hops)
