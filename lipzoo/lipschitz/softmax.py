r"""The weights that a softmax can give where each score lies in an interval.

A softmax grows with its own score and falls with the others', so with
:math:`l_j = \log \sum_{k \ne j} e^{s_k}` and the logistic function :math:`\sigma`, a weight is
:math:`\sigma(s_j - l_j)`: at the most with :math:`s_j` at its upper end and the others at their
lower ends.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lipzoo.attention import Structure
from lipzoo.lipschitz.rounding import down, gamma, up

__all__ = ["softmax_limits"]

#: Differences of scores of up to 745, beyond which an exponential is zero; exponential, logarithm.
_OPS = 1600


def softmax_limits(structure: Structure, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Least and largest weights, (E, H), of scores between ``low`` and ``high``."""
    floor = 1e-300  # exponentials that underflow
    most = up(torch.sigmoid(_ahead(structure, high, low, 1.0)), 16) + floor
    least = down(torch.sigmoid(_ahead(structure, low, high, -1.0)), 16) - floor
    # Infinite less infinite: nothing is known.
    return least.clamp_min(0).nan_to_num(nan=0.0), most.clamp_max(1).nan_to_num(nan=1.0)


def _ahead(structure: Structure, own: Tensor, others: Tensor, sign: float) -> Tensor:
    """Own score less the logarithm of the sum of the others' exponentials, rounded up for sign 1
    and down for -1."""
    s = structure
    index = s.dst.unsqueeze(1).expand_as(others)
    top = _largest_in(s, index, others)
    position = torch.arange(s.num_edges).unsqueeze(1)
    position = torch.where(others == top[s.dst], position, s.num_edges)
    first = position.new_full(top.shape, s.num_edges).scatter_reduce(0, index, position, "amin")
    is_first = position == first[s.dst]
    second = _largest_in(s, index, others.masked_fill(is_first, -torch.inf))

    # Without the largest, nothing is subtracted. Without another, what is subtracted is no larger
    # than what is left, for that holds the largest: one bit is lost, no more.
    apart = _sum_in(s, _power(others, second[s.dst]).masked_fill(is_first, 0))[s.dst]
    power = _power(others, top[s.dst])
    rest = (_sum_in(s, power)[s.dst] - power).clamp_min(0)
    top = torch.where(is_first, second[s.dst], top[s.dst])
    log_sum = torch.where(is_first, apart, rest).log()

    difference = own - top
    ahead = difference - log_sum.nan_to_num(neginf=0.0)
    # An infinite top says all. Where there are no others, the top is -inf.
    ops = int(s.in_degrees.max()) + _OPS if s.num_dst else _OPS
    slack = 4 * gamma(ops) + gamma(4) * (difference.abs() + log_sum.abs().nan_to_num(posinf=0.0))
    return ahead + sign * slack.nan_to_num(posinf=0.0)


def _power(scores: Tensor, top: Tensor) -> Tensor:
    """``exp(scores - top)``; 1 where both are the same infinity."""
    shift = torch.where(scores == top, 0.0, scores - top)
    return shift.exp()


def _largest_in(structure: Structure, index: Tensor, on_edge: Tensor) -> Tensor:
    lowest = on_edge.new_full((structure.num_dst, on_edge.shape[1]), -torch.inf)
    return lowest.scatter_reduce(0, index, on_edge, "amax")


def _sum_in(structure: Structure, on_edge: Tensor) -> Tensor:
    total = on_edge.new_zeros(structure.num_dst, on_edge.shape[1])
    return total.index_add(0, structure.dst, on_edge)
