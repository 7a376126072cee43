"""Put checkpoints on the Hugging Face Hub. Needs the extra ``hub``."""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path

import torch
from torch import nn

from lipzoo.errors import CheckpointError, ConfigError, OutputError, quoted
from lipzoo.hub.download import is_offline
from lipzoo.hub.huggingface import hub_library, plain_words
from lipzoo.registry import find_pretrained
from lipzoo.weights import CARD_FILE, WEIGHTS_FILE, read_checkpoint

__all__ = ["push_to_hub"]

README_FILE = "README.md"


def push_to_hub(
    source: str | os.PathLike | nn.Module,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    token: str | None = None,
    message: str | None = None,
) -> str:
    """Put a checkpoint on the Hugging Face Hub: weights, ``card.yaml`` and a model card.

    The repository is made if there is none; all files go up in one commit. ``README.md`` is
    written from the card, over one that is there (the Hub keeps the old one in its history).

    Parameters
    ----------
    source : str, path or torch.nn.Module
        Pretrained weights by name, a folder that export or fine-tuning wrote, or a model that
        :func:`~lipzoo.load_pretrained` returned, unchanged.
    repo_id : str
        ``user/name``; afterwards ``load_pretrained("hf-hub:user/name")`` loads it.
    private : bool, optional
        Whether a new repository is private; by default what the account says.
    revision : str, optional
        A branch, made if there is none; by default ``main``.
    token : str, optional
        By default that of ``HF_TOKEN`` or of ``hf auth login``.
    message : str, optional
        Of the commit.

    Returns
    -------
    str
        URL of the commit.

    Raises
    ------
    ConfigError
        If ``repo_id`` is none, the network is forbidden, or ``huggingface_hub`` is absent.
    CheckpointError
        If the checkpoint is damaged, or the weights are no longer those its card describes.
    UnknownNameError
        If there are no weights of that name.
    OutputError
        If the Hub refuses it or cannot be reached.
    """
    if not re.fullmatch(r"[^@/\s]+/[^@/\s]+", repo_id):
        raise ConfigError(f"repo_id {quoted(repo_id)}: must look like user/name")
    if is_offline():
        raise ConfigError(
            f"{repo_id}: LIPZOO_OFFLINE or HF_HUB_OFFLINE forbids the network; unset it to push"
        )
    library = hub_library()
    from lipzoo.hub.model_card import model_card  # needs the library

    folder = _folder_of(source)
    card = read_checkpoint(folder).card
    if os.sep in card.dataset.name:
        warnings.warn(
            f"the card names the data by a path of this machine ({card.dataset.name}), which "
            "whoever sees the repository can read",
            stacklevel=2,
        )
    add = library.CommitOperationAdd
    text = model_card(card, repo_id).encode()
    operations = [add(README_FILE, text)]
    operations += [add(name, str(folder / name)) for name in (CARD_FILE, WEIGHTS_FILE)]
    api = library.HfApi(token=token, library_name="lipzoo")
    with plain_words(repo_id, OutputError):
        api.create_repo(repo_id, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        commit = api.create_commit(
            repo_id, operations, revision=revision, commit_message=message or card.full_name
        )
    return str(commit.commit_url)


def _folder_of(source: str | os.PathLike | nn.Module) -> Path:
    if not isinstance(source, nn.Module):
        return find_pretrained(source)
    folder = getattr(source, "pretrained_folder", None)
    if folder is None:
        raise CheckpointError(
            f"a {type(source).__name__} that load_pretrained did not return has no card: push the "
            "folder that `lipzoo export` or finetune(..., out=...) wrote"
        )
    loaded, state = read_checkpoint(folder), source.state_dict()
    if loaded.tensors.keys() != state.keys() or not all(
        tensor.dtype == state[key].dtype and torch.equal(tensor, state[key].cpu())
        for key, tensor in loaded.tensors.items()
    ):
        raise CheckpointError(
            f"{loaded.card.full_name}: the weights have changed since they were loaded from "
            f"{folder}, and the figures on the card are no longer theirs; push the folder that "
            "`lipzoo export` or finetune(..., out=...) wrote"
        )
    return folder
