"""Write files so that a kill, a full disk or a power cut leaves the old ones or the new ones."""

from __future__ import annotations

import contextlib
import fnmatch
import glob
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from lipzoo.errors import OutputError

__all__ = [
    "LEFTOVERS",
    "is_leftover",
    "leftovers",
    "remove_leftovers",
    "stage",
    "sync_folder",
    "write_all",
    "write_atomically",
]

#: What a file is to hold, or what writes it.
Content = bytes | Callable[[IO[bytes]], Any]

#: How the names of temporary files end: no file of anybody else's.
_SUFFIX = ".lipzoo.tmp"

#: Their names.
LEFTOVERS = f".*{_SUFFIX}"


def write_atomically(path: Path | str, data: Content) -> None:
    """Write ``data`` so that ``path`` holds either the old content or all of the new.

    A function writes what need not be in memory at once to the file that it is given.

    Raises
    ------
    OutputError
        If the folder cannot be written.
    """
    write_all({Path(path): data})


def write_all(files: Mapping[Path, Content]) -> None:
    """Write several files; none is replaced before all are on the disk.

    The last one seals several: it is removed first and comes last, so that a killed process
    leaves no seal on a mixture of old and new.

    Raises
    ------
    OutputError
        If one of them cannot be written; then all are as they were.
    """
    staged: dict[Path, Path] = {}
    kept: dict[Path, Path] = {}
    try:
        for path, data in files.items():
            staged[path] = stage(path, data)
        if len(files) > 1:
            for path in filter(Path.is_file, files):
                kept[path] = stage(path, path.read_bytes())
            path = list(files)[-1]
            path.unlink(missing_ok=True)
        for path, temporary in staged.items():
            os.replace(temporary, path)
    except BaseException as fault:
        _take_back(staged, kept)
        if not isinstance(fault, OSError):
            raise
        raise OutputError(
            f"{path}: cannot be written ({fault.strerror}); choose a folder with room that you may "
            "write to"
        ) from None
    for temporary in kept.values():
        temporary.unlink(missing_ok=True)
    for folder in {path.parent for path in files}:
        sync_folder(folder)


def _take_back(staged: dict[Path, Path], kept: dict[Path, Path]) -> None:
    """Let all files be as they were."""
    for path, temporary in staged.items():
        if not temporary.exists() and path not in kept and len(staged) > 1:
            path.unlink(missing_ok=True)  # new, and already in its place
        temporary.unlink(missing_ok=True)
    for path, temporary in kept.items():
        with contextlib.suppress(OSError):
            os.replace(temporary, path)


def stage(path: Path, data: Content) -> Path:
    """A temporary file beside ``path`` that holds ``data``, on the disk."""
    with tempfile.NamedTemporaryFile(
        dir=path.parent, prefix=f".{path.name}.", suffix=_SUFFIX, delete=False
    ) as file:
        temporary = Path(file.name)
        try:
            data(file) if callable(data) else file.write(data)
            file.flush()
            os.fsync(file.fileno())
            # mkstemp makes files that only their owner may read.
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(temporary, 0o666 & ~umask)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    return temporary


def sync_folder(folder: Path) -> None:
    """Let new names survive a power cut; not every file system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_leftovers(folder: Path, name: str = "*") -> None:
    """Remove what a killed process had begun to write; nobody else may be writing there."""
    for path in leftovers(folder, name):
        path.unlink(missing_ok=True)


def leftovers(folder: Path, name: str = "*") -> list[Path]:
    """The temporary files in ``folder``; of the file ``name`` only, where it is given."""
    pattern = LEFTOVERS if name == "*" else f".{glob.escape(name)}.*{_SUFFIX}"
    return [path for path in folder.glob(pattern) if path.is_file()]


def is_leftover(path: Path) -> bool:
    """Whether :func:`leftovers` of its folder names it."""
    return fnmatch.fnmatchcase(path.name, LEFTOVERS) and path.is_file()
