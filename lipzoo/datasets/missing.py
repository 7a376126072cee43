"""Missing vectors: erase the features of a share of all non-training nodes."""

from __future__ import annotations

import numpy as np
import scipy.sparse
import torch
from sklearn.utils.extmath import svd_flip

from lipzoo._graph import AnyGraph
from lipzoo.datasets.task import GraphTask
from lipzoo.errors import ConfigError, DataError, did_you_mean

__all__ = ["FILLS", "erase_features", "known_nodes", "propagate_features"]

#: What stands in for erased features: zeros; what the known ones spread along the edges; the same
#: in few columns.
FILLS = ("zero", "propagate", "propagate-svd")


def erase_features(
    task: GraphTask, missing_rate: float, seed: int = 0, fill: str = "zero"
) -> GraphTask:
    """Erase the features of ``missing_rate`` of the nodes outside the training mask.

    Deep networks are needed here: what a node knows has to come from further away. With one seed,
    the nodes erased at a lower rate are among those erased at a higher one.

    Parameters
    ----------
    task : GraphTask
        Not touched.
    missing_rate : float
        The share, from 0 to 1, of all nodes that do not train (N less the training nodes).
    seed : int
        Seed of the NumPy generator that draws the nodes; nothing global is touched.
    fill : {"zero", "propagate", "propagate-svd"}
        What stands in for them: zeros, or :func:`propagate_features` of those that are left; with
        ``-svd`` in the axes of the known rows, of which there are at most as many as known nodes:
        all inner products stay, and a dense matrix of thousands of words becomes a narrow one.

    Returns
    -------
    GraphTask
        Same graph, new features; its options name the rate, the seed and the fill.

    Raises
    ------
    DataError
        If the task has no training mask.
    ConfigError
        If the rate lies outside 0..1, or there is no such fill.

    References
    ----------
    Zhao & Akoglu, "PairNorm", ICLR 2020, section 4.2; Dasoulas et al., "Lipschitz Normalization
    for Self-Attention Layers", ICML 2021, section 5.
    """
    if not 0 <= missing_rate <= 1:
        raise ConfigError(f"missing_rate is {missing_rate}, a share from 0 to 1")
    if fill not in FILLS:
        raise ConfigError(f"missing_fill: no choice {fill!r}{did_you_mean(fill, FILLS)}")
    if missing_rate == 0:
        return task
    is_known = known_nodes(task, missing_rate, seed)
    # What the data are told by: they themselves, erased, whatever the features were made to be.
    told = task.with_ndata(feat=_erased(task.source.feat.to(task.device), is_known))
    told._source = task.source
    feat = _erased(task.feat, is_known)
    options = {"missing_rate": float(missing_rate), "missing_seed": int(seed)}
    if fill != "zero":
        options["missing_fill"] = fill
        feat = propagate_features(task.graph, feat, is_known)
    if fill == "propagate-svd":
        feat = _in_known_axes(feat, is_known)
    return told.with_feat(feat, **options)


def known_nodes(task: GraphTask, missing_rate: float, seed: int = 0) -> torch.Tensor:
    """The nodes, (N,) bool, whose features :func:`erase_features` leaves.

    Raises
    ------
    DataError
        If the task has no training mask.
    """
    if task.train_mask is None:
        raise DataError(f"{task.name}: missing_rate needs a train_mask, this graph has none")
    pool = np.flatnonzero(~task.train_mask.cpu().numpy())
    erased = np.random.default_rng(seed).permutation(pool)[: round(missing_rate * len(pool))]
    is_known = torch.ones(task.num_nodes, dtype=torch.bool)
    is_known[torch.from_numpy(erased)] = False
    return is_known.to(task.device)


def _erased(feat: torch.Tensor, is_known: torch.Tensor) -> torch.Tensor:
    return feat.masked_fill(~is_known.unsqueeze(1), 0)


def propagate_features(
    graph: AnyGraph, feat: torch.Tensor, is_known: torch.Tensor, num_steps: int = 40
) -> torch.Tensor:
    r"""Fill in unknown features by diffusing the known ones along the edges.

    .. math::
        X \leftarrow D_{in}^{-1/2} A \, D_{out}^{-1/2} X, \qquad X_K \leftarrow \text{given},

    ``num_steps`` times, from zeros. At the end each filled row is scaled to the mean absolute sum
    of the known rows, so that a node far from them is not fainter than one nearby; a node that
    nothing reaches stays zero.

    Parameters
    ----------
    graph : AnyGraph
        Of N nodes.
    feat : Tensor (N, F)
        Rows that are not known are not read.
    is_known : Tensor (N,), bool
        The nodes ``K`` whose features are given.
    num_steps : int
        How far features travel.

    Returns
    -------
    Tensor (N, F)

    References
    ----------
    Rossi et al., "On the Unreasonable Effectiveness of Feature Propagation in Learning on Graphs
    with Missing Node Features", LoG 2022, algorithm 1. The scaling is not theirs.
    """
    src, dst = (ends.cpu().numpy() for ends in graph.edges())
    shape = (graph.num_nodes(), graph.num_nodes())
    adjacency = scipy.sparse.csr_matrix((np.ones(len(src), np.float32), (dst, src)), shape=shape)
    adjacency.data[:] = 1  # parallel edges count once
    scales = [
        scipy.sparse.diags(np.maximum(np.asarray(adjacency.sum(axis)).ravel(), 1) ** -0.5)
        for axis in (1, 0)
    ]
    step = scales[0] @ adjacency @ scales[1]
    known = is_known.cpu().numpy()
    given = feat.detach().cpu().numpy()[known]
    filled = np.zeros(tuple(feat.shape), given.dtype)
    filled[known] = given
    for _ in range(num_steps):
        filled = (step @ filled).astype(given.dtype, copy=False)
        filled[known] = given
    sums = np.abs(filled).sum(1, keepdims=True)
    goal = sums[known].mean() if known.any() else 0.0
    scale = np.divide(goal, sums, out=np.ones_like(sums), where=(sums > 0) & ~known[:, None])
    return torch.from_numpy(filled * scale).to(feat)


def _in_known_axes(feat: torch.Tensor, is_known: torch.Tensor) -> torch.Tensor:
    """Features (N, F) that are combinations of the known rows, in the axes of these, (N, rank)."""
    u, s, vt = np.linalg.svd(feat[is_known].cpu().double().numpy(), full_matrices=False)
    rank = int((s > 1e-6 * s[:1]).sum())
    # Signs of axes are the machine's choice: that of the largest entry is made positive.
    _, vt = svd_flip(u, vt, u_based_decision=False)
    return feat @ torch.from_numpy(vt[:rank].T.copy()).to(feat)
