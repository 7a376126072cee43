"""Feature norms: what is applied to node features between layers.

All are called as ``norm(graph, feat)`` with ``feat`` (N, F), so that a model need not know which
of them look at the neighbourhood. To write another one, subclass :class:`FeatureNorm` and register
its name, as here.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lipzoo._names import Registry
from lipzoo.attention import Structure, as_structure
from lipzoo.attention.exchange import Exchange
from lipzoo.errors import DataError

__all__ = [
    "FEATURE_NORMS",
    "BatchNorm",
    "FeatureNorm",
    "LayerNorm",
    "NeighborNorm",
    "PairNorm",
    "make_feature_norm",
]


class FeatureNorm(nn.Module):
    """Base class: constructed with the width ``num_feats``, called with graph and features."""

    def __init__(self, num_feats: int) -> None:
        super().__init__()
        self.num_feats = num_feats

    def forward(self, graph, feat: Tensor) -> Tensor:
        raise NotImplementedError


#: Names that YAML files and ``feature_norm=`` accept.
FEATURE_NORMS: Registry[FeatureNorm] = Registry("feature norm", "feature_norm", FeatureNorm)


@FEATURE_NORMS.register("pairnorm")
@FEATURE_NORMS.register("pairnorm_si", individually=True)
class PairNorm(FeatureNorm):
    r"""PairNorm: centre the features, then give them a fixed total length.

    .. math::
        \tilde x_i = x_i - \frac1N \sum_k x_k, \qquad
        x_i' = s \frac{\tilde x_i}{\sqrt{\frac1N \sum_k \lVert \tilde x_k \rVert^2}}

    ``individually=True`` is PairNorm-SI: each row is divided by its own length instead.

    Parameters
    ----------
    num_feats : int
        Width ``F``; not used, there are no parameters.
    scale : float
        ``s``.
    individually : bool
        Scale each node on its own.
    eps : float
        Smallest squared length that is divided by.

    References
    ----------
    Zhao, Akoglu, "PairNorm: Tackling Oversmoothing in GNNs", ICLR 2020, equations 10 and 11.
    """

    def __init__(
        self, num_feats: int, scale: float = 1.0, individually: bool = False, eps: float = 1e-12
    ) -> None:
        super().__init__(num_feats)
        self.scale, self.individually, self.eps = scale, individually, eps

    def forward(self, graph, feat: Tensor) -> Tensor:
        exchange = _exchange_of(graph)
        centred = feat - (feat.mean(0, keepdim=True) if exchange is None else exchange.mean(feat))
        square = centred.square().sum(-1, keepdim=True)
        if not self.individually:
            square = square.mean() if exchange is None else exchange.mean(square)
        # Clamped under the root, where the gradient of a zero row stays finite.
        return self.scale * centred / square.clamp_min(self.eps).sqrt()

    def extra_repr(self) -> str:
        return f"scale={self.scale:g}, individually={self.individually}"


@FEATURE_NORMS.register("layernorm")
class LayerNorm(FeatureNorm):
    """Layer normalisation over the features of each node (Ba, Kiros, Hinton, 2016)."""

    def __init__(self, num_feats: int, eps: float = 1e-5) -> None:
        super().__init__(num_feats)
        self.norm = nn.LayerNorm(num_feats, eps=eps)

    def forward(self, graph, feat: Tensor) -> Tensor:
        return self.norm(feat)


@FEATURE_NORMS.register("batchnorm")
class BatchNorm(FeatureNorm):
    """Batch normalisation of each feature over the nodes (Ioffe, Szegedy, ICML 2015)."""

    def __init__(self, num_feats: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__(num_feats)
        self.norm = nn.BatchNorm1d(num_feats, eps=eps, momentum=momentum)

    def forward(self, graph, feat: Tensor) -> Tensor:
        exchange, is_counting = _exchange_of(graph), self.norm.training  # it may be frozen alone
        if exchange is not None and is_counting:
            return self._over_all(exchange, feat)
        if is_counting and feat.shape[0] == 1:
            # One node has no spread; batch norm's limit there is its bias.
            return self.norm.bias.expand_as(feat)
        return self.norm(feat)

    def _over_all(self, exchange: Exchange, feat: Tensor) -> Tensor:
        """By the mean and variance over the nodes of all processes, which all take note of."""
        norm = self.norm
        mean = exchange.mean(feat)
        variance = exchange.mean((feat - mean).square())
        with torch.no_grad():
            number = float(exchange.summed(feat.new_tensor(feat.shape[0])))
            norm.num_batches_tracked += 1
            norm.running_mean.lerp_(mean[0], norm.momentum)
            norm.running_var.lerp_(variance[0] * (number / max(1.0, number - 1)), norm.momentum)
        return norm.weight * (feat - mean) / (variance + norm.eps).sqrt() + norm.bias


@FEATURE_NORMS.register("neighbornorm")
class NeighborNorm(FeatureNorm):
    r"""NeighborNorm: divide each feature by its spread over the neighbourhood.

    .. math::
        x_i' = s \frac{x_i}{\sigma_i}, \qquad
        \sigma_i^2 = \epsilon + \frac1{|N(i)|} \sum_{j \in N(i)} (x_j - \mu_i)^2, \quad
        \mu_i = \frac1{|N(i)|} \sum_{j \in N(i)} x_j

    per feature. A node without in-edges keeps its features. A model with this norm takes whole
    graphs only: the blocks of a sampler lack the neighbours of what a layer puts out.

    Parameters
    ----------
    num_feats : int
        Width ``F``; not used, there are no parameters.
    scale : float
        ``s``.
    eps : float
        Added to the variance: with few neighbours it can be zero.

    References
    ----------
    One of the baselines of Dasoulas et al., ICML 2021. Their code takes each neighbour's
    distance from *its own* neighbourhood mean; here it is the variance of the neighbourhood.
    """

    def __init__(self, num_feats: int, scale: float = 1.0, eps: float = 1e-2) -> None:
        super().__init__(num_feats)
        self.scale, self.eps = scale, eps

    def forward(self, graph, feat: Tensor) -> Tensor:
        s = as_structure(graph, feat=feat).to(feat.device)
        feat = s.widened(feat)
        if feat.shape[0] != s.num_src:
            raise DataError(
                f"NeighborNorm reads the neighbours: it needs the features of all {s.num_src} "
                f"source nodes, got {feat.shape[0]}; in a model, pass the whole graph, not blocks"
            )
        degree = s.in_degrees.clamp_min(1).unsqueeze(-1).to(feat.dtype)

        def mean_in(on_edge: Tensor) -> Tensor:
            total = on_edge.new_zeros(s.num_dst, on_edge.shape[-1])
            return total.index_add(0, s.dst, on_edge) / degree

        neighbour = feat[s.src]
        spread = mean_in((neighbour - mean_in(neighbour)[s.dst]).square())
        out = self.scale * feat[: s.num_dst] / (spread + self.eps).sqrt()
        return torch.where((s.in_degrees == 0).unsqueeze(-1), feat[: s.num_dst], out)

    def extra_repr(self) -> str:
        return f"scale={self.scale:g}, eps={self.eps:g}"


def _exchange_of(graph) -> Exchange | None:
    return graph.exchange if isinstance(graph, Structure) else None


def make_feature_norm(spec: str | Mapping | None, num_feats: int) -> FeatureNorm | None:
    """A feature norm of width ``num_feats`` from a name, ``{"name": …, **arguments}`` or ``None``.

    Raises
    ------
    ConfigError
        If the name or an argument is unknown.
    """
    return None if spec is None else FEATURE_NORMS.make(spec, num_feats)
