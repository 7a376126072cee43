"""GATv2 layer, drop-in for ``dgl.nn.GATv2Conv``."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lipzoo.attention import GATv2Scores
from lipzoo.nn.conv import AttentionConv, Feat, projection
from lipzoo.nn.dropout import Dropout, rate_of

__all__ = ["GATv2Conv"]


class GATv2Conv(AttentionConv):
    r"""Graph attention with dynamic scores.

    .. math::
        h_i' = \sum_{j \in N(i)} p_{ij} W_{src} x_j, \quad
        p_{i\cdot} = \mathrm{softmax}_j(e_{ij}), \quad
        e_{ij} = a \cdot \mathrm{LeakyReLU}(W_{src} x_j + W_{dst} x_i)

    with the scores divided by ``score_norm`` where one is given. With edge features
    :math:`x_{ij}`, :math:`W_e x_{ij}` is added inside of the LeakyReLU. ``bias`` belongs to the
    two projections of nodes, as in DGL.

    Parameters
    ----------
    in_feats : int or pair of int
        Width ``F`` of the input; a pair gives source and destination nodes their own.
    out_feats : int
        Width ``D`` of the output per head.
    num_heads : int
        Number of heads ``H``.
    feat_drop, attn_drop : float
        Dropout of the input features and of the attention weights.
    negative_slope : float
        Slope of the LeakyReLU.
    residual : bool or "linear"
        Add the input (projected where widths differ) to the output; ``"linear"``: always through
        weights of its own.
    activation : callable, optional
        Applied to the output.
    allow_zero_in_degree : bool
        Do not raise on nodes without in-edges.
    bias : bool
        Give the projections a learnt bias.
    share_weights : bool
        Use one projection for source and destination.
    score_norm, backend, degree_norm, sep, edge_feats, edge_values
        See :class:`~lipzoo.nn.conv.AttentionConv`.
    identity_map : float, optional
        Share β of the learnt weight in ``(1-β) I + β W``; needs ``in_feats == H * D``.

    Shapes
    ------
    - feat: (N, F), or a pair (N_src, F_src), (N_dst, F_dst); edge_feat: (E, K)
    - output: (N_dst, H, D); attention (E, H, 1) with ``get_attention=True``

    Raises
    ------
    DGLError
        If a node has no in-edge and ``allow_zero_in_degree`` is false.
    DataError
        If the features, of nodes or edges, do not fit the graph or the layer.

    References
    ----------
    Brody, Alon, Yahav, "How Attentive are Graph Attention Networks?", ICLR 2022.
    """

    def __init__(
        self,
        in_feats: int | tuple[int, int],
        out_feats: int,
        num_heads: int,
        feat_drop: float = 0.0,
        attn_drop: float = 0.0,
        negative_slope: float = 0.2,
        residual: bool | str = False,
        activation=None,
        allow_zero_in_degree: bool = False,
        bias: bool = True,
        share_weights: bool = False,
        *,
        score_norm=None,
        backend: str = "auto",
        degree_norm: str = "none",
        identity_map: float | None = None,
        sep: bool = False,
        edge_feats: int = 0,
        edge_values: bool = False,
    ) -> None:
        super().__init__(
            in_feats,
            out_feats,
            num_heads,
            allow_zero_in_degree=allow_zero_in_degree,
            score_norm=score_norm,
            backend=backend,
            degree_norm=degree_norm,
            sep=sep,
            edge_feats=edge_feats,
            edge_values=edge_values,
        )
        width = num_heads * out_feats
        # DGL shares weights only where source and destination have the same width.
        self.share_weights = share_weights and not isinstance(in_feats, tuple)
        self.fc_src = projection(self.in_src_feats, width, bias, identity_map)
        self.fc_dst = (
            self.fc_src
            if self.share_weights
            else projection(self.in_dst_feats, width, bias, identity_map)
        )
        self.attn = nn.Parameter(torch.empty(1, num_heads, out_feats))
        self.feat_drop = Dropout(feat_drop)
        self.attn_drop = Dropout(attn_drop)
        self.leaky_relu = nn.LeakyReLU(negative_slope)
        self.res_fc = self._make_residual(residual, bias)
        self.activation = activation
        self.reset_parameters()

    def forward(
        self, graph, feat: Feat, get_attention: bool = False, edge_feat: Tensor | None = None
    ):
        """Apply the layer; see the class for shapes."""
        structure, h_src, h_dst = self._inputs(graph, feat)
        edge = self._edges(graph, structure, edge_feat, h_src)
        h_src = self.feat_drop(h_src)
        h_dst = self.feat_drop(h_dst) if isinstance(feat, tuple) else h_src[: structure.num_dst]
        v_src, arrived = structure.sending(self._split_heads(self.fc_src(h_src)))
        if self.share_weights and not isinstance(feat, tuple):
            v_dst = v_src[: structure.num_dst]
        else:
            v_dst = self._split_heads(self.fc_dst(h_dst))
        slope = self.leaky_relu.negative_slope
        scores = GATv2Scores(arrived(), v_dst, self.attn, slope, edge, self.edge_values)
        del v_src, v_dst, arrived  # or they would last until the layer is done
        out, weights = self._attend(
            structure, scores, rate_of(self.attn_drop), need_weights=get_attention
        )
        del scores
        return self._finish(structure, out, h_dst, weights)
