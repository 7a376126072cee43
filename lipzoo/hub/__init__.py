"""Weights from elsewhere: the Hugging Face Hub, ``https://`` and ``file://`` URLs; and back there.

======================================  =========================================================
``hf-hub:user/name[@revision]``         a repository on the Hub, through ``huggingface_hub``
``https://host/folder[#sha256=...]``    a folder that holds ``card.yaml`` and ``model.safetensors``
``http://localhost/...``                the same, on this machine only
``file:///folder[#sha256=...]``         the same, read where it lies
======================================  =========================================================
"""

from __future__ import annotations

import re
from pathlib import Path

from lipzoo.errors import ConfigError, shown
from lipzoo.weights import Checkpoint

__all__ = ["fetch", "fetch_checkpoint", "is_remote"]

HUB_PREFIX = "hf-hub:"
#: Longer than any address of a folder, its query included.
MAX_LENGTH = 4096


def is_remote(name: object) -> bool:
    """Whether ``name`` is a URL or a Hub name, instead of a name or a folder."""
    return isinstance(name, str) and (
        name.startswith(HUB_PREFIX) or re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", name) is not None
    )


def fetch(name: str) -> Path:
    """The folder on this machine that holds the weights ``name``; see `fetch_checkpoint`."""
    return fetch_checkpoint(name).folder


def fetch_checkpoint(name: str) -> Checkpoint:
    """The checkpoint behind an address; fetched where it must be.

    The hash on the card is checked before a fetched file gets its name, and what was fetched
    before is checked again. A second call fetches only what has changed; without a network, or with
    ``LIPZOO_OFFLINE=1`` (or ``HF_HUB_OFFLINE=1``), what was fetched before is taken.

    Parameters
    ----------
    name : str
        One of the forms above.

    Raises
    ------
    ConfigError
        If it is none of them, or ``huggingface_hub`` is not installed.
    UnknownNameError
        If there is nothing of that name.
    CheckpointError
        If the weights cannot be fetched, are damaged, or are not what ``#sha256=`` says.
    OutputError
        If the cache cannot be written.
    """
    if re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", name) or len(name) > MAX_LENGTH:
        raise ConfigError(
            f"'{shown(name)}': is no address of weights: control characters, half characters, or "
            f"more than {MAX_LENGTH} of them; check what you pasted"
        )
    # Not at the top: most users load what ships with the package, and need no HTTP library.
    if name.startswith(HUB_PREFIX):
        from lipzoo.hub.huggingface import fetch_from_hub

        return fetch_from_hub(name)
    from lipzoo.hub.url import fetch_url

    return fetch_url(name)
