"""Large arrays go back to the system as soon as they are freed, where malloc is glibc's.

glibc takes arrays above a threshold straight from the system (``mmap``), and gives them back when
they are freed. The threshold begins at 128 KiB and rises to the largest array freed so far, up to
32 MiB. What is below it is cut out of a heap, whose holes are kept for later and split, so that a
process may hold several times what is in use. With a low threshold it holds what is in use; the
system clears each page anew, which takes time.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

__all__ = ["giving_back", "keeps_holes"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h
_MIB = 2**20
#: From which size on arrays are given back; glibc trims its heap at twice that.
_LOW = _MIB
#: Where glibc's own threshold ends. It cannot be read, and setting one ends its rise for good: so
#: what is restored is what a process comes to that frees large arrays, as one that trains does.
_HIGH = 32 * _MIB

_lock = threading.Lock()
_users = 0


@contextmanager
def giving_back(wanted: bool = True) -> Iterator[None]:
    """Arrays from 1 MiB on are given back within, by all threads, where ``wanted``.

    Nothing is changed where malloc is not glibc's, or where the user has set it, by
    ``MALLOC_MMAP_THRESHOLD_`` or another variable.
    """
    global _users
    mallopt = _mallopt() if wanted and not _is_set() else None
    if mallopt is None:
        yield
        return
    with _lock:
        _users += 1
        if _users == 1:
            _set(mallopt, _LOW)
            # What is free in the heap would be used first, and split.
            ctypes.CDLL(None).malloc_trim(0)
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                _set(mallopt, _HIGH)


def keeps_holes(size: int) -> bool:
    """Whether malloc cuts arrays of so many bytes out of its heap, in a process that trains."""
    return size < _HIGH and _mallopt() is not None and not _is_set()


def _set(mallopt: Callable[[int, int], int], threshold: int) -> None:
    mallopt(_MMAP_THRESHOLD, threshold)
    mallopt(_TRIM_THRESHOLD, 2 * threshold)


def _is_set() -> bool:
    """Whether the user has a say in it: any of these ends the rise of the threshold."""
    names = ("MMAP_THRESHOLD_", "TRIM_THRESHOLD_", "TOP_PAD_", "MMAP_MAX_")
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    return "glibc.malloc." in tunables or any(f"MALLOC_{name}" in os.environ for name in names)


class _Symbol(ctypes.Structure):
    _fields_ = [
        ("library", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    ]


@cache
def _mallopt() -> Callable[[int, int], int] | None:
    """glibc's ``mallopt``; None where malloc is another's, such as a preloaded jemalloc's."""
    if not sys.platform.startswith("linux") or sys.maxsize < 2**32:
        return None
    process = ctypes.CDLL(None)
    try:
        of_glibc, malloc, mallopt = map(
            process.__getitem__, ("gnu_get_libc_version", "malloc", "mallopt")
        )
        libraries = {_library(process, function) for function in (of_glibc, malloc, mallopt)}
    except AttributeError:  # another C library
        return None
    return mallopt if len(libraries) == 1 and None not in libraries else None


def _library(process: ctypes.CDLL, function: Callable) -> bytes | None:
    """The file that a function of C is in."""
    found = _Symbol()
    address = ctypes.cast(function, ctypes.c_void_p)
    return found.library if process.dladdr(address, ctypes.byref(found)) else None
