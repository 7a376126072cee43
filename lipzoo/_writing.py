"""One writer at a time: a folder or file that a process writes is locked until it is done.

The lock is the operating system's, on a hidden file that names the process: it ends with the
process, however that ends. Readers take no lock.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import inspect
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout

from lipzoo._paths import as_path
from lipzoo.errors import OutputError

__all__ = ["LOCK_FILE", "one_writer", "output_path", "writing", "writing_file"]

LOCK_FILE = ".lock"
#: What a writer meets in the middle of its work, wherever that is.
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}
#: The folder may vanish between its making and its locking: the other process removes its own.
_ATTEMPTS = 100

Function = TypeVar("Function", bound=Callable)


def output_path(out: str | os.PathLike) -> Path:
    """``out`` as a path, ``~`` expanded.

    Raises
    ------
    OutputError
        If it can be none: of an unknown user, with a NUL, or too long.
    """
    return as_path(out, error=OutputError)


@contextlib.contextmanager
def writing(folder: str | os.PathLike, wait: float = 0) -> Iterator[Path]:
    """Keep other writers out of a folder, which is made; a new one that stays empty is removed
    where the writing fails.

    Within a thread it may be nested. For another writer it waits so many seconds.

    Raises
    ------
    OutputError
        If somebody else writes there, or it cannot be written; nothing has been touched then.
    """
    path = output_path(folder)
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path}: is a file; name a folder")
    made: list[Path] = []
    try:
        with _held(path, path / LOCK_FILE, made, wait):
            yield path
    except BaseException:
        for each in reversed(made):
            with contextlib.suppress(OSError):  # it holds something
                each.rmdir()
        raise


@contextlib.contextmanager
def writing_file(file: str | os.PathLike, wait: float = 0) -> Iterator[Path]:
    """Keep other writers from a file in a folder that exists; see :func:`writing`.

    Raises
    ------
    OutputError
        If somebody else writes it, or the folder is none or cannot be written.
    """
    path = output_path(file)
    if not path.parent.is_dir():
        raise OutputError(f"{path.parent}: is no folder; make it first")
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; name a file")
    with _held(path, path.with_name(f".{path.name}{LOCK_FILE}"), None, wait):
        yield path


def one_writer(function: Function) -> Function:
    """Let ``function`` run within :func:`writing` of the folder that its ``out`` names, if any."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def alone(*args, **options):
        out = signature.bind(*args, **options).arguments.get("out")
        with contextlib.nullcontext() if out is None else writing(out):
            return function(*args, **options)

    return alone


@contextlib.contextmanager
def _held(target: Path, file: Path, made: list[Path] | None, wait: float) -> Iterator[None]:
    lock = _acquire(target, file, made, wait)
    try:
        yield
    except OSError as fault:
        if fault.errno not in _NO_ROOM:
            raise
        raise OutputError(
            f"{target}: cannot be written ({fault.strerror}); make room, or choose another output"
        ) from None
    finally:
        # The outermost. Who waits for the file that goes looks again whether it is still there.
        if lock.lock_counter == 1:
            with contextlib.suppress(OSError):
                file.unlink()
        lock.release()


def _acquire(target: Path, file: Path, made: list[Path] | None, wait: float) -> FileLock:
    try:
        for _ in range(_ATTEMPTS):
            if made is not None:
                _make(file.parent, made)
            # By its real path, and once a process: then a thread that holds it may take it again.
            lock = FileLock(file.parent.resolve() / file.name, mode=0o666, is_singleton=True)
            try:
                lock.acquire(timeout=wait)
            except FileNotFoundError:
                if made is None:
                    raise
            except Timeout:
                if file.exists():
                    raise _busy(target, file) from None
                wait = 0  # it is free by now, or no file can be made there
            else:
                if lock.lock_counter == 1:
                    with contextlib.suppress(OSError):  # a full disk: then it names no process
                        file.write_text(str(os.getpid()))
                return lock
    except OSError as fault:
        verb = "written" if file.parent.is_dir() else "made"
        raise OutputError(
            f"{target}: cannot be {verb} ({fault.strerror}); choose a folder that you may write to"
        ) from None
    raise OutputError(
        f"{target}: cannot be written (no file stays in that folder); choose a folder that you may "
        "write to"
    )


def _make(folder: Path, made: list[Path]) -> None:
    """Make a folder and those around it; the new ones are added to ``made``."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        with contextlib.suppress(FileExistsError):
            each.mkdir()
            made.append(each)


def _busy(target: Path, file: Path) -> OutputError:
    try:
        number = file.read_text().strip()
    except (OSError, ValueError):
        number = ""
    process = f" ({number})" if number.isdigit() else ""
    return OutputError(
        f"{target}: is being written by another process{process}; wait for it, or choose another "
        "output"
    )
