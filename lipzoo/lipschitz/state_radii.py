"""Radii in place of the states of a deep model: what its residual scheme makes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lipzoo.lipschitz.outward import beyond, longest
from lipzoo.lipschitz.passage import certain
from lipzoo.lipschitz.rounding import gamma, up
from lipzoo.nn.residual import Stretch

__all__ = ["StateRadii", "Step", "rounded"]

#: Radii and rounding (2, N) of the input's rows -> the same of the output's.
Step = Callable[[Tensor], Tensor]


def rounded(radii: Tensor, size: Tensor, ops: int) -> Tensor:
    """Radii (2, N) of what some rounded operations give, of parts together ``size`` long."""
    reach = size + radii[0]
    return certain(up(radii + 2 * gamma(ops) * reach, 4) + beyond(reach))


@dataclass(frozen=True)
class StateRadii(Stretch):
    """Of a state, or of what a scheme makes of several.

    Parameters
    ----------
    radii : Tensor (2, N)
        How far from what was computed the exact and the float64 value can be, and how far these
        two can be from each other.
    size : Tensor (N,)
        No less than the length of what was computed.
    """

    radii: Tensor
    size: Tensor

    def through(self, step: Step, size: Tensor) -> StateRadii:
        """Behind a module, whose computed output is ``size`` long."""
        return StateRadii(step(self.radii), size)

    def __add__(self, other: StateRadii) -> StateRadii:
        if not isinstance(other, StateRadii):
            return NotImplemented
        size = up(self.size + other.size, 2)
        return StateRadii(rounded(self.radii + other.radii, size, 8), size)

    def mix(self, other: StateRadii, share: float) -> StateRadii:
        share = float(share)
        shares = abs(1 - share), abs(share)
        radii = shares[0] * self.radii + shares[1] * other.radii
        # A lerp adds a part of the difference of the two, whatever their shares are.
        parts = max(1.0, *shares) * (self.size + other.size + self.radii[0] + other.radii[0])
        size = up(shares[0] * self.size + shares[1] * other.size, 6)
        return StateRadii(rounded(radii, up(parts, 4), 8), size)

    @classmethod
    def side_by_side(cls, states: list[StateRadii]) -> StateRadii:
        return cls(
            longest(torch.stack([state.radii for state in states]), 0),
            longest(torch.stack([state.size for state in states]), 0),
        )

    @classmethod
    def mean_of(cls, states: list[StateRadii]) -> StateRadii:
        number = len(states)
        mean = up(torch.stack([state.radii for state in states]).mean(0), number + 1)
        sizes = up(sum(state.size for state in states), number)
        return cls(rounded(mean, sizes, number + 8), up(sizes / number))
