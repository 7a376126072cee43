"""SHA-256 of the data of a graph, the same on every run and machine."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch

from lipzoo._dgl import dgl
from lipzoo.datasets.convert import MASKS

__all__ = ["fingerprint_of"]


def fingerprint_of(graph: dgl.DGLGraph, masks: Sequence[str] = MASKS) -> str:
    """Of edges in any order, features, labels and masks, as 64 hexadecimal digits."""
    src, dst = (ends.cpu().long() for ends in graph.edges())
    # One number an edge sorts edges by (source, destination), whatever order they came in.
    edges = torch.sort(src * graph.num_nodes() + dst).values
    digest = hashlib.sha256(f"nodes {graph.num_nodes()}".encode())
    columns = {key: graph.ndata[key] for key in ("feat", "label", *masks) if key in graph.ndata}
    for key, column in {"edges": edges, **columns}.items():
        column = column.detach().cpu().contiguous()
        digest.update(f"\n{key} {column.dtype} {tuple(column.shape)}\n".encode())
        # NumPy has no bfloat16: hash the bytes.
        digest.update(column.view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
