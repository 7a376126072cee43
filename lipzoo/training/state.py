"""The state of a training, from which a later process goes on as if nothing had happened."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch

from lipzoo._atomic import write_atomically
from lipzoo.errors import CheckpointError

__all__ = ["STATE_FILE", "load_state", "save_state"]

STATE_FILE = "state.pt"

Rest = TypeVar("Rest")


def save_state(path: Path, parts: Mapping[str, Any], **rest: Any) -> None:
    """Write the ``state_dict`` of each part, those of the random generators, and plain values."""
    content = {name: part.state_dict() for name, part in parts.items()}
    content |= {**rest, "rng": torch.get_rng_state()}
    if torch.cuda.is_available():
        content["cuda_rng"] = torch.cuda.get_rng_state_all()
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(path, buffer.getvalue())


def load_state(
    path: Path, parts: Mapping[str, Any], make: Callable[[dict[str, Any]], Rest]
) -> Rest:
    """Set the parts and the random generators back; gives what ``make`` makes of the content.

    Raises
    ------
    CheckpointError
        If the state is damaged, or of other parts.
    """
    try:
        # weights_only: tensors and plain containers; no class is ever constructed.
        content = torch.load(path, weights_only=True, map_location="cpu")
        for name, part in parts.items():
            part.load_state_dict(content[name])
        torch.set_rng_state(content["rng"])
        if torch.cuda.is_available() and "cuda_rng" in content:
            torch.cuda.set_rng_state_all(content["cuda_rng"])
        return make(content)
    except Exception as fault:
        reason = str(fault).splitlines()[0]
        raise CheckpointError(
            f"{path}: does not belong to this run ({reason}); use the recipe it was begun with, "
            "or start anew with --overwrite"
        ) from None
