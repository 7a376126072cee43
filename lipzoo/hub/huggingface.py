"""Checkpoints on the Hugging Face Hub: fetch them; `push` puts them there.

Needs the extra ``hub``. Fetching and caching are ``huggingface_hub``'s (its cache, its
``HF_HOME``, ``HF_ENDPOINT``, ``HF_TOKEN`` and ``HF_HUB_OFFLINE``); ours are the hash and the
length on the card, and the limits of time. It fetches in a child: one that is too slow is ended,
and lets go of the library's locks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lipzoo._fetch.cache import FORBIDDEN
from lipzoo._fetch.download import is_offline
from lipzoo._yaml import MAX_BYTES
from lipzoo.errors import (
    CheckpointError,
    ConfigError,
    LipzooError,
    UnknownNameError,
    first_line,
    shown,
)
from lipzoo.hub import HUB_PREFIX
from lipzoo.hub.in_child import fetch_in_child
from lipzoo.weights import CARD_FILE, WEIGHTS_FILE, Checkpoint, read_checkpoint
from lipzoo.weights.reading import MAX_WEIGHTS_BYTES, read_card

__all__ = ["fetch_from_hub", "hub_library", "plain_words"]


def hub_library():
    """The module ``huggingface_hub``, which is an extra."""
    try:
        import huggingface_hub
    except ImportError:
        raise ConfigError(
            "the Hugging Face Hub needs huggingface_hub: pip install 'lipzoo[hub]'; or pass a "
            "folder or an https:// URL"
        ) from None
    return huggingface_hub


def fetch_from_hub(name: str) -> Checkpoint:
    """``hf-hub:user/name[@revision]``; see :func:`lipzoo.hub.fetch_checkpoint`.

    Card and weights are of the same commit: that of the branch or tag ``revision``, or
    ``revision`` itself, which then pins the weights for good.
    """
    found = re.fullmatch(r"([^@/]+/[^@/]+)(?:@(.+))?", name.removeprefix(HUB_PREFIX))
    if found is None:
        raise ConfigError(
            f"'{shown(name)}': must look like {HUB_PREFIX}user/name or "
            f"{HUB_PREFIX}user/name@revision"
        )
    repo_id, revision = found.groups()
    library = hub_library()
    with plain_words(name, CheckpointError):
        folder = _fetch_file(library, repo_id, CARD_FILE, revision, MAX_BYTES).parent
        # `…/snapshots/<commit>/card.yaml`: the weights of the very commit that the card is of.
        size = read_card(folder)[0].weights.num_bytes
        arguments = (library, repo_id, WEIGHTS_FILE, folder.name, MAX_WEIGHTS_BYTES, size)
        _fetch_file(*arguments)
        try:
            return read_checkpoint(folder, name)
        except CheckpointError:
            if is_offline():
                raise
        # Damaged in the cache, or wrong on the Hub: the reader says so if it is the latter.
        _fetch_file(*arguments, anew=True)
        return read_checkpoint(folder, name)


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


@contextmanager
def plain_words(name: str, kind: type[LipzooError]) -> Iterator[None]:
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
            FORBIDDEN
            if is_offline() or isinstance(cause, errors.OfflineModeIsEnabled) or cause is None
            else f"the Hub cannot be reached ({first_line(cause)})"
        )
        raise kind(
            f"{name}: has not been fetched before, and {why}; fetch it once with a network, or "
            "pass a folder"
        ) from None
    except errors.EntryNotFoundError as fault:
        raise UnknownNameError(
            f"{name}: the repository holds no checkpoint of lipzoo ({first_line(fault)}); it "
            f"needs {CARD_FILE} and {WEIGHTS_FILE}"
        ) from None
    except errors.RepositoryNotFoundError as fault:  # a gated one too
        wanted = UnknownNameError if kind is CheckpointError else kind
        raise wanted(
            f"{name}: there is no such repository on the Hub, or it is private or gated "
            f"({first_line(fault)}); check the name, and log in with `hf auth login` or HF_TOKEN"
        ) from None
    except errors.HfHubHTTPError as fault:
        status = fault.response.status_code
        advice = (
            "log in with `hf auth login`, or set HF_TOKEN to a token that may do this"
            if status in (401, 403)
            else "try again later"
        )
        raise kind(f"{name}: the Hub says {first_line(fault)}; {advice}") from None
    except errors.HFValidationError as fault:
        raise ConfigError(f"{name}: {first_line(fault)}") from None
    except (errors.HTTPError, OSError, ValueError, RuntimeError) as fault:
        # A broken connection, a full disk, or metadata that the Hub does not take.
        raise kind(f"{name}: {type(fault).__name__}: {first_line(fault)}; try again") from None
