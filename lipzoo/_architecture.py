"""Architecture files: what one may hold, and the named architectures that it gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic

from lipzoo._schema import check_arguments, validate
from lipzoo._yaml import read_yaml
from lipzoo.errors import ConfigError

__all__ = ["Architecture", "ArchitectureFile", "read_architectures"]


class ArchitectureFile(pydantic.BaseModel):
    """What an architecture YAML may hold."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True)

    model: str
    description: str
    source: str = ""
    args: dict[str, Any] = {}
    family: dict[str, list[Any]] | None = None
    default_tag: str | None = None


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
    """

    name: str
    model: str
    args: dict[str, Any]
    description: str
    source: str
    default_tag: str | None
    path: Path


def read_architectures(path: Path, find_class: Callable[[str, str], type]) -> list[Architecture]:
    """The architectures in a YAML file: one, or one for each value of its family.

    Parameters
    ----------
    path : Path
        The file, which gives the name.
    find_class : callable
        The registered class of a name; its second argument says where the name stands.

    Raises
    ------
    ConfigError
        If the file is wrong; all faults of its arguments are named.
    """
    file = validate(ArchitectureFile, read_yaml(path, path.parent), where=str(path))
    kind = find_class(file.model, f"{path}: model")
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
        if "." in name:
            raise ConfigError(
                f"{path}: architecture {name!r}: the part after a dot would be read as a tag; "
                "rename the file"
            )
        args = {**file.args, **varied}
        check_arguments(kind, args, where=f"{path}: args")
        architectures.append(
            Architecture(
                name, file.model, args, file.description, file.source, file.default_tag, path
            )
        )
    return architectures
