"""What is held against a bound: the operator norms of a Jacobian, and slopes of an activation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from unittest import mock

import torch
from torch import Tensor, nn

from lipzoo.attention import Structure
from lipzoo.lipschitz import Bound, bound
from lipzoo.lipschitz.modules import constant_of
from lipzoo.nn import LipschitzMultiheadAttention
from lipzoo.nn.feature_norms import FeatureNorm

__all__ = ["Case", "Slope", "jacobian", "local_constants"]


@dataclass(frozen=True)
class Case:
    """A module in float64, what it is applied to, and the point.

    Parameters
    ----------
    kind : str
        For the log, such as ``"GATConv"`` or ``"DeepGAT dense"``.
    module : torch.nn.Module
        Called as ``module(graph, feat)``; multi-head attention with its tokens.
    graph : Structure, list of Structure, or int
        The edges, the blocks, or the number of tokens.
    feat : Tensor (N, F)
        Float64.
    heads : {"concat", "mean"}
        How the heads of a layer are joined.
    edge_weight : Tensor (E,), optional
        Of a GAT layer.
    edge_feat : Tensor (E, K), optional
        Features of the edges, which stay.
    """

    kind: str
    module: nn.Module
    graph: Structure | list[Structure] | int
    feat: Tensor
    heads: str = "concat"
    edge_weight: Tensor | None = None
    edge_feat: Tensor | None = None

    def bound(self) -> Bound:
        return bound(self.module, self.graph, self.heads, self.edge_weight)

    def arguments(self, x: Tensor) -> tuple[tuple, dict]:
        """Of the module's call."""
        if isinstance(self.module, LipschitzMultiheadAttention):
            return (x, x, x), {"need_weights": False}
        edges = {"edge_weight": self.edge_weight, "edge_feat": self.edge_feat}
        return (self.graph, x), {key: row for key, row in edges.items() if row is not None}

    def rows(self, out) -> Tensor:
        """What the module returned, (N_out, D)."""
        if isinstance(self.module, LipschitzMultiheadAttention):
            return out[0]
        return (out.mean(1) if self.heads == "mean" else out).flatten(1)

    def __call__(self, x: Tensor) -> Tensor:
        args, named = self.arguments(x)
        return self.rows(self.module(*args, **named))

    def has_choice(self) -> bool:
        """Whether each node has several in-edges; else attention may be linear and its bound
        exact, which shows nothing."""
        if isinstance(self.graph, int):
            return self.graph > 1
        blocks = self.graph if isinstance(self.graph, list) else [self.graph]
        degrees = [block.in_degrees for block in blocks]
        is_norm = isinstance(self.module, FeatureNorm)
        return not is_norm and all(d.numel() > 0 and bool(d.min() > 1) for d in degrees)

    @cached_property
    def limit(self) -> Bound:
        return self.bound()

    def ratios(self) -> tuple[float, float]:
        """Local constant over bound, in the Frobenius norm and per node; at most 1."""
        frobenius, per_node = local_constants(jacobian(self))
        return _ratio(frobenius, self.limit.frobenius), _ratio(per_node, self.limit.per_node)

    def far_ratios(self, other: Tensor) -> tuple[float, float]:
        """The same for how far the output moves between two points, which shows jumps too; what
        float64 may have rounded is taken off."""
        with torch.no_grad():
            ends = self(self.feat), self(other)
        inputs, outputs = _lengths(self.feat, other), _lengths(*ends)
        found = []
        for norm in (torch.linalg.vector_norm, torch.max):
            change, moved, *sizes = (norm(rows).item() for rows in (*inputs[:1], *outputs))
            limit = self.limit.frobenius if norm is not torch.max else self.limit.per_node
            noise = 1e-12 * sum(sizes) + 1e-13 * limit * sum(norm(x).item() for x in inputs[1:])
            found.append(_ratio(max(moved - noise, 0.0), limit * change))
        return found[0], found[1]


def _lengths(x: Tensor, y: Tensor) -> list[Tensor]:
    """Of the rows of y - x, of x and of y; (N,) each."""
    if not x.numel():
        return [x.new_zeros(1)] * 3
    return [rows.norm(dim=1) for rows in (y - x, x, y)]


def _ratio(found: float, limit: float) -> float:
    """0 over 0 is 0; what is not a number stays so."""
    if limit == 0:
        return 0.0 if found == 0 else float("inf")
    return found / limit


def jacobian(case: Case) -> Tensor:
    """All of it, (N_out, D_out, N, F)."""
    with torch.no_grad(), mock.patch.object(nn.CELU, "forward", _celu):
        return torch.func.jacrev(case)(case.feat)


def _celu(self: nn.CELU, x: Tensor) -> Tensor:
    """PyTorch's derivative of CELU reads alpha in float32, and is up to 1 + 6e-8; the slope of what
    it computes is at most 1."""
    return torch.where(x > 0, x, self.alpha * torch.expm1(x.clamp(max=0) / self.alpha))


def local_constants(matrix: Tensor) -> tuple[float, float]:
    """Operator norms of a Jacobian (N_out, D_out, N, F): Frobenius, and per node from below."""
    rows, width = matrix.shape[:2]
    if not matrix.numel():
        return 0.0, 0.0
    # In units of the largest entry: no square overflows.
    size = matrix.abs().max()
    if size == 0 or not size.isfinite():
        return size.item(), size.item()
    matrix = matrix / size
    frobenius = torch.linalg.svdvals(matrix.reshape(rows * width, -1))[0]
    # sup over ||x_j|| <= 1 of ||sum_j J_ij x_j||: alternate between the output's direction and
    # the inputs that move it most, for all outputs i at once.
    direction = matrix.sum((2, 3)) + 1e-3
    per_node = torch.zeros((), dtype=matrix.dtype)
    for _ in range(12):
        direction = direction / direction.norm(dim=1, keepdim=True).clamp_min(1e-300)
        pulled = torch.einsum("id,idjf->ijf", direction, matrix)
        moved = pulled / pulled.norm(dim=2, keepdim=True).clamp_min(1e-300)
        direction = torch.einsum("idjf,ijf->id", matrix, moved)
        per_node = torch.maximum(per_node, direction.norm(dim=1).max())
    return (frobenius * size).item(), (per_node * size).item()


@dataclass(frozen=True)
class Slope:
    """An activation, and points from which it is followed over steps of every size: a jump, which
    no derivative shows, is the steeper the smaller the step.

    Parameters
    ----------
    kind : str
        For the log.
    module : torch.nn.Module
        Elementwise.
    points : Tensor (n,)
        Float64.
    """

    kind: str
    module: nn.Module
    points: Tensor

    def ratios(self) -> tuple[float, float]:
        """Steepest slope over constant, twice; at most 1."""
        limit = constant_of(self.module, Structure(*torch.zeros(2, 0).long(), 0, 0))
        found = 0.0
        for step in (1e-1, 1e-3, 1e-6, 1e-9, 1e-12):
            near, far = self.points - step / 2, self.points + step / 2
            ends = self.module(near), self.module(far)
            # What float64 may have rounded of either, and of the points.
            noise = 1e-15 * (ends[0].abs() + ends[1].abs() + near.abs() + far.abs() + 1)
            steepest = ((ends[1] - ends[0]).abs() - noise) / (far - near)
            found = max(found, steepest.nan_to_num(0.0).max().item())
        return _ratio(found, limit.frobenius), _ratio(found, limit.per_node)

    def has_choice(self) -> bool:
        return True
