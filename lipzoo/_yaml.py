"""Read YAML; write it, and anything else, atomically."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import yaml

from lipzoo.errors import ConfigError, OutputError

__all__ = [
    "leftovers",
    "parse_yaml",
    "read_yaml",
    "remove_leftovers",
    "stage",
    "sync_folder",
    "to_yaml",
    "write_all",
    "write_atomically",
    "write_yaml",
]

#: No YAML file of ours is longer, deeper or, its aliases written out, of more values.
MAX_BYTES = 2**20
_MAX_DEPTH = 64
_MAX_VALUES = 100_000
#: Digits of a whole number; Python itself refuses to print very long ones.
_MAX_DIGITS = 40
_KINDS = ("map", "seq", "str", "int", "float", "bool", "null", "merge")
_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in _KINDS}


def _refuse(problem: str, node: yaml.Node) -> None:
    raise yaml.constructor.ConstructorError(problem=problem, problem_mark=node.start_mark)


class _Loader(yaml.SafeLoader):
    """Gives plain values only, and refuses what would take memory or time without bound.

    A key that occurs twice is refused, where PyYAML silently takes the last.
    """

    def construct_document(self, node):
        self._check(node, 1, {})
        return super().construct_document(node)

    def _check(self, node: yaml.Node, depth: int, known: dict[int, int]) -> int:
        """How many values ``node`` holds; that of an alias counts wherever it stands."""
        if id(node) in known:
            if not known[id(node)]:
                _refuse("an alias stands for what it is part of", node)
            return known[id(node)]
        if depth > _MAX_DEPTH:
            _refuse(f"nested deeper than {_MAX_DEPTH} levels", node)
        if node.tag not in _TAGS:
            _refuse(f"{node.tag.rpartition(':')[2]} is not taken here; quote it as text", node)
        known[id(node)], values = 0, 1
        if isinstance(node, yaml.ScalarNode):
            self._check_scalar(node)
        else:
            for each in node.value:
                for child in each if isinstance(each, tuple) else (each,):
                    values += self._check(child, depth + 1, known)
                    if values > _MAX_VALUES:
                        _refuse(f"more than {_MAX_VALUES} values", node)
        known[id(node)] = values
        return values

    def _check_scalar(self, node: yaml.ScalarNode) -> None:
        if node.tag.endswith(":int") and len(node.value) > _MAX_DIGITS:
            _refuse(f"a number of more than {_MAX_DIGITS} digits", node)
        if any(char == "\0" or "\ud800" <= char <= "\udfff" for char in node.value):
            _refuse("text with a NUL or half a character", node)

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"key {key.value!r} occurs twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes text that :class:`_Loader` would read as a number."""


# YAML 1.2 numbers: PyYAML reads ``5e-4`` as text, because YAML 1.1 wants ``5.0e-4``.
for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"),
        list("-+0123456789"),
    )


def parse_yaml(text: str) -> Any:
    """The value that a piece of YAML means; tags construct nothing.

    Raises
    ------
    yaml.YAMLError, RecursionError, ValueError
        If it is no YAML, or more than plain values of a bounded size.
    """
    return yaml.load(text, Loader=_Loader)


def read_yaml(path: Path | str) -> dict[str, Any]:
    """The mapping in a YAML file. YAML tags construct nothing.

    Raises
    ------
    ConfigError
        If the file cannot be read, is no YAML, or is not a mapping.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(
                f"{path}: larger than {MAX_BYTES} bytes, which no file of ours is; check that it "
                "is the file you meant"
            )
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise ConfigError(f"{path}: cannot be read ({fault.strerror})") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is no UTF-8 text") from None
    except (yaml.YAMLError, RecursionError, ValueError) as fault:
        words = " ".join(str(fault).split())
        raise ConfigError(f"{path}: is no valid YAML ({words})") from None
    if not isinstance(content, dict):
        kind = "empty" if content is None else f"a {type(content).__name__}"
        raise ConfigError(f"{path}: must hold a mapping of keys to values, but is {kind}")
    return content


def to_yaml(content: dict[str, Any]) -> bytes:
    """A mapping as YAML, keys in their order."""
    text = yaml.dump(
        content,
        None,
        _Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=100,
        default_flow_style=None,
    )
    return text.encode("utf-8")


def write_yaml(path: Path | str, content: dict[str, Any]) -> None:
    """Write a mapping as YAML, atomically."""
    write_atomically(path, to_yaml(content))


def write_atomically(path: Path | str, data: bytes) -> None:
    """Write ``data`` so that ``path`` holds either the old content or all of the new.

    Raises
    ------
    OutputError
        If the folder cannot be written.
    """
    write_all({Path(path): data})


def write_all(files: dict[Path, bytes]) -> None:
    """Write several files; none is replaced before all are on the disk.

    Raises
    ------
    OutputError
        If one of them cannot be written; then all are as they were.
    """
    staged: dict[Path, Path] = {}
    try:
        for path, data in files.items():
            staged[path] = stage(path, data)
        for path, temporary in staged.items():
            os.replace(temporary, path)
    except OSError as fault:
        for temporary in staged.values():
            temporary.unlink(missing_ok=True)
        raise OutputError(
            f"{path}: cannot be written ({fault.strerror}); choose a folder that you may write to"
        ) from None
    for folder in {path.parent for path in files}:
        sync_folder(folder)


def stage(path: Path, data: bytes) -> Path:
    """A temporary file beside ``path`` that holds ``data``, on the disk."""
    with tempfile.NamedTemporaryFile(
        dir=path.parent, prefix=f".{path.name}.", suffix=".tmp", delete=False
    ) as file:
        temporary = Path(file.name)
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            # mkstemp makes files that only their owner may read.
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(temporary, 0o666 & ~umask)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    return temporary


def sync_folder(folder: Path) -> None:
    """Let new names survive a power cut; not every file system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process had begun to write; nobody else may be writing there."""
    for path in leftovers(folder):
        path.unlink(missing_ok=True)


def leftovers(folder: Path) -> list[Path]:
    """The temporary files in ``folder``."""
    return [path for path in folder.glob(".*.tmp") if path.is_file()]
