"""Damage: what Hypothesis does to good files before lipzoo reads them."""

import copy
import io
import json
import struct
import zipfile

import yaml
from hypothesis import strategies as st

WORDS = ("../x", "/etc/passwd", "", "\0", "Ω\u202e\ud800", "a" * 5000, "null", "~", "-1", "1e400")
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, -1, 2**31, 2**63, 2**70, 10**39, 10**400]),
    st.integers(-4, 10**7),
    st.sampled_from([float("nan"), float("inf"), -float("inf"), 1e308, 0.5]),
    st.sampled_from(WORDS),
    st.text(max_size=12),
    st.sampled_from(
        [[], {}, [[[[]]]], [None], {"name": "x"}, {"a": {"b": [1]}}, [1, 2, 3], {1: 2}]
    ),
)
#: YAML that means harm; {trace} is a file that must never come to be.
HARM = (
    "x: !!python/object/apply:os.system ['touch {trace}']\n",
    "!!python/object/new:os.system ['touch {trace}']\n",
    "!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{trace}']]\n",
    "x: !!python/name:os.system\n",
    "x: !!python/module:os\n",
    "x: !!binary aGVsbG8=\n",
    "x: !!set {{a, b}}\n",
    "x: 2020-01-01\n",
    "x: &x [*x]\n",
    "x: {{<<: *none}}\n",
    "a: &a [l,l,l,l,l,l,l,l,l]\n"
    + "".join(f"{n}: &{n} [{', '.join([f'*{m}'] * 9)}]\n" for m, n in zip("abcdefgh", "bcdefghi")),
    "a: &a {{k: 1}}\n"
    + "".join(f"{n}: &{n} {{{{<<: [*{m}, *{m}]}}}}\n" for m, n in zip("abcdefgh", "bcdefghi")),
    "x: " + "[" * 3000 + "\n",
    "x: " + ":".join(["1"] * 5000) + "\n",
    "x: 0x" + "f" * 9000 + "\n",
    "x: " + "9" * 9000 + "\n",
)


@st.composite
def damaged_bytes(draw, data):
    """``data`` with bytes flipped, cut off, inserted, removed or doubled."""
    data = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(len(data) - 1, 0)))
        length = draw(st.integers(1, 64))
        kind = draw(st.sampled_from(["flip", "cut", "insert", "remove", "double", "number"]))
        if kind == "flip" and data:
            data[place] ^= draw(st.integers(1, 255))
        elif kind == "cut":
            del data[place:]
        elif kind == "insert":
            data[place:place] = draw(st.binary(min_size=1, max_size=16))
        elif kind == "remove":
            del data[place : place + length]
        elif kind == "double":
            data[place:place] = data[place : place + length]
        elif kind == "number":  # a length that lies
            number = draw(st.sampled_from([0, 1, 2**16, 2**31, 2**40, 2**50, 2**63, 2**64 - 1]))
            data[place : place + 8] = struct.pack("<Q", number)
    return bytes(data)


def _places(content, path=()):
    """The way to every value."""
    yield path
    if isinstance(content, (dict, list)):
        items = content.items() if isinstance(content, dict) else enumerate(content)
        for key, value in items:
            yield from _places(value, (*path, key))


@st.composite
def damaged_yaml(draw, content, trace):
    """A mapping with values swapped, keys added and removed; or YAML that means harm."""
    if draw(st.integers(0, 3)) == 0:
        harm = draw(st.sampled_from(HARM)).format(trace=trace)
        return (harm + yaml.safe_dump(content) if draw(st.booleans()) else harm).encode()
    content = json.loads(json.dumps(content))
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from([p for p in _places(content) if p]))
        node = content
        for key in path[:-1]:
            node = node[key]
        kind = draw(st.sampled_from(["swap", "swap", "remove", "add"]))
        if kind == "swap":
            node[path[-1]] = copy.deepcopy(draw(VALUES))
        elif kind == "remove":
            del node[path[-1]]
        elif isinstance(node, dict):
            node[draw(st.sampled_from(["raw_dir", "file", "name", *WORDS]))] = copy.deepcopy(
                draw(VALUES)
            )
        if not content:
            break
    text = yaml.dump(content, allow_unicode=draw(st.booleans())) if content else ""
    data = text.encode("utf-8", "surrogatepass")
    return draw(damaged_bytes(data)) if draw(st.integers(0, 3)) == 0 else data


@st.composite
def damaged_safetensors(draw, data):
    """Bytes, or a header that lies in a well-formed way."""
    if draw(st.booleans()):
        return draw(damaged_bytes(data))
    (size,) = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8 : 8 + size]), data[8 + size :]
    name = draw(st.sampled_from(sorted(set(header) - {"__metadata__"})))
    kind = draw(st.sampled_from(["dtype", "shape", "offsets", "rename", "remove", "metadata"]))
    if kind == "dtype":
        types = ["F64", "F16", "BF16", "I64", "BOOL", "U8", "F8_E4M3", "C64", "U16", "X", 3]
        header[name]["dtype"] = draw(st.sampled_from(types))
    elif kind == "shape":
        sizes = st.sampled_from([0, 1, 2, 8, 2**31, 2**62, 2**64, -1, 0.5])
        header[name]["shape"] = draw(st.lists(sizes, max_size=4))
    elif kind == "offsets":
        ends = st.sampled_from([0, 8, 64, 2**40, 2**63, -1])
        header[name]["data_offsets"] = draw(st.lists(ends, min_size=2, max_size=2))
    elif kind == "rename":
        header[draw(st.sampled_from(["../x", "", "head", "input.weight.x"]))] = header.pop(name)
    elif kind == "remove":
        del header[name]
    else:
        header["__metadata__"] = draw(st.sampled_from([{}, 3, {"a": 1}, {"a": "b" * 9999}]))
    text = json.dumps(header).encode()
    length = draw(st.sampled_from([len(text)] * 4 + [0, 2**20, 2**40, 2**63, 2**64 - 1]))
    return struct.pack("<Q", length) + text + body


def npy(text, body=b""):
    """An ``.npy`` with any header."""
    text = text.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body


@st.composite
def damaged_npz(draw, data, trace):
    """Bytes of the archive, or of a member, or a member that claims what it is not."""
    if draw(st.booleans()):
        return draw(damaged_bytes(data))
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        members = {name: file.read(name) for name in file.namelist()}
    name = draw(st.sampled_from(sorted(members)))
    types = ["<i8", "<f4", "<U9", "|O", "<M8[s]", "<c16", "|V4", ">f8", "<U1000000000", "?"]
    sizes = st.sampled_from([0, 1, 6, 30, 10**6, 10**12, 2**63, -1])
    kind = draw(st.sampled_from(["bytes", "claim", "pickle", "bomb", "rename", "remove", "values"]))
    if kind == "bytes":
        members[name] = draw(damaged_bytes(members[name]))
    elif kind == "claim":
        shape = tuple(draw(st.lists(sizes, max_size=3)))
        header = {"descr": draw(st.sampled_from(types)), "fortran_order": False, "shape": shape}
        members[name] = npy(repr(header), draw(st.sampled_from([b"", bytes(240), bytes(10**6)])))
    elif kind == "pickle":
        code = f"cposix\nsystem\n(S'touch {trace}'\ntR.".encode()
        members[name] = npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", code)
    elif kind == "bomb":
        rows = draw(st.sampled_from([10**6, 5 * 10**7]))
        shape = f"{{'descr': '<i8', 'fortran_order': False, 'shape': ({rows},)}}"
        members[name] = npy(shape, bytes(8 * rows)) if rows < 10**7 else npy(shape, bytes(10**7))
    elif kind == "rename":
        members[draw(st.sampled_from(["../x.npy", "/x.npy", "feat", "x.npy"]))] = members.pop(name)
    elif kind == "remove":
        del members[name]
    else:
        value = draw(st.sampled_from([-1, 2**62, 2**63 - 1, -(2**63)]))
        body = bytearray(members[name])
        body[-8:] = struct.pack("<q", value)
        members[name] = bytes(body)
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as file:
        for each, content in members.items():
            file.writestr(each, content)
    return target.getvalue()


@st.composite
def damaged_csv(draw, files, trace):
    """One file of the folder damaged: its bytes, a cell, or the YAML."""
    files = dict(files)
    name = draw(st.sampled_from(sorted(files)))
    if name == "meta.yaml":
        files[name] = draw(damaged_yaml(yaml.safe_load(files[name]), trace))
    elif draw(st.booleans()):
        files[name] = draw(damaged_bytes(files[name]))
    else:
        rows = [row.split(b",") for row in files[name].split(b"\n")]
        row = draw(st.sampled_from([row for row in rows if row]))
        cells = ["", "nan", "1e999", "9" * 5000, "-", '"', "١", "\0", "0x1", "1_0", "[", "1;2"]
        place = draw(st.integers(0, len(row) - 1))
        row[place] = draw(st.sampled_from(cells)).encode()
        files[name] = b"\n".join(b",".join(row) for row in rows)
    return files
