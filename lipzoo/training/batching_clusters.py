"""Batches of clusters of nodes, with the edges between them."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

import numpy as np
import pymetis
import torch
from torch import Tensor, nn

from lipzoo._graph import make_graph, to_bidirected
from lipzoo._torch import lasting
from lipzoo.attention import Structure, as_structure
from lipzoo.attention.fused.index import kernel_index
from lipzoo.datasets import GraphTask
from lipzoo.errors import ConfigError, DataError
from lipzoo.settings import Clusters
from lipzoo.training.batching_rows import Batch, Rows, node_weights, shares

__all__ = ["ClusterBatches", "check_clusters", "clusters_of"]

#: Edges, in both directions, that PyMetis' numbers of 32 bits count.
_MOST = 2**31 - 1


def check_clusters(task: GraphTask, options: Clusters) -> None:
    """Refuse clusters that there cannot be.

    Raises
    ------
    ConfigError
        If there are more than nodes.
    """
    if options.parts > task.num_nodes:
        raise ConfigError(
            f"batching: clusters: {task.name} has {task.num_nodes} nodes, which cannot be cut into "
            f"{options.parts} parts; say fewer, or train on the whole graph (batching: full)"
        )


class ClusterBatches:
    """The batches of an epoch, drawn anew each time.

    A batch is the graph that the nodes of ``per_batch`` clusters induce. It is read from the
    in-edges of the whole graph's index, made once (4 bytes an edge and 8 a node; 8 an edge with
    edge features), and holds no edge twice: an epoch touches at most the edges of the whole graph.

    Parameters
    ----------
    model : torch.nn.Module
    task : GraphTask
        Its graph is cut, or how it was cut before is known.
    options : Clusters
    class_weight : Tensor (C,), optional
        Of the classes in the loss.
    """

    def __init__(
        self, model: nn.Module, task: GraphTask, options: Clusters, class_weight: Tensor | None
    ) -> None:
        structure = as_structure(task.graph).to("cpu")
        self.clusters: list[Tensor] = structure.derived(clusters_of, options.method, options.parts)
        self.per_batch, self.class_weight = options.per_batch, class_weight
        self.rows = Rows(model, task.graph)
        index = kernel_index(structure).in_edges(with_ids=self.rows.edge_feat is not None)
        _, self._indptr, self._sources, self._ids = index
        self._place = np.full(task.num_nodes, -1, self._sources.dtype)
        self._kind = torch.empty(0, dtype=task.graph.idtype).numpy().dtype

    def __call__(self, task: GraphTask) -> Iterator[Batch]:
        """The batches of an epoch on a task of the same graph; those without a labelled training
        node are left out. PyTorch's generator on the CPU says which clusters go together."""
        order = torch.randperm(len(self.clusters)).split(self.per_batch)
        batches = [torch.cat([self.clusters[c] for c in group]) for group in order]
        weights = node_weights(task, self.class_weight)
        weighed = [float(weights[nodes].sum()) for nodes in batches]
        found = shares(weighed, [nodes.numel() for nodes in batches])
        mask = task.train_mask.cpu()
        for nodes, share in zip(batches, found, strict=True):
            if share is not None:
                yield self.rows.batch(task, self.induced(nodes), nodes, nodes, mask[nodes], share)

    def induced(self, nodes: Tensor):
        """The graph of ``nodes`` (n,) and the edges between them, each with what it has to know."""
        picked = nodes.numpy()
        most = int((self._indptr[picked + 1] - self._indptr[picked]).sum(dtype=np.int64))
        src, dst = np.empty(most, self._kind), np.empty(most, self._kind)
        edges = np.empty(most if len(self._ids) else 0, self._sources.dtype)
        cut = importlib.import_module("lipzoo.training.batching_kernels").cut
        number = cut(picked, self._place, self._indptr, self._sources, self._ids, src, dst, edges)
        graph = make_graph(*(torch.from_numpy(end[:number]) for end in (src, dst)), len(nodes))
        self.rows.tell(graph, nodes, torch.from_numpy(edges[:number]))
        return graph


@lasting()
def clusters_of(structure: Structure, method: str, parts: int) -> list[Tensor]:
    """The nodes of each cluster; as many clusters as are not empty.

    ``metis`` makes them about as large, with few edges between them: Karypis, Kumar, "A fast and
    high quality multilevel scheme for partitioning irregular graphs", SIAM Journal on Scientific
    Computing, 1998. PyMetis runs it: DGL's copy reads memory that it has not written, so that a
    small graph would be cut in another way in each process.

    Raises
    ------
    DataError
        If METIS cannot number the edges.
    """
    number = structure.num_src
    if method == "contiguous" or parts in (1, number) or not structure.num_edges:
        return list(torch.arange(number).tensor_split(parts))
    between = structure.without_self_loops()
    graph = to_bidirected(make_graph(between.src, between.dst, number))
    src, dst = graph.edges(order="eid")
    if src.numel() > _MOST:
        raise DataError(
            f"METIS numbers {_MOST:,} edges at most, and there are {src.numel():,} in both "
            "directions; say method: contiguous"
        )
    starts = np.searchsorted(src.numpy(), np.arange(number + 1)).astype(np.int32)
    adjacency = pymetis.CSRAdjacency(starts, dst.numpy().astype(np.int32))
    cluster = torch.tensor(pymetis.part_graph(parts, adjacency).vertex_part)
    sizes = torch.bincount(cluster, minlength=parts).tolist()
    return [nodes for nodes in cluster.argsort(stable=True).split(sizes) if nodes.numel()]
