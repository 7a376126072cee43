"""The edges of a graph in whatever form somebody has it, as two tensors.

============================================  ===================================================
what                                          its edges
============================================  ===================================================
``edge_index``, an integer tensor (2, E)      ``edge_index[0, e] -> edge_index[1, e]``, as in PyG
a ``Data`` of PyG                             its ``edge_index``; without one, its ``adj_t``
``adj_t``: a ``SparseTensor`` of torch_sparse ``j -> i`` for each entry ``[i, j]``: a row holds the
or a sparse tensor of PyTorch                 in-neighbours of its node, as PyG's layers read it
a sparse matrix or array of SciPy             ``i -> j`` for each entry ``[i, j]``, as in
                                              ``dgl.from_scipy`` and networkx
a graph of networkx                           ``list(G)[i] -> list(G)[j]``; both directions where it
                                              is undirected (a self-loop once)
============================================  ===================================================

Messages flow along the edges. Whatever is stored is an edge, as in DGL and PyG: entries that are
there several times, entries whose value is 0, self-loops. Values and edge weights are not read. The
nodes of a networkx graph are counted in the order of ``list(G)``, as by networkx's own matrices and
by PyG (``dgl.from_networkx`` sorts them first).

What somebody holds is recognised by the module of its class: no package is imported for it.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from lipzoo.errors import DataError

__all__ = ["Edges", "check_size", "graph_kind", "read_edges"]

_TAKEN = (
    "a DGLGraph, a block, an edge_index of whole numbers (2, E), a PyG Data, a SciPy sparse matrix "
    "or a networkx graph"
)
_ORDER = "the graph comes first, then the features: model(graph, feat)"
#: Nodes that nobody is surprised at, whatever the edges: where an edge names one, and where the
#: graph itself says how many there are.
_ROOM, _MANY = 10**7, 2**31
_NODES_AN_EDGE = 1000
_ADVICE = {
    "ndarray": "torch.from_numpy makes an edge_index of it, scipy.sparse.coo_array takes an "
    "adjacency matrix",
    "HeteroData": "data.to_homogeneous() makes one kind of nodes and edges of it",
}


class Edges(NamedTuple):
    """Edge ``e`` goes ``src[e] -> dst[e]``, int64 (E,); the tensors may be those of the graph.

    ``num_nodes`` is None where the graph does not say it.
    """

    src: Tensor
    dst: Tensor
    num_nodes: int | None

    def count(self, num_nodes: int | None = None) -> int:
        """N, checked: as the graph says, else ``num_nodes``, else the largest number plus one.

        Raises
        ------
        DataError
            If an edge names a node that there is not, or there are far more nodes than so many
            edges can need, and no features to say so.
        """
        known = num_nodes if self.num_nodes is None else self.num_nodes
        if known != num_nodes:
            check_size(known, self.src.numel())
        if not self.src.numel():
            return known or 0
        least, most = (int(x) for x in torch.aminmax(torch.cat([self.src, self.dst])))
        if least < 0:
            raise DataError(f"an edge names node {least}; nodes are numbered from 0")
        if known is not None and most >= known:
            raise DataError(
                f"an edge names node {most}, and there are {known} nodes, numbered "
                f"0..{known - 1}: give the features one row a node"
            )
        if known is None and most >= _ROOM + _NODES_AN_EDGE * self.src.numel():
            raise DataError(
                f"an edge names node {most}, far beyond what the number of edges, "
                f"{self.src.numel():,}, lets expect; pass the features, whose rows say how many "
                "nodes there are, or number the nodes 0..N-1: "
                "torch.unique(edge_index, return_inverse=True)[1]"
            )
        return most + 1 if known is None else known


def check_size(num_nodes: int, num_edges: int) -> None:
    """Raise `DataError` where a graph says that it has absurdly many nodes.

    What is computed has a number a node: it is refused before memory for it is asked for.
    """
    if num_nodes > _MANY + _NODES_AN_EDGE * num_edges:
        raise DataError(
            f"the graph says that it has {num_nodes:,} nodes, far beyond what the number of its "
            f"edges, {num_edges:,}, lets expect; number the nodes 0..N-1 without gaps"
        )


def graph_kind(graph: Any) -> str | None:
    """``"edge_index"``, ``"adj_t"``, ``"pyg"``, ``"scipy"``, ``"networkx"``; None of others."""
    if isinstance(graph, Tensor):
        return "edge_index" if graph.layout is torch.strided else "adj_t"
    if sp.issparse(graph):
        return "scipy"
    classes = {(c.__module__.partition(".")[0], c.__name__) for c in type(graph).__mro__}
    if ("torch_geometric", "Data") in classes:
        return "pyg"
    if ("torch_sparse", "SparseTensor") in classes:
        return "adj_t"
    return "networkx" if ("networkx", "Graph") in classes else None


def read_edges(graph: Any, has_features: bool = False) -> Edges:
    """The edges of one of the graphs in the table above, in the order that it holds them.

    ``has_features``: they are in the graph itself. Where they come apart from it, a row a node, a
    warning says that the nodes 0..N-1 of a networkx graph stand in another order.

    Raises
    ------
    DataError
        If it is none of them, or malformed.
    """
    kind = graph_kind(graph)
    if kind is None:
        name = type(graph).__name__
        advice = _ADVICE.get(name, _ORDER)
        raise DataError(f"expected {_TAKEN}, got {name}; {advice}")
    if kind == "networkx" and not has_features:
        _warn_of_order(graph)
    return _READERS[kind](graph)


def check_tensors(feat: Any) -> None:
    """Refuse features, or one of a pair of them, that are no tensor.

    Raises
    ------
    DataError
        Which says how to make one.
    """
    for each in feat if isinstance(feat, tuple) else (feat,):
        if not isinstance(each, Tensor):
            is_array = isinstance(each, (np.ndarray, list)) or hasattr(each, "to_numpy")
            advice = "torch.tensor(features) makes one of an array" if is_array else _ORDER
            raise DataError(f"features must be a tensor, got {type(each).__name__}; {advice}")


def _of_edge_index(edge_index: Tensor) -> Edges:
    kind, shape = edge_index.dtype, tuple(edge_index.shape)
    is_whole = not (kind.is_floating_point or kind.is_complex or kind is torch.bool)
    if not is_whole or len(shape) != 2 or shape[0] != 2:
        advice = _ORDER
        if is_whole and len(shape) == 2 and shape[1] == 2:
            advice = "one row an edge is turned round by edge_index.t()"
        elif not is_whole and len(shape) == 2 and shape[0] == shape[1]:
            advice = f"a dense adjacency matrix becomes one by adjacency.nonzero().t(); {_ORDER}"
        raise DataError(
            f"expected an edge_index of whole numbers (2, E), got {type(edge_index).__name__} of "
            f"{kind} {shape}; {advice}"
        )
    src, dst = edge_index.detach().long()
    return Edges(src, dst, None)


def _of_adj_t(adj_t: Any) -> Edges:
    if not isinstance(adj_t, Tensor):
        row, column, _ = adj_t.coo()
        shape = tuple(adj_t.sparse_sizes())
    else:
        shape = tuple(adj_t.shape)
        if len(shape) == 2 and adj_t.layout in (torch.sparse_csr, torch.sparse_csc):
            row, column = _written_out(adj_t)
        elif len(shape) == 2 and adj_t.layout is torch.sparse_coo and adj_t.sparse_dim() == 2:
            row, column = adj_t.detach()._indices()  # as stored: to coalesce would sort and join
        else:
            raise DataError(
                f"expected a sparse adjacency matrix (N, N), got {adj_t.layout} {shape}; make it "
                "torch.sparse_coo or torch.sparse_csr"
            )
    _check_square(shape)
    return Edges(column.long(), row.long(), shape[0])


def _written_out(adj_t: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column of each entry, without touching the values."""
    is_csr = adj_t.layout is torch.sparse_csr
    starts = adj_t.crow_indices() if is_csr else adj_t.ccol_indices()
    minor = adj_t.col_indices() if is_csr else adj_t.row_indices()
    major = torch.repeat_interleave(starts.diff())
    return (major, minor) if is_csr else (minor, major)


def _of_scipy(adjacency: Any) -> Edges:
    _check_square(adjacency.shape)
    matrix = adjacency.tocoo()
    src, dst = (torch.from_numpy(np.asarray(ends)).long() for ends in (matrix.row, matrix.col))
    return Edges(src, dst, int(matrix.shape[0]))


def _check_square(shape: tuple[int, ...]) -> None:
    if len(shape) != 2 or shape[0] != shape[1]:
        raise DataError(
            f"an adjacency matrix must be (N, N), and is {tuple(map(int, shape))}; if these are "
            f"features: {_ORDER}"
        )


def _of_networkx(graph: Any) -> Edges:
    place = {node: row for row, node in enumerate(graph)}
    parallel = graph.is_multigraph()
    nodes, degrees, dst = [], [], []
    for node, near in graph.adjacency():
        if parallel:
            near = [other for other, keys in near.items() for _ in keys]
        nodes.append(place[node])
        degrees.append(len(near))
        dst.extend(map(place.__getitem__, near))
    source, degree, target = (torch.tensor(n, dtype=torch.int64) for n in (nodes, degrees, dst))
    return Edges(source.repeat_interleave(degree), target, len(place))


def _warn_of_order(graph: Any) -> None:
    nodes = list(graph)
    rows = range(len(nodes))
    if nodes == [*rows] or {*nodes} != {*rows}:
        return
    first = ", ".join(map(str, nodes[:5]))
    warnings.warn(
        f"the networkx graph holds its nodes 0..{rows[-1]} in another order ({first}, …), "
        "and the first row of the features is its first node's; where row i is node i, make it "
        "with G.add_nodes_from(range(N)) before the edges",
        stacklevel=4,
    )


def _of_pyg(data: Any) -> Edges:
    edge_index, adj_t = (getattr(data, name, None) for name in ("edge_index", "adj_t"))
    if edge_index is None and adj_t is None:
        raise DataError(
            f"the {type(data).__name__} has neither edge_index nor adj_t (found: "
            f"{', '.join(sorted(data.keys())) or 'nothing'}); set data.edge_index"
        )
    if edge_index is None:
        return read_edges(adj_t)
    return read_edges(edge_index)._replace(num_nodes=_num_nodes_of_pyg(data))


def _num_nodes_of_pyg(data: Any) -> int | None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        try:
            return data.num_nodes
        except UserWarning:  # PyG warns where it guesses: features know better
            return None


_READERS = {
    "edge_index": _of_edge_index,
    "adj_t": _of_adj_t,
    "pyg": _of_pyg,
    "scipy": _of_scipy,
    "networkx": _of_networkx,
}
