"""Batches of training nodes, on a sample of what they read: DGL's samplers."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from lipzoo._dgl import need_dgl
from lipzoo._graph import EID, NID, make_graph
from lipzoo._torch import seeded
from lipzoo.datasets import GraphTask
from lipzoo.errors import ConfigError
from lipzoo.models import InContextGATv2
from lipzoo.nn.feature_norms import NeighborNorm
from lipzoo.settings import Neighbours, Shadow
from lipzoo.training.batching_rows import Batch, Rows, Share, node_weights, shares

__all__ = [
    "SampledBatches",
    "check_samples",
    "fanouts_of",
    "number_of_batches",
    "warn_if_nearly_all",
]

#: Share of a graph's nodes that a batch reads, from which it is no small part of it.
_NEARLY_ALL = 0.5
_INSTEAD = "batching: clusters and shadow take such a network"


def check_samples(model: nn.Module, options: Neighbours | Shadow) -> None:
    """Refuse samples that there cannot be, or that a model does not take.

    Raises
    ------
    ConfigError
        If a model takes no blocks, or the fanouts are not those of its layers.
    LipzooError
        Without DGL.
    """
    need_dgl(f"batching: {options.name} (clusters do without)")
    if isinstance(options, Shadow):
        return
    if any(isinstance(module, NeighborNorm) for module in model.modules()):
        raise ConfigError(
            "batching: neighbours: the feature norm 'neighbornorm' reads the neighbours of what a "
            f"layer puts out, which a sample lacks; {_INSTEAD}"
        )
    if isinstance(model, InContextGATv2):
        raise ConfigError(
            f"batching: neighbours: a network in context reads graphs, and no blocks; {_INSTEAD}"
        )
    fanouts_of(model, options)


def fanouts_of(model: nn.Module, options: Neighbours | Shadow) -> list[int]:
    """How many neighbours are drawn: for each layer of the model, or each hop.

    Raises
    ------
    ConfigError
        If they are not as many as the model has layers.
    """
    if isinstance(options, Shadow):
        return [options.fanout] * options.hops
    fanouts, layers = options.fanouts, getattr(model, "num_layers", None)
    if isinstance(fanouts, int):
        if layers is None:
            raise ConfigError(
                f"batching: neighbours: a {type(model).__name__} does not say its num_layers; give "
                "fanouts as a list, one a layer"
            )
        return [fanouts] * layers
    if layers not in (None, len(fanouts)):
        raise ConfigError(
            f"batching: neighbours: fanouts are for {len(fanouts)} layers, and the model has "
            f"{layers}; give one number for all layers, or {layers}, the first layer first"
        )
    return fanouts


def number_of_batches(seeds: int, options: Neighbours | Shadow) -> int:
    """How many batches so many nodes are divided into, at least one."""
    return max(1, math.ceil(seeds / options.batch_size))


class SampledBatches:
    """The batches of an epoch: the training nodes in another order each time, divided evenly.

    Parameters
    ----------
    model : torch.nn.Module
    task : GraphTask
        Its graph is sampled.
    options : Neighbours or Shadow
    class_weight : Tensor (C,), optional
        Of the classes in the loss.
    """

    def __init__(
        self,
        model: nn.Module,
        task: GraphTask,
        options: Neighbours | Shadow,
        class_weight: Tensor | None = None,
    ) -> None:
        self.options, self.class_weight = options, class_weight
        self.rows = Rows(model, task.graph)
        sampling = need_dgl("batching").dataloading
        fanouts = fanouts_of(model, options)
        if isinstance(options, Shadow):
            self.sampler = sampling.ShaDowKHopSampler(fanouts)
        elif options.sampler == "labor":
            self.sampler = sampling.LaborSampler(fanouts)
        else:
            # The fused one makes blocks of other edges of a graph of 32 bits.
            self.sampler = sampling.NeighborSampler(fanouts, fused=False)
        # The edges alone: what a graph carries would be carried along.
        edges = (ends.cpu() for ends in task.graph.edges(order="eid"))
        self.graph = make_graph(*edges, task.num_nodes)

    def __call__(self, task: GraphTask) -> Iterator[Batch]:
        """The batches of an epoch on a task of the same graph. PyTorch's generator on the CPU
        says all that is drawn."""
        weights = node_weights(task, self.class_weight)
        seeds = torch.nonzero(task.train_mask.cpu()).squeeze(1)
        batches = self.divided(seeds[torch.randperm(seeds.numel())])
        weighed = [float(weights[nodes].sum()) for nodes in batches]
        found = shares(weighed, [nodes.numel() for nodes in batches])
        for nodes, share in zip(batches, found, strict=True):
            if share is not None:
                yield self.around(task, nodes, share)

    def divided(self, seeds: Tensor) -> tuple[Tensor, ...]:
        """As few batches as ``batch_size`` allows, of as many nodes each, but for one."""
        return seeds.tensor_split(number_of_batches(seeds.numel(), self.options))

    def around(self, task: GraphTask, seeds: Tensor, share: Share = Share()) -> Batch:  # noqa: B008
        """What ``seeds`` (m,), none twice, read, as it is drawn now."""
        nodes, drawn = self._draw(seeds)
        if isinstance(self.options, Shadow):
            self.rows.tell(drawn, nodes, drawn.edata[EID])
            counts = torch.arange(nodes.numel()) < seeds.numel()
            return self.rows.batch(task, drawn, nodes, nodes, counts, share)
        for block in drawn:
            self.rows.tell(block, block.srcdata[NID].long(), block.edata[EID])
        counts = torch.ones(seeds.numel(), dtype=torch.bool)
        return self.rows.batch(task, drawn, nodes, seeds, counts, share)

    def share_read(self, task: GraphTask) -> float:
        """The share of the graph's nodes that a batch of training nodes reads, of one that is drawn
        for this alone."""
        with seeded(0):
            seeds = torch.nonzero(task.train_mask.cpu()).squeeze(1)
            nodes, _ = self._draw(self.divided(seeds[torch.randperm(seeds.numel())])[0])
        return nodes.numel() / task.num_nodes

    def _draw(self, seeds: Tensor) -> tuple[Tensor, Any]:
        """The nodes that are read, ``seeds`` first, and the blocks or the graph."""
        number = int(torch.randint(2**31 - 1, ()))
        need_dgl("batching").seed(number)
        seeds = seeds.to(self.graph.idtype)
        if isinstance(self.options, Shadow):
            nodes, _, drawn = self.sampler.sample(self.graph, seeds)
        else:
            if self.options.sampler == "labor":
                self.sampler.set_seed(number)
            nodes, _, drawn = self.sampler.sample_blocks(self.graph, seeds)
        return nodes.long(), drawn


def warn_if_nearly_all(batches: SampledBatches, task: GraphTask, model: nn.Module) -> None:
    """Say so where a batch reads nearly the whole graph through the layers of a model."""
    read = batches.share_read(task)
    if read >= _NEARLY_ALL:
        layers = len(fanouts_of(model, batches.options))
        warnings.warn(
            f"batching: neighbours: a batch reads {100 * read:.0f} % of the nodes of {task.name} "
            f"through {layers} layers, so that a step costs nearly as much as one on the whole "
            "graph; batching: clusters cuts the graph instead, whatever the depth",
            stacklevel=4,
        )
