"""YAML in, YAML out: nothing is constructed, nothing is half written, faults are put in words."""

import os
import time

import pytest
from checkpoints import unwritable_folder

from lipzoo import _yaml
from lipzoo._atomic import write_atomically
from lipzoo._schema import validate
from lipzoo._yaml import read_yaml, write_yaml
from lipzoo.card import Card
from lipzoo.errors import ConfigError, OutputError


@pytest.fixture
def read(tmp_path):
    """``read(text)`` by way of a file."""

    def write_and_read(text):
        file = tmp_path / "file.yaml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_yaml(file)

    return write_and_read


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("lr: 5e-4", 5e-4),  # PyYAML by itself reads this as text
        ("lr: 5.0e-4", 5e-4),
        ("lr: 1E5", 1e5),
        ("lr: -2.e+3", -2000.0),
        ("lr: '5e-4'", "5e-4"),
        ("lr: 3", 3),
        ("lr: e5", "e5"),
        ("lr: .5", 0.5),
        ("lr: -.inf", -float("inf")),
        ("lr: 010", 10),  # PyYAML by itself: 8
        ("lr: 0o10", 8),
        ("lr: 0xff", 255),
        ("lr: 1:30", "1:30"),  # 90
        ("lr: 1_000", "1_000"),  # 1000
        ("lr: yes", "yes"),  # True
        ("lr: 2020-01-01", "2020-01-01"),  # a date
        ("lr: TRUE", True),
        ("lr:", None),
        ("lr: ''", ""),
        ("lr: !!str 3", "3"),
        ("lr: !!int 3", 3),
        ("lr: ! 3", "3"),
        ("lr: {a: [1, null]}", {"a": [1, None]}),
    ],
)
def test_values(read, text, wanted):
    value = read(text)["lr"]
    assert value == wanted
    assert type(value) is type(wanted)


@pytest.mark.parametrize(
    "text",
    [
        "x: !!python/object/apply:os.system ['touch {}']",
        "x: !!python/object/new:os.system ['touch {}']",
        "!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{}']]",
        "x: !!python/name:os.system",
        "x: !mine 3",
    ],
)
def test_tags_construct_nothing(read, tmp_path, text):
    trace = tmp_path / "trace"
    with pytest.raises(ConfigError, match="is no valid YAML"):
        read(text.format(trace))
    assert not trace.exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "but is empty"),
        ("# nothing", "but is empty"),
        ("- a\n- b", "but is a list"),
        ("just words", "but is a str"),
        ("a: [1", "is no valid YAML"),
        ("a: 1\n\tb: 2", "is no valid YAML"),
        ("[" * 100_000, "is no valid YAML"),
        (b"\xff\xfe\xfa", "is no UTF-8 text"),
        (b"a: \x00", "is no valid YAML"),
        ("a: 1\nb: 2\na: 3", "key 'a' occurs twice"),
        ("a: {b: 1, b: 2}", "key 'b' occurs twice"),
        ("a: {1: 1, true: 2}", "key True occurs twice"),
        ("a: 1\nb: !!bool abc", r"'abc' is no bool, line 2, column 4\)"),
        ("a: !!int ''", "'' is no int, line 1"),
        ("a: !!float ''", "'' is no float, line 1"),
        ("a: !!null x", "'x' is no null, line 1"),
        ("!!map [1]", "tag:yaml.org,2002:map is not taken here, line 1"),
        ("a: !!seq {b: 1}", "tag:yaml.org,2002:seq is not taken here, line 1"),
        ("a: !!binary aGVsbG8=", "binary is not taken here; quote it as text, line 1"),
        ("a: !!set {b}", "set is not taken here, line 1"),
        ("a: !!map x", "map is not taken here; quote it as text, line 1"),
        ("a: " + "9" * 41, "a number of more than 40 digits, line 1"),
        ("a: 0x" + "f" * 5000, "a number of more than 40 digits, line 1"),
        ("a: 1\n---\nb: 2", "more than one document, line 2"),
        ("a: *b", "nothing is named 'b' before, line 1|undefined alias"),
        ("a: &b [*b]", "an alias stands for what it is part of, line 1"),
        ("? [a]\n: 1", "a key must be one word or number, line 1"),
        ("<<: 3", "<< takes a mapping, or a list of them"),
        ('a: "\\0"', "text with a NUL or half a character"),
    ],
)
def test_faults(read, text, words):
    with pytest.raises(ConfigError, match=words) as caught:
        read(text)
    assert "file.yaml" in str(caught.value)
    assert "\n" not in str(caught.value), "the command line prints one line"


LONG = {
    "values": "x: [" + "1," * 500_000 + "]",
    "keys": "".join(f"k{number}: 1\n" for number in range(90_000)),
    "unknown keys, few enough": "".join(f"k{number}: 1\n" for number in range(20_000)),
    "levels": "x: " + "[" * 10**6,
    "mappings": "{a: " * 250_000,
    "one number": "x: " + "9" * 10**6,
    "sixtieths": "x: " + ":".join(["1"] * 500_000) + ".5",
    "quotes": 'x: "' + "a" * 10**6,
    "aliases": "a: &a [1]\nb: [" + "*a," * 250_000 + "]",
    "keys without values": "? " * 500_000,
    "anchors": "x: [" + "&a 1," * 200_000 + "]",
    "comments": "#\n" * 500_000,
    "spaces": " " * 10**6,
    "tabs": "a:" + "\t" * 10**6 + "[",
    "brackets that close": "x: [" + "[]," * 300_000,
}


@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
def test_refusing_takes_no_time(read, text):
    """1 MB of the worst; PyYAML by itself takes up to 45 s."""
    begun = time.process_time()
    with pytest.raises(ConfigError) as caught:
        validate(Card, read(text), "file.yaml")
    # Far above what it takes, for machines are slow and busy; far below what it took.
    assert time.process_time() - begun < 5
    assert len(str(caught.value)) < 5000


def test_links_and_pipes(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("root: [hidden")
    folder = tmp_path / "folder"
    folder.mkdir()
    link = folder / "link.yaml"
    link.symlink_to(secret)
    os.mkfifo(folder / "pipe.yaml")
    with pytest.raises(ConfigError, match="leads out of its folder"):
        read_yaml(link, folder)
    with pytest.raises(ConfigError, match="no regular file"):
        read_yaml(folder / "pipe.yaml")
    # What a user names may be a link, but what it holds is not repeated.
    with pytest.raises(ConfigError, match="is no valid YAML") as caught:
        read_yaml(link)
    assert "hidden" not in str(caught.value)


def test_anchors_and_merges(read):
    content = read("base: &base {a: 1, b: 2}\nother: {<<: *base, b: 3}")
    assert content["other"] == {"a": 1, "b": 3}
    content = read("a: &a {x: 1}\nb: &b {x: 2, y: 2}\nc: {<<: [*a, *b]}\nd: [*b, *b]")
    assert content["c"] == {"x": 1, "y": 2}, "the first of a list has its way"
    assert content["d"] == [{"x": 2, "y": 2}] * 2


@pytest.mark.parametrize("kind", ["[{}]", "{{<<: [{}]}}"])
def test_aliases_of_aliases_do_not_multiply(read, kind):
    lines = ["a0: &a0 {k: 1}" if "<<" in kind else "a0: &a0 [1]"]
    lines += [f"a{n}: &a{n} " + kind.format(", ".join([f"*a{n - 1}"] * 9)) for n in range(1, 9)]
    with pytest.raises(ConfigError, match="more than 50000 values, line"):
        read("\n".join(lines))


def test_files_that_cannot_be_read(tmp_path, monkeypatch):
    for path in (tmp_path / "absent.yaml", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read"):
            read_yaml(path)
    file = tmp_path / "long.yaml"
    file.write_text("a: 1  # longer than allowed")
    monkeypatch.setattr(_yaml, "MAX_BYTES", 10)
    with pytest.raises(ConfigError, match="larger than 10 bytes"):
        read_yaml(file)


CONTENT = {
    "z_first": 1,
    "a": {"rate": 1e-12, "none": None, "yes": True, "nan_free": [0.1, 2.0]},
    "text": ["5e-4", "12e45", "1", "null", "no", "Veličković: a, b", "two\nlines", ""],
    "others": ["0o17", "0x1f", "1:30", "1_0", ".5e3", "2020-01-01", "~", "<<", "=", ".inf", "on"],
    "empty": {},
}


def test_round_trip(tmp_path):
    """Also of text that looks like a number, as a hash such as 12e45 does."""
    write_yaml(tmp_path / "file.yaml", CONTENT)
    assert read_yaml(tmp_path / "file.yaml") == CONTENT
    assert list(read_yaml(tmp_path / "file.yaml")) == list(CONTENT), "keys keep their order"
    assert "Veličković" in (tmp_path / "file.yaml").read_text(encoding="utf-8")


def test_python_objects_are_not_written(tmp_path):
    with pytest.raises(Exception, match="cannot represent"):
        write_yaml(tmp_path / "file.yaml", {"a": tmp_path})
    assert list(tmp_path.iterdir()) == []


# --------------------------------------------------------------- atomic writing


def test_writing_replaces(tmp_path):
    file = tmp_path / "file"
    write_atomically(file, b"old")
    write_atomically(file, b"new")
    assert file.read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_umask_decides_who_may_read(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "file", b"")
        assert os.umask(0o027) == 0o027, "and is left as it was"
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("step", ["fsync", "chmod", "replace"])
def test_a_failure_at_any_step_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, step):
    file = tmp_path / "file"
    file.write_bytes(b"old")

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OutputError, match="No space left on device"):
        write_atomically(file, b"new")
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_that_cannot_be_written():
    words = r"cannot be written .*choose a folder"
    with unwritable_folder() as folder, pytest.raises(OutputError, match=words):
        write_atomically(folder / "file", b"")


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(OutputError, match="cannot be written"):
        write_atomically(tmp_path / "absent" / "file", b"")
