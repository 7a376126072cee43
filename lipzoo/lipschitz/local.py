r"""How far outputs move where every node's features move by at most a radius: bounds near a point.

A global constant holds for the worst features anywhere. Around given features far more is known:
how long the values are, how much they differ, how large the scores are. Each rule runs a module
at the given features once and returns what it put out, and how radii of the input's rows, (N,),
pass to the output's. docs/lipschitz.md, section 8, has the proofs.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from lipzoo._rows import row_chunks
from lipzoo.attention import DotProductLipschitzNorm, LipschitzNorm, Structure
from lipzoo.lipschitz.attention import layer_fault, part_fault
from lipzoo.lipschitz.local_attention import ATTENTION_RULES
from lipzoo.lipschitz.local_norms import NORM_RULES
from lipzoo.lipschitz.modules import constant_of, linear_weight
from lipzoo.lipschitz.outward import beyond, longest
from lipzoo.lipschitz.passage import Passage, certain, elementwise, times
from lipzoo.lipschitz.rounding import gamma, up
from lipzoo.lipschitz.state_radii import Step, rounded
from lipzoo.models.base import ACTIVATIONS
from lipzoo.nn import AttentionConv, FeatureNorm
from lipzoo.nn.degrees import degree_roots

__all__ = ["local_rule"]

#: Rounded operations that an element of a module of somebody's own is taken to need.
_UNKNOWN = 64


def local_rule(module: nn.Module, structure: Structure, feat: Tensor) -> tuple[Tensor, Step]:
    """The output of a module at ``feat``, and how radii pass through it.

    Parameters
    ----------
    module : torch.nn.Module
        In evaluation mode and float64.
    structure : Structure
        The graph, with the self-loops that the module sees.
    feat : Tensor (N, F)
        Float64; those of a linear map of any type of real numbers.
    """
    if isinstance(module, AttentionConv):
        structure = module.attended(structure)
        if module.degree_norm != "none":
            return _between_degrees(module, structure, feat)
    constant = constant_of(module, structure).per_node
    if isinstance(module, ACTIVATIONS.classes()):
        return module(feat), elementwise(module, constant, feat)
    if isinstance(module, nn.Linear):
        # Features of fewer bits are never all in 64.
        parts = [(module(x), longest(x)) for x in _in_64_bits(feat)]
        out, size = (torch.cat(each) for each in zip(*parts, strict=True))
        return out, _linear(module, constant, size, feat.shape[1])
    takes_graph = isinstance(module, (AttentionConv, FeatureNorm))
    out = (module(structure, feat) if takes_graph else module(feat)).flatten(1)
    if type(module) in NORM_RULES:
        return out, NORM_RULES[type(module)](module, structure, feat, constant)
    if type(module) in ATTENTION_RULES and _is_covered(module, structure):
        return out, _layer(module, structure, feat, constant)

    def steep(radius: Tensor) -> Tensor:
        return _all(structure, constant, radius)

    def rounding(radius: Tensor) -> Tensor:
        return up(gamma(_UNKNOWN) * (longest(out) + steep(radius) + 1), 4)

    return out, Passage(steep, steep, rounding, structure.num_src)


def _between_degrees(
    layer: AttentionConv, structure: Structure, feat: Tensor
) -> tuple[Tensor, Step]:
    """Of a layer between the square roots of the degrees, but for its bias and activation."""
    inner, without = _changed(layer, degree_norm="none"), _changed(layer)
    roots = structure.derived(degree_roots, torch.float64)
    divided, attend = local_rule(inner, structure, feat / roots.unsqueeze(1))
    out = without(structure, feat).flatten(1)
    read, size = longest(feat), longest(divided)
    bias = layer.bias if layer.bias is not None else getattr(layer.res_fc, "bias", None)
    added = 0.0 if bias is None else longest(bias)

    def step(radii: Tensor) -> Tensor:
        inside = rounded(radii, read, 4) / roots
        moved = attend(up(inside, 4))
        reach = (size + moved[0] + added) * roots
        return certain(up(moved * roots + 4 * gamma(8) * reach + beyond(reach), 6))

    if layer.activation is None:
        return out, step
    bent, bend = local_rule(layer.activation, structure, out)
    return bent, lambda radii: bend(step(radii))


def _changed(layer: AttentionConv, **changes: str) -> AttentionConv:
    """Without its activation, and with other attributes: the parameters are the layer's own."""
    other = copy.copy(layer)
    other._modules = dict(layer._modules)  # or what is left out would be gone from both
    other.activation = None
    vars(other).update(changes)
    return other


def _all(structure: Structure, constant: float, radius: Tensor) -> Tensor:
    widest = radius.max() if radius.numel() else radius.new_zeros(())
    return times(constant, widest).expand(structure.num_dst)


def _is_covered(layer: AttentionConv, structure: Structure) -> bool:
    norm = DotProductLipschitzNorm if layer.lipschitz_norm == "dot_lipschitz" else LipschitzNorm
    if not layer_fault(layer, norm, structure):
        return True
    # Without a score norm there is no global constant, but there is one near a point.
    return layer.score_norm is None and not layer._score_hooks and not part_fault(layer)


def _in_64_bits(feat: Tensor) -> Iterable[Tensor]:
    """Exactly the same numbers, in one or several parts."""
    return [feat] if feat.dtype == torch.float64 else row_chunks(feat, torch.float64)


def _linear(module: nn.Linear, constant: float, size: Tensor, width: int) -> Passage:
    """``size`` (N,) is no less than the lengths of its input's rows, which are ``width`` wide."""
    weight = linear_weight(module)
    bias = 0.0 if module.bias is None else longest(module.bias).item()
    whole = longest(weight.flatten(), 0).item()

    def move(radius: Tensor) -> Tensor:
        return times(constant, radius)

    def rounding(radius: Tensor) -> Tensor:
        reach = whole * (size + radius) + bias
        return up(gamma(width + 2) * reach, 6) + beyond(reach)

    return Passage(move, move, rounding, len(size))


def _layer(layer: AttentionConv, structure: Structure, feat: Tensor, constant: float) -> Passage:
    """An attention layer: the attention, and the residual, bias and activation behind it."""
    attended = ATTENTION_RULES[type(layer)](layer, structure, feat)
    own = feat[: structure.num_dst]
    rows = slice(0, structure.num_dst)
    added, behind = own.new_zeros(len(own), 1), None
    if layer.res_fc is not None:
        added, behind = local_rule(layer.res_fc, structure, own)
    size = longest(added)
    if layer.bias is not None:
        size = size + longest(layer.bias)

    def move(radius: Tensor) -> Tensor:
        moved = attended.move(radius)
        return moved if behind is None else up(moved + behind.move(radius[rows]), 1)

    def rounding(radius: Tensor) -> Tensor:
        total = attended.rounding(radius)
        reach = attended.reach(radius) + size
        if behind is not None:
            total = total + behind.rounding(radius[rows])
            reach = reach + behind.spread(radius[rows])
        return up(total + gamma(4) * reach, 8)

    def steep(radius: Tensor) -> Tensor:
        if getattr(layer.score_norm, "scope", "") == "graph":
            return _all(structure, constant, radius)
        widest = structure_max(structure, radius)
        return times(constant, torch.maximum(widest, radius[rows]))  # a residual reads its own

    if layer.activation is None:
        return Passage(move, steep, rounding, structure.num_src)
    # `constant` is that of all of it, and so no less than that of what is behind.
    before = attended.centre + added
    if layer.bias is not None:
        before = before + layer.bias
    last = constant_of(layer.activation, structure).per_node
    bent = elementwise(layer.activation, last, before)
    inner = Passage(
        move, lambda radius: radius.new_full((len(own),), torch.inf), rounding, len(feat)
    )
    through = inner.then(bent)
    return Passage(through.move, steep, through.rounding, structure.num_src)


def structure_max(structure: Structure, radius: Tensor) -> Tensor:
    """Largest radius that a node reads, (N_src,) -> (N_dst,)."""
    start = radius.new_zeros(structure.num_dst)
    return start.scatter_reduce(0, structure.dst, radius[structure.src], "amax")
