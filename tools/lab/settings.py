"""What the YAML files of the laboratory have in common: how they are found, changed, hashed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import pydantic

from lipzoo._paths import find_config
from lipzoo._yaml import read_yaml
from lipzoo.training.recipe import apply_change, parse_seeds

__all__ = ["STRICT", "Seeds", "digest", "read_settings"]


#: ``class Sweep(pydantic.BaseModel, **STRICT)``: no unknown key, no other type, no change.
STRICT = {"extra": "forbid", "strict": True, "frozen": True}

#: A list of numbers, or ``0..4``.
Seeds = Annotated[
    list[int] | str, pydantic.AfterValidator(parse_seeds), pydantic.Field(validate_default=True)
]


def read_settings(
    path: str | os.PathLike, folder: Path, what: str, changes: Sequence[str] = (), part: str = ""
) -> tuple[dict[str, Any], str]:
    """The content of a file (or of one in ``folder``, by its name), and where it stands.

    ``changes`` are ``key=value`` pairs. Where the file has a mapping ``part``, as a card has one
    of its recipe, that is taken.
    """
    file = find_config(path, folder, what)
    content = read_yaml(file)
    if isinstance(content.get(part), dict):
        content = content[part]
    for change in changes:
        apply_change(content, change)
    return content, str(file)


def digest(content: dict[str, Any]) -> str:
    """Ten hexadecimal digits of what decides a result."""
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]
