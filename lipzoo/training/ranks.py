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
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from lipzoo.attention import Structure, as_structure
from lipzoo.datasets import GraphTask
from lipzoo.errors import ConfigError, DataError, LipzooError
from lipzoo.settings import Batching, Full
from lipzoo.training.batching_rows import Batch, Share, node_weights, sparse_rows
from lipzoo.training.metrics import infer
from lipzoo.training.ranks_exchange import HaloExchange, together
from lipzoo.training.ranks_parts import Cut, Parts, cut_of, owners
from lipzoo.training.tasks import Tasks

__all__ = ["Logits", "Ranks", "check_several", "is_one_of_several", "joined", "seed_of"]

T = TypeVar("T")

#: Logits (N, C) of a model, right at least for the nodes of the splits that are named.
Logits = Callable[[nn.Module, tuple[str, ...]], Tensor]

#: How long a process waits for another.
_PATIENCE = datetime.timedelta(minutes=30)


def seed_of(seed: int, rank: int) -> int:
    """What process ``rank`` draws with: no seed's of another run, nor of another process."""
    drawn = np.random.SeedSequence([seed, rank]).generate_state(1, np.uint64)
    return int(drawn[0])


def is_one_of_several() -> bool:
    """Whether ``torchrun``, or another launcher that sets its variables, started several."""
    return os.environ.get("WORLD_SIZE", "1") not in ("", "1") and "RANK" in os.environ


def check_several(
    number: int, has_parts: bool, jobs: int = 1, device: str | None = None, baselines: bool = False
) -> None:
    """Refuse options of a run that are not for ``number`` processes together.

    Raises
    ------
    ConfigError
    """
    if jobs > 1 or device is not None:
        raise ConfigError(
            f"{number} processes train each seed together; leave out "
            f"{'--device' if device is not None else '--jobs'}"
        )
    if has_parts and baselines:
        raise ConfigError("--parts: baselines may read the whole graph; train them without")


@contextmanager
def joined(make: Callable[[], Ranks] | None = None) -> Iterator[Ranks | None]:
    """The processes that were started together, this one among them; None where it is alone.

    ``make`` makes what they are, by default :class:`Ranks`.

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
        yield Ranks() if make is None else make()
    finally:
        dist.destroy_process_group()


class Ranks:
    """The processes of a training, as one of them sees it; all call its methods in one order."""

    def __init__(self) -> None:
        self.rank, self.number = dist.get_rank(), dist.get_world_size()
        #: What was cut before, and each process reads alone; None: each cuts the task.
        self.parts: Parts | None = None
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

    def read_parts(self, folder: str | os.PathLike) -> None:
        """Train on what :func:`~lipzoo.training.ranks_parts.write_parts` wrote.

        Raises
        ------
        ConfigError, DataError
            If they are not as many as the processes, or not there; in all processes.
        """
        self.parts = self._same_parts(lambda: Parts(folder, self.rank, self.number))

    def _same_parts(self, read: Callable[[], Parts]) -> Parts:
        found, said = self._all(read, lambda parts: parts.content)
        if any(each != said[0] for each in said):
            raise DataError(f"{found.folder}: the processes have parts of different graphs there")
        return found

    def same_task(self, load: Callable[[], GraphTask]) -> GraphTask:
        """The task that each process loads.

        Raises
        ------
        LipzooError
            If a process has none, or another than the first; in all processes.
        """
        task, said = self._all(load, lambda task: task.fingerprint)
        for rank, fingerprint in enumerate(said):
            if fingerprint != said[0]:
                raise ConfigError(
                    f"process {rank} has other data of the name {task.name!r} than the first: "
                    "copy the first one's, or name it by --raw-dir"
                )
        return task

    def _all(self, make: Callable[[], T], tell: Callable[[T], Any]) -> tuple[T, list[Any]]:
        """What this process makes, and what each tells of its own; or a fault of one, for all."""
        try:
            made: T | LipzooError = make()
            word = tell(made)
        except LipzooError as fault:
            made = word = fault
        said = self.each(word)
        for each in (word, *said):
            if isinstance(each, LipzooError):
                raise each
        return made, said

    def tasks(self) -> Tasks | Parts:
        """What loads a recipe's data."""
        return Tasks() if self.parts is None else self.parts

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

    def divided(
        self, model: nn.Module, task: GraphTask, batching: Batching, class_weight: Tensor | None
    ) -> tuple[Callable[[GraphTask], Iterator[Batch]], Logits]:
        """What gives the batches of an epoch, and what gives the logits of all nodes."""
        own = self.part(model, task, class_weight)
        return (lambda _: iter([own])), lambda judged, _: self.gathered(infer(judged, own))

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
        edge_feat = sparse = None
        if self.parts is not None:
            cut, feat, edge_feat = self.parts.read()
        else:
            cut, edges = self._cut(as_structure(task.graph))
            if getattr(model, "takes_sparse_feat", False) and task.sparse_feat is not None:
                feat, sparse = None, sparse_rows(task.sparse_feat, cut.nodes)
            else:
                feat = task.feat_of(cut.nodes)
            if task.edge_feat is not None:
                edge_feat = task.edge_feat[edges]
        nodes = cut.nodes
        self._order = torch.cat(self.each(nodes))
        weights = node_weights(task, class_weight)
        loss = float(weights[nodes].sum() / weights.sum())
        return Batch(
            self._structure(cut, task.num_nodes, edge_feat),
            feat,
            sparse,
            task.labels[nodes],
            task.train_mask[nodes],
            task.multilabel,
            Share(loss, nodes.numel() / task.num_nodes),
        )

    def _cut(self, structure: Structure) -> tuple[Cut, Tensor]:
        owner = torch.empty(structure.num_dst, dtype=torch.int64)
        if self.is_first:
            owner = owners(structure, self.number)
        together(dist.broadcast, owner, src=0)
        return cut_of(structure, owner, self.rank, self.number)

    def _structure(self, cut: Cut, num_nodes: int, edge_feat: Tensor | None) -> Structure:
        """The edges of a part, and who sends which rows to whom."""
        num_got = cut.num_got.tolist()
        sent = [each[self.rank] for each in self.each(list(cut.halo.split(num_got)))]
        exchange = HaloExchange(
            torch.searchsorted(cut.nodes, torch.cat(sent)),
            [each.numel() for each in sent],
            num_got,
            num_nodes,
        )
        return Structure(
            cut.src,
            cut.dst,
            cut.nodes.numel() + cut.halo.numel(),
            cut.nodes.numel(),
            parent_degrees=cut.degrees,
            exchange=exchange,
            edge_feat=edge_feat,
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
            torch.manual_seed(seed_of(torch.initial_seed(), self.rank))
