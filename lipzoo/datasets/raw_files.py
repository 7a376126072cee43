"""DGL's dataset classes without their caches: raw files are read, and only read.

DGL's own classes write a cache beside the raw files (which fails in a read-only folder, and goes
stale), print while they work, and try a download ten times over.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import urllib.request
import warnings
import zipfile
from pathlib import Path
from typing import Any

from lipzoo._dgl import dgl
from lipzoo._files import check_folder
from lipzoo._paths import as_path
from lipzoo.errors import DataError, LipzooError

__all__ = ["InMemory", "raw_root", "read_dataset"]

_TIMEOUT = 20  # seconds in which the server must answer


def raw_root(raw_dir: str | os.PathLike | None = None) -> Path:
    """The folder of raw files: ``raw_dir``, or DGL's (``DGL_DOWNLOAD_DIR``, else ``~/.dgl``)."""
    if raw_dir:
        return as_path(raw_dir, "raw_dir")
    return as_path(os.environ.get("DGL_DOWNLOAD_DIR") or "~/.dgl", "DGL_DOWNLOAD_DIR")


class InMemory:
    """Mixin, named before one of DGL's dataset classes: no caches, one quiet download."""

    def has_cache(self) -> bool:
        return False

    def save(self) -> None:
        pass

    def _download(self) -> None:
        if not os.path.isdir(self.raw_path):
            _fetch(self.url, Path(self.raw_path))
        check_folder(self.raw_path)  # DGL opens files by their names


def read_dataset(
    dataset_class: type, name: str, raw_dir: str | os.PathLike | None, **options: Any
) -> dgl.data.DGLDataset:
    """Build one of DGL's dataset classes from raw files, downloading them where they are absent.

    Parameters
    ----------
    dataset_class : type
        A class of DGL's with `InMemory` before it.
    name : str
        The dataset's name, for error messages.
    raw_dir : path, optional
        See `raw_root`.
    **options
        Further arguments of the class.

    Raises
    ------
    DataError
        If the raw files are absent and cannot be downloaded, or cannot be read.
    """
    root = raw_root(raw_dir)
    try:
        with warnings.catch_warnings():
            # Old pickles and DGL's unclosed files are nothing that a user could act on.
            warnings.simplefilter("ignore")
            return dataset_class(raw_dir=str(root), verbose=False, **options)
    except LipzooError as fault:
        raise type(fault)(f"{name}: {fault}") from fault.__cause__
    except Exception as fault:
        # A pickle, a JSON or an .npz that is cut short fails in ways that have no common base.
        raise DataError(
            f"{name}: its raw files under {root} cannot be read ({type(fault).__name__}: "
            f"{fault}); delete its folder there to download it again"
        ) from fault


def _fetch(url: str, folder: Path) -> None:
    """Download a zip and unpack it as ``folder``, which appears complete or not at all."""
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
                archive = Path(scratch, "archive.zip")
                with archive.open("wb") as file:
                    shutil.copyfileobj(answer, file)
                zipfile.ZipFile(archive).extractall(Path(scratch, "files"))
                Path(scratch, "files").rename(folder)
    except (OSError, zipfile.BadZipFile) as fault:
        raise DataError(
            f"there is no folder {folder}, and downloading {url} failed ({fault}); put the raw "
            f"files there, or let raw_dir or DGL_DOWNLOAD_DIR name the folder that holds "
            f"{folder.name}"
        ) from fault
