"""Put checkpoints on the Hugging Face Hub. Needs the extra ``hub``."""

from __future__ import annotations

import os
import re
import warnings

from torch import nn

from lipzoo._fetch.download import is_offline
from lipzoo.errors import ConfigError, OutputError, shown
from lipzoo.hub.huggingface import hub_library, plain_words
from lipzoo.registry import find_checkpoint

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
        raise ConfigError(f"repo_id '{shown(repo_id)}': must look like user/name")
    if is_offline():
        raise ConfigError(
            f"{repo_id}: LIPZOO_OFFLINE or HF_HUB_OFFLINE forbids the network; unset it to push"
        )
    library = hub_library()
    from lipzoo.hub.model_card import model_card  # needs the library

    checkpoint = find_checkpoint(source)
    _ = checkpoint.tensors  # refuses what is no file of tensors
    card = checkpoint.card
    if os.sep in card.dataset.name:
        warnings.warn(
            f"the card names the data by a path of this machine ({card.dataset.name}), which "
            "whoever sees the repository can read",
            stacklevel=2,
        )
    add = library.CommitOperationAdd
    files = {README_FILE: model_card(card, repo_id).encode(), **checkpoint.files}
    operations = [add(name, data) for name, data in files.items()]
    api = library.HfApi(token=token, library_name="lipzoo")
    with plain_words(repo_id, OutputError):
        api.create_repo(repo_id, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        commit = api.create_commit(
            repo_id, operations, revision=revision, commit_message=message or card.full_name
        )
    return str(commit.commit_url)
