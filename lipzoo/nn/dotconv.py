"""Layers with dot-product scores: ``DotGatConv`` (DGL's) and ``TransformerConv``."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lipzoo.attention import DotProductScores
from lipzoo.nn.conv import AttentionConv, Feat, projection
from lipzoo.nn.dropout import Dropout, rate_of

__all__ = ["DotGatConv", "TransformerConv"]


class DotGatConv(AttentionConv):
    r"""Dot-product attention with one projection, drop-in for ``dgl.nn.DotGatConv``.

    .. math::
        h_i' = \sum_{j \in N(i)} \mathrm{softmax}_j(e_{ij}) W x_j, \quad
        e_{ij} = (W x_i) \cdot (W x_j) / \sqrt D

    Parameters
    ----------
    in_feats : int or pair of int
        Width ``F`` of the input; a pair gives source and destination nodes their own.
    out_feats : int
        Width ``D`` of the output per head.
    num_heads : int
        Number of heads ``H``.
    allow_zero_in_degree : bool
        Do not raise on nodes without in-edges.
    score_norm, backend, degree_norm
        See :class:`~lipzoo.nn.conv.AttentionConv`.

    Shapes
    ------
    - feat: (N, F), or a pair (N_src, F_src), (N_dst, F_dst)
    - output: (N_dst, H, D); attention (E, H, 1) with ``get_attention=True``

    Raises
    ------
    DGLError
        If a node has no in-edge and ``allow_zero_in_degree`` is false.
    DataError
        If the features do not fit the graph or the layer.
    """

    lipschitz_norm = "dot_lipschitz"

    def __init__(
        self,
        in_feats: int | tuple[int, int],
        out_feats: int,
        num_heads: int,
        allow_zero_in_degree: bool = False,
        *,
        score_norm=None,
        backend: str = "auto",
        degree_norm: str = "none",
    ) -> None:
        super().__init__(
            in_feats,
            out_feats,
            num_heads,
            allow_zero_in_degree=allow_zero_in_degree,
            score_norm=score_norm,
            backend=backend,
            degree_norm=degree_norm,
        )
        width = num_heads * out_feats
        if isinstance(in_feats, tuple):
            self.fc_src = nn.Linear(self.in_src_feats, width, bias=False)
            self.fc_dst = nn.Linear(self.in_dst_feats, width, bias=False)
        else:
            self.fc = nn.Linear(in_feats, width, bias=False)

    def forward(self, graph, feat: Feat, get_attention: bool = False):
        """Apply the layer; see the class for shapes."""
        structure, h_src, h_dst = self._inputs(graph, feat)
        fc_src = self.fc_src if hasattr(self, "fc_src") else self.fc
        fc_dst = self.fc_dst if hasattr(self, "fc_dst") else self.fc
        key = value = structure.widened(self._split_heads(fc_src(h_src)))
        shared = fc_src is fc_dst and not isinstance(feat, tuple)
        query = key[: structure.num_dst] if shared else self._split_heads(fc_dst(h_dst))
        scores = DotProductScores(query, key, value)
        del query, key, value  # or they would last until the layer is done
        out, weights = self._attend(structure, scores, need_weights=get_attention)
        del scores
        return self._finish(structure, out, h_dst, weights)


class TransformerConv(AttentionConv):
    r"""Dot-product attention with queries, keys and values of their own (graph transformer).

    .. math::
        h_i' = \sum_{j \in N(i)} \mathrm{softmax}_j(e_{ij}) V x_j + b, \quad
        e_{ij} = (Q x_i) \cdot (K x_j) / \sqrt D

    with the scores divided by ``score_norm`` where one is given. With edge features
    :math:`x_{ij}`, the keys are :math:`K x_j + W_e x_{ij}`.

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
    residual : bool or "linear"
        Add the input (projected where widths differ) to the output; ``"linear"``: always through
        weights of its own.
    activation : callable, optional
        Applied to the output.
    allow_zero_in_degree : bool
        Do not raise on nodes without in-edges.
    bias : bool
        Add a learnt bias to the output.
    score_norm, backend, degree_norm, sep, edge_feats, edge_values
        See :class:`~lipzoo.nn.conv.AttentionConv`.
    identity_map : float, optional
        Share β of the learnt weight in the value projection ``(1-β) I + β V``; needs
        ``in_feats == H * D``.

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
    Vaswani et al., "Attention Is All You Need", 2017, over the in-neighbours of a graph.
    """

    lipschitz_norm = "dot_lipschitz"

    def __init__(
        self,
        in_feats: int | tuple[int, int],
        out_feats: int,
        num_heads: int,
        feat_drop: float = 0.0,
        attn_drop: float = 0.0,
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
        self.fc_query = nn.Linear(self.in_dst_feats, width, bias=False)
        self.fc_key = nn.Linear(self.in_src_feats, width, bias=False)
        self.fc_value = projection(self.in_src_feats, width, False, identity_map)
        self.feat_drop = Dropout(feat_drop)
        self.attn_drop = Dropout(attn_drop)
        self.res_fc = self._make_residual(residual, bias=False)
        self.bias = nn.Parameter(torch.empty(width)) if bias else None
        self.activation = activation
        self.reset_parameters()

    def _gain(self, name: str) -> float:
        return 1.0 if name.startswith(("fc_query", "fc_key", "fc_edge")) else super()._gain(name)

    def forward(
        self, graph, feat: Feat, get_attention: bool = False, edge_feat: Tensor | None = None
    ):
        """Apply the layer; see the class for shapes."""
        structure, h_src, h_dst = self._inputs(graph, feat)
        edge = self._edges(graph, structure, edge_feat, h_src)
        h_src = self.feat_drop(h_src)
        h_dst = self.feat_drop(h_dst) if isinstance(feat, tuple) else h_src[: structure.num_dst]
        _, value = structure.sending(self._split_heads(self.fc_value(h_src)))
        _, key = structure.sending(self._split_heads(self.fc_key(h_src)))
        query = self._split_heads(self.fc_query(h_dst))
        scores = DotProductScores(query, key(), value(), edge, self.edge_values)
        del query, key, value  # or they would last until the layer is done
        out, weights = self._attend(
            structure, scores, rate_of(self.attn_drop), need_weights=get_attention
        )
        del scores
        return self._finish(structure, out, h_dst, weights)
