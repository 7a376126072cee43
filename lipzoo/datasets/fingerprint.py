"""What tells two sets of data apart: a hash of a graph and of what its nodes and edges carry."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lipzoo._graph import AnyGraph
from lipzoo._rows import row_chunks
from lipzoo.datasets.convert import MASKS

__all__ = ["fingerprint_of"]


def fingerprint_of(graph: AnyGraph, masks: Sequence[str] = MASKS, mapped: bool = False) -> str:
    """SHA-256 of edges, features, labels and masks, the same for any order of the edges.

    Features that are ``mapped`` count as float32, whatever the type in their file.
    """
    src, dst = (ends.cpu().long() for ends in graph.edges(order="eid"))
    # One number an edge sorts edges by (source, destination), whatever order they came in.
    edges = src * graph.num_nodes() + dst
    on_edges = {}
    if "feat" in graph.edata:
        feat = graph.edata["feat"].detach().cpu().contiguous()
        order = _order(edges, feat)
        edges, on_edges = edges[order], {"edge_feat": feat[order]}
    else:
        edges = torch.sort(edges).values
    digest = hashlib.sha256(f"nodes {graph.num_nodes()}".encode())
    columns = {key: graph.ndata[key] for key in ("feat", "label", *masks) if key in graph.ndata}
    for key, column in {"edges": edges, **on_edges, **columns}.items():
        dtype = torch.float32 if key == "feat" and mapped else column.dtype
        digest.update(f"\n{key} {dtype} {tuple(column.shape)}\n".encode())
        for rows in row_chunks(column.detach(), dtype):
            if rows.numel():  # NumPy has no bfloat16: hash the bytes.
                rows = rows.cpu().contiguous()
                digest.update(rows.view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _order(edges: Tensor, feat: Tensor) -> Tensor:
    """Sorts the edges; those of the same ends by the bytes of their features."""
    if not feat.numel():
        return torch.argsort(edges)
    rows = feat.unsqueeze(1).flatten(1).view(torch.uint8).numpy()
    _, rank = np.unique(rows.view(f"V{rows.shape[1]}"), return_inverse=True)
    return torch.from_numpy(np.lexsort((rank.ravel(), edges.numpy())))
