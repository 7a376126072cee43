r"""How far outputs move where every node's features move by at most a radius: bounds near a point.

A global constant holds for the worst features anywhere. Around given features far more is known:
how long the values are, how much they differ, how large the scores are. Each rule here runs a
module at the given features once and returns what it put out, and a function that takes radii of
the input's rows, (N,), to radii of the output's. docs/lipschitz.md, section 8, has the proofs.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lipzoo.attention import DotProductLipschitzNorm, LipschitzNorm, Structure
from lipzoo.lipschitz.attention import head_alphas, layer_fault, missing_loops
from lipzoo.lipschitz.constant import product
from lipzoo.lipschitz.pieces import constant_of, linear_weight
from lipzoo.lipschitz.spectral import spectral_norm
from lipzoo.models.base import ACTIVATIONS
from lipzoo.nn import (
    AttentionConv,
    BatchNorm,
    DotGatConv,
    FeatureNorm,
    GATConv,
    GATv2Conv,
    LayerNorm,
    NeighborNorm,
    PairNorm,
    TransformerConv,
)

__all__ = ["Spread", "local_rule"]

#: Radii (N_src,) of the input's rows -> radii (N_dst,) of the output's.
Spread = Callable[[Tensor], Tensor]


def local_rule(module: nn.Module, structure: Structure, feat: Tensor) -> tuple[Tensor, Spread]:
    """The output of a module at ``feat``, and how radii pass through it.

    Parameters
    ----------
    module : torch.nn.Module
        In evaluation mode and float64.
    structure : Structure
        The graph, with the self-loops that the module sees.
    feat : Tensor (N, F)
        Float64.
    """
    constant = constant_of(module, structure).per_node
    rule = _RULES.get(type(module))
    if rule is None or (isinstance(module, AttentionConv) and not _is_covered(module, structure)):
        takes_graph = isinstance(module, (AttentionConv, FeatureNorm))
        out = module(structure, feat) if takes_graph else module(feat)
        if isinstance(module, _ROW_BY_ROW):
            return out, lambda radius: constant * radius
        return out.flatten(1), lambda radius: _all(structure, constant, radius)
    spread = rule(module, structure, feat)
    out = module(structure, feat).flatten(1)
    if not isinstance(module, AttentionConv):
        return out, spread

    reads_all = getattr(module.score_norm, "scope", "") == "graph"

    def at_most_global(radius: Tensor) -> Tensor:
        if reads_all:
            return torch.minimum(spread(radius), _all(structure, constant, radius))
        widest = _max_in(structure, radius[structure.src])
        widest = torch.maximum(widest, radius[: structure.num_dst])  # a residual reads its own
        return torch.minimum(spread(radius), constant * widest)

    return out, at_most_global if math.isfinite(constant) else spread


#: Modules that move a row with that row alone.
_ROW_BY_ROW = (nn.Linear, BatchNorm, *ACTIVATIONS.values())


def _all(structure: Structure, constant: float, radius: Tensor) -> Tensor:
    widest = product(constant, radius.max().item()) if radius.numel() else 0.0
    return radius.new_full((structure.num_dst,), widest)


def _is_covered(layer: AttentionConv, structure: Structure) -> bool:
    norm = DotProductLipschitzNorm if layer.lipschitz_norm == "dot_lipschitz" else LipschitzNorm
    fault = layer_fault(layer, norm, structure)
    # Without a score norm there is no global constant, but there is one near a point.
    return not fault or (layer.score_norm is None and not layer._score_hooks)


# ------------------------------------------------------------------------- attention


def _gat(layer: GATConv, structure: Structure, feat: Tensor) -> Spread:
    weight = linear_weight(layer.fc)
    heads = _Heads(weight, layer.num_heads)
    value = heads.of(feat)
    left, right = layer.attn_l[0].double(), layer.attn_r[0].double()
    length = torch.hypot(left.norm(dim=-1), right.norm(dim=-1))
    scale, limit = _score_scale(layer, length)
    if missing_loops(structure):
        limit = torch.full_like(limit, torch.inf)
    # a . (W dx) <= |a W| |dx|, which is far less than |a| |W| |dx|.
    left_steep = torch.einsum("hd,hdf->hf", left, heads.weight).norm(dim=-1)
    right_steep = torch.einsum("hd,hdf->hf", right, heads.weight).norm(dim=-1)
    src, dst = structure.src, structure.dst
    raw = (value * left).sum(-1)[src] + (value * right).sum(-1)[dst]
    size = value.norm(dim=-1)
    around = _Around(structure, value, heads)

    def scores(radius: Tensor) -> tuple[Tensor, Tensor]:
        moved = radius.unsqueeze(1) * heads.norm
        change = left_steep * radius[src, None] + right_steep * radius[dst, None]
        interval = raw - change, raw + change
        if layer.score_norm is not None:
            interval = _ratio_limits(*interval, *_root_limits(structure, size, moved))
            interval = _clipped(interval, scale, limit)
        return _leaky(interval, layer.leaky_relu.negative_slope)

    return _finish(layer, structure, around.spread(scores))


def _gatv2(layer: GATv2Conv, structure: Structure, feat: Tensor) -> Spread:
    source = _Heads(linear_weight(layer.fc_src), layer.num_heads)
    target = _Heads(linear_weight(layer.fc_dst), layer.num_heads)
    src, dst = structure.src, structure.dst
    v_src = source.of(feat, layer.fc_src.bias)
    v_dst = target.of(feat[: structure.num_dst], layer.fc_dst.bias)
    attn = layer.attn[0].double()
    length = attn.norm(dim=-1)
    slope = layer.leaky_relu.negative_slope
    gamma = max(1.0, abs(slope))
    scale, limit = _score_scale(layer, length)
    pair = nn.functional.leaky_relu(v_src[src] + v_dst[dst], slope)
    raw = (pair * attn).sum(-1)
    steep = [
        gamma
        * torch.minimum(
            length * h.norm, torch.einsum("hd,hd->h", attn.abs(), h.weight.norm(dim=-1))
        )
        for h in (source, target)
    ]
    size, target_size = v_src.norm(dim=-1), v_dst.norm(dim=-1)
    around = _Around(structure, v_src, source)

    def scores(radius: Tensor) -> tuple[Tensor, Tensor]:
        moved = radius.unsqueeze(1) * source.norm
        moved_target = radius[: structure.num_dst, None] * target.norm
        change = steep[0] * radius[src, None] + steep[1] * radius[dst, None]
        interval = raw - change, raw + change
        if layer.score_norm is None:
            return interval
        root = _root_limits(structure, size, moved, target_size, moved_target)
        return _clipped(_ratio_limits(*interval, *root), scale / math.sqrt(2), limit * gamma)

    return _finish(layer, structure, around.spread(scores))


def _dot_gat(layer: DotGatConv, structure: Structure, feat: Tensor) -> Spread:
    heads = _Heads(linear_weight(layer.fc), layer.num_heads)
    return _finish(layer, structure, _dot(layer, structure, feat, heads, heads, heads))


def _transformer(layer: TransformerConv, structure: Structure, feat: Tensor) -> Spread:
    parts = (layer.fc_query, layer.fc_key, layer.fc_value)
    heads = (_Heads(linear_weight(fc), layer.num_heads) for fc in parts)
    return _finish(layer, structure, _dot(layer, structure, feat, *heads))


def _dot(layer, structure: Structure, feat: Tensor, query: _Heads, key: _Heads, value: _Heads):
    src, dst = structure.src, structure.dst
    q, k, v = query.of(feat[: structure.num_dst]), key.of(feat), value.of(feat)
    raw = (q[dst] * k[src]).sum(-1)
    q_size, k_size, v_size = (x.norm(dim=-1) for x in (q, k, v))
    norm = layer.score_norm
    whole = norm is not None and norm.scope == "graph"
    degree = structure.in_degrees.double().unsqueeze(1)
    share = 1 / math.sqrt(layer.out_feats)
    limit = torch.tensor(share, dtype=torch.float64)
    around = _Around(structure, v, value)

    def scores(radius: Tensor) -> tuple[Tensor, Tensor]:
        dq = radius[: structure.num_dst, None] * query.norm
        dk, dv = radius.unsqueeze(1) * key.norm, radius.unsqueeze(1) * value.norm
        change = q_size[dst] * dk[src] + k_size[src] * dq[dst] + dq[dst] * dk[src]
        if norm is None:
            return share * (raw - change), share * (raw + change)
        u = (q_size - dq).clamp_min(0), q_size + dq
        if whole:
            total = (degree * q_size.square()).sum(0, keepdim=True).sqrt()
            moved = (degree * dq.square()).sum(0, keepdim=True).sqrt()
            u = tuple(x.expand_as(dq) for x in ((total - moved).clamp_min(0), total + moved))
        ends = []
        for end, sign in enumerate((-1.0, 1.0)):
            w_k = _max_in(structure, (k_size + sign * dk).clamp_min(0)[src])
            w_v = _max_in(structure, (v_size + sign * dv).clamp_min(0)[src])
            ends.append(torch.maximum(torch.maximum(u[end] * w_k, u[end] * w_v), w_k * w_v)[dst])
        interval = _ratio_limits(raw - change, raw + change, *ends)
        return _clipped(interval, share, limit)

    return around.spread(scores)


def _score_scale(layer: GATConv | GATv2Conv, length: Tensor) -> tuple[Tensor, Tensor]:
    """What a head's score is multiplied by beside the root, and the largest it can be, (H,)."""
    if layer.score_norm is None:
        return torch.ones_like(length), torch.full_like(length, torch.inf)
    alpha = head_alphas(layer.score_norm, length)
    return torch.where(length > 0, alpha / length, 0.0), alpha


class _Heads:
    """A projection, head by head: ``weight`` (H, D, F), ``norm`` (H,), ``whole``."""

    def __init__(self, weight: Tensor, num_heads: int) -> None:
        self.weight = weight.view(num_heads, -1, weight.shape[1])
        self.norm = torch.tensor([spectral_norm(h) for h in self.weight], dtype=torch.float64)
        self.whole = spectral_norm(weight)

    def of(self, feat: Tensor, bias: Tensor | None = None) -> Tensor:
        """(N, F) -> (N, H, D)."""
        out = torch.einsum("hdf,nf->nhd", self.weight, feat)
        return out if bias is None else out + bias.double().view(*out.shape[1:])


class _Around:
    """The softmax-weighted sum at the given features, and how it moves with scores and values."""

    def __init__(self, structure: Structure, value: Tensor, heads: _Heads) -> None:
        self.structure, self.value, self.heads = structure, value, heads

    def spread(self, scores: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Spread:
        r"""From the interval of each score, (E, H), that a radius allows:

        .. math::
            \tilde o_i - o_i = \sum_j \tilde p_{ij} (\tilde v_j - v_j)
            + \sum_j (\tilde p_{ij} - p_{ij}) (v_j - o_i)
        """
        s = self.structure
        here, _ = scores(torch.zeros(s.num_src, dtype=torch.float64))
        # A softmax does not change with the shift.
        shift = _max_in(s, here, -torch.inf)[s.dst]
        power = (here - shift).exp()
        weight = power / self._sum_in(power)[s.dst]
        out = self._sum_in(weight.unsqueeze(-1) * self.value[s.src])
        distance = torch.cat(  # a head at a time: never (E, H, D)
            [
                (self.value[s.src, h] - out[s.dst, h]).norm(dim=-1, keepdim=True)
                for h in range(self.value.shape[1])
            ],
            dim=1,
        )

        def step(radius: Tensor) -> Tensor:
            low, high = ((end - shift).exp() for end in scores(radius))
            lows, highs = self._sum_in(low)[s.dst], self._sum_in(high)[s.dst]
            # Infinite over infinite: nothing is known.
            most = (high / (high + (lows - low).clamp_min(0))).nan_to_num(nan=1.0)
            least = (low / (low + (highs - high).clamp_min(0))).nan_to_num(nan=0.0)
            change = torch.maximum(most - weight, weight - least).clamp_min(0)
            turned = self._sum_in(change * distance).norm(dim=1)
            return self._carried(radius[s.src], weight, change, most) + turned

        return step

    def _carried(self, radius: Tensor, weight: Tensor, change: Tensor, most: Tensor) -> Tensor:
        r"""Of :math:`\sum_j \tilde p_{ij} (\tilde v_j - v_j)`: the least of three bounds."""
        largest = most.amax(dim=1)  # over the heads
        moved = self.heads.whole * radius
        straight = self._sum_in(largest * moved)
        jensen = self._sum_in(largest * moved.square()).sqrt()
        by_head = radius.unsqueeze(1) * self.heads.norm
        mean = self._sum_in(weight * by_head)
        off = (by_head - mean[self.structure.dst]).abs()
        separate = (mean + self._sum_in(change * off)).norm(dim=1)
        return torch.minimum(torch.minimum(straight, jensen), separate)

    def _sum_in(self, on_edge: Tensor) -> Tensor:
        s = self.structure
        return on_edge.new_zeros(s.num_dst, *on_edge.shape[1:]).index_add(0, s.dst, on_edge)


def _max_in(structure: Structure, on_edge: Tensor, lowest: float = 0.0) -> Tensor:
    """Largest over the in-edges of each node, at least ``lowest``: (E, *) -> (N_dst, *)."""
    index = structure.dst.view(-1, *[1] * (on_edge.dim() - 1)).expand_as(on_edge)
    start = on_edge.new_full((structure.num_dst, *on_edge.shape[1:]), lowest)
    return start.scatter_reduce(0, index, on_edge, "amax")


def _root_limits(structure, size, moved, target=None, moved_target=None):
    r"""Interval of :math:`\sqrt{\max_k \lVert v_k \rVert^2 + \lVert v_j \rVert^2}`, (E, H)."""
    ends = []
    for sign in (-1.0, 1.0):
        length = (size + sign * moved).clamp_min(0)
        longest = _max_in(structure, length[structure.src])
        if target is not None:
            longest = torch.maximum(longest, (target + sign * moved_target).clamp_min(0))
        ends.append(torch.hypot(longest[structure.dst], length[structure.src]))
    return ends


def _ratio_limits(low: Tensor, high: Tensor, least: Tensor, most: Tensor) -> tuple[Tensor, Tensor]:
    """Interval of a / b for a in [low, high] and b in [least, most], b >= 0; 0 / 0 is anything."""
    smallest = torch.where(low < 0, low / least, low / most)
    largest = torch.where(high > 0, high / least, high / most)
    zero = torch.zeros((), dtype=low.dtype)
    return torch.where(most == 0, zero, smallest), torch.where(most == 0, zero, largest)


def _clipped(interval, scale, limit) -> tuple[Tensor, Tensor]:
    low, high = (scale * end for end in interval)
    # 0 times infinity: a head whose attention vector is zero, or a score of 0 / 0.
    low, high = low.nan_to_num(nan=-torch.inf), high.nan_to_num(nan=torch.inf)
    return torch.maximum(low, -limit), torch.minimum(high, limit)  # both (E, H)


def _leaky(interval: tuple[Tensor, Tensor], slope: float) -> tuple[Tensor, Tensor]:
    low, high = (nn.functional.leaky_relu(end, slope) for end in interval)
    if slope < 0:  # not monotone
        kink = torch.where((interval[0] < 0) & (interval[1] > 0), 0.0, low)
        low, high = torch.minimum(torch.minimum(low, high), kink), torch.maximum(low, high)
    return low, high


def _finish(layer, structure: Structure, spread: Spread) -> Spread:
    """With the residual and the activation that belong to the layer."""
    residual = constant_of(layer.res_fc, structure).per_node if layer.res_fc is not None else 0.0
    behind = 1.0
    if layer.activation is not None:
        behind = constant_of(layer.activation, structure).per_node
    return lambda radius: behind * (spread(radius) + residual * radius[: structure.num_dst])


# --------------------------------------------------------------------- feature norms


def _layer_norm(module: LayerNorm, structure: Structure, feat: Tensor) -> Spread:
    gain = constant_of(module, structure).per_node * math.sqrt(module.norm.eps)
    size = (feat - feat.mean(1, keepdim=True)).norm(dim=1)

    def spread(radius: Tensor) -> Tensor:
        shortest = (size - radius).clamp_min(0)
        return gain * radius / (shortest.square() / feat.shape[1] + module.norm.eps).sqrt()

    return spread


def _pair_norm(module: PairNorm, structure: Structure, feat: Tensor) -> Spread:
    size = (feat - feat.mean(0, keepdim=True)).norm(dim=1)
    floor, scale = math.sqrt(module.eps), abs(module.scale)

    def spread(radius: Tensor) -> Tensor:
        moved = radius + radius.mean()
        if module.individually:
            return scale * moved / (size - moved).clamp_min(floor)
        length, change = (x.square().mean().sqrt() for x in (size, moved))
        shortest = (length - change).clamp_min(floor)
        return scale * (moved + size * change / length.clamp_min(floor)) / shortest

    return spread


def _neighbor_norm(module: NeighborNorm, structure: Structure, feat: Tensor) -> Spread:
    s = structure
    degree = s.in_degrees.clamp_min(1).double()

    def mean_in(on_edge: Tensor) -> Tensor:
        total = on_edge.new_zeros(s.num_dst, *on_edge.shape[1:]).index_add(0, s.dst, on_edge)
        return total / degree.view(-1, *[1] * (on_edge.dim() - 1))

    near = feat[s.src]
    variance = mean_in((near - mean_in(near)[s.dst]).square())
    deviation = (variance + module.eps).sqrt()
    lonely = s.in_degrees == 0

    def spread(radius: Tensor) -> Tensor:
        # The deviation is a length, of the centred neighbours and sqrt(eps): it moves no further.
        change = mean_in(radius[s.src].square()).sqrt().unsqueeze(1)
        least = ((variance.sqrt() - change).clamp_min(0).square() + module.eps).sqrt()
        own = radius[: s.num_dst] / least.amin(dim=1)
        other = (feat[: s.num_dst].abs() / (deviation * least)).amax(dim=1) * change.squeeze(1)
        return torch.where(lonely, radius[: s.num_dst], abs(module.scale) * (own + other))

    return spread


_RULES: dict[type[nn.Module], Callable[..., Spread]] = {
    GATConv: _gat,
    GATv2Conv: _gatv2,
    DotGatConv: _dot_gat,
    TransformerConv: _transformer,
    LayerNorm: _layer_norm,
    PairNorm: _pair_norm,
    NeighborNorm: _neighbor_norm,
}
