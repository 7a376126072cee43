"""The tensors of a PyG graph in a ``.pt`` file; nothing is unpickled but tensors and plain values.

    torch.save(data.to_dict(), "mine.pt")

Its arrays may have 64 MiB together at 8 bytes a number, or 100 times the bytes of the file if that
is more, as in an ``.npz``.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lipzoo._files import read_regular
from lipzoo._graph import AnyGraph
from lipzoo.datasets.npz import room_of
from lipzoo.datasets.parsing import parsing
from lipzoo.datasets.pyg_data import FIELDS, graph_of_pyg
from lipzoo.errors import DataError

__all__ = ["read_pt"]

_ADVICE = "save it with torch.save(data.to_dict(), path)"


def read_pt(path: Path) -> tuple[AnyGraph, dict[str, Any]]:
    """Read what ``torch.save(data.to_dict(), path)`` wrote; see `graph_of_pyg`.

    Raises
    ------
    DataError
        If it holds more than tensors and plain values, is no dict of a graph, or is damaged.
    """
    data = read_regular(path)
    room = room_of(len(data))
    if not data.startswith(b"PK"):
        raise DataError(f"{path}: not a file of torch.save; {_ADVICE}")
    # Damage shows in zipfile, zlib, RuntimeError …: no common base.
    with parsing(path, "damaged", _ADVICE):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked = sum(info.file_size for info in archive.infolist())
        if unpacked > room:
            raise DataError(f"{path}: unpacks to {unpacked:,} bytes, and there may be {room:,}")
        fields = _loaded(path, data)
    if not isinstance(fields, dict):
        several = ", of one graph (dataset[0])" if isinstance(fields, (tuple, list)) else ""
        raise DataError(f"{path}: holds a {type(fields).__name__}, no graph; {_ADVICE}{several}")
    read = {key: fields[key] for key in FIELDS if fields.get(key) is not None}
    for key, value in read.items():
        is_plain = isinstance(value, Tensor) and value.device.type == "cpu"
        if not is_plain or value.is_quantized or value.is_nested:
            raise DataError(f"{path}: {key} is no tensor of numbers in memory; {_ADVICE}")
    # A tensor of a few bytes may say that it has any number of rows.
    announced = 8 * sum(value.numel() for value in read.values())
    if announced > room:
        raise DataError(
            f"{path}: its tensors have {announced:,} bytes, and there may be {room:,}; save "
            "contiguous ones"
        )
    if isinstance(fields.get("num_nodes"), int):
        read["num_nodes"] = fields["num_nodes"]
    with parsing(path, "damaged", _ADVICE, RuntimeError):  # a sparse tensor of odd parts
        return graph_of_pyg(read, str(path))


def _loaded(path: Path, data: bytes) -> Any:
    # Of a sparse tensor the entries are looked at, not believed.
    with torch.sparse.check_sparse_tensor_invariants():
        try:
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            raise DataError(
                f"{path}: holds objects beside tensors, and nothing is unpickled; {_ADVICE}"
            ) from None
