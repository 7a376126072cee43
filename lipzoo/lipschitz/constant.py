"""A Lipschitz constant in the two norms that the bounds are kept in, and why it is infinite."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["ONE", "ZERO", "Constant", "infinite", "product"]


def product(a: float, b: float) -> float:
    """``a b`` where nothing times infinity is nothing: a map that is constant moves nothing."""
    return 0.0 if a == 0 or b == 0 else a * b


@dataclass(frozen=True)
class Constant:
    r"""Bounds on the Lipschitz constant of a map between node features.

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
            product(self.frobenius, outer.frobenius),
            product(self.per_node, outer.per_node),
            self.reason or outer.reason,
        )

    def __add__(self, other: Constant) -> Constant:
        """Of the sum of two maps of the same input."""
        return Constant(
            self.frobenius + other.frobenius,
            self.per_node + other.per_node,
            self.reason or other.reason,
        )

    def scaled(self, factor: float) -> Constant:
        """Of ``factor`` times this map."""
        size = abs(factor)
        return Constant(product(size, self.frobenius), product(size, self.per_node), self.reason)

    @staticmethod
    def stacked(*maps: Constant) -> Constant:
        """Of several maps of the same input, their outputs side by side."""
        return Constant(
            math.hypot(*(m.frobenius for m in maps)),
            math.hypot(*(m.per_node for m in maps)),
            next((m.reason for m in maps if m.reason), ""),
        )

    def with_nodes(self, num_nodes: int) -> Constant:
        r"""Each of the two bounds the other: :math:`\max_i \le \lVert \cdot \rVert_F \le
        \sqrt N \max_i`."""
        root = math.sqrt(num_nodes)
        return Constant(
            min(self.frobenius, product(root, self.per_node)),
            min(self.per_node, product(root, self.frobenius)),
            self.reason,
        )

    @property
    def is_finite(self) -> bool:
        return math.isfinite(self.frobenius) and math.isfinite(self.per_node)


ONE, ZERO = Constant(1.0, 1.0), Constant(0.0, 0.0)


def infinite(reason: str) -> Constant:
    """No bound, and why."""
    return Constant(math.inf, math.inf, reason)
