"""Missing vectors: erase the features of a share of all non-training nodes."""

from __future__ import annotations

import numpy as np
import torch

from lipzoo.datasets.task import GraphTask
from lipzoo.errors import DataError

__all__ = ["erase_features"]


def erase_features(task: GraphTask, missing_rate: float, seed: int = 0) -> GraphTask:
    """Set the features of ``missing_rate`` of the nodes outside the training mask to zero.

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

    Returns
    -------
    GraphTask
        Same graph, new features; its options name the rate and the seed.

    Raises
    ------
    DataError
        If the rate lies outside 0..1, or the task has no training mask.

    References
    ----------
    Zhao & Akoglu, "PairNorm", ICLR 2020, section 4.2; Dasoulas et al., "Lipschitz Normalization
    for Self-Attention Layers", ICML 2021, section 5.
    """
    if not 0 <= missing_rate <= 1:
        raise DataError(f"missing_rate is {missing_rate}, a share from 0 to 1")
    if missing_rate == 0:
        return task
    if task.train_mask is None:
        raise DataError(f"{task.name}: missing_rate needs a train_mask, this graph has none")
    pool = np.flatnonzero(~task.train_mask.cpu().numpy())
    erased = np.random.default_rng(seed).permutation(pool)[: round(missing_rate * len(pool))]
    feat = task.feat.clone()
    feat[torch.from_numpy(erased).to(feat.device)] = 0
    erased_task = task.with_ndata(feat=feat)
    erased_task.options |= {"missing_rate": float(missing_rate), "missing_seed": int(seed)}
    return erased_task
