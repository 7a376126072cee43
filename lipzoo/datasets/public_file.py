"""Files of arrays that authors publish beside their papers: where each lies, how it is read."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lipzoo._files import open_regular
from lipzoo.datasets.npz import read_arrays
from lipzoo.datasets.raw_files import raw_root
from lipzoo.errors import DataError

__all__ = ["PublicFile", "read_public"]


@dataclass(frozen=True)
class PublicFile:
    """An ``.npz`` of others.

    Parameters
    ----------
    place : str
        Below ``raw_dir``, such as ``heterophilous/actor.npz``; or without the folder.
    advice : str
        What to do where it is absent.
    """

    place: str
    advice: str = "put it there, or let raw_dir name the folder that holds it"


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
        If it is absent, no ``.npz`` of plain arrays, or an array is missing or unknown.
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
    raise DataError(f"{name}: there is neither {places[0]} nor {places[1]}; {file.advice}")
