"""PPI: 24 protein-protein interaction graphs of human tissues, as one graph that does not mix them.

Its raw files are ``{train,valid,test}_{graph.json,feats.npy,labels.npy,graph_id.npy}``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import torch

from lipzoo._files import open_regular, read_regular
from lipzoo._graph import AnyGraph, batch, make_graph
from lipzoo.datasets.catalogue import register_dataset
from lipzoo.datasets.convert import MASKS
from lipzoo.datasets.npy import read_npy
from lipzoo.datasets.raw_files import read_raw
from lipzoo.datasets.task import GraphTask
from lipzoo.errors import DataError

__all__ = ["ppi"]


def _read(folder: Path) -> AnyGraph:
    """The graphs of all modes, batched."""
    return batch(
        [
            graph
            for mode, mask in zip(("train", "valid", "test"), MASKS)
            for graph in _read_mode(folder, mode, mask)
        ]
    )


def _read_mode(folder: Path, mode: str, mask: str) -> list[AnyGraph]:
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
    ids = torch.from_numpy(graph_ids)
    columns = {"feat": torch.from_numpy(feat).float(), "label": torch.from_numpy(labels).float()}
    columns |= {name: torch.full((len(feat),), name == mask) for name in MASKS}
    graphs = []
    for graph_id in torch.unique(ids):
        nodes = (ids == graph_id).nonzero().squeeze(1)
        inside = (ids[src] == graph_id) & (ids[dst] == graph_id)
        ends = (torch.searchsorted(nodes, end[inside]) for end in (src, dst))
        graph = make_graph(*ends, len(nodes))
        graph.ndata.update({key: column[nodes] for key, column in columns.items()})
        graphs.append(graph)
    return graphs


def _check(mode: str, edges: np.ndarray, nodes: int, labels: np.ndarray, ids: np.ndarray) -> None:
    """Numbers are those of nodes."""
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
    return GraphTask.from_graph(read_raw(_read, "ppi", "ppi", raw_dir), "ppi", metric="micro_f1")
