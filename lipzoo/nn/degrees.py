"""Degrees around the layers (``degree_norm``), and how blocks and parts of a graph know them."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from lipzoo._graph import NID, is_graph
from lipzoo.attention import Structure, as_structure
from lipzoo.attention.structure_of import PARENT_DEGREES
from lipzoo.errors import DataError

__all__ = ["degree_counts", "degree_roots", "keep_degrees"]

_ADVICE = (
    "call lipzoo.nn.keep_degrees(graph) on the whole graph before it is sampled or cut, or "
    "keep_degrees(blocks, graph) afterwards"
)


def keep_degrees(graph: Any, parent: Any = None) -> None:
    """Let blocks and parts know the in-degrees of the graph that they are cut from.

    With them, ``degree_norm`` gives the rows of the whole graph, in blocks of all neighbours and
    in parts that hold the neighbours their nodes need.

    Parameters
    ----------
    graph : DGLGraph, or list of blocks
        Without ``parent`` the whole graph. ``graph.ndata["parent_degrees"]`` (N, 2) then goes with
        its nodes into what DGL's samplers and ``dgl.node_subgraph`` make of it. With ``parent``
        blocks or a part, such as ``dgl.metis_partition`` makes, which name their nodes in
        ``dgl.NID``; in place.
    parent : any graph, optional
        The whole one; see :func:`~lipzoo.attention.as_structure`.

    Raises
    ------
    DataError
        If a part does not name its nodes, or names some that there are not.
    """
    parts = graph if isinstance(graph, (list, tuple)) else [graph]
    for part in parts:
        if not is_graph(part):
            raise DataError(
                f"keep_degrees writes into a DGLGraph or blocks, got {type(part).__name__}; "
                "otherwise: lipzoo.attention.Structure(..., parent_degrees=...)"
            )
        if parent is None:
            found = degree_counts(as_structure(part))
        else:
            found = as_structure(parent).derived(degree_counts)[_nodes_of(part, parent)]
        part.srcdata[PARENT_DEGREES] = found.to(part.device)


def degree_counts(structure: Structure) -> Tensor:
    """In-edges from other nodes, and self-loops, of each node: int32 (N, 2)."""
    if structure.num_src != structure.num_dst or structure.is_bipartite:
        raise DataError(f"this is no whole graph, which knows the degrees of its nodes: {_ADVICE}")
    others = structure.without_self_loops().in_degrees
    return torch.stack([others, structure.in_degrees - others], 1).int()


def _nodes_of(part: Any, parent: Any) -> Tensor:
    """The nodes of a part, as the whole graph numbers them."""
    if NID not in part.srcdata:
        raise DataError(
            "keep_degrees: the part does not say which nodes of the whole graph its own are: "
            "part.srcdata[dgl.NID] = ids"
        )
    nodes, number = part.srcdata[NID].long(), as_structure(parent).num_src
    if nodes.numel() and not 0 <= int(nodes.min()) <= int(nodes.max()) < number:
        raise DataError(
            f"keep_degrees: the part names nodes {int(nodes.min())}..{int(nodes.max())} in dgl.NID,"
            f" and those of the whole graph are 0..{number - 1}"
        )
    return nodes.to(as_structure(parent).device)


def degree_roots(structure: Structure, dtype: torch.dtype) -> Tensor:
    """Square roots of the in-degrees of the source nodes, (N_src,); none counts as one.

    Raises
    ------
    DataError
        If the structure is a block that does not tell them, or its source nodes have none.
    """
    if structure.is_bipartite:
        raise DataError(
            "degree_norm needs the in-degrees of all nodes, and the source nodes of this graph, "
            "which are others than its destination nodes, have none: construct the layer with "
            "degree_norm='none', or pass dgl.to_homogeneous(graph)"
        )
    degrees = structure.parent_degrees
    if degrees is None:
        if structure.num_src != structure.num_dst:
            raise DataError(
                "degree_norm needs the degrees of all nodes, which these blocks do not tell: "
                f"{_ADVICE}; or pass the whole graph"
            )
        if structure.is_part:
            warnings.warn(
                "degree_norm: this graph was cut from another (it has dgl.NID), and does not tell "
                "the degrees of its nodes there: it is taken for a whole graph, and its nodes "
                f"differ from what they are in the other; {_ADVICE}. Where it is meant to be a "
                "whole one: del graph.ndata[dgl.NID]",
                stacklevel=2,
            )
        degrees = structure.in_degrees
    return degrees.to(dtype).clamp_min(1).sqrt()
