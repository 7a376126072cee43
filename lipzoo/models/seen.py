"""What each layer of a model attends over: the edges, and the features of these edges."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from lipzoo._dgl import dgl
from lipzoo.attention import Structure, as_structure
from lipzoo.errors import DataError
from lipzoo.nn.edges import edge_rows

if TYPE_CHECKING:
    from lipzoo.models.base import DeepAttentionNet

__all__ = ["edges_seen", "structures_seen"]


def structures_seen(model: DeepAttentionNet, graph, feat: Tensor | None = None) -> list[Structure]:
    """See :meth:`DeepAttentionNet.structures`."""

    def seen(graph, feat: Tensor | None = None) -> Structure:
        structure = as_structure(graph, model.add_self_loops and not model.sep, feat)
        return structure.without_self_loops() if model.sep else structure

    if isinstance(graph, (list, tuple)):
        if len(graph) != model.num_layers:
            raise DataError(
                f"got {len(graph)} blocks for {model.num_layers} layers: sample as many "
                "layers as the model has"
            )
        return [seen(block) for block in graph]
    structure = seen(graph, feat)
    if structure.num_src != structure.num_dst:
        raise DataError("a model of several layers takes a list of blocks, or a whole graph")
    return [structure] * model.num_layers


def edges_seen(
    model: DeepAttentionNet, graph, edge_feat, structures: list[Structure], feat: Tensor
) -> list[Tensor | None]:
    """The features of the edges that each layer attends over, (E', K) each; None without.

    Parameters
    ----------
    model : DeepAttentionNet
    graph, edge_feat, feat
        See :meth:`DeepAttentionNet.forward`. What is read from the graph is brought to the device
        and the type of ``feat``.
    structures : list of L Structure
        Those of ``model.structures(graph)``.

    Raises
    ------
    DataError
        If edge features are missing, not wanted, or do not fit.
    """
    name = type(model).__name__
    if not isinstance(graph, (list, tuple)):
        given = as_structure(graph, feat=feat)
        x = edge_feat if edge_feat is not None else _of_graph(model, graph, feat)
        rows = edge_rows(name, model.edge_feats, x, given, structures[0])
        return [rows] * len(structures)
    each = [None] * len(graph) if edge_feat is None else edge_feat
    if not isinstance(each, (list, tuple)) or len(each) != len(graph):
        raise DataError(f"{name}: edge_feat must be a list of {len(graph)} tensors, one a block")
    return [
        edge_rows(
            name,
            model.edge_feats,
            x if x is not None else _of_graph(model, block, feat),
            as_structure(block),
            structure,
        )
        for x, block, structure in zip(each, graph, structures)
    ]


def _of_graph(model: DeepAttentionNet, graph, feat: Tensor) -> Tensor | None:
    """``graph.edata["feat"]``, where the model reads edge features."""
    if not model.edge_feats:
        return None
    found = graph.edata.get("feat") if isinstance(graph, dgl.DGLGraph) else None
    if isinstance(found, Tensor):
        return found.to(device=feat.device, dtype=feat.dtype)
    where = 'pass edge_feat, or put it into graph.edata["feat"]'
    if isinstance(graph, dgl.DGLGraph) and graph.is_block and dgl.EID in graph.edata:
        where = 'block.edata["feat"] = graph.edata["feat"][block.edata[dgl.EID]]'
    raise DataError(
        f"{type(model).__name__}: reads edge features (edge_feats={model.edge_feats}), and there "
        f"are none: {where}, ({as_structure(graph, feat=feat).num_edges}, {model.edge_feats})"
    )
