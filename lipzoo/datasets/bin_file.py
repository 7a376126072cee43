"""DGL's own graph files, written by `dgl.save_graphs`: the first graph of the file is taken.

A tensor of the file's label dictionary that has one row a node stands in for a column that
``ndata`` lacks (``feat``, ``label``, masks), and ``num_classes`` there gives C.

DGL's reader is C++ and trusts its input: a damaged file can crash the process, or make it ask for
terabytes. So the file is read here, every length checked against what is left of the file::

    u64 magic, version (2), kind (2), number of graphs; zeros up to byte 4096
    u64 where the first graph begins
    label dictionary            {name: array}
    per graph:                  magic, types and how they are connected, for each relation its
                                edges, [number of nodes], [{name: array}] of nodes, of edges,
                                [name of node type], [name of edge type]
    u64 16·n bytes: [where each graph begins]; u64 their number

A list is its length (u64) and its items, text likewise; an array has a magic number, device, type,
shape and bytes. All numbers are little-endian.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lipzoo._files import read_regular
from lipzoo._graph import AnyGraph, make_graph
from lipzoo.errors import DataError, shown

__all__ = ["MAGIC", "read_bin"]

#: The first bytes of every file of `dgl.save_graphs` (kDGLSerializeMagic, little-endian).
MAGIC = bytes.fromhex("3fa1b446f04f2edd")
_ARRAY = 0xDD5E40F096B4A13F
_HETEROGRAPH = 0xDD589FBE35224ABF
_METAGRAPH = 0xDD3C5FFE20046ABF
_COO = 0xDD61FFD305DFF127
_CSR = 0xDD6CD31205DFF127
_RELATION = 0xDD2E60F0F6B4A127

#: How edges are stored: a number in old files, a bit in those of DGL 1.0 and later.
_FORMS = {1: "coo", 2: "csr", 3: "csc", 2**32 + 1: "coo", 2**32 + 2: "csr", 2**32 + 4: "csc"}

#: Bytes that a name and an array take at least, and columns of an array without rows at most.
_LEAST = 8 + 8 + 24 + 8
_MAX_WIDTH = 2**31
_COLUMNS = ("feat", "label", "train_mask", "val_mask", "test_mask")
#: DLPack's type code and bits -> the NumPy type; PyTorch has few unsigned types.
_TYPES = {
    **{(0, bits): f"i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{(1, bits): f"u{bits // 8}" for bits in (8, 16, 32, 64)},
    **{(2, bits): f"f{bits // 8}" for bits in (16, 32, 64)},
    (4, 16): "bfloat16",
    (6, 8): "bool",
}


class _Damaged(Exception):
    """What is wrong, in words."""


class _Reader:
    """Takes numbers, texts, arrays off the front of a file; never more than there is."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place = memoryview(data), 0

    def take(self, size: int) -> memoryview:
        if size > len(self.data) - self.place:
            raise _Damaged(f"{size} bytes are announced at byte {self.place}, where it ends")
        self.place += size
        return self.data[self.place - size : self.place]

    def unpack(self, form: str) -> tuple[int, ...]:
        return struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}")))

    def number(self) -> int:
        return self.unpack("Q")[0]

    def expect(self, magic: int, what: str) -> None:
        if self.number() != magic:
            raise _Damaged(f"at byte {self.place - 8} there should be {what}")

    def text(self) -> str:
        try:
            return str(self.take(self.number()), "utf-8")
        except UnicodeDecodeError:
            raise _Damaged(f"the text before byte {self.place} is not UTF-8") from None

    def items(self, least: int) -> range:
        """The places of a list, each item of which takes ``least`` bytes or more."""
        count = self.number()
        if count * least > len(self.data) - self.place:
            raise _Damaged(f"{count} items are announced at byte {self.place - 8}")
        return range(count)

    def array(self) -> Tensor:
        self.expect(_ARRAY, "an array")
        _, device, _, ndim, code, bits, lanes = self.unpack("QiiiBBH")
        kind = _TYPES.get((code, bits))
        if device != 1 or lanes != 1 or kind is None or not 0 <= ndim <= 32:
            raise _Damaged(f"the array before byte {self.place} is of an unknown type")
        shape = self.unpack(f"{ndim}q")
        size = 2 if kind == "bfloat16" else np.dtype(kind).itemsize
        (announced,) = self.unpack("q")
        # An empty array must not have rows either: they cost nothing, and could be any number.
        if min(shape, default=1) < 0 or math.prod(shape) * size != announced:
            raise _Damaged(f"the array before byte {self.place} is {shape} in {announced} bytes")
        if not announced and shape and (shape[0] or max(shape) > _MAX_WIDTH):
            raise _Damaged(f"the array before byte {self.place} is {shape}, without a number")
        return _tensor(self.take(announced), kind, shape)

    def arrays(self) -> dict[str, Tensor]:
        return {self.text(): self.array() for _ in self.items(least=_LEAST)}


def read_bin(path: Path) -> tuple[AnyGraph, dict[str, int | None]]:
    """Read the first graph of a DGL file, and C where its label dictionary says it.

    Raises
    ------
    DataError
        If it is no DGL graph file, or a damaged one.
    """
    data = read_regular(path)
    if not data:
        raise DataError(f"{path}: the file is empty; write it again with dgl.save_graphs")
    if not data.startswith(MAGIC):
        raise DataError(f"{path}: not a DGL graph file; write one with dgl.save_graphs")
    try:
        graph, labels = _read_file(_Reader(data))
    except _Damaged as fault:
        raise DataError(
            f"{path}: the file is cut short or damaged ({fault}); write it again with "
            "dgl.save_graphs"
        ) from None
    except DataError as fault:
        raise DataError(f"{path}: {fault}") from None
    for column in _COLUMNS:
        if column not in graph.ndata and column in labels:
            rows = len(labels[column]) if labels[column].dim() else 1
            if rows != graph.num_nodes() or not labels[column].dim():
                raise DataError(
                    f"{path}: {column!r} of the label dictionary has {rows} rows, the graph "
                    f"{graph.num_nodes()} nodes; give it one row a node"
                )
            graph.ndata[column] = labels[column]
    return graph, {"num_classes": _num_classes(path, labels)}


def _num_classes(path: Path, labels: dict[str, Tensor]) -> int | None:
    number = labels.get("num_classes")
    if number is None:
        return None
    if number.numel() != 1 or number.is_floating_point() or int(number) < 0:
        raise DataError(
            f"{path}: num_classes of the label dictionary must be one whole number, such as "
            "torch.tensor([7])"
        )
    return int(number)


def _read_file(file: _Reader) -> tuple[AnyGraph, dict[str, Tensor]]:
    _, version, kind, count = file.unpack("QQQQ")
    if (version, kind) != (2, 2):
        raise DataError(
            f"the file is of version {version}, kind {kind}, which lipzoo does not read; load it "
            "with dgl.load_graphs and write it again with dgl.save_graphs"
        )
    if not count:
        raise DataError("the file holds no graph; give dgl.save_graphs one")
    file.take(4096 - file.place)
    begin = file.number()
    labels = file.arrays()
    _check_index(file, begin, count)
    return _graph(file), labels


def _check_index(file: _Reader, begin: int, count: int) -> None:
    """The list at the end says that the first graph is here: nothing was cut off."""
    index = _Reader(bytes(file.data[-16 - 8 * count :])) if count < len(file.data) else None
    if index is None or (file.place, count, begin) != (begin, *index.unpack("QQ")):
        raise _Damaged("its list of graphs is not at its end")
    index.take(8 * (count - 1))
    if index.number() != 8 * (count + 1):
        raise _Damaged("its list of graphs has another length")


def _graph(file: _Reader) -> AnyGraph:
    file.expect(_HETEROGRAPH, "a graph")
    _skip_metagraph(file)
    relations = len(file.items(least=24))
    if relations != 1:
        raise _several("edge", relations)
    ends = _relation(file)
    nodes = [file.number() for _ in file.items(least=8)]
    if len(nodes) != 1:
        raise _several("node", len(nodes))
    num_nodes = nodes[0]
    # Each node has features, and these their bytes.
    if num_nodes > min(len(file.data), torch.iinfo(ends[0].dtype).max):
        raise _Damaged(f"{num_nodes} nodes are announced, more than it has bytes")
    for end in ends:
        if len(end) and not 0 <= int(end.min()) <= int(end.max()) < num_nodes:
            raise DataError(
                "an edge leads out of the graph; the file is damaged, write it again with "
                "dgl.save_graphs"
            )
    graph = make_graph(*ends, num_nodes)
    for frame, count, what in (
        (graph.ndata, num_nodes, "nodes"),
        (graph.edata, len(ends[0]), "edges"),
    ):
        for name, column in [pair for _ in file.items(least=8) for pair in file.arrays().items()]:
            if not column.dim() or len(column) != count:
                raise _Damaged(f"'{shown(name)}' is {tuple(column.shape)} on {count} {what}")
            frame[name] = column
    return graph


def _several(kind: str, count: int) -> DataError:
    return DataError(
        f"the graph has {count} {kind} types, lipzoo takes one of each; convert it with "
        "dgl.to_homogeneous"
    )


def _skip_metagraph(file: _Reader) -> None:
    """Which type of nodes each relation leads from and to; with one of each, nothing new."""
    file.expect(_METAGRAPH, "the types of a graph")
    _csr(file)


def _relation(file: _Reader) -> list[Tensor]:
    """Sources and destinations in the order of the edges' numbers."""
    file.expect(_RELATION, "the edges of a graph")
    form = _FORMS.get(file.unpack("qq")[0])
    _skip_metagraph(file)
    if form == "coo":
        file.expect(_COO, "a list of edges")
        file.take(16)
        ends, order = [file.array(), file.array()], file.array()
        file.take(2)
    elif form in ("csr", "csc"):  # by source, by destination
        indptr, indices, order = _csr(file)
        # Compared, not subtracted: a difference may wrap around and look right.
        rises = len(indptr) and (indptr[:-1] <= indptr[1:]).all()
        if not rises or indptr[0] != 0 or indptr[-1] != len(indices):
            raise _Damaged("its compressed list of edges does not add up")
        counts = indptr.long().diff()
        rows = torch.repeat_interleave(torch.arange(len(counts), dtype=indices.dtype), counts)
        ends = [rows, indices] if form == "csr" else [indices, rows]
    else:
        raise _Damaged("its edges have an unknown form")
    return _in_order(ends, order)


def _csr(file: _Reader) -> tuple[Tensor, Tensor, Tensor]:
    file.expect(_CSR, "a compressed list of edges")
    file.take(16)
    arrays = file.array(), file.array(), file.array()
    file.take(1)
    if not all(map(_is_list, arrays)):
        raise _Damaged("its compressed list of edges is no list of whole numbers")
    return arrays


def _is_list(array: Tensor) -> bool:
    return array.dim() == 1 and array.dtype in (torch.int32, torch.int64)


def _in_order(ends: list[Tensor], order: Tensor) -> list[Tensor]:
    if (
        not all(map(_is_list, (*ends, order)))
        or ends[0].shape != ends[1].shape
        or ends[0].dtype != ends[1].dtype
    ):
        raise _Damaged("its edges are no two lists of numbers of one length")
    if not len(order):
        return ends
    place = order.long().argsort()
    if not torch.equal(order[place].long(), torch.arange(len(ends[0]))):
        raise _Damaged("its edges are not numbered from 0 on")
    return [end[place] for end in ends]


def _tensor(data: memoryview, kind: str, shape: tuple[int, ...]) -> Tensor:
    if kind == "bfloat16":
        words = np.frombuffer(data, "<i2").reshape(shape).copy()
        return torch.from_numpy(words).view(torch.bfloat16)
    if kind == "bool":  # another byte than 0 and 1 would be no bool
        return torch.from_numpy(np.frombuffer(data, "u1").reshape(shape) != 0)
    array = np.frombuffer(data, f"<{kind}").reshape(shape)
    if kind == "u8" and array.size and array.max() >= 2**63:
        raise _Damaged(f"{array.max()} is too large for int64")
    wide = {"u2": "i4", "u4": "i8", "u8": "i8"}.get(kind, kind)
    return torch.from_numpy(array.astype(wide))
