r"""How radii pass through feature norms near given features. docs/lipschitz.md, section 8.

Each centres, and divides by a length :math:`\sigma`: with a hat for what float64 gives,

.. math:: \frac{\hat c}{\hat\sigma} - \frac c\sigma
    = \frac{\hat c - c}{\hat\sigma} + \frac c\sigma \, \frac{\sigma - \hat\sigma}{\hat\sigma}.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lipzoo.attention import Structure
from lipzoo.lipschitz.outward import LARGE, beyond, less, longest, shortest
from lipzoo.lipschitz.passage import Passage, times
from lipzoo.lipschitz.rounding import gamma, up
from lipzoo.nn import BatchNorm, LayerNorm, NeighborNorm, PairNorm

__all__ = ["NORM_RULES"]


def _layer_norm(module: LayerNorm, structure: Structure, feat: Tensor, constant: float) -> Passage:
    norm, width = module.norm, feat.shape[1]
    gain = 1.0 if norm.weight is None else norm.weight.abs().max().item()
    bias = 0.0 if norm.bias is None else longest(norm.bias).item()
    size = longest(feat)
    share = 8 * gamma(2 * width + 20)  # of a row's length, what mean and deviation are off by
    size_centred = less(shortest(feat - feat.mean(1, keepdim=True)), up(share * size, 4))

    def deviation(radius: Tensor) -> Tensor:
        nearest = less(size_centred, radius)
        return (nearest.square() / width + norm.eps).sqrt() * (1 - 1e-14)

    def move(radius: Tensor) -> Tensor:
        return up(gain * radius / deviation(radius), 4)

    def rounding(radius: Tensor) -> Tensor:
        off = share * (size + radius) / deviation(radius)
        off = off + beyond(size + radius)
        return up(gain * (off + share * math.sqrt(width)) + share * bias, 8)

    return Passage(move, lambda radius: times(constant, radius), rounding, len(feat))


def _batch_norm(module: BatchNorm, structure: Structure, feat: Tensor, constant: float) -> Passage:
    norm = module.norm
    gain = (norm.running_var + norm.eps).rsqrt()
    if norm.weight is not None:
        gain = gain * norm.weight.abs()
    shift = longest(norm.running_mean * gain).item()
    if norm.bias is not None:
        shift += longest(norm.bias).item()
    size = longest(feat)

    def move(radius: Tensor) -> Tensor:
        return times(constant, radius)

    def rounding(radius: Tensor) -> Tensor:
        reach = constant * (size + radius) + shift
        return up(gamma(12) * reach, 12) + beyond(reach)

    return Passage(move, move, rounding, len(feat))


def _pair_norm(module: PairNorm, structure: Structure, feat: Tensor, constant: float) -> Passage:
    nodes, width = feat.shape
    floor, scale = math.sqrt(module.eps) * (1 - 1e-15), abs(module.scale)
    row = longest(feat)
    share = 2 * gamma(2 * nodes + width + 20)
    centred = feat - feat.mean(0, keepdim=True)

    def off(radius: Tensor) -> Tensor:
        """How far centred rows are from what they are in exact arithmetic."""
        reach = row + radius
        return up(share * (reach + _mean(reach)), 4)

    still = off(torch.zeros_like(row))
    most, least = up(longest(centred) + still), less(shortest(centred), still)

    def lengths(moved: Tensor) -> tuple[Tensor, Tensor]:
        """What rows are divided by at the least, and how far that moves."""
        if module.individually:
            return less(least, moved).clamp_min(floor), moved
        nearest = less(_root_mean_square(least) * (1 - share), _root_mean_square(moved))
        return nearest.clamp_min(floor), _root_mean_square(moved)

    def move(radius: Tensor) -> Tensor:
        moved = up(radius + _mean(radius), 1)
        divisor, change = lengths(moved)
        if module.individually:  # the slope along the segment
            return up(scale * moved / divisor, 3)
        own, _ = lengths(torch.zeros_like(moved))
        return up(scale * (moved + most * change / own) / divisor, 6)

    def rounding(radius: Tensor) -> Tensor:
        moved, lost = up(radius + _mean(radius), 1), off(radius)
        divisor, _ = lengths(up(moved + lost))
        longest_row = most + moved
        by_length = lost if module.individually else _root_mean_square(lost)
        total = scale * (lost + longest_row * (by_length / divisor + share)) / divisor
        return up(total, 8) + beyond(longest_row.max())

    def steep(radius: Tensor) -> Tensor:
        return times(constant, radius.max()).expand_as(radius)

    return Passage(move, steep, rounding, nodes)


def _mean(x: Tensor) -> Tensor:
    return up(x.mean(), len(x) + 1)


def _root_mean_square(x: Tensor) -> Tensor:
    return up(longest(x, 0) / math.sqrt(len(x)), 3)


def _neighbor_norm(
    module: NeighborNorm, structure: Structure, feat: Tensor, constant: float
) -> Passage:
    s, scale = structure, abs(module.scale)
    degree = s.in_degrees.clamp_min(1).double()
    share = 4 * gamma(2 * int(degree.max()) + 20) if len(degree) else 0.0

    def mean_in(on_edge: Tensor) -> Tensor:
        total = on_edge.new_zeros(s.num_dst, *on_edge.shape[1:]).index_add(0, s.dst, on_edge)
        return total / degree.view(-1, *[1] * (on_edge.dim() - 1))

    def root_mean_square(on_edge: Tensor) -> Tensor:
        widest = on_edge.abs().max().clamp_min(1e-300) if on_edge.numel() else 1.0
        mean = mean_in((on_edge / widest).square()).sqrt() * widest
        return up(mean, int(degree.max()) + 8) + 1e-150 * (mean >= 0)

    near = feat[s.src]
    centred = (near - mean_in(near)[s.dst]).square()
    reach = root_mean_square(near)
    spread = less(mean_in(centred).sqrt().clamp_max(LARGE), share * reach)
    lonely = s.in_degrees == 0
    own = feat[: s.num_dst].abs()
    size = longest(own)

    def least(change: Tensor | float) -> Tensor:
        change = torch.as_tensor(change, dtype=spread.dtype)
        nearest = less(spread, change)
        return (nearest.square() + module.eps).sqrt() * (1 - 1e-14)

    deviation = least(torch.zeros(s.num_dst, 1, dtype=torch.float64))

    def change_in(radius: Tensor) -> Tensor:
        # The deviation is a length, of the centred neighbours and sqrt(eps): it moves no further.
        return root_mean_square(radius[s.src]).unsqueeze(1)

    def move(radius: Tensor) -> Tensor:
        change = change_in(radius)
        nearest = least(change)
        moved = radius[: s.num_dst] / nearest.amin(dim=1)
        turned = (own / (deviation * nearest)).amax(dim=1) * change.squeeze(1)
        return torch.where(lonely, radius[: s.num_dst], up(scale * (moved + turned), 8))

    def rounding(radius: Tensor) -> Tensor:
        change = change_in(radius)
        lost = up(share * (reach + change), 3)
        nearest = least(up(change + lost))
        row = own + radius[: s.num_dst, None]
        off = longest(row * (lost / nearest + share) / nearest)
        off = off + beyond(torch.maximum(row, reach + change).amax(dim=1))
        return torch.where(lonely, torch.zeros_like(size), up(scale * off, 10))

    def steep(radius: Tensor) -> Tensor:
        widest = radius.max() if radius.numel() else radius.new_zeros(())
        return times(constant, widest).expand(s.num_dst)

    return Passage(move, steep, rounding, s.num_src)


Rule = Callable[[nn.Module, Structure, Tensor, float], Passage]

NORM_RULES: dict[type[nn.Module], Rule] = {
    BatchNorm: _batch_norm,
    LayerNorm: _layer_norm,
    NeighborNorm: _neighbor_norm,
    PairNorm: _pair_norm,
}
