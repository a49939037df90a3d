"""HTTP connections that are cut where the head of an answer does not come in time."""

import socket
import time
from contextlib import suppress
from threading import Timer

from urllib3 import HTTPConnectionPool, HTTPResponse, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection


def hurry(manager: PoolManager) -> None:
    """Let status and headers of an answer take no longer, all of them together, than the read timeout."""
    manager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}


class _Hurried(HTTPConnection):
    """The socket's own timeout starts again with each byte, and with each “100 Continue”."""

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]
        seconds = self.timeout  # to read: urllib3 sets it before it asks for the answer
        assert seconds is not None
        deadline = time.monotonic() + seconds
        timer = Timer(seconds, _cut, [self.sock])
        timer.daemon = True
        timer.start()
        try:
            response = super().getresponse()
        finally:
            timer.cancel()
        # A connection that ends among the headers reads like the end of the headers.
        if time.monotonic() >= deadline:
            response.close()
            raise TimeoutError("the headers came too slowly")
        return response


class _HurriedTls(_Hurried, HTTPSConnection):
    """The same over TLS."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Hurried


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _HurriedTls


def _cut(connection: socket.socket) -> None:
    with suppress(OSError):  # the other side was quicker
        connection.shutdown(socket.SHUT_RDWR)
