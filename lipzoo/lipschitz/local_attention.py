"""How radii pass through each kind of attention layer. docs/lipschitz.md, section 8."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lipzoo.attention import Structure
from lipzoo.lipschitz.attended import Attended, Projected, Scores, attend, max_in
from lipzoo.lipschitz.attention import head_alphas, missing_loops
from lipzoo.lipschitz.outward import LARGE, SMALL, longest, shortest
from lipzoo.lipschitz.passage import remembered
from lipzoo.lipschitz.rounding import gamma, up
from lipzoo.nn import AttentionConv, DotGatConv, GATConv, GATv2Conv, TransformerConv

__all__ = ["ATTENTION_RULES"]


def _gat(layer: GATConv, structure: Structure, feat: Tensor) -> Attended:
    value = Projected(layer.fc, layer.num_heads, feat)
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

    @remembered
    def change(radius: Tensor) -> Tensor:
        return up(steep[0] * radius[src, None] + steep[1] * radius[dst, None], 3)

    @remembered
    def error(radius: Tensor) -> Tensor:
        each = value.rounding(radius) + gamma(ops) * value.reach(radius)
        return up(sizes[0] * each[src] + sizes[1] * each[dst], 8)

    scale, limit, is_odd, many = _score_scale(layer, left, right)
    own = None
    if layer.sep:
        is_whole = structure.num_dst == structure.num_src
        own = value if is_whole else Projected(layer.fc, layer.num_heads, feat[: structure.num_dst])
    elif missing_loops(structure):
        limit = torch.full_like(limit, torch.inf)
    divisor = None if layer.score_norm is None else _root(structure, value, own)
    slope = layer.leaky_relu.negative_slope
    scores = Scores(len(feat), raw, change, error, divisor, scale, limit, is_odd, many, slope)
    return attend(structure, value, scores)


def _gatv2(layer: GATv2Conv, structure: Structure, feat: Tensor) -> Attended:
    source = Projected(layer.fc_src, layer.num_heads, feat)
    target = Projected(layer.fc_dst, layer.num_heads, feat[: structure.num_dst])
    src, dst = structure.src, structure.dst
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

    @remembered
    def change(radius: Tensor) -> Tensor:
        return up(steep[0] * radius[src, None] + steep[1] * radius[dst, None], 3)

    @remembered
    def error(radius: Tensor) -> Tensor:
        from_src, from_dst = (
            part.rounding(moved) + gamma(ops) * part.reach(moved)
            for part, moved in ((source, radius), (target, _first(radius, structure.num_dst)))
        )
        return up(steepest * length * (from_src[src] + from_dst[dst]), 8)

    scale, limit, is_odd, many = _score_scale(layer, attn, attn)
    limit = up(limit * steepest)
    divisor = None if layer.score_norm is None else _root(structure, source, target)
    scores = Scores(len(feat), raw, change, error, divisor, scale, limit, is_odd, many)
    return attend(structure, source, scores)


def _dot_gat(layer: DotGatConv, structure: Structure, feat: Tensor) -> Attended:
    value = Projected(layer.fc, layer.num_heads, feat)
    query = value
    if structure.num_dst != structure.num_src:
        query = Projected(layer.fc, layer.num_heads, feat[: structure.num_dst])
    return _dot(layer, structure, query, value, value)


def _transformer(layer: TransformerConv, structure: Structure, feat: Tensor) -> Attended:
    query = Projected(layer.fc_query, layer.num_heads, feat[: structure.num_dst])
    key, value = (Projected(fc, layer.num_heads, feat) for fc in (layer.fc_key, layer.fc_value))
    return _dot(layer, structure, query, key, value)


def _dot(layer, structure: Structure, query: Projected, key: Projected, value: Projected):
    src, dst = structure.src, structure.dst
    raw = (query.value[dst] * key.value[src]).sum(-1)
    norm, ops = layer.score_norm, layer.out_feats + 4

    @remembered
    def change(radius: Tensor) -> Tensor:
        dq, dk = query.moved(_first(radius, structure.num_dst)), key.moved(radius)
        q, k = up(query.most + query.still), up(key.most + key.still)
        return up(q[dst] * dk[src] + k[src] * dq[dst] + dq[dst] * dk[src], 4)

    @remembered
    def error(radius: Tensor) -> Tensor:
        q, k = query.reach(_first(radius, structure.num_dst)), key.reach(radius)
        eq, ek = query.rounding(_first(radius, structure.num_dst)), key.rounding(radius)
        first = up(q * (1 + 1e-15))[dst] * (ek + gamma(ops) * k)[src]
        return up(first + (eq[dst] * k[src]), 8)

    @remembered
    def divisor(radius: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        u, k, v = (
            query.lengths(_first(radius, structure.num_dst)),
            key.lengths(radius),
            value.lengths(radius),
        )
        u_off = up(query.rounding(_first(radius, structure.num_dst)) + gamma(ops + 4) * u[1], 4)
        if norm.scope == "graph":
            u, u_off = _whole(structure, u, u_off)
        v, w = (tuple(max_in(structure, end[src]) for end in part) for part in (k, v))
        v_off, w_off = (
            up(max_in(structure, part.rounding(radius)[src]) + gamma(ops + 4) * most, 4)
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
    scores = Scores(
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
    return attend(structure, value, scores)


def _whole(structure: Structure, u, off: Tensor):
    """Lengths of the queries of all edges together, and how far that is off."""
    degree = structure.in_degrees.double().sqrt().unsqueeze(1)
    nodes, ops = len(off), structure.num_dst + 8
    least, most, lost = ((degree * x).t().contiguous() for x in (*u, off))
    lost = up(longest(lost) + gamma(ops) * longest(most), 6)
    ends = (shortest(least) * (1 - 1e-14), up(longest(most), 3))
    return tuple(end.expand(nodes, -1) for end in ends), lost.expand(nodes, -1)


def _score_scale(
    layer: GATConv | GATv2Conv, left: Tensor, right: Tensor
) -> tuple[Tensor, Tensor, Tensor, int]:
    """What a head's score is multiplied by beside the root, the largest it can be, whether the
    scale is lost in float64, (H,), and how many rounded operations a score needs.

    The scale is a centre, as near to the exact one as float64 comes; only the limit is rounded up.
    """
    vectors, norm = torch.cat([left, right], -1), layer.score_norm
    length, ones = longest(vectors), vectors.new_ones(len(vectors))
    ops = layer.out_feats + 36
    if norm is None:
        return ones, ones * torch.inf, ones < 0, ops
    heads = vectors if norm.per_head else vectors.flatten().expand(len(vectors), -1)
    whole = torch.linalg.vector_norm(heads, dim=-1)
    is_odd = (length > 0) & ((whole < 1e-130) | (whole > LARGE))
    scale = torch.where(length > 0, abs(norm.alpha) / whole.clamp_min(SMALL), 0.0)
    limit = up(head_alphas(norm, length), layer.out_feats + 20)
    return scale, limit, is_odd, ops + heads.shape[1]


def _root(structure: Structure, source: Projected, target: Projected | None = None):
    r"""Of :math:`\sqrt{\max_k \lVert v_k \rVert^2 + \lVert v_j \rVert^2}`, (E, H)."""
    src, dst = structure.src, structure.dst
    ops = source.value.shape[-1] + 12

    @remembered
    def divisor(radius: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows = _first(radius, structure.num_dst)
        ends = []
        for end, length in enumerate(source.lengths(radius)):
            top = max_in(structure, length[src])
            if target is not None:
                top = torch.maximum(top, target.lengths(rows)[end])
            ends.append(torch.hypot(top[dst], length[src]))
        least, most = ends[0] * (1 - 1e-14), up(ends[1], 6)
        lost = source.rounding(radius)
        top = max_in(structure, lost[src])
        if target is not None:
            top = torch.maximum(top, target.rounding(rows))
        return least, most, up(torch.hypot(top[dst], lost[src]) + gamma(ops) * most, 6)

    return divisor


def _first(radius: Tensor, rows: int) -> Tensor:
    """The first rows, and the very same tensor where that is all of them."""
    return radius if len(radius) == rows else radius[:rows]


ATTENTION_RULES: dict[type[AttentionConv], Callable[..., Attended]] = {
    GATConv: _gat,
    GATv2Conv: _gatv2,
    DotGatConv: _dot_gat,
    TransformerConv: _transformer,
}
