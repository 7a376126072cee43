r"""How radii pass through attention near given features. docs/lipschitz.md, section 8.

What is computed at the given features stands for the exact numbers that it is; how far the exact
value of each quantity may be from it is part of its interval. Intervals are rounded outwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from lipzoo.attention import Structure
from lipzoo.lipschitz.attention import head_alphas, missing_loops
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
from lipzoo.lipschitz.passage import Spread
from lipzoo.lipschitz.pieces import linear_weight
from lipzoo.lipschitz.rounding import gamma, up
from lipzoo.lipschitz.softmax import softmax_limits
from lipzoo.lipschitz.spectral import spectral_norm
from lipzoo.nn import AttentionConv, DotGatConv, GATConv, GATv2Conv, TransformerConv
from lipzoo.nn.conv import IdentityMappedLinear

__all__ = ["ATTENTION_RULES", "Attended"]

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


class _Projected:
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
        self.still = self.rounding(torch.zeros(len(feat), dtype=torch.float64))

    def rounding(self, radius: Tensor) -> Tensor:
        """Of the projection of any features in their radii."""
        reach = self.weighed * (self.feat_size + radius).unsqueeze(1) + self.bias
        return up(gamma(self.ops) * reach, 6) + beyond(reach)

    def moved(self, radius: Tensor) -> Tensor:
        """How far the exact value moves."""
        return up(radius.unsqueeze(1) * self.norm)

    def lengths(self, radius: Tensor) -> tuple[Tensor, Tensor]:
        """Least and largest of the exact value."""
        slack = up(self.moved(radius) + self.still)
        return less(self.least, slack), up(self.most + slack)

    def reach(self, radius: Tensor) -> Tensor:
        """Largest length, exact or in float64."""
        return up(self.lengths(radius)[1] + self.rounding(radius))


@dataclass(frozen=True)
class _Scores:
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
        return _leaky(self._before_bend(radius), self.slope)

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
        low, high = self._before_bend(radius)
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


def _attended(structure: Structure, value: _Projected, scores: _Scores) -> Attended:
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

    def reach_of_heads(radius: Tensor) -> Tensor:
        return _max_in(s, value.reach(radius)[s.src])

    def reach(radius: Tensor) -> Tensor:
        return longest(reach_of_heads(radius))

    def rounding(radius: Tensor) -> Tensor:
        off = _max_in(s, scores.rounding(radius))
        # Weights in float64 over exact ones; both sum to 1, so no more than 2 can change.
        share = up(torch.expm1(2 * off) * (1 + 1e-10) + gamma(2 * ops + _SOFTMAX), 8)
        share = share.clamp_max(3)
        lost, length = _max_in(s, value.rounding(radius)[s.src]), reach_of_heads(radius)
        return longest(up(lost * (1 + 1e-9) + share * length, ops)) + beyond(length.amax(dim=1))

    return Attended(centre.flatten(1), move, rounding, reach)


# ------------------------------------------------------------------------ kinds of scores


def _gat(layer: GATConv, structure: Structure, feat: Tensor) -> Attended:
    value = _Projected(layer.fc, layer.num_heads, feat)
    left, right = layer.attn_l[0].double(), layer.attn_r[0].double()
    sizes = longest(left), longest(right)
    ops = layer.out_feats + 4
    # a . (W dx) <= |a W| |dx|, which is far less than |a| |W| |dx|.
    steep = [
        up(
            longest(torch.einsum("hd,hdf->hf", a, value.weight)) + gamma(ops) * n * value.frobenius,
            4,
        )
        for a, n in zip((left, right), sizes)
    ]
    src, dst = structure.src, structure.dst
    raw = (value.value * left).sum(-1)[src] + (value.value * right).sum(-1)[dst]

    def change(radius: Tensor) -> Tensor:
        return up(steep[0] * radius[src, None] + steep[1] * radius[dst, None], 3)

    def error(radius: Tensor) -> Tensor:
        each = value.rounding(radius) + gamma(ops) * value.reach(radius)
        return up(sizes[0] * each[src] + sizes[1] * each[dst], 8)

    length = torch.hypot(*sizes)
    scale, limit, is_odd = _score_scale(layer, length)
    if missing_loops(structure):
        limit = torch.full_like(limit, torch.inf)
    divisor = None if layer.score_norm is None else _root(structure, value)
    slope = layer.leaky_relu.negative_slope
    scores = _Scores(len(feat), raw, change, error, divisor, scale, limit, is_odd, ops + 30, slope)
    return _attended(structure, value, scores)


def _gatv2(layer: GATv2Conv, structure: Structure, feat: Tensor) -> Attended:
    source = _Projected(layer.fc_src, layer.num_heads, feat)
    target = _Projected(layer.fc_dst, layer.num_heads, feat[: structure.num_dst])
    src, dst, rows = structure.src, structure.dst, slice(0, structure.num_dst)
    attn = layer.attn[0].double()
    length = longest(attn)
    slope = layer.leaky_relu.negative_slope
    steepest, ops = max(1.0, abs(slope)), layer.out_feats + 6
    pair = nn.functional.leaky_relu(source.value[src] + target.value[dst], slope)
    raw = (pair * attn).sum(-1)
    steep = []
    for part in (source, target):
        by_row = torch.einsum("hd,hd->h", attn.abs(), longest(part.weight))
        steep.append(up(steepest * torch.minimum(length * part.norm, by_row), ops))

    def change(radius: Tensor) -> Tensor:
        return up(steep[0] * radius[src, None] + steep[1] * radius[dst, None], 3)

    def error(radius: Tensor) -> Tensor:
        from_src, from_dst = (
            part.rounding(moved) + gamma(ops) * part.reach(moved)
            for part, moved in ((source, radius), (target, radius[rows]))
        )
        return up(steepest * length * (from_src[src] + from_dst[dst]), 8)

    scale, limit, is_odd = _score_scale(layer, length)
    divisor = None
    if layer.score_norm is not None:
        scale, limit = scale / math.sqrt(2), up(limit * steepest)
        divisor = _root(structure, source, target)
    scores = _Scores(len(feat), raw, change, error, divisor, scale, limit, is_odd, ops + 30)
    return _attended(structure, source, scores)


def _dot_gat(layer: DotGatConv, structure: Structure, feat: Tensor) -> Attended:
    value = _Projected(layer.fc, layer.num_heads, feat)
    query = value
    if structure.num_dst != structure.num_src:
        query = _Projected(layer.fc, layer.num_heads, feat[: structure.num_dst])
    return _dot(layer, structure, query, value, value)


def _transformer(layer: TransformerConv, structure: Structure, feat: Tensor) -> Attended:
    query = _Projected(layer.fc_query, layer.num_heads, feat[: structure.num_dst])
    key, value = (_Projected(fc, layer.num_heads, feat) for fc in (layer.fc_key, layer.fc_value))
    return _dot(layer, structure, query, key, value)


def _dot(layer, structure: Structure, query: _Projected, key: _Projected, value: _Projected):
    src, dst, rows = structure.src, structure.dst, slice(0, structure.num_dst)
    raw = (query.value[dst] * key.value[src]).sum(-1)
    norm, ops = layer.score_norm, layer.out_feats + 4

    def change(radius: Tensor) -> Tensor:
        dq, dk = query.moved(radius[rows]), key.moved(radius)
        q, k = up(query.most + query.still), up(key.most + key.still)
        return up(q[dst] * dk[src] + k[src] * dq[dst] + dq[dst] * dk[src], 4)

    def error(radius: Tensor) -> Tensor:
        q, k = query.reach(radius[rows]), key.reach(radius)
        eq, ek = query.rounding(radius[rows]), key.rounding(radius)
        first = up(q * (1 + 1e-15))[dst] * (ek + gamma(ops) * k)[src]
        return up(first + (eq[dst] * k[src]), 8)

    def divisor(radius: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        u, k, v = query.lengths(radius[rows]), key.lengths(radius), value.lengths(radius)
        u_off = up(query.rounding(radius[rows]) + gamma(ops + 4) * u[1], 4)
        if norm.scope == "graph":
            u, u_off = _whole(structure, u, u_off)
        v, w = (tuple(_max_in(structure, end[src]) for end in part) for part in (k, v))
        v_off, w_off = (
            up(_max_in(structure, part.rounding(radius)[src]) + gamma(ops + 4) * most, 4)
            for part, (_, most) in ((key, v), (value, w))
        )
        least, most = (
            torch.maximum(torch.maximum(u[end] * v[end], u[end] * w[end]), v[end] * w[end])
            for end in (0, 1)
        )
        lost = (u[1] + u_off) * (v_off + w_off) + v[1] * (u_off + w_off) + w[1] * (u_off + v_off)
        lost = up(lost + v_off * w_off, 12)
        least = least * (1 - 1e-14)
        # Below the smallest normal number a product counts as zero in float64, and a length
        # below its root.
        tiny = (u[0] < SMALL) | (v[0] < SMALL) | (w[0] < SMALL) | (least < SMALL)
        lost = lost.masked_fill(tiny, torch.inf)
        return least[dst], up(most, 2)[dst], lost[dst]

    share = torch.full((layer.num_heads,), 1 / math.sqrt(layer.out_feats), dtype=torch.float64)
    limit = torch.full_like(share, torch.inf) if norm is None else up(share, 4)
    is_odd = torch.zeros_like(share, dtype=torch.bool)
    ops = layer.out_feats + 40
    scores = _Scores(
        structure.num_src,
        raw,
        change,
        error,
        None if norm is None else divisor,
        share,
        limit,
        is_odd,
        ops,
    )
    return _attended(structure, value, scores)


def _whole(structure: Structure, u, off: Tensor):
    """Lengths of the queries of all edges together, and how far that is off."""
    degree = structure.in_degrees.double().sqrt().unsqueeze(1)
    nodes, ops = len(off), structure.num_dst + 8
    least, most, lost = ((degree * x).t().contiguous() for x in (*u, off))
    lost = up(longest(lost) + gamma(ops) * longest(most), 6)
    ends = (shortest(least) * (1 - 1e-14), up(longest(most), 3))
    return tuple(end.expand(nodes, -1) for end in ends), lost.expand(nodes, -1)


def _score_scale(layer: GATConv | GATv2Conv, length: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What a head's score is multiplied by beside the root, the largest it can be, and whether
    the scale is lost in float64, (H,)."""
    ones, norm = torch.ones_like(length), layer.score_norm
    if norm is None:
        return ones, ones * torch.inf, ones < 0
    alpha = head_alphas(norm, length)
    whole = length if norm.per_head else longest(length).expand_as(length)
    is_odd = (length > 0) & ((whole < 1e-130) | (whole > LARGE))
    return torch.where(length > 0, alpha / length, 0.0), up(alpha, layer.out_feats + 20), is_odd


def _root(structure: Structure, source: _Projected, target: _Projected | None = None):
    r"""Of :math:`\sqrt{\max_k \lVert v_k \rVert^2 + \lVert v_j \rVert^2}`, (E, H)."""
    src, dst = structure.src, structure.dst
    ops = source.value.shape[-1] + 12

    def divisor(radius: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows = radius[: structure.num_dst]
        ends = []
        for end, length in enumerate(source.lengths(radius)):
            top = _max_in(structure, length[src])
            if target is not None:
                top = torch.maximum(top, target.lengths(rows)[end])
            ends.append(torch.hypot(top[dst], length[src]))
        least, most = ends[0] * (1 - 1e-14), up(ends[1], 6)
        lost = source.rounding(radius)
        top = _max_in(structure, lost[src])
        if target is not None:
            top = torch.maximum(top, target.rounding(rows))
        return least, most, up(torch.hypot(top[dst], lost[src]) + gamma(ops) * most, 6)

    return divisor


# ------------------------------------------------------------------------------ intervals


def _max_in(structure: Structure, on_edge: Tensor) -> Tensor:
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


ATTENTION_RULES: dict[type[AttentionConv], Callable[..., Attended]] = {
    GATConv: _gat,
    GATv2Conv: _gatv2,
    DotGatConv: _dot_gat,
    TransformerConv: _transformer,
}
