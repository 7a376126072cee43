"""Residual schemes: how the layers of a deep model are joined.

A scheme says how wide the input of layer ``l`` is, what its input is, how its output is joined
with what came before, and what the head reads. To write another one, subclass
:class:`ResidualScheme` and register its name, as here.

The same four methods are read three ways: on features, by the forward pass; on Lipschitz
constants, by :func:`lipzoo.lipschitz.bound`; on radii, by :func:`lipzoo.lipschitz.robustness`. So
a scheme that joins states with ``+`` and the functions of :mod:`lipzoo.nn.joining` has its bounds
without another line. What else it does to a state works on features alone, and its bound is
infinite, with that reason.

The forward pass drops states that :meth:`ResidualScheme.read_later` leaves out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lipzoo._names import Registry
from lipzoo.errors import ConfigError, did_you_mean
from lipzoo.nn.joining import State, Stretch, max_of, mean_of, mix, side_by_side

__all__ = [
    "RESIDUAL_SCHEMES",
    "Dense",
    "InitialResidual",
    "JumpingKnowledge",
    "LinearResidual",
    "NoResidual",
    "Residual",
    "ResidualScheme",
    "Reversible",
    "Stretch",
    "make_residual",
    "max_of",
    "mean_of",
    "mix",
    "side_by_side",
]


class ResidualScheme(nn.Module):
    """Base class. ``states`` are ``[h_0, …, h_{l-1}]``, each (N, hidden_feats).

    Parameters
    ----------
    hidden_feats : int
        Width of the hidden features.
    num_layers : int
        Number ``L`` of attention layers.
    """

    def __init__(self, hidden_feats: int, num_layers: int) -> None:
        super().__init__()
        self.hidden_feats, self.num_layers = hidden_feats, num_layers

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        reads = ("input", "before_activation", "after_activation", "output", "next_state")
        if any(_place(cls, name) < _place(cls, "read_later") for name in reads):
            cls.read_later = ResidualScheme.read_later  # type: ignore[method-assign]

    def in_feats(self, layer: int) -> int:
        """Width of the input of layer ``layer`` (from 1)."""
        return self.hidden_feats

    def identity_map(self, layer: int) -> float | None:
        """Share of the learnt weight in layer ``layer``, ``None`` for a plain linear map."""
        return None

    def layer_residual(self, layer: int) -> bool | str:
        """``residual=`` of layer ``layer`` itself; see :class:`~lipzoo.nn.GATConv`."""
        return False

    @property
    def out_feats(self) -> int:
        """Width of what the head reads."""
        return self.hidden_feats

    def input(self, states: list[State]) -> State:
        """What the next layer reads."""
        return states[-1]

    def before_activation(self, out: State, states: list[State]) -> State:
        """Join a layer's output with the states, before feature norm and activation."""
        return out

    def after_activation(self, out: State, states: list[State]) -> State:
        """Join a layer's output with the states, after feature norm and activation."""
        return out

    def output(self, states: list[State]) -> State:
        """What the head reads, of all ``L + 1`` states."""
        return states[-1]

    def read_later(self, states: list[State]) -> list[State]:
        """What a pass still needs of the states so far: the methods above give the same of it.

        All of them, unless a class says otherwise. What it says is of its own methods: a subclass
        that writes one of them anew keeps all, or says it again.
        """
        return states

    def next_state(
        self,
        states: list[State],
        attend: Callable[[State], State],
        behind: Callable[[State], State],
        own: Callable[[State], State] = lambda state: state,
    ) -> State:
        """``h_l`` from ``[h_0, …, h_{l-1}]``.

        Parameters
        ----------
        states : list
            The states so far.
        attend : callable
            The attention layer.
        behind : callable
            Feature norm and activation.
        own : callable
            Takes a state of the nodes that the layer reads to that of the nodes it puts out, which
            in a block are some of them.
        """
        owned = [own(state) for state in states]
        # No names for what is in between: without gradients each goes when the next is there.
        return self.after_activation(
            behind(self.before_activation(attend(self.input(states)), owned)), owned
        )


def _place(cls: type, name: str) -> int:
    """Where a method comes from in the order in which it is looked for."""
    return next(place for place, base in enumerate(cls.__mro__) if name in vars(base))


#: Names that YAML files and ``residual=`` accept.
RESIDUAL_SCHEMES: Registry[ResidualScheme] = Registry("residual scheme", "residual", ResidualScheme)


@RESIDUAL_SCHEMES.register("none")
class NoResidual(ResidualScheme):
    """Layers in a row: ``h_l = act(conv(h_{l-1}))``."""

    def read_later(self, states):
        return states[-1:]


@RESIDUAL_SCHEMES.register("residual")
class Residual(ResidualScheme):
    """``h_l = act(conv(h_{l-1})) + h_{l-1}`` (He et al., CVPR 2016)."""

    def after_activation(self, out, states):
        return out + states[-1]

    def read_later(self, states):
        return states[-1:]


@RESIDUAL_SCHEMES.register("linear")
class LinearResidual(ResidualScheme):
    r"""A learnt linear map beside each layer, before feature norm and activation.

    .. math::
        h_l = \mathrm{act}\big(\mathrm{norm}(\mathrm{conv}_l(h_{l-1}) + W_l h_{l-1} + b_l)\big)

    The weights belong to the layer (``residual="linear"`` of :class:`~lipzoo.nn.GATConv`): they
    read the same dropped features, and start as those of ``nn.Linear``.

    References
    ----------
    Luo, Shi, Wu, "Classic GNNs are Strong Baselines", NeurIPS 2024, section 3.
    """

    def layer_residual(self, layer):
        return "linear"

    def read_later(self, states):
        return states[-1:]


@RESIDUAL_SCHEMES.register("initial")
class InitialResidual(ResidualScheme):
    r"""Initial residual with identity mapping.

    .. math::
        h_l = \mathrm{act}\big((1 - a) \, \mathrm{conv}_l(h_{l-1}) + a \, h_0\big), \qquad
        W_l \to (1 - \beta_l) I + \beta_l W_l, \quad \beta_l = \ln(\lambda / l + 1)

    Unlike in GCNII, :math:`h_0` does not pass through :math:`W_l`: an attention layer projects
    before it aggregates.

    Parameters
    ----------
    hidden_feats, num_layers : int
        See :class:`ResidualScheme`.
    initial : float
        Share ``a`` of the initial features in each layer.
    decay : float
        ``λ``: how fast the layers come to be the identity with depth.

    References
    ----------
    Chen et al., "Simple and Deep Graph Convolutional Networks", ICML 2020, equation 5.
    """

    def __init__(
        self, hidden_feats: int, num_layers: int, initial: float = 0.1, decay: float = 0.5
    ) -> None:
        super().__init__(hidden_feats, num_layers)
        if not 0 <= initial <= 1 or decay < 0:
            raise ConfigError(
                "residual 'initial': needs 0 <= initial <= 1 and decay >= 0, got "
                f"{initial} and {decay}"
            )
        self.initial, self.decay = initial, decay

    def identity_map(self, layer):
        return _identity_share(self.decay, layer)

    def before_activation(self, out, states):
        return mix(out, states[0], self.initial)

    def read_later(self, states):
        return [states[0], states[-1]]

    def extra_repr(self) -> str:
        return f"initial={self.initial:g}, decay={self.decay:g}"


@RESIDUAL_SCHEMES.register("reversible")
class Reversible(ResidualScheme):
    r"""Two streams in turn; each state follows from the two after it, so none need be kept.

    .. math::
        h_l = (1 - a) \, h_{l-2} + a \, f_l(h_{l-1}), \qquad
        h_{l-2} = \frac{h_l - a f_l(h_{l-1})}{1 - a}, \qquad
        h_{-1} = h_0, \quad (1 - a)^{L/2} = \text{kept}

    with :math:`f_l` attention, feature norm and activation; the head reads the mean of the last
    two states. Two layers are a block of RevNet, ``y1 = x1 + f(x2), y2 = x2 + g(y1)``, but for the
    shares, with which depth makes neither features nor Lipschitz constants grow. A model finds the
    states again in the backward pass: :mod:`lipzoo.models.reversible`.

    Parameters
    ----------
    hidden_feats, num_layers : int
        See :class:`ResidualScheme`.
    kept : float
        Share of the start that the streams carry to the end past all layers, in [0.01, 1). The way
        back divides by it: rounding grows to some ``u / kept^2``.
    decay : float, optional
        ``λ`` of the identity mapping, as in :class:`InitialResidual`; None: plain weights.
    keep_states : bool
        Keep all states for the backward pass all the same: for comparison.

    References
    ----------
    Gomez et al., "The Reversible Residual Network", NeurIPS 2017; Li et al., "Training Graph
    Neural Networks with 1000 Layers", ICML 2021.
    """

    def __init__(
        self,
        hidden_feats: int,
        num_layers: int,
        kept: float = 0.1,
        decay: float | None = None,
        keep_states: bool = False,
    ) -> None:
        super().__init__(hidden_feats, num_layers)
        if not 0.01 <= kept < 1:
            raise ConfigError(f"residual 'reversible': kept must be in [0.01, 1), got {kept}")
        if decay is not None and not 0 <= decay < math.inf:
            raise ConfigError(f"residual 'reversible': decay must be >= 0, got {decay}")
        if not isinstance(keep_states, bool):
            raise ConfigError(
                f"residual 'reversible': keep_states must be true or false, got {keep_states!r}"
            )
        self.kept, self.decay, self.keep_states = kept, decay, keep_states
        #: Of a layer's output in the next state, ``a``.
        self.share = -math.expm1(2 / num_layers * math.log(kept))

    def identity_map(self, layer):
        return None if self.decay is None else _identity_share(self.decay, layer)

    def after_activation(self, out, states):
        return mix(states[-2:][0], out, self.share)

    def state_before(self, state: Tensor, out: Tensor) -> Tensor:
        """``h_{l-2}`` from ``h_l`` and ``f_l(h_{l-1})``."""
        return mix(out, state, 1 / (1 - self.share))

    def output(self, states):
        return mean_of(states[-2:])

    def read_later(self, states):
        return states[-2:]

    def extra_repr(self) -> str:
        return f"kept={self.kept:g}, decay={self.decay}"


def _identity_share(decay: float, layer: int) -> float:
    """Of the learnt weight in a layer (GCNII)."""
    return min(1.0, math.log(decay / layer + 1))


@RESIDUAL_SCHEMES.register("dense")
class Dense(ResidualScheme):
    """Each layer, and the head, reads all states so far side by side (DenseNet; DeepGCNs).

    Li et al., "DeepGCNs: Can GCNs Go as Deep as CNNs?", ICCV 2019, section 3.3. The parameters
    grow with the square of the depth.
    """

    def in_feats(self, layer):
        return self.hidden_feats * layer

    @property
    def out_feats(self):
        return self.hidden_feats * (self.num_layers + 1)

    def input(self, states):
        return side_by_side(states)

    def output(self, states):
        return side_by_side(states)


@RESIDUAL_SCHEMES.register("jumping")
class JumpingKnowledge(ResidualScheme):
    """The head reads the outputs of all layers, joined by ``mode``.

    Parameters
    ----------
    hidden_feats, num_layers : int
        See :class:`ResidualScheme`.
    mode : {"max", "cat", "mean"}
        How they are joined.

    References
    ----------
    Xu et al., "Representation Learning on Graphs with Jumping Knowledge Networks", ICML 2018.
    """

    def __init__(self, hidden_feats: int, num_layers: int, mode: str = "max") -> None:
        super().__init__(hidden_feats, num_layers)
        if mode not in ("max", "cat", "mean"):
            hint = did_you_mean(mode, ["max", "cat", "mean"])
            raise ConfigError(f"residual 'jumping': no mode {mode!r}{hint}")
        self.mode = mode

    @property
    def out_feats(self):
        return self.hidden_feats * (self.num_layers if self.mode == "cat" else 1)

    def output(self, states):
        join = {"cat": side_by_side, "max": max_of, "mean": mean_of}[self.mode]
        return join(states[1:])

    def read_later(self, states):
        # A gradient is shared by all states that are the largest; without one, two are enough.
        if self.mode != "max" or len(states) < 4 or torch.is_grad_enabled():
            return states
        return [states[-1], max_of(states[1:]), states[-1]]

    def extra_repr(self) -> str:
        return f"mode={self.mode!r}"


def make_residual(spec: str | Mapping, hidden_feats: int, num_layers: int) -> ResidualScheme:
    """A residual scheme from a name or ``{"name": …, **arguments}``.

    Raises
    ------
    ConfigError
        If the name or an argument is unknown.
    """
    return RESIDUAL_SCHEMES.make(spec, hidden_feats, num_layers)
