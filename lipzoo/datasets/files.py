"""Graphs of your own: a DGL ``.bin``, a DGL CSV dataset folder, or an ``.npz``.

Each holds one homogeneous graph with node features, and for training also labels. The masks
``train_mask``, ``val_mask`` and ``test_mask`` are optional: `lipzoo.load_dataset` draws a random
split where there are none. The readers are `bin_file`, `csv_folder` and `npz_file`.
"""

from __future__ import annotations

import os

from lipzoo._paths import as_path, is_path
from lipzoo.datasets.bin_file import read_bin
from lipzoo.datasets.csv_folder import read_csv_folder
from lipzoo.datasets.npz_file import read_npz
from lipzoo.datasets.task import GraphTask
from lipzoo.errors import DataError

__all__ = ["GRAPH_SUFFIXES", "looks_like_path", "read_graph"]

# Each returns the graph, and what the file says of it besides: arguments of `from_graph`.
_READERS = {".bin": read_bin, ".dgl": read_bin, ".npz": read_npz}
GRAPH_SUFFIXES = frozenset(_READERS)
_KINDS = (
    "a DGL graph file (.bin), a DGL CSV dataset folder (with meta.yaml), or an .npz with the "
    "arrays src, dst, feat and label"
)


def looks_like_path(name: str | os.PathLike) -> bool:
    """Whether this is meant as a path: it looks like one or has a suffix of a graph file."""
    return is_path(name, GRAPH_SUFFIXES)


def read_graph(path: str | os.PathLike, name: str | None = None) -> GraphTask:
    """Read a graph of any kind that lipzoo reads, neither split nor checked.

    Parameters
    ----------
    path : path
        A ``.bin`` or ``.npz`` file, or a folder with a ``meta.yaml``.
    name : str, optional
        The task's name; by default the path.

    Raises
    ------
    DataError
        If there is no such file, it is of another kind, or malformed.
    """
    path = as_path(path, error=DataError)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; give {_KINDS}")
    if path.is_dir():
        reader = read_csv_folder
    elif path.suffix in _READERS:
        reader = _READERS[path.suffix]
    else:
        raise DataError(f"{path}: not a graph file; give {_KINDS}")
    try:
        graph, facts = reader(path)
        return GraphTask.from_graph(graph, name or str(path), **facts)
    except OSError as fault:
        raise DataError(f"{path}: cannot be read ({fault.strerror or fault})") from fault
    except (MemoryError, RuntimeError) as fault:
        # PyTorch has no exception of its own for this.
        if isinstance(fault, RuntimeError) and "allocate memory" not in str(fault):
            raise
        raise DataError(f"{path}: does not fit into memory; take a machine with more") from None
