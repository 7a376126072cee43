"""Several graphs as one that does not mix them: inductive tasks."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lipzoo._graph import AnyGraph, batch, is_graph, make_graph
from lipzoo.datasets.convert import MASKS, tidy_graph
from lipzoo.errors import DataError

__all__ = ["batch_graphs"]


def batch_graphs(splits: Sequence[Sequence[AnyGraph]], name: str) -> AnyGraph:
    """One batched graph whose masks say which graph is for what.

    Parameters
    ----------
    splits : three sequences of graphs
        The graphs to train on, to validate on, to test on; they are not touched.
    name : str
        For error messages.

    Raises
    ------
    DataError
        If a split has no graph, or a graph lacks features or labels, or they differ in width
        from those of the first graph.
    """
    parts, first = [], None
    for mask, graphs in zip(MASKS, splits):
        split = mask.removesuffix("_mask")
        if is_graph(graphs) or not len(graphs):
            raise DataError(f"{name}: {split} must be a list of at least one graph")
        for number, graph in enumerate(graphs):
            where = f"{name}: graph {number} of {split}"
            part = _part(graph, mask, where)
            first = part if first is None else first
            for column in ("feat", "label"):
                widths = [p.ndata[column].shape[1:] for p in (part, first)]
                if widths[0] != widths[1]:
                    raise DataError(
                        f"{where}: {column!r} is (N{_width(widths[0])}), but (N"
                        f"{_width(widths[1])}) in the first graph; all graphs need the same"
                    )
            _check_edges(part, first, where)
            parts.append(part)
    return batch(parts)


def _check_edges(part: AnyGraph, first: AnyGraph, where: str) -> None:
    own, other = (graph.edata.get("feat") for graph in (part, first))
    if (own is None) != (other is None):
        with_, without = (
            ("it has", "the first graph none")
            if other is None
            else ("the first graph has", "it none")
        )
        raise DataError(
            f"{where}: {with_} edge features, edata['feat'], and {without}; give them to all "
            "graphs, or to none"
        )
    if own is not None and own.shape[1:] != other.shape[1:]:
        raise DataError(
            f"{where}: 'feat' of its edges is (E{_width(own.shape[1:])}), but (E"
            f"{_width(other.shape[1:])}) in the first graph; all graphs need the same"
        )


def _part(graph: AnyGraph, mask: str, where: str) -> AnyGraph:
    """Edges, features and labels of a graph, with its labelled nodes in ``mask``."""
    tidy = tidy_graph(graph, where)
    for column in ("feat", "label"):
        if column not in tidy.ndata:
            raise DataError(f"{where}: there is no {column!r} in its ndata; every graph needs it")
    src, dst = tidy.edges(order="eid")
    # Anew: what else the graphs carry, and int32 beside int64, would stop DGL from batching.
    part = make_graph(src.long(), dst.long(), tidy.num_nodes())
    part.ndata["feat"], part.ndata["label"] = tidy.ndata["feat"], tidy.ndata["label"]
    if "feat" in tidy.edata:
        part.edata["feat"] = tidy.edata["feat"]
    unknown = tidy.ndata["label"] == -1
    unknown = unknown.all(dim=1) if unknown.dim() == 2 else unknown
    for other in MASKS:
        part.ndata[other] = ~unknown if other == mask else torch.zeros_like(unknown)
    return part


def _width(shape: torch.Size) -> str:
    return "".join(f", {size}" for size in shape)
