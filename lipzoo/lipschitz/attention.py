r"""Lipschitz constants of attention layers. docs/lipschitz.md has the derivation and the proofs.

The output of node i, :math:`o_i = \sum_j p_{ij} v_j`, moves in two ways: with the values, and
with the scores. The second is a covariance over the neighbours,

.. math:: \dot o_i = \sum_j p_{ij} \dot v_j + \mathrm{Cov}_{p_i}(v, \dot s),

whose length is at most the spread of the values times that of the scores' derivatives. A score
norm divides by the former, so that the product is bounded whatever the features are.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from lipzoo.attention import DotProductLipschitzNorm, LipschitzNorm, Structure
from lipzoo.lipschitz.constant import Constant, infinite
from lipzoo.lipschitz.modules import constant_of, linear_weight, register_bound, unread
from lipzoo.lipschitz.neighbourhood import (
    Neighbourhood,
    complete_neighbourhood,
    neighbourhood_of,
)
from lipzoo.lipschitz.rounding import add_up, div_up, hypot_up, mul_up, sqrt_up, up
from lipzoo.lipschitz.spectral import spectral_norm
from lipzoo.nn import DotGatConv, GATConv, GATv2Conv, TransformerConv
from lipzoo.nn.conv import AttentionConv
from lipzoo.nn.multihead import LipschitzMultiheadAttention

__all__ = [
    "dot_product_constant",
    "head_alphas",
    "layer_fault",
    "missing_loops",
    "part_fault",
    "score_limits",
]


def score_limits(alpha: float, negative_slope: float) -> tuple[float, float]:
    """Smallest and largest score after the LeakyReLU, where ``|e| <= alpha`` before it."""
    low = math.copysign(mul_up(abs(negative_slope), alpha), -negative_slope)
    return min(0.0, low), max(alpha, low)


def head_alphas(norm: LipschitzNorm, lengths: Tensor) -> Tensor:
    r"""Largest absolute score of each head, (H,), rounded up: :math:`\alpha` times the share that
    the head's attention vectors have in the norm that it is divided by.

    ``lengths`` are float64, right to some 16,000 roundings.
    """
    alpha = torch.full_like(lengths, abs(norm.alpha))
    if not norm.per_head and len(lengths) > 1:
        # Scaled, so that no square overflows; one that underflows is short beside the largest.
        relative = lengths / lengths.max()
        share = up(relative / torch.linalg.vector_norm(relative), 2**14)
        alpha = mul_up(alpha, share.clamp(_LEAST, 1.0))
    return torch.where(lengths > 0, alpha, 0.0)


#: Counts as the length of an attention vector that is shorter and not zero.
_LEAST = 1e-140


@register_bound(GATConv)
def _gat(layer: GATConv, structure: Structure, largest_weight: float = 1.0) -> Constant:
    structure = layer.attended(structure)
    fault = layer_fault(layer, LipschitzNorm, structure)
    if not layer.sep:  # else a node's own values are under the root on every graph
        fault = fault or missing_loops(structure)
    if fault:
        return infinite(fault)
    slope = layer.leaky_relu.negative_slope
    vectors = (layer.attn_l, layer.attn_r, *([layer.attn_edge] if layer.edge_feats else []))
    left, right, *edge = _lengths(layer.score_norm, *vectors)
    length = torch.hypot(left, right)
    if edge:
        length = torch.hypot(length, *edge)
    alpha = head_alphas(layer.score_norm, length)
    low, high = score_limits(alpha.max().item(), slope)
    around = _neighbourhood(structure, add_up(high, -low), layer.sep)
    steep = mul_up(alpha, max(1.0, abs(slope)))
    # Share of the attention vector that acts on the destination, and on the source.
    many = 2 * layer.out_feats + 16
    rho, lam = (
        up(torch.where(length > 0, part / length, 0.0), many).clamp_max(1) for part in (right, left)
    )
    rho, lam = (torch.where(length > 2 * _LEAST, share, 1.0) for share in (rho, lam))
    attention = _additive(
        linear_weight(layer.fc),
        around,
        # 1 - rho^2 / 2 = (1 + lambda^2) / 2, without a subtraction; rho there is that of the
        # destination and the edge together.
        source=mul_up(steep, sqrt_up(up((1 + lam.square()) / 2, 3))),
        target=mul_up(steep, rho, _ROOT_HALF),
        selection=mul_up(steep, _ROOT_THIRD),
    )
    return _finish(layer, attention.scaled(largest_weight), structure)


@register_bound(GATv2Conv)
def _gatv2(layer: GATv2Conv, structure: Structure) -> Constant:
    structure = layer.attended(structure)
    fault = layer_fault(layer, LipschitzNorm, structure)
    if fault:
        return infinite(fault)
    gamma = max(1.0, abs(layer.leaky_relu.negative_slope))
    (length,) = _lengths(layer.score_norm, layer.attn)
    # Between its kinks, a . LeakyReLU(v + t) is (D a) . v + (D a) . t: the additive case with
    # both vectors at most gamma |a| long and the scale alpha / (sqrt 2 |a|).
    steep = mul_up(head_alphas(layer.score_norm, length), gamma)
    around = _neighbourhood(structure, 2 * steep.max().item())
    # The largest norm under the root may be that of the destination, which then is selected.
    source, target = _ROOT_THREE_QUARTERS, 0.5
    if layer.edge_feats:  # a third vector, that of the edges: sqrt 3 in place of sqrt 2
        source, target = _ROOT_TWO_THIRDS, _ROOT_SIXTH
    target, selection = mul_up(steep, target), mul_up(steep, _ROOT_THIRD)
    source_weight = linear_weight(layer.fc_src)
    shared = layer.fc_src is layer.fc_dst
    attention = _additive(
        source_weight,
        around,
        source=mul_up(steep, source),
        target=add_up(target, selection) if shared else torch.zeros_like(target),
        selection=selection,
    )
    if not shared and around.has_choice:
        target_weight = linear_weight(layer.fc_dst)
        rows = add_up(target, selection).repeat_interleave(layer.out_feats)
        size = spectral_norm(target_weight, rows)
        attention = attention + Constant(size, size)
    return _finish(layer, attention, structure)


_ROOT_TWO, _ROOT_HALF = sqrt_up(2.0), sqrt_up(0.5)
_ROOT_THIRD, _ROOT_THREE_QUARTERS = sqrt_up(div_up(1.0, 3.0)), sqrt_up(0.75)
_ROOT_TWO_THIRDS, _ROOT_SIXTH = sqrt_up(div_up(2.0, 3.0)), sqrt_up(div_up(1.0, 6.0))


def _additive(
    weight: Tensor, around: Neighbourhood, source: Tensor, target: Tensor, selection: Tensor
) -> Constant:
    r"""Heads side by side; a score's derivative moves the output by at most ``source``
    :math:`\dot v_j` (averaged), ``target`` :math:`\dot v_i` and ``selection`` :math:`\dot v_k`,
    each (H,)."""
    heads = weight.view(len(source), -1, weight.shape[1])
    per_head = torch.tensor([spectral_norm(head) for head in heads], dtype=torch.float64)

    def stacked(factor: Tensor) -> float:
        return spectral_norm(weight, factor.repeat_interleave(heads.shape[1]))

    def separate(factor: Tensor) -> float:
        return hypot_up(*mul_up(factor, per_head).tolist())

    ones = torch.ones_like(source)
    several = sqrt_up(around.overlap)
    average = min(mul_up(several, stacked(ones)), separate(ones))
    if not around.has_choice:
        return Constant(mul_up(around.average, stacked(ones)), average)
    mixed = min(mul_up(_ROOT_TWO, around.contrast), around.column)
    frobenius = add_up(
        mul_up(mixed, source), target, mul_up(around.selection, selection), around.average
    )
    distinct = sqrt_up(min(len(source), around.candidates))
    per_node = add_up(
        average,
        min(mul_up(several, stacked(source)), mul_up(separate(source), _ROOT_HALF)),
        stacked(target),
        min(mul_up(distinct, stacked(selection)), separate(selection)),
    )
    return Constant(stacked(frobenius), per_node)


@register_bound(DotGatConv)
def _dot_gat(layer: DotGatConv, structure: Structure) -> Constant:
    fault = layer_fault(layer, DotProductLipschitzNorm, structure)
    if fault:
        return infinite(fault)
    weight = linear_weight(layer.fc)
    return _finish(layer, _dot_product(layer, structure, weight, weight, weight), structure)


@register_bound(TransformerConv)
def _transformer(layer: TransformerConv, structure: Structure) -> Constant:
    structure = layer.attended(structure)
    fault = layer_fault(layer, DotProductLipschitzNorm, structure)
    if fault:
        return infinite(fault)
    weights = (linear_weight(fc) for fc in (layer.fc_query, layer.fc_key, layer.fc_value))
    return _finish(layer, _dot_product(layer, structure, *weights), structure)


def _dot_product(layer, structure: Structure, query: Tensor, key: Tensor, value: Tensor):
    around = _neighbourhood(structure, mul_up(2.0, _root_share(layer.out_feats)))
    return dot_product_constant(
        query, key, value, layer.num_heads, around, layer.score_norm.scope == "graph"
    )


def _root_share(width: int) -> float:
    """``1 / sqrt(width)``, which scores of dot products are scaled with."""
    return sqrt_up(div_up(1.0, width))


def dot_product_constant(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    num_heads: int,
    around: Neighbourhood,
    whole_graph: bool = False,
) -> Constant:
    r"""Of dot-product attention with :class:`~lipzoo.attention.DotProductLipschitzNorm`.

    .. math::
        \lVert V \rVert \lVert P \rVert + D^{-1/2} (\lVert Q \rVert
        + \min(2 \lVert P \odot (1 - P) \rVert, \sqrt c) \lVert K \rVert
        + \sqrt\kappa (\lVert K \rVert + \lVert V \rVert))

    in the Frobenius norm; docs/lipschitz.md, section 6.

    Parameters
    ----------
    query, key, value : Tensor (H * D, F)
        The projections.
    num_heads : int
        ``H``.
    around : Neighbourhood
        For scores that differ by at most ``2 / sqrt(D)``.
    whole_graph : bool
        ``scope="graph"``: queries are divided by the norm of those of all edges.
    """
    q, k, v = (spectral_norm(weight) for weight in (query, key, value))

    def separate(weight: Tensor) -> float:
        heads = weight.view(num_heads, -1, weight.shape[1])
        return hypot_up(*(spectral_norm(head) for head in heads))

    several = sqrt_up(around.overlap)
    average = Constant(mul_up(around.average, v), min(mul_up(several, v), separate(value)))
    if not around.has_choice:
        return average
    query_f = query_n = q
    if whole_graph:
        query_f, query_n = (
            mul_up(q, add_up(1.0, sqrt_up(div_up(most, around.min_degree))))
            for most in (around.max_degree, around.num_edges)
        )
    mixed = min(2 * around.contrast, around.column)
    frobenius = add_up(query_f, mul_up(mixed, k), mul_up(around.selection, add_up(k, v)))
    distinct = sqrt_up(min(num_heads, around.candidates))
    per_node = add_up(
        query_n,
        min(mul_up(several, k), separate(key)),
        *(min(mul_up(distinct, n), separate(w)) for n, w in ((k, key), (v, value))),
    )
    scores = Constant(frobenius, per_node).scaled(_root_share(value.shape[0] // num_heads))
    return average + scores


@register_bound(LipschitzMultiheadAttention)
def _multihead(layer: LipschitzMultiheadAttention, structure: Structure | int) -> Constant:
    """Self-attention: queries, keys and values come from the same tokens."""
    if layer.score_norm is None:
        return infinite("dot-product attention without a score norm is not Lipschitz")
    if layer.in_proj_weight is None:
        return infinite("queries, keys and values of different widths are no self-attention")
    constant_keys = (layer.bias_k is not None) + bool(layer.add_zero_attn)
    spread = mul_up(2.0, _root_share(layer.head_dim))
    if isinstance(structure, int):
        around = complete_neighbourhood(structure, spread, constant_keys)
    elif constant_keys:
        return infinite("a mask together with constant keys is not covered")
    else:
        around = _neighbourhood(structure, spread)
    weights = layer.in_proj_weight.detach().to("cpu", torch.float64).chunk(3)
    attention = dot_product_constant(*weights, layer.num_heads, around)
    return attention.then(constant_of(layer.out_proj, structure))


# ------------------------------------------------------------------------------ helpers


def part_fault(layer: AttentionConv) -> str:
    """Which part of a layer nothing is known about; empty if none."""
    return unread(layer, _PARTS, _MAPS)


#: Of layers, what is bounded by itself, of which only the slope is used, and what edge features,
#: which may be any, pass through.
_PARTS = ("score_norm", "res_fc", "activation", "leaky_relu", "fc_edge")
_MAPS = ("fc", "fc_src", "fc_dst", "fc_query", "fc_key", "fc_value")


def layer_fault(layer: AttentionConv, norm: type, structure: Structure) -> str:
    """Why there is no bound; empty where there is one."""
    name = type(layer).__name__
    if fault := part_fault(layer):
        return fault
    if structure.is_bipartite or layer.in_src_feats != layer.in_dst_feats or _has_pair(layer):
        return f"{name} between two kinds of nodes is not covered"
    if layer._score_hooks:
        return f"{name} has score hooks, which may do anything to the scores"
    if layer.edge_values and norm is LipschitzNorm:
        return (
            f"{name} with edge_values is not Lipschitz under LipschitzNorm: where the features are "
            "near 0, scores turn as fast as one likes, and what they weight, the values of the "
            "edges, is not small there; DotProductLipschitzNorm bounds it"
        )
    if layer.score_norm is None:
        return (
            f"{name} without a score norm is not Lipschitz: its slope grows with the features; "
            "lipzoo.lipschitzify gives it one"
        )
    if type(layer.score_norm) is not norm:
        return f"nothing is known about the score norm {type(layer.score_norm).__name__}"
    if not math.isfinite(getattr(layer.score_norm, "alpha", 0.0)):
        return f"{name}: alpha must be a finite number, got {layer.score_norm.alpha}"
    if not all(parameter.isfinite().all() for parameter in layer.parameters()):
        return f"{name}: the weights hold NaN or infinity"
    slope = layer.leaky_relu.negative_slope if hasattr(layer, "leaky_relu") else 0.0
    if not math.isfinite(slope):
        return f"{name}: negative_slope must be a finite number, got {slope}"
    return ""


def _lengths(norm: LipschitzNorm, *vectors: Tensor) -> tuple[Tensor, ...]:
    """Of attention vectors (1, H, D), (H,) each, times a power of two that makes the longest of
    what is compared (a head, or all) about 1: no square overflows, and none is taken for zero."""
    exact = torch.stack([v.detach().to("cpu", torch.float64).squeeze(0) for v in vectors])
    longest = exact.abs().amax((0, 2) if norm.per_head else (0, 1, 2), keepdim=True)
    scaled = torch.from_numpy(np.ldexp(exact.numpy(), -np.frexp(longest.numpy())[1]))
    length = torch.maximum(scaled.norm(dim=-1), scaled.abs().amax(-1))
    return tuple(torch.where(exact.any(-1), length.clamp_min(_LEAST), 0.0))


def _has_pair(layer: AttentionConv) -> bool:
    return isinstance(layer, GATConv | DotGatConv) and not hasattr(layer, "fc")


def missing_loops(structure: Structure) -> str:
    """Without its self-loop, a destination is not under the root that its score is divided by."""
    has_loop = torch.zeros(structure.num_dst, dtype=torch.bool)
    has_loop[structure.dst[structure.src == structure.dst]] = True
    lacking = int(((structure.in_degrees > 1) & ~has_loop).sum())
    if not lacking:
        return ""
    return (
        f"{lacking} nodes have several in-edges but no self-loop: LipschitzNorm bounds additive "
        "scores where each node sees itself; dgl.add_self_loop(graph), or add_self_loops=True"
    )


def _finish(layer: AttentionConv, attention: Constant, structure: Structure) -> Constant:
    """With the residual and the activation that belong to the layer."""
    if layer.res_fc is not None:
        attention = attention + constant_of(layer.res_fc, structure)
    if layer.activation is not None:
        attention = attention.then(constant_of(layer.activation, structure))
    return attention


def _neighbourhood(structure: Structure, spread: float, with_own: bool = False) -> Neighbourhood:
    """Layers of one model share it."""
    return structure.derived(neighbourhood_of, spread, with_own)
