"""Whether a transfer is too slow. Imports nothing of lipzoo: a child that only fetches loads it."""

from __future__ import annotations

import time

__all__ = ["Pace"]

#: Fewer bytes a second than this, over so many seconds, and the server is given up.
FLOOR, WINDOW = 1024, 60.0


class Pace:
    """Counts the bytes of a transfer that may take ``seconds`` in all."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.bytes = seconds, 0
        self._begin = self._since = time.monotonic()
        self._before = 0

    def came(self, number: int) -> None:
        """So many more bytes are here."""
        self.bytes += number

    def left(self) -> float:
        """Seconds that remain."""
        return self._begin + self.seconds - time.monotonic()

    def fault(self) -> str | None:
        """Why to give up, if it is time."""
        if self.left() <= 0:
            return f"it took longer than {self.seconds:g} s, see LIPZOO_DOWNLOAD_SECONDS"
        passed, came = time.monotonic() - self._since, self.bytes - self._before
        if passed < WINDOW:
            return None
        if came < FLOOR * passed:
            return f"the server is too slow: {came} bytes in {passed:.0f} s"
        self._since, self._before = time.monotonic(), self.bytes
        return None
