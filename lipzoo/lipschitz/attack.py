"""Attacks on the predicted class of nodes, to check certified radii: a search, then descent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lipzoo.lipschitz.outward import longest
from lipzoo.nn import AttentionConv

__all__ = ["Attack", "attack"]

#: Shares of the radius that each direction of the search is followed by, forwards and back.
_SHARES = (1.0, -1.0, 0.1, -0.1, 0.01, -0.01)


@dataclass(frozen=True)
class Attack:
    """What an attack found.

    Parameters
    ----------
    flipped : Tensor (M,)
        Which of the attacked nodes had another class at any step.
    margin : Tensor (M,)
        The smallest margin of each that was seen.
    feat : Tensor (N, F)
        Features where the smallest of these margins was seen.
    """

    flipped: Tensor
    margin: Tensor
    feat: Tensor = field(repr=False)


def attack(
    model: nn.Module,
    graph,
    feat: Tensor,
    nodes: Tensor | int,
    radius: float,
    *,
    steps: int = 20,
    step: float = 0.25,
    directions: int = 8,
    seed: int = 0,
) -> Attack:
    r"""Search along some directions, then descend on the margins of some nodes.

    .. math::
        \min_{X'} \sum_{i \in S} z_{i y_i}(X') - \max_{c \ne y_i} z_{ic}(X'), \quad
        \lVert x_k' - x_k \rVert \le r \; \forall k

    by normalised gradient steps of every row, from the best of what the search saw; nodes that
    have flipped no longer count. One node alone is attacked hardest. A margin has no slope where
    a softmax is saturated, so the search also follows the slopes of differences of single scores,
    single rows and single coordinates, by steps of several lengths in both senses.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode.
    graph : DGLGraph, Structure or any other graph
        The whole graph.
    feat : Tensor (N, F)
        Of the model's dtype; float64 leaves no doubt about rounding.
    nodes : int or Tensor (M,)
        Whose classes are to change.
    radius : float
        Of each row. No row leaves it, rounding included.
    steps, step : int, float
        Number of gradient steps, and their length relative to ``radius``.
    directions : int
        Number of directions that are searched first.
    seed : int
        Of what is random.

    References
    ----------
    Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018, for
    the descent.
    """
    nodes = torch.as_tensor(nodes, device=feat.device).view(-1)
    generator = torch.Generator().manual_seed(seed)
    seen = _Seen(model, graph, feat, nodes, float(radius))
    noise = torch.randn(feat.shape, generator=generator).to(feat)
    start = _rows_of_length(noise, radius) * torch.rand((), generator=generator).item()
    with torch.no_grad():
        seen.margins(start)
    for direction in _directions(seen, generator, directions):
        with torch.no_grad():
            for share in _SHARES:
                seen.margins(share * _rows_of_length(direction, radius))
    change = seen.best_change
    for _ in range(steps + 1):
        change = change.detach().requires_grad_()
        margin = seen.margins(change)
        (slope,) = torch.autograd.grad(margin[margin > 0].sum(), change)
        change = change - step * _rows_of_length(slope, radius)
        length = change.norm(dim=1, keepdim=True)
        change = change * (radius / length.clamp_min(torch.finfo(feat.dtype).tiny)).clamp_max(1)
    return Attack(seen.least < 0, seen.least, seen.best_feat)


class _Seen:
    """Margins at moved features, and the smallest that were seen."""

    def __init__(self, model: nn.Module, graph, feat: Tensor, nodes: Tensor, radius: float):
        self.model, self.graph, self.feat, self.nodes = model, graph, feat, nodes
        self.radius = radius
        with torch.no_grad():
            self.predicted = model(graph, feat)[nodes].argmax(1, keepdim=True)
        self.least = feat.new_full((len(nodes),), torch.inf)
        self.best_total = self.best_margin = torch.inf
        self.best_change, self.best_feat = torch.zeros_like(feat), feat

    def moved(self, change: Tensor) -> Tensor:
        """The features with each row that rounding keeps within the radius moved."""
        moved = self.feat + change
        inside = longest(moved.detach().double() - self.feat.double()) <= self.radius
        if not inside.all():
            moved = self.feat + change * (1 - 1e-12)
            inside = longest(moved.detach().double() - self.feat.double()) <= self.radius
        return torch.where(inside.unsqueeze(1), moved, self.feat)

    def margins(self, change: Tensor) -> Tensor:
        moved = self.moved(change)
        logits = self.model(self.graph, moved)[self.nodes]
        own = logits.gather(1, self.predicted).squeeze(1)
        margin = own - logits.scatter(1, self.predicted, -torch.inf).amax(1)
        held = margin.detach()
        self.least = torch.minimum(self.least, held)
        if held.clamp_min(0).sum().item() < self.best_total:
            self.best_total, self.best_change = held.clamp_min(0).sum().item(), change.detach()
        if held.numel() and held.min().item() < self.best_margin:
            self.best_margin, self.best_feat = held.min().item(), moved.detach()
        return margin


def _directions(seen: _Seen, generator: torch.Generator, count: int) -> Iterator[Tensor]:
    """(N, F) each: slopes of scores, all rows at random, one row, a coordinate of each row."""
    feat = seen.feat
    layers = [layer for layer in seen.model.modules() if isinstance(layer, AttentionConv)]
    for index in range(count):
        noise = torch.randn(feat.shape, generator=generator).to(feat)
        if index % 2 == 0 and layers:
            yield _slope_of_a_score(seen, layers, generator)
        elif index % 4 == 1:
            yield noise
        elif index % 4 == 3 and index % 8 == 3:
            chosen = seen.nodes[_draw(len(seen.nodes), generator)]
            row = torch.zeros_like(noise)
            row[chosen] = noise[chosen]
            yield row
        else:
            largest = noise.abs().amax(1, keepdim=True)
            yield torch.where(noise.abs() == largest, noise, 0.0)


def _slope_of_a_score(seen: _Seen, layers: list, generator: torch.Generator) -> Tensor:
    """Of the difference of two scores of a node, one of those that are attacked if it can be."""
    layer, found = layers[_draw(len(layers), generator)], []
    handle = layer.register_score_hook(
        lambda _, structure, scores: found.append((structure, scores))
    )
    try:
        moved = seen.feat.detach().clone().requires_grad_()
        with torch.enable_grad():
            seen.model(seen.graph, moved)
    finally:
        handle.remove()
    structure, scores = found[-1]
    node = seen.nodes[_draw(len(seen.nodes), generator)]
    edges = (structure.dst == node).nonzero().squeeze(1)
    if not edges.numel():
        return torch.zeros_like(seen.feat)
    head = _draw(scores.shape[-1], generator)
    first, second = (edges[_draw(len(edges), generator)] for _ in range(2))
    difference = scores[first, ..., head].sum()
    if first != second:
        difference = difference - scores[second, ..., head].sum()
    return torch.autograd.grad(difference, moved)[0]


def _draw(options: int, generator: torch.Generator) -> int:
    return int(torch.randint(options, (), generator=generator))


def _rows_of_length(x: Tensor, length: float) -> Tensor:
    size = x.norm(dim=1, keepdim=True)
    return torch.where(size > 0, x / size.clamp_min(torch.finfo(x.dtype).tiny) * length, 0.0)
