"""The fixed 60/20/20 splits of Luo, Shi, Wu ("Classic GNNs are Strong Baselines", NeurIPS 2024).

They are files of node numbers (``train``, ``valid``, ``test``) in LUOyk1999/tunedGNN (MIT), for
graphs of Shchur et al. that come without a split; Polynormer (ICLR 2024) is measured on them too.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from lipzoo.datasets.convert import MASKS
from lipzoo.datasets.public_file import PublicFile, read_public
from lipzoo.errors import DataError

__all__ = ["FILES", "fixed_split"]

_ARRAYS = ("train", "valid", "test")

#: The files by the authors' names of the graphs.
FILES = {
    stem: PublicFile(f"splits/{stem}_split.npz")
    for stem in ("amazon-computer", "amazon-photo", "coauthor-cs", "coauthor-physics")
}


def fixed_split(stem: str) -> Callable[..., dict[str, Tensor]]:
    """What `register_dataset` takes as ``fixed_split``: a function that reads the masks."""

    def read(*, raw_dir: str | os.PathLike | None, num_nodes: int) -> dict[str, Tensor]:
        where, arrays = read_public(FILES[stem], "split='fixed'", raw_dir, _ARRAYS)
        return {
            mask: _mask(where, key, arrays[key], num_nodes) for mask, key in zip(MASKS, _ARRAYS)
        }

    return read


def _mask(where: str, key: str, nodes: np.ndarray, num_nodes: int) -> Tensor:
    if nodes.ndim != 1 or nodes.dtype.kind not in "iu":
        raise DataError(
            f"{where}: {key} must be a list of node numbers, but is {nodes.dtype} {nodes.shape}; "
            "take the file as its authors publish it"
        )
    outside = nodes[(nodes < 0) | (nodes >= num_nodes)]
    if len(outside):
        raise DataError(
            f"{where}: {key} names node {outside[0]}, but nodes are numbered 0..{num_nodes - 1}: "
            "it is the split of another graph"
        )
    mask = torch.zeros(num_nodes, dtype=torch.bool)
    mask[torch.from_numpy(nodes.astype(np.int64))] = True
    return mask
