"""PPI: 24 protein-protein interaction graphs of human tissues, as one graph that does not mix them.

Its raw files are ``{train,valid,test}_{graph.json,feats.npy,labels.npy,graph_id.npy}``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import torch

from lipzoo._dgl import dgl
from lipzoo._files import open_regular, read_regular
from lipzoo.datasets.catalogue import register_dataset
from lipzoo.datasets.convert import MASKS
from lipzoo.datasets.npy import read_npy
from lipzoo.datasets.raw_files import InMemory, read_dataset
from lipzoo.datasets.task import GraphTask
from lipzoo.errors import DataError

__all__ = ["ppi"]


class _PPI(InMemory, dgl.data.PPIDataset):
    """DGL's class (its URL and folder), with a reader that does not depend on networkx.

    DGL's own reader fails under networkx 3.4 and later (``KeyError: 'edges'``).
    """

    def process(self) -> None:
        folder = Path(self.raw_path)
        # The graphs of all modes: one instance reads what DGL has three for.
        self.graphs = [
            graph
            for mode, mask in zip(("train", "valid", "test"), MASKS)
            for graph in _read_mode(folder, mode, mask)
        ]


def _read_mode(folder: Path, mode: str, mask: str) -> list[dgl.DGLGraph]:
    """The graphs of one mode, each with ``mask`` set on all its nodes."""
    structure = json.loads(read_regular(folder / f"{mode}_graph.json", folder=folder))
    feat, labels, graph_ids = (
        _array(folder, f"{mode}_{part}.npy") for part in ("feats", "labels", "graph_id")
    )
    edges = np.array([(link["source"], link["target"]) for link in structure["links"]])
    edges = edges.reshape(-1, 2).astype(np.int64)
    _check(mode, edges, len(feat), labels, graph_ids)
    if not structure["directed"]:
        edges = np.concatenate([edges, edges[:, ::-1]])
    src, dst = torch.from_numpy(np.unique(edges, axis=0)).T
    whole = dgl.graph((src, dst), num_nodes=len(feat))
    whole.ndata["feat"] = torch.from_numpy(feat).float()
    whole.ndata["label"] = torch.from_numpy(labels).float()
    for name in MASKS:
        whole.ndata[name] = torch.full((len(feat),), name == mask)
    return [
        dgl.node_subgraph(whole, np.flatnonzero(graph_ids == graph_id), store_ids=False)
        for graph_id in np.unique(graph_ids)
    ]


def _check(mode: str, edges: np.ndarray, nodes: int, labels: np.ndarray, ids: np.ndarray) -> None:
    """What DGL's C++ does not: a number that is none of a node's would end the process."""
    if len(labels) != nodes or ids.shape != (nodes,):
        raise DataError(
            f"{mode}_feats.npy has {nodes} rows, {mode}_labels.npy {len(labels)}, and "
            f"{mode}_graph_id.npy is {ids.shape}: they must be of the same nodes; fetch them again"
        )
    if edges.size and not 0 <= edges.min() <= edges.max() < nodes:
        raise DataError(
            f"{mode}_graph.json links the nodes {edges.min()} to {edges.max()}, and there are 0 to "
            f"{nodes - 1}; fetch it again"
        )


def _array(folder: Path, name: str) -> np.ndarray:
    with open_regular(folder / name, folder) as file:
        size = os.fstat(file.fileno()).st_size
        return read_npy(file, size, room=8 * size)


@register_dataset("ppi")
def ppi(*, raw_dir: str | os.PathLike | None = None) -> GraphTask:
    """56,944 proteins, F = 50, C = 121 functions at once (GraphSAGE, Hamilton et al. 2017).

    One batched graph (`dgl.unbatch` parts it) of 20 graphs to train on, 2 to validate and 2 to
    test: no edge joins two of them, so that training sees nothing of the others.
    """
    dataset = read_dataset(_PPI, "ppi", raw_dir)
    return GraphTask.from_graph(dgl.batch(dataset.graphs), "ppi", metric="micro_f1")
