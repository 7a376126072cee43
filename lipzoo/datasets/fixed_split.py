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
from lipzoo.datasets.public_file import pinned_files, read_public
from lipzoo.errors import DataError

__all__ = ["FILES", "fixed_split"]

_ARRAYS = ("train", "valid", "test")

_URL = (
    "https://raw.githubusercontent.com/LUOyk1999/tunedGNN/"
    "23f9604e8b13a9a6d3faa2f691cd844006979153/medium_graph/data/"
)
#: SHA-256 and bytes, by the authors' names of the graphs.
_HASHES = {
    "amazon-computer": (
        "dff698aba1dd30b8bd7d1dca65c60b1f8d9027d950e07a23e86dcbf16c539f24",
        110_762,
    ),
    "amazon-photo": (
        "0609f6ab15ddabfe33a34f10d960d09499e634472f72104abb1f3be858127432",
        61_946,
    ),
    "coauthor-cs": (
        "b8c46a38d93b1f9d6b8b8ab944d870e8d44ccdde0639188681e0d38212480ec5",
        147_410,
    ),
    "coauthor-physics": (
        "2034eb90f5ff80eee0e371cc05b20690a16786fb085924b9166c83361fbbcb39",
        276_690,
    ),
}
FILES = pinned_files("splits", _URL, _HASHES, "_split.npz")


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
