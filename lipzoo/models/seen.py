"""What each layer of a model attends over: the edges, and the features of these edges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lipzoo._edges import check_tensors
from lipzoo._graph import EID, is_graph
from lipzoo.attention import Structure, as_structure
from lipzoo.errors import DataError
from lipzoo.nn.edges import edge_rows

__all__ = ["edges_seen", "structures_seen"]


def structures_seen(
    graph: Any, feat: Tensor | None, num_layers: int, sep: bool, add_self_loops: bool
) -> list[Structure]:
    """The structure of each layer; see :meth:`DeepAttentionNet.structures`."""

    def seen(graph: Any, feat: Tensor | None = None) -> Structure:
        structure = as_structure(graph, add_self_loops and not sep, feat)
        return structure.without_self_loops() if sep else structure

    if isinstance(graph, (list, tuple)):
        if feat is not None:
            check_tensors(feat)
        if len(graph) != num_layers:
            raise DataError(
                f"got {len(graph)} blocks for {num_layers} layers: sample as many "
                "layers as the model has"
            )
        return [seen(block) for block in graph]
    structure = seen(graph, feat)
    if structure.num_given != structure.num_dst:
        raise DataError("a model of several layers takes a list of blocks, or a whole graph")
    return [structure] * num_layers


def edges_seen(
    model: object,
    width: int,
    graph: Any,
    edge_feat: Tensor | Sequence[Tensor] | None,
    structures: list[Structure],
    feat: Tensor,
    dtype: torch.dtype,
) -> list[Tensor | None]:
    """The features of the edges that each layer attends over, (E', K) each; None without.

    Parameters
    ----------
    model : object
        Whose, for messages.
    width : int
        ``K``; 0 for a model that reads none.
    graph, edge_feat, feat
        See :meth:`DeepAttentionNet.forward`. Edge features are brought to the device of ``feat``.
    dtype : torch.dtype
        Of the weights, which edge features are brought to.
    structures : list of L Structure
        What :func:`structures_seen` gave for the graph.

    Raises
    ------
    DataError
        If edge features are missing, not wanted, or do not fit.
    """
    if not width and edge_feat is None:
        return [None] * len(structures)
    owner = type(model).__name__

    def seen(graph: Any, x: Tensor | None, structure: Structure) -> Tensor | None:
        if x is None and width:
            x = _of_graph(owner, width, graph)
        if width and isinstance(x, Tensor) and not x.is_complex():
            x = x.to(device=feat.device, dtype=dtype)
        return edge_rows(owner, width, x, as_structure(graph, feat=feat), structure)

    if not isinstance(graph, (list, tuple)):
        return [seen(graph, edge_feat, structures[0])] * len(structures)
    each = [None] * len(graph) if edge_feat is None else edge_feat
    if not isinstance(each, (list, tuple)) or len(each) != len(graph):
        raise DataError(f"{owner}: edge_feat must be a list of {len(graph)} tensors, one a block")
    return [seen(*parts) for parts in zip(graph, each, structures)]


def _of_graph(owner: str, width: int, graph: Any) -> Tensor:
    """``graph.edata["feat"]``, or what a structure tells."""
    found = graph.edge_feat if isinstance(graph, Structure) else None
    found = graph.edata.get("feat") if is_graph(graph) else found
    if isinstance(found, Tensor):
        return found
    where = 'pass edge_feat, or put it into graph.edata["feat"]'
    if is_graph(graph) and graph.is_block and EID in graph.edata:
        where = 'block.edata["feat"] = graph.edata["feat"][block.edata[dgl.EID]]'
    raise DataError(
        f"{owner}: reads edge features (edge_feats={width}), and there are none: {where}, "
        f"({as_structure(graph).num_edges}, {width})"
    )
