"""Progress bars where processes are forked and killed."""

import os
import signal
import threading

import pytest
from tqdm import tqdm

from lipzoo._progress import ProgressBar

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]


def draw():
    with ProgressBar(total=1, disable=True) as bar:
        bar.update()


def ends(act):
    """Whether ``act`` comes to its end, and is not waiting for a lock."""
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    thread.join(30)
    return not thread.is_alive()


def test_a_child_that_is_killed_while_it_draws_holds_nobody_up():
    draw()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        ProgressBar.get_lock().acquire()
        os.write(writer, b"!")
        signal.pause()
        os._exit(0)
    os.read(reader, 1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert ends(draw)


def test_a_child_draws_though_a_thread_was_drawing_at_the_fork():
    drawing, forked = threading.Event(), threading.Event()

    def hold():
        with ProgressBar.get_lock():
            drawing.set()
            forked.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    drawing.wait()
    child = os.fork()
    if child == 0:
        # Not in a thread: it could get the identity of the one that holds the lock.
        signal.alarm(30)
        try:
            draw()
            os._exit(0)
        finally:
            os._exit(1)
    forked.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_other_bars_keep_their_lock():
    assert tqdm.get_lock() is not ProgressBar.get_lock()
