"""A graph of networkx with attributes at its nodes and edges as a DGL graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral
from typing import Any

from lipzoo._edges import graph_kind, read_edges
from lipzoo._graph import AnyGraph
from lipzoo.datasets.arrays import graph_with_columns
from lipzoo.datasets.columns import Table, edge_columns, node_columns
from lipzoo.errors import DataError, shown

__all__ = ["graph_of_networkx"]


def graph_of_networkx(
    graph: Any,
    name: str,
    features: Sequence[str] | None = None,
    edge_features: Sequence[str] | None = None,
) -> tuple[AnyGraph, dict[str, Any]]:
    """The graph, and what `GraphTask.from_graph` is to be told besides.

    Nodes are counted in the order of ``list(graph)``, an undirected edge goes both ways. The
    attributes of the nodes are the columns of `lipzoo.datasets.columns.node_columns`, those of the
    edges of `edge_columns`; a node or an edge that lacks one has it missing. Both directions of an
    undirected edge have its attributes.

    Parameters
    ----------
    graph : networkx.Graph, or one of its subclasses
    name : str
        For error messages.
    features : sequence of str, optional
        Attributes that are features, in this order.
    edge_features : sequence of str, optional
        Attributes of edges that are features, in this order.

    Raises
    ------
    DataError
        If it is no graph of networkx, has no features, or something in it does not fit.
    """
    if graph_kind(graph) != "networkx":
        raise DataError(f"{name}: expected a graph of networkx, got {type(graph).__name__}")
    nodes = list(graph)
    columns = _Columns([held for _, held in graph.nodes(data=True)])
    table = Table(name, columns, lambda row: f"node '{shown(nodes[row])}'")
    arrays, facts = node_columns(table, features)
    src, dst, _ = read_edges(graph, has_features=True)
    of_edges = _of_edges(graph)
    # A graph without edges has no attributes by which to know theirs.
    columns = _Columns(of_edges) if of_edges else {each: [] for each in edge_features or ()}
    table = Table(
        f"{name}: edges",
        columns,
        lambda row: f"'{shown(nodes[src[row]])}' -> '{shown(nodes[dst[row]])}'",
    )
    arrays |= edge_columns(table, edge_features)
    ids = [int(node) if isinstance(node, Integral) else str(node) for node in nodes]
    return graph_with_columns(name, src.numpy(), dst.numpy(), arrays, node_ids=ids, **facts)


def _of_edges(graph: Any) -> list[Mapping[str, Any]]:
    """The attributes of each edge, in the order of `read_edges`."""
    edges = [held for _, near in graph.adjacency() for held in near.values()]
    if graph.is_multigraph():
        return [held for parallel in edges for held in parallel.values()]
    return edges


class _Columns(Mapping):
    """Attributes by name, each a list that is made when it is read."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._rows = rows
        self._names = {key: None for held in rows for key in held if isinstance(key, str)}

    def __getitem__(self, name: str) -> list:
        if name not in self._names:
            raise KeyError(name)
        return [held.get(name) for held in self._rows]

    def __contains__(self, name: object) -> bool:
        return name in self._names  # without making a list

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
