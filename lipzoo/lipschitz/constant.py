"""A Lipschitz constant in the two norms that the bounds are kept in, and why it is infinite."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lipzoo.lipschitz.rounding import add_up, div_up, hypot_up, mul_up, sqrt_up, up
from lipzoo.nn.residual import Stretch

__all__ = ["ONE", "ZERO", "Constant", "infinite", "product"]

product = mul_up


@dataclass(frozen=True)
class Constant(Stretch):
    r"""Bounds on the Lipschitz constant of a map between node features.

    What is computed from several of them is rounded up, and nothing times infinity is nothing:
    a map that is constant moves nothing.

    Parameters
    ----------
    frobenius : float
        For :math:`\lVert X \rVert_F = (\sum_i \lVert x_i \rVert^2)^{1/2}`, over all nodes.
    per_node : float
        For :math:`\max_i \lVert x_i \rVert`: how far any node's output moves where each node's
        input moves by at most 1.
    reason : str
        Why a bound is infinite; empty where it is not.
    """

    frobenius: float
    per_node: float
    reason: str = ""

    def then(self, outer: Constant) -> Constant:
        """Of ``outer`` after this map."""
        return Constant(
            mul_up(self.frobenius, outer.frobenius),
            mul_up(self.per_node, outer.per_node),
            self.reason or outer.reason,
        )

    def __add__(self, other: Constant) -> Constant:
        """Of the sum of two maps of the same input."""
        if not isinstance(other, Constant):
            return NotImplemented
        return Constant(
            add_up(self.frobenius, other.frobenius),
            add_up(self.per_node, other.per_node),
            self.reason or other.reason,
        )

    def scaled(self, factor: float) -> Constant:
        """Of ``factor`` times this map."""
        size = abs(factor)
        return Constant(mul_up(size, self.frobenius), mul_up(size, self.per_node), self.reason)

    def mix(self, other: Constant, share: float) -> Constant:
        """Of ``(1 - share)`` times this map and ``share`` times another."""
        share = float(share)
        return self.scaled(up(abs(1 - share))) + other.scaled(share)

    @classmethod
    def side_by_side(cls, states: list[Constant]) -> Constant:
        """Of several maps of the same input, their outputs side by side."""
        return cls(
            hypot_up(*(m.frobenius for m in states)),
            hypot_up(*(m.per_node for m in states)),
            next((m.reason for m in states if m.reason), ""),
        )

    @classmethod
    def mean_of(cls, states: list[Constant]) -> Constant:
        """Of the mean of several maps of the same input."""
        total = states[0]
        for state in states[1:]:
            total = total + state
        number = len(states)
        return cls(div_up(total.frobenius, number), div_up(total.per_node, number), total.reason)

    def with_nodes(self, num_in: int, num_out: int) -> Constant:
        r"""Each of the two bounds the other, for a map from ``num_in`` nodes to ``num_out``.

        .. math::
            \lVert Y \rVert_F \le \sqrt{N_{out}} \, \lVert Y \rVert_\infty, \qquad
            \lVert X \rVert_F \le \sqrt{N_{in}} \, \lVert X \rVert_\infty

        and the maximum over the nodes is never above the Frobenius norm.
        """
        return Constant(
            min(self.frobenius, mul_up(sqrt_up(num_out), self.per_node)),
            min(self.per_node, mul_up(sqrt_up(num_in), self.frobenius)),
            self.reason,
        )

    @property
    def is_finite(self) -> bool:
        return math.isfinite(self.frobenius) and math.isfinite(self.per_node)


ONE, ZERO = Constant(1.0, 1.0), Constant(0.0, 0.0)


def infinite(reason: str) -> Constant:
    """No bound, and why."""
    return Constant(math.inf, math.inf, reason)
