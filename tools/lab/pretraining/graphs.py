"""The graphs that are learnt from: encoded, smoothed, cut into parts that fit a step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.preprocessing import normalize
from torch import Tensor

from lab.pretraining.recipe import Objective, PretrainingRecipe, Source
from lipzoo._dgl import dgl
from lipzoo.datasets import GraphTask, load_dataset
from lipzoo.datasets.encoding import adjacency_matrix, encode_task
from lipzoo.errors import ConfigError

__all__ = ["Sample", "check_held_out", "load_source", "samples"]

#: How many nodes a part grows from, and how many neighbours of a node it takes up.
_ROOTS, _FANOUT = 20, 10


@dataclass(frozen=True)
class Sample:
    """A graph, or a part of one, as a step reads it.

    Parameters
    ----------
    graph : dgl.DGLGraph
        N nodes, edges in both directions.
    feat : Tensor (N, width)
        Encoded features.
    structural : Tensor (N, 4)
        What is not rotated.
    smoothed : Tensor (N, width)
        What is to be reconstructed, of the whole graph, in the axes of ``feat``.
    labels : Tensor (N,) or None
        -1 where there is none; None where a node may have several.
    """

    graph: dgl.DGLGraph
    feat: Tensor
    structural: Tensor
    smoothed: Tensor
    labels: Tensor | None


def load_source(source: Source, raw_dir: str | None) -> GraphTask:
    """The raw task of a source.

    Raises
    ------
    ConfigError
        If an option is none of :func:`~lipzoo.load_dataset`'s.
    """
    return load_dataset(source.name, raw_dir=raw_dir, **source.options)


def check_held_out(seen: dict[str, str], target: GraphTask, what: str) -> None:
    """Refuse weights that were pretrained on the very data they are to be measured on.

    ``seen`` holds data fingerprints of what was learnt from, by name; ``target`` is raw,
    with any split; ``what`` names the weights or the recipe.

    Raises
    ------
    ConfigError
        If the target's fingerprint is among them, whatever its name.
    """
    fingerprint = target.data_fingerprint
    for name, known in seen.items():
        if known == fingerprint:
            raise ConfigError(
                f"{what}: has learnt from {name}, which is the target {target.name}; take weights "
                "that were pretrained on other graphs"
            )


def samples(task: GraphTask, source: Source, recipe: PretrainingRecipe) -> list[Sample]:
    """The samples of a graph: one, or ``source.parts`` of them."""
    encoded = encode_task(task, **recipe.encoding.model_dump())
    width = recipe.encoding.width
    adjacency = adjacency_matrix(task.graph)
    feat = encoded.feat[:, :width]
    smoothed = torch.from_numpy(_smooth(adjacency, feat.numpy(), recipe.objective)).float()
    labels = None if task.multilabel else task.labels
    columns = (feat, encoded.feat[:, width:], smoothed)
    if source.parts is None:
        return [Sample(_graph(adjacency), *columns, labels)]
    if source.nodes > task.num_nodes:
        raise ConfigError(
            f"graph {source.name}: parts of {source.nodes} nodes, but it has {task.num_nodes}"
        )
    rng = np.random.default_rng(recipe.seed)
    found = []
    for _ in range(source.parts):
        nodes = _grow(adjacency, source.nodes, rng)
        index = torch.from_numpy(nodes)
        part = _graph(adjacency[nodes][:, nodes])
        own = None if labels is None else labels[index]
        found.append(Sample(part, *(column[index] for column in columns), own))
    return found


def _smooth(adjacency: sp.csr_matrix, feat: np.ndarray, objective: Objective) -> np.ndarray:
    """Rows of length 1 of personalised PageRank's features (Gasteiger et al., ICLR 2019)."""
    looped = adjacency + sp.identity(adjacency.shape[0])
    scale = sp.diags(1 / np.sqrt(np.asarray(looped.sum(axis=1)).ravel()))
    walk = (scale @ looped @ scale).tocsr()
    smoothed = feat
    for _ in range(objective.hops):
        smoothed = (1 - objective.teleport) * (walk @ smoothed) + objective.teleport * feat
    return normalize(smoothed)


def _grow(adjacency: sp.csr_matrix, size: int, rng: np.random.Generator) -> np.ndarray:
    """``size`` nodes around random roots, breadth first; new roots where a component ends."""
    seen = np.zeros(adjacency.shape[0], dtype=bool)
    order: list[int] = []

    def take(nodes: np.ndarray) -> None:
        fresh = nodes[~seen[nodes]]
        seen[fresh] = True
        order.extend(fresh.tolist())

    next_one = 0
    while len(order) < size:
        if next_one == len(order):
            left = np.flatnonzero(~seen)
            take(rng.choice(left, min(_ROOTS, len(left)), replace=False))
        node = order[next_one]
        neighbours = adjacency.indices[adjacency.indptr[node] : adjacency.indptr[node + 1]]
        take(rng.permutation(neighbours)[:_FANOUT])
        next_one += 1
    return np.sort(np.array(order[:size]))


def _graph(adjacency: sp.csr_matrix) -> dgl.DGLGraph:
    src, dst = (torch.from_numpy(ends.astype(np.int64)) for ends in adjacency.nonzero())
    return dgl.graph((src, dst), num_nodes=adjacency.shape[0])
