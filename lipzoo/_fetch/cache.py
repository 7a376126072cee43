"""What was fetched is kept below ``LIPZOO_HOME``, under its hash, and checked whenever it is read.

A process may be killed at any moment: the lock is the operating system's, a part is gone on with,
and nothing gets its name before it is complete and right.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from lipzoo._fetch.download import download, is_offline
from lipzoo._fetch.purpose import Purpose
from lipzoo._fetch.watch import Watch, download_seconds
from lipzoo._files import read_regular
from lipzoo._paths import as_path
from lipzoo.errors import OutputError

__all__ = [
    "FORBIDDEN",
    "MAX_BYTES",
    "check_online",
    "complete",
    "fetch_pinned",
    "fetching",
    "lipzoo_home",
    "unwritable",
]

#: Why nothing is fetched.
FORBIDDEN = "the network is forbidden (LIPZOO_OFFLINE, HF_HUB_OFFLINE)"

#: More than any file of data has; what comes is held to its own length.
MAX_BYTES = 4 * 2**30


def lipzoo_home() -> Path:
    """Where it is kept: ``LIPZOO_HOME``, by default ``~/.cache/lipzoo``."""
    return as_path(os.environ.get("LIPZOO_HOME") or "~/.cache/lipzoo", "LIPZOO_HOME", OutputError)


@contextmanager
def fetching(place: Path, url: str, purpose: Purpose) -> Iterator[Watch]:
    """Be the one process that fetches into the folder ``place``, as long as a download may take.

    Raises
    ------
    ``purpose.error``
        If another process has been fetching for all that time.
    OSError
        If the folder cannot be written.
    """
    seconds = download_seconds()
    try:
        place.mkdir(parents=True, exist_ok=True)
        with FileLock(place / ".lock", timeout=seconds), Watch(seconds) as watch:
            yield watch
    except Timeout:
        raise purpose.error(
            f"{url}: another process has been fetching it for {seconds:g} s "
            "(LIPZOO_DOWNLOAD_SECONDS); try again when it is done"
        ) from None


def unwritable(place: Path, fault: OSError) -> str:
    """Words for a cache that cannot be written."""
    return f"{place}: cannot be written ({fault.strerror or fault})"


def fetch_pinned(place: Path, url: str, digest: str, num_bytes: int, purpose: Purpose) -> bytes:
    """The file behind ``url`` whose hash is known: from the folder ``place``, else fetched into it.

    Parameters
    ----------
    place : Path
        Of this file alone.
    url : str
    digest : str
        SHA-256, in hexadecimal digits.
    num_bytes : int
        Its length; another is refused before its body, or as soon as more comes.
    purpose : Purpose

    Raises
    ------
    Unreachable, UnknownNameError, ConfigError
        See :func:`~lipzoo._fetch.download.download`.
    ``purpose.error``
        If what comes is not the file, or it is absent and the network forbidden.
    OutputError
        If the cache cannot be written.
    """
    target = place / url.rpartition("/")[2]
    data = _kept(target, digest, num_bytes)
    if data is not None:
        return data
    check_online(url, purpose)
    try:
        with fetching(place, url, purpose) as watch:
            data = _kept(target, digest, num_bytes)  # another process may have fetched it
            if data is not None:
                return data
            return complete(url, target, digest, num_bytes, MAX_BYTES, watch, purpose)
    except OSError as fault:
        raise OutputError(
            f"{unwritable(place, fault)}; let LIPZOO_HOME name a folder with room that you may "
            "write to"
        ) from None


def check_online(url: str, purpose: Purpose) -> None:
    """Raise ``purpose.error`` where the network is forbidden."""
    if is_offline():
        raise purpose.error(
            f"{url}: has not been fetched before, and {FORBIDDEN}; fetch it once with a network, "
            f"or {purpose.by_hand}"
        )


def _kept(target: Path, digest: str, num_bytes: int) -> bytes | None:
    try:
        data = read_regular(target, num_bytes)
    except OSError:
        return None
    return data if _sha256(data) == digest else None


def complete(
    url: str,
    target: Path,
    digest: str,
    size: int | None,
    limit: int,
    watch: Watch,
    purpose: Purpose,
) -> bytes:
    """Fetch what is missing of a file, and give it its name once its hash is right.

    Parameters
    ----------
    url : str
    target : Path
        ``TARGET.part`` beside it holds what came before.
    digest : str
        SHA-256, in hexadecimal digits.
    size : int, optional
        Its bytes, where they are known.
    limit : int
        Bytes, of which it may not have more.
    watch, purpose
        See :func:`~lipzoo._fetch.download.download`, and for what is raised.
    """
    part = target.with_name(f"{target.name}.part")
    while True:
        if size is not None and part.exists() and part.stat().st_size > size:
            part.unlink()  # of another file
        was_begun = part.exists()
        try:
            download(url, part, size, limit, watch, purpose)
        except purpose.error:
            part.unlink(missing_ok=True)
            raise
        data = read_regular(part, limit)
        found = _sha256(data)
        if found == digest:
            os.replace(part, target)
            return data
        part.unlink()
        if not was_begun:
            raise purpose.error(
                f"{url}: its hash is not the one {purpose.stated_by} says ({len(data)} bytes, "
                f"sha256 {found[:12]}… instead of {digest[:12]}…): it was cut short, damaged or "
                "replaced; try again, and tell whoever offers it if that does not help"
            )
        # A part from another time may be of another file: once more, from the beginning.


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
