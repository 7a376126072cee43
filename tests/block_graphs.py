"""Graphs of classes whose neighbours are alike or not, and masks for a graph of one's own."""

import dgl
import numpy as np
import torch

from lipzoo.datasets import GraphTask


def blocks(n=300, classes=3, same=0.9, columns=5, noise=2.0, seed=0, labels=None):
    """Nodes of classes, most of whose neighbours are (or are not) of their class."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, classes, n) if labels is None else labels
    src = rng.integers(0, n, 4 * n)
    dst = np.empty_like(src)
    for k, node in enumerate(src):
        is_same = rng.random() < same
        others = np.flatnonzero((label == label[node]) == is_same)
        dst[k] = rng.choice(others if len(others) else np.arange(n))
    graph = dgl.graph((np.r_[src, dst], np.r_[dst, src]), num_nodes=n)
    centres = rng.standard_normal((classes, columns))
    feat = centres[label] + noise * rng.standard_normal((n, columns))
    return with_masks(graph, feat, label, rng)


def with_masks(graph, feat, label, rng, shares=(0.3, 0.2)):
    n = graph.num_nodes()
    order = rng.permutation(n)
    first, second = (round(n * float(s)) for s in np.cumsum(shares))
    graph.ndata["feat"] = torch.as_tensor(np.asarray(feat), dtype=torch.float32)
    graph.ndata["label"] = torch.as_tensor(label)
    for name, part in zip(("train", "val", "test"), np.split(order, [first, second])):
        mask = torch.zeros(n, dtype=torch.bool)
        mask[part] = True
        graph.ndata[f"{name}_mask"] = mask
    return GraphTask.from_graph(graph)


def accuracy(task, prediction):
    return (prediction == task.labels)[task.test_mask].float().mean().item()
