r"""Several processes that train one network on one graph, each on a part of the nodes.

The nodes are divided among the processes. Each has the in-edges of its own nodes, and asks the
others for the rows of their sources (the halo) in every layer: what a layer computes is what it
computes on the whole graph. With :math:`n_r` of n training nodes in process r the loss is

.. math::
    \ell = \sum_r \frac{n_r}{n} \cdot \frac{1}{n_r} \sum_{i \in r} \ell_i

whose gradients are summed over the processes. So a step is that of one process on the whole graph,
but for rounding and for dropout, whose masks each process draws for its own nodes.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lipzoo._dgl import find_dgl
from lipzoo.attention import Structure, as_structure
from lipzoo.datasets import GraphTask
from lipzoo.errors import ConfigError, LipzooError
from lipzoo.nn.degrees import degree_counts
from lipzoo.settings import Batching, Full
from lipzoo.training.batching_clusters import clusters_of
from lipzoo.training.batching_rows import Batch, Share, node_weights, sparse_rows
from lipzoo.training.ranks_exchange import HaloExchange, together

__all__ = ["Ranks", "is_one_of_several", "joined"]

#: How long a process waits for another.
_PATIENCE = datetime.timedelta(minutes=30)


def is_one_of_several() -> bool:
    """Whether ``torchrun``, or another launcher that sets its variables, started several."""
    return os.environ.get("WORLD_SIZE", "1") not in ("", "1") and "RANK" in os.environ


@contextmanager
def joined() -> Iterator[Ranks | None]:
    """The processes that were started together, this one among them; None where it is alone.

    Raises
    ------
    LipzooError
        If the others cannot be reached.
    """
    if not is_one_of_several():
        yield None
        return
    try:
        together(dist.init_process_group, "gloo", timeout=_PATIENCE)
    except (LipzooError, ValueError) as fault:
        raise LipzooError(f"the processes do not find each other: {fault}") from None
    try:
        yield Ranks()
    finally:
        dist.destroy_process_group()


class Ranks:
    """The processes of a training, as one of them sees it; all call its methods in one order."""

    def __init__(self) -> None:
        self.rank, self.number = dist.get_rank(), dist.get_world_size()
        self._order = torch.empty(0, dtype=torch.int64)

    @property
    def is_first(self) -> bool:
        """Whether this process writes, and says how far it is."""
        return self.rank == 0

    def told(self, message: Any) -> Any:
        """What the first process says to all."""
        box = [message]
        together(dist.broadcast_object_list, box, src=0)
        return box[0]

    def each(self, message: Any) -> list[Any]:
        """What each process says to all, the first one first."""
        box = [None] * self.number
        together(dist.all_gather_object, box, message)
        return box

    def agree(self, name: str, content: Any) -> None:
        """Refuse, in all processes, where one has something else than the first.

        Raises
        ------
        ConfigError
        """
        found = self.each((name, content))
        for rank, other in enumerate(found):
            if other != found[0]:
                raise ConfigError(
                    f"process {rank} was given another recipe ({other[0]}) than the first "
                    f"({found[0][0]}): give all processes the same command"
                )

    def check(self, model: nn.Module, task: GraphTask, batching: Batching) -> None:
        """Refuse what is not divided.

        Raises
        ------
        ConfigError
        """
        words = ""
        if task.num_nodes < self.number:
            words = f"{task.name} has {task.num_nodes} nodes, fewer than there are processes"
        elif not isinstance(batching, Full):
            words = f"batching {batching.name!r} is for one; each has a part of the graph as it is"
        elif task.parts:
            words = f"{task.name} consists of several graphs"
        elif not hasattr(model, "structures"):
            words = f"a {type(model).__name__} is no network of attention layers of lipzoo's"
        if words:
            raise ConfigError(f"{self.number} processes: {words}; train in one process")

    def part(self, model: nn.Module, task: GraphTask, class_weight: Tensor | None) -> Batch:
        """The own part of a task, in the numbers that this process gives its nodes.

        Parameters
        ----------
        model : torch.nn.Module
            Says whether features may be sparse.
        task : GraphTask
            The same in all processes.
        class_weight : Tensor (C,), optional
        """
        structure = as_structure(task.graph)
        owner = torch.empty(task.num_nodes, dtype=torch.int32)
        if self.is_first:
            for number, nodes in enumerate(self._divided(structure)):
                owner[nodes] = number
        together(dist.broadcast, owner, src=0)
        self._order = owner.argsort(stable=True)
        nodes = (owner == self.rank).nonzero().squeeze(1)
        edge_feat = task.graph.edata.get("feat") if getattr(model, "edge_feats", 0) else None
        part = self._cut(structure, owner.long(), nodes, edge_feat)
        weights = node_weights(task, class_weight)
        loss = float(weights[nodes].sum() / weights.sum())
        share = Share(loss, nodes.numel() / task.num_nodes)
        sparse = task.sparse_feat if getattr(model, "takes_sparse_feat", False) else None
        return Batch(
            part,
            task.feat[nodes] if sparse is None else None,
            None if sparse is None else sparse_rows(sparse, nodes),
            task.labels[nodes],
            task.train_mask[nodes],
            task.multilabel,
            share,
        )

    def _divided(self, structure: Structure) -> list[Tensor]:
        """The nodes of each process; METIS leaves few edges between them."""
        if find_dgl() is not None:
            nodes = clusters_of(structure, "metis", self.number)
            if len(nodes) == self.number:
                return nodes
        return clusters_of(structure, "contiguous", self.number)

    def _cut(
        self, structure: Structure, owner: Tensor, nodes: Tensor, edge_feat: Tensor | None
    ) -> Structure:
        """The in-edges of ``nodes``, which come first in it, before the halo."""
        edges = (owner[structure.dst] == self.rank).nonzero().squeeze(1)
        src, dst = structure.src[edges], structure.dst[edges]
        halo = src[owner[src] != self.rank].unique()
        halo = halo[owner[halo].argsort(stable=True)]
        place = torch.empty_like(owner)
        place[nodes] = torch.arange(nodes.numel())
        place[halo] = torch.arange(nodes.numel(), nodes.numel() + halo.numel())
        wanted = halo.split(torch.bincount(owner[halo], minlength=self.number).tolist())
        sent = [each[self.rank] for each in self.each(list(wanted))]
        exchange = HaloExchange(
            place[torch.cat(sent)],
            [each.numel() for each in sent],
            [each.numel() for each in wanted],
            owner.numel(),
        )
        degrees = structure.derived(degree_counts)[torch.cat([nodes, halo])]
        sizes = nodes.numel() + halo.numel(), nodes.numel()
        return Structure(
            place[src],
            place[dst],
            *sizes,
            parent_degrees=degrees,
            exchange=exchange,
            edge_feat=None if edge_feat is None else edge_feat[edges],
        )

    def gathered(self, own: Tensor) -> Tensor:
        """Rows of all nodes in the order of the task's, from those of the own nodes."""
        rows = torch.cat(self.each(own.detach().cpu()))
        return torch.empty_like(rows).index_copy_(0, self._order, rows).to(own.device)

    def reduce(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum the gradients over the processes, in place."""
        held = [p for p in parameters if p.grad is not None]
        if not held:
            return
        flat = torch.cat([p.grad.flatten() for p in held])
        together(dist.all_reduce, flat)
        for parameter, grad in zip(held, flat.split([p.numel() for p in held])):
            parameter.grad.copy_(grad.view_as(parameter))

    def total(self, loss: Tensor) -> Tensor:
        """The sum of a number over the processes."""
        total = loss.detach().clone()
        together(dist.all_reduce, total)
        return total

    def draws(self) -> list[Tensor]:
        """The state of each process's random generator."""
        return self.each(torch.get_rng_state())

    def set_draws(self, draws: list[Tensor]) -> None:
        """Go on from what :meth:`draws` gave."""
        torch.set_rng_state(draws[self.rank])

    def begin_draws(self) -> None:
        """From here on each process draws numbers of its own."""
        if not self.is_first:
            torch.manual_seed(torch.initial_seed() + self.rank)
