"""What a step reads of a task where its graph is a part of the task's, or a sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lipzoo._graph import NID, moved
from lipzoo.attention import as_structure
from lipzoo.attention.structure_of import PARENT_DEGREES
from lipzoo.datasets import GraphTask
from lipzoo.nn import keep_degrees

__all__ = [
    "Batch",
    "Rows",
    "Share",
    "node_weights",
    "reads_degrees",
    "reads_edges",
    "shares",
    "sparse_rows",
]


@dataclass
class Batch:
    """The part of a task that a step is on, with a task's names.

    Parameters
    ----------
    graph : DGLGraph, Graph, or list of L blocks
        Of n nodes that are read, and m whose logits come out (n, but for blocks).
    feat : Tensor (n, F)
        None where ``sparse_feat``, a ``torch.sparse_csr`` tensor, is there instead.
    labels : Tensor (m,) or (m, C)
        None on a graph without labels, to predict on.
    train_mask : Tensor (m,)
        The nodes that count.
    multilabel : bool
    share : Share
        What its losses are multiplied by.
    """

    graph: Any
    feat: Tensor | None
    sparse_feat: Tensor | None
    labels: Tensor | None
    train_mask: Tensor
    multilabel: bool
    share: Share


@dataclass(frozen=True)
class Share:
    """What the losses of a batch are multiplied by, so that those of an epoch have the mean of the
    whole graph's: that of the labels, and that of all nodes (consistency).
    """

    loss: float = 1.0
    nodes: float = 1.0


def shares(weights: Sequence[float], sizes: Sequence[int]) -> list[Share | None]:
    r"""The :class:`Share` of each batch of an epoch; None for one that has nothing to learn from.

    .. math:: B \frac{\sum_{i \in b} w_i}{\sum_i w_i}

    with B batches, those without a weight left out, and the weights of their training nodes; and
    the same with the number of their nodes.
    """
    kept = [(w, n) for w, n in zip(weights, sizes, strict=True) if w > 0]
    weight, size = (sum(each) for each in zip(*kept, strict=True))
    return [
        Share(len(kept) * w / weight, len(kept) * n / size) if w > 0 else None
        for w, n in zip(weights, sizes, strict=True)
    ]


def node_weights(task: GraphTask, class_weight: Tensor | None) -> Tensor:
    """How much each training node weighs in the mean loss, float64 (N,) on the CPU; others 0."""
    weights = task.train_mask.double()
    if class_weight is not None and not task.multilabel:
        weights[task.train_mask] = class_weight[task.labels[task.train_mask]].double()
    return weights.cpu()


def reads_edges(model: nn.Module) -> bool:
    """Whether a model reads edge features; a class of one's own may do so from the graph."""
    return bool(getattr(model, "edge_feats", 1))


def reads_degrees(model: nn.Module) -> bool:
    """Whether a model reads the degrees that nodes have in the whole graph."""
    return any(getattr(module, "degree_norm", "none") != "none" for module in model.modules())


class Rows:
    """Makes batches for a model: takes from a task what it reads.

    Parameters
    ----------
    model : torch.nn.Module
    graph : DGLGraph or Graph
        The whole graph.
    """

    def __init__(self, model: nn.Module, graph: Any) -> None:
        self.takes_sparse = getattr(model, "takes_sparse_feat", False)
        self.edge_feat: Tensor | None = graph.edata.get("feat") if reads_edges(model) else None
        self.degrees: Tensor | None = _degrees(graph) if reads_degrees(model) else None

    def tell(self, graph: Any, nodes: Tensor, edges: Tensor) -> None:
        """Let a part or block know the numbers that its ``nodes`` have in the whole graph, their
        degrees there, and the features of its ``edges``."""
        graph.srcdata[NID] = nodes
        if self.degrees is not None:
            graph.srcdata[PARENT_DEGREES] = self.degrees[nodes.to(self.degrees.device)].cpu()
        if self.edge_feat is not None:
            graph.edata["feat"] = self.edge_feat[edges.long().to(self.edge_feat.device)].cpu()

    def batch(
        self,
        task: GraphTask,
        graph: Any,
        nodes: Tensor,
        out: Tensor,
        mask: Tensor,
        share: Share,
    ) -> Batch:
        """A batch of a task: ``nodes`` (n,) are read, logits of ``out`` (m,) come, ``mask`` (m,)
        says which of these count."""
        device = task.device
        if device.type != "cpu":
            nodes, out, mask = nodes.to(device), out.to(device), mask.to(device)
            move = [block.to(device) for block in graph] if isinstance(graph, list) else None
            graph = moved(graph, device) if move is None else move
        sparse = task.sparse_feat if self.takes_sparse else None
        return Batch(
            graph,
            task.feat_of(nodes) if sparse is None else None,
            None if sparse is None else sparse_rows(sparse, nodes),
            None if task.labels is None else task.labels[out],
            mask,
            task.multilabel,
            share,
        )


def sparse_rows(feat: Tensor, nodes: Tensor) -> Tensor:
    """Rows ``nodes`` (n,) of a ``torch.sparse_csr`` tensor (N, F), as one (n, F)."""
    offsets = feat.crow_indices()
    first = offsets[nodes]
    counts = offsets[nodes + 1] - first
    ends = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    chosen = torch.arange(int(ends[-1]), device=feat.device)
    chosen += (first - ends[:-1]).repeat_interleave(counts)
    columns, values = feat.col_indices()[chosen], feat.values()[chosen]
    shape = (nodes.numel(), feat.shape[1])
    return torch.sparse_csr_tensor(ends, columns, values, shape, check_invariants=False)


def _degrees(graph: Any) -> Tensor:
    """What :func:`~lipzoo.nn.keep_degrees` writes; what a graph that was cut itself was told."""
    if as_structure(graph).parent_degrees is not None:
        return graph.ndata[PARENT_DEGREES]
    whole = graph.local_var()
    keep_degrees(whole)
    return whole.ndata[PARENT_DEGREES]
