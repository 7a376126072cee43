"""HTTP, as far as weights and data need it: resumable, bounded in size and time."""

from __future__ import annotations

import ipaddress
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import SplitResult, urljoin, urlsplit

import requests
from urllib3.util import Retry

from lipzoo._fetch.purpose import Purpose
from lipzoo._fetch.watch import Watch, WatchedAdapter
from lipzoo._progress import ProgressBar
from lipzoo.errors import ConfigError, LipzooError, UnknownNameError

__all__ = ["Unreachable", "check_url", "download", "get_small", "is_offline"]

_TIMEOUT = (10, 30)  # seconds to connect, and between two packets
_MAX_REDIRECTS = 5
#: Bytes read at once: what is lost at most where a connection breaks.
_BLOCK = 2**14
#: Seconds before each further attempt at a body that was cut short.
_PAUSES = (0.0, 1.0, 4.0)
# Connections and answers that fail in passing are tried again by urllib3.
_RETRY = Retry(
    total=3,
    connect=1,
    redirect=0,
    backoff_factor=0.3,
    status_forcelist=(429, 500, 502, 503, 504),
    raise_on_status=False,
    respect_retry_after_header=False,  # a server could let us wait for hours
)


class _Session(requests.Session):
    """Leaves redirects to us: requests would go from https to http, and read their bodies."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        return None


class Unreachable(LipzooError):
    """The server gave no usable answer: what was fetched before may be taken instead."""


def is_offline() -> bool:
    """Whether ``LIPZOO_OFFLINE`` or ``HF_HUB_OFFLINE`` forbids the network."""
    return any(
        os.environ.get(name, "").lower() in {"1", "true", "yes", "on"}
        for name in ("LIPZOO_OFFLINE", "HF_HUB_OFFLINE")
    )


def check_url(url: str) -> SplitResult:
    """The parts of a URL that may be fetched.

    Raises
    ------
    ConfigError
        If it is not https (http on this machine), names no host, or holds a password.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port
    except ValueError as fault:
        raise ConfigError(f"{url}: is no URL ({fault})") from None
    if parts.scheme == "http" and not _is_this_machine(host or ""):
        raise ConfigError(
            f"{url}: http:// is taken from this machine only, since anyone on the way could "
            "replace what it gives; use https://"
        )
    if parts.scheme not in ("http", "https"):
        raise ConfigError(
            f"{url}: {parts.scheme}:// is not taken; use https://, file:// or hf-hub:user/name"
        )
    if not host:
        raise ConfigError(f"{url}: names no host; write https://host/folder")
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            f"{parts.scheme}://…@{host}{parts.path}: a name or password in a URL ends up in logs "
            "and caches; put it into ~/.netrc instead"
        )
    return parts


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def get_small(
    url: str,
    limit: int,
    watch: Watch,
    purpose: Purpose,
    validators: dict[str, str] | None = None,
) -> tuple[bytes | None, dict[str, str]]:
    """A small file, whole, and what to send along to be told that it has not changed.

    Parameters
    ----------
    url : str
        Of the file.
    limit : int
        Bytes; a longer file is refused.
    watch : Watch
        Ends what is too slow.
    purpose : Purpose
        What it is for.
    validators : dict, optional
        What the last call returned: ``ETag`` and ``Last-Modified``.

    Returns
    -------
    data : bytes or None
        ``None`` where it has not changed.
    validators : dict of str

    Raises
    ------
    Unreachable, UnknownNameError, ConfigError, ``purpose.error``
        See :func:`download`.
    """
    conditions = {"ETag": "If-None-Match", "Last-Modified": "If-Modified-Since"}
    headers = {conditions[k]: v for k, v in (validators or {}).items() if k in conditions}
    for pause in (*_PAUSES, None):
        try:
            with _open(url, headers, watch, purpose) as answer:
                if answer.status_code == 304 and validators:
                    return None, validators
                _check_status(answer, url, purpose)
                data, total = bytearray(), _length(answer, url, 0, limit, purpose)
                for block in answer.iter_content(_BLOCK):
                    data += block
                    watch.pace.came(len(block))
                    _check_size(len(data), limit, url, purpose)
                _check_pace(watch, url)
                if total is None or len(data) == total:
                    found = {k: answer.headers[k] for k in conditions if k in answer.headers}
                    return bytes(data), found
                fault: object = f"{len(data)} of {total} bytes came"
        except requests.RequestException as broken:
            fault = _words(broken)
        _check_pace(watch, url)
        _wait(pause, url, fault)


def download(
    url: str, part: Path, size: int | None, limit: int, watch: Watch, purpose: Purpose
) -> None:
    """Fetch what is missing of ``url`` into ``part``, which a call that was stopped left behind.

    Parameters
    ----------
    url : str
        Of the file.
    part : Path
        Holds the beginning of the file, or does not exist.
    size : int, optional
        Bytes of the file, where they are known: a server that says otherwise is refused before
        the body, and one that sends more as soon as it does.
    limit : int
        Bytes; a longer file is refused before it is fetched, where its length is known.
    watch : Watch
        Ends what is too slow.
    purpose : Purpose
        What it is for.

    Raises
    ------
    UnknownNameError
        If the server says that there is no such file.
    Unreachable
        If there is no connection, or it breaks again and again, or is too slow; ``part`` keeps
        what came.
    ``purpose.error``
        If the file is too long, or not of its size, or the server refuses it.
    ConfigError
        If a redirect leads where :func:`check_url` forbids to go.
    """
    if size is not None:
        _check_size(size, limit, url, purpose)
    for pause in (*_PAUSES, None):
        have = part.stat().st_size if part.exists() else 0
        if have and have == size:
            return  # nothing is missing; the hash says whether it is right
        headers = {"Range": f"bytes={have}-"} if have else {}
        try:
            with _open(url, headers, watch, purpose) as answer:
                if answer.status_code == 416 and have:
                    return  # nothing comes after what is here; the hash says whether it is right
                _check_status(answer, url, purpose)
                start = _start(answer, have)
                total = _length(answer, url, start, limit, purpose)
                if size is not None and total not in (None, size):
                    raise purpose.error(
                        f"{url}: the server offers {total:,} bytes, and {purpose.stated_by} says "
                        f"{size:,}: they do not belong together; tell whoever offers them"
                    )
                total = size if size is not None else total
                most = limit if size is None else size
                came = _append(answer, part, start, total, most, watch, purpose)
                if total is None or came >= total:
                    _check_pace(watch, url)
                    return
                fault: object = f"{came} of {total} bytes came"
        except requests.RequestException as broken:
            fault = _words(broken)
        fault = f"{fault}; the next call goes on where this one stopped"
        _check_pace(watch, url)
        _wait(pause, url, fault)


def _append(
    answer,
    part: Path,
    start: int,
    total: int | None,
    limit: int,
    watch: Watch,
    purpose: Purpose,
) -> int:
    size = start
    name = urlsplit(answer.url).path.rpartition("/")[2]
    # The bar shows only what takes long, and only on a terminal.
    bar = ProgressBar(
        desc=name, total=total, initial=start, unit="B", unit_scale=True, delay=2, disable=None
    )
    with part.open("r+b" if part.exists() else "wb") as file, bar:
        file.seek(start)
        file.truncate()
        for block in answer.iter_content(_BLOCK):
            size += len(block)
            watch.pace.came(len(block))
            _check_size(size, limit, answer.url, purpose, is_stated=total == limit)
            file.write(block)
            bar.update(len(block))
        file.flush()
        os.fsync(file.fileno())
    return size


@contextmanager
def _open(
    url: str, headers: dict[str, str], watch: Watch, purpose: Purpose
) -> Iterator[requests.Response]:
    """The answer to a GET, its body not read; redirects stay in their scheme."""
    first = url
    with _Session() as session:
        for scheme in ("http://", "https://"):
            session.mount(scheme, WatchedAdapter(watch, _RETRY))
        # A compressed body has other lengths and ranges than the file.
        headers = {**headers, "Accept-Encoding": "identity"}
        for _ in range(_MAX_REDIRECTS + 1):
            scheme = check_url(url).scheme
            with session.get(
                url,
                headers=headers,
                stream=True,
                allow_redirects=False,
                timeout=_TIMEOUT,
                # http:// is for this machine, and a proxy is another.
                proxies={"http": None, "all": None} if scheme == "http" else None,
            ) as answer:
                if not answer.is_redirect:
                    yield answer
                    return
                target = answer.headers["location"]
            try:
                url = urljoin(url, target)
                stays = urlsplit(url).scheme == scheme
            except ValueError:
                stays = False
            if not stays:
                raise purpose.error(
                    f"{first}: is redirected to {target}, out of {scheme}://, which is not "
                    "followed; ask whoever offers it for an address without that"
                )
    raise purpose.error(
        f"{first}: is redirected more than {_MAX_REDIRECTS} times; check the address"
    )


def _check_status(answer: requests.Response, url: str, purpose: Purpose) -> None:
    status = answer.status_code
    if status in (404, 410):
        raise UnknownNameError(f"{url}: there is no such file (HTTP {status})")
    if status in (401, 403):
        raise purpose.error(
            f"{url}: the server refuses it (HTTP {status}); put a name and a password for "
            f"{urlsplit(url).hostname} into ~/.netrc, or ask for access"
        )
    if status == 429 or status >= 500:
        raise Unreachable(f"{url}: the server has trouble (HTTP {status}); try again later")
    if status not in (200, 206):
        raise purpose.error(f"{url}: unexpected answer (HTTP {status}); check the address")
    encoding = answer.headers.get("Content-Encoding", "identity").lower()
    if encoding not in ("", "identity"):
        raise purpose.error(
            f"{url}: the server sends it compressed ({encoding}) though it was asked not to; "
            f"{purpose.by_hand}"
        )


def _start(answer: requests.Response, have: int) -> int:
    """Where in the file the body begins: a server may ignore a range, or choose another."""
    if answer.status_code != 206:
        return 0
    found = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
    start = int(found[1]) if found else -1
    if not 0 <= start <= have:
        raise requests.exceptions.InvalidHeader(f"Content-Range {answer.headers.items()!r:.80}")
    return start


def _length(
    answer: requests.Response, url: str, start: int, limit: int, purpose: Purpose
) -> int | None:
    """Bytes of the whole file, where the server says them."""
    text = answer.headers.get("Content-Length", "")
    if not text.isascii() or not text.isdigit():
        return None
    _check_size(start + int(text), limit, url, purpose)
    return start + int(text)


def _check_size(size: int, limit: int, url: str, purpose: Purpose, is_stated: bool = False) -> None:
    if size > limit and is_stated:
        raise purpose.error(
            f"{url}: more than the {limit:,} bytes came that {purpose.stated_by} says; tell "
            "whoever offers it"
        )
    if size > limit:
        raise purpose.error(
            f"{url}: is longer than {limit:,} bytes, which lipzoo does not fetch; if you trust "
            f"it, {purpose.by_hand}"
        )


def _check_pace(watch: Watch, url: str) -> None:
    if watch.fault is not None:
        raise Unreachable(
            f"{url}: is given up: {watch.fault}; try again later, what came is gone on with"
        )


def _words(fault: Exception) -> str:
    """The innermost reason of a failure, without the object addresses around it."""
    while (inner := getattr(fault, "reason", None) or (fault.args and fault.args[0])) and (
        isinstance(inner, Exception)
    ):
        fault = inner
    text = re.sub(r"<[^>]*>[:,]?\s*", "", str(fault)).strip()
    return f"{type(fault).__name__}: {text}" if text else type(fault).__name__


def _wait(pause: float | None, url: str, fault: object) -> None:
    if pause is None:
        raise Unreachable(
            f"{url}: cannot be fetched ({fault}); check the address and the network, and try again"
        )
    time.sleep(pause)
