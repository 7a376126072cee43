"""What a pass of a deep network costs: bytes a node at the peak, and seconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import torch
import torch.nn.functional as F

from lab.benchmark.graphs import powerlaw_graph
from lab.benchmark.process import cost_of, rows_apart
from lipzoo._malloc import giving_back
from lipzoo.attention import as_structure
from lipzoo.errors import ConfigError
from lipzoo.registry import create_model

__all__ = ["measure_inference", "measure_malloc"]

_WIDTH, _CLASSES = 64, 10
#: Edges a node.
_DEGREE = 10
#: Of an evaluation pass: whether all states are kept to the end.
_SCHEMES = ("gat_lip_16", "gat_lip_res_16", "gat_lip_rev_16")
#: Of a training step: what autograd keeps.
_KEEPS = {
    "plain": ("gat_lip_res_16", {}),
    "checkpoint_layers": ("gat_lip_res_16", {"checkpoint_layers": True}),
    "reversible": ("gat_lip_rev_16", {}),
}


def measure_inference(
    file: Path, num_nodes: int, depths: Sequence[int], say: Callable = print
) -> None:
    """Write a row a network, depth, and whether all its states are kept: an evaluation pass.

    Each in a process of its own, on one thread, on a graph of power-law in-degrees with 10 edges
    a node and self-loops; 64 features, 64 wide, 8 heads, float32. ``bytes`` a node is what the
    process holds at the peak above graph, features and weights; ``seconds`` the processor's.
    """
    _prepare(num_nodes, depths)
    items = [
        (num_nodes, name, depth, states)
        for name, depth, states in product(_SCHEMES, depths, ("all", "read"))
    ]
    rows_apart(file, _inference_row, items, say)


def measure_malloc(
    file: Path, num_nodes: int, depths: Sequence[int], say: Callable = print
) -> None:
    """Write a row a depth, what autograd keeps and what malloc does: a training step.

    As :func:`measure_inference`. ``given_back``: within
    :func:`lipzoo._malloc.giving_back`; else glibc's malloc as it is.
    """
    _prepare(num_nodes, depths)
    items = product([num_nodes], depths, _KEEPS, (False, True))
    rows_apart(file, _training_row, items, say)


def _prepare(num_nodes: int, depths: Sequence[int]) -> None:
    if num_nodes < 1 or not depths or min(depths) < 1:
        raise ConfigError("nodes and depths must be at least 1")


def _inference_row(item: tuple[int, str, int, str]) -> dict[str, object]:
    num_nodes, name, depth, states = item
    model, structure, feat = _network(num_nodes, name, depth)
    model.eval()

    @torch.no_grad()
    def evaluate() -> None:
        if states == "read":
            model(structure, feat)
        else:
            read = model.residual.output(model.forward_intermediates(structure, feat))
            model.forward_head(read)

    return {
        "num_nodes": num_nodes,
        "num_edges": structure.num_edges,
        "architecture": name,
        "layers": depth,
        "states": states,
        **_cost(evaluate, num_nodes),
    }


def _training_row(item: tuple[int, int, str, bool]) -> dict[str, object]:
    num_nodes, depth, keeps, given_back = item
    name, options = _KEEPS[keeps]
    model, structure, feat = _network(num_nodes, name, depth, **options)
    labels = torch.arange(num_nodes) % _CLASSES

    def step() -> None:
        F.cross_entropy(model(structure, feat), labels).backward()

    with giving_back(given_back):
        cost = _cost(step, num_nodes)
    return {
        "num_nodes": num_nodes,
        "num_edges": structure.num_edges,
        "layers": depth,
        "keeps": keeps,
        "given_back": given_back,
        **cost,
    }


def _network(num_nodes: int, name: str, depth: int, **options):
    torch.manual_seed(0)
    sizes = {"in_feats": _WIDTH, "num_classes": _CLASSES, "hidden_feats": _WIDTH, "num_heads": 8}
    model = create_model(name, **sizes, num_layers=depth, backend="fused", **options)
    structure = as_structure(powerlaw_graph(num_nodes, num_nodes * _DEGREE))
    return model, structure, torch.randn(num_nodes, _WIDTH)


def _cost(step: Callable[[], None], num_nodes: int) -> dict[str, object]:
    """Of the second call: the first compiles, makes the index, and moves malloc's threshold."""
    step()
    seconds, growth = cost_of(step)
    size = "" if growth is None else round(1024 * growth / num_nodes)
    return {"bytes": size, "seconds": round(seconds, 2)}
