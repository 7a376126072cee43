"""From what weights are named by to the checkpoint, which is read once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from lipzoo import hub
from lipzoo._paths import as_path, is_path, path_hint
from lipzoo.errors import CheckpointError, UnknownNameError, did_you_mean, shown
from lipzoo.registry.names import all_architectures, near, split_name
from lipzoo.weights import Checkpoint, list_checkpoints, read_checkpoint

if TYPE_CHECKING:
    from torch import nn

__all__ = ["find_checkpoint"]

#: Files of weights, none of which is taken: `read_checkpoint` says which folder is.
_WEIGHT_FILES = (".ckpt", ".pt", ".pth", ".safetensors")


def find_checkpoint(source: str | os.PathLike | nn.Module | Checkpoint) -> Checkpoint:
    """The one way to a checkpoint, found and read once, and verified.

    Parameters
    ----------
    source : str, path, torch.nn.Module or Checkpoint
        A name; a URL or a Hub name, which is fetched; a folder; a model that
        :func:`~lipzoo.load_pretrained` returned, unchanged; or a checkpoint, returned as it is.
        A folder is named by a path (:func:`~lipzoo._paths.is_path`): ``./gat_lip_16.cora``, for
        a bare name never means a folder that happens to be called so.

    Raises
    ------
    UnknownNameError
        If there are none of that name, or the bare name could mean several.
    CheckpointError
        If it is damaged, or a path that no folder can have, or the model has changed; see
        :func:`lipzoo.hub.fetch` for what is fetched.
    """
    if isinstance(source, Checkpoint):
        return source
    if hasattr(source, "state_dict"):
        return _of_model(source)
    if hub.is_remote(source):
        return hub.fetch_checkpoint(source)
    return read_checkpoint(_folder_of(source), str(source))


def _of_model(model: nn.Module) -> Checkpoint:
    """What a model was loaded from, of which it must still hold the weights."""
    import torch

    instead = "pass the folder that `lipzoo export` or finetune(..., out=...) wrote"
    folder = getattr(model, "pretrained_folder", None)
    if folder is None:
        raise CheckpointError(
            f"a {type(model).__name__} that load_pretrained did not return has no card: {instead}"
        )
    found, state = read_checkpoint(folder), model.state_dict()
    if found.tensors.keys() != state.keys() or not all(
        tensor.dtype == state[key].dtype and torch.equal(tensor, state[key].cpu())
        for key, tensor in found.tensors.items()
    ):
        raise CheckpointError(
            f"{found.card.full_name}: the weights have changed since they were loaded from "
            f"{folder}, and the figures on the card are no longer theirs; {instead}"
        )
    return found


def _folder_of(name: str | os.PathLike) -> Path:
    if not isinstance(name, str) or is_path(name, _WEIGHT_FILES):
        return as_path(name, error=CheckpointError)
    available = list_checkpoints()
    if name in available:
        return available[name]
    architecture, tag = split_name(name)
    known, hint = all_architectures(), path_hint(name)
    tags = sorted(split_name(n)[1] or "" for n in available if split_name(n)[0] == architecture)
    if architecture not in known and not tags:
        raise UnknownNameError(f"no architecture '{shown(architecture)}'{hint}{near(name)}")
    if not tags:
        raise UnknownNameError(
            f"there are no weights '{shown(name)}'{hint}: the architecture {architecture} exists, "
            f"and none ship; train them: lipzoo train --architecture {architecture} --data DATA "
            "--out DIR"
        )
    if tag is not None:
        hint += did_you_mean(name, [f"{architecture}.{t}" for t in tags])
        raise UnknownNameError(f"no pretrained weights '{shown(name)}'{hint}")
    default = known[architecture].default_tag if architecture in known else None
    if default not in tags and len(tags) > 1:
        raise UnknownNameError(
            f"{name!r} has several trained variants and no default: pass one of "
            + ", ".join(f"{architecture}.{t}" for t in tags)
        )
    return available[f"{architecture}.{default if default in tags else tags[0]}"]
