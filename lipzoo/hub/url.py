"""Checkpoints behind URLs, and the cache that keeps them.

Below ``LIPZOO_HOME`` (default ``~/.cache/lipzoo``) each URL has a folder::

    urls/gat_lip_16.cora-0123456789abcdef/
        .lock          held while one process fetches and the others wait
        index.yaml     the URL, its newest version, what tells that it has not changed
        3bdc0d6c5ac9…/ a version, named after the hash of its card
            model.safetensors.part   what came so far
            model.safetensors        complete, its hash the card's
            card.yaml                written last

A version never changes, so that nobody who reads one is disturbed by a newer. A process may be
killed at any moment: the lock is the operating system's, a part is gone on with, and nothing gets
its name before it is complete and right. The folder may be deleted whenever nobody fetches.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import url2pathname

from lipzoo._atomic import remove_leftovers, write_atomically
from lipzoo._fetch.cache import FORBIDDEN, complete, fetching, lipzoo_home, unwritable
from lipzoo._fetch.download import Unreachable, check_url, get_small, is_offline
from lipzoo._fetch.purpose import Purpose
from lipzoo._fetch.watch import Watch
from lipzoo._yaml import MAX_BYTES, read_yaml, write_yaml
from lipzoo.card import Card
from lipzoo.errors import CheckpointError, ConfigError, OutputError, UnknownNameError
from lipzoo.weights import CARD_FILE, WEIGHTS_FILE, Checkpoint, read_checkpoint, sha256
from lipzoo.weights.reading import MAX_WEIGHTS_BYTES, parse_card, read_weights

__all__ = ["fetch_url"]

_INDEX_FILE = "index.yaml"
_HASH = re.compile(r"[0-9a-f]{64}")


_PURPOSE = Purpose(
    CheckpointError,
    "the card",
    "fetch card.yaml and model.safetensors yourself and pass their folder",
)


def fetch_url(text: str) -> Checkpoint:
    """The checkpoint behind a URL; see :func:`lipzoo.hub.fetch_checkpoint`.

    Parameters
    ----------
    text : str
        URL of a folder (or of the card or the weights in it), where it ends in
        ``#sha256=<64 digits>`` with the hash that the weights must have.
    """
    url, pin = _split_pin(text)
    if url.lower().startswith("file:"):
        return _read(_local_folder(url), url, pin)
    parts = check_url(url)
    path = parts.path.removesuffix(f"/{CARD_FILE}").removesuffix(f"/{WEIGHTS_FILE}").rstrip("/")
    url = urlunsplit(parts._replace(path=path))
    place = lipzoo_home() / "urls" / _slug(url)
    if is_offline():
        return _cached(place, url, pin, FORBIDDEN)
    try:
        with fetching(place, url, _PURPOSE) as watch:
            return _fetch(place, url, pin, watch)
    except UnknownNameError as fault:
        raise UnknownNameError(f"{fault}; {_advice(url)}") from None
    except OSError as fault:
        words = unwritable(place, fault)
        try:  # a cache that someone filled and that may only be read
            found = _cached(place, url, pin, words)
        except CheckpointError:
            raise OutputError(
                f"{words}; let LIPZOO_HOME name a folder with room that you may write to"
            ) from None
        warnings.warn(f"{words}; taking what was fetched before", stacklevel=4)
        return found


def _split_pin(text: str) -> tuple[str, str | None]:
    url, _, fragment = text.partition("#")
    if not fragment:
        return url, None
    digest = fragment.lower().removeprefix("sha256=")
    if not fragment.lower().startswith("sha256=") or not _HASH.fullmatch(digest):
        raise ConfigError(
            f"{text}: what follows # must be sha256= and the 64 hexadecimal digits of the weights' "
            "hash"
        )
    return url, digest


def _local_folder(url: str) -> Path:
    try:
        parts = urlsplit(url)
        path = Path(url2pathname(parts.path))
        is_absolute = parts.netloc in ("", "localhost") and unquote(parts.path).startswith("/")
        folder = path.parent if path.name in (CARD_FILE, WEIGHTS_FILE) else path
        is_there = folder.is_dir()
    except (OSError, ValueError) as fault:
        raise ConfigError(f"{url[:200]}: names no folder ({fault})"[:400]) from None
    if not is_absolute:
        raise ConfigError(f"{url}: must look like file:///folder, with an absolute path")
    if not is_there:
        raise UnknownNameError(f"{url}: there is no folder {folder}")
    return folder


def _slug(url: str) -> str:
    last = unquote(urlsplit(url).path).rpartition("/")[2]
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '_', last)[:64]}-{sha256(url.encode())[:16]}"


def _fetch(place: Path, url: str, pin: str | None, watch: Watch) -> Checkpoint:
    """The newest version of ``url``, fetched where it must be; under the lock."""
    index = _read_index(place)
    card_bytes = _cached_card(place, index)
    try:
        data, validators = get_small(
            _file_url(url, CARD_FILE),
            MAX_BYTES,
            watch,
            _PURPOSE,
            index["validators"] if card_bytes else None,
        )
        data = data if data is not None else card_bytes
        version = sha256(data)
        folder = place / version[:16]
        folder.mkdir(exist_ok=True)
        for each in (place, folder):
            remove_leftovers(each)
        card = _check_card(data, url)
        _check_pin(card, pin, url)
        try:
            weights = read_weights(folder, card)
        except (CheckpointError, FileNotFoundError):
            address, target = _file_url(url, WEIGHTS_FILE), folder / WEIGHTS_FILE
            entry = card.weights
            weights = complete(
                address,
                target,
                entry.sha256,
                entry.num_bytes,
                MAX_WEIGHTS_BYTES,
                watch,
                _PURPOSE,
            )
    except Unreachable as fault:
        try:
            found = _cached(place, url, pin, str(fault))
        except CheckpointError:
            raise CheckpointError(str(fault)) from None
        warnings.warn(f"{fault}; taking what was fetched before", stacklevel=5)
        return found
    if not (folder / CARD_FILE).is_file() or (folder / CARD_FILE).read_bytes() != data:
        write_atomically(folder / CARD_FILE, data)
    new = {"url": url, "version": version, "validators": validators}
    if new != index:
        write_yaml(place / _INDEX_FILE, new)
    return Checkpoint(url, card, {CARD_FILE: data, WEIGHTS_FILE: weights}, folder)


def _advice(url: str) -> str:
    hub = "; a repository there is hf-hub:user/name"
    on_hub = urlsplit(url).hostname == "huggingface.co"
    return (
        f"the URL must name a folder that holds {CARD_FILE} and {WEIGHTS_FILE}"
        f"{hub if on_hub else ''}"
    )


def _check_card(data: bytes, url: str) -> Card:
    """The card in what came."""
    try:
        card = parse_card(data, _file_url(url, CARD_FILE))
    except CheckpointError as fault:
        raise CheckpointError(f"{fault}; the URL must name a folder that export wrote") from None
    if not _HASH.fullmatch(card.weights.sha256):
        raise CheckpointError(
            f"{_file_url(url, CARD_FILE)}: gives no sha256 of the weights, without which nothing "
            "is fetched; write the folder with `lipzoo export`"
        )
    return card


def _check_pin(card: Card, pin: str | None, url: str) -> None:
    if pin not in (None, card.weights.sha256):
        raise CheckpointError(
            f"{url}: the card is of weights with sha256 {card.weights.sha256[:12]}…, not of those "
            f"that #sha256={pin[:12]}… asks for: they were replaced; ask whoever gave you the hash"
        )


def _read(folder: Path, url: str, pin: str | None) -> Checkpoint:
    found = read_checkpoint(folder, url)
    _check_pin(found.card, pin, url)
    return found


def _cached(place: Path, url: str, pin: str | None, why: str) -> Checkpoint:
    """The version that was fetched last.

    Raises
    ------
    CheckpointError
        If there is none, it is damaged, or it is not the one asked for.
    """
    index = _read_index(place)
    if _cached_card(place, index) is None:
        raise CheckpointError(
            f"{url}: has not been fetched before, and {why}; fetch it once with a network, or "
            "pass a folder"
        )
    return _read(place / index["version"][:16], url, pin)


def _read_index(place: Path) -> dict:
    """``url``, ``version``, ``validators``; empty where nothing was fetched."""
    try:
        index = read_yaml(place / _INDEX_FILE)
    except ConfigError:  # absent or damaged: as if nothing had been fetched
        return {}
    right = _HASH.fullmatch(str(index.get("version"))) and isinstance(index.get("validators"), dict)
    return index if right else {}


def _cached_card(place: Path, index: dict) -> bytes | None:
    """The card of the newest version, if it is still what it was."""
    try:
        data = (place / index["version"][:16] / CARD_FILE).read_bytes()
    except (KeyError, OSError):
        return None
    return data if sha256(data) == index["version"] else None


def _file_url(url: str, name: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"{parts.path}/{name}"))
