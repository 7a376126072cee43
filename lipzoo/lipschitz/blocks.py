"""Run attention layers a few destination nodes at a time, so that large graphs fit in memory."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lipzoo.attention import Structure, as_structure
from lipzoo.nn import AttentionConv
from lipzoo.nn.edges import rows_attended
from lipzoo.nn.local import is_local

__all__ = ["in_blocks"]

#: Numbers on the edges of one block, E * H * D: 16 MiB of float64.
_NUMBERS = 2**21
#: Arguments that have a row an edge, which goes to the block that the edge is in.
_OF_EDGES = ("edge_feat", "edge_weight")


@contextmanager
def in_blocks(layers: list[AttentionConv]) -> Iterator[None]:
    """Inside, each layer attends for some destination nodes at a time and keeps nothing but its
    input for the backward pass. The results are the same."""
    changed = [layer for layer in layers if "forward" not in vars(layer) and is_local(layer)]
    for layer in changed:
        layer.forward = _blockwise(layer, type(layer).forward.__get__(layer))
    try:
        yield
    finally:
        for layer in changed:
            del layer.forward


def _blockwise(layer: AttentionConv, forward):
    signature = inspect.signature(forward)

    def run(graph, feat: Tensor, *args, **options) -> Tensor:
        given = signature.bind(graph, feat, *args, **options).arguments
        asked = {name for name, value in given.items() if value is not None and value is not False}
        if isinstance(feat, tuple) or asked - {"graph", "feat", *_OF_EDGES}:
            return forward(graph, feat, *args, **options)
        structure = layer.attended(graph, feat)
        whole = as_structure(graph, feat=feat)
        rows = {
            name: rows_attended(given[name], whole, structure)
            for name in _OF_EDGES
            if name in asked
        }

        def attend(feat: Tensor, nodes: Tensor, block: Structure, edges: Tensor) -> Tensor:
            return forward(block, feat[nodes], **{name: row[edges] for name, row in rows.items()})

        # The blocks are written into one tensor's rows in order.
        return torch.cat(
            [
                checkpoint(attend, feat, *block, use_reentrant=False)
                if torch.is_grad_enabled()
                else attend(feat, *block)
                for block in structure.derived(_blocks, layer.num_heads * layer.out_feats)
            ]
        )

    return run


def _blocks(structure: Structure, width: int) -> list[tuple[Tensor, Structure, Tensor]]:
    """Blocks of consecutive destination nodes, each behind the nodes that it reads, those first,
    and before the ids of its edges."""
    edges_each = max(1, _NUMBERS // width)
    indptr, src, edge_ids = structure.csc
    degrees = structure.parent_degrees
    if degrees is None and structure.num_src == structure.num_dst:
        degrees = structure.in_degrees
    blocks = []
    first = 0
    local = torch.empty(structure.num_src, dtype=torch.long)
    while first < structure.num_dst:
        stop = int(torch.searchsorted(indptr, indptr[first] + edges_each, right=True)) - 1
        stop = min(max(stop, first + 1), structure.num_dst)
        sources = src[indptr[first] : indptr[stop]]
        own = torch.arange(first, stop)
        others = torch.unique(sources)
        others = others[(others < first) | (others >= stop)]
        nodes = torch.cat([own, others])
        local[nodes] = torch.arange(len(nodes))
        in_degrees = indptr[first + 1 : stop + 1] - indptr[first:stop]
        dst = torch.repeat_interleave(torch.arange(stop - first), in_degrees)
        parent = None if degrees is None else degrees[nodes]
        block = Structure(local[sources], dst, len(nodes), stop - first, parent_degrees=parent)
        blocks.append((nodes, block, edge_ids[indptr[first] : indptr[stop]]))
        first = stop
    return blocks
