"""Rows that go between processes, forward, and their gradients, backward."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from lipzoo.errors import LipzooError, first_line

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
        raise OtherEnded(
            "another process of the training ended, or did not answer in time "
            f"({first_line(fault)[:200]}); its own message says why; the same command with "
            "--resume goes on"
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
        #: Bytes that were sent, and seconds waited for rows that were not there yet.
        self.num_bytes, self.waited = 0, 0.0

    def sending(self, own: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
        transfer = _Transfer(self)
        own, coming = _Sent.apply(own, transfer)

        def arrived() -> Tensor:
            return torch.cat([own, _Arrived.apply(coming, transfer)])

        return own, arrived

    def summed(self, own: Tensor) -> Tensor:
        return _Summed.apply(own)

    def mean(self, own: Tensor) -> Tensor:
        return self.summed(own.sum(0, keepdim=True)) / self.num_nodes


class _Transfer:
    """Rows on their way: those of own nodes forward, gradients of the halo's rows backward."""

    def __init__(self, exchange: HaloExchange) -> None:
        self.exchange = exchange

    def start(self, rows: Tensor, num_sent: list[int], num_got: list[int]) -> Tensor:
        """Rows, those for process 0 first, against rows, those of process 0 first; the latter are
        there after :meth:`wait`."""
        self.exchange.num_bytes += rows.numel() * rows.element_size()
        self._got = rows.new_empty(sum(num_got), *rows.shape[1:])
        # What is sent must stay until it has left.
        self._leaving = rows.contiguous()
        self._work = together(
            dist.all_to_all_single, self._got, self._leaving, num_got, num_sent, async_op=True
        )
        return self._got

    def wait(self) -> Tensor:
        begin = time.perf_counter()
        together(self._work.wait)
        self.exchange.waited += time.perf_counter() - begin
        got, self._got, self._leaving, self._work = self._got, None, None, None
        return got


# Autograd goes backward through what was called last: _Arrived, which sends the gradients of the
# halo's rows, then what was done with the own rows meanwhile, then _Sent, which waits.


class _Sent(torch.autograd.Function):
    """Own rows, and those of the halo, which are on their way."""

    @staticmethod
    def forward(ctx, own: Tensor, transfer: _Transfer) -> tuple[Tensor, Tensor]:
        ctx.transfer, exchange = transfer, transfer.exchange
        coming = transfer.start(own[exchange.sent], exchange.num_sent, exchange.num_got)
        return own.view_as(own), coming

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor, _: Tensor):
        """A node's gradient is the sum of its rows' in all processes."""
        back = ctx.transfer.wait()
        return grad.clone().index_add_(0, ctx.transfer.exchange.sent, back), None


class _Arrived(torch.autograd.Function):
    """The rows of the halo, when they are there."""

    @staticmethod
    def forward(ctx, coming: Tensor, transfer: _Transfer) -> Tensor:
        ctx.transfer = transfer
        transfer.wait()
        return coming.view_as(coming)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        exchange = ctx.transfer.exchange
        ctx.transfer.start(grad, exchange.num_got, exchange.num_sent)
        return grad, None


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
