r"""How radii pass through a module: of what it computes in exact arithmetic, and in float64.

A radius here holds around the **computed** input of a module, and bounds how far both the exact
value and the value that float64 arithmetic gives lie from it, wherever the features are in their
own radius. docs/lipschitz.md, section 8.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, wraps

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from lipzoo.lipschitz.outward import longest
from lipzoo.lipschitz.rounding import gamma, up

__all__ = ["Passage", "Spread", "certain", "elementwise", "remembered", "times"]

#: Radii (N_src,) of the input's rows -> lengths (N_dst,) of the output's.
Spread = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Passage:
    r"""Of a module ``g`` and its float64 version :math:`\hat g` at the given features x.

    Parameters
    ----------
    move : Spread
        :math:`\lVert g(z)_i - g(x)_i \rVert` where each row of z is in its radius around x.
    steep : Spread
        :math:`\lVert g(z)_i - g(z')_i \rVert` for **any** z, z' whose rows are so far apart.
    rounding : Spread
        :math:`\lVert \hat g(z)_i - g(z)_i \rVert` where each row of z is in its radius around x.
    num_src : int
        Rows of x.
    """

    move: Spread
    steep: Spread
    rounding: Spread
    num_src: int

    @cached_property
    def still(self) -> Tensor:
        """The rounding at the given features themselves."""
        return self.rounding(torch.zeros(self.num_src, dtype=torch.float64))

    def spread(self, radius: Tensor) -> Tensor:
        r"""Radii around :math:`\hat g(x)` of both versions, (N_src,) -> (N_dst,)."""
        return self(torch.stack([radius, torch.zeros_like(radius)]))[0]

    def __call__(self, radii: Tensor) -> Tensor:
        """Radii, and how far the float64 version is from the exact one: (2, N) -> (2, N)."""
        radius, error = radii
        rounding = self.rounding(radius)
        moved = torch.minimum(certain(self.move(radius)), certain(self.steep(radius)))
        error = certain(self.steep(error)) + rounding
        return certain(up(torch.stack([moved + self.still + rounding, error]), 2))

    def then(self, outer: Passage) -> Passage:
        """Through this one, then ``outer``, whose features are what this one computed."""

        def rounding(radius: Tensor) -> Tensor:
            inner = certain(self.rounding(radius))
            return up(outer.steep(inner) + outer.rounding(self.spread(radius)), 1)

        return Passage(
            lambda radius: outer.steep(certain(self.move(radius))),
            lambda radius: outer.steep(certain(self.steep(radius))),
            rounding,
            self.num_src,
        )


def remembered(function: Callable) -> Callable:
    """A function of radii that keeps what it gave for as long as the radii live: movement and
    rounding ask for the same, one layer at a time."""
    known = WeakTensorKeyDictionary()

    @wraps(function)
    def once(radius: Tensor):
        if radius not in known:
            known[radius] = function(radius)
        return known[radius]

    return once


def certain(radius: Tensor) -> Tensor:
    """Where nothing is known, anything is possible."""
    return radius.nan_to_num(nan=torch.inf, posinf=torch.inf)


def times(constant: float, radius: Tensor) -> Tensor:
    """A constant times radii; a map that is constant moves nothing."""
    return (
        torch.where(radius == 0, 0.0, up(constant * radius))
        if constant
        else torch.zeros_like(radius)
    )


def elementwise(module: nn.Module, constant: float, feat: Tensor) -> Passage:
    r"""An activation. Each element is off by some units in the last place of itself or of 1:
    ELU and GELU subtract from 1 and add to it."""
    size, width = longest(feat), feat.shape[1] ** 0.5
    is_exact = isinstance(module, (nn.Identity, nn.ReLU))

    def rounding(radius: Tensor) -> Tensor:
        if is_exact:
            return torch.zeros_like(radius)
        return up(max(1.0, constant) * gamma(16) * (size + radius + width), 6)

    def move(radius: Tensor) -> Tensor:
        return times(constant, radius)

    return Passage(move, move, rounding, len(feat))
