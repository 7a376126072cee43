"""Architecture files: what one may hold, and the named architectures that it gives."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pydantic

from lipzoo._paths import YAML, is_path
from lipzoo._schema import validate
from lipzoo._yaml import read_yaml
from lipzoo.errors import ConfigError

__all__ = ["Architecture", "ArchitectureFile", "architectures_in", "read_architectures"]


class ArchitectureFile(pydantic.BaseModel):
    """What an architecture YAML may hold."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True)

    model: str
    description: str
    source: str = ""
    args: dict[str, Any] = {}
    family: dict[str, list[Any]] | None = None
    default_tag: str | None = None
    hidden: bool = False


@dataclass(frozen=True)
class Architecture:
    """One named architecture.

    Parameters
    ----------
    name : str
        ``gat_lip_16``.
    model : str
        Name of the registered class.
    args : dict
        Arguments for it, all but ``in_feats`` and ``num_classes``.
    description, source : str
        For people.
    default_tag : str or None
        The tag that a bare name means.
    path : Path
        The YAML file.
    hidden : bool
        Whether it is left out of lists; it is there for whom knows its name.
    """

    name: str
    model: str
    args: dict[str, Any]
    description: str
    source: str
    default_tag: str | None
    path: Path
    hidden: bool = False


@cache
def architectures_in(folder: Path) -> dict[str, Architecture]:
    """The architectures of a folder's YAML files by name; read once (``cache_clear`` forgets).

    Raises
    ------
    ConfigError
        If a file is wrong, or two give the same name. Arguments are not checked here.
    """
    found: dict[str, Architecture] = {}
    for path in sorted(path for path in folder.iterdir() if path.suffix.lower() in YAML):
        for architecture in read_architectures(path):
            if architecture.name in found:
                raise ConfigError(
                    f"{path}: architecture {architecture.name!r} is already defined in "
                    f"{found[architecture.name].path}; rename one of them"
                )
            found[architecture.name] = architecture
    return found


def _check_name(path: Path, name: str) -> None:
    """Refuse a name by which nobody could ask for the architecture."""
    if "." in name:
        why = "the part after a dot would be read as a tag"
    elif is_path(name):
        why = "it would be read as a path"
    else:
        return
    is_of_file = "." in path.stem or is_path(path.stem)
    remedy = "rename the file" if is_of_file else "write a file of its own for that value"
    raise ConfigError(f"{path}: architecture {name!r}: {why}; {remedy}")


def read_architectures(path: Path) -> list[Architecture]:
    """The architectures in a file: one, or one for each value of its family."""
    file = validate(ArchitectureFile, read_yaml(path, path.parent), where=str(path))
    variants: list[tuple[str, dict[str, Any]]] = [(path.stem, {})]
    if file.family is not None:
        if len(file.family) != 1 or not all(file.family.values()):
            raise ConfigError(
                f"{path}: family: must name one argument and its values, "
                f"such as {{num_layers: [2, 8]}}, got {sorted(file.family)}"
            )
        [(argument, values)] = file.family.items()
        variants = [(f"{path.stem}_{value}", {argument: value}) for value in values]
    architectures = []
    for name, varied in variants:
        _check_name(path, name)
        args = {**file.args, **varied}
        architectures.append(
            Architecture(
                name,
                file.model,
                args,
                file.description,
                file.source,
                file.default_tag,
                path,
                file.hidden,
            )
        )
    return architectures
