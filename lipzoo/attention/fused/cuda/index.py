"""What the GPU kernels need to know of a structure, made once, on its device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lipzoo.attention.structure import Structure

__all__ = ["SEGMENT", "CudaIndex", "Segments", "cuda_index"]

#: Edges that one program walks. A program takes its edges one block after the other, so a hub of
#: 100,000 edges would keep the whole graph waiting; it is cut into segments that are added up.
SEGMENT = 512


@dataclass(frozen=True)
class Segments:
    """The edges of each node, in segments of at most ``SEGMENT``: what one program walks.

    Segment ``w`` holds the edges ``begin[w] .. end[w]`` of ``node[w]``. The first N segments are
    the first ones of the N nodes, so where no node has more than one, what a kernel writes per
    segment is what it writes per node. The others follow, node by node.

    Parameters
    ----------
    num_nodes : int
        N.
    node, begin, end : Tensor (W,)
        The segments.
    other, edge : Tensor (E,)
        The node at the other end of each edge, and the number of the edge in the graph.
    hubs : Tensor (K,)
        The nodes with more than one segment.
    parts : Tensor (K + 1,)
        Hub ``k`` has the further segments ``parts[k] .. parts[k + 1]``.
    """

    num_nodes: int
    node: Tensor
    begin: Tensor
    end: Tensor
    other: Tensor
    edge: Tensor
    hubs: Tensor
    parts: Tensor


@dataclass(frozen=True)
class CudaIndex:
    """In-edges by destination and out-edges by source, in 32 bits."""

    in_edges: Segments
    out_edges: Segments


def cuda_index(structure: Structure) -> CudaIndex:
    """The index of a structure, on its device, made once."""
    return structure.derived(_index)


def _index(structure: Structure) -> CudaIndex:
    return CudaIndex(_cut(*structure.csc), _cut(*structure.csr))


def _cut(indptr: Tensor, other: Tensor, edge: Tensor) -> Segments:
    num_nodes = indptr.numel() - 1
    nodes = torch.arange(num_nodes, device=indptr.device)
    further = (indptr.diff() - 1).clamp(min=0) // SEGMENT
    hubs = further.nonzero().squeeze(1)
    count = further[hubs]
    stop = count.cumsum(0)
    owner = hubs.repeat_interleave(count)
    number = torch.arange(owner.numel(), device=owner.device) + 1
    number = number - (stop - count).repeat_interleave(count)  # 1, 2, … for each hub
    node = torch.cat([nodes, owner])
    begin = indptr[node]
    begin[num_nodes:] += number * SEGMENT
    end = torch.minimum(begin + SEGMENT, indptr[node + 1])
    parts = num_nodes + torch.cat([stop.new_zeros(1), stop])
    tensors = (node, begin, end, other, edge, hubs, parts)
    return Segments(num_nodes, *(tensor.int() for tensor in tensors))
