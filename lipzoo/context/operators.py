"""What is computed of a graph and its features before any label is read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.preprocessing import StandardScaler, normalize
from sklearn.utils.extmath import randomized_svd

from lipzoo.datasets import GraphTask
from lipzoo.datasets.scaling import COMMON, MOST_APART

__all__ = ["Neighbourhood", "encode_feat", "same_length", "spectral_feat", "structural_feat"]

#: Triangles are counted where that takes at most so many steps an edge.
_STEPS_AN_EDGE = 100
_STEPS_AT_ONCE = 10_000_000


@dataclass(frozen=True)
class Neighbourhood:
    """A graph without its self-loops and repeated edges: who passes a message to whom.

    ``adjacency`` is (N, N) with a 1 in row i and column j for an edge from j to i.
    """

    adjacency: sp.csr_matrix

    @classmethod
    def of(cls, task: GraphTask) -> Neighbourhood:
        src, dst = (ends.numpy() for ends in task.graph.edges())
        n = task.graph.num_nodes()
        is_loop = src == dst
        ends = dst[~is_loop], src[~is_loop]
        adjacency = sp.csr_matrix((np.ones(len(ends[0]), np.float32), ends), shape=(n, n))
        adjacency.data[:] = 1
        return cls(adjacency)

    @property
    def num_nodes(self) -> int:
        return self.adjacency.shape[0]

    @cached_property
    def degree(self) -> np.ndarray:
        """In-degrees, (N,)."""
        return np.diff(self.adjacency.indptr).astype(np.float64)

    @cached_property
    def mean(self) -> sp.csr_matrix:
        """The mean over the neighbours: D^-1 A."""
        return self._scaled(self.adjacency, 1 / np.maximum(self.degree, 1))

    @cached_property
    def smooth(self) -> sp.csr_matrix:
        """The mean over a node and its neighbours: (D + I)^-1 (A + I)."""
        return self._scaled(self._with_loops, 1 / (self.degree + 1))

    @cached_property
    def symmetric(self) -> sp.csr_matrix:
        """(D + I)^-1/2 (A + I) (D + I)^-1/2, of the edges taken both ways."""
        both = self._with_loops.maximum(self._with_loops.T).tocsr()
        scale = sp.diags(1 / np.sqrt(np.diff(both.indptr))).astype(np.float32)
        return (scale @ both @ scale).tocsr()

    @cached_property
    def returns(self) -> np.ndarray:
        """The probability to be back after two steps of a random walk, (N,)."""
        return np.asarray(self.mean.multiply(self.mean.T).sum(1)).ravel()

    @cached_property
    def _with_loops(self) -> sp.csr_matrix:
        return (self.adjacency + sp.identity(self.num_nodes, np.float32, "csr")).tocsr()

    @staticmethod
    def _scaled(matrix: sp.csr_matrix, scale: np.ndarray) -> sp.csr_matrix:
        return (sp.diags(scale.astype(np.float32)) @ matrix).tocsr()


def encode_feat(task: GraphTask, width: int, seed: int) -> np.ndarray:
    """Features as few columns of about the same size, float32 (N, at most max(width, F)).

    Columns are standardised and cut at five standard deviations; those that are constant are left
    out. More than ``width`` become that many by a truncated singular value decomposition, and rows
    get one length. Where most entries are 0, tf-idf takes the place of the standardisation; where
    some are negative, or columns are of units of their own, a division by the standard deviation.
    """
    feat = task.feat.numpy()
    n, columns = feat.shape
    if columns <= width:
        return _standardised(feat).astype(np.float32)
    sparse = task.sparse_feat
    if sparse is None:
        rows = sp.csr_matrix(feat) if (feat == 0).mean() > 0.5 else feat
    else:
        parts = sparse.values(), sparse.col_indices(), sparse.crow_indices()
        rows = sp.csr_matrix(tuple(part.numpy() for part in parts), shape=feat.shape)
    if not sp.issparse(rows):
        rows = _standardised(rows)
    elif _is_of_words(rows):
        rows = TfidfTransformer().fit_transform(rows.astype(np.float64))
    else:
        rows = StandardScaler(with_mean=False).fit_transform(rows.astype(np.float64))
    # Squares of large float32 overflow, and scikit-learn takes rows of small ones for zeros.
    rows = rows.astype(np.float64)
    largest = abs(rows).max() if rows.shape[1] else 0
    if not largest:
        return np.zeros((n, 0), np.float32)  # as of columns that are constant
    rows = normalize(rows / max(largest, np.finfo(np.float32).tiny))
    few = max(min(width, n - 1, rows.shape[1] - 1), 1)
    reduced = TruncatedSVD(few, n_iter=4, random_state=seed).fit_transform(rows)
    return same_length(reduced - reduced.mean(0))


def _is_of_words(rows: sp.csr_matrix) -> bool:
    """Whether the columns may be counts, or shares, of words: none is negative, and those that are
    common are of sizes that can be compared."""
    if not rows.nnz or rows.data.min() < 0:
        return not rows.nnz
    columns = sp.csc_matrix(rows, dtype=np.float64)
    count = np.diff(columns.indptr)
    sizes = np.asarray(columns.sum(0)).ravel() / np.maximum(count, 1)
    sizes = sizes[count >= COMMON * rows.shape[0]]
    return not sizes.size or sizes.max() <= MOST_APART * sizes.min()


def _standardised(feat: np.ndarray) -> np.ndarray:
    """float64, without constant columns."""
    scaler = StandardScaler()
    scaled = np.clip(scaler.fit_transform(feat.astype(np.float64)), -5, 5)
    return scaled[:, scaler.var_ > 0]


def same_length(rows: np.ndarray) -> np.ndarray:
    """Rows of the length sqrt(d) / 4, so that an entry is about 1/4; rows of zeros stay."""
    return (normalize(rows) * np.sqrt(rows.shape[1]) / 4).astype(np.float32)


def structural_feat(graph: Neighbourhood) -> np.ndarray:
    """What the edges alone say of a node, float32 (N, 5), standardised.

    Logarithm of the degree, the probability to return, the clustering coefficient (0 for all
    where counting triangles takes more than a hundred steps an edge), and the first averaged over
    the neighbours once and twice.
    """
    degree = np.log1p(graph.degree)
    near = graph.mean @ degree
    columns = [degree, graph.returns, _clustering(graph), near, graph.mean @ near]
    scaled = StandardScaler().fit_transform(np.stack(columns, 1))
    return np.clip(scaled, -4, 4).astype(np.float32)


def _clustering(graph: Neighbourhood) -> np.ndarray:
    adjacency, degree = graph.adjacency, graph.degree
    steps = adjacency.astype(np.float64) @ degree
    if steps.sum() > _STEPS_AN_EDGE * max(adjacency.nnz, 1):
        return np.zeros(graph.num_nodes)
    triangles = np.zeros(graph.num_nodes)
    # Paths of two edges are many more than edges: some rows at a time.
    limits = np.arange(1, steps.sum() // _STEPS_AT_ONCE + 2) * _STEPS_AT_ONCE
    ends = np.searchsorted(np.cumsum(steps), limits) + 1
    first = 0
    for last in np.unique(np.minimum(ends, graph.num_nodes)):
        rows = adjacency[first:last]
        triangles[first:last] = np.asarray((rows @ adjacency).multiply(rows).sum(1)).ravel()
        first = last
    return triangles / np.maximum(degree * (degree - 1), 1)


def spectral_feat(graph: Neighbourhood, number: int, seed: int) -> np.ndarray:
    """The first vectors of the symmetric adjacency and their means over neighbours, float32.

    Of the components that hold a hundredth of the nodes or more: each small one has a largest
    eigenvalue of 1 too, and would take the place of what says something.
    """
    _, component = connected_components(graph.symmetric, directed=False)
    is_kept = (np.bincount(component) >= max(2, graph.num_nodes / 100))[component]
    number = min(number, is_kept.sum() // 8)
    if not number:
        return np.zeros((graph.num_nodes, 0), np.float32)
    part = graph.symmetric[is_kept][:, is_kept]
    found, _, _ = randomized_svd(part, number, n_iter=3, random_state=seed)
    vectors = np.zeros((graph.num_nodes, number), np.float32)
    vectors[is_kept] = found * np.sqrt(is_kept.sum()) / 2
    return np.concatenate([vectors, graph.mean @ vectors], 1)
