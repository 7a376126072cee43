"""Predict the nodes that a graph has grown by, from what they can see of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lipzoo._torch import evaluating
from lipzoo.attention import Structure
from lipzoo.datasets import GraphTask
from lipzoo.datasets.growing import check_growth
from lipzoo.datasets.loading import as_task
from lipzoo.datasets.scaling import SCALINGS
from lipzoo.encoding import encode_for
from lipzoo.errors import ConfigError
from lipzoo.models import DeepAttentionNet, check_has_head
from lipzoo.nn.feature_norms import BatchNorm, LayerNorm
from lipzoo.nn.local import is_local
from lipzoo.training.metrics import is_multilabel, with_classes_of
from lipzoo.training.predict import probabilities

__all__ = ["NewPredictions", "predict_new"]

#: Feature norms that look at one node at a time, in evaluation mode.
_LOCAL_NORMS = (LayerNorm, BatchNorm)


@dataclass(frozen=True)
class NewPredictions:
    """What :func:`predict_new` gives.

    Parameters
    ----------
    proba : Tensor (M, C)
        Probabilities of the new nodes.
    affected : Tensor (A,)
        The old nodes whose probabilities are others on the grown graph, or may be.
    affected_proba : Tensor (A, C) or None
        Theirs on the grown graph, where asked for.
    """

    proba: Tensor
    affected: Tensor
    affected_proba: Tensor | None = None


@torch.no_grad()
def predict_new(
    model: nn.Module,
    task: GraphTask | Any,
    feat_new: Any,
    edges_new: Any,
    *,
    edge_feat_new: Any = None,
    with_affected: bool = False,
) -> NewPredictions:
    """Probabilities of new nodes, computed from their receptive field alone.

    They are those of ``predict(model, grown(task, feat_new, edges_new))``, up to rounding: of
    L layers, the nodes up to L edges upstream are read, and no others. What the old nodes become
    is not applied to anything: ``affected`` says which they are.

    Parameters
    ----------
    model : DeepAttentionNet
        Left in the mode it was in.
    task : GraphTask
        The graph of N nodes as it was, or what `lipzoo.datasets.as_task` takes; not touched. Labels
        are not needed.
    feat_new, edges_new, edge_feat_new
        See :func:`lipzoo.datasets.grown`: the new nodes are N..N+M-1.
    with_affected : bool
        Compute the probabilities of the affected old nodes, too.

    Raises
    ------
    ConfigError
        If the network looks at all nodes at once (pairnorm, an encoding, what is made of labels,
        …): then only the whole graph gives the answer.
    DataError
        See :func:`lipzoo.datasets.grown`.
    """
    check_has_head(model)
    _check_local(model)
    task = with_classes_of(model, as_task(task, require_labels=False), is_judged=False)
    feat_new, edges, edge_feat_new = check_growth(
        task, feat_new, edges_new, edge_feat_new, reads_edge_feat=bool(model.edge_feats)
    )
    card = getattr(model, "card", None)
    old = encode_for(model, task)
    scaling = old.options.get("scaling")
    if scaling is not None and len(feat_new):
        feat_new = SCALINGS[scaling](feat_new, card.scaling)
    graph = _Grown(old, feat_new, edges, edge_feat_new)
    affected = graph.reached_from(model)
    new = torch.arange(graph.num_old, graph.num_nodes, device=affected.device)
    targets = torch.cat([new, affected]) if with_affected else new
    with evaluating(model):
        logits = graph.logits(model, targets)
    proba = probabilities(logits, is_multilabel(model, task))
    rest = proba[len(new) :] if with_affected else None
    return NewPredictions(proba[: len(new)], affected, rest)


class _Grown:
    """The old graph and what was appended, without a copy of the old edges."""

    def __init__(
        self, old: GraphTask, feat_new: Tensor, edges: Tensor, edge_feat_new: Tensor | None
    ) -> None:
        self.old, self.graph, self.edge_feat_old = old, old.graph, old.edge_feat
        self.feat_new = feat_new.to(old.feat_of(slice(0)))
        self.src, self.dst = edges.to(old.device)
        self.edge_feat_new = edge_feat_new
        self.num_old = old.num_nodes
        self.num_nodes = self.num_old + len(feat_new)

    def logits(self, model: DeepAttentionNet, targets: Tensor) -> Tensor:
        """Of some nodes, (n, C), through a block a layer."""
        targets = targets.to(self.graph.device)
        blocks, rows = [], []
        nodes = targets
        for _ in range(model.num_layers):
            nodes, block, edge_feat = self._block(nodes, model)
            blocks.insert(0, block)
            rows.insert(0, edge_feat)
        if not len(targets):
            return self.feat_new.new_zeros(0, model.num_classes)
        edge_feat = rows if self.edge_feat_new is not None else None
        return model(blocks, self._feat(nodes), edge_feat=edge_feat)

    def _block(
        self, nodes: Tensor, model: DeepAttentionNet
    ) -> tuple[Tensor, Structure, Tensor | None]:
        """The nodes that these read, these first; the edges between; and their features."""
        src, dst, edge_feat = self._in_edges(nodes)
        others = torch.unique(src)
        others = others[~torch.isin(others, nodes)]
        read = torch.cat([nodes, others])
        order = torch.argsort(read)
        sorted_read = read[order]
        local = [order[torch.searchsorted(sorted_read, ends)] for ends in (src, dst)]
        degrees = None if model.degree_norm == "none" else self._degrees(read, model)
        block = Structure(*local, len(read), len(nodes), parent_degrees=degrees)
        return read, block, edge_feat

    def _in_edges(self, nodes: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """In-edges of some nodes in the grown graph: the old ones first."""
        old = nodes[nodes < self.num_old]
        src, dst, ids = self.graph.in_edges(old.to(self.graph.idtype), form="all")
        is_asked = torch.isin(self.dst, nodes)
        edge_feat = None
        if self.edge_feat_new is not None:
            more = self.edge_feat_new.to(self.edge_feat_old)[is_asked]
            edge_feat = torch.cat([self.edge_feat_old[ids.long()], more])
        src, dst = (
            torch.cat([ends.long(), more[is_asked]])
            for ends, more in ((src, self.src), (dst, self.dst))
        )
        return src, dst, edge_feat

    def _degrees(self, nodes: Tensor, model: DeepAttentionNet) -> Tensor:
        """In-degrees in the grown graph, with the self-loops that the model adds or leaves out."""
        src, dst, _ = self._in_edges(nodes)
        loops = src == dst
        counted = dst[~loops] if model.sep else dst
        order = torch.argsort(nodes)
        place = order[torch.searchsorted(nodes[order], counted)]
        degrees = torch.bincount(place, minlength=len(nodes))
        if model.add_self_loops and not model.sep:
            has_loop = torch.isin(nodes, dst[loops])
            degrees = degrees + (~has_loop).long()
        return degrees

    def _feat(self, nodes: Tensor) -> Tensor:
        feat = self.feat_new.new_empty(len(nodes), self.old.in_feats)
        is_new = nodes >= self.num_old
        feat[is_new] = self.feat_new[nodes[is_new] - self.num_old]
        feat[~is_new] = self.old.feat_of(nodes[~is_new])
        return feat

    def reached_from(self, model: DeepAttentionNet) -> Tensor:
        """The old nodes downstream of a new edge, in order.

        The first layer changes where new edges end, each further layer one edge on; where
        messages are divided by the degree of their source, the first layer is one edge further.
        """
        hops = model.num_layers - 1 + (model.degree_norm != "none")
        seen = frontier = torch.unique(self.dst)
        for _ in range(hops):
            old = frontier[frontier < self.num_old]
            _, onward = self.graph.out_edges(old.to(self.graph.idtype))
            more = self.dst[torch.isin(self.src, frontier)]
            found = torch.unique(torch.cat([onward.long(), more]))
            frontier = found[~torch.isin(found, seen)]
            if not len(frontier):
                break
            seen = torch.cat([seen, frontier])
        return torch.sort(seen[seen < self.num_old]).values


def _check_local(model: nn.Module) -> None:
    """Refuse a network whose answer for a node needs all nodes."""
    way_out = "; predict(model, lipzoo.datasets.grown(task, …)) does all of the graph"
    name = type(model).__name__
    if not isinstance(model, DeepAttentionNet):
        raise ConfigError(f"predict_new: nobody knows how far a {name} sees{way_out}")
    card = getattr(model, "card", None)
    if model.start_logits or (card is not None and (card.start or card.reads_context)):
        raise ConfigError(f"predict_new: {name} reads what is made of all labels{way_out}")
    if card is not None and card.encoding:
        raise ConfigError(f"predict_new: the weights read an encoding of all nodes{way_out}")
    scaling = None if card is None else card.dataset.options.get("scaling")
    if scaling == "standard" and not (card.scaling and len(card.scaling.mean) == model.in_feats):
        raise ConfigError(
            "predict_new: the weights read features scaled by all nodes, and their card does not "
            f"hold by what; fine-tune them anew, which keeps it{way_out}"
        )
    for norm in model.norms:
        if not isinstance(norm, _LOCAL_NORMS):
            raise ConfigError(
                f"predict_new: {type(norm).__name__} looks at more than a node's own features"
                f"{way_out}"
            )
    if not all(is_local(layer) for layer in model.layers):
        raise ConfigError(
            "predict_new: a score norm of scope 'graph', or a score hook, looks at all edges"
            f"{way_out}"
        )
