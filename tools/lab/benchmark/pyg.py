"""What a PyG user would write, to compare with: ``GATConv``, and two with LipschitzNorm."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.nn import GATConv, MessagePassing
from torch_geometric.utils import scatter, softmax

__all__ = ["EdgewiseLipschitzGATConv", "LipschitzGATConv", "make_pyg_layer"]


def make_pyg_layer(
    implementation: str, in_feats: int, out_feats: int, num_heads: int
) -> torch.nn.Module:
    """A PyG layer for graphs that have their self-loops already; (N, F) -> (N, H * D)."""
    if implementation == "PyG GATConv":
        return GATConv(in_feats, out_feats, heads=num_heads, add_self_loops=False)
    kinds = {"PyG + norm": LipschitzGATConv, "PyG + norm on edges": EdgewiseLipschitzGATConv}
    return kinds[implementation](in_feats, out_feats, num_heads)


class LipschitzGATConv(MessagePassing):
    """GAT with LipschitzNorm, as PyG writes its ``GATConv``: what it can, it does on nodes.

    The parameters are those of PyG's ``GATConv``, by the same names.
    """

    def __init__(self, in_feats: int, out_feats: int, num_heads: int, alpha: float = 0.25) -> None:
        super().__init__(aggr="add", node_dim=0)
        self.out_feats, self.num_heads, self.alpha = out_feats, num_heads, alpha
        self.lin = torch.nn.Linear(in_feats, num_heads * out_feats, bias=False)
        self.att_src = torch.nn.Parameter(torch.empty(1, num_heads, out_feats))
        self.att_dst = torch.nn.Parameter(torch.empty(1, num_heads, out_feats))
        self.bias = torch.nn.Parameter(torch.zeros(num_heads * out_feats))
        for weight in (self.lin.weight, self.att_src, self.att_dst):
            torch.nn.init.xavier_normal_(weight)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        v = self.lin(x).view(-1, self.num_heads, self.out_feats)
        left, right = (v * self.att_src).sum(-1), (v * self.att_dst).sum(-1)
        return self._propagate(v, left, right, edge_index).flatten(1) + self.bias

    def _propagate(self, v: Tensor, left: Tensor, right: Tensor, edge_index: Tensor) -> Tensor:
        square = v.square().sum(-1)
        src, dst = edge_index
        longest = scatter(square[src], dst, 0, dim_size=len(v), reduce="max")
        return self.propagate(
            edge_index, v=v, left=left, right=right, square=square, longest=longest
        )

    def _attention_norm(self) -> Tensor:
        return torch.cat([self.att_src, self.att_dst], -1).norm(dim=-1)

    def message(self, v_j, left_j, right_i, square_j, longest_i, index, ptr, size_i):
        root = (longest_i + square_j).sqrt()
        e = self.alpha * (left_j + right_i) / (self._attention_norm() * root + 1e-12)
        p = softmax(F.leaky_relu(e, 0.2), index, ptr, size_i)
        return v_j * p.unsqueeze(-1)


class EdgewiseLipschitzGATConv(LipschitzGATConv):
    """The same in the manner of the paper's published code: the norm sees the edges' vectors.

    There, the norm is a module that is called inside ``message`` with ``x_j`` (E, H, D). Its
    index of the neighbourhood's maximum is right for one head only; here it is for several.
    """

    def _propagate(self, v: Tensor, left: Tensor, right: Tensor, edge_index: Tensor) -> Tensor:
        return self.propagate(edge_index, v=v, left=left, right=right)

    def message(self, v_j, left_j, right_i, index, ptr, size_i):
        square = v_j.norm(dim=-1) ** 2
        longest = scatter(square, index, 0, dim_size=size_i, reduce="max")
        root = (longest[index] + square).sqrt()
        e = self.alpha * (left_j + right_i) / (self._attention_norm() * root + 1e-12)
        p = softmax(F.leaky_relu(e, 0.2), index, ptr, size_i)
        return v_j * p.unsqueeze(-1)
