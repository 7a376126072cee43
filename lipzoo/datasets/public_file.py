"""Files of arrays that authors publish beside their papers: where each lies, how it is read."""

from __future__ import annotations

import io
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lipzoo._files import open_regular
from lipzoo.datasets.npz import read_arrays
from lipzoo.datasets.raw_files import raw_root
from lipzoo.errors import DataError, UnknownNameError

__all__ = ["PublicFile", "pinned_files", "read_public"]


@dataclass(frozen=True)
class PublicFile:
    """An ``.npz`` of others.

    Parameters
    ----------
    place : str
        Below ``raw_dir``, such as ``heterophilous/actor.npz``; or without the folder. What a user
        puts there is taken as it is.
    url : str
        Where the authors keep it; empty where it is not fetched.
    sha256, num_bytes
        Of the file there. What is fetched and is another is refused.
    advice : str
        What to do where it is absent.
    """

    place: str
    url: str = ""
    sha256: str = ""
    num_bytes: int = 0
    advice: str = "put the file there, or let raw_dir name the folder that holds it"


def pinned_files(
    folder: str, url: str, hashes: Mapping[str, tuple[str, int]], ending: str = ".npz"
) -> dict[str, PublicFile]:
    """Files of one address, by name: ``{name: (sha256, num_bytes)}``."""
    return {
        name: PublicFile(f"{folder}/{name}{ending}", f"{url}{name}{ending}", digest, num_bytes)
        for name, (digest, num_bytes) in hashes.items()
    }


def read_public(
    file: PublicFile, name: str, raw_dir: str | os.PathLike | None, keys: Collection[str]
) -> tuple[str, dict[str, np.ndarray]]:
    """The arrays of a file, and where they were found, for error messages.

    Parameters
    ----------
    file : PublicFile
    name : str
        The dataset's.
    raw_dir : path, optional
        See `lipzoo.datasets.raw_files.raw_root`.
    keys : collection of str
        The arrays that must be there; others are refused.

    Raises
    ------
    DataError
        If it is absent and cannot be fetched, no ``.npz`` of plain arrays, or an array is missing
        or unknown.
    OutputError
        If it is to be fetched and the cache cannot be written.
    """
    where, arrays = _read(file, name, raw_dir, keys)
    missing = [key for key in keys if key not in arrays]
    if missing:
        raise DataError(
            f"{where}: there is no array {', '.join(map(repr, missing))} (found: "
            f"{', '.join(arrays) or 'none'}); take the file as its authors publish it"
        )
    return where, arrays


def _read(
    file: PublicFile, name: str, raw_dir: str | os.PathLike | None, keys: Collection[str]
) -> tuple[str, dict[str, np.ndarray]]:
    root = raw_root(raw_dir)
    places = [root / file.place, root / Path(file.place).name]
    for path in places:
        try:
            with open_regular(path) as opened:
                size = os.fstat(opened.fileno()).st_size
                return f"{name}: {path}", read_arrays(f"{name}: {path}", opened, size, keys)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as fault:
            raise DataError(
                f"{name}: {path}: cannot be read ({fault.strerror or fault})"
            ) from fault
    absent = f"{name}: there is neither {places[0]} nor {places[1]}"
    if not file.url:
        raise DataError(f"{absent}; {file.advice}")
    data, where = _fetched(file, absent), f"{name}: {file.url}"
    return where, read_arrays(where, io.BytesIO(data), len(data), keys)


def _fetched(file: PublicFile, absent: str) -> bytes:
    # Not at the top: those whose files are here need no HTTP library of ours.
    from lipzoo._fetch.cache import fetch_pinned, lipzoo_home
    from lipzoo._fetch.download import Unreachable
    from lipzoo._fetch.purpose import Purpose

    purpose = Purpose(error=DataError, stated_by="lipzoo's catalogue", by_hand=file.advice)
    place = lipzoo_home() / "data" / f"{Path(file.place).stem}-{file.sha256[:16]}"
    try:
        return fetch_pinned(place, file.url, file.sha256, file.num_bytes, purpose)
    except (DataError, Unreachable, UnknownNameError) as fault:
        hint = "" if file.advice in str(fault) else f"; or {file.advice}"
        raise DataError(f"{absent}, and {fault}{hint}") from None
