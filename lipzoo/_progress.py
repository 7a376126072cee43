"""Progress bars."""

from __future__ import annotations

import os
import threading

from tqdm import tqdm

__all__ = ["ProgressBar"]


class ProgressBar(tqdm):
    """tqdm's bar, with a lock of this process alone.

    tqdm's own lock is shared with forked children, and one that is killed while it draws never
    releases it: then every other process waits for good.
    """


def _renew_lock() -> None:
    ProgressBar.set_lock(threading.RLock())


_renew_lock()
if hasattr(os, "register_at_fork"):
    # A thread that holds the lock just then does not live on in the child.
    os.register_at_fork(after_in_child=_renew_lock)
