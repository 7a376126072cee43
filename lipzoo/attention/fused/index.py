"""What the CPU kernels need to know of a structure, made once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from lipzoo.attention.structure import Structure

__all__ = ["NUM_CHUNKS", "KernelIndex", "kernel_index"]

#: Chunks of nodes that a kernel is divided into, whatever the number of threads: sums over
#: chunks then round the same way on every machine.
NUM_CHUNKS = 64


@dataclass(frozen=True)
class KernelIndex:
    """Edges by destination and by source in 32 bits, and chunks of nodes of equal work.

    ``in_edges`` holds the bounds of the chunks of destination nodes, where a node's in-edges
    start, their source nodes and their edge ids; ``out_edges`` the same for source nodes.
    """

    in_edges: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
    out_edges: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
    has_all_loops: bool


def kernel_index(structure: Structure) -> KernelIndex:
    """The index of a structure on the CPU, made once."""
    return structure.derived(_index)


def _index(structure: Structure) -> KernelIndex:
    loops = structure.dst[structure.src == structure.dst]
    return KernelIndex(
        _by_node(structure.csc),
        _by_node(structure.csr),
        torch.unique(loops).numel() == structure.num_dst,
    )


def _by_node(compressed: tuple[torch.Tensor, ...]) -> tuple[np.ndarray, ...]:
    indptr, other_end, edge = (t.int().numpy() for t in compressed)
    return _chunks(indptr), indptr, other_end, edge


def _chunks(indptr: np.ndarray) -> np.ndarray:
    """Bounds of chunks with equal numbers of edges (and nodes, which cost about four edges)."""
    work = indptr.astype(np.int64) + 4 * np.arange(len(indptr))
    bounds = np.searchsorted(work, np.linspace(0, work[-1], NUM_CHUNKS + 1))
    bounds[-1] = len(indptr) - 1
    return bounds.clip(max=len(indptr) - 1)
