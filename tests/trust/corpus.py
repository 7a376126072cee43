"""What the search of `tools/adversary_files.py` starts from, for each reader, and how it mutates.

A case is one string of bytes. Where a reader checks a sum or a length that every change would
break (an archive's, a graph file's list at its end), the case is what lies inside, and the shell
is made anew around it.
"""

import hashlib
import io
import json
import pickle
import random
import re
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from trust import libraries
from trust import strategies as damage
from trust.kinds import (
    ARCHITECTURE,
    CARD,
    CHECKPOINT,
    CSR,
    CSV,
    KINDS,
    RECIPE,
    SPACE,
    SPLITS,
    SWEEP,
    TRACE,
    graph_file,
    npz,
    public_npz,
)

import lipzoo
from lipzoo._yaml import to_yaml

_PARTS = b"\n=====\n"
#: Inputs that an earlier search found to reach new code, in a folder for each reader.
FOLDER = Path(__file__).with_name("corpus")


@dataclass
class Start:
    """``files(case)`` lie in the folder that ``read(folder)`` reads; ``words`` are put in."""

    seeds: list[bytes]
    files: Callable[[bytes], dict[str, bytes]]
    read: Callable[[Path], object]
    words: list[bytes]
    #: How often a word, and not a number.
    worded: float = 0.8

    def mutate(self, data: bytes, seed: int) -> bytes:
        """One change that knows of numbers and words, often to what was still good."""
        chance = random.Random(seed)
        data = bytearray(data if chance.random() < 0.4 else chance.choice(self.seeds))
        place = chance.randrange(len(data) + 1)
        if self.words and chance.random() < self.worded:
            word = chance.choice(self.words)
            end = place
            if chance.random() < 0.5:
                place, end = _value(data, place)
            data[place : max(end, place)] = word
            return bytes(data)
        form = chance.choice(["<q", "<q", "<i"])
        numbers = chance.choice(_NUMBERS if form == "<q" else _SMALL)
        raw = b"".join(struct.pack(form, number) for number in numbers)
        begin, end = _part(data, chance)
        # Arrays stand at the end of their file, in steps of their numbers; elsewhere anywhere.
        steps = max((end - begin) // 8, 1)
        if chance.random() < 0.5:
            place = max(end - 8 * (1 + chance.randrange(min(steps, chance.choice([2, 40])))), 0)
        data[place : place + len(raw)] = raw
        return bytes(data)


def _value(data: bytearray, place: int) -> tuple[int, int]:
    """Where the next value of YAML begins and ends; without one, the next word."""
    colon = data.find(b": ", place)
    if colon >= 0:
        return colon + 2, data.find(b"\n", colon)
    word = re.compile(rb"[^\s,;\"'<>=\[\]]+").search(data, place)
    return word.span() if word else (place, place)


def _part(data: bytes, chance: random.Random) -> tuple[int, int]:
    """Where one of the files in a case begins and ends."""
    ends = [*(found.start() for found in re.finditer(re.escape(_PARTS), data)), len(data)]
    number = chance.randrange(len(ends))
    return (ends[number - 1] + len(_PARTS) if number else 0), ends[number]


_EXTREMES = [2**63 - 1, -(2**63), -1, -2, 0, 1, 2**31, 2**32, 2**40, 2**62, 2**28, 5, 30]
#: The second pair is what differences wrap around on.
_NUMBERS = [*([number] for number in _EXTREMES), [2**63 - 1, -2], [-(2**63), -1]]
_SMALL = [[number] for number in (2**31 - 1, -(2**31), -1, 0, 2**16)] + [[2**31 - 1, -2]]
_YAML = [
    *(text.format(trace=TRACE).encode() for text in damage.HARM if len(text) < 500),
    *(word.encode("utf-8", "surrogatepass") for word in damage.WORDS),
    *(
        f"!!{kind} {value}".encode()
        for kind in ("bool", "int", "float", "null", "str", "map", "seq", "timestamp", "set")
        for value in ("abc", "''", "1", "[1]", "{a: 1}", "~", ".", "+", "0x")
    ),
    b"1:1:1.5",
    b"1:" * 200 + b"1.5",
    b".inf",
    b".nan",
    b"- ",
    b"? ",
    b"&a ",
    b"*a",
    b"{<<: *a}",
    b"[[",
    b"|\n ",
]
_CELLS = [
    b'"',
    b"nan",
    b"1e999",
    b"9" * 50,
    b"-",
    b"[1, 2]",
    b",",
    b"\n",
    b"true",
    b"1e300",
    b"0x1",
]
_HEADERS = [
    b"'shape': (0, %d)" % 2**62,
    b"'shape': (%d,)" % 2**62,
    b"'shape': (30, 4)",
    b"'descr': '|O'",
    b"'descr': '<U9'",
    b"'descr': '|V0'",
    b"'fortran_order': True",
    *(b"'descr': '%s'" % kind for kind in (b"<u8", b">f8", b"|b1", b"<f2", b"<c16", b"<M8[s]")),
]
_MARKET = [
    b"symmetric",
    b"skew-symmetric",
    b"complex",
    b"array",
    b"% ",
    b"30 30 1000000000000",
    b"-1 ",
]
_XML = [
    *(b"<node id='n0'/>", b"<edge source='n0' target='n0'/>", b"</graph>", b"<graph>", b"<!--"),
    *(b"<data key='d0'>", b"nan", b" attr.type='int'", b" attr.type='boolean'", b"yfiles:x"),
    *(b"<port name='a'/>", b"<hyperedge/>", b"<key id='d0'/>", b"<?xml?>", b"&#0;", b"&lt;"),
    *(b"<default>1</default>", b" edgedefault='undirected'", b"xmlns='x'", b"<![CDATA[", b"d1"),
]
_GML = [
    *(b"node [ id 0 ]", b"edge [ source 0 target 0 ]", b"[", b"]", b"multigraph 1", b"directed 0"),
    *(b"label", b'"&#0;"', b'"&amp;"', b"NAN", b"+INF", b"1E999", b"key 1", b"id 1", b"# "),
    *(b'_networkx_list_start"', b'"[]"', b'"()"', b"9" * 30, b"feat [ a 1 ]", b"version 2"),
]
_PICKLE = [
    *(
        b"ctorch\nload\n",
        b"cos\nsystem\n",
        b"R.",
        b"}",
        b"q\x00",
        b"K\xff",
        b"\x8a\x08" + b"\xff" * 8,
    ),
    *(
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        b"X\x04\0\0\0",
        b"edge_attr",
        b"adj_t",
        b"N.",
        b"\x89",
    ),
    *(b"ctorch\nQInt8Storage\n", b"ctorch\nDoubleStorage\n", b"ctorch\nBoolStorage\n", b"meta"),
]
_JSON = [b'"shape":[0]', b'"dtype":"F64"', b'"data_offsets":[0,8]', b"null", b"-1", b"[", b"1e400"]


def join(parts: list[bytes]) -> bytes:
    return _PARTS.join(parts)


def _members(case: bytes, file_name: str = "x.npz") -> dict[str, bytes]:
    """An archive of the parts, each a name, a newline and what it holds."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two of one name are a fine attack
        for part in case.split(_PARTS):
            name, _, data = part.partition(b"\n")
            info = zipfile.ZipInfo(name.decode("latin-1").replace("\0", "") or "x")
            file.writestr(info, data)
    return {file_name: target.getvalue()}


def _unpacked(archive: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        return join([name.encode() + b"\n" + file.read(name) for name in file.namelist()])


def _shell(case: bytes) -> dict[str, bytes]:
    """A graph file of its label dictionary and its graph, with the list at its end."""
    labels, _, graph = case.partition(_PARTS)
    begin = 4096 + 8 + len(labels)
    head = bytes.fromhex("3fa1b446f04f2edd") + struct.pack("<QQQ", 2, 2, 1)
    body = head.ljust(4096, b"\0") + struct.pack("<Q", begin) + labels + graph
    return {"x.bin": body + struct.pack("<QQQ", 1, begin, 16)}


def _inside(data: bytes) -> bytes:
    begin = struct.unpack("<Q", data[4096:4104])[0]
    return data[4104:begin] + _PARTS + data[begin:-24]


def _folder(names: Iterable[str]) -> Callable[[bytes], dict[str, bytes]]:
    """The parts under these names, in the order of the alphabet."""
    names = sorted(names)
    return lambda case: dict(zip(names, [*case.split(_PARTS), *[b""] * len(names)]))


def _joined(files: dict[str, bytes]) -> bytes:
    return join([files[name] for name in sorted(files)])


_PPI_PARTS = ("graph.json", "feats.npy", "labels.npy", "graph_id.npy")


def _ppi(case: bytes) -> dict[str, bytes]:
    """The same small graph to train on, to validate and to test."""
    parts = [*case.split(_PARTS), b"", b"", b"", b""]
    modes = ("train", "valid", "test")
    return {f"{mode}_{name}": data for mode in modes for name, data in zip(_PPI_PARTS, parts)}


def _ppi_seed() -> bytes:
    links = [{"source": node, "target": (node + 1) % 6} for node in range(6)]
    parts = [json.dumps({"directed": False, "links": links}).encode()]
    for array in (np.ones((6, 3), np.float32), np.eye(6, 4), np.array([1, 1, 1, 2, 2, 2])):
        target = io.BytesIO()
        np.save(target, array)
        parts.append(target.getvalue())
    return join(parts)


def _raw(name: str) -> Callable[[Path], None]:
    """Reads a public graph from a folder that lies where DGL looks for its raw files."""
    digest = hashlib.sha1(f"https://data.dgl.ai/dataset/{name}.zip".encode()).hexdigest()

    def read(folder: Path) -> None:
        place = folder.parent / f"{name}_{digest[:8]}"
        if not place.exists():
            place.symlink_to(folder)
        lipzoo.load_dataset(name, raw_dir=folder.parent)

    return read


_PLANETOID = ("x", "y", "tx", "ty", "allx", "ally", "graph", "test.index")


def _planetoid(case: bytes) -> dict[str, bytes]:
    parts = [*case.split(_PARTS), *[b""] * len(_PLANETOID)]
    return {f"ind.pubmed.{name}": data for name, data in zip(_PLANETOID, parts)}


def _planetoid_seed(protocol: int) -> bytes:
    words, labels = sp.csr_matrix(np.eye(560, 8, dtype=np.float32)), np.eye(560, 3, dtype=np.int32)
    labels[3:, 0] = 1
    graph = {node: [(node + 1) % 560] for node in range(20)}
    known = [words[:6], labels[:6], words[550:], labels[550:], words[:550], labels[:550], graph]
    pickles = [pickle.dumps(part, protocol=protocol) for part in known]
    return join([*pickles, "\n".join(map(str, range(550, 560))).encode()])


def _with_its_hash(case: bytes) -> dict[str, bytes]:
    """To dump the card anew, as `kinds` does, takes longer than to read it."""
    digest = hashlib.sha256(case).hexdigest().encode()
    card = re.sub(rb"(?<=sha256: ).*", digest, CHECKPOINT["card.yaml"])
    return {"model.safetensors": case, "card.yaml": card}


def _yaml_start(name: str, *seeds: dict) -> Start:
    kind = KINDS[name]
    return Start([to_yaml(seed) for seed in seeds], kind.files, kind.read, _YAML)


def _starts() -> dict[str, Start]:
    archives = [npz(), npz(**CSR), npz(**SPLITS)]
    graphs = [graph_file(form) for form in ("coo", "csr", "csc")]
    dataset = lipzoo.load_dataset
    return {
        "model.safetensors": Start(
            [CHECKPOINT["model.safetensors"]],
            _with_its_hash,
            KINDS["model.safetensors"].read,
            _JSON,
        ),
        "card.yaml": _yaml_start("card.yaml", CARD),
        "architecture YAML": _yaml_start("architecture YAML", ARCHITECTURE),
        "recipe YAML": _yaml_start("recipe YAML", RECIPE),
        "search space YAML": _yaml_start("search space YAML", SPACE),
        "sweep YAML": _yaml_start("sweep YAML", SWEEP),
        ".npz": Start(archives, KINDS[".npz"].files, lambda f: dataset(f / "x.npz"), []),
        "arrays of an .npz": Start(
            [*map(_unpacked, archives)], _members, lambda f: dataset(f / "x.npz"), _HEADERS, 0.3
        ),
        "public .npz": Start(
            [public_npz()], KINDS["public .npz"].files, KINDS["public .npz"].read, []
        ),
        "CSV folder": Start([_joined(CSV)], _folder(CSV), dataset, [*_CELLS, *_YAML]),
        ".bin": Start(graphs, KINDS[".bin"].files, lambda f: dataset(f / "x.bin"), []),
        "graph of a .bin": Start(
            [*map(_inside, graphs)], _shell, lambda f: dataset(f / "x.bin"), []
        ),
        **_of_libraries(),
        "PPI's raw files": Start([_ppi_seed()], _ppi, _raw("ppi"), [*_JSON, *_HEADERS], 0.5),
        "Planetoid's raw files": Start(
            [_planetoid_seed(2), _planetoid_seed(4)], _planetoid, _raw("pubmed"), _PICKLE, 0.5
        ),
    }


def _of_libraries() -> dict[str, Start]:
    """Tables, and the graphs of SciPy, networkx and PyG."""
    dataset = lipzoo.load_dataset
    table = libraries.COLUMNS["nodes.csv"]
    matrices = [{"nodes.csv": table, "graph.mtx": matrix} for matrix in libraries.MATRIX]
    tables, packed = libraries.COLUMNS, libraries.PARQUET
    starts = {
        "tables": Start([_joined(tables)], _folder(tables), dataset, _CELLS),
        "matrix and table": Start(
            [*map(_joined, matrices)], _folder(matrices[0]), dataset, [*_CELLS, *_MARKET]
        ),
        ".graphml": Start(
            libraries.graphml(),
            lambda case: {"x.graphml": case},
            lambda f: dataset(f / "x.graphml"),
            [*_XML, *_CELLS],
        ),
        ".gml": Start(
            libraries.gml(),
            lambda case: {"x.gml": case},
            lambda f: dataset(f / "x.gml"),
            [*_GML, *_CELLS],
        ),
        ".pt": Start(
            libraries.TENSORS, lambda case: {"x.pt": case}, lambda f: dataset(f / "x.pt"), []
        ),
        "members of a .pt": Start(
            [*map(_unpacked, libraries.TENSORS)],
            lambda case: _members(case, "x.pt"),
            lambda f: dataset(f / "x.pt"),
            _PICKLE,
            0.3,
        ),
    }
    if packed:
        starts["Parquet"] = Start([_joined(packed)], _folder(packed), dataset, [])
    return starts


STARTS = _starts()
