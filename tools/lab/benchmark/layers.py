"""The layers that are compared, and the step that is timed."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lipzoo
from lab.benchmark.cases import IMPLEMENTATIONS, Case
from lipzoo._dgl import dgl
from lipzoo.attention import Structure, as_structure

__all__ = ["ThreeGathers", "make_layer", "make_step"]

_IN_FEATS, _NUM_CLASSES = 64, 10


def make_layer(case: Case, graph) -> Callable[[Tensor], Tensor]:
    """A module on ``graph``, (N, H * D) -> (N, H * D); all have a GAT's parameters."""
    feats = case.heads * case.width
    kind = IMPLEMENTATIONS[case.implementation]
    if kind.library == "limit":
        return _OnGraph(ThreeGathers(feats, case.width, case.heads), as_structure(graph))
    if kind.library == "PyG":
        from lab.benchmark.pyg import make_pyg_layer

        layer = make_pyg_layer(case.implementation, feats, case.width, case.heads)
        edge_index = torch.stack(graph.edges(order="eid")).long()
        return _OnGraph(layer, edge_index, graph_first=False)
    if kind.library == "DGL":
        return _OnGraph(dgl.nn.GATConv(feats, case.width, case.heads), graph)
    norm = "lipschitz" if kind.norm else None
    layer = lipzoo.nn.GATConv(feats, case.width, case.heads, score_norm=norm, backend=kind.library)
    return _OnGraph(layer, graph)


class _OnGraph(nn.Module):
    """A layer with its graph, whichever of its arguments that is."""

    def __init__(self, layer: nn.Module, graph, graph_first: bool = True) -> None:
        super().__init__()
        self.layer, self.graph, self.graph_first = layer, graph, graph_first

    def forward(self, feat: Tensor) -> Tensor:
        out = self.layer(self.graph, feat) if self.graph_first else self.layer(feat, self.graph)
        return out.flatten(1)


def make_step(case: Case, graph) -> Callable[[], None]:
    """A function of no arguments that runs what ``case`` measures, once.

    It keeps no gradient, so that between two steps a process holds what it held before.
    """
    torch.manual_seed(0)
    return (_model_step if case.depth else _layer_step)(case, graph)


def _layer_step(case: Case, graph) -> Callable[[], None]:
    feats = case.heads * case.width
    feat = torch.randn(graph.num_nodes(), feats, requires_grad=True)
    grad = torch.randn(graph.num_nodes(), feats)
    layer = make_layer(case, graph)

    def step() -> None:
        layer(feat).backward(grad)
        feat.grad = None
        layer.zero_grad()

    return step


def _model_step(case: Case, graph) -> Callable[[], None]:
    hidden = case.heads * case.width
    feat = torch.randn(graph.num_nodes(), _IN_FEATS)
    labels = torch.randint(_NUM_CLASSES, (graph.num_nodes(),))
    first, head = nn.Linear(_IN_FEATS, hidden), nn.Linear(hidden, _NUM_CLASSES)
    layers = nn.ModuleList(make_layer(case, graph) for _ in range(case.depth))
    optimizer = torch.optim.Adam(nn.ModuleList([first, head, layers]).parameters(), lr=1e-3)

    def step() -> None:
        h = F.elu(first(feat))
        for layer in layers:
            h = F.elu(layer(h))
        F.cross_entropy(head(h), labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


# --------------------------------------------------------------- the limit


class ThreeGathers(nn.Module):
    """What no attention layer can do without: not attention, a lower limit of its time.

    The layer's three matrix products (one forward, two backward) and three gathers of E rows of
    H * D numbers by :func:`torch.nn.functional.embedding_bag`: the neighbours' vectors forward;
    the gradients backward, once for the vectors and once for the scores. No score, no softmax.
    """

    def __init__(self, in_feats: int, out_feats: int, num_heads: int) -> None:
        super().__init__()
        width = num_heads * out_feats
        self.fc = nn.Linear(in_feats, width, bias=False)
        # A GAT's other parameters, for the optimiser's sake.
        self.attn = nn.Parameter(torch.zeros(2, num_heads, out_feats))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, structure: Structure, feat: Tensor) -> Tensor:
        return _Gather.apply(self.fc(feat), self.attn, structure) + self.bias


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v, attn, structure):
        ctx.index, ctx.attn = _gather_index(structure), attn
        return _bag(v, *ctx.index[0])

    @staticmethod
    def backward(ctx, grad):
        grad = grad.contiguous()
        d_v = _bag(grad, *ctx.index[1])
        _bag(grad, *ctx.index[1])
        return d_v, torch.zeros_like(ctx.attn), None


_INDICES: weakref.WeakKeyDictionary[Structure, tuple] = weakref.WeakKeyDictionary()


def _gather_index(structure: Structure) -> tuple[tuple[Tensor, Tensor], ...]:
    """In- and out-edges in 32 bits (the faster ones), made once a structure."""
    if structure not in _INDICES:
        _INDICES[structure] = tuple(
            (ends.int(), indptr.int()) for indptr, ends, _ in (structure.csc, structure.csr)
        )
    return _INDICES[structure]


def _bag(rows: Tensor, ends: Tensor, indptr: Tensor) -> Tensor:
    return F.embedding_bag(ends, rows, indptr, mode="sum", include_last_offset=True)
