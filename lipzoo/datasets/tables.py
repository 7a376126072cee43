"""A table of edges and one of nodes as a DGL graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from lipzoo._graph import AnyGraph
from lipzoo.datasets.arrays import graph_with_columns
from lipzoo.datasets.columns import (
    Table,
    check_lengths,
    edge_columns,
    is_missing,
    node_columns,
    plain,
    usual_name,
)
from lipzoo.datasets.ids import read_ids, rows_of_ends
from lipzoo.datasets.names import as_node_ids
from lipzoo.errors import DataError, did_you_mean, shown

__all__ = [
    "INDEX",
    "as_index",
    "as_table",
    "graph_of_tables",
    "id_column",
    "is_table",
    "node_table",
]

#: What pyarrow calls the index of a DataFrame that has no name.
INDEX = "__index_level_0__"
_NODE_IDS = ("node_id", "id", "node")
_ENDS = (("src", "dst"), ("source", "target"), ("src_id", "dst_id"), ("from", "to"))


def graph_of_tables(
    edges: Table | np.ndarray | Tensor,
    nodes: Table,
    *,
    source: str | None = None,
    target: str | None = None,
    node_id: str | None = None,
    features: Sequence[str] | None = None,
    edge_features: Sequence[str] | None = None,
) -> tuple[AnyGraph, dict[str, Any]]:
    """The graph, and what `GraphTask.from_graph` is to be told besides.

    Parameters
    ----------
    edges : Table, array or tensor
        An edge a row, from the id in the column ``source`` to that in ``target``, by default
        ``src`` and ``dst``, ``source`` and ``target``, ``src_id`` and ``dst_id``, or ``from`` and
        ``to``; or an array (2, E) of ids.
    nodes : Table
        A node a row, in the order that the graph has them; see `node_columns`. The column
        ``node_id``, by default ``node_id``, ``id`` or ``node``, holds the ids; without one they are
        the index of a DataFrame, where it has one, else 0..N-1.
    features, edge_features : sequence of str, optional
        Columns that are features, in this order; of the edges see `edge_columns`.

    Raises
    ------
    DataError
        If a column is missing or holds what it should not, an id is there twice, or an edge names
        one that is not among the nodes.
    """
    ids, columns, facts = node_table(nodes, node_id, features)
    edges, names = _ends(edges, source, target)
    key = _key(nodes, node_id)
    hint = None if key else lambda end: _without_ids(end, nodes)
    ends = [rows_of_ends(edges, name, ids, hint) for name in names]
    columns |= edge_columns(edges, edge_features, skip=names)
    return graph_with_columns(nodes.where, *ends, columns, node_ids=ids, **facts)


def node_table(
    nodes: Table, node_id: str | None, features: Sequence[str] | None
) -> tuple[list, dict[str, np.ndarray], dict[str, Any]]:
    """The ids, and what `node_columns` gives, of the nodes of `graph_of_tables`."""
    key = _key(nodes, node_id)
    columns, facts = node_columns(nodes, features, skip=key)
    if key:
        ids = read_ids(nodes, key[0])
    elif nodes.index is not None:
        ids = _ids_of_index(nodes)
    else:
        ids = list(range(len(columns["feat"])))
    return ids, columns, facts


def id_column(columns: Iterable[str], where: str) -> list[str]:
    """The column that holds the ids of nodes, where none is named; none where there is none."""
    found = usual_name(columns, _NODE_IDS, where)
    return [] if found is None else [found]


def as_index(cells: Iterable[Any]) -> list[Any] | None:
    """What rows are called, or None where they are just counted."""
    cells = list(cells)
    counted = list(range(len(cells)))
    is_counted = cells == counted or cells == list(map(str, counted))  # as CSV files have them
    return None if is_counted else cells


def _key(nodes: Table, node_id: str | None) -> list[str]:
    """The column of ids, in a list, if there is one."""
    return id_column(nodes.columns, nodes.where) if node_id is None else [_named(nodes, node_id)]


def _ids_of_index(nodes: Table) -> list:
    try:
        ids = read_ids(replace(nodes, columns={"index": nodes.index}), "index")
        return as_node_ids(ids, len(ids), nodes.where) or []
    except DataError as fault:
        raise DataError(
            f"{fault}; for want of a column node_id, id or node, the ids are the index of the "
            "table: name the column, or count its rows with reset_index(drop=True)"
        ) from None


def _without_ids(end: str, nodes: Table) -> str:
    """What to say of an end that is not there where no column holds ids."""
    what = "counted from 0" if nodes.index is None else "the index of the table"
    words = f"; there is no column node_id, id or node, so that the ids are {what}"
    columns = {name: plain(column) for name, column in nodes.columns.items()}
    texts = {
        name: [str(cell) for cell in column]
        for name, column in columns.items()
        if not (isinstance(column, np.ndarray) and (column.ndim > 1 or column.dtype.kind == "f"))
    }
    holding = [name for name, held in texts.items() if end in held and len({*held}) == len(held)]
    if holding:
        return f"{words}; '{shown(holding[0])}' holds it: if these are the ids, call the column id"
    return f"{words}; call the column of ids so, or add a row for it"


def is_table(table: Any) -> bool:
    """Whether `as_table` takes it."""
    return isinstance(table, Mapping) or _kind(table) is not None


def as_table(table: Any, where: str) -> Table:
    """Columns of a mapping, a DataFrame of pandas or a Table of pyarrow.

    Raises
    ------
    DataError
        If it is none of these, or two columns have the same name.
    """
    kind, index = _kind(table), None
    if isinstance(table, Mapping):
        columns = [(str(name), column) for name, column in table.items()]
    elif kind == "pandas":
        names = map(str, table.columns)
        columns = [(name, _of_pandas(table.iloc[:, i])) for i, name in enumerate(names)]
        index = as_index(table.index.tolist())
    elif kind == "pyarrow":
        names = table.column_names
        columns = [(name, _of_pyarrow(table.column(i))) for i, name in enumerate(names)]
    else:
        raise DataError(
            f"{where}: expected a DataFrame of pandas, a Table of pyarrow or a dict of columns, "
            f"got {type(table).__name__}"
        )
    found = dict(columns)
    if len(found) < len(columns):
        raise DataError(f"{where}: two columns have the same name; rename one")
    if kind == "pyarrow":
        index = _index_of_pyarrow(table, found.pop(INDEX, None))
    check_lengths(where, {name: _rows(where, name, column) for name, column in found.items()})
    return Table(where, found, index=index)


def _kind(table: Any) -> str | None:
    """Found by the module of its class: neither package is imported for it."""
    for c in type(table).__mro__:
        package = c.__module__.partition(".")[0]
        if (package, c.__name__) in (("pandas", "DataFrame"), ("pyarrow", "Table")):
            return package
    return None


def _of_pandas(series: Any) -> Any:
    if isinstance(series.dtype, np.dtype) and series.dtype.kind in "biuf":
        return series.to_numpy()
    return [None if is_missing(cell) else cell for cell in series.tolist()]


def _of_pyarrow(column: Any) -> Any:
    kind = str(column.type)
    if column.null_count == 0 and kind.startswith(("int", "uint", "float", "double", "bool")):
        return column.to_numpy()
    if not kind.startswith("dictionary"):
        return column.to_pylist()
    cells: list[Any] = []
    for chunk in column.chunks:
        words = [*chunk.dictionary.to_pylist(), None]  # one object a word, not one a row
        places = chunk.indices.fill_null(len(words) - 1).to_pylist()
        cells += [words[place] for place in places]
    return cells


def _index_of_pyarrow(table: Any, cells: Any) -> list[Any] | None:
    """The index of the DataFrame that it was made of: such cells, or a range beside the columns."""
    for held in (table.schema.pandas_metadata or {}).get("index_columns", ()):
        if isinstance(held, dict) and held.get("kind") == "range":
            rows = range(held["start"], held["stop"], held["step"])
            cells = rows if len(rows) == table.num_rows else cells
    return None if cells is None else as_index(cells)


def _named(table: Table, name: str) -> str:
    if name not in table.columns:
        raise DataError(
            f"{table.where}: there is no column '{shown(name)}'{did_you_mean(name, table.columns)}"
        )
    return name


def _ends(edges: Any, source: str | None, target: str | None) -> tuple[Table, list[str]]:
    """The table, and its columns of sources and of targets."""
    if not isinstance(edges, Table):
        array = edges.detach().cpu().numpy() if isinstance(edges, Tensor) else np.asarray(edges)
        if array.ndim != 2 or array.shape[0] != 2:
            raise DataError(
                f"edges: must be (2, E), sources above targets, but are {array.shape}; "
                "transpose them, or give a table with the columns source and target"
            )
        edges = Table("edges", dict(zip(("source", "target"), array)), lambda row: f"edge {row}")
    pair = (source, target)
    for usual in _ENDS:
        if pair == (None, None):
            found = [usual_name(edges.columns, [name], edges.where) for name in usual]
            pair = pair if None in found else tuple(found)
    if None in pair:
        raise DataError(
            f"{edges.where}: no columns of sources and targets (found: "
            f"{shown(', '.join(edges.columns), 500)}); name them source and target, or say which"
        )
    return edges, [_named(edges, name) for name in pair]


def _rows(where: str, name: str, column: Any) -> int:
    shape = getattr(column, "shape", None)
    if shape:
        return int(shape[0])
    if isinstance(column, (str, bytes)) or not isinstance(column, Sequence):
        raise DataError(
            f"{where}: column '{shown(name)}' is one {type(column).__name__}; give a cell a row"
        )
    return len(column)
