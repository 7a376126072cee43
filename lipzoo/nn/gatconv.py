"""GAT layer, drop-in for ``dgl.nn.GATConv``."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lipzoo.attention import AdditiveScores, Structure, as_structure
from lipzoo.nn.conv import AttentionConv, Feat, projection
from lipzoo.nn.dropout import Dropout, rate_of
from lipzoo.nn.edges import rows_attended

__all__ = ["GATConv"]


class GATConv(AttentionConv):
    r"""Graph attention with additive scores.

    .. math::
        h_i' = \sum_{j \in N(i)} p_{ij} W x_j + b, \quad
        p_{i\cdot} = \mathrm{softmax}_j(e_{ij}), \quad
        e_{ij} = \mathrm{LeakyReLU}(a_l \cdot W x_j + a_r \cdot W x_i)

    with the scores divided by ``score_norm`` where one is given. With edge features
    :math:`x_{ij}`, :math:`a_e \cdot W_e x_{ij}` is added inside of the LeakyReLU.

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
        Add a learnt bias.
    score_norm, backend, degree_norm, sep, edge_feats, edge_values
        See :class:`~lipzoo.nn.conv.AttentionConv`.
    identity_map : float, optional
        Share β of the learnt weight in ``(1-β) I + β W``; needs ``in_feats == H * D``.

    Shapes
    ------
    - feat: (N, *, F), or a pair (N_src, *, F_src), (N_dst, *, F_dst); edge_feat: (E, K)
    - output: (N_dst, *, H, D); attention (E, *, H, 1) with ``get_attention=True``

    Raises
    ------
    DGLError
        If a node has no in-edge and ``allow_zero_in_degree`` is false.
    DataError
        If the features, of nodes or edges, do not fit the graph or the layer.

    References
    ----------
    Veličković et al., "Graph Attention Networks", ICLR 2018. With ``score_norm=None`` it equals
    ``dgl.nn.GATConv`` on the same ``state_dict``; with ``edge_feats`` and ``edge_values`` too,
    ``dgl.nn.EdgeGATConv`` (without its residual).
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
        if isinstance(in_feats, tuple):
            self.fc_src = projection(self.in_src_feats, width, False, identity_map)
            self.fc_dst = projection(self.in_dst_feats, width, False, identity_map)
        else:
            self.fc = projection(in_feats, width, False, identity_map)
        self.attn_l = nn.Parameter(torch.empty(1, num_heads, out_feats))
        self.attn_r = nn.Parameter(torch.empty(1, num_heads, out_feats))
        self.feat_drop = Dropout(feat_drop)
        self.attn_drop = Dropout(attn_drop)
        self.leaky_relu = nn.LeakyReLU(negative_slope)
        # A linear residual brings its own bias (DGL's state_dict since 1.1).
        self.res_fc = self._make_residual(residual, bias)
        has_bias = bias and not isinstance(self.res_fc, nn.Linear)
        self.bias = nn.Parameter(torch.empty(width)) if has_bias else None
        self.activation = activation
        self.reset_parameters()

    def _make_edge_map(self, edge_feats: int) -> None:
        super()._make_edge_map(edge_feats)
        shape = (1, self.num_heads, self.out_feats)
        self.attn_edge = nn.Parameter(torch.empty(shape)) if edge_feats else None

    def forward(
        self,
        graph,
        feat: Feat,
        edge_weight: Tensor | None = None,
        get_attention=False,
        edge_feat: Tensor | None = None,
    ):
        """Apply the layer; see the class for shapes."""
        structure, h_src, h_dst = self._inputs(graph, feat)
        edge = self._edges(graph, structure, edge_feat, h_src)
        h_src, h_dst, v_src, v_dst = self._project(structure, h_src, h_dst, isinstance(feat, tuple))
        scores = AdditiveScores(
            v_src,
            v_dst,
            self.attn_l,
            self.attn_r,
            self.leaky_relu.negative_slope,
            with_own=self.sep,
            edge=edge,
            attn_edge=self.attn_edge,
            edge_values=self.edge_values,
        )
        if edge_weight is not None:
            edge_weight = rows_attended(edge_weight, as_structure(graph, feat=feat), structure)
        del v_src, v_dst  # or they would last until the layer is done
        out, weights = self._attend(
            structure, scores, rate_of(self.attn_drop), edge_weight, get_attention
        )
        del scores
        return self._finish(structure, out, h_dst, weights)

    def _project(self, structure: Structure, h_src: Tensor, h_dst: Tensor, is_pair: bool):
        """Dropout and projection; the nodes that source and destination share are done once."""
        if not is_pair:
            num_dst = h_dst.shape[0]
            # Dropped before they are sent: a node's row is the same to all who read it.
            h_src = self.feat_drop(h_src)
            value = structure.widened(self._split_heads(self.fc(h_src)))
            return h_src, h_src[:num_dst], value, None
        h_src, h_dst = self.feat_drop(h_src), self.feat_drop(h_dst)
        fc_src = self.fc_src if hasattr(self, "fc_src") else self.fc
        fc_dst = self.fc_dst if hasattr(self, "fc_dst") else self.fc
        return h_src, h_dst, self._split_heads(fc_src(h_src)), self._split_heads(fc_dst(h_dst))
