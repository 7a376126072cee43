"""What 16 bits a number save: the attention alone, and the memory of a deep network's step."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from lab.benchmark.graphs import powerlaw_graph
from lab.benchmark.process import apart, growth_of, in_turns, rows_apart
from lipzoo._malloc import giving_back
from lipzoo.attention import (
    AdditiveScores,
    DotProductLipschitzNorm,
    DotProductScores,
    GATv2Scores,
    LipschitzNorm,
    as_structure,
    graph_attention,
)
from lipzoo.errors import ConfigError
from lipzoo.registry import create_model

__all__ = ["measure_dtypes"]

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
#: Edges a node, without self-loops: as in the benchmark's power-law graph.
_DEGREE = 14
_REPEATS = 5
_LAYERS = {"GAT": "gat_lip_16", "GATv2": "gatv2_lip_16", "dot product": "gt_lip_16"}


def measure_dtypes(file: Path, num_edges: int, say: Callable = print) -> None:
    """Write a row a kind of scores, all with their norm, each in a process of its own, one thread.

    ``float32`` and ``bfloat16``: the processor's seconds of attention, forward and backward, over a
    graph of power-law in-degrees, 8 heads of 64, projections given; medians of 5, taken in turns;
    ``times`` is their ratio. ``…_mib``: what a training step of 16 layers, 8 heads of 8, holds at
    its peak above what the process holds before it, on a fifth of the edges, with malloc as
    training sets it and in a process of its own: the heap's older holes are not held by a step.
    """
    if num_edges < 10 * _DEGREE:
        raise ConfigError(f"edges must be at least {10 * _DEGREE}")
    rows_apart(file, _row, [(layer, num_edges) for layer in _LAYERS], say)


def _row(item: tuple[str, int]) -> dict[str, object]:
    layer, num_edges = item
    torch.manual_seed(0)
    graph = powerlaw_graph(num_edges // _DEGREE, num_edges)
    passes = {name: _attention(layer, graph, dtype) for name, dtype in _DTYPES.items()}
    times = in_turns(passes, _REPEATS, time.process_time)
    seconds = {name: statistics.median(turns) for name, turns in times.items()}
    del passes  # gigabytes, which other processes may need
    peaks = {f"{name}_mib": apart(_peak_of_step, layer, num_edges // 5, name) for name in _DTYPES}
    return {
        "layer": layer,
        "num_nodes": graph.num_nodes(),
        "num_edges": graph.num_edges(),
        **{name: f"{each:.3g}" for name, each in seconds.items()},
        "times": round(seconds["float32"] / seconds["bfloat16"], 2),
        **peaks,
    }


def _attention(layer: str, graph, dtype: torch.dtype) -> Callable[[], None]:
    """Forward and backward of the attention alone."""
    structure = as_structure(graph)

    def rows(count: int) -> torch.Tensor:
        return torch.randn(count, 8, 64).to(dtype).requires_grad_()

    v, other, third = (rows(graph.num_nodes()) for _ in range(3))
    attn_l, attn_r = rows(1), rows(1)
    norm = LipschitzNorm()
    if layer == "GAT":
        scores, leaves = AdditiveScores(v, None, attn_l, attn_r, 0.2), [v, attn_l, attn_r]
    elif layer == "GATv2":
        scores, leaves = GATv2Scores(v, other, attn_l, 0.2), [v, other, attn_l]
    else:
        scores, leaves = DotProductScores(other, third, v), [other, third, v]
        norm = DotProductLipschitzNorm()
    readout = torch.randn(graph.num_nodes(), 8, 64).to(dtype)

    def step() -> None:
        out, _ = graph_attention(structure, scores, score_norm=norm, backend="fused")
        torch.autograd.grad(out, leaves, readout)

    return step


def _peak_of_step(layer: str, num_edges: int, name: str) -> int | str:
    """MiB."""
    torch.manual_seed(0)
    dtype, graph = _DTYPES[name], powerlaw_graph(num_edges // _DEGREE, num_edges)
    options = {"hidden_feats": 64, "num_heads": 8, "backend": "fused"}
    model = create_model(_LAYERS[layer], in_feats=64, num_classes=10, **options).to(dtype)
    feat, structure = torch.randn(graph.num_nodes(), 64).to(dtype), as_structure(graph)

    def step() -> None:
        model(structure, feat).float().square().mean().backward()

    with giving_back():
        step()  # indices, kernels, gradients
        growth = growth_of(step)
    return "" if growth is None else round(growth / 1024)
