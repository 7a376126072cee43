"""Lipschitz constants of one module, by its class; the place to add those of a new one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from lipzoo.attention import Structure
from lipzoo.lipschitz.constant import ONE, Constant, infinite
from lipzoo.lipschitz.rounding import add_up, div_up, down, mul_up, sqrt_up
from lipzoo.lipschitz.spectral import spectral_norm
from lipzoo.nn import BatchNorm, LayerNorm, NeighborNorm, PairNorm
from lipzoo.nn.conv import IdentityMappedLinear
from lipzoo.nn.dropout import Dropout

__all__ = ["constant_of", "hooked", "linear_weight", "overridden", "register_bound", "unread"]

Rule = Callable[[nn.Module, Structure], Constant]

_RULES: dict[type[nn.Module], Rule] = {}

#: What hands on what it is given in evaluation mode; a subclass may not.
_SILENT = (nn.Identity, nn.Dropout, Dropout)


def register_bound(*kinds: type[nn.Module]) -> Callable[[Rule], Rule]:
    """Say what bounds the Lipschitz constant of a class of modules.

    Decorates ``rule(module, structure) -> Constant``; a subclass that overrides
    something, such as ``forward``, needs a rule of its own.
    """

    def register(rule: Rule) -> Rule:
        _RULES.update(dict.fromkeys(kinds, rule))
        return rule

    return register


def constant_of(module: nn.Module | Callable, structure: Structure, **options) -> Constant:
    """Bounds on the Lipschitz constant of ``module`` in evaluation mode on a graph.

    In exact arithmetic with the parameters that it holds; rounded up.

    Parameters
    ----------
    module : torch.nn.Module or callable
        A layer, an activation, a feature norm.
    structure : Structure
        The graph, with the self-loops that the layer sees.
    options
        For the module's rule.
    """
    if any(module is function for function in _FUNCTIONS):
        return ONE
    rule = _rule_of(module)
    if rule is not None:
        return rule(module, structure, **options)
    return infinite(
        f"nothing is known about {getattr(module, '__name__', type(module).__name__)}; give it a "
        "rule with lipzoo.lipschitz.register_bound"
    )


def _rule_of(module: nn.Module | Callable) -> Rule | None:
    for kind in type(module).__mro__:
        if kind in _RULES:
            # What a subclass overrides may do anything.
            return None if overridden(type(module), kind) else _RULES[kind]
    return None


def unread(module: nn.Module, parts: Iterable[str], maps: Iterable[str] = ()) -> str:
    """Name and class of a part that no rule reads and that may do something in evaluation mode,
    as dropout does not; empty if none.

    Parameters
    ----------
    module : torch.nn.Module
        A model or a layer.
    parts : iterable of str
        Names of the parts that its rule asks for their own bounds, or whose output it bounds
        whatever they do.
    maps : iterable of str
        Names of linear maps, of which its rule reads the weights alone.
    """
    parts, maps = set(parts), set(maps)
    for name, part in module._modules.items():  # a part of two names has both
        is_known = part is None or type(part) in _SILENT or name in parts
        if not is_known and not (name in maps and _rule_of(part) is _linear):
            kind = type(part).__name__
            return f"{name} is a {kind}, of which no rule of {type(module).__name__} knows"
    return ""


#: What a subclass may change without changing what is computed.
_HARMLESS = {"extra_repr", "reset_parameters", "training"}


def overridden(kind: type, base: type, harmless: Iterable[str] = ()) -> list[str]:
    """Names of ``base`` that a subclass defines anew, so that it may compute something else."""
    between = kind.__mro__[: kind.__mro__.index(base)]
    names = {name for cls in between for name in vars(cls) if _counts(name)}
    return sorted(name for name in names - _HARMLESS - set(harmless) if hasattr(base, name))


def _counts(name: str) -> bool:
    """Whether a method of this name can change what a module computes."""
    return not name.startswith("__") or name in ("__call__", "__getattr__", "__getattribute__")


def hooked(module: nn.Module) -> str:
    """Name of a part with forward hooks, or a ``forward`` put on the instance, which may change
    what it puts out; empty if none."""
    for name, part in module.named_modules():
        if part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part):
            return name or type(part).__name__
    return ""


def linear_weight(linear: nn.Linear) -> Tensor:
    """The weight in use, float64 on the CPU, (out, in); each entry right to one rounding."""
    weight = linear.weight.detach().to("cpu", torch.float64)
    if not isinstance(linear, IdentityMappedLinear):
        return weight
    beta = Fraction(linear.beta)
    mapped = weight * linear.beta
    # On the diagonal two numbers may cancel.
    exact = [float(1 - beta + beta * Fraction(w)) for w in weight.diagonal().tolist()]
    mapped.diagonal().copy_(torch.tensor(exact, dtype=torch.float64))
    return mapped


def _same(value: float) -> Constant:
    return Constant(value, value)


@register_bound(nn.Linear, IdentityMappedLinear, NonDynamicallyQuantizableLinear)
def _linear(module, structure):
    if not module.weight.isfinite().all():
        return infinite(f"{type(module).__name__}: the weights hold NaN or infinity")
    return _same(spectral_norm(linear_weight(module)))


#: Activations that are handed to a layer as functions, with no slope above 1.
_FUNCTIONS = (F.elu, F.leaky_relu, F.relu, F.tanh, torch.relu, torch.tanh, torch.sigmoid)


# --------------------------------------------------- elementwise: the largest absolute slope


@register_bound(nn.Identity, nn.Dropout, nn.ReLU, nn.ReLU6, nn.Tanh, nn.Hardtanh, nn.Softsign)
def _at_most_one(module, structure):
    return ONE  # dropout: in evaluation mode


def _at_least_one(slope: float, what: str) -> Constant:
    """Of an activation with the slope 1 on one side, and at most ``slope`` on the other."""
    if not math.isfinite(slope):
        return infinite(f"{what}: must be a finite number, got {slope}")
    return _same(max(1.0, abs(slope)))


@register_bound(nn.LeakyReLU)
def _leaky_relu(module, structure):
    return _at_least_one(module.negative_slope, "LeakyReLU's negative_slope")


@register_bound(nn.ELU)
def _elu(module, structure):
    return _at_least_one(module.alpha, "ELU's alpha")  # the slope is alpha exp(x), x < 0


@register_bound(nn.CELU)
def _celu(module, structure):
    # The slope is exp(x / alpha) for x < 0.
    if not module.alpha > 0:
        return infinite(f"CELU with alpha={module.alpha} grows without limit; alpha must be > 0")
    return ONE


@register_bound(nn.Softplus)
def _softplus(module, structure):
    r"""Its slope is a sigmoid, but where :math:`\beta x` exceeds the threshold it jumps to x."""
    beta, threshold = module.beta, module.threshold
    if not (math.isfinite(beta) and beta != 0):
        return infinite(f"Softplus: beta must be a number other than 0, got {beta}")
    if threshold >= _NO_JUMP:
        return ONE
    return infinite(
        f"Softplus jumps by {math.log1p(math.exp(-max(threshold, -700.0))) / abs(beta):.2g} at "
        f"its threshold {threshold}, where it turns linear: a jump has no Lipschitz constant; "
        f"threshold={_NO_JUMP} and more leaves none that float64 could hold"
    )


#: Here ``log(1 + exp(-t))`` is less than half a unit in the last place of ``t``.
_NO_JUMP = 40


@register_bound(nn.SELU)
def _selu(module, structure):
    return _same(math.nextafter(1.7580993408473768, 2.0))  # scale * alpha, at 0


@register_bound(nn.GELU)
def _gelu(module, structure):
    # The slope of x Phi(x) is largest at sqrt 2: Phi(sqrt 2) + sqrt 2 phi(sqrt 2) = 1.128904145…;
    # that of the tanh approximation at 1.41850…: 1.128993068…
    steepest = {"none": 1.1289042, "tanh": 1.1289931}
    if module.approximate not in steepest:
        return infinite(f"GELU has no approximation {module.approximate!r}; 'none' or 'tanh'")
    return _same(steepest[module.approximate])


@register_bound(nn.SiLU)
def _silu(module, structure):
    return _same(1.0998394)  # 1.09983932…, at 2.3994…


@register_bound(nn.Sigmoid)
def _sigmoid(module, structure):
    return _same(0.25)


# ------------------------------------------------------------------------- feature norms


def _divided(gain: float, eps: float, what: str) -> Constant:
    r""":math:`g / \sqrt\epsilon`, of a norm that divides by no less than the root."""
    if not (eps > 0 and math.isfinite(gain)):
        return infinite(
            f"{what} with eps={eps:g} and a gain of {gain:g}: it needs eps > 0 and finite numbers, "
            "else what it divides by may be as small as one likes"
        )
    return _same(div_up(gain, down(math.sqrt(eps))))


@register_bound(PairNorm)
def _pair_norm(module, structure):
    r"""Centring has norm 1 (2 per node: it subtracts a mean). What follows divides by at least
    :math:`\sqrt\epsilon`; its derivative is tangential above the clamp and linear below it. In
    a block it sees the destination nodes."""
    steepest = _divided(abs(module.scale), module.eps, "PairNorm")
    if module.individually:
        return Constant(steepest.frobenius, 2 * steepest.per_node, steepest.reason)
    # One node's row can be sqrt(N) times as long as the root mean square of all.
    longest = add_up(1.0, sqrt_up(structure.num_dst))
    per_node = mul_up(2.0, steepest.per_node, longest)
    return Constant(steepest.frobenius, per_node, steepest.reason)


@register_bound(LayerNorm)
def _layer_norm(module, structure):
    return constant_of(module.norm, structure)


@register_bound(nn.LayerNorm)
def _torch_layer_norm(module, structure):
    r""":math:`\gamma c / (\lVert c \rVert^2 / F + \epsilon)^{1/2}`: steepest at c = 0."""
    if len(module.normalized_shape) != 1:
        return infinite("LayerNorm over several dimensions is not covered")
    gain = 1.0 if module.weight is None else module.weight.detach().double().abs().max().item()
    return _divided(gain, module.eps, "LayerNorm")


@register_bound(BatchNorm)
def _batch_norm(module, structure):
    return constant_of(module.norm, structure)


@register_bound(nn.BatchNorm1d)
def _torch_batch_norm(module, structure):
    if module.running_var is None:
        return infinite("BatchNorm without running statistics looks at all nodes")
    square = module.running_var.detach().to("cpu", torch.float64) + module.eps
    square = torch.nextafter(square, torch.zeros_like(square))
    gain = torch.ones_like(square)
    if module.weight is not None:
        gain = module.weight.detach().to("cpu", torch.float64).abs()
    if not ((square > 0) & square.isfinite() & gain.isfinite()).all():
        return infinite("BatchNorm divides by the root of a running variance + eps that is not > 0")
    return _same(div_up(gain, down(square.sqrt())).max().item())


@register_bound(NeighborNorm)
def _neighbor_norm(module, structure):
    return infinite(
        "NeighborNorm is not Lipschitz: it divides a feature by the spread of the neighbours', "
        "and the slope of that grows with the feature"
    )
