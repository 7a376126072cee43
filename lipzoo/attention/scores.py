"""How the score ``e_ij`` of an edge j→i comes about: additive, GATv2, dot product.

A score function holds the node tensors and says, in terms of a backend's operations, how they
become one number an edge and head. Score norms read the same tensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from lipzoo.attention.ops import Ops

__all__ = ["AdditiveScores", "DotProductScores", "GATv2Scores", "Scores"]


class Scores:
    """Base class: :meth:`compute` gives the scores, (E, *, H).

    Attributes
    ----------
    value : Tensor (N_src, *, H, D)
        What is aggregated, ``v_j``; score norms read its length.
    edge : Tensor (E, *, H, D) or None
        Projected features of the edges, ``w_ij``, in the order of the edges.
    edge_values : bool
        ``v_j + w_ij`` is aggregated instead.
    """

    value: Tensor
    edge: Tensor | None = None
    edge_values: bool = False

    def compute(self, ops: Ops) -> Tensor:
        raise NotImplementedError


@dataclass(frozen=True)
class AdditiveScores(Scores):
    """``e_ij = LeakyReLU(a_l·v_j + a_r·v_i + a_e·w_ij)`` (Veličković et al., ICLR 2018).

    Parameters
    ----------
    v_src : Tensor (N_src, *, H, D)
        Projected features of the source nodes, ``v_j``; also what is aggregated.
    v_dst : Tensor (N_dst, *, H, D) or None
        Projected features of the destination nodes, ``v_i``; None where these are the first
        ``N_dst`` source nodes.
    attn_l, attn_r : Tensor (1, H, D)
        Attention vectors of source and destination.
    negative_slope : float
        Slope of the LeakyReLU.
    with_own : bool
        Score norms look at a node's own projection ``v_i`` as well as at its neighbours', whether
        or not it has a self-loop.
    edge, edge_values
        See :class:`Scores`.
    attn_edge : Tensor (1, H, D), optional
        Attention vector ``a_e`` of the edges; there where ``edge`` is.
    """

    v_src: Tensor
    v_dst: Tensor | None
    attn_l: Tensor
    attn_r: Tensor
    negative_slope: float = 0.2
    with_own: bool = False
    edge: Tensor | None = None
    attn_edge: Tensor | None = None
    edge_values: bool = False

    @property
    def value(self) -> Tensor:
        return self.v_src

    def compute(self, ops: Ops) -> Tensor:
        own = self.own(ops.structure.num_dst)
        el = (self.v_src * self.attn_l).sum(-1)
        er = (own * self.attn_r).sum(-1)
        e = ops.u_add_v(el, er)
        if self.edge is not None:
            e = e + (self.edge * self.attn_edge).sum(-1)
        return F.leaky_relu(e, self.negative_slope)

    def own(self, num_dst: int) -> Tensor:
        """``v_i``, (N_dst, *, H, D)."""
        return self.v_src[:num_dst] if self.v_dst is None else self.v_dst


@dataclass(frozen=True)
class GATv2Scores(Scores):
    """``e_ij = a·LeakyReLU(v_j + t_i + w_ij)`` (Brody, Alon, Yahav, ICLR 2022).

    Parameters
    ----------
    v_src : Tensor (N_src, *, H, D)
        Projected features of the source nodes, ``v_j``; also what is aggregated.
    v_dst : Tensor (N_dst, *, H, D)
        Projected features of the destination nodes, ``t_i``.
    attn : Tensor (1, H, D)
        Attention vectors.
    negative_slope : float
        Slope of the LeakyReLU.
    edge, edge_values
        See :class:`Scores`.
    """

    v_src: Tensor
    v_dst: Tensor
    attn: Tensor
    negative_slope: float = 0.2
    edge: Tensor | None = None
    edge_values: bool = False
    with_own = True

    @property
    def value(self) -> Tensor:
        return self.v_src

    def compute(self, ops: Ops) -> Tensor:
        pair = ops.u_add_v(self.v_src, self.v_dst)
        if self.edge is not None:
            pair = pair + self.edge
        return (F.leaky_relu(pair, self.negative_slope) * self.attn).sum(-1)

    def own(self, num_dst: int) -> Tensor:
        """``t_i``, (N_dst, *, H, D)."""
        return self.v_dst


@dataclass(frozen=True)
class DotProductScores(Scores):
    """``e_ij = q_i·(k_j + w_ij) / sqrt(D)`` (Vaswani et al., 2017).

    Parameters
    ----------
    query : Tensor (N_dst, *, H, D)
        ``q_i``, of the destination nodes.
    key : Tensor (N_src, *, H, D)
        ``k_j``, of the source nodes.
    value : Tensor (N_src, *, H, D)
        ``v_j``, of the source nodes.
    edge, edge_values
        See :class:`Scores`.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    edge: Tensor | None = None
    edge_values: bool = False

    def compute(self, ops: Ops) -> Tensor:
        e = ops.u_dot_v(self.key, self.query)
        if self.edge is not None:
            e = e + (self.edge * ops.copy_v(self.query)).sum(-1)
        return e / self.query.shape[-1] ** 0.5
