"""What the YAML files of the laboratory have in common: how they are checked, hashed."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any

import pydantic

from lipzoo.settings import parse_seeds

__all__ = ["STRICT", "Seeds", "digest"]


#: ``class Sweep(pydantic.BaseModel, **STRICT)``: no unknown key, no other type, no change.
STRICT = {"extra": "forbid", "strict": True, "frozen": True}

#: A list of numbers, or ``0..4``.
Seeds = Annotated[
    list[int] | str, pydantic.AfterValidator(parse_seeds), pydantic.Field(validate_default=True)
]


def digest(content: dict[str, Any]) -> str:
    """Ten hexadecimal digits of what decides a result."""
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]
