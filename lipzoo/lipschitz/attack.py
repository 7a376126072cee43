"""Projected gradient attacks on the predicted class of nodes, to check certified radii."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

__all__ = ["Attack", "attack"]


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
        Features of the last step.
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
    seed: int = 0,
) -> Attack:
    r"""Projected gradient descent on the margins of some nodes.

    .. math::
        \min_{X'} \sum_{i \in S} z_{i y_i}(X') - \max_{c \ne y_i} z_{ic}(X'), \quad
        \lVert x_k' - x_k \rVert \le r \; \forall k

    by normalised gradient steps of every row from a random start; nodes that have flipped no
    longer count. One node alone is attacked hardest.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode.
    graph : DGLGraph or Structure
        The whole graph.
    feat : Tensor (N, F)
        Of the model's dtype; float64 leaves no doubt about rounding.
    nodes : int or Tensor (M,)
        Whose classes are to change.
    radius : float
        Of each row.
    steps, step : int, float
        Number of steps, and their length relative to ``radius``.
    seed : int
        Of the random start.

    References
    ----------
    Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018.
    """
    nodes = torch.as_tensor(nodes, device=feat.device).view(-1)
    with torch.no_grad():
        predicted = model(graph, feat)[nodes].argmax(1, keepdim=True)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(feat.shape, generator=generator).to(feat)
    change = _rows_of_length(noise, radius) * torch.rand((), generator=generator).item()
    least = feat.new_full((len(nodes),), torch.inf)
    for _ in range(steps + 1):
        moved = (feat + change).detach().requires_grad_()
        logits = model(graph, moved)[nodes]
        own = logits.gather(1, predicted).squeeze(1)
        margin = own - logits.scatter(1, predicted, -torch.inf).amax(1)
        least = torch.minimum(least, margin.detach())
        (slope,) = torch.autograd.grad(margin[margin > 0].sum(), moved)
        change = change - step * _rows_of_length(slope, radius)
        length = change.norm(dim=1, keepdim=True)
        change = change * (radius / length.clamp_min(torch.finfo(feat.dtype).tiny)).clamp_max(1)
    return Attack(least < 0, least, moved.detach())


def _rows_of_length(x: Tensor, length: float) -> Tensor:
    size = x.norm(dim=1, keepdim=True)
    return torch.where(size > 0, x / size.clamp_min(torch.finfo(x.dtype).tiny) * length, 0.0)
