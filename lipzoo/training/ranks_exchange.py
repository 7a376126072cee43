"""Rows that go between processes, forward, and their gradients, backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from lipzoo.errors import LipzooError

__all__ = ["HaloExchange", "OtherEnded", "together"]

T = TypeVar("T")


class OtherEnded(LipzooError):
    """Another process of the training is gone; what that says is the reason."""


def together(function: Callable[..., T], *arguments: Any, **options: Any) -> T:
    """A call that all processes of the training make.

    Raises
    ------
    OtherEnded
        If one of them is not there any more.
    """
    try:
        return function(*arguments, **options)
    except RuntimeError as fault:  # the backends' own errors share no other class
        reason = str(fault).splitlines()[0]
        raise OtherEnded(
            "another process of the training ended, or did not answer in time "
            f"({reason[:200]}); its own message says why; the same command with --resume goes on"
        ) from None


class HaloExchange:
    """A process's part in each layer: it sends rows of its nodes, and gets those it needs.

    Parameters
    ----------
    sent : Tensor (S,)
        Which of its own nodes it sends, those for process 0 first.
    num_sent, num_got : list of int
        How many rows go to each process, and come from it.
    num_nodes : int
        Of all processes.
    """

    def __init__(
        self, sent: Tensor, num_sent: list[int], num_got: list[int], num_nodes: int
    ) -> None:
        self.sent, self.num_sent, self.num_got = sent, num_sent, num_got
        self.num_nodes = num_nodes
        #: Bytes that were sent.
        self.num_bytes = 0

    def widened(self, own: Tensor) -> Tensor:
        return _Widened.apply(own, self)

    def summed(self, own: Tensor) -> Tensor:
        return _Summed.apply(own)

    def mean(self, own: Tensor) -> Tensor:
        return self.summed(own.sum(0, keepdim=True)) / self.num_nodes

    def swap(self, rows: Tensor, num_sent: list[int], num_got: list[int]) -> Tensor:
        """Rows, those for process 0 first, against rows, those of process 0 first."""
        got = rows.new_empty(sum(num_got), *rows.shape[1:])
        together(dist.all_to_all_single, got, rows.contiguous(), num_got, num_sent)
        self.num_bytes += rows.numel() * rows.element_size()
        return got


class _Widened(torch.autograd.Function):
    """Own rows, and behind them those of the halo; a node's gradient is the sum of its rows'."""

    @staticmethod
    def forward(ctx, own: Tensor, exchange: HaloExchange) -> Tensor:
        ctx.exchange, ctx.num_own = exchange, own.shape[0]
        got = exchange.swap(own[exchange.sent], exchange.num_sent, exchange.num_got)
        return torch.cat([own, got])

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        exchange = ctx.exchange
        back = exchange.swap(grad[ctx.num_own :], exchange.num_got, exchange.num_sent)
        return grad[: ctx.num_own].clone().index_add_(0, exchange.sent, back), None


class _Summed(torch.autograd.Function):
    """The sum over the processes; each one's gradient is the sum of the gradients of all."""

    @staticmethod
    def forward(ctx, own: Tensor) -> Tensor:
        total = own.clone()
        together(dist.all_reduce, total)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        total = grad.clone()
        together(dist.all_reduce, total)
        return total
