"""The raw files of DGL's datasets: the same archives in the same folders, which are only read.

DGL's own classes write a cache beside the raw files (which fails in a read-only folder, and goes
stale), unpickle whatever they find, print while they work, and try a download ten times over. Here
the files have readers of their own, which need no DGL.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from lipzoo._files import check_folder
from lipzoo._paths import as_path
from lipzoo.errors import DataError, LipzooError, UnknownNameError

__all__ = ["raw_root", "read_raw"]

T = TypeVar("T")


def raw_root(raw_dir: str | os.PathLike | None = None) -> Path:
    """The folder of raw files: ``raw_dir``, or DGL's (``DGL_DOWNLOAD_DIR``, else ``~/.dgl``)."""
    if raw_dir:
        return as_path(raw_dir, "raw_dir")
    return as_path(os.environ.get("DGL_DOWNLOAD_DIR") or "~/.dgl", "DGL_DOWNLOAD_DIR")


def read_raw(
    read: Callable[[Path], T], archive: str, name: str, raw_dir: str | os.PathLike | None
) -> T:
    """What ``read`` makes of the folder of raw files, downloaded where it is absent.

    Parameters
    ----------
    read : callable
        Takes the folder.
    archive : str
        What DGL calls it: ``archive.zip`` at ``https://data.dgl.ai/dataset``, or where
        ``DGL_REPO`` says (https, as all that is fetched).
    name : str
        The dataset's name, for error messages.
    raw_dir : path, optional
        See `raw_root`.

    Raises
    ------
    DataError
        If the raw files are absent and cannot be downloaded, or cannot be read.
    """
    root = raw_root(raw_dir)
    url = f"{(os.environ.get('DGL_REPO') or 'https://data.dgl.ai').rstrip('/')}/dataset/{archive}"
    # As DGL names it, so that its users need no second copy.
    folder = root / f"{archive}_{hashlib.sha1(f'{url}.zip'.encode()).hexdigest()[:8]}"
    try:
        if not folder.is_dir():
            _fetch(f"{url}.zip", folder)
        check_folder(folder)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old pickles are nothing that a user could act on
            return read(folder)
    except LipzooError as fault:
        raise type(fault)(f"{name}: {fault}") from fault.__cause__
    except Exception as fault:
        # A pickle or a JSON that is cut short fails in ways that have no common base.
        raise DataError(
            f"{name}: its raw files under {root} cannot be read ({type(fault).__name__}: "
            f"{fault}); delete its folder there to download it again"
        ) from fault


def _fetch(url: str, folder: Path) -> None:
    """Download a zip and unpack it as ``folder``, which appears complete or not at all.

    What came of a download that broke off lies in ``LIPZOO_HOME``, as that of others does.
    """
    # Not at the top: those whose files are here need no HTTP library of ours.
    from lipzoo._fetch.cache import MAX_BYTES, check_online, fetching, lipzoo_home
    from lipzoo._fetch.download import Unreachable, download
    from lipzoo._fetch.purpose import Purpose

    by_hand = (
        "put the raw files there, or let raw_dir or DGL_DOWNLOAD_DIR name the folder that holds "
        f"{folder.name}"
    )
    purpose = Purpose(error=DataError, stated_by="the server", by_hand=by_hand)
    place = lipzoo_home() / "data" / folder.name
    try:
        check_online(url, purpose)
        with fetching(place, url, purpose) as watch:
            if folder.is_dir():
                return  # another process has fetched it
            archive = place / "archive.zip.part"
            download(url, archive, None, MAX_BYTES, watch, purpose)
            try:
                _unpack(archive, folder)
            finally:
                archive.unlink()
    except (DataError, Unreachable, UnknownNameError, OSError, zipfile.BadZipFile) as fault:
        hint = "" if by_hand in str(fault) else f"; {by_hand}"
        raise DataError(f"there is no folder {folder}, and {fault}{hint}") from fault


def _unpack(archive: Path, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(Path(scratch, "files"))
        try:
            Path(scratch, "files").rename(folder)
        except OSError:
            if not folder.is_dir():  # which DGL may have fetched, too
                raise
