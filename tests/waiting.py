"""Waiting for another process, however busy the machine is."""

import time

__all__ = ["wait_until", "wait_until_still"]


def wait_until(holds, seconds=300):
    """Until ``holds()``; an AssertionError after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)


def wait_until_still(files, seconds=60):
    """Until none of ``files()`` grew for two seconds; those files."""
    sizes = {}

    def still():
        nonlocal sizes
        before, sizes = sizes, {file: file.stat().st_size for file in files()}
        if sizes == before:
            return True
        time.sleep(2)
        return False

    wait_until(still, seconds)
    return [*sizes]
