"""How a `GraphTask` is made of what other libraries hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from lipzoo._edges import graph_kind, read_edges
from lipzoo._graph import is_graph
from lipzoo.datasets.arrays import graph_with_columns
from lipzoo.datasets.columns import node_columns
from lipzoo.datasets.convert import MASKS
from lipzoo.datasets.networkx_graph import graph_of_networkx
from lipzoo.datasets.pyg_data import graph_of_pyg
from lipzoo.datasets.tables import as_table, graph_of_tables, is_table
from lipzoo.errors import DataError

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Sources"]


class Sources:
    """The classmethods of `GraphTask`, beside ``from_graph``, that take a graph of one's own.

    What is passed is not touched. The edges come as they are: weights are not read, no self-loops
    are added. Labels that are words become ``class_names``. All raise `DataError` where something
    does not fit.
    """

    @classmethod
    def of(cls, data: Any, name: str = "graph") -> Self:
        """A task of whatever holds a graph with its features and labels.

        Parameters
        ----------
        data : DGLGraph, PyG Data, or networkx graph

        Raises
        ------
        DataError
            If it is none of these; the message says what to do.
        """
        if is_graph(data):
            return cls.from_graph(data, name)
        kind = graph_kind(data)
        if kind == "pyg":
            return cls.from_pyg(data, name)
        if kind == "networkx":
            return cls.from_networkx(data, name)
        raise DataError(f"{name}: {_advice(data, kind)}")

    @classmethod
    def from_pyg(
        cls,
        data: Any,
        name: str = "graph",
        *,
        edge_features: Sequence[str] | None = None,
        metric: str = "",
    ) -> Self:
        """Make a task of a ``Data`` of PyG, or of what its ``to_dict()`` gives.

        Parameters
        ----------
        data : Data
            ``x`` (N, F) are the features; ``y``, int (N,) or 0/1 (N, C), the labels;
            ``train_mask``, ``val_mask``, ``test_mask`` (N,) the split, or (N, S) of S splits, of
            which `with_split` takes one. The edges are ``edge_index``, or ``adj_t``; ``edge_attr``
            (E,) or (E, K), in their order, are their features. All else is not read.
        edge_features : sequence of str, optional
            The fields that are features of the edges instead; an empty one: they have none.
        metric : str
            See the class.
        """
        graph, facts = graph_of_pyg(data, name, edge_features)
        return cls.from_graph(graph, name, **_judged(facts, metric))

    @classmethod
    def from_networkx(
        cls,
        graph: Any,
        name: str = "graph",
        *,
        features: Sequence[str] | None = None,
        edge_features: Sequence[str] | None = None,
        metric: str = "",
    ) -> Self:
        """Make a task of a graph of networkx whose nodes have attributes.

        Nodes are counted in the order of ``list(graph)``, which `node_ids` keeps (numbers as they
        are, all else as text). Of an undirected graph both directions of an edge are taken.

        Parameters
        ----------
        graph : networkx.Graph, DiGraph, MultiGraph or MultiDiGraph
            Attributes of the nodes: ``feat``, or ``x`` with lists (else all numeric attributes
            are a feature each); ``label`` or ``y``, a number or a word; ``train_mask``,
            ``val_mask``, ``test_mask``, or ``split`` with the words train, val, test.
            Attributes of the edges: ``feat``, or ``edge_attr``.
        features : sequence of str, optional
            The attributes that are features.
        edge_features : sequence of str, optional
            The attributes of edges that are features, such as ``["weight"]``; an empty one: none.
        metric : str
            See the class.
        """
        made, facts = graph_of_networkx(graph, name, features, edge_features)
        return cls.from_graph(made, name, **_judged(facts, metric))

    @classmethod
    def from_scipy(
        cls,
        adjacency: Any,
        feat: Any,
        label: Any = None,
        *,
        train_mask: Any = None,
        val_mask: Any = None,
        test_mask: Any = None,
        name: str = "graph",
        metric: str = "",
    ) -> Self:
        """Make a task of an adjacency matrix of SciPy.

        Parameters
        ----------
        adjacency : sparse matrix or array (N, N)
            An entry ``[i, j]`` is the edge ``i -> j``, as in ``dgl.from_scipy`` and networkx.
        feat : array, tensor, DataFrame or sparse matrix (N, F)
        label : array, tensor or list (N,), or 0/1 (N, C), optional
            Numbers, or words; -1 or None where unknown.
        train_mask, val_mask, test_mask : array, tensor or list (N,), or (N, S), optional
        metric : str
            See the class.
        """
        if graph_kind(adjacency) != "scipy":
            raise DataError(
                f"{name}: expected a sparse matrix of SciPy, got {type(adjacency).__name__}; "
                "scipy.sparse.coo_array makes one of an array (N, N)"
            )
        try:
            src, dst, num_nodes = read_edges(adjacency)
        except DataError as fault:
            raise DataError(f"{name}: {fault}") from None
        given = {"feat": feat, "label": label}
        given |= dict(zip(MASKS, (train_mask, val_mask, test_mask)))
        table = as_table({key: value for key, value in given.items() if value is not None}, name)
        columns, facts = node_columns(table, ["feat"])
        columns["num_nodes"] = np.array(num_nodes)
        graph, facts = graph_with_columns(name, src.numpy(), dst.numpy(), columns, **facts)
        return cls.from_graph(graph, name, **_judged(facts, metric))

    @classmethod
    def from_edges(
        cls,
        edges: Any,
        nodes: Any,
        name: str = "graph",
        *,
        source: str | None = None,
        target: str | None = None,
        node_id: str | None = None,
        features: Sequence[str] | None = None,
        edge_features: Sequence[str] | None = None,
        metric: str = "",
    ) -> Self:
        """Make a task of a table of edges and one of nodes.

        Parameters
        ----------
        edges : DataFrame, pyarrow Table, dict of columns, or array (2, E)
            An edge a row: ids of nodes in the columns ``source`` and ``target`` (or ``src`` and
            ``dst``, ``from`` and ``to``). An array holds the sources above the targets, as an
            ``edge_index``. ``feat``, or ``edge_attr``, are features of the edges.
        nodes : DataFrame, pyarrow Table or dict of columns
            A node a row, in the order of the task: the id, a number or a word, in the column
            ``node_id``, ``id`` or ``node`` (without one the index of a DataFrame); ``label`` or
            ``y``;
            ``train_mask``, ``val_mask``, ``test_mask``, or ``split`` with the words train, val,
            test; ``feat``, or ``x`` with lists, else each column that is left is a feature.
        source, target, node_id : str, optional
            What these columns are called.
        features : sequence of str, optional
            The columns that are features.
        edge_features : sequence of str, optional
            The columns of ``edges`` that are features, such as ``["weight"]``; an empty one: none.
        metric : str
            See the class.
        """
        if is_table(edges):
            edges = as_table(edges, f"{name}: edges")
        elif not isinstance(edges, (Tensor, np.ndarray, list, tuple)):
            raise DataError(
                f"{name}: edges: expected a DataFrame of pandas, a Table of pyarrow, a dict of "
                f"columns or an array (2, E), got {type(edges).__name__}"
            )
        graph, facts = graph_of_tables(
            edges,
            as_table(nodes, f"{name}: nodes"),
            source=source,
            target=target,
            node_id=node_id,
            features=features,
            edge_features=edge_features,
        )
        return cls.from_graph(graph, name, **_judged(facts, metric))


def _judged(facts: dict[str, Any], metric: str) -> dict[str, Any]:
    return {**facts, "metric": metric or facts.get("metric", "")}


def _advice(data: Any, kind: str | None) -> str:
    what = f"a {type(data).__name__} has no features and labels"
    if kind == "scipy":
        return f"{what}; GraphTask.from_scipy(adjacency, feat, label) takes all three"
    if kind is not None:
        return (
            f"{what}; GraphTask.from_edges(edge_index, {{'feat': feat, 'label': label}}) takes them"
        )
    if is_table(data) and not isinstance(data, Mapping):
        return "one table is no graph; GraphTask.from_edges(edges, nodes) takes one of each"
    return (
        f"expected a GraphTask, a dataset's name, a path, a DGLGraph, a PyG Data or a networkx "
        f"graph, got {type(data).__name__}"
    )
