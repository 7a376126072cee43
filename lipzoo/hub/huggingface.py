"""Checkpoints on the Hugging Face Hub: fetch them, and put them there.

Needs the extra ``hub``. Fetching and caching are ``huggingface_hub``'s (its cache, its
``HF_HOME``, ``HF_ENDPOINT``, ``HF_TOKEN`` and ``HF_HUB_OFFLINE``); ours are the hash and the
length on the card, and the limits of time. It fetches in a child: one that is too slow is ended,
and lets go of the library's locks.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from lipzoo._yaml import MAX_BYTES
from lipzoo.errors import CheckpointError, ConfigError, LipzooError, OutputError, UnknownNameError
from lipzoo.hub import HUB_PREFIX
from lipzoo.hub.download import is_offline
from lipzoo.hub.in_child import fetch_in_child
from lipzoo.hub.url import MAX_WEIGHTS_BYTES, hash_of_file, read_card
from lipzoo.weights import CARD_FILE, WEIGHTS_FILE, read_checkpoint

__all__ = ["fetch_from_hub", "push_to_hub"]

README_FILE = "README.md"


def _library():
    try:
        import huggingface_hub
    except ImportError:
        raise ConfigError(
            "the Hugging Face Hub needs huggingface_hub: pip install 'lipzoo[hub]'; or pass a "
            "folder or an https:// URL"
        ) from None
    return huggingface_hub


def fetch_from_hub(name: str) -> Path:
    """The local folder of ``hf-hub:user/name[@revision]``; see :func:`lipzoo.hub.fetch`.

    Card and weights are of the same commit: that of the branch or tag ``revision``, or
    ``revision`` itself, which then pins the weights for good.
    """
    found = re.fullmatch(r"([^@/]+/[^@/]+)(?:@(.+))?", name.removeprefix(HUB_PREFIX))
    if found is None:
        raise ConfigError(
            f"{name!r}: must look like {HUB_PREFIX}user/name or {HUB_PREFIX}user/name@revision"
        )
    repo_id, revision = found.groups()
    library = _library()
    with _plain_words(name, CheckpointError):
        card_path = _fetch_file(library, repo_id, CARD_FILE, revision, MAX_BYTES)
        # `…/snapshots/<commit>/card.yaml`: the weights of the very commit that the card is of.
        commit, wanted = card_path.parent.name, read_card(card_path).weights
        arguments = (library, repo_id, WEIGHTS_FILE, commit, MAX_WEIGHTS_BYTES, wanted.num_bytes)
        weights = _fetch_file(*arguments)
        if hash_of_file(weights) != wanted.sha256 and not is_offline():
            # Damaged in the cache, or wrong on the Hub: the reader says so if it is the latter.
            _fetch_file(*arguments, anew=True)
    return card_path.parent


def _fetch_file(
    library,
    repo_id: str,
    file: str,
    revision: str | None,
    limit: int,
    size: int | None = None,
    anew: bool = False,
) -> Path:
    """A file in the library's cache; ``size`` is what the card says of it."""
    options = {"revision": revision, "local_files_only": is_offline(), "force_download": anew}
    found = library.hf_hub_download(repo_id, file, dry_run=True, **options)
    name = f"{HUB_PREFIX}{repo_id}: {file}"
    if found.file_size is not None and found.file_size > limit:
        raise CheckpointError(
            f"{name} is longer than {limit:,} bytes, which lipzoo does not fetch; if you trust "
            "it, fetch the files yourself and pass their folder"
        )
    if found.will_download:
        if size is not None and not found.is_cached and found.file_size not in (None, size):
            raise CheckpointError(
                f"{name} is {found.file_size:,} bytes long on the Hub, and the card says "
                f"{size:,}: they do not belong together; tell whoever offers them"
            )
        most = next(each for each in (size, found.file_size, limit) if each is not None)
        fetch_in_child(name, most, repo_id=repo_id, filename=file, **options)
    return Path(library.hf_hub_download(repo_id, file, revision=revision, local_files_only=True))


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
        raise ConfigError(f"repo_id {repo_id!r}: must look like user/name")
    if is_offline():
        raise ConfigError(
            f"{repo_id}: LIPZOO_OFFLINE or HF_HUB_OFFLINE forbids the network; unset it to push"
        )
    library = _library()
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
    with _plain_words(repo_id, OutputError):
        api.create_repo(repo_id, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        commit = api.create_commit(
            repo_id, operations, revision=revision, commit_message=message or card.full_name
        )
    return str(commit.commit_url)


def _folder_of(source: str | os.PathLike | nn.Module) -> Path:
    if not isinstance(source, nn.Module):
        from lipzoo.registry import find_pretrained  # which fetches through this package

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


@contextmanager
def _plain_words(name: str, kind: type[LipzooError]) -> Iterator[None]:
    """What ``huggingface_hub`` and the network raise, as an error of ours that says what to do."""
    from huggingface_hub import errors

    try:
        yield
    except LipzooError:
        raise
    except errors.RevisionNotFoundError:
        raise UnknownNameError(f"{name}: the repository has no such revision") from None
    except errors.LocalEntryNotFoundError as fault:
        cause = fault.__cause__
        why = (
            "the network is forbidden (LIPZOO_OFFLINE, HF_HUB_OFFLINE)"
            if is_offline() or isinstance(cause, errors.OfflineModeIsEnabled) or cause is None
            else f"the Hub cannot be reached ({_first_line(cause)})"
        )
        raise kind(
            f"{name}: has not been fetched before, and {why}; fetch it once with a network, or "
            "pass a folder"
        ) from None
    except errors.EntryNotFoundError as fault:
        raise UnknownNameError(
            f"{name}: the repository holds no checkpoint of lipzoo ({_first_line(fault)}); it "
            f"needs {CARD_FILE} and {WEIGHTS_FILE}"
        ) from None
    except errors.RepositoryNotFoundError as fault:  # a gated one too
        wanted = UnknownNameError if kind is CheckpointError else kind
        raise wanted(
            f"{name}: there is no such repository on the Hub, or it is private or gated "
            f"({_first_line(fault)}); check the name, and log in with `hf auth login` or HF_TOKEN"
        ) from None
    except errors.HfHubHTTPError as fault:
        status = fault.response.status_code
        advice = (
            "log in with `hf auth login`, or set HF_TOKEN to a token that may do this"
            if status in (401, 403)
            else "try again later"
        )
        raise kind(f"{name}: the Hub says {_first_line(fault)}; {advice}") from None
    except errors.HFValidationError as fault:
        raise ConfigError(f"{name}: {_first_line(fault)}") from None
    except (errors.HTTPError, OSError, ValueError, RuntimeError) as fault:
        # A broken connection, a full disk, or metadata that the Hub does not take.
        raise kind(f"{name}: {type(fault).__name__}: {_first_line(fault)}; try again") from None


def _first_line(fault: BaseException) -> str:
    lines = [line.strip() for line in str(fault).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(fault).__name__
