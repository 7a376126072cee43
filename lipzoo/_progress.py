"""What is said while work goes on, on stderr: bars on a terminal, lines in a pipe, or JSON."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from tqdm import tqdm

from lipzoo._json import plain

__all__ = ["EpochsProgress", "ProgressBar", "Verbose", "say", "stage"]

#: Whether work says how far it is: not, for a person, or one JSON object a line for a program.
Verbose = bool | Literal["json"]

#: Seconds between two lines in a pipe, and those that a stage may take in silence.
LINE_SECONDS = 10.0
STAGE_SECONDS = 5.0


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


def say(verbose: Verbose, text: str, event: str, **facts: Any) -> None:
    """A line on stderr: ``text``, or ``{"event": event, **facts}`` where ``verbose`` is "json"."""
    if verbose == "json":
        text = json.dumps(plain({"event": event, **facts}), ensure_ascii=False)
    if verbose:
        ProgressBar.write(text, file=sys.stderr)  # above a bar that stands there


@contextmanager
def stage(verbose: Verbose, what: str) -> Iterator[None]:
    """Say what is being done, such as ``"loading cora"``, where it takes more than a moment."""
    if verbose == "json":
        say(verbose, "", "stage", what=what)
    timer = threading.Timer(STAGE_SECONDS, say, (verbose, f"{what} ...", "stage"))
    timer.daemon = True
    if verbose is True:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


class EpochsProgress:
    """How far a training is: time left, and the best validation figure so far.

    On a terminal a bar, in a pipe a line every ten seconds, as JSON a line an evaluation; each
    ends with a line of the best epoch.

    Parameters
    ----------
    verbose : Verbose
    title : str
        What is trained.
    total, done : int
        Epochs at most, and those before this call.
    """

    def __init__(self, verbose: Verbose, title: str, total: int, done: int = 0) -> None:
        self.verbose, self.title = verbose, title or "training"
        self.total, self.first, self.epoch = total, done, done
        self.best = ""
        self._best_facts: dict[str, Any] = {}
        self._begun = self._said = time.monotonic()
        self._bar = ProgressBar(
            total=total,
            initial=done,
            desc=title or None,
            leave=False,
            disable=None if verbose is True else True,  # None: shown on a terminal only
        )

    def evaluated(self, row: dict[str, float], metric: str, best: float, best_epoch: int) -> None:
        """After an evaluation: its row of the history, and the best value of ``metric`` so far."""
        self.epoch = int(row["epoch"])
        self.best = f"best {metric} {best:.4f} (epoch {best_epoch})"
        self._best_facts = {"best_epoch": best_epoch, "best": {metric: best}}
        self._bar.set_postfix_str(self.best, refresh=False)
        if self.verbose == "json":
            self._say_json("evaluation", **row)

    def step(self, epoch: int) -> None:
        """After an epoch, from 1."""
        self.epoch = epoch
        self._bar.update()
        now = time.monotonic()
        if self.verbose is True and self._bar.disable and now - self._said >= LINE_SECONDS:
            self._said = now
            left = ProgressBar.format_interval(self.seconds_left())
            beside = f", {self.best}" if self.best else ""
            text = f"{self.title}: epoch {self.epoch} of {self.total}, at most {left} left{beside}"
            say(True, text, "epoch")

    def seconds_left(self) -> float:
        """Until the last epoch, as long as those before took; early stopping may end it sooner."""
        done = max(1, self.epoch - self.first)
        return (time.monotonic() - self._begun) / done * (self.total - self.epoch)

    def close(self) -> None:
        """Take the bar away."""
        self._bar.close()

    def finish(self) -> None:
        """Say that the training is over."""
        if self.verbose == "json":
            self._say_json("end", epoch=self.epoch)
        else:
            say(self.verbose, f"{self.title}: {self.epoch} epochs, {self.best or '-'}", "end")

    def _say_json(self, event: str, **facts: Any) -> None:
        left = {"seconds_left": round(self.seconds_left(), 1)} if event == "evaluation" else {}
        facts = {"title": self.title, **facts, "epochs": self.total, **self._best_facts, **left}
        say("json", "", event, **facts)
