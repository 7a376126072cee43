r"""What an epoch is: one step on the whole graph, or steps on parts of it or samples.

``full`` is one step on the mean loss of the n training nodes. The others make B steps, on batches b
of training nodes that are in one batch each, and the step of b is on

.. math::
    \ell_b = \frac{B}{n} \sum_{i \in b} \ell_i(G_b)
           = B \frac{n_b}{n} \cdot \frac{1}{n_b} \sum_{i \in b} \ell_i(G_b)

where :math:`G_b` is what the batch holds of the graph (with weights of classes, n and n_b are sums
of weights). The mean of an epoch's gradients, all taken at the same weights, is then that of the
whole loss, but for the edges that :math:`G_b` lacks; with all of them it is equal. The plain mean
over a batch, as in Cluster-GCN, lets the nodes of a batch that has few of them weigh more: METIS
balances nodes, not labels. Samples divide the training nodes evenly, so that there the two are the
same. The loss of an epoch in the history is the mean of the :math:`\ell_b`.

Chiang et al., "Cluster-GCN", KDD 2019 (``clusters``); Zeng et al., "GraphSAINT", ICLR 2020, whose
loss is normalised to the same end; Hamilton et al., "Inductive Representation Learning on Large
Graphs", NeurIPS 2017, and Balin, Çatalyürek, "Layer-Neighbor Sampling", NeurIPS 2023
(``neighbours``); Zeng et al., "Decoupling the Depth and Scope of Graph Neural Networks", NeurIPS
2021 (``shadow``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lipzoo._torch import evaluating, seeded
from lipzoo.datasets import GraphTask
from lipzoo.datasets.loading import as_task
from lipzoo.encoding import encode_for
from lipzoo.errors import ConfigError, DataError
from lipzoo.models import check_has_head
from lipzoo.settings import Batching, Clusters, FitSettings, Full, Neighbours, Shadow
from lipzoo.training.batching_clusters import ClusterBatches, check_clusters
from lipzoo.training.batching_rows import Batch
from lipzoo.training.batching_samples import (
    SampledBatches,
    check_samples,
    number_of_batches,
    warn_if_nearly_all,
)
from lipzoo.training.metrics import model_feat
from lipzoo.training.ranks import Ranks
from lipzoo.training.step import train_step

__all__ = ["Batches", "check_batching", "infer_sampled", "make_batches", "train_epoch"]

#: The batches of an epoch on a task.
Batches = Callable[[GraphTask], Iterator[Batch]]


def check_batching(model: nn.Module, task: GraphTask, batching: Batching) -> None:
    """Refuse a batching that the model or the task does not take, before any work.

    Raises
    ------
    ConfigError
        If there are more parts than nodes, a model takes no blocks, fanouts are not those of its
        layers, or batches have one node and the model takes statistics over a batch.
    LipzooError
        If what it needs is not installed.
    """
    if isinstance(batching, Full):
        return
    if isinstance(batching, Clusters):
        check_clusters(task, batching)
        nodes = task.num_nodes * batching.per_batch / batching.parts
        words = "say fewer parts, or more per_batch"
    else:
        check_samples(model, batching)
        # A seed that reads others is alone behind the last layer, all the same.
        seeds = int(task.train_mask.sum())
        nodes = seeds // number_of_batches(seeds, batching)
        words = f"say another batch_size, such as {max(seeds, 2)}"
    if nodes < 2 and any(isinstance(module, nn.BatchNorm1d) for module in model.modules()):
        raise ConfigError(
            f"batching: {batching.name}: batches of one node have no statistics, which batchnorm "
            f"takes; {words}"
        )


def make_batches(
    model: nn.Module, task: GraphTask, batching: Batching, class_weight: Tensor | None = None
) -> Batches | None:
    """What gives the batches of an epoch, on a task of this graph; None: the whole graph is one.

    Draws nothing from PyTorch's generators.

    Raises
    ------
    ConfigError, LipzooError
        See :func:`check_batching`.
    """
    check_batching(model, task, batching)
    if isinstance(batching, Full):
        return None
    if isinstance(batching, Clusters):
        return ClusterBatches(model, task, batching, class_weight)
    batches = SampledBatches(model, task, batching, class_weight)
    if isinstance(batching, Neighbours):
        warn_if_nearly_all(batches, task, model)
    return batches


def train_epoch(
    model: nn.Module,
    task: GraphTask,
    batches: Batches | None,
    optimizer: torch.optim.Optimizer,
    settings: FitSettings,
    class_weight: Tensor | None,
    epoch: int,
    ranks: Ranks | None = None,
) -> float:
    """The steps of an epoch on the training nodes of a task; the mean of their losses.

    ``class_weight`` (C,) is that of the classes in the loss, ``epoch`` counts from 1, ``ranks`` are
    the processes that have the rest of the graph.
    """
    if batches is None:
        return train_step(model, task, optimizer, settings, class_weight, epoch)
    losses = [
        train_step(model, batch, optimizer, settings, class_weight, epoch, ranks)
        for batch in batches(task)
    ]
    return sum(losses) / len(losses)


def chosen_nodes(task: GraphTask, nodes: Tensor | Sequence[int]) -> Tensor:
    """Numbers of nodes as int64 (m,), on the CPU.

    Raises
    ------
    DataError
        If there is no such node, or these are no numbers of nodes.
    """
    found = torch.as_tensor(nodes).cpu()
    if found.numel() and (found.dtype == torch.bool or found.is_floating_point()):
        raise DataError(
            f"{task.name}: nodes are asked for by {found.dtype}, and must be whole numbers; of a "
            "mask, mask.nonzero().squeeze(1)"
        )
    found = found.long().flatten()
    first, last = (int(found.min()), int(found.max())) if found.numel() else (0, -1)
    if first < 0 or last >= task.num_nodes:
        raise DataError(
            f"{task.name}: nodes {first}..{last} are asked for, and those of the graph are "
            f"0..{task.num_nodes - 1}"
        )
    return found


@torch.no_grad()
def infer_sampled(
    model: nn.Module,
    task: GraphTask | Any,
    nodes: Tensor | Sequence[int],
    batching: Shadow | Neighbours = Shadow(name="shadow"),  # noqa: B008
    seed: int = 0,
) -> Tensor:
    """Logits (m, C) of chosen nodes, of a sample of what they read: at a cost that does not grow
    with the graph.

    With ``shadow`` the subgraph around a batch is that of all its nodes.

    Parameters
    ----------
    model : torch.nn.Module
        Left in the mode it was in.
    task : GraphTask, or anything that `lipzoo.datasets.as_task` takes
        Encoded here where the model's card says so; labels are not needed.
    nodes : integer Tensor (m,), or sequence
        Some may be there twice.
    batching : Shadow or Neighbours
        How many neighbours are read, and how many nodes at a time.
    seed : int
        Of what is drawn; PyTorch's generators go on afterwards as if nothing had been.

    Raises
    ------
    ConfigError, LipzooError
        See :func:`check_batching`; also if the model is a body without a head.
    DataError
        If there is no such node.
    """
    check_has_head(model)
    check_samples(model, batching)
    task = encode_for(model, as_task(task, require_labels=False))
    chosen, place = chosen_nodes(task, nodes).unique(return_inverse=True)
    batches = SampledBatches(model, task, batching)
    found = []
    with evaluating(model), seeded(seed):
        for seeds in batches.divided(chosen):
            batch = batches.around(task, seeds)
            found.append(model(batch.graph, model_feat(model, batch))[batch.train_mask])
    return torch.cat(found)[place.to(found[0].device)]
