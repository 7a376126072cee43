"""The data of PyG as a DGL graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from lipzoo._edges import graph_kind, read_edges
from lipzoo._graph import AnyGraph, moved
from lipzoo.datasets.arrays import graph_with_columns
from lipzoo.datasets.columns import Table, edge_columns, node_columns
from lipzoo.datasets.convert import MASKS
from lipzoo.datasets.tables import as_table
from lipzoo.errors import DataError, shown

__all__ = ["FIELDS", "graph_of_pyg"]

_READ = ("x", "y", *MASKS)
_OF_EDGES = "edge_attr"
#: What is read of a ``Data``, beside ``num_nodes``.
FIELDS = ("edge_index", "adj_t", _OF_EDGES, *_READ)


def graph_of_pyg(
    data: Any, name: str, edge_features: Sequence[str] | None = None
) -> tuple[AnyGraph, dict[str, Any]]:
    """The graph of a ``Data``, and what `GraphTask.from_graph` is to be told besides.

    ``x`` are the features, ``y`` the labels, ``train_mask``, ``val_mask``, ``test_mask`` the split,
    (N,), or (N, S) of S splits; ``edge_attr`` (E,) or (E, K), in the order of the edges, those of
    the edges. Edge weights, values of ``adj_t`` and all else are not read.

    Parameters
    ----------
    data : Data, or mapping
        Or what ``data.to_dict()`` gives.
    name : str
        For error messages.
    edge_features : sequence of str, optional
        The fields that are features of the edges instead; an empty one says that none is.

    Raises
    ------
    DataError
        If it is no ``Data``, has no features, or something in it does not fit.
    """
    is_dict = isinstance(data, Mapping)
    if not is_dict and graph_kind(data) != "pyg":
        advice = "; data.to_homogeneous() makes one" if hasattr(data, "to_homogeneous") else ""
        raise DataError(f"{name}: expected a Data of PyG, got {type(data).__name__}{advice}")
    fields = {str(key): data[key] for key in data.keys()}  # noqa: SIM118 - a Data counts edges
    found = shown(", ".join(sorted(fields)), 500)
    held = data
    if is_dict:
        held = fields.get("edge_index", fields.get("adj_t"))
        if held is None:
            raise DataError(f"{name}: there is neither edge_index nor adj_t (found: {found})")
    try:
        edges = read_edges(held)
    except DataError as fault:
        raise DataError(f"{name}: {fault}") from None
    if fields.get("x") is None:
        raise DataError(
            f"{name}: there are no node features x (found: {found}); set data.x, floats (N, F)"
        )
    number = fields.get("num_nodes") if is_dict else edges.num_nodes
    columns, facts = node_columns(Table(name, {k: fields[k] for k in _READ if k in fields}), ["x"])
    if isinstance(number, int):
        columns["num_nodes"] = np.array(number)
    columns |= _edge_columns(fields, f"{name}: edges", edge_features)
    src, dst = (ends.cpu().numpy() for ends in (edges.src, edges.dst))
    graph, facts = graph_with_columns(name, src, dst, columns, **facts)
    return moved(graph, fields["x"].device) if isinstance(fields["x"], Tensor) else graph, facts


def _edge_columns(
    fields: dict[str, Any], where: str, asked: Sequence[str] | None
) -> dict[str, np.ndarray]:
    if asked is None:
        given = fields.get(_OF_EDGES)
        columns = as_table({} if given is None else {_OF_EDGES: given}, where).columns
    else:
        # A number, such as num_nodes, has no rows.
        columns = {
            k: v for k, v in fields.items() if getattr(v, "shape", ()) or isinstance(v, list)
        }
    return edge_columns(Table(where, columns, lambda row: f"edge {row}"), asked)
