"""One synthetic task from its seed."""

from __future__ import annotations

import numpy as np
import torch

from lab.prior.chance import log_uniform, whole_log_uniform
from lab.prior.context import draw_context
from lab.prior.features import draw_features, draw_latents
from lab.prior.labels import draw_labels, draw_mines, draw_shares, renumbered, with_noise
from lab.prior.settings import DEFAULT, Prior
from lab.prior.structure import draw_board, draw_structure
from lab.prior.topology import Topology
from lipzoo._dgl import dgl
from lipzoo.datasets import GraphTask

__all__ = ["draw_task"]

#: A task has at least so many nodes whose labels are asked for.
MIN_ASKED = 10

#: Topology, features (N, F), labels (N,).
Drawn = tuple[Topology, np.ndarray, np.ndarray]


def draw_task(seed: int, prior: Prior = DEFAULT) -> GraphTask:
    """Draw a task: a graph with its features, labels, and which of these are given.

    Returns
    -------
    GraphTask
        Edges go both ways, with no loops and none twice. ``train_mask`` is the context, in which
        every class is; ``test_mask`` all other nodes; no node is in ``val_mask``. The same of the
        same seed and settings.
    """
    rng = np.random.default_rng(seed)
    while True:  # useless draws are few: nothing is asked, or there is one class only
        topology, features, labels = _draw(rng, prior)
        if rng.random() < prior.noise_share:
            labels = with_noise(rng, labels)
        labels = renumbered(rng, labels)
        if labels.max() == 0:
            continue
        is_given = draw_context(rng, topology, labels, prior)
        if (~is_given).sum() >= MIN_ASKED:
            return _as_task(f"prior-{seed}", topology, features, labels, is_given)


def _draw(rng: np.random.Generator, prior: Prior) -> Drawn:
    is_large = rng.random() < prior.large_share
    num_nodes = whole_log_uniform(rng, *(prior.large_nodes if is_large else prior.nodes))
    degree = log_uniform(rng, *(prior.large_degree if is_large else prior.degree))
    if rng.random() < prior.board_share:
        topology = draw_board(rng, num_nodes, degree).topology
        labels, features = draw_mines(rng, topology)
        return topology, features, labels
    shares = draw_shares(rng, _draw_num_classes(rng, prior))
    structure = draw_structure(rng, num_nodes, shares, degree, prior.block_share)
    latents = draw_latents(rng, structure)
    features = draw_features(rng, latents, structure.topology, prior.constant_share)
    labels = draw_labels(rng, structure, latents, shares, prior.class_share)
    return structure.topology, features, labels


def _draw_num_classes(rng: np.random.Generator, prior: Prior) -> int:
    if rng.random() < prior.many_classes_share:
        return int(rng.integers(*prior.many_classes, endpoint=True))
    return min(2 + int(rng.exponential(3)), prior.max_classes)


def _as_task(
    name: str, topology: Topology, features: np.ndarray, labels: np.ndarray, is_given: np.ndarray
) -> GraphTask:
    src, dst = torch.from_numpy(topology.pairs.T.copy())
    graph = dgl.graph((src, dst), num_nodes=topology.num_nodes)
    given = torch.from_numpy(is_given)
    graph.ndata["feat"] = torch.from_numpy(features)
    graph.ndata["label"] = torch.from_numpy(labels.astype(np.int64))
    graph.ndata["train_mask"], graph.ndata["test_mask"] = given, ~given
    graph.ndata["val_mask"] = torch.zeros_like(given)
    return GraphTask.from_graph(graph, name)
