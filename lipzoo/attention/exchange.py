"""What a layer asks of the other processes, where each has a part of the graph."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

__all__ = ["Exchange"]


class Exchange(Protocol):
    """What several processes do together, each with its own nodes; all call it in the same order.

    See :class:`lipzoo.training.ranks_exchange.HaloExchange`.
    """

    def widened(self, own: Tensor) -> Tensor:
        """Rows of the own nodes, (num_dst, *), followed by those of other sources."""
        ...

    def summed(self, own: Tensor) -> Tensor:
        """The sum of a tensor over all processes."""
        ...

    def mean(self, own: Tensor) -> Tensor:
        """The mean of rows (num_dst, *) over the nodes of all processes, (1, *)."""
        ...
