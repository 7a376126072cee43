"""A graph of networkx with attributes at its nodes as a DGL graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lipzoo._edges import graph_kind, read_edges
from lipzoo._graph import AnyGraph
from lipzoo.datasets.arrays import graph_with_columns
from lipzoo.datasets.columns import Table, node_columns
from lipzoo.errors import DataError, shown

__all__ = ["graph_of_networkx"]


def graph_of_networkx(
    graph: Any, name: str, features: Sequence[str] | None = None
) -> tuple[AnyGraph, dict[str, Any]]:
    """The graph, and what `GraphTask.from_graph` is to be told besides.

    Nodes are counted in the order of ``list(graph)``, an undirected edge goes both ways. The
    attributes of the nodes are the columns of `lipzoo.datasets.columns.node_columns`; a node that
    lacks one has it missing. Attributes of edges are not read.

    Parameters
    ----------
    graph : networkx.Graph, or one of its subclasses
    name : str
        For error messages.
    features : sequence of str, optional
        Attributes that are features, in this order.

    Raises
    ------
    DataError
        If it is no graph of networkx, has no features, or something in it does not fit.
    """
    if graph_kind(graph) != "networkx":
        raise DataError(f"{name}: expected a graph of networkx, got {type(graph).__name__}")
    nodes = list(graph)
    found = dict.fromkeys(str(key) for _, held in graph.nodes(data=True) for key in held)
    columns = {key: [held.get(key) for _, held in graph.nodes(data=True)] for key in found}
    table = Table(name, columns, lambda row: f"node '{shown(nodes[row])}'")
    arrays, facts = node_columns(table, features)
    src, dst, _ = read_edges(graph)
    ids = [node if isinstance(node, int) else str(node) for node in nodes]
    return graph_with_columns(name, src.numpy(), dst.numpy(), arrays, node_ids=ids, **facts)
