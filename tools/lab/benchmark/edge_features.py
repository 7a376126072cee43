"""What edge features cost: a training step of a layer that reads them, by each backend."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from lab.benchmark.graphs import powerlaw_graph
from lab.benchmark.process import in_turns, rows_apart
from lipzoo import nn
from lipzoo.errors import ConfigError

__all__ = ["measure_edge_features"]

_DEGREE, _HEADS, _WIDTH, _EDGE_FEATS, _REPEATS = 10, 8, 8, 8, 9
_NORMS = {
    "GATConv": "lipschitz",
    "GATv2Conv": "lipschitz",
    "TransformerConv": "dot_lipschitz",
}
#: By column: the backend, and what the layer is told of the edges.
_WAYS: dict[str, tuple[str, dict]] = {
    "fused": ("fused", {}),
    "dgl": ("dgl", {}),
    "torch": ("torch", {}),
    "dgl_edges": ("dgl", {"edge_feats": _EDGE_FEATS}),
    "torch_edges": ("torch", {"edge_feats": _EDGE_FEATS}),
    "dgl_edge_values": ("dgl", {"edge_feats": _EDGE_FEATS, "edge_values": True}),
    "torch_edge_values": ("torch", {"edge_feats": _EDGE_FEATS, "edge_values": True}),
}


def measure_edge_features(file: Path, num_nodes: int, say: Callable = print) -> None:
    """Write a row a layer, each in a process of its own, on one thread.

    A graph of power-law in-degrees with 10 edges a node and self-loops, 64 features, 8 heads of 8,
    8 edge features, with the score norm. ``seconds``: the processor's of a training step (forward,
    backward) by ``fused`` without edge features, median of 9. The other columns: how many times
    that the same takes by another backend, ``…_edges`` with edge features, ``…_edge_values`` where
    the messages have them too; all take turns.
    """
    if num_nodes < 10:
        raise ConfigError("nodes must be at least 10")
    rows_apart(file, _row, [(layer, num_nodes) for layer in _NORMS], say)


def _row(item: tuple[str, int]) -> dict[str, object]:
    layer, num_nodes = item
    torch.manual_seed(0)
    graph = powerlaw_graph(num_nodes, num_nodes * _DEGREE)
    feat = torch.randn(num_nodes, _HEADS * _WIDTH)
    edge_feat = torch.randn(graph.num_edges(), _EDGE_FEATS)

    def step_of(backend: str, edges: dict) -> Callable[[], None]:
        options = {"score_norm": _NORMS[layer], "backend": backend, **edges}
        made = getattr(nn, layer)(_HEADS * _WIDTH, _WIDTH, _HEADS, **options)
        given = {"edge_feat": edge_feat} if edges else {}
        return lambda: made(graph, feat, **given).square().mean().backward()

    turns = in_turns(
        {way: step_of(*how) for way, how in _WAYS.items()}, _REPEATS, time.process_time
    )
    seconds = {way: statistics.median(each) for way, each in turns.items()}
    fused = seconds.pop("fused")
    return {
        "layer": layer,
        "num_nodes": num_nodes,
        "num_edges": graph.num_edges(),
        "seconds": f"{fused:.3g}",
        **{way: round(each / fused, 1) for way, each in seconds.items()},
    }
