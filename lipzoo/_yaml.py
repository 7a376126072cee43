"""Read YAML; write it, and anything else, atomically."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Any

import yaml

from lipzoo.errors import ConfigError, OutputError

__all__ = ["parse_yaml", "read_yaml", "to_yaml", "write_all", "write_atomically", "write_yaml"]


class _Loader(yaml.SafeLoader):
    """Refuses a key that occurs twice, where PyYAML silently takes the last."""

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
    """The value that a piece of YAML means; tags construct nothing."""
    return yaml.load(text, Loader=_Loader)


#: No YAML file of ours is longer; a longer one is not read into memory.
MAX_BYTES = 16 * 2**20


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
            raise ConfigError(f"{path}: larger than {MAX_BYTES} bytes, which is no file of ours")
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
    staged: dict[Path, str] = {}
    try:
        for path, data in files.items():
            with tempfile.NamedTemporaryFile(
                dir=path.parent, prefix=f".{path.name}.", suffix=".tmp", delete=False
            ) as file:
                staged[path] = file.name
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            # mkstemp makes files that only their owner may read.
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(file.name, 0o666 & ~umask)
        for path, temporary in staged.items():
            os.replace(temporary, path)
    except OSError as fault:
        for temporary in staged.values():
            Path(temporary).unlink(missing_ok=True)
        raise OutputError(
            f"{path}: cannot be written ({fault.strerror}); choose a folder that you may write to"
        ) from None
