"""The few operations on edges that attention needs, once per backend.

``DGLOps`` is the readable definition: DGL's message passing and ``edge_softmax``. ``TorchOps``
uses gathers and ``index_add`` on index tensors only: it has derivatives of any order, works
under ``torch.func``, on any device and dtype, and can be exported.
"""

from __future__ import annotations

import os

import torch
from torch import Tensor

from lipzoo._dgl import find_dgl, need_dgl
from lipzoo._torch import is_exporting, is_transformed
from lipzoo.attention.structure import Structure
from lipzoo.errors import ConfigError, did_you_mean

__all__ = ["BACKENDS", "DGLOps", "Ops", "TorchOps", "make_ops", "resolve_backend"]


class Ops:
    """Operations on the edges of one structure; tensors are (N, *), (E, *).

    ``u`` is the source and ``v`` the destination of an edge, as in DGL.
    """

    def __init__(self, structure: Structure) -> None:
        self.structure = structure

    def u_add_v(self, u: Tensor, v: Tensor) -> Tensor:
        """``u[src] + v[dst]``: (N_src, *), (N_dst, *) -> (E, *)."""
        raise NotImplementedError

    def u_dot_v(self, u: Tensor, v: Tensor) -> Tensor:
        """``sum_d u[src] v[dst]``: (N_src, *, D), (N_dst, *, D) -> (E, *)."""
        raise NotImplementedError

    def copy_v(self, v: Tensor) -> Tensor:
        """``v[dst]``: (N_dst, *) -> (E, *)."""
        return v.index_select(0, self.structure.dst)

    def copy_u(self, u: Tensor) -> Tensor:
        """``u[src]``: (N_src, *) -> (E, *)."""
        return u.index_select(0, self.structure.src)

    def max_in(self, u: Tensor) -> Tensor:
        """Largest ``u[src]`` over the in-edges of each node, 0 where there are none.

        (N_src, *) -> (N_dst, *). The gradient goes to one in-edge that attains the maximum: the
        first, but for DGL's float32 kernel, which may take another. Where several nodes tie,
        the backends give different, equally valid subgradients.
        """
        raise NotImplementedError

    def max_edges(self, e: Tensor) -> Tensor:
        """Largest ``e`` over the in-edges of each node, as :meth:`max_in`: (E, *) -> (N_dst, *)."""
        raise NotImplementedError

    def sum_edges(self, e: Tensor) -> Tensor:
        """Sum of ``e`` over the in-edges of each node, (E, *) -> (N_dst, *)."""
        raise NotImplementedError

    def edge_softmax(self, e: Tensor) -> Tensor:
        """Softmax of the scores over the in-edges of each node, (E, *, H) -> (E, *, H)."""
        raise NotImplementedError

    def u_mul_e_sum(self, u: Tensor, weight: Tensor) -> Tensor:
        """``sum_j weight_ij u_j``: (N_src, *, H, D), (E, *, H) -> (N_dst, *, H, D)."""
        raise NotImplementedError


class DGLOps(Ops):
    """DGL's message passing."""

    def __init__(self, structure: Structure) -> None:
        super().__init__(structure)
        self.graph = structure.dgl_block
        self.ops = need_dgl("backend='dgl'").ops

    def u_add_v(self, u, v):
        return self.ops.u_add_v(self.graph, u, v)

    def u_dot_v(self, u, v):
        return self.ops.u_dot_v(self.graph, u, v).squeeze(-1)

    def max_in(self, u):
        if not self.structure.num_edges:
            return u.new_zeros(self.structure.num_dst, *u.shape[1:])
        return self._known(self.ops.copy_u_max(self.graph, u))

    def max_edges(self, e):
        if not self.structure.num_edges:
            return e.new_zeros(self.structure.num_dst, *e.shape[1:])
        return self._known(self.ops.copy_e_max(self.graph, e))

    def sum_edges(self, e):
        return self.ops.copy_e_sum(self.graph, e)

    def _known(self, largest: Tensor) -> Tensor:
        """DGL's maximum is -inf on nodes without in-edges."""
        lonely = (self.structure.in_degrees == 0).view(-1, *[1] * (largest.dim() - 1))
        return largest.masked_fill(lonely, 0)

    def edge_softmax(self, e):
        if not self.structure.num_edges:
            return e
        return _DGLSoftmax.apply(e, self)

    def u_mul_e_sum(self, u, weight):
        return self.ops.u_mul_e_sum(self.graph, u, weight.unsqueeze(-1))


class _DGLSoftmax(torch.autograd.Function):
    """DGL's ``edge_softmax`` with a derivative that can be differentiated: a double backward
    through its own is silently wrong on the CPU."""

    @staticmethod
    def forward(ctx, e, edges):
        weight = edges.ops.edge_softmax(edges.graph, e.unsqueeze(-1)).squeeze(-1)
        ctx.save_for_backward(weight)
        ctx.edges = edges
        return weight

    @staticmethod
    def backward(ctx, grad):
        (weight,) = ctx.saved_tensors
        of_edge = weight * grad
        return of_edge - weight * ctx.edges.copy_v(ctx.edges.sum_edges(of_edge)), None


class TorchOps(Ops):
    """Index tensors, gathers and ``index_add``."""

    def u_add_v(self, u, v):
        s = self.structure
        return u.index_select(0, s.src) + v.index_select(0, s.dst)

    def u_dot_v(self, u, v):
        s = self.structure
        return (u.index_select(0, s.src) * v.index_select(0, s.dst)).sum(-1)

    def max_in(self, u):
        s = self.structure
        if not s.num_edges:
            return u.new_zeros(s.num_dst, *u.shape[1:])
        with torch.no_grad():
            first, lonely = self._first_largest(u.detach()[s.src])
            winner = s.src[first]
        return u.gather(0, winner).masked_fill(lonely, 0)

    def max_edges(self, e):
        if not self.structure.num_edges:
            return e.new_zeros(self.structure.num_dst, *e.shape[1:])
        with torch.no_grad():
            first, lonely = self._first_largest(e.detach())
        return e.gather(0, first).masked_fill(lonely, 0)

    def _first_largest(self, on_edge: Tensor) -> tuple[Tensor, Tensor]:
        """The first in-edge of each node that attains the maximum, and where there is none."""
        s = self.structure
        top = self._segment_max(on_edge)
        position = torch.arange(s.num_edges, device=on_edge.device)
        position = position.view(-1, *[1] * (on_edge.dim() - 1))
        position = torch.where(on_edge == top[s.dst], position, s.num_edges)
        first = position.new_full((s.num_dst, *on_edge.shape[1:]), s.num_edges)
        first = first.scatter_reduce(0, self._expand(s.dst, position), position, "amin")
        return first.clamp(max=s.num_edges - 1), first == s.num_edges

    def edge_softmax(self, e):
        s = self.structure
        # A softmax does not change with the shift, so the shift needs no gradient.
        shifted = (e - self._segment_max(e.detach()).index_select(0, s.dst)).exp()
        return shifted / self.sum_edges(shifted).index_select(0, s.dst)

    def u_mul_e_sum(self, u, weight):
        s = self.structure
        return self.sum_edges(u.index_select(0, s.src) * weight.unsqueeze(-1))

    def sum_edges(self, e):
        s = self.structure
        return e.new_zeros(s.num_dst, *e.shape[1:]).index_add(0, s.dst, e)

    def _segment_max(self, on_edge: Tensor) -> Tensor:
        """Largest value over the in-edges of each node; -inf where there are none."""
        s = self.structure
        lowest = on_edge.new_full((s.num_dst, *on_edge.shape[1:]), -torch.inf)
        return lowest.scatter_reduce(0, self._expand(s.dst, on_edge), on_edge, "amax")

    @staticmethod
    def _expand(index: Tensor, like: Tensor) -> Tensor:
        return index.view(-1, *[1] * (like.dim() - 1)).expand_as(like)


class ExportOps(TorchOps):
    """For ``torch.export``: nothing that Python decides depends on values or on the number of
    edges. In-edges that tie for a maximum share its gradient."""

    def max_in(self, u):
        return self.max_edges(u.index_select(0, self.structure.src))

    def max_edges(self, e):
        top = self._segment_max(e)
        return top.masked_fill(top == -torch.inf, 0)


_OPS: dict[str, type[Ops]] = {"dgl": DGLOps, "torch": TorchOps}

#: Names that ``backend=`` accepts, beside ``"auto"``.
BACKENDS = ("dgl", "torch", "fused")


def resolve_backend(backend: str) -> str:
    """The backend that is asked for: ``"auto"`` where neither ``backend`` nor
    ``LIPZOO_BACKEND`` names one.

    Raises
    ------
    ConfigError
        If there is no backend of that name.
    """
    named_by = "backend"
    if backend == "auto":
        backend, named_by = os.environ.get("LIPZOO_BACKEND") or "auto", "LIPZOO_BACKEND"
    if backend not in (*BACKENDS, "auto"):
        hint = did_you_mean(backend, [*BACKENDS, "auto"])
        raise ConfigError(f"{named_by}: no backend {backend!r}{hint}")
    return backend


def make_ops(structure: Structure, backend: str, tensor: Tensor) -> Ops:
    """The operations on the edges of ``structure``, on the device of ``tensor``.

    Where ``backend`` is neither ``"dgl"`` nor ``"torch"``: DGL, where it is installed, on the CPU
    in float32 and float64, and torch everywhere else and inside transforms and tracing.
    """
    if is_exporting():
        return ExportOps(structure.to(tensor.device))
    if backend not in _OPS:
        suits_dgl = tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.float64)
        backend = "dgl" if suits_dgl and not is_transformed() and find_dgl() else "torch"
    return _OPS[backend](structure.to(tensor.device))
