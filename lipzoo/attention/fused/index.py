"""What the CPU kernels need to know of a structure, made once."""

from __future__ import annotations

import weakref
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

    ``position`` says where the in-edge number ``e`` stands among the out-edges.
    """

    in_ptr: np.ndarray
    in_src: np.ndarray
    in_edge: np.ndarray
    in_chunks: np.ndarray
    out_ptr: np.ndarray
    out_dst: np.ndarray
    out_edge: np.ndarray
    out_chunks: np.ndarray
    position: np.ndarray
    has_all_loops: bool


_INDICES: weakref.WeakKeyDictionary[Structure, KernelIndex] = weakref.WeakKeyDictionary()


def kernel_index(structure: Structure) -> KernelIndex:
    """The index of a structure on the CPU, from the cache."""
    if structure not in _INDICES:
        in_ptr, in_src, in_edge = (t.int().numpy() for t in structure.csc)
        out_ptr, out_dst, out_edge = (t.int().numpy() for t in structure.csr)
        by_edge = np.empty(structure.num_edges, np.int32)
        by_edge[out_edge] = np.arange(structure.num_edges, dtype=np.int32)
        loops = structure.dst[structure.src == structure.dst]
        _INDICES[structure] = KernelIndex(
            in_ptr,
            in_src,
            in_edge,
            _chunks(in_ptr),
            out_ptr,
            out_dst,
            out_edge,
            _chunks(out_ptr),
            by_edge[in_edge],
            torch.unique(loops).numel() == structure.num_dst,
        )
    return _INDICES[structure]


def _chunks(indptr: np.ndarray) -> np.ndarray:
    """Bounds of chunks with equal numbers of edges (and nodes, which cost about four edges)."""
    work = indptr.astype(np.int64) + 4 * np.arange(len(indptr))
    bounds = np.searchsorted(work, np.linspace(0, work[-1], NUM_CHUNKS + 1))
    bounds[-1] = len(indptr) - 1
    return bounds.clip(max=len(indptr) - 1)
