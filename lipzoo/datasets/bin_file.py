"""DGL's own graph files, written by `dgl.save_graphs`: the first graph of the file is taken.

A tensor of the file's label dictionary that has one row a node stands in for a column that
``ndata`` lacks (``feat``, ``label``, masks), and ``num_classes`` there gives C.

DGL's reader is C++ and trusts its input: a file that is cut short can crash the process, and an
edge that points outside the graph does so later on. So a child process reads the file first; it
costs about two seconds.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from lipzoo._dgl import dgl
from lipzoo.errors import DataError

__all__ = ["MAGIC", "read_bin"]

#: The first bytes of every file of `dgl.save_graphs` (kDGLSerializeMagic, little-endian).
MAGIC = bytes.fromhex("3fa1b446f04f2edd")

_COLUMNS = ("feat", "label", "train_mask", "val_mask", "test_mask")
_BROKEN = "cut short or damaged; write it again with dgl.save_graphs"

# Exit code 3: read without a crash, but an edge leads out of the graph.
_PROBE = """
import sys
from lipzoo._dgl import dgl
print("ready", flush=True)
graphs, labels = dgl.load_graphs(sys.argv[1], [0])
ends = [end for end in graphs[0].edges(order="eid") if len(end)]
inside = all(end.min() >= 0 and end.max() < graphs[0].num_nodes() for end in ends)
sys.exit(0 if inside else 3)
"""


def read_bin(path: Path) -> tuple[dgl.DGLGraph, int | None]:
    """Read the first graph of a DGL file, and C where its label dictionary says it.

    Raises
    ------
    DataError
        If it is no DGL graph file, or a damaged one.
    """
    with path.open("rb") as file:
        start = file.read(len(MAGIC))
    if not start:
        raise DataError(f"{path}: the file is empty; write it again with dgl.save_graphs")
    if start != MAGIC:
        raise DataError(f"{path}: not a DGL graph file; write one with dgl.save_graphs")
    _probe(path)
    graphs, labels = dgl.load_graphs(str(path), [0])
    graph = graphs[0]
    for column in _COLUMNS:
        if column not in graph.ndata and column in labels:
            if len(labels[column]) != graph.num_nodes():
                raise DataError(
                    f"{path}: {column!r} of the label dictionary has {len(labels[column])} rows, "
                    f"the graph {graph.num_nodes()} nodes"
                )
            graph.ndata[column] = labels[column]
    return graph, int(labels["num_classes"]) if "num_classes" in labels else None


def _probe(path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", _PROBE, str(path)]
    child = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if "ready" not in child.stdout:
        reason = (child.stderr.strip().splitlines() or [f"exit code {child.returncode}"])[-1]
        raise DataError(f"{path}: the child process that checks the file cannot start ({reason})")
    if child.returncode == 3:
        raise DataError(f"{path}: an edge leads out of the graph; the file is {_BROKEN}")
    if child.returncode:
        raise DataError(f"{path}: the file is {_BROKEN}")
