"""Deep GAT and GATv2."""

from __future__ import annotations

from lipzoo.models.base import DeepAttentionNet
from lipzoo.nn import GATConv, GATv2Conv

__all__ = ["DeepGAT", "DeepGATv2"]


class DeepGAT(DeepAttentionNet):
    """Deep graph attention network: :class:`~lipzoo.nn.GATConv` layers.

    See :class:`~lipzoo.models.base.DeepAttentionNet` for arguments and shapes.
    """

    conv_class = GATConv


class DeepGATv2(DeepAttentionNet):
    """Deep GATv2: :class:`~lipzoo.nn.GATv2Conv` layers.

    See :class:`~lipzoo.models.base.DeepAttentionNet` for arguments and shapes.
    """

    conv_class = GATv2Conv
