r"""Trainers of DistDGL: a sampled training whose graph and features lie with servers, one a part.

Each trainer takes an even share of the training nodes, those of its part as far as they are there,
and each step a batch of these: blocks that it asks the servers for, and the features of what they
read. Step b of B, of all trainers r together, is on

.. math::
    \ell_b = \sum_r B \frac{n_{b,r}}{n} \cdot \frac{1}{n_{b,r}} \sum_{i \in (b, r)} \ell_i

(:mod:`lipzoo.training.batching`), and gradients are summed. ``batch_size`` nodes are in the
batches of all trainers of a step, so that a recipe means what it means in one process. Nodes that
are judged are computed of all their neighbours.

Zheng et al., "DistDGL: Distributed Graph Neural Network Training for Billion-Scale Graphs",
IA3 2020.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lipzoo._dgl import need_dgl
from lipzoo._graph import EID, NID
from lipzoo._torch import evaluating
from lipzoo.attention.structure_of import PARENT_DEGREES
from lipzoo.datasets import GraphTask
from lipzoo.errors import ConfigError
from lipzoo.nn.feature_norms import BatchNorm, PairNorm
from lipzoo.settings import Batching, Neighbours
from lipzoo.training.batching_rows import Batch, Share, node_weights, reads_degrees, reads_edges
from lipzoo.training.batching_samples import (
    check_samples,
    fanouts_of,
    number_of_batches,
    warn_if_nearly_all,
)
from lipzoo.training.ranks import Logits, Ranks
from lipzoo.training.ranks_parts import Parts

__all__ = ["SampledParts", "Trainers", "check_distdgl"]

_WRITE = "'{name: neighbours, sampler: uniform, fanouts: 10}'"


def check_distdgl(model: nn.Module, batching: Batching) -> None:
    """Refuse what DistDGL does not train.

    Raises
    ------
    ConfigError
        If the batching is no sampling of neighbours, uniformly; if the model takes no blocks, or
        statistics over the nodes of a batch.
    """
    if not isinstance(batching, Neighbours):
        raise ConfigError(
            f"--engine distdgl: samples neighbours, and the batching is {batching.name!r}; say "
            f"--batching {_WRITE}"
        )
    if batching.sampler != "uniform":
        raise ConfigError(
            f"--engine distdgl: DistDGL draws neighbours uniformly, and the sampler is "
            f"{batching.sampler!r} (the default); say --batching {_WRITE}"
        )
    over_nodes = (BatchNorm, PairNorm, nn.modules.batchnorm._BatchNorm)
    if any(isinstance(module, over_nodes) for module in model.modules()):
        raise ConfigError(
            "--engine distdgl: the model takes statistics over the nodes of a batch (batchnorm, "
            "pairnorm), of which each trainer has some; say feature_norm: layernorm, or train by "
            "torchrun, where they are exact"
        )
    check_samples(model, batching)


class Trainers(Ranks):
    """The trainers, as one of them sees them.

    Parameters
    ----------
    graph : dgl.distributed.DistGraph
    folder : path
        Of the parts.
    on_step : callable
        Called now and then: this one goes on.
    """

    def __init__(self, graph: Any, folder: Path, on_step: Callable[[], None]) -> None:
        super().__init__()
        self.graph, self.on_step = graph, on_step
        self.parts = self._same_parts(lambda: Parts(folder, None, self.number, "distdgl"))

    def check(self, model: nn.Module, task: GraphTask, batching: Batching) -> None:
        check_distdgl(model, batching)

    def divided(
        self, model: nn.Module, task: GraphTask, batching: Batching, class_weight: Tensor | None
    ) -> tuple[Callable[[GraphTask], Iterator[Batch]], Logits]:
        batches = SampledParts(self, model, task, batching, class_weight)
        if self.is_first:
            warn_if_nearly_all(batches, task, model)
        return batches, batches.logits

    def own(self, mask: Tensor) -> Tensor:
        """An even share of the nodes of a mask (N,), those of the own part first of all."""
        split = need_dgl("DistDGL").distributed.node_split
        # Of no nodes it gives the type of the mask.
        return split(mask.cpu(), self.graph.get_partition_book(), rank=self.rank).long()


class SampledParts:
    """The batches of an epoch of one trainer, of what the servers hold.

    Parameters
    ----------
    trainers : Trainers
    model : torch.nn.Module
    task : GraphTask
        Labels and split of all nodes.
    options : Neighbours
    class_weight : Tensor (C,), optional
        Of the classes in the loss.
    """

    def __init__(
        self,
        trainers: Trainers,
        model: nn.Module,
        task: GraphTask,
        options: Neighbours,
        class_weight: Tensor | None = None,
    ) -> None:
        self.trainers, self.task, self.options = trainers, task, options
        self.fanouts = fanouts_of(model, options)
        weights = node_weights(task, class_weight)
        self.weights, self.seeds = weights / weights.sum(), trainers.own(task.train_mask)
        graph = trainers.graph
        read = [PARENT_DEGREES] if reads_degrees(model) else []
        self.columns = {name: graph.ndata[name] for name in read}
        has_edges = reads_edges(model) and "feat" in graph.edata
        self.edge_feat = graph.edata["feat"] if has_edges else None

    def __call__(self, task: GraphTask) -> Iterator[Batch]:
        """As many batches as each trainer has, so that all make the same steps."""
        seeds, number = int(task.train_mask.sum()), self.number
        drawn = self.seeds[torch.randperm(self.seeds.numel())]
        for nodes in drawn.tensor_split(number):
            weight = float(self.weights[nodes].sum())
            share = Share(number * weight, number * nodes.numel() / seeds)
            counts = torch.ones(nodes.numel(), dtype=torch.bool)
            if not nodes.numel():  # the others' gradients are the step's
                nodes, counts = torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.bool)
            yield self.around(nodes, self.fanouts, counts, share)

    @property
    def number(self) -> int:
        return number_of_batches(int(self.task.train_mask.sum()), self.options)

    def around(self, seeds: Tensor, fanouts: list[int], counts: Tensor, share: Share) -> Batch:
        """What ``seeds`` (m,), none twice, read, as it is drawn now."""
        nodes, blocks = self._drawn(seeds, fanouts)
        return Batch(
            blocks,
            self.trainers.graph.ndata["feat"][nodes],
            None,
            self.task.labels[seeds],
            counts,
            self.task.multilabel,
            share,
        )

    def share_read(self, task: GraphTask) -> float:
        """The share of the graph's nodes that a batch reads, of one that is drawn for this."""
        seeds = self.seeds.tensor_split(self.number)[0]
        return self._drawn(seeds, self.fanouts)[0].numel() / task.num_nodes if len(seeds) else 0.0

    @torch.no_grad()
    def logits(self, model: nn.Module, splits: tuple[str, ...]) -> Tensor:
        """Logits (N, C) in evaluation mode, of all neighbours, of the nodes of some splits; the
        rows of other nodes are all that of one of these."""
        mask = torch.stack([getattr(self.task, f"{split}_mask") for split in splits]).any(0)
        own, rows = self.trainers.own(mask), []
        size = max(1, self.options.batch_size // self.trainers.number)
        with evaluating(model):
            for nodes in own.split(size) if own.numel() else ():
                every = torch.ones(nodes.numel(), dtype=torch.bool)
                batch = self.around(nodes, [-1] * len(self.fanouts), every, Share())
                rows.append(model(batch.graph, batch.feat))
        found = self.trainers.each((own, torch.cat(rows) if rows else None))
        nodes = torch.cat([each for each, logits in found if logits is not None])
        rows = torch.cat([logits for _, logits in found if logits is not None])
        every = rows[:1].expand(self.task.num_nodes, -1).clone()
        return every.index_copy_(0, nodes, rows)

    def _drawn(self, seeds: Tensor, fanouts: list[int]) -> tuple[Tensor, list[Any]]:
        """The nodes that are read, and the blocks, the first layer's first."""
        dgl, graph = need_dgl("DistDGL"), self.trainers.graph
        self.trainers.on_step()
        read, blocks = seeds, []
        for fanout in reversed(fanouts):
            drawn = dgl.distributed.sample_neighbors(graph, read, fanout)
            block = dgl.to_block(drawn, read)
            edges, read = drawn.edata[EID][block.edata[EID]], block.srcdata[NID]
            block.edata[EID] = edges
            for name, column in self.columns.items():
                block.srcdata[name] = column[read]
            if self.edge_feat is not None:
                block.edata["feat"] = self.edge_feat[edges]
            blocks.insert(0, block)
        return read, blocks
