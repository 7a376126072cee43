"""The graphs that the benchmark runs on: data sets, and generated ones of any size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

import lipzoo
from lipzoo._dgl import dgl
from lipzoo.datasets import GraphTask
from lipzoo.errors import ConfigError

__all__ = [
    "load_graph",
    "planted_task",
    "powerlaw_edges",
    "powerlaw_graph",
    "read_graph",
    "save_graph",
]

#: Nodes and edges of ``powerlaw``: about those of ogbn-arxiv with both directions.
POWERLAW_NODES, POWERLAW_EDGES = 169_343, 2_300_000


def powerlaw_graph(num_nodes: int = POWERLAW_NODES, num_edges: int = POWERLAW_EDGES, seed: int = 0):
    """A directed graph whose in-degrees follow a power law (exponent 2.2), with self-loops."""
    src, dst = map(torch.from_numpy, powerlaw_edges(num_nodes, num_edges, seed))
    return dgl.add_self_loop(dgl.remove_self_loop(dgl.graph((src, dst), num_nodes=num_nodes)))


def powerlaw_edges(num_nodes: int, num_edges: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Sources and destinations of such edges, (E,), some of them self-loops."""
    rng = np.random.default_rng(seed)
    weight = (np.arange(num_nodes) + 1.0) ** (-1 / 1.2)
    cumulative = np.cumsum(weight / weight.sum())
    dst = np.searchsorted(cumulative, rng.random(num_edges)).clip(max=num_nodes - 1)
    dst = rng.permutation(num_nodes)[dst]  # a hub's number says nothing of its place
    return rng.integers(num_nodes, size=num_edges), dst


def planted_task(
    num_nodes: int,
    num_edges: int,
    num_classes: int = 10,
    num_feats: int = 32,
    community: int = 500,
    inside: float = 0.8,
    signal: float = 0.15,
    seed: int = 0,
) -> GraphTask:
    """Classes that features hardly show, and neighbours do: a graph of any size to learn from.

    Nodes with neighbouring numbers form communities of one class each. In-degrees follow
    :func:`powerlaw_edges`; the source of an edge is ``inside`` so often of the community of its
    destination, and else any node. Features are noise of variance 1 around the class's mean, which
    is ``signal`` long in each column. A tenth of the nodes is to train on, as many to validate.

    Parameters
    ----------
    num_nodes, num_edges, num_classes, num_feats
        N, E, C, F.
    community : int
        Nodes of one.
    """
    rng = np.random.default_rng(seed)
    src, dst = powerlaw_edges(num_nodes, num_edges, seed)
    for part in (slice(k, k + 2**22) for k in range(0, num_edges, 2**22)):
        ends = dst[part]
        first = ends // community * community
        size = np.minimum(community, num_nodes - first)
        near = first + (rng.random(len(ends)) * size).astype(src.dtype)
        src[part] = np.where(rng.random(len(ends)) < inside, near, src[part])
    labels = rng.integers(num_classes, size=-(-num_nodes // community))
    labels = labels.repeat(community)[:num_nodes]
    means = rng.choice([-signal, signal], size=(num_classes, num_feats)).astype(np.float32)
    feat = rng.standard_normal((num_nodes, num_feats), dtype=np.float32)
    for part in (slice(k, k + 2**20) for k in range(0, num_nodes, 2**20)):
        feat[part] += means[labels[part]]
    graph = dgl.graph((torch.from_numpy(src), torch.from_numpy(dst)), num_nodes=num_nodes)
    graph.ndata["feat"] = torch.from_numpy(feat)
    graph.ndata["label"] = torch.from_numpy(labels)
    draw = torch.from_numpy(rng.random(num_nodes, dtype=np.float32))
    graph.ndata["train_mask"] = draw < 0.1
    graph.ndata["val_mask"] = (draw >= 0.1) & (draw < 0.2)
    graph.ndata["test_mask"] = draw >= 0.2
    return GraphTask.from_graph(graph, "planted")


def load_graph(name: str, raw_dir: str | None = None):
    """A data set's graph by name, or ``powerlaw``, ``powerlaw:NODES:EDGES``; with self-loops.

    Raises
    ------
    ConfigError
        If what follows ``powerlaw:`` is not two numbers.
    LipzooError
        If the data set is unknown or absent.
    """
    if name.partition(":")[0] == "powerlaw":
        try:
            sizes = [int(size) for size in name.split(":")[1:]]
            if len(sizes) not in (0, 2) or any(size < 1 for size in sizes):
                raise ValueError
        except ValueError:
            raise ConfigError(
                f"graph {name!r}: write powerlaw, or powerlaw:NODES:EDGES with two numbers"
            ) from None
        return powerlaw_graph(*sizes)
    graph = lipzoo.load_dataset(name, raw_dir=raw_dir, require_labels=False).graph
    return dgl.add_self_loop(dgl.remove_self_loop(graph))


def save_graph(graph, path: Path) -> None:
    """Write the edges alone: a process that measures should not hold the features too."""
    src, dst = graph.edges(order="eid")
    np.savez(path, src=src.numpy(), dst=dst.numpy(), num_nodes=graph.num_nodes())


def read_graph(path: str | Path):
    """What :func:`save_graph` wrote."""
    with np.load(path) as file:
        edges = torch.from_numpy(file["src"]), torch.from_numpy(file["dst"])
        return dgl.graph(edges, num_nodes=int(file["num_nodes"]))
