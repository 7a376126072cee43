"""A graph with columns on its nodes and edges: DGL's where there is DGL, else one of our own.

`Graph` has the part of a ``DGLGraph`` that the rest of the package uses, under DGL's names, with
the same order of edges. So nobody else asks which of the two a graph is.
"""

from __future__ import annotations

import copy
import functools
from collections import UserDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from lipzoo._dgl import find_dgl, is_dgl_graph
from lipzoo.errors import DataError

if TYPE_CHECKING:
    from dgl import DGLGraph

__all__ = [
    "EID",
    "NID",
    "NTYPE",
    "AnyGraph",
    "Graph",
    "batch",
    "is_graph",
    "make_graph",
    "moved",
    "to_bidirected",
    "with_all_formats",
]


#: How DGL calls the numbers that nodes and edges had in the graph that theirs was cut from, and
#: the numbers of their types.
NID = EID = "_ID"
NTYPE = "_TYPE"


class Graph:
    """N nodes and E edges ``src[e] -> dst[e]``, which do not change; what stands in for a
    ``DGLGraph`` where DGL is not installed, or was not built for a device.

    Parameters
    ----------
    src, dst : integer Tensor (E,)
        On one device.
    num_nodes : int
        N.

    Raises
    ------
    DataError
        If an edge leads out of the graph.
    """

    is_homogeneous = True
    is_block = False
    _graph = None  # DGL's index, which changes where the edges do
    ntypes, etypes, canonical_etypes = ["_N"], ["_E"], [("_N", "_E", "_N")]

    def __init__(self, src: Tensor, dst: Tensor, num_nodes: int) -> None:
        if src.dim() != 1 or src.shape != dst.shape:
            raise DataError(
                f"src and dst must both be (E,), but are {tuple(src.shape)}, {tuple(dst.shape)}"
            )
        if src.numel():
            bounds = [int(bound) for ends in (src, dst) for bound in torch.aminmax(ends)]
            least, most = min(bounds), max(bounds)
            if least < 0 or most >= num_nodes:
                raise DataError(
                    f"edges join the nodes {least} to {most}, and there are {num_nodes}, numbered "
                    "from 0"
                )
        self._src, self._dst, self._num_nodes = src, dst, int(num_nodes)
        self.ndata = Columns(self._num_nodes, "node", src.device)
        self.edata = Columns(src.numel(), "edge", src.device)

    def num_nodes(self) -> int:
        return self._num_nodes

    num_src_nodes = num_dst_nodes = num_nodes

    @property
    def srcdata(self) -> Columns:
        """``ndata``, as source and destination nodes are the same."""
        return self.ndata

    dstdata = srcdata

    def num_edges(self) -> int:
        return self._src.numel()

    @property
    def device(self) -> torch.device:
        return self._src.device

    @property
    def idtype(self) -> torch.dtype:
        """Of the numbers of nodes and edges."""
        return self._src.dtype

    def edges(self, form: str = "uv", order: str = "eid") -> Any:
        """``(src, dst)``, and the numbers of the edges with ``form="all"``, these alone with
        ``"eid"``; in the order of these numbers."""
        if order not in ("eid", None):
            raise DataError(f"edges: order={order!r} needs a DGLGraph; there is 'eid'")
        if form == "uv":
            return self._src, self._dst
        return self._told(torch.arange(self.num_edges(), device=self.device), form)

    def in_edges(self, nodes: Tensor, form: str = "uv") -> Any:
        """The edges into these nodes, as `edges`: node by node, each in the order of its edges."""
        return self._told(_at(nodes, *self._by_destination), form)

    def out_edges(self, nodes: Tensor, form: str = "uv") -> Any:
        """The edges out of these nodes, as `in_edges`."""
        return self._told(_at(nodes, *self._by_source), form)

    def in_degrees(self) -> Tensor:
        """(N,)"""
        return self._by_destination[0].diff()

    def out_degrees(self) -> Tensor:
        """(N,)"""
        return self._by_source[0].diff()

    def local_var(self) -> Graph:
        """The same graph with columns of its own, whose tensors are shared."""
        made = copy.copy(self)  # the edges, which are checked, and what was made of them
        made.ndata, made.edata = copy.copy(self.ndata), copy.copy(self.edata)
        return made

    def to(self, device: torch.device | str) -> Graph:
        """The graph and its columns on another device."""
        made = Graph(self._src.to(device), self._dst.to(device), self._num_nodes)
        for columns, found in ((self.ndata, made.ndata), (self.edata, made.edata)):
            found.update({key: column.to(device) for key, column in columns.items()})
        return made

    def cpu(self) -> Graph:
        return self.to("cpu")

    def _told(self, ids: Tensor, form: str) -> Any:
        if form == "eid":
            return ids
        ends = (self._src[ids], self._dst[ids])
        return (*ends, ids) if form == "all" else ends

    @functools.cached_property
    def _by_destination(self) -> tuple[Tensor, Tensor]:
        return _index(self._dst, self._num_nodes)

    @functools.cached_property
    def _by_source(self) -> tuple[Tensor, Tensor]:
        return _index(self._src, self._num_nodes)

    def __repr__(self) -> str:
        return f"Graph(num_nodes={self._num_nodes}, num_edges={self.num_edges()})"


if TYPE_CHECKING:
    AnyGraph: TypeAlias = DGLGraph | Graph
else:
    AnyGraph = Any  # who reads annotations at run time may have no DGL


class Columns(UserDict):
    """Tensors by name, with a row for each node or edge."""

    def __init__(self, rows: int, of: str, device: torch.device) -> None:
        self._rows, self._of, self._device = rows, of, device
        super().__init__()

    def __setitem__(self, key: str, column: Tensor) -> None:
        if not isinstance(column, Tensor) or column.shape[:1] != (self._rows,):
            got = tuple(column.shape) if isinstance(column, Tensor) else type(column).__name__
            raise DataError(
                f"{key!r}: expected a tensor with a row for each of {self._rows} {self._of}s, got "
                f"{got}"
            )
        if column.device != self._device:
            raise DataError(f"{key!r} is on {column.device}, the graph on {self._device}")
        super().__setitem__(key, column)


def _index(ends: Tensor, num_nodes: int) -> tuple[Tensor, Tensor]:
    """Where the edges of each node begin, (N + 1,), and the edges sorted by node, (E,)."""
    starts = ends.new_zeros(num_nodes + 1)
    starts[1:] = torch.bincount(ends, minlength=num_nodes).cumsum(0)
    return starts, torch.argsort(ends, stable=True)


def _at(nodes: Tensor, starts: Tensor, order: Tensor) -> Tensor:
    """The edges of these nodes, node by node."""
    nodes = nodes.long()
    if nodes.numel() and not 0 <= int(nodes.min()) <= int(nodes.max()) < len(starts) - 1:
        raise DataError(f"there are {len(starts) - 1} nodes, numbered from 0")
    first, last = starts[nodes], starts[nodes + 1]
    count = last - first
    before = count.cumsum(0) - count
    step = torch.arange(int(count.sum()), device=nodes.device)
    return order[step + (first - before).repeat_interleave(count)]


def is_graph(graph: Any) -> bool:
    """Whether it is a DGLGraph, a block or a `Graph`."""
    return isinstance(graph, Graph) or is_dgl_graph(graph)


def make_graph(src: Tensor, dst: Tensor, num_nodes: int) -> AnyGraph:
    """A graph without columns: a ``DGLGraph`` where there is a DGL that knows the device."""
    dgl = find_dgl()
    if dgl is None or not _knows(src.device.type):
        return Graph(src, dst, num_nodes)
    return dgl.graph((src, dst), num_nodes=num_nodes)


def moved(graph: AnyGraph, device: torch.device | str) -> AnyGraph:
    """The graph and its columns on a device: a `Graph` where the installed DGL does not know it."""
    if is_dgl_graph(graph) and not _knows(torch.device(device).type):
        own = Graph(*graph.edges(order="eid"), graph.num_nodes())
        own.ndata.update(graph.ndata)
        own.edata.update(graph.edata)
        graph = own
    return graph.to(device)


@functools.cache
def _knows(kind: str) -> bool:
    """Whether the installed DGL was built for a kind of device; that of PyPI is for CPUs alone."""
    dgl = find_dgl()
    if kind == "cpu" or dgl is None:
        return True
    try:
        dgl.graph(([], [])).to(kind)
    except (dgl.DGLError, KeyError):  # "Device API cuda is not enabled"
        return False
    return True


def batch(graphs: Sequence[AnyGraph]) -> AnyGraph:
    """Several graphs side by side, as ``dgl.batch``: the columns of the first, which all have."""
    dgl = find_dgl()
    if dgl is not None and all(map(is_dgl_graph, graphs)):
        return dgl.batch(graphs)
    ends, before = [], 0
    for graph in graphs:
        ends.append(torch.stack(graph.edges(order="eid")) + before)
        before += graph.num_nodes()
    made = make_graph(*torch.cat(ends, dim=1), before)
    for columns in ("ndata", "edata"):
        parts = [getattr(graph, columns) for graph in graphs]
        for key in parts[0]:
            getattr(made, columns)[key] = torch.cat([part[key] for part in parts])
    return made


def with_all_formats(graph: Any) -> Any:
    """A DGLGraph that can list its edges by their ids: itself, or a copy of the same edges.

    One that was kept to CSR or CSC, ``graph.formats("csc")``, cannot. It is not touched, and of
    what it carries nothing is copied. Other graphs list them always.
    """
    if not is_dgl_graph(graph):
        return graph
    formats = ["coo", "csr", "csc"]
    there = {name for names in graph.formats().values() for name in names}
    return graph if there.issuperset(formats) else graph.formats(formats)


def to_bidirected(graph: AnyGraph) -> AnyGraph:
    """Every edge in both directions, once, with the columns of the nodes; sorted by source, then
    destination, as ``dgl.to_bidirected`` does."""
    num_nodes = graph.num_nodes()
    src, dst = graph.edges(order="eid")
    keys = torch.unique(torch.cat([src * num_nodes + dst, dst * num_nodes + src]))
    made = make_graph(keys // max(num_nodes, 1), keys % max(num_nodes, 1), num_nodes)
    made.ndata.update(graph.ndata)
    return made
