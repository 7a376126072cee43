r"""What a graph adds to the Lipschitz constant of attention over its edges.

Attention weights move with the features, but not freely: where scores lie in an interval of
length ``spread``, each row of the attention matrix ``P`` is a softmax of such scores. Everything
here is a bound over *all* such ``P``. docs/lipschitz.md, section 3, has the proofs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lipzoo.attention import Structure

__all__ = ["Neighbourhood", "complete_neighbourhood", "neighbourhood_of"]

_ITERATIONS = 12
_FINEST = 2**30  # largest weight in Schur's test
_SLACK = 1 + 1e-9  # sums of positive float64 numbers


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
        of its in-neighbours; :math:`\kappa` is the largest number of them that a node reaches.
    overlap : float
        Of :math:`\max_i \sum_j \max_h p_{ij}^{(h)}` over any number of heads ``h``.
    has_choice : bool
        Whether a node has several in-edges. Where none has, attention weights are constant.
    min_degree, max_degree, num_edges : int
        In-degrees, of the nodes that have any, and number of edges.
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


def neighbourhood_of(structure: Structure, spread: float) -> Neighbourhood:
    """The bounds for a graph.

    Parameters
    ----------
    structure : Structure
        The edges attention runs over, self-loops included.
    spread : float
        Largest minus smallest score that a row of the attention can have.
    """
    rows = _Rows(structure, spread)
    if not structure.num_edges:
        return Neighbourhood(0.0, 0.0, 0.0, 0.0, 0.0, False, 1, 1, 0)
    degree = structure.in_degrees[structure.in_degrees > 0]
    choice = (rows.degree > 1).double()
    return Neighbourhood(
        average=rows.norm(torch.ones_like(rows.largest), rows.largest),
        contrast=rows.norm(1 - rows.smallest, rows.largest_spread),
        column=math.sqrt(rows.to_source(choice * rows.largest).max().item()) * _SLACK,
        selection=math.sqrt(_widest_reach(structure, rows.degree > 1)),
        overlap=(rows.degree * rows.largest).max().item(),
        has_choice=bool(choice.any()),
        min_degree=int(degree.min()),
        max_degree=int(degree.max()),
        num_edges=structure.num_edges,
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
    largest = 1 / (1 + (keys - 1) * math.exp(-spread))
    smallest = 1 / (1 + (keys - 1) * math.exp(spread))
    column = num_tokens * largest
    # Schur's test: rows sum to at most 1, columns to at most `column`.
    return Neighbourhood(
        average=math.sqrt(column) * _SLACK,
        contrast=math.sqrt((1 - smallest) * num_tokens * _spread(largest, smallest)) * _SLACK,
        column=math.sqrt(column) * _SLACK if keys > 1 else 0.0,
        selection=math.sqrt(num_tokens) if keys > 1 else 0.0,
        overlap=keys * largest,
        has_choice=keys > 1,
        min_degree=keys,
        max_degree=keys,
        num_edges=num_tokens * keys,
    )


def _spread(largest, smallest):
    """Largest ``p (1 - p)`` for p between the two."""
    if isinstance(largest, Tensor):
        top = torch.where(largest < 0.5, largest, torch.where(smallest > 0.5, smallest, 0.5))
    else:
        top = min(max(0.5, smallest), largest)
    return top * (1 - top)


class _Rows:
    """Rows of the attention matrix: N_dst of them, one an in-neighbourhood."""

    def __init__(self, structure: Structure, spread: float) -> None:
        self.structure, self.ratio = structure, math.exp(spread)
        self.degree = structure.in_degrees.double()
        others = (self.degree - 1).clamp_min(0)
        #: Smallest and largest attention weight that a row can hold.
        self.largest = 1 / (1 + others / self.ratio)
        self.smallest = 1 / (1 + others * self.ratio)
        self.largest_spread = _spread(self.largest, self.smallest)

    def to_source(self, on_row: Tensor) -> Tensor:
        """``sum_i on_row_i`` over the out-edges j→i: (N_dst,) -> (N_src,)."""
        s = self.structure
        return on_row.new_zeros(s.num_src).index_add(0, s.src, on_row[s.dst])

    def average_up_to(self, weight: Tensor) -> Tensor:
        r"""Largest :math:`\sum_j p_{ij} w_j` that the spread allows: (N_src,) -> (N_dst,).

        A ratio of linear functions of the :math:`e^{s_j}`: at its largest, those :math:`w_j`
        above a threshold have the largest score and the others the smallest. Weights are whole
        numbers, so that running sums over all edges are exact.
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
        value = (self.ratio - 1) * top.double() + total[dst]
        value = value / ((self.ratio - 1) * rank.double() + degree[dst])
        lowest = value.new_zeros(s.num_dst)
        return lowest.scatter_reduce(0, dst, value, "amax")

    def norm(self, row_factor: Tensor, entry: Tensor) -> float:
        r"""Bound of :math:`\lVert M \rVert_2`, ``0 <= M <= diag(row_factor) P``, entries of row i
        at most ``entry_i``.

        Schur's test: for any w > 0 and u with :math:`M w \le u`, the squared norm is at most
        :math:`\max_j (M^\top u)_j / w_j`. Any w is valid; power iteration makes it a good one.
        """
        weight = torch.ones(self.structure.num_src, dtype=torch.int64)
        best = math.inf
        for _ in range(_ITERATIONS):
            column = self.to_source(entry * row_factor * self.average_up_to(weight))
            if not column.any():
                return 0.0
            best = min(best, (column / weight).max().item())
            weight = (column / column.max() * _FINEST).ceil().clamp_min(1).long()
        return math.sqrt(best) * _SLACK


def _widest_reach(structure: Structure, counted: Tensor) -> int:
    """Most different counted nodes that one node has an edge to."""
    edges = structure.src * structure.num_dst + structure.dst
    edges = torch.unique(edges[counted[structure.dst]])
    if not edges.numel():
        return 0
    return int(torch.bincount(edges // structure.num_dst).max())
