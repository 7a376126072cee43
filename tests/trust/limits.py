"""A limit of memory: what asks for terabytes fails, instead of taking the machine along."""

import resource
from contextlib import contextmanager
from pathlib import Path

#: Bytes above what the process has: for a file of a few kilobytes more than enough.
ROOM = 2**30


@contextmanager
def bounded_memory(room: int = ROOM):
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    limit = pages * resource.getpagesize() + room
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
