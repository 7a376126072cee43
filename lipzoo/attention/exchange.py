"""What a layer asks of the other processes, where each has a part of the graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

__all__ = ["Exchange"]


class Exchange(Protocol):
    """What several processes do together, each with its own nodes; all call it in the same order.

    See :class:`lipzoo.training.ranks_exchange.HaloExchange`.
    """

    def sending(self, own: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
        """Send rows of the own nodes, (num_dst, *), and do not wait for those of others.

        Returns
        -------
        own : Tensor (num_dst, *)
            The rows, to read from here on: what is done with them before the others' rows are
            waited for is, backward, done while the others' gradients are on their way.
        arrived : callable
            Waits, and gives the own rows followed by those of other sources; to be called once.
        """
        ...

    def summed(self, own: Tensor) -> Tensor:
        """The sum of a tensor over all processes."""
        ...

    def mean(self, own: Tensor) -> Tensor:
        """The mean of rows (num_dst, *) over the nodes of all processes, (1, *)."""
        ...
