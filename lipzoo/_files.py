"""Open the files that others wrote: regular ones only, none outside their folder, none too long.

What a user names may be a link, and lead anywhere. What lies *in* a folder may not: a link there
must lead to a file of the same folder. One layout is known besides: the Hugging Face Hub's cache,
where ``snapshots/<commit>/card.yaml`` is a link into ``blobs`` of the same repository.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

__all__ = ["Refused", "check_folder", "open_regular", "read_regular"]

# Without O_NONBLOCK to open a pipe waits for somebody who writes. Not every system has all four.
_FLAGS = os.O_RDONLY
for _flag in ("O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY", "O_BINARY"):
    _FLAGS |= getattr(os, _flag, 0)


class Refused(OSError):
    """A file that is not read; ``strerror`` says why, and nothing of what it holds."""

    def __init__(self, why: str) -> None:
        super().__init__(errno.EPERM, why)


def open_regular(path: str | os.PathLike, folder: str | os.PathLike | None = None) -> BinaryIO:
    """A regular file, open to be read.

    Parameters
    ----------
    path : path
    folder : path, optional
        The folder that the file must lie in, links followed; by default it may lie anywhere.

    Raises
    ------
    Refused
        If it is a folder, a pipe, a device or a socket, or a link leads out of ``folder``.
    OSError
        If it cannot be opened.
    """
    descriptor = os.open(path, _FLAGS) if folder is None else _open_below(*_place(path, folder))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Refused("it is no regular file; put the file itself there")
    return os.fdopen(descriptor, "rb")


def read_regular(
    path: str | os.PathLike, limit: int | None = None, folder: str | os.PathLike | None = None
) -> bytes:
    """All bytes of a regular file; see `open_regular`.

    Raises
    ------
    Refused
        Also if it is larger than ``limit`` bytes, by default the memory of this machine.
    """
    limit = memory_of_machine() if limit is None else limit
    with open_regular(path, folder) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise Refused(f"it is larger than {limit:,} bytes")
        data = file.read(size + 1)
    if len(data) > size:
        raise Refused("it is longer than the system says, or somebody is writing it")
    return data


def memory_of_machine() -> int:
    """Bytes; where the system does not say, more than any file has."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 2**62


def check_folder(folder: str | os.PathLike) -> None:
    """Refuse a folder in which something is neither a folder nor a regular file of its own.

    For readers that are not ours and open files by their names.

    Raises
    ------
    Refused
    """
    for place, folders, files in os.walk(os.path.realpath(folder)):
        for name in (*folders, *files):
            root, parts = _place(os.path.join(place, name), folder)
            kind = os.stat(os.path.join(root, *parts)).st_mode
            if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
                raise Refused(f"{name!r} is no regular file; put the file itself there")


def _place(path: str | os.PathLike, folder: str | os.PathLike) -> tuple[str, tuple[str, ...]]:
    """Where ``path`` leads: a folder, and the way from there, without links."""
    root, target = Path(os.path.realpath(folder)), Path(os.path.realpath(path, strict=True))
    if root.parent.name == "snapshots" and target.parent == root.parent.parent / "blobs":
        return str(target.parent), (target.name,)
    if root not in target.parents:
        raise Refused("a link there leads out of its folder; put the file itself there")
    return str(root), target.relative_to(root).parts


def _open_below(root: str, parts: tuple[str, ...]) -> int:
    """Open what `_place` found, step by step: a name that became a link since is not followed."""
    follow = getattr(os, "O_NOFOLLOW", 0)
    if os.open not in os.supports_dir_fd:
        return os.open(os.path.join(root, *parts), _FLAGS | follow)
    descriptor = os.open(root, _FLAGS)
    for part in parts:
        try:
            below = os.open(part, _FLAGS | follow, dir_fd=descriptor)
        finally:
            os.close(descriptor)
        descriptor = below
    return descriptor
