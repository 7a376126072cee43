"""A lower bound on the Lipschitz constant: the Jacobian's largest singular value at a point."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lipzoo._edges import check_tensors
from lipzoo._rows import row_chunks
from lipzoo.attention import as_structure
from lipzoo.errors import ConfigError, DataError
from lipzoo.lipschitz.blocks import in_blocks
from lipzoo.lipschitz.modules import hooked
from lipzoo.lipschitz.network import network_fault
from lipzoo.models import DeepAttentionNet
from lipzoo.nn import AttentionConv, Reversible

__all__ = ["Estimate", "estimate"]

#: Numbers on the edges of all layers (E * H * D * L) from which layers run piece by piece, and
#: again in the backward pass, instead of being kept: some 1 GiB.
_KEPT = 2**25


@dataclass(frozen=True)
class Estimate:
    """What was found; ``float(estimate)`` is the largest value.

    Parameters
    ----------
    value : float
        A lower bound on the Lipschitz constant in the Frobenius norm: the map's local constant at
        ``feat``, from below.
    history : list of float
        The value after each iteration of the power method, over all steps of the search.
    feat : Tensor (N, F)
        Where it was found.
    """

    value: float
    history: list[float] = field(repr=False)
    feat: Tensor = field(repr=False)

    def __float__(self) -> float:
        return self.value


def estimate(
    module: nn.Module,
    graph,
    feat: Tensor,
    *,
    iterations: int = 20,
    search: int = 0,
    step: float = 0.1,
    seed: int = 0,
    edge_feat: Tensor | None = None,
) -> Estimate:
    r"""The local Lipschitz constant at ``feat`` from below, and a search for a larger one.

    .. math::
        \lVert J \rVert_2 = \max_v \lVert J v \rVert / \lVert v \rVert, \qquad
        v \leftarrow J^\top J v / \lVert J^\top J v \rVert

    with Jacobian products only (``torch`` backend, float64, evaluation mode; the module itself is
    not touched). Each :math:`\lVert J v \rVert / \lVert v \rVert` is at most the global constant,
    so :func:`~lipzoo.lipschitz.bound` is not below it, but for what float64 rounds of this value:
    where a bound is exact, the last few of its 16 digits.

    Parameters
    ----------
    module : torch.nn.Module
        Called as ``module(graph, feat)``.
    graph : DGLGraph, Structure, any other graph, or list of blocks
        What it is applied to.
    feat : Tensor (N, F)
        The point.
    iterations : int
        Power iterations; a search does as many at the start, and 3 a step.
    search : int
        Steps of gradient ascent on the features, which raise
        :math:`\lVert J(x) v \rVert` with ``v`` held.
    step : float
        Length of the first step relative to that of the features; it shrinks where a step does
        not help.
    seed : int
        Of the first direction.
    edge_feat : Tensor (E, K), optional
        What is passed on as ``edge_feat=``; it stays as it is.

    Returns
    -------
    Estimate
        The best value and where it was found.

    Raises
    ------
    ConfigError
        If ``iterations`` is not positive.
    DataError
        If the features do not fit, or the output is not finite.
    """
    if iterations < 1 or search < 0:
        raise ConfigError(f"iterations must be >= 1 and search >= 0, got {iterations}, {search}")
    with torch.inference_mode(False):
        function = _Function(module, graph, feat, edge_feat)
        x = function.start
        direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)).to(x)
        history: list[float] = []
        best_value, direction = _power(function, x, direction, iterations, history)
        best_x = x
        for _ in range(search):
            slope = function.slope_of_stretch(best_x, direction)
            size = slope.norm()
            if not size.isfinite() or size == 0:
                break
            x = best_x + step * best_x.norm().clamp_min(1e-12) / size * slope
            value, found = _power(function, x, direction, 3, history)
            if value > best_value:
                best_value, best_x, direction = value, x, found
            else:
                step /= 2
        return Estimate(best_value, history, function.original(best_x))


def _power(function, x: Tensor, direction: Tensor, iterations: int, history: list[float]):
    """Largest stretch found at ``x``, and the direction it is reached in."""
    with function.at(x) as local:
        best_value, best = 0.0, direction
        for _ in range(iterations):
            direction, size = _unit(direction)
            if size == 0:  # the Jacobian is zero, as far as can be seen
                break
            moved, value = _unit(local.push(direction))
            if value > best_value:
                best_value, best = value, direction
            history.append(best_value)
            direction = local.pull(moved)
    return best_value, best


def _unit(x: Tensor) -> tuple[Tensor, float]:
    """``x`` over its length, and the length; no square overflows or underflows on the way."""
    largest = x.abs().max().item() if x.numel() else 0.0
    if largest == 0:
        return x, 0.0
    x = x / largest
    size = x.norm()
    return x / size, largest * size.item()


class _Function:
    """``x -> module(graph, x)`` in float64, on features as short as the first layer allows."""

    def __init__(
        self, module: nn.Module, graph, feat: Tensor, edge_feat: Tensor | None = None
    ) -> None:
        _check(module, feat)
        self.edges = {}
        if edge_feat is not None:
            self.edges["edge_feat"] = edge_feat.detach().to("cpu", torch.float64)
        self.feat, self.graph = feat.detach(), graph
        self.kind = feat.dtype if feat.is_floating_point() else torch.float32
        self.module = copy.deepcopy(module).cpu().double().eval().requires_grad_(False)
        for layer in self.module.modules():
            if isinstance(layer, AttentionConv):
                layer.backend = "torch"
        if isinstance(self.module, DeepAttentionNet):
            # What is kept is decided here.
            self.module.checkpoint_layers = False
            if isinstance(self.module.residual, Reversible):
                self.module.residual.keep_states = True
        self.basis = None
        self._shorten()
        self.start = self._short(self.feat)

    # A linear input layer W = U S V^T sees V^T x only. Features in the basis V have the same
    # lengths, and for Cora 64 columns instead of 1433.

    def _shorten(self) -> None:
        module = self.module
        if not isinstance(module, DeepAttentionNet) or type(module.input) is not nn.Linear:
            return
        if module.in_feats <= module.hidden_feats:
            return
        if hooked(module) or network_fault(module):
            return  # what reads the columns may be more than the input layer
        u, s, v = torch.linalg.svd(module.input.weight, full_matrices=False)
        short = nn.Linear(len(s), module.hidden_feats, dtype=torch.float64).requires_grad_(False)
        short.weight.copy_(u * s)
        short.bias = module.input.bias
        module.input, module.in_feats, self.basis = short, len(s), v.T.contiguous()

    def _short(self, feat: Tensor) -> Tensor:
        if self.basis is None:
            return feat.to("cpu", torch.float64)
        rows = [part.to("cpu", torch.float64) @ self.basis for part in feat.split(2**12)]
        return torch.cat(rows)

    def original(self, x: Tensor) -> Tensor:
        if x is self.start:
            return self.feat
        if self.basis is None:
            return x.to(self.feat.device, self.kind)
        return self.feat + ((x - self.start) @ self.basis.T).to(self.kind)

    def __call__(self, x: Tensor) -> Tensor:
        return self.module(self.graph, x, **self.edges)

    def at(self, x: Tensor) -> _Local:
        return _Local(self, x)

    def slope_of_stretch(self, x: Tensor, direction: Tensor) -> Tensor:
        r"""Gradient at ``x`` of :math:`\lVert J(x) v \rVert` with ``v`` held."""
        x = x.clone().requires_grad_()
        y = self(x)
        weight = torch.zeros_like(y, requires_grad=True)
        (pulled,) = torch.autograd.grad(y, x, weight, create_graph=True)
        (moved,) = torch.autograd.grad(pulled, weight, direction, create_graph=True)
        (slope,) = torch.autograd.grad(moved.norm(), x, allow_unused=True)
        return torch.zeros_like(x) if slope is None else slope.detach()


class _Local:
    """Products with the Jacobian at one point, and with its transpose."""

    def __init__(self, function: _Function, x: Tensor) -> None:
        self.function, self.x = function, x
        self.layers = [m for m in function.module.modules() if isinstance(m, AttentionConv)]

    def __enter__(self) -> _Local:
        function = self.function
        x = self.x.clone().requires_grad_()
        self.leaf = x
        self.kept = function(x) if self._size() <= _KEPT else None
        if self.kept is not None and not self.kept.isfinite().all():
            raise DataError("estimate: the module's output is not finite at these features")
        return self

    def __exit__(self, *error) -> None:
        self.kept = None

    def _size(self) -> int:
        graph, feat = self.function.graph, self.function.feat
        outermost = graph[0] if isinstance(graph, (list, tuple)) else graph
        structure = as_structure(outermost, feat=feat)
        return sum(structure.num_edges * c.num_heads * c.out_feats for c in self.layers)

    def push(self, v: Tensor) -> Tensor:
        """``J v``, by forward differentiation: nothing is kept."""
        with torch.no_grad(), self._in_blocks():
            return torch.func.jvp(self.function, (self.x,), (v,))[1]

    def pull(self, u: Tensor) -> Tensor:
        """``J^T u``."""
        if self.kept is not None:
            return torch.autograd.grad(self.kept, self.leaf, u, retain_graph=True)[0]
        with self._in_blocks():
            return torch.autograd.grad(self.function(self.leaf), self.leaf, u)[0]

    def _in_blocks(self):
        return nullcontext() if self.kept is not None else in_blocks(self.layers)


def _check(module: nn.Module, feat: Tensor) -> None:
    check_tensors(feat)
    if feat.is_complex() or feat.dim() < 2:
        raise DataError(
            f"estimate: features must be real numbers, (N, F); got {feat.dtype}, "
            f"{tuple(feat.shape)}"
        )
    if isinstance(module, DeepAttentionNet) and feat.shape[-1] != module.in_feats:
        raise DataError(
            f"estimate: features are {tuple(feat.shape)}; the model needs {module.in_feats} columns"
        )
    if not all(rows.isfinite().all() for rows in row_chunks(feat, feat.dtype)):
        raise DataError("estimate: the features hold NaN or infinity")
