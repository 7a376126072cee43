"""DGL's CSV dataset folders: ``meta.yaml``, a file of nodes and a file of edges.

    # meta.yaml                      # nodes.csv                  # edges.csv
    dataset_name: mine               node_id,label,feat           src_id,dst_id
    edge_data:                       0,1,"0.5, 0.1"               0,1
    - file_name: edges.csv           1,0,"0.0, 0.7"               1,0
    node_data:
    - file_name: nodes.csv

As in `dgl.data.CSVDataset`, nodes are sorted by ``node_id``, every other column that has a header
becomes node data (of the edges: ``feat``), and a cell in quotes may hold a list. Unlike it, this
reader needs no pandas, writes no cache beside the files, says in which row a fault is, keeps the
ids, and takes words as labels.
"""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch

from lipzoo._graph import AnyGraph, make_graph
from lipzoo._yaml import read_yaml
from lipzoo.datasets.columns import Table
from lipzoo.datasets.csv_table import csv_row, read_table
from lipzoo.datasets.ids import read_ids, rows_of_ends
from lipzoo.errors import ConfigError, DataError, shown

__all__ = ["read_csv_folder"]


def read_csv_folder(folder: Path) -> tuple[AnyGraph, dict[str, Any]]:
    """Read a CSV dataset folder: the graph, the ids of its nodes, the names of its classes.

    Raises
    ------
    DataError
        If a file or a column is missing, an id is doubled or unknown, a cell is no number, or
        the folder holds several graphs or kinds of nodes or edges.
    """
    meta = _read_meta(folder / "meta.yaml")
    separator = meta.get("separator", ",")
    if not isinstance(separator, str) or len(separator) != 1:
        raise DataError(f"{folder / 'meta.yaml'}: separator must be one character, such as ','")
    node_meta, edge_meta = _only(folder, meta, "node_data"), _only(folder, meta, "edge_data")
    node_file, edge_file = folder / node_meta["file_name"], folder / edge_meta["file_name"]
    nodes, edges = (read_table(file, folder, separator) for file in (node_file, edge_file))
    for file, table, file_meta in ((node_file, nodes, node_meta), (edge_file, edges, edge_meta)):
        graph_ids = set(table.pop(file_meta.get("graph_id_field", "graph_id"), []))
        if len(graph_ids) > 1:
            raise DataError(
                f"{file}: there are {len(graph_ids)} graphs, lipzoo takes one; keep one"
            )

    table = _table(node_file, nodes, {"node_id": node_meta.get("node_id_field", "node_id")})
    ids = read_ids(table, "node_id")
    order = sorted(range(len(ids)), key=ids.__getitem__)  # numbers sort 2 before 10
    ids = [ids[row] for row in order]
    fields = {field: edge_meta.get(f"{field}_field", field) for field in ("src_id", "dst_id")}
    ends_table = _table(edge_file, edges, fields)
    ends = [torch.from_numpy(rows_of_ends(ends_table, field, ids)) for field in fields]
    graph = make_graph(*ends, len(ids))
    table = Table(str(node_file), nodes, csv_row)
    facts: dict[str, Any] = {"node_ids": ids}
    for key in nodes:
        if key == "label":
            column, facts["class_names"] = table.labels(key)
        else:
            column = table.numbers(key)
            if key != "feat" and column.dtype.kind == "f":
                column = column.astype(np.float32)  # as DGL reads it
        graph.ndata[key] = torch.from_numpy(column[order])
    if "feat" in edges:
        found = Table(str(edge_file), edges, csv_row).numbers("feat")
        graph.edata["feat"] = torch.from_numpy(found)
    return graph, facts


def _read_meta(path: Path) -> dict:
    if not path.is_file():
        raise DataError(
            f"{path.parent}: a folder without meta.yaml is no DGL CSV dataset; give a .bin or "
            ".npz file, or a folder as dgl.data.CSVDataset reads it"
        )
    try:
        return read_yaml(path, path.parent)
    except ConfigError as fault:
        raise DataError(f"{fault}; write one as dgl.data.CSVDataset reads it") from None


def _only(folder: Path, meta: dict, key: str) -> dict:
    """The one entry of ``node_data`` or ``edge_data``."""
    entries = meta.get(key)
    if not isinstance(entries, list) or len(entries) != 1 or not isinstance(entries[0], dict):
        raise DataError(
            f"{folder / 'meta.yaml'}: {key} must be a list of one file (lipzoo takes graphs with "
            "one kind of nodes and of edges)"
        )
    name = entries[0].get("file_name")
    if not isinstance(name, str) or not name:
        raise DataError(f"{folder / 'meta.yaml'}: {key} has no file_name; add one")
    if PurePath(name).is_absolute() or ".." in PurePath(name).parts:
        raise DataError(
            f"{folder / 'meta.yaml'}: {key}: '{shown(name)}' leads out of the "
            "folder; put the file there"
        )
    for field, value in entries[0].items():
        if str(field).endswith("_field") and not isinstance(value, str):
            raise DataError(
                f"{folder / 'meta.yaml'}: {key}: {shown(field)} must name a "
                "column, such as 'node_id'"
            )
    return entries[0]


def _table(path: Path, columns: dict[str, list[str]], fields: dict[str, str]) -> Table:
    """Some columns, taken out of all, under the names that they have here."""
    taken = {}
    for name, field in fields.items():
        if field not in columns:
            found = shown(", ".join(columns), 500)
            raise DataError(f"{path}: there is no column '{shown(field)}' (found: {found})")
        taken[name] = columns.pop(field)
    return Table(str(path), taken, csv_row)
