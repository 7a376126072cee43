"""The ways to join states, of features and of what stands for them in a bound."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor

__all__ = ["State", "Stretch", "max_of", "mean_of", "mix", "side_by_side"]


class Stretch:
    """What stands for a state where a deep model is read for how far it can move: a Lipschitz
    constant, or the radii of the nodes. Subclasses say what the ways to join states do to it.
    """

    def __add__(self, other: Any) -> Any:
        return NotImplemented

    def mix(self, other: Any, share: float) -> Any:
        """Of ``(1 - share) a + share b``."""
        raise NotImplementedError

    @classmethod
    def side_by_side(cls, states: list) -> Any:
        """Of states beside each other; their elementwise maximum moves no further."""
        raise NotImplementedError

    @classmethod
    def mean_of(cls, states: list) -> Any:
        """Of the mean of several states."""
        raise NotImplementedError


#: Features (N, F), or what stands for them.
State = TypeVar("State", Tensor, Stretch)


def mix(a: State, b: State, share: float) -> State:
    """``(1 - share) a + share b``."""
    if not isinstance(a, Tensor):
        return a.mix(b, share)
    dtype = torch.promote_types(a.dtype, b.dtype)  # autocast may have cast one of them
    return torch.lerp(a.to(dtype), b.to(dtype), share)


def side_by_side(states: list[State]) -> State:
    """The states of each node in one row."""
    first = states[0]
    return torch.cat(states, dim=-1) if isinstance(first, Tensor) else first.side_by_side(states)


def mean_of(states: list[State]) -> State:
    """Their mean."""
    first = states[0]
    if not isinstance(first, Tensor):
        return first.mean_of(states)
    if len(states) == 2:  # the same to the last bit, without a copy of both
        return (first + states[1]) / 2
    return torch.stack(states).mean(0)


def max_of(states: list[State]) -> State:
    """Their elementwise maximum."""
    first = states[0]
    return torch.stack(states).amax(0) if isinstance(first, Tensor) else first.side_by_side(states)
