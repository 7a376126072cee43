"""What the CPU kernels need to know of a structure, made once."""

from __future__ import annotations

from functools import cache
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from lipzoo.attention.held_edges import HeldEdges, index_dtype
from lipzoo.attention.structure import Structure
from lipzoo.attention.structure_of import as_structure
from lipzoo.errors import DataError

__all__ = ["NUM_CHUNKS", "CompactEdges", "KernelIndex", "compact", "kernel_index"]

#: Chunks of nodes that a kernel is divided into, whatever the number of threads: sums over
#: chunks then round the same way on every machine.
NUM_CHUNKS = 64


class CompactEdges(HeldEdges):
    """Held by the kernels' index alone; a list of them is made anew whenever it is asked for.

    Parameters
    ----------
    index : KernelIndex
        Of the structure that holds them otherwise.
    """

    def __init__(self, index: KernelIndex) -> None:
        # Not the index: it holds the edges in the other way.
        self.sorted, self.ids = index.sorted, index.ids

    @property
    def src(self) -> Tensor:
        return self._listed()[0]

    @property
    def dst(self) -> Tensor:
        return self._listed()[1]

    @property
    def num_edges(self) -> int:
        return len(self.ids[False])

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def counted_in(self, num_dst: int) -> Tensor:
        return torch.from_numpy(np.diff(self.sorted[False][1]).astype(np.int64))

    def lacking(self, num_dst: int) -> Tensor:
        _, indptr, ends = self.sorted[False]
        has_loop = np.zeros(num_dst, bool)
        _kernels().find_loops(indptr, ends, has_loop)
        return torch.from_numpy(np.flatnonzero(~has_loop))

    def _listed(self) -> tuple[Tensor, Tensor]:
        _, indptr, ends = self.sorted[False]
        src, dst = np.empty_like(ends), np.empty_like(ends)
        _kernels().unsort(indptr, ends, self.ids[False], src, dst)
        return torch.from_numpy(src), torch.from_numpy(dst)


def compact(structure: Structure, attn_drop: bool = False) -> Structure:
    """The same edges, held by what the CPU's fused kernels read and nothing else.

    That is 12 bytes an edge and 8 a node, all in all: the graph that ``structure`` was made of may
    be freed. All other tensors are made anew when they are asked for.

    Parameters
    ----------
    structure : Structure, or a graph
        On the CPU, with the self-loops that are to be there.
    attn_drop : bool
        Make what dropout of attention weights needs, too (16 bytes an edge), while the edges are
        at hand; otherwise the first pass that drops some makes it, and takes more meanwhile.

    Examples
    --------
    >>> structure = lipzoo.attention.compact(as_structure(graph, add_self_loops=True))
    >>> del graph
    >>> model(structure, feat)

    Raises
    ------
    DataError
        If the structure is not on the CPU.
    """
    structure = as_structure(structure)
    if structure.device.type != "cpu":
        raise DataError(
            f"compact: the edges are on {structure.device}, and the index is for the CPU's "
            'kernels: structure.to("cpu")'
        )
    index = kernel_index(structure)
    index.in_edges(with_ids=True)
    index.out_edges(with_ids=attn_drop)
    made = structure.holding(CompactEdges(index))
    made.edge_feat = structure.edge_feat
    return made


class KernelIndex:
    """Edges by destination and by source in 32 bits, and chunks of nodes of equal work.

    A counting sort of the structure's edges as they are stored, self-loops added or left out on
    the way: edges of a node stay in the order of their ids, which is the order of all sums. That
    is 8 bytes an edge and 8 a node; 16 an edge where the ids are asked for, by dropout alone.

    Parameters
    ----------
    structure : Structure
        On the CPU.
    """

    def __init__(self, structure: Structure) -> None:
        self._stored = structure.stored
        self._num_nodes = structure.num_src, structure.num_dst
        largest = max(*self._num_nodes, structure.num_edges)
        self.dtype = np.dtype(np.int32 if index_dtype(largest) == torch.int32 else np.int64)
        # By source or not; made when first asked for: without gradients the out-edges are not.
        self.sorted: dict[bool, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
        self.ids: dict[bool, np.ndarray] = {}
        if isinstance(self._stored, CompactEdges):
            self.sorted, self.ids = self._stored.sorted, self._stored.ids

    def in_edges(self, with_ids: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Bounds of the chunks of destination nodes, where a node's in-edges start, their source
        nodes, and their edge ids: (65,), (N_dst + 1,), (E,), (E,); no ids without ``with_ids``.

        Raises
        ------
        DataError
            If an edge names a node that there is not.
        """
        return self._by(False, with_ids)

    def out_edges(self, with_ids: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The same by source: their destination nodes."""
        return self._by(True, with_ids)

    def _by(self, by_source: bool, with_ids: bool) -> tuple[np.ndarray, ...]:
        none = np.empty(0, self.dtype)
        if by_source not in self.sorted:
            indptr = self._counted(by_source)
            ends = np.empty(indptr[-1], self.dtype)
            ids = np.empty_like(ends) if with_ids else none
            _kernels().place(*self._edges(by_source), indptr, ends, ids)
            if with_ids:
                self.ids[by_source] = ids
            self.sorted[by_source] = _chunks(indptr), indptr, ends
        elif with_ids and by_source not in self.ids:
            _, indptr, ends = self.sorted[by_source]
            ids = np.empty_like(ends)
            _kernels().place(*self._edges(by_source), indptr.copy(), none, ids)
            self.ids[by_source] = ids
        return *self.sorted[by_source], self.ids[by_source] if with_ids else none

    def _counted(self, by_source: bool) -> np.ndarray:
        """Where the edges of each node start, (N + 1,)."""
        others, nodes = self._num_nodes if not by_source else self._num_nodes[::-1]
        indptr = np.zeros(nodes + 1, self.dtype)
        wrong = _kernels().count(*self._edges(by_source), others, indptr)
        if wrong >= 0:
            src, dst = int(self._stored.src[wrong]), int(self._stored.dst[wrong])
            raise DataError(
                f"edge {wrong} goes from node {src} to node {dst}, and there are "
                f"{self._num_nodes[0]} source and {self._num_nodes[1]} destination nodes, "
                "numbered from 0"
            )
        return indptr

    def _edges(self, by_source: bool) -> tuple[np.ndarray, np.ndarray, bool, np.ndarray]:
        """What is sorted by, the other end, whether self-loops are left out, those added."""
        stored = self._stored
        added = torch.empty(0, dtype=torch.int32) if stored.added is None else stored.added
        src, dst, added = (nodes.contiguous().numpy() for nodes in (stored.src, stored.dst, added))
        ends = (src, dst) if by_source else (dst, src)
        return *ends, stored.left_out > 0, added


@cache
def _kernels() -> ModuleType:
    """Numba is imported here: importing lipzoo must stay quick."""
    from lipzoo.attention.fused import index_kernels
    from lipzoo.attention.fused.kernel_cache import load_quickly

    load_quickly(vars(index_kernels).values())
    return index_kernels


def kernel_index(structure: Structure) -> KernelIndex:
    """The index of a structure on the CPU, made once."""
    return structure.derived(KernelIndex)


def _chunks(indptr: np.ndarray) -> np.ndarray:
    """Bounds of chunks with equal numbers of edges (and nodes, which cost about four edges)."""
    work = indptr.astype(np.int64) + 4 * np.arange(len(indptr))
    bounds = np.searchsorted(work, np.linspace(0, work[-1], NUM_CHUNKS + 1))
    bounds[-1] = len(indptr) - 1
    return bounds.clip(max=len(indptr) - 1)
