"""Read and write YAML; turn a schema's complaints into words a person can act on."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pydantic
import yaml

from lipzoo.errors import ConfigError, OutputError, did_you_mean

__all__ = ["describe_faults", "read_yaml", "write_atomically", "write_yaml"]

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
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
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


def write_yaml(path: Path | str, content: dict[str, Any]) -> None:
    """Write a mapping as YAML, atomically, keys in their order."""
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)
    write_atomically(path, text.encode("utf-8"))


def write_atomically(path: Path | str, data: bytes) -> None:
    """Write ``data`` so that ``path`` holds either the old content or all of the new.

    Raises
    ------
    OutputError
        If the folder cannot be written.
    """
    path = Path(path)
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", suffix=".tmp", delete=False
        ) as file:
            temporary = file.name
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files that only their owner may read.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except OSError as fault:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise OutputError(
            f"{path}: cannot be written ({fault.strerror}); choose a folder that you may write to"
        ) from None


def describe_faults(error: pydantic.ValidationError, where: str, known: Iterable[str]) -> str:
    """All faults that a schema found, on one line, with the nearest valid names.

    Parameters
    ----------
    error : pydantic.ValidationError
        What the schema complains about.
    where : str
        The file or the call, put in front.
    known : iterable of str
        The valid names at the top level.
    """
    faults = []
    for fault in error.errors(include_url=False):
        place = ".".join(str(part) for part in fault["loc"] if not _is_branch(part))
        if fault["type"] == "extra_forbidden":
            names = known if len(fault["loc"]) == 1 else _sibling_names(error, fault["loc"])
            hint = did_you_mean(fault["loc"][-1], names) if names else ""
            faults.append(f"unknown key {place!r}{hint}")
        elif fault["type"] == "missing":
            faults.append(f"key {place!r} is missing")
        else:
            message = fault["msg"][0].lower() + fault["msg"][1:]
            faults.append(f"{place}: {message}, got {fault['input']!r}")
    return f"{where}: " + "; ".join(dict.fromkeys(faults))


def _is_branch(part: object) -> bool:
    # pydantic names the branch of a union ("int", "dict[str,any]") in the location.
    return isinstance(part, str) and (part in {"str", "int", "float", "bool"} or "[" in part)


def _sibling_names(error: pydantic.ValidationError, location: tuple) -> list[str]:
    return list(getattr(error, "sibling_names", {}).get(location[:-1], []))
