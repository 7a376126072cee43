"""Bring the node data of any DGL graph to the types that a `GraphTask` has.

Features become float32 (N, F), those of edges float32 (E, K), class labels int64 (N,), multilabel
labels float32 (N, C), masks bool (N,). Whether the values make sense is for
`lipzoo.datasets.checks` to say.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from lipzoo._edges import graph_kind
from lipzoo._graph import AnyGraph, is_graph, with_all_formats
from lipzoo.errors import DataError

__all__ = ["MASKS", "MAX_CLASSES", "class_count", "compress", "noted_class_count", "tidy_graph"]

MASKS = ("train_mask", "val_mask", "test_mask")

#: A head with more outputs would be no classifier but somebody's mistake, or a trap: refused.
MAX_CLASSES = 2**20
#: Classes, and how many times those that occur, from which on they are taken for a mistake.
_MANY_CLASSES, _FAR_MORE = 100, 10

#: Share of a column's size that its spread is at least, for float32 to keep 256 steps of it.
_KEPT = 2.0**-16
#: Sparse products gain below this share of nonzeros.
MAX_DENSITY = 0.1


def tidy_graph(graph: AnyGraph, name: str, mapped: bool = False) -> AnyGraph:
    """Return a copy of ``graph`` (tensors shared) in all of DGL's formats, with tidy ``feat``,
    ``label`` and masks, and ``feat`` of its edges. Features that are ``mapped`` keep their type.

    Raises
    ------
    DataError
        If it is no DGL graph, is heterogeneous, or a column cannot be converted.
    """
    if not is_graph(graph):
        words = {"pyg": "from_pyg", "networkx": "from_networkx", "scipy": "from_scipy"}
        maker = words.get(graph_kind(graph), "from_edges")
        raise DataError(
            f"{name}: expected a DGLGraph, got {type(graph).__name__}; GraphTask.{maker} takes "
            "other graphs"
        )
    if not graph.is_homogeneous:
        raise DataError(
            f"{name}: the graph has {len(graph.ntypes)} node types and {len(graph.etypes)} edge "
            "types, lipzoo takes one of each; convert it with dgl.to_homogeneous"
        )
    graph = with_all_formats(graph).local_var()
    if "feat" in graph.ndata:
        graph.ndata["feat"] = _tidy_features(graph.ndata["feat"], name, mapped)
    if "feat" in graph.edata:
        graph.edata["feat"] = _tidy_features(graph.edata["feat"], f"{name}: of the edges")
    if "label" in graph.ndata:
        graph.ndata["label"] = _tidy_labels(graph.ndata["label"], name)
    for mask in MASKS:
        if mask in graph.ndata:
            graph.ndata[mask] = _tidy_mask(graph.ndata[mask], f"{name}: {mask}")
    return graph


def class_count(labels: Tensor | None) -> int:
    """C as the labels show it: the largest label plus one, or the width of (N, C)."""
    if labels is None or labels.numel() == 0:
        return 0
    return labels.shape[1] if labels.dim() == 2 else max(int(labels.max()), -1) + 1


def noted_class_count(labels: Tensor | None, name: str) -> int:
    """`class_count`, with a note where far more are counted than occur: years, postcodes."""
    counted = class_count(labels)
    if labels is None or labels.dim() == 2 or not _MANY_CLASSES <= counted <= MAX_CLASSES:
        return counted
    found = labels[labels >= 0].unique().tolist()
    if counted > _FAR_MORE * len(found):
        several = f"{', '.join(map(str, found[:3]))}{', …' * (len(found) > 3)}"
        warnings.warn(
            f"{name}: labels are numbered from 0 on, so that {counted:,} classes are counted, of "
            f"which {len(found)} occur ({several}): if these are names, give them as words, or "
            "number them 0..C-1",
            stacklevel=3,
        )
    return counted


def _tidy_features(feat: Tensor, name: str, mapped: bool = False) -> Tensor:
    if feat.is_complex():
        raise DataError(f"{name}: the features are complex; make them real numbers")
    # One number a node is a feature of width 1. NumPy's default is float64, models' is float32.
    feat = feat.unsqueeze(1) if feat.dim() == 1 else feat
    if mapped:
        return feat
    _warn_of_lost_digits(feat, name)
    return feat.float()


def _warn_of_lost_digits(feat: Tensor, name: str) -> None:
    """Of columns that differ by so little beside their size that float32 keeps little of it."""
    if feat.dtype not in (torch.float64, torch.int64, torch.int32) or feat.dim() != 2:
        return
    if not feat.numel():
        return
    low, high = (edge.double() for edge in feat.aminmax(dim=0))
    lost = (high > low) & (high - low < _KEPT * torch.maximum(low.abs(), high.abs()))
    if lost.any():
        column, others = int(lost.nonzero()[0]), int(lost.sum()) - 1
        more = f" (and {others} more)" if others else ""
        warnings.warn(
            f"{name}: feature {column}{more} goes from {low[column]:.10g} to {high[column]:.10g}: "
            "float32, in which networks compute, tells few of its values apart; subtract the "
            "smallest of them",
            stacklevel=3,
        )


def _tidy_labels(labels: Tensor, name: str) -> Tensor:
    if labels.dim() == 2 and labels.shape[1] == 1:
        labels = labels.squeeze(1)
    if labels.dim() == 2:
        return labels.float()
    whole = labels if not labels.is_floating_point() else labels.nan_to_num(nan=0.5)
    odd = (whole != whole.long()).view(len(whole), -1).any(dim=1) if len(whole) else whole[:0]
    if odd.any():
        first = int(odd.nonzero()[0])
        raise DataError(
            f"{name}: the label of node {first} is {labels[first].item()}; "
            "number the classes 0..C-1, with -1 for a node without a label"
        )
    return labels.long()


def _tidy_mask(mask: Tensor, name: str) -> Tensor:
    if mask.dim() == 2 and mask.shape[1] == 1:
        mask = mask.squeeze(1)
    # Boolean masks come back from DGL's .bin as uint8, and from CSV as 0 and 1.
    if mask.dtype != torch.bool and not ((mask == 0) | (mask == 1)).all():
        raise DataError(f"{name} holds other values than 0 and 1; a mask says yes or no for a node")
    return mask.bool()


def compress(feat: Tensor) -> Tensor | None:
    """``feat`` (N, F) as a ``torch.sparse_csr`` tensor; None where it is too dense to gain."""
    if feat.numel() == 0 or torch.count_nonzero(feat) > MAX_DENSITY * feat.numel():
        return None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        return feat.to_sparse_csr()
