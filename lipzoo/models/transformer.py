"""Deep graph transformer."""

from __future__ import annotations

from lipzoo.models.base import DeepAttentionNet
from lipzoo.nn import TransformerConv

__all__ = ["DeepGraphTransformer"]


class DeepGraphTransformer(DeepAttentionNet):
    """Deep graph transformer: :class:`~lipzoo.nn.TransformerConv` layers.

    See :class:`~lipzoo.models.base.DeepAttentionNet` for arguments and shapes.
    """

    conv_class = TransformerConv
