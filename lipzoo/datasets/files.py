"""Graphs of your own, in files.

Each holds one homogeneous graph with node features, and for training also labels. The masks
``train_mask``, ``val_mask`` and ``test_mask`` are optional: `lipzoo.load_dataset` draws a random
split where there are none. The readers are `bin_file`, `npz_file`, `pt_file` (PyG),
`networkx_file` (GraphML, GML), and of folders `csv_folder` (DGL's), `npy_folder` and
`table_folder`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lipzoo._graph import AnyGraph
from lipzoo._paths import as_path, is_path
from lipzoo.datasets.bin_file import read_bin
from lipzoo.datasets.csv_folder import read_csv_folder
from lipzoo.datasets.networkx_file import read_gml, read_graphml
from lipzoo.datasets.npy_folder import is_npy_folder, read_npy_folder
from lipzoo.datasets.npz_file import read_npz
from lipzoo.datasets.pt_file import read_pt
from lipzoo.datasets.table_folder import read_table_folder
from lipzoo.datasets.task import GraphTask
from lipzoo.errors import DataError

__all__ = ["GRAPH_SUFFIXES", "graph_loader", "looks_like_path", "read_graph"]

_Reader = Callable[..., tuple[AnyGraph, dict[str, Any]]]

# Each returns the graph, and what the file says of it besides: arguments of `from_graph`.
_READERS = {
    ".bin": read_bin,
    ".dgl": read_bin,
    ".npz": read_npz,
    ".pt": read_pt,
    ".graphml": read_graphml,
    ".gml": read_gml,
}
#: Those that can be told which columns of nodes and of edges are features.
_WITH_COLUMNS = (read_graphml, read_gml, read_table_folder)
#: Files that are half a graph.
_HALVES = (".csv", ".parquet", ".mtx")
GRAPH_SUFFIXES = frozenset({*_READERS, *_HALVES})
_KINDS = (
    "a DGL graph file (.bin), an .npz with the arrays src, dst, feat and label, a .pt of "
    "torch.save(data.to_dict(), …), a .graphml or .gml, or a folder with nodes.csv and edges.csv, "
    "with an .npy for each of these arrays, or with DGL's meta.yaml"
)


def looks_like_path(name: str | os.PathLike) -> bool:
    """Whether this is meant as a path: it looks like one or has a suffix of a graph file."""
    return is_path(name, GRAPH_SUFFIXES)


def graph_loader(path: Path, name: str) -> Callable[..., GraphTask]:
    """`read_graph` of a path, with the options that its kind of file has."""

    def load() -> GraphTask:
        return read_graph(path, name)

    def load_tables(
        *, features: list[str] | None = None, edge_features: list[str] | None = None
    ) -> GraphTask:
        return read_graph(path, name, features=features, edge_features=edge_features)

    return load_tables if _reader(path) in _WITH_COLUMNS else load


def _reader(path: Path) -> _Reader | None:
    if path.is_dir():
        # A link that leads nowhere counts: what its owner means is no plain table.
        if os.path.lexists(path / "meta.yaml"):
            return read_csv_folder
        return read_npy_folder if is_npy_folder(path) else read_table_folder
    return _READERS.get(path.suffix)


def read_graph(
    path: str | os.PathLike,
    name: str | None = None,
    *,
    features: list[str] | None = None,
    edge_features: list[str] | None = None,
) -> GraphTask:
    """Read a graph of any kind that lipzoo reads, neither split nor checked.

    Parameters
    ----------
    path : path
        A file or a folder; see the module's docstring.
    name : str, optional
        The task's name; by default the path.
    features, edge_features : list of str, optional
        Of a ``.graphml``, a ``.gml`` or a folder of tables, the columns of nodes and of edges that
        are features.

    Raises
    ------
    DataError
        If there is no such file, it is of another kind, or malformed.
    """
    path = as_path(path, error=DataError)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; give {_KINDS}")
    reader = _reader(path)
    if path.suffix in _HALVES and reader is None:
        raise DataError(
            f"{path}: is half a graph; put it into a folder, as edges{path.suffix} or "
            f"nodes{path.suffix} (a matrix as graph.mtx beside nodes.csv), and give the folder"
        )
    if reader is None:
        raise DataError(f"{path}: not a graph file; give {_KINDS}")
    try:
        chosen = (features, edge_features) if reader in _WITH_COLUMNS else ()
        graph, facts = reader(path, *chosen)
        return GraphTask.from_graph(graph, name or str(path), **facts)
    except OSError as fault:
        raise DataError(f"{path}: cannot be read ({fault.strerror or fault})") from fault
    except (MemoryError, RuntimeError) as fault:
        # PyTorch has no exception of its own for this.
        if isinstance(fault, RuntimeError) and "allocate memory" not in str(fault):
            raise
        raise DataError(f"{path}: does not fit into memory; take a machine with more") from None
