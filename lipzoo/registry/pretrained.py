"""From what weights are named by to the checkpoint, which is read once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lipzoo import hub
from lipzoo._output import differing
from lipzoo._paths import as_path, is_path, path_hint
from lipzoo.errors import CheckpointError, UnknownNameError, did_you_mean, shown
from lipzoo.registry.names import all_architectures, near, split_name
from lipzoo.weights import Checkpoint, list_checkpoints, read_checkpoint

if TYPE_CHECKING:
    from torch import nn

__all__ = ["find_checkpoint", "mark_loaded"]

#: Files of weights, none of which is taken: `read_checkpoint` says which folder is.
_WEIGHT_FILES = (".ckpt", ".pt", ".pth", ".safetensors")

#: What modules keep their hooks in that change what they compute.
_HOOKS = (
    "_forward_pre_hooks",
    "_forward_hooks",
    "_backward_pre_hooks",
    "_backward_hooks",
    "_score_hooks",
)


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
        If it is damaged, or a path that no folder can have, or the model has changed, or was
        loaded with other arguments than those of the card; see :func:`lipzoo.hub.fetch` for what is
        fetched.
    """
    if isinstance(source, Checkpoint):
        return source
    if hasattr(source, "state_dict"):
        return _of_model(source)
    if hub.is_remote(source):
        return hub.fetch_checkpoint(source)
    return read_checkpoint(_folder_of(source), str(source))


def mark_loaded(model: nn.Module, folder: Path, overrides: dict[str, Any]) -> None:
    """Note on a model where it was loaded from, with which arguments in place of the card's, and
    what it is made of, so that :func:`find_checkpoint` knows whether it still is that."""
    model.pretrained_folder = folder
    model._loaded_as = (overrides, _made_of(model))


def _made_of(model: nn.Module) -> tuple[str, list[int]]:
    """Its modules, and how many hooks each has."""
    return str(model), [len(getattr(m, key, ())) for m in model.modules() for key in _HOOKS]


def _of_model(model: nn.Module) -> Checkpoint:
    """What a model was loaded from, which it must still be."""
    import torch

    instead = "pass the folder that `lipzoo export` or finetune(..., out=...) wrote"
    folder = getattr(model, "pretrained_folder", None)
    if folder is None:
        raise CheckpointError(
            f"a {type(model).__name__} that load_pretrained did not return has no card: {instead}"
        )
    found, state = read_checkpoint(folder), model.state_dict()
    made_now = _made_of(model)
    overrides, made_of = getattr(model, "_loaded_as", ({}, made_now))  # before 0.2.0: unknown
    args = found.card.architecture.args
    if changed := differing({**args, **overrides}, args):
        raise CheckpointError(
            f"{found.card.full_name}: was loaded with other arguments than the card's "
            f"({', '.join(changed)}), which would be lost; pass the name or the folder, and the "
            "arguments again"
        )
    if made_of != made_now:
        raise CheckpointError(
            f"{found.card.full_name}: has other modules or hooks than when it was loaded from "
            f"{folder}, which would be lost; {instead}"
        )
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
