"""A second process that writes into a folder, for the tests of those who must not."""

import os
from contextlib import contextmanager

from lipzoo._writing import writing, writing_file


@contextmanager
def writing_elsewhere(out, hold=writing):
    """Another process writes ``out`` in the meantime; gives its number."""
    ready, tell = os.pipe()
    wait, let_go = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(let_go)
            with hold(out):
                os.write(tell, b"x")
                os.read(wait, 1)
        finally:
            os._exit(0)
    os.close(wait)
    os.close(tell)
    try:
        assert os.read(ready, 1) == b"x"
        yield child
    finally:
        os.close(let_go)
        os.close(ready)
        os.waitpid(child, 0)


def writing_file_elsewhere(file):
    """The same of a file."""
    return writing_elsewhere(file, writing_file)
