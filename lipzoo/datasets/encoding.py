"""Features of any width, encoded in one fixed width that weights can be carried over in."""

from __future__ import annotations

import math
from operator import index

import numpy as np
import scipy.sparse as sp
import torch
from scipy.stats import ortho_group
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.preprocessing import StandardScaler, normalize
from sklearn.utils.extmath import randomized_svd, svd_flip

from lipzoo._schema import validate
from lipzoo.datasets.task import GraphTask
from lipzoo.errors import ConfigError, DataError
from lipzoo.settings import Evidence

__all__ = [
    "NUM_STRUCTURAL",
    "adjacency_matrix",
    "encode_features",
    "encode_task",
    "structural_features",
]

#: log-degree, and the probabilities that a random walk is back after 2, 3 and 4 steps.
NUM_STRUCTURAL = 4
#: Rows of the two-step walk that are held at once: it is far denser than the graph.
_BLOCK = 2048


def encode_task(task: GraphTask, width: int = 64, seed: int = 0) -> GraphTask:
    """The task with encoded features, (N, width + 4): those of the nodes, then of the graph.

    Nothing is learnt from labels or masks. The task's options name the encoding; its fingerprint
    stays that of the data, since the last bits of a decomposition differ between machines. A
    task that has this encoding already is returned as it is.

    Parameters
    ----------
    task : GraphTask
        Not touched.
    width : int
        Width that :func:`encode_features` gives.
    seed : int
        Of the decomposition and the rotation.

    Raises
    ------
    ConfigError
        If the width or the seed is out of its range, or the task has another encoding.
    DataError
        If the task has no usable features.
    """
    spec = {"width": index(width), "seed": index(seed)}  # plain numbers, as cards have them
    validate(Evidence, spec, where="encoding")
    present = task.options.get("encoding")
    if present == spec:
        return task
    if present is not None:
        raise ConfigError(f"{task.name}: is encoded as {present}, not {spec}; pass the raw task")
    if "feat" not in task.graph.ndata or not torch.isfinite(task.feat).all():
        raise DataError(f"{task.name}: needs finite node features; see GraphTask.validate")
    feat = encode_features(task.feat.cpu().numpy(), width, seed)
    columns = np.concatenate([feat, structural_features(adjacency_matrix(task.graph))], axis=1)
    return task.with_feat(torch.from_numpy(columns).float().to(task.device), encoding=spec)


def encode_features(
    features: np.ndarray | sp.spmatrix, width: int = 64, seed: int = 0
) -> np.ndarray:
    r"""Features (N, F) of any width ``F`` as (N, width).

    .. math::
        X = \mathrm{rows}(\mathrm{tfidf}(F)) \approx U S V^\top, \qquad
        Z = \sqrt{d} \, \mathrm{rows}(U S - \mathbf 1 \mu^\top) \, Q

    with rows of length 1, the means :math:`\mu` of the columns, and a random rotation ``Q`` of the
    seed, which gives all columns about unit variance: the first axes of a decomposition would
    otherwise hold most of it. Non-negative features count as words, and are weighted by how rare
    they are (tf-idf); others are standardised. The sign of an axis is that of its largest entry
    in V. Where F or N is below the width, the axes that are missing are 0 before the rotation.

    Parameters
    ----------
    features : array or scipy sparse matrix (N, F)
        A row of zeros stays 0 apart from the shift by the means.
    width : int
        ``d``.
    seed : int
        Of the randomised decomposition and of ``Q``.

    Returns
    -------
    numpy.ndarray (N, width)
        float64. Permuting the rows of the features permutes its rows.

    Raises
    ------
    ConfigError
        If ``width`` is below 1 or ``seed`` negative.

    References
    ----------
    Deerwester et al., "Indexing by Latent Semantic Analysis", 1990; Halko et al., 2011.
    """
    if width < 1 or seed < 0:
        raise ConfigError(f"encoding: needs width >= 1 and seed >= 0, got {width} and {seed}")
    raw = sp.csr_matrix(features, dtype=np.float64)
    if raw.nnz and raw.data.min() < 0:
        scaled = StandardScaler().fit_transform(raw.toarray())
    else:
        scaled = TfidfTransformer().fit_transform(raw)
    axes = _truncated_svd(normalize(scaled), width, seed)
    unit = normalize(axes - axes.mean(axis=0))
    missing = width - unit.shape[1]
    return math.sqrt(width) * np.pad(unit, ((0, 0), (0, missing))) @ _rotation(width, seed)


def structural_features(adjacency: sp.csr_matrix) -> np.ndarray:
    r"""What a node's surroundings look like, (N, 4), each column standardised.

    .. math::
        \log(1 + d_i), \quad (P^2)_{ii}, \quad (P^3)_{ii}, \quad (P^4)_{ii}, \qquad P = D^{-1} A

    Parameters
    ----------
    adjacency : scipy sparse matrix (N, N)
        Symmetric, 0 or 1, without loops.

    References
    ----------
    Dwivedi et al., "Graph Neural Networks with Learnable Structural and Positional
    Representations", ICLR 2022 (random-walk return probabilities).
    """
    degree = np.asarray(adjacency.sum(axis=1)).ravel()
    # Of a symmetric graph, P^b_ji = d_i P^b_ij / d_j: a column is a row that is rescaled.
    inverse = 1 / np.maximum(degree, 1)
    walk = (sp.diags(inverse) @ adjacency).tocsr()
    back: list[list[np.ndarray]] = [[], [], []]
    for start in range(0, len(degree), _BLOCK):
        rows = slice(start, start + _BLOCK)
        one, two = walk[rows], walk[rows] @ walk
        for values, (left, right) in zip(back, ((one, one), (two, one), (two, two))):
            values.append(degree[rows] * (left.multiply(right) @ inverse))
    columns = np.stack([np.log1p(degree), *map(np.concatenate, back)], axis=1)
    return StandardScaler().fit_transform(columns)


def adjacency_matrix(graph) -> sp.csr_matrix:
    """Of a DGLGraph, (N, N): 1 where an edge joins two nodes in either direction, no loops."""
    src, dst = (ends.cpu().numpy() for ends in graph.edges())
    shape = (graph.num_nodes(), graph.num_nodes())
    adjacency = sp.csr_matrix((np.ones(len(src)), (src, dst)), shape)
    adjacency = adjacency.maximum(adjacency.T)
    adjacency = (adjacency - sp.diags(adjacency.diagonal())).tocsr()
    adjacency.eliminate_zeros()
    adjacency.data[:] = 1
    return adjacency


def _truncated_svd(matrix: sp.csr_matrix | np.ndarray, width: int, seed: int) -> np.ndarray:
    """``U S`` of the largest singular values, (N, min(width, N, F)), with canonical signs."""
    if min(matrix.shape) <= 4 * width:
        dense = matrix.toarray() if sp.issparse(matrix) else matrix
        u, s, vt = np.linalg.svd(dense, full_matrices=False)
        u, s, vt = u[:, :width], s[:width], vt[:width]
    else:
        # Untransposed, the random start lies in the space of the features: nodes may be permuted.
        u, s, vt = randomized_svd(
            matrix, width, n_iter=6, random_state=seed, flip_sign=False, transpose=False
        )
    # By the entries of V: those of U change places with the nodes.
    u, _ = svd_flip(u, vt, u_based_decision=False)
    return u * s


def _rotation(width: int, seed: int) -> np.ndarray:
    return ortho_group.rvs(width, random_state=seed) if width > 1 else np.ones((1, 1))
