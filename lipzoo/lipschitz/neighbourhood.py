r"""What a graph adds to the Lipschitz constant of attention over its edges.

Attention weights move with the features, but not freely: where scores lie in an interval of
length ``spread``, each row of the attention matrix ``P`` is a softmax of such scores. Everything
here is a bound over *all* such ``P``, rounded up. docs/lipschitz.md, section 3, has the proofs.

The spread enters as ``closeness``, :math:`e^{-\Delta}` rounded down: it goes to 0 where
:math:`e^\Delta` would overflow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lipzoo.attention import Structure
from lipzoo.lipschitz.rounding import div_up, down, exp_down, mul_up, sqrt_up, up

__all__ = ["Neighbourhood", "complete_neighbourhood", "neighbourhood_of"]

_ITERATIONS = 12
_FINEST = 2**30  # largest weight in Schur's test


@dataclass(frozen=True)
class Neighbourhood:
    r"""Bounds over all attention matrices ``P`` whose scores differ by at most ``spread``.

    Parameters
    ----------
    average : float
        Of :math:`\lVert P \rVert_2`.
    contrast : float
        Of :math:`\lVert P \odot (1 - P) \rVert_2`.
    column : float
        Of :math:`\max_j (\sum_i p_{ij})^{1/2}` over the nodes i with several in-edges.
    selection : float
        :math:`\sqrt\kappa`: the norm of a map that hands each of those nodes the features of one
        of its in-neighbours (``with_own``: or its own); :math:`\kappa` is the largest number of
        them that a node reaches.
    overlap : float
        Of :math:`\max_i \sum_j \max_h p_{ij}^{(h)}` over any number of heads ``h``.
    has_choice : bool
        Whether a node has several in-edges. Where none has, attention weights are constant.
    min_degree, max_degree, num_edges : int
        In-degrees, of the nodes that have any, and number of edges.
    candidates : int
        Most nodes that a selection chooses from.
    """

    average: float
    contrast: float
    column: float
    selection: float
    overlap: float
    has_choice: bool
    min_degree: int
    max_degree: int
    num_edges: int
    candidates: int


def neighbourhood_of(structure: Structure, spread: float, with_own: bool = False) -> Neighbourhood:
    """The bounds for a graph.

    Parameters
    ----------
    structure : Structure
        The edges attention runs over, self-loops included.
    spread : float
        Largest minus smallest score that a row of the attention can have.
    with_own : bool
        A selection may choose the node itself too, whether or not it has a self-loop.
    """
    if not structure.num_edges:
        return Neighbourhood(0.0, 0.0, 0.0, 0.0, 0.0, False, 1, 1, 0, 1)
    rows = _Rows(structure, spread)
    degree = structure.in_degrees[structure.in_degrees > 0]
    choice = (rows.degree > 1).double()
    return Neighbourhood(
        average=rows.norm(torch.ones_like(rows.largest), rows.largest),
        contrast=rows.norm(rows.others, rows.steepest),
        column=sqrt_up(rows.to_source(choice * rows.largest).max().item()),
        selection=sqrt_up(_widest_reach(structure, rows.degree > 1, with_own)),
        overlap=mul_up(rows.degree, rows.largest).max().item(),
        has_choice=bool(choice.any()),
        min_degree=int(degree.min()),
        max_degree=int(degree.max()),
        num_edges=structure.num_edges,
        candidates=int(degree.max()) + with_own,
    )


def complete_neighbourhood(num_tokens: int, spread: float, num_constant: int = 0) -> Neighbourhood:
    """The bounds where each of ``num_tokens`` tokens attends to all of them.

    Parameters
    ----------
    num_tokens : int
        Length of the sequence.
    spread : float
        See :func:`neighbourhood_of`.
    num_constant : int
        Keys that do not depend on the tokens, beside them.
    """
    keys = num_tokens + num_constant
    largest, others, steepest = (
        x.item() for x in _extremes(torch.tensor([keys]).double(), exp_down(-spread))
    )
    column = mul_up(num_tokens, largest)
    # Schur's test: rows sum to at most 1, columns to at most `column`.
    return Neighbourhood(
        average=sqrt_up(column),
        contrast=sqrt_up(mul_up(others, num_tokens, steepest)),
        column=sqrt_up(column) if keys > 1 else 0.0,
        selection=sqrt_up(num_tokens) if keys > 1 else 0.0,
        overlap=mul_up(keys, largest),
        has_choice=keys > 1,
        min_degree=keys,
        max_degree=keys,
        num_edges=num_tokens * keys,
        candidates=keys,
    )


def _extremes(degree: Tensor, closeness: float) -> tuple[Tensor, Tensor, Tensor]:
    """Largest ``p``, ``1 - p`` and ``p (1 - p)`` of an attention weight ``p`` among so many,
    at least 1; each alike."""
    others = degree - 1
    largest = div_up(1.0, down(1 + others * closeness, 3)).clamp_max(1)
    smallest = down(closeness / (others + closeness), 3)
    # With others, the smallest is at most a half, so 1/2 is between the two or above both.
    top = largest.clamp_max(0.5)
    rest, steepest = (
        torch.where(others == 0, 0.0, x) for x in (up(1 - smallest), up(top * (1 - top), 3))
    )
    return largest, rest.clamp_max(1), steepest


class _Rows:
    """Rows of the attention matrix: N_dst of them, one an in-neighbourhood."""

    def __init__(self, structure: Structure, spread: float) -> None:
        self.structure, self.closeness = structure, exp_down(-spread)
        self.degree = structure.in_degrees.double()
        #: Largest ``p``, ``1 - p`` and ``p (1 - p)`` of a row's attention weights.
        self.largest, self.others, self.steepest = _extremes(
            self.degree.clamp_min(1), self.closeness
        )

    def to_source(self, on_row: Tensor) -> Tensor:
        """``sum_i on_row_i`` over the out-edges j→i: (N_dst,) -> (N_src,)."""
        s = self.structure
        total = on_row.new_zeros(s.num_src).index_add(0, s.src, on_row[s.dst])
        return up(total, int(s.csr[0].diff().max()))

    def average_up_to(self, weight: Tensor) -> Tensor:
        r"""Largest :math:`\sum_j p_{ij} w_j` that the spread allows: (N_src,) -> (N_dst,).

        A ratio of linear functions of the :math:`e^{s_j}`: at its largest, those :math:`w_j`
        above a threshold have the largest score and the others the smallest. It grows with the
        spread, so that a closeness rounded down is safe. Weights are whole numbers, so that
        running sums over all edges are exact.
        """
        s = self.structure
        on_edge = weight[s.src]
        order = torch.argsort(on_edge, descending=True)
        order = order[torch.argsort(s.dst[order], stable=True)]
        dst, on_edge = s.dst[order], on_edge[order]
        degree = s.in_degrees
        end = torch.cumsum(degree, 0)
        start = end - degree
        running = torch.cumsum(on_edge, 0)
        running = torch.cat([running.new_zeros(1), running])
        total = running[end] - running[start]
        top = running[1:] - running[start][dst]
        rank = torch.arange(1, s.num_edges + 1) - start[dst]
        value = top.double() + self.closeness * (total[dst] - top).double()
        value = value / (rank.double() + self.closeness * (degree[dst] - rank).double())
        lowest = value.new_zeros(s.num_dst)
        return lowest.scatter_reduce(0, dst, up(value, 8), "amax")

    def norm(self, row_factor: Tensor, entry: Tensor) -> float:
        r"""Bound of :math:`\lVert M \rVert_2`, ``0 <= M <= diag(row_factor) P``, entries of row i
        at most ``entry_i``.

        Schur's test: for any w > 0 and u with :math:`M w \le u`, the squared norm is at most
        :math:`\max_j (M^\top u)_j / w_j`. Any w is valid; power iteration makes it a good one.
        """
        weight = torch.ones(self.structure.num_src, dtype=torch.int64)
        best, factor = math.inf, mul_up(entry, row_factor)
        for _ in range(_ITERATIONS):
            column = self.to_source(mul_up(factor, self.average_up_to(weight)))
            if not column.any():
                return 0.0
            best = min(best, div_up(column, weight.double()).max().item())
            last = weight
            weight = (column / column.max() * _FINEST).ceil().clamp_min(1).long()
            if weight.equal(last):
                break
        return sqrt_up(best)


def _widest_reach(structure: Structure, counted: Tensor, with_own: bool) -> int:
    """Most different counted nodes that one node has an edge to, or is itself."""
    edges = structure.src * structure.num_dst + structure.dst
    edges = edges[counted[structure.dst]]
    if with_own:
        own = torch.nonzero(counted).squeeze(1)
        edges = torch.cat([edges, own * structure.num_dst + own])
    edges = torch.unique(edges)
    if not edges.numel():
        return 0
    return int(torch.bincount(edges // structure.num_dst).max())
