"""A folder with a table of nodes, and a table of edges or an adjacency matrix.

============================================  ===================================================
file                                          what it holds
============================================  ===================================================
``nodes.csv`` or ``nodes.parquet``            a node a row: id, features, ``label``, masks or
                                              ``split``; see `GraphTask.from_edges`
``edges.csv`` or ``edges.parquet``            an edge a row: the ids of source and target, and
                                              perhaps features in ``feat``
``feat.npy``, optional                        the features (N, F), in the order of the nodes; they
                                              stay in the file, see `lipzoo.datasets.npy_folder`
or ``graph.mtx``                              an adjacency matrix in Matrix Market's format, its
                                              rows those of the nodes: an entry [i, j] is i -> j;
                                              both ways where it says that it is symmetric
============================================  ===================================================
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lipzoo._files import read_regular
from lipzoo._graph import AnyGraph
from lipzoo.datasets.arrays import graph_with_columns
from lipzoo.datasets.columns import Table, check_lengths
from lipzoo.datasets.csv_table import csv_row, read_table
from lipzoo.datasets.matrix_market import read_matrix_market
from lipzoo.datasets.npy_folder import read_features
from lipzoo.datasets.parquet import read_node_parquet, read_parquet
from lipzoo.datasets.parsing import parsing
from lipzoo.datasets.tables import as_index, graph_of_tables, node_table
from lipzoo.errors import DataError

__all__ = ["read_table_folder"]

_TABLES = (".csv", ".parquet")
_MATRIX, _FEATURES = "graph.mtx", "feat.npy"
_KINDS = "nodes.csv (or .parquet) beside edges.csv (or .parquet, or graph.mtx)"


def read_table_folder(
    folder: Path,
    features: Sequence[str] | None = None,
    edge_features: Sequence[str] | None = None,
) -> tuple[AnyGraph, dict[str, Any]]:
    """Read a folder of tables.

    Raises
    ------
    DataError
        If a file is missing, there is one too many, or something in it does not fit.
    """
    there = sorted(path.name for path in folder.iterdir())
    nodes = [name for name in there if name in [f"nodes{kind}" for kind in _TABLES]]
    edges = [name for name in there if name in [*(f"edges{kind}" for kind in _TABLES), _MATRIX]]
    for found, what in ((nodes, "a table of nodes"), (edges, "the edges")):
        if len(found) != 1:
            why = f"{' and '.join(found)} both hold {what}" if found else f"nothing holds {what}"
            raise DataError(
                f"{folder}: a folder without meta.yaml needs {_KINDS}, and {why}; or give a .bin "
                "or .npz file, or a folder as dgl.data.CSVDataset reads it"
            )
    table, features = _nodes(folder / nodes[0], folder, features)
    if edges[0] == _MATRIX:
        if edge_features:
            raise DataError(
                f"{folder / _MATRIX}: a matrix has no columns, and its values are not read; leave "
                "edge_features out, or write edges.csv"
            )
        return _with_matrix(folder / _MATRIX, folder, table, features)
    return graph_of_tables(
        _table(folder / edges[0], folder), table, features=features, edge_features=edge_features
    )


def _nodes(
    path: Path, folder: Path, features: Sequence[str] | None
) -> tuple[Table, Sequence[str] | None]:
    """The table, and which of its columns are features."""
    beside = folder / _FEATURES
    if not os.path.lexists(beside):
        return (
            read_node_parquet(path, folder, features)
            if path.suffix == ".parquet"
            else (_table(path, folder), features)
        )
    table = _table(path, folder)
    if features is not None or "feat" in table.columns:
        why = (
            f"{path.name} has a column feat" if features is None else "features=[...] names columns"
        )
        raise DataError(f"{beside}: holds the features, and {why}; keep one of both")
    feat = read_features(beside, folder)
    lengths = {name: len(column) for name, column in table.columns.items()}
    check_lengths(str(folder), {**lengths, _FEATURES: len(feat)})
    return replace(table, columns={**table.columns, "feat": feat}), None


def _table(path: Path, folder: Path) -> Table:
    if path.suffix == ".csv":
        columns = dict(read_table(path, folder))
        index = columns.pop("", None)  # pandas writes it first, and without a header
        return Table(str(path), columns, csv_row, None if index is None else as_index(index))
    return read_parquet(path, folder)


def _with_matrix(
    path: Path, folder: Path, nodes: Table, features: Sequence[str] | None
) -> tuple[AnyGraph, dict[str, Any]]:
    ids, columns, facts = node_table(nodes, None, features)
    src, dst = _read_matrix(path, read_regular(path, folder=folder), len(ids))
    return graph_with_columns(nodes.where, src, dst, columns, node_ids=ids, **facts)


def _read_matrix(path: Path, data: bytes, num_nodes: int) -> tuple[np.ndarray, np.ndarray]:
    advice, faults = "write one with scipy.io.mmwrite", (ValueError, OverflowError)
    with parsing(path, "is no sparse matrix of Matrix Market", advice, faults):
        shape, src, dst = read_matrix_market(data)
    if shape != (num_nodes, num_nodes):
        raise DataError(
            f"{path}: is {shape[0]} x {shape[1]}, and there are {num_nodes} nodes; make it (N, N)"
        )
    return src, dst
