"""What the structure of a graph costs: bytes an edge, kept and while built, and nanoseconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from lab.benchmark.graphs import powerlaw_edges
from lab.benchmark.process import peak_of, resident, rows_apart, trim
from lipzoo._dgl import dgl
from lipzoo.attention import as_structure, compact
from lipzoo.attention.fused.index import kernel_index
from lipzoo.errors import ConfigError

__all__ = ["FORMS", "measure_structures"]

#: Edges a node.
_DEGREE = 10


def _of_dgl(src, dst, num_nodes):
    return dgl.graph((src, dst), num_nodes=num_nodes)


def _of_edge_index(src, dst, num_nodes):
    return torch.stack([src, dst])


#: A structure that outlives the DGLGraph (64 bits) that it was made of.
COMPACT = "compact"

#: The forms of a graph that are measured: made of int64 tensors (E,) and the number of nodes.
FORMS: dict[str, Callable] = {
    "DGLGraph, 64 bits": _of_dgl,
    "DGLGraph, 32 bits": lambda *edges: _of_dgl(*edges).int(),
    "edge_index": _of_edge_index,
    COMPACT: _of_dgl,
}


def measure_structures(
    file: Path, sizes: Sequence[int], forms: Sequence[str] = tuple(FORMS), say: Callable = print
) -> None:
    """Write a row a graph (power-law in-degrees, 10 edges a node), form and dropout or none.

    A process of its own builds the graph, then what the fused kernels read: its structure with the
    self-loops that are missing, and their index, with one thread. All bytes are those that the
    process holds more, over the edges without the self-loops: ``graph`` for the graph as it was
    given, ``kept`` for all that the structure keeps beside it, ``peak`` for the most beside it
    while it is built; ``ns`` is the processor's time. ``dropout``: as training with ``attn_drop``
    reads it, with the edges' ids. ``COMPACT``: the graph is freed, and all bytes count.
    """
    if not sizes or min(sizes) < _DEGREE:
        raise ConfigError(f"edges must be at least {_DEGREE}")
    work = [(size, form, drop) for size in sizes for form in forms for drop in (False, True)]
    rows_apart(file, _row, work, say)


def _row(item: tuple[int, str, bool]) -> dict[str, object]:
    num_edges, form, drop = item
    build = _compact_of if form == COMPACT else _index_of
    build(FORMS[form](*_edges(100), 10), drop, 10)  # compiles
    num_nodes = num_edges // _DEGREE
    trim()
    empty = resident()
    graph = FORMS[form](*_edges(num_edges), num_nodes)
    trim()
    before = resident()
    kept: list[object] = []
    begin = time.process_time()
    _, peak = peak_of(lambda: kept.append(build(graph, drop, num_nodes)))
    seconds = time.process_time() - begin
    if form == COMPACT:
        del graph
        before = empty
    trim()
    held = resident()

    def an_edge(kib: int | None) -> float | str:
        return "" if kib is None else round(1024 * kib / num_edges, 1)

    return {
        "num_nodes": num_nodes,
        "num_edges": num_edges,
        "form": form,
        "dropout": drop,
        "graph": an_edge(before - empty),
        "kept": an_edge(held - before),
        "peak": an_edge(None if peak is None else peak - before),
        "ns": round(1e9 * seconds / num_edges, 1),
    }


def _edges(num_edges):
    return tuple(map(torch.from_numpy, powerlaw_edges(num_edges // _DEGREE, num_edges)))


def _compact_of(graph, drop, num_nodes):
    structure = compact(as_structure(graph, add_self_loops=True), attn_drop=drop)
    return _index_of(structure, drop, num_nodes)


def _index_of(graph, drop, num_nodes):
    structure = as_structure(graph, add_self_loops=True, feat=torch.empty(num_nodes, 0))
    index = kernel_index(structure)
    return structure, structure.has_zero_in_degree, index.in_edges(drop), index.out_edges(drop)
