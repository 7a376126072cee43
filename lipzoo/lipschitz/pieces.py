"""Lipschitz constants of one module, by its class; the place to add those of a new one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from lipzoo.attention import Structure
from lipzoo.lipschitz.constant import ONE, Constant, infinite
from lipzoo.lipschitz.spectral import spectral_norm
from lipzoo.nn import BatchNorm, LayerNorm, NeighborNorm, PairNorm
from lipzoo.nn.conv import IdentityMappedLinear

__all__ = ["constant_of", "hooked", "linear_weight", "overridden", "register_bound"]

Rule = Callable[[nn.Module, Structure], Constant]

_RULES: dict[type[nn.Module], Rule] = {}


def register_bound(*kinds: type[nn.Module]) -> Callable[[Rule], Rule]:
    """Say what bounds the Lipschitz constant of a class of modules.

    Decorates ``rule(module, structure) -> Constant``; a subclass that overrides
    something, such as ``forward``, needs a rule of its own.
    """

    def register(rule: Rule) -> Rule:
        _RULES.update(dict.fromkeys(kinds, rule))
        return rule

    return register


def constant_of(module: nn.Module | Callable, structure: Structure) -> Constant:
    """Bounds on the Lipschitz constant of ``module`` in evaluation mode on a graph.

    Parameters
    ----------
    module : torch.nn.Module or callable
        A layer, an activation, a feature norm.
    structure : Structure
        The graph, with the self-loops that the layer sees.
    """
    if module in _FUNCTIONS:
        return ONE
    for kind in type(module).__mro__:
        if kind in _RULES:
            if overridden(type(module), kind):  # it may do anything
                break
            return _RULES[kind](module, structure)
    return infinite(
        f"nothing is known about {getattr(module, '__name__', type(module).__name__)}; give it a "
        "rule with lipzoo.lipschitz.register_bound"
    )


#: What a subclass may change without changing what is computed.
_HARMLESS = {"extra_repr", "reset_parameters", "training"}


def overridden(kind: type, base: type, harmless: Iterable[str] = ()) -> list[str]:
    """Names of ``base`` that a subclass defines anew, so that it may compute something else."""
    between = kind.__mro__[: kind.__mro__.index(base)]
    names = {name for cls in between for name in vars(cls) if not name.startswith("__")}
    return sorted(name for name in names - _HARMLESS - set(harmless) if hasattr(base, name))


def hooked(module: nn.Module) -> str:
    """Name of a part with forward hooks, which may change what it puts out; empty if none."""
    for name, part in module.named_modules():
        if part._forward_hooks or part._forward_pre_hooks:
            return name or type(part).__name__
    return ""


def linear_weight(linear: nn.Linear) -> Tensor:
    """The weight in use, float64 on the CPU, (out, in)."""
    is_mapped = isinstance(linear, IdentityMappedLinear)
    weight = linear.mapped_weight if is_mapped else linear.weight
    return weight.detach().to("cpu", torch.float64)


def _same(value: float) -> Constant:
    return Constant(value, value)


@register_bound(nn.Linear, IdentityMappedLinear, NonDynamicallyQuantizableLinear)
def _linear(module, structure):
    return _same(spectral_norm(linear_weight(module)))


#: Activations that are handed to a layer as functions, with no slope above 1.
_FUNCTIONS = {F.elu, F.leaky_relu, F.relu, F.tanh, torch.relu, torch.tanh, torch.sigmoid}


# --------------------------------------------------- elementwise: the largest absolute slope


@register_bound(
    nn.Identity, nn.Dropout, nn.ReLU, nn.ReLU6, nn.Tanh, nn.Hardtanh, nn.Softsign, nn.Softplus
)
def _at_most_one(module, structure):
    return ONE  # dropout: in evaluation mode


@register_bound(nn.LeakyReLU)
def _leaky_relu(module, structure):
    return _same(max(1.0, abs(module.negative_slope)))


@register_bound(nn.ELU, nn.CELU)
def _elu(module, structure):
    # CELU's slope is exp(x / alpha) <= 1, ELU's is alpha exp(x).
    return _same(max(1.0, abs(module.alpha)) if isinstance(module, nn.ELU) else 1.0)


@register_bound(nn.SELU)
def _selu(module, structure):
    return _same(1.0507009873554805 * 1.6732632423543774)


@register_bound(nn.GELU)
def _gelu(module, structure):
    # The slope of x Phi(x) is largest at sqrt 2: Phi(sqrt 2) + sqrt 2 phi(sqrt 2) = 1.12890…;
    # that of the tanh approximation is at most 1.1290.
    return _same(1.13 if module.approximate == "tanh" else 1.128905)


@register_bound(nn.SiLU)
def _silu(module, structure):
    return _same(1.0998394)  # at 2.3994…


@register_bound(nn.Sigmoid)
def _sigmoid(module, structure):
    return _same(0.25)


# ------------------------------------------------------------------------- feature norms


@register_bound(PairNorm)
def _pair_norm(module, structure):
    r"""Centring has norm 1 (2 per node: it subtracts a mean). What follows divides by at least
    :math:`\sqrt\epsilon`; its derivative is tangential above the clamp and linear below it."""
    steepest = abs(module.scale) / math.sqrt(module.eps)
    if module.individually:
        return Constant(steepest, 2 * steepest)
    # One node's row can be sqrt(N) times as long as the root mean square of all.
    return Constant(steepest, 2 * steepest * (1 + math.sqrt(structure.num_dst)))


@register_bound(LayerNorm)
def _layer_norm(module, structure):
    return constant_of(module.norm, structure)


@register_bound(nn.LayerNorm)
def _torch_layer_norm(module, structure):
    r""":math:`\gamma c / (\lVert c \rVert^2 / F + \epsilon)^{1/2}`: steepest at c = 0."""
    if len(module.normalized_shape) != 1:
        return infinite("LayerNorm over several dimensions is not covered")
    gain = 1.0 if module.weight is None else module.weight.detach().double().abs().max().item()
    return _same(gain / math.sqrt(module.eps))


@register_bound(BatchNorm)
def _batch_norm(module, structure):
    return constant_of(module.norm, structure)


@register_bound(nn.BatchNorm1d)
def _torch_batch_norm(module, structure):
    if module.running_var is None:
        return infinite("BatchNorm without running statistics looks at all nodes")
    gain = (module.running_var.detach().double() + module.eps).rsqrt()
    if module.weight is not None:
        gain = gain * module.weight.detach().double().abs()
    return _same(gain.max().item())


@register_bound(NeighborNorm)
def _neighbor_norm(module, structure):
    return infinite(
        "NeighborNorm is not Lipschitz: it divides a feature by the spread of the neighbours', "
        "and the slope of that grows with the feature"
    )
