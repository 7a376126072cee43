"""A process that has imported everything forks a child for each command line, and disturbs it.

``--seconds`` after its begin a child is killed from outside; at a chosen call among those that
write files it kills itself, or that call fails as on a full disk.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import resource
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

KILLED = -signal.SIGKILL
#: Functions of the system and methods of files that change the disk.
_CHANGES = {"replace", "rename", "fsync", "mkdir", "rmdir", "unlink", "remove", "chmod", "flock"}
_WRITES = {"write", "flush", "close", "truncate", "writelines"}
#: Those among them that a full disk lets fail.
_NEED_ROOM = {"replace", "rename", "fsync", "mkdir", "write", "flush", "truncate", "open"}


@dataclass(frozen=True)
class Disturbance:
    """What happens to a child: nothing, by default.

    ``seconds``: killed from outside after that time. ``call``: at that writing call, from 1, it
    kills itself, or the call fails where ``fails``. ``file_size``: no file may be longer.
    """

    seconds: float | None = None
    call: int | None = None
    fails: bool = False
    file_size: int | None = None


@dataclass(frozen=True)
class Outcome:
    """Exit code, how long it took, how many writing calls it made, what it said."""

    code: int
    seconds: float
    calls: int
    words: str


class _Calls:
    """A profile function that counts writing calls, and ends or fails the chosen one."""

    def __init__(self, disturbance: Disturbance) -> None:
        self.wanted, self.made = disturbance, 0

    def __call__(self, frame, event, function) -> None:
        if event not in ("c_call", "c_return") or not self._changes(function):
            return
        if self.wanted.fails and (event == "c_return" or function.__name__ not in _NEED_ROOM):
            return
        self.made += 1
        if self.made != self.wanted.call:
            return
        if self.wanted.fails:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.kill(os.getpid(), signal.SIGKILL)

    def _changes(self, function) -> bool:
        owner, name = getattr(function, "__self__", None), function.__name__
        if name in _WRITES:
            is_file = isinstance(owner, io.IOBase) and not isinstance(owner, _MEMORY)
            return is_file and owner not in (sys.stdout, sys.stderr) and not owner.closed
        if name == "open":  # os.open, which makes temporary files; not that of readers
            return self.wanted.fails and getattr(owner, "__name__", "") == "posix"
        return name in _CHANGES and getattr(owner, "__name__", "") in ("posix", "fcntl")


_MEMORY = (io.StringIO, io.BytesIO)


def run_child(work, disturbance: Disturbance) -> Outcome:
    """Run ``work()``, which returns an exit code, in a child."""
    mine, theirs = os.pipe()
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(mine)
        _be_child(work, disturbance, theirs)
    os.close(theirs)
    if disturbance.seconds is not None:
        time.sleep(disturbance.seconds)
        os.kill(child, signal.SIGKILL)
    with os.fdopen(mine, "rb") as pipe:
        said = pipe.read().decode(errors="replace")
    _, status = os.waitpid(child, 0)
    calls, _, words = said.partition("\n")
    code = os.waitstatus_to_exitcode(status)
    return Outcome(code, time.monotonic() - began, int(calls or 0), words)


def _be_child(work, disturbance: Disturbance, pipe: int) -> None:
    code, calls, said = 1, _Calls(disturbance), io.StringIO()
    try:
        signal.alarm(300)  # a child that hangs is a finding, not the end of the search
        sys.stdout = io.StringIO()
        sys.stderr = said
        if disturbance.file_size is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (disturbance.file_size,) * 2)
        if disturbance.call is not None:
            sys.setprofile(calls)
        try:
            code = work()
        finally:
            sys.setprofile(None)
    except BaseException:
        traceback.print_exc(file=said)
    finally:
        with contextlib.suppress(OSError):
            os.write(pipe, f"{calls.made}\n{said.getvalue()}".encode(errors="replace")[:60000])
        os._exit(code)


def commit(root: Path) -> str:
    """The commit that was tested, and whether the working tree differs from it."""
    import subprocess

    def git(*words):
        command = ["git", "-C", str(root), *words]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()

    changed = git("status", "--porcelain", "--", "lipzoo", "tools", "zoo_configs")
    return git("rev-parse", "HEAD") + (" with changes" if changed else "")
