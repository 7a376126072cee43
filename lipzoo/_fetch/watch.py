"""Ends the connections of a transfer that is too slow, wherever it is: handshake, headers or body.

A limit between two packets does not: a server that sends a byte now and then keeps a read that
waits for a whole line or block going for ever. So a thread looks at the pace, and shuts the
sockets down.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import threading

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util import Retry

from lipzoo._fetch.pace import Pace
from lipzoo.errors import ConfigError

__all__ = ["Watch", "WatchedAdapter", "download_seconds"]

_INTERVAL = 0.2  # seconds between two looks
_DEFAULT_SECONDS = 3600.0


def download_seconds() -> float:
    """How long a download may take in all: ``LIPZOO_DOWNLOAD_SECONDS``, by default an hour.

    Raises
    ------
    ConfigError
        If the variable is no positive number.
    """
    text = os.environ.get("LIPZOO_DOWNLOAD_SECONDS") or str(_DEFAULT_SECONDS)
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ConfigError(
            f"LIPZOO_DOWNLOAD_SECONDS={text[:80]!r}: must be a positive number of seconds"
        )
    return seconds


class Watch:
    """Watches over connections while it is entered; ``pace`` counts their bytes."""

    def __init__(self, seconds: float) -> None:
        self.pace, self.fault = Pace(seconds), None
        self._sockets: list[socket.socket] = []
        self._lock, self._done = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *exception) -> None:
        self._done.set()
        self._thread.join()
        for each in self._sockets:
            each.close()

    def over(self, connection: socket.socket) -> None:
        """Let ``connection`` end with the others. TLS takes the socket over: keep a double."""
        with self._lock:
            self._sockets.append(connection.dup())
            if self.fault is not None:
                self._end()

    def _look(self) -> None:
        while not self._done.wait(_INTERVAL):
            fault = self.pace.fault()
            if fault is not None:
                with self._lock:
                    self.fault = fault
                    self._end()
                return

    def _end(self) -> None:
        for each in self._sockets:
            with contextlib.suppress(OSError):  # the server has hung up already
                each.shutdown(socket.SHUT_RDWR)


class WatchedAdapter(HTTPAdapter):
    """Puts each new connection under a watch."""

    def __init__(self, watch: Watch, retries: Retry) -> None:
        self._classes = {
            "http": _watched(HTTPConnectionPool, watch),
            "https": _watched(HTTPSConnectionPool, watch),
        }
        super().__init__(max_retries=retries)

    def init_poolmanager(self, *args, **options) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = self._classes

    def proxy_manager_for(self, proxy, **options):
        manager = super().proxy_manager_for(proxy, **options)
        if not proxy.lower().startswith("socks"):  # which has classes of its own
            manager.pool_classes_by_scheme = self._classes
        return manager


def _watched(pool: type[HTTPConnectionPool], watch: Watch) -> type[HTTPConnectionPool]:
    class Connection(pool.ConnectionCls):
        def _new_conn(self):
            connection = super()._new_conn()
            watch.over(connection)
            return connection

    class Pool(pool):
        ConnectionCls = Connection

    return Pool
