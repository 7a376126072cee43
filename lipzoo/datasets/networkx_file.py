"""GraphML and GML, read by networkx: see `lipzoo.datasets.networkx_graph` for what is read of them.

In GML ``label`` is what a node is called; the class is ``y``. Where a file has classes under
``label`` all the same, so that two nodes have one name, the ids name the nodes.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lipzoo._files import read_regular
from lipzoo._graph import AnyGraph
from lipzoo.datasets.networkx_graph import graph_of_networkx
from lipzoo.errors import DataError, shown

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

    graph = _parsed(path, "GraphML", lambda: networkx.read_graphml(io.BytesIO(data)))
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

    def parse() -> Any:
        try:
            return networkx.read_gml(io.BytesIO(data), label="label")
        except networkx.NetworkXError:
            return networkx.read_gml(io.BytesIO(data), label="id")

    graph = _parsed(path, "GML", parse)
    return graph_of_networkx(graph, str(path), features, edge_features)


def _parsed(path: Path, what: str, parse: Callable[[], Any]) -> Any:
    try:
        return parse()
    except MemoryError:
        raise
    except Exception as fault:  # XML's errors, networkx's, KeyError, RecursionError: no common base
        words = shown(" ".join(str(fault).split()) or type(fault).__name__, 200)
        raise DataError(
            f"{path}: is no {what} that networkx reads ({words}); write it with networkx"
        ) from None
