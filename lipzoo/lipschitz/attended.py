r"""How radii pass through attention near given features, whatever its scores are.

What is computed at the given features stands for the exact numbers that it is; how far the exact
value of each quantity may be from it is part of its interval. docs/lipschitz.md, section 8.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from lipzoo.attention import Structure
from lipzoo.lipschitz.modules import linear_weight
from lipzoo.lipschitz.outward import (
    LARGE,
    SMALL,
    apart,
    around,
    beyond,
    less,
    longest,
    shortest,
    widened,
)
from lipzoo.lipschitz.passage import Spread, remembered
from lipzoo.lipschitz.rounding import gamma, up
from lipzoo.lipschitz.softmax import softmax_limits
from lipzoo.lipschitz.spectral import spectral_norm
from lipzoo.nn.conv import IdentityMappedLinear

__all__ = ["Attended", "Projected", "Scores", "attend", "max_in"]

#: Of a weight of a float64 softmax: differences of scores of up to 745, exponential, quotient.
_SOFTMAX = 800
#: A score, or a score before it is divided, from which float64 may overflow.
_OVERFLOW = 1e300


@dataclass(frozen=True)
class Attended:
    """Attention without what stands behind it; ``centre`` (N, H * D) is about what it gives, and
    ``reach`` no less than how long its rows are. See :class:`~lipzoo.lipschitz.passage.Passage`."""

    centre: Tensor
    move: Spread
    rounding: Spread
    reach: Spread


class Projected:
    """A projection of the given features, head by head, (N, H)."""

    def __init__(self, linear: nn.Linear, num_heads: int, feat: Tensor) -> None:
        weight = linear_weight(linear)
        self.weight = weight.view(num_heads, -1, weight.shape[1])
        self.norm = torch.tensor([spectral_norm(h) for h in self.weight], dtype=torch.float64)
        self.whole = spectral_norm(weight)
        self.frobenius = longest(self.weight.flatten(1))
        self.value = torch.einsum("hdf,nf->nhd", self.weight, feat)
        self.bias = torch.zeros(num_heads, dtype=torch.float64)
        if linear.bias is not None:
            bias = linear.bias.double().view(num_heads, -1)
            self.value, self.bias = self.value + bias, longest(bias)
        self.feat_size, self.ops = longest(feat), feat.shape[1] + 6
        #: Of the sizes that are multiplied with features and added.
        self.weighed = self.frobenius
        if isinstance(linear, IdentityMappedLinear):  # (1 - beta) I + beta W may cancel
            learnt = longest(linear.weight.double().view_as(self.weight).flatten(1))
            self.weighed = self.weighed + learnt + math.sqrt(weight.shape[1])
        self.most, self.least = longest(self.value), shortest(self.value)
        self.rounding, self.lengths = remembered(self._rounding), remembered(self._lengths)
        self.reach = remembered(self._reach)
        self.still = self.rounding(torch.zeros(len(feat), dtype=torch.float64))

    def _rounding(self, radius: Tensor) -> Tensor:
        """Of the projection of any features in their radii."""
        reach = self.weighed * (self.feat_size + radius).unsqueeze(1) + self.bias
        return up(gamma(self.ops) * reach, 6) + beyond(reach)

    def moved(self, radius: Tensor) -> Tensor:
        """How far the exact value moves."""
        return up(radius.unsqueeze(1) * self.norm)

    def _lengths(self, radius: Tensor) -> tuple[Tensor, Tensor]:
        """Least and largest of the exact value."""
        slack = up(self.moved(radius) + self.still)
        return less(self.least, slack), up(self.most + slack)

    def _reach(self, radius: Tensor) -> Tensor:
        """Largest length, exact or in float64."""
        return up(self.lengths(radius)[1] + self.rounding(radius))


@dataclass(frozen=True)
class Scores:
    r"""Scores :math:`\sigma(c\,a/b)`, (E, H): numerators a, divisors b, and a LeakyReLU.

    Parameters
    ----------
    num_src : int
        Nodes that are read.
    raw : Tensor (E, H)
        About the numerators at the given features.
    change : Spread
        How far the exact numerator moves.
    error : Spread
        How far the numerator in float64 is from the exact one.
    divisor : callable, optional
        Radii -> least and largest exact divisor, and how far that in float64 is from it.
    scale, limit : Tensor (H,)
        ``c``, and the largest absolute score before the LeakyReLU.
    is_odd : Tensor (H,)
        Heads whose scale over- or underflows in float64.
    ops : int
        Rounded products and quotients that a score needs.
    slope : float
        Of the LeakyReLU, 1 where there is none.
    """

    num_src: int
    raw: Tensor
    change: Spread
    error: Spread
    divisor: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]] | None
    scale: Tensor
    limit: Tensor
    is_odd: Tensor
    ops: int
    slope: float = 1.0

    def around(self, radius: Tensor) -> tuple[Tensor, Tensor]:
        """The interval of each exact score."""
        return _leaky(self.before_bend(radius), self.slope)

    @cached_property
    def before_bend(self) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        """The interval of each exact score before the LeakyReLU."""
        return remembered(self._before_bend)

    @cached_property
    def _still(self) -> Tensor:
        return self.error(torch.zeros(self.num_src, dtype=torch.float64))

    def _before_bend(self, radius: Tensor) -> tuple[Tensor, Tensor]:
        interval = around(self.raw, up(self.change(radius) + self._still))
        if self.divisor is None:
            low, high = widened(*(self.scale * end for end in interval), self.ops)
            return low.nan_to_num(nan=-torch.inf), high.nan_to_num(nan=torch.inf)
        least, most, _ = self.divisor(radius)
        low, high = (self.scale * end for end in _ratio_limits(*interval, least, most))
        low, high = widened(low, high, self.ops)
        low, high = (
            low.masked_fill(self.is_odd, -torch.inf),
            high.masked_fill(self.is_odd, torch.inf),
        )
        # 0 times infinity: a head whose attention vector is zero, or a score of 0 / 0.
        low, high = low.nan_to_num(nan=-torch.inf), high.nan_to_num(nan=torch.inf)
        return torch.maximum(low, -self.limit), torch.minimum(high, self.limit)

    def rounding(self, radius: Tensor) -> Tensor:
        """How far a score in float64 is from the exact one; NaN where it may overflow."""
        low, high = self.before_bend(radius)
        size, error = torch.maximum(-low, high), self.error(radius)
        raw = self.raw.abs() + self.change(radius) + 2 * error
        largest = torch.maximum(raw, self.scale * raw)
        steep = max(1.0, abs(self.slope))
        relative = up(gamma(self.ops) * size, 4)
        if self.divisor is None:
            off = up(steep * (self.scale * error + relative), 4)
            return off.masked_fill(~(steep * largest <= _OVERFLOW), torch.nan)
        least, _, lost = self.divisor(radius)
        nearest = less(least, lost)
        # Smaller divisors count as zero in float64, where squares underflow.
        nearest = torch.where(nearest < SMALL, 0.0, nearest)
        off = up(steep * ((self.scale * error + size * lost) / nearest + relative), 8)
        off = off.masked_fill(self.is_odd, torch.inf).nan_to_num(nan=torch.inf)
        off = torch.minimum(off, up(2 * steep * self.limit, 4))
        return off.masked_fill(~(steep * largest <= _OVERFLOW / LARGE), torch.nan)


def attend(structure: Structure, value: Projected, scores: Scores) -> Attended:
    r"""From the interval of each score, (E, H), that a radius allows:

    .. math::
        \tilde o_i - o_i = \sum_j \tilde p_{ij} (\tilde v_j - v_j)
        + \sum_j (\tilde p_{ij} - p_{ij}) (v_j - m_i)

    with any :math:`m_i`; here about :math:`o_i`.
    """
    s = structure
    ops = int(s.in_degrees.max()) + 16 if s.num_dst else 16
    still = torch.zeros(s.num_src, dtype=torch.float64)

    def sum_in(on_edge: Tensor) -> Tensor:
        total = on_edge.new_zeros(s.num_dst, *on_edge.shape[1:])
        return total.index_add(0, s.dst, on_edge)

    low, high = scores.around(still)
    least, most = softmax_limits(s, low, high)
    middle = (least + most) / 2
    middle = middle / sum_in(middle).clamp_min(1e-300)[s.dst]
    centre = sum_in(middle.unsqueeze(-1) * value.value[s.src])
    distance = torch.cat(  # a head at a time: never (E, H, D)
        [
            longest(value.value[s.src, h] - centre[s.dst, h]).unsqueeze(1)
            for h in range(value.value.shape[1])
        ],
        dim=1,
    )
    distance = up(distance + value.still[s.src], 2)

    def move(radius: Tensor) -> Tensor:
        lower, upper = softmax_limits(s, *scores.around(radius))
        change = torch.maximum(apart(upper, least), apart(most, lower))
        turned = longest(up(sum_in(change * distance), ops))
        return up(carried(radius[s.src], change, upper) + turned)

    def carried(radius: Tensor, change: Tensor, upper: Tensor) -> Tensor:
        r"""Of :math:`\sum_j \tilde p_{ij} (\tilde v_j - v_j)`: the least of three bounds."""
        most_of_heads = upper.amax(dim=1)
        moved = up(value.whole * radius)
        straight = up(sum_in(most_of_heads * moved), ops)
        jensen = up(sum_in(most_of_heads * moved.square()).sqrt(), ops) + SMALL
        by_head = up(radius.unsqueeze(1) * value.norm)
        mean = sum_in(middle * by_head)[s.dst]
        off = up((by_head - mean).abs(), 1)
        separate = longest(up(sum_in(most * by_head + change * off), ops))
        return torch.minimum(torch.minimum(straight, jensen), separate)

    @remembered
    def reach_of_heads(radius: Tensor) -> Tensor:
        return max_in(s, value.reach(radius)[s.src])

    def reach(radius: Tensor) -> Tensor:
        return longest(reach_of_heads(radius))

    def rounding(radius: Tensor) -> Tensor:
        off = max_in(s, scores.rounding(radius))
        # Weights in float64 over exact ones; both sum to 1, so no more than 2 can change.
        share = up(torch.expm1(2 * off) * (1 + 1e-10) + gamma(2 * ops + _SOFTMAX), 8)
        share = share.clamp_max(3)
        lost, length = max_in(s, value.rounding(radius)[s.src]), reach_of_heads(radius)
        return longest(up(lost * (1 + 1e-9) + share * length, ops)) + beyond(length.amax(dim=1))

    return Attended(centre.flatten(1), move, rounding, reach)


# ------------------------------------------------------------------------------ intervals


def max_in(structure: Structure, on_edge: Tensor) -> Tensor:
    """Largest over the in-edges of each node, at least 0: (E, *) -> (N_dst, *)."""
    index = structure.dst.view(-1, *[1] * (on_edge.dim() - 1)).expand_as(on_edge)
    start = on_edge.new_zeros(structure.num_dst, *on_edge.shape[1:])
    return start.scatter_reduce(0, index, on_edge, "amax")


def _ratio_limits(low: Tensor, high: Tensor, least: Tensor, most: Tensor) -> tuple[Tensor, Tensor]:
    """Interval of a / b for a in [low, high] and b in [least, most], b >= 0; 0 / 0 is anything,
    and 0 where b cannot be other than 0."""
    smallest = torch.where(low < 0, low / least, low / most)
    largest = torch.where(high > 0, high / least, high / most)
    zero = torch.zeros((), dtype=low.dtype)
    return torch.where(most == 0, zero, smallest), torch.where(most == 0, zero, largest)


def _leaky(interval: tuple[Tensor, Tensor], slope: float) -> tuple[Tensor, Tensor]:
    low, high = (nn.functional.leaky_relu(end, slope) for end in interval)
    if slope < 0:  # not monotone
        kink = torch.where((interval[0] < 0) & (interval[1] > 0), 0.0, low)
        low, high = torch.minimum(torch.minimum(low, high), kink), torch.maximum(low, high)
    return widened(low, high, 1)
