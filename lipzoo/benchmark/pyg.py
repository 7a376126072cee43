"""What a PyG user would write, to compare with: ``GATConv``, and one with LipschitzNorm."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch_geometric.nn import GATConv, MessagePassing
from torch_geometric.utils import scatter, softmax

__all__ = ["make_pyg_layer"]


def make_pyg_layer(in_feats: int, out_feats: int, num_heads: int, with_norm: bool):
    """A PyG layer on graphs that have their self-loops already."""
    if with_norm:
        return LipschitzGATConv(in_feats, out_feats, num_heads)
    return GATConv(in_feats, out_feats, heads=num_heads, add_self_loops=False)


class LipschitzGATConv(MessagePassing):
    """GAT with LipschitzNorm by PyG's message passing."""

    def __init__(self, in_feats: int, out_feats: int, num_heads: int, alpha: float = 0.25) -> None:
        super().__init__(aggr="add", node_dim=0)
        self.out_feats, self.num_heads, self.alpha = out_feats, num_heads, alpha
        self.lin = torch.nn.Linear(in_feats, num_heads * out_feats, bias=False)
        self.attn = torch.nn.Parameter(torch.randn(2, 1, num_heads, out_feats) / out_feats**0.5)

    def forward(self, x, edge_index):
        v = self.lin(x).view(-1, self.num_heads, self.out_feats)
        left, right = ((v * a).sum(-1) for a in self.attn)
        square = v.square().sum(-1)
        src, dst = edge_index
        longest = scatter(square[src], dst, 0, dim_size=len(v), reduce="max")
        return self.propagate(
            edge_index, v=v, left=left, right=right, square=square, longest=longest
        ).flatten(1)

    def message(self, v_j, left_j, right_i, square_j, longest_i, index, ptr, size_i):
        length = self.attn.square().sum((0, -1)).sqrt()
        e = self.alpha * (left_j + right_i) / (length * (longest_i + square_j).sqrt() + 1e-12)
        p = softmax(F.leaky_relu(e, 0.2), index, ptr, size_i)
        return v_j * p.unsqueeze(-1)
