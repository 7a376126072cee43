"""What a body is pretrained for: smoothed features from masked ones, and classes from few labels.

Both are asked in randomly rotated axes, anew in each step: no column of a graph's features means
what the same column of another graph means, so nothing may be learnt about one.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.pretraining.graphs import Sample
from lab.pretraining.recipe import Objective

__all__ = ["PretrainingHead", "pretraining_loss", "random_rotation"]


class PretrainingHead(nn.Module):
    """What is thrown away after pretraining: the decoder, and two scalars of the episodes.

    ``in_feats`` is the width of what the body gives, ``width`` that of the encoded features.
    """

    def __init__(self, in_feats: int, width: int) -> None:
        super().__init__()
        self.decoder = nn.Linear(in_feats, width)
        self.log_ridge = nn.Parameter(torch.tensor(0.0))
        self.log_scale = nn.Parameter(torch.tensor(2.3))


def random_rotation(width: int) -> Tensor:
    """An orthogonal matrix (width, width), uniform (Mezzadri, 2007), from PyTorch's generator."""
    q, r = torch.linalg.qr(torch.randn(width, width))
    return q * r.diagonal().sign()


def pretraining_loss(
    body: nn.Module, head: PretrainingHead, sample: Sample, objective: Objective
) -> Tensor:
    """The weighted sum of both terms on one sample, with masks, rotation and labels drawn anew."""
    rotation = random_rotation(sample.feat.shape[1])
    kept = torch.rand(len(sample.feat), 1) >= objective.mask_rate
    feat = (sample.feat @ rotation) * kept
    hidden = body.forward_features(sample.graph, torch.cat([feat, sample.structural], dim=1))
    loss = hidden.new_zeros(())
    if objective.reconstruction:
        loss = loss + objective.reconstruction * reconstruction_loss(
            head.decoder(hidden), sample.smoothed @ rotation
        )
    if objective.episodes and sample.labels is not None:
        loss = loss + objective.episodes * episode_loss(hidden, sample.labels, head, objective)
    return loss


def reconstruction_loss(found: Tensor, wanted: Tensor) -> Tensor:
    r"""Mean of :math:`1 - \cos(\hat z_i, z_i)` over all nodes, masked or not.

    GraphMAE's error (Hou et al., KDD 2022) with exponent 1, and smoothed features as the target.
    """
    return (1 - F.cosine_similarity(found, wanted)).mean()


def episode_loss(
    hidden: Tensor, labels: Tensor, head: PretrainingHead, objective: Objective
) -> Tensor:
    r"""Cross entropy of a ridge regression that is fitted on a few labels, at other nodes.

    .. math::
        W = Z_s^\top (Z_s Z_s^\top + \lambda I)^{-1} Y_s, \qquad
        \mathrm{logits} = \gamma \, Z_q W

    with rows of ``Z`` centred over the graph and of length 1. The body is trained through the
    solution: it learns features that few labels suffice for, on whatever classes.

    ``hidden`` (N, out) is what the body gives; ``labels`` (N,) are -1 where there is none.

    References
    ----------
    Bertinetto et al., "Meta-learning with differentiable closed-form solvers", ICLR 2019.
    """
    support, query = draw_episode(labels, objective.shots, objective.queries)
    classes, targets = labels[torch.cat([support, query])].unique(return_inverse=True)
    known, wanted = targets[: len(support)], targets[len(support) :]
    z = F.normalize(hidden - hidden.mean(0), dim=1)
    one_hot = F.one_hot(known, len(classes)).to(z.dtype)
    gram = z[support] @ z[support].T
    ridge = head.log_ridge.exp() * torch.eye(len(support), device=z.device)
    weight = z[support].T @ torch.linalg.solve(gram + ridge, one_hot - one_hot.mean(0))
    return F.cross_entropy(head.log_scale.exp() * (z[query] @ weight), wanted)


def draw_episode(labels: Tensor, shots: int, queries: int) -> tuple[Tensor, Tensor]:
    """Nodes whose labels are given, 1 to ``shots`` a class, and others that are asked for.

    No class gives more than half of its nodes, nor less than one; a class of one node is never
    asked for.
    """
    number = int(torch.randint(1, shots + 1, ()))
    support, rest = [], []
    for label in labels[labels >= 0].unique():
        nodes = (labels == label).nonzero().flatten()
        nodes = nodes[torch.randperm(len(nodes))]
        given = min(number, max(1, len(nodes) // 2))
        support.append(nodes[:given])
        rest.append(nodes[given:])
    others = torch.cat(rest)
    return torch.cat(support), others[torch.randperm(len(others))[:queries]]
