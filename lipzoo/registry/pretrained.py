"""Where the weights of a name lie."""

from __future__ import annotations

import os
from pathlib import Path

from lipzoo import hub
from lipzoo._paths import as_path, is_path, path_hint
from lipzoo.errors import CheckpointError, UnknownNameError, did_you_mean, quoted
from lipzoo.registry.names import all_architectures, split_name
from lipzoo.weights import list_checkpoints

__all__ = ["find_pretrained"]

#: Files of weights, none of which is taken: `read_verified` says which folder is.
_WEIGHT_FILES = (".ckpt", ".pt", ".pth", ".safetensors")


def find_pretrained(name: str | os.PathLike) -> Path:
    """The folder that holds the weights ``name``; a URL or a Hub name is fetched.

    A folder is named by a path (:func:`~lipzoo._paths.is_path`): ``./gat_lip_16.cora``, for a bare
    name never means a folder that happens to be called so.

    Raises
    ------
    UnknownNameError
        If there are none of that name, or the bare name could mean several.
    CheckpointError
        If it is a path that no folder can have; see :func:`lipzoo.hub.fetch` for what is fetched.
    """
    if hub.is_remote(name):
        return hub.fetch(name)
    if not isinstance(name, str) or is_path(name, _WEIGHT_FILES):
        return as_path(name, error=CheckpointError)
    available = list_checkpoints()
    if name in available:
        return available[name]
    architecture, tag = split_name(name)
    known, hint = all_architectures(), path_hint(name)
    tags = sorted(split_name(n)[1] or "" for n in available if split_name(n)[0] == architecture)
    if architecture not in known and not tags:
        hint += did_you_mean(name, known)
        raise UnknownNameError(f"no architecture {quoted(architecture)}{hint}")
    if tag is not None or not tags:
        offered = [f"{architecture}.{t}" for t in tags] or list(available)
        hint += did_you_mean(name, offered)
        raise UnknownNameError(f"no pretrained weights {quoted(name)}{hint}")
    default = known[architecture].default_tag if architecture in known else None
    if default not in tags and len(tags) > 1:
        raise UnknownNameError(
            f"{name!r} has several trained variants and no default: pass one of "
            + ", ".join(f"{architecture}.{t}" for t in tags)
        )
    return available[f"{architecture}.{default if default in tags else tags[0]}"]
