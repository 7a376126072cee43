"""GraphML and GML, read by networkx: see `lipzoo.datasets.networkx_graph` for what is read of them.

In GML ``label`` is what a node is called; the class is ``y``. Where a file has classes under
``label`` all the same, so that two nodes have one name, the ids name the nodes.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from lipzoo._files import read_regular
from lipzoo._graph import AnyGraph
from lipzoo.datasets.networkx_graph import graph_of_networkx
from lipzoo.datasets.parsing import parsing
from lipzoo.errors import DataError

__all__ = ["read_gml", "read_graphml"]


def read_graphml(
    path: Path, features: Sequence[str] | None = None, edge_features: Sequence[str] | None = None
) -> tuple[AnyGraph, dict[str, Any]]:
    """Read a ``.graphml`` file.

    Raises
    ------
    DataError
        If it is no GraphML, declares entities, or lacks features.
    """
    data = read_regular(path)
    if b"<!ENTITY" in data:
        raise DataError(f"{path}: declares XML entities, which are not read; write them out")

    import networkx

    with _parsing(path, "GraphML"):
        graph = networkx.read_graphml(io.BytesIO(data))
    return graph_of_networkx(graph, str(path), features, edge_features)


def read_gml(
    path: Path, features: Sequence[str] | None = None, edge_features: Sequence[str] | None = None
) -> tuple[AnyGraph, dict[str, Any]]:
    """Read a ``.gml`` file.

    Raises
    ------
    DataError
        If it is no GML, or lacks features.
    """
    data = read_regular(path)

    import networkx

    with _parsing(path, "GML"):
        try:
            graph = networkx.read_gml(io.BytesIO(data), label="label")
        except networkx.NetworkXError:
            graph = networkx.read_gml(io.BytesIO(data), label="id")
    return graph_of_networkx(graph, str(path), features, edge_features)


def _parsing(path: Path, what: str) -> AbstractContextManager[None]:
    # XML's errors, networkx's, KeyError, RecursionError: no common base.
    return parsing(path, f"is no {what} that networkx reads", "write it with networkx")
