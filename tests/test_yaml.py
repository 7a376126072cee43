"""YAML in, YAML out: nothing is constructed, nothing is half written, faults are put in words."""

import os

import pytest
from checkpoints import unwritable_folder

from lipzoo import _yaml
from lipzoo._yaml import read_yaml, write_atomically, write_yaml
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
        ("a: 2020-13-45", "is no valid YAML"),
        ("[" * 100_000, "is no valid YAML"),
        (b"\xff\xfe\xfa", "is no UTF-8 text"),
        (b"a: \x00", "is no valid YAML"),
        ("a: 1\nb: 2\na: 3", "key 'a' occurs twice"),
        ("a: {b: 1, b: 2}", "key 'b' occurs twice"),
    ],
)
def test_faults(read, text, words):
    with pytest.raises(ConfigError, match=words) as caught:
        read(text)
    assert "file.yaml" in str(caught.value)
    assert "\n" not in str(caught.value), "the command line prints one line"


def test_anchors_and_merges(read):
    content = read("base: &base {a: 1, b: 2}\nother: {<<: *base, b: 3}")
    assert content["other"] == {"a": 1, "b": 3}


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
