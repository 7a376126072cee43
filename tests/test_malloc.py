"""glibc's malloc gives large arrays back where memory is the aim, and only there."""

import os
import subprocess
import sys
import threading

import pytest

from lipzoo import _malloc
from lipzoo._malloc import giving_back

MIB = 2**20
LOW = [(-3, MIB), (-1, 2 * MIB)]
HIGH = [(-3, 32 * MIB), (-1, 64 * MIB)]


@pytest.fixture
def calls(monkeypatch):
    """What ``mallopt`` is called with."""
    found = []
    monkeypatch.setattr(_malloc, "_mallopt", lambda: lambda *call: found.append(call))
    for name in list(os.environ):
        if name.startswith("MALLOC_") or name == "GLIBC_TUNABLES":
            monkeypatch.delenv(name)
    yield found
    assert _malloc._users == 0


def test_within_and_afterwards(calls):
    with giving_back():
        assert calls == LOW
        with giving_back(), giving_back(False):
            pass
        assert calls == LOW, "the inner one must not end it"
    assert calls == LOW + HIGH


def test_an_error_ends_it(calls):
    with pytest.raises(KeyError), giving_back():
        raise KeyError
    assert calls == LOW + HIGH


def test_threads_share_it(calls):
    inside, leave = threading.Event(), threading.Event()

    def other():
        with giving_back():
            inside.set()
            leave.wait(60)

    thread = threading.Thread(target=other)
    thread.start()
    assert inside.wait(60)
    with giving_back():
        pass
    assert calls == LOW, "the other thread is still within"
    leave.set()
    thread.join()
    assert calls == LOW + HIGH


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MALLOC_MMAP_THRESHOLD_", "33554432"),
        ("MALLOC_TRIM_THRESHOLD_", "1"),
        ("GLIBC_TUNABLES", "glibc.rtld.optional_static_tls=512:glibc.malloc.mmap_threshold=1"),
    ],
)
def test_what_the_user_has_set_stays(calls, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with giving_back():
        assert not calls


def test_where_it_is_not_wanted(calls):
    with giving_back(False):
        assert not calls


# --------------------------------------------------------------------------- the real one

#: Prints whether malloc is glibc's, and whether an array of 3 MiB is mapped on its own: before,
#: within and after, once a larger one has been freed.
REAL = """
import ctypes
import numpy as np
from lipzoo import _malloc

class Mallinfo(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_int) for name in names.split()]

mallinfo = ctypes.CDLL(None).mallinfo
mallinfo.restype = Mallinfo

def is_mapped():
    before = mallinfo().hblks
    array = np.empty(3 * 2**20, np.uint8)
    return mallinfo().hblks > before

np.empty(8 * 2**20, np.uint8)
print(_malloc._mallopt() is not None, is_mapped(), end=" ")
with _malloc.giving_back():
    print(is_mapped(), end=" ")
print(is_mapped())
"""


def run(preload=""):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    found = subprocess.run(
        [sys.executable, "-c", REAL],
        env={**environment, "LD_PRELOAD": preload},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout.split()


@pytest.mark.skipif(_malloc._mallopt() is None, reason="malloc is not glibc's")
def test_glibc_does_so():
    assert run() == ["True", "False", "True", "False"]


@pytest.mark.skipif(_malloc._mallopt() is None, reason="malloc is not glibc's")
def test_another_malloc_is_left_alone(tmp_path):
    """A library that is loaded first and has a malloc of its own, as jemalloc."""
    source, library = tmp_path / "other.c", tmp_path / "other.so"
    source.write_text(
        "#include <stddef.h>\nextern void *__libc_malloc(size_t);\n"
        "void *malloc(size_t size) { return __libc_malloc(size); }\n"
    )
    try:
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no C compiler")
    assert run(str(library)) == ["False", "False", "False", "False"]
