"""A mail server that takes every mail and keeps none, and costs next to nothing beside what is measured."""

import contextlib
import socketserver
import threading
from collections.abc import Iterator


class _Dialogue(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    def handle(self) -> None:
        self._say(b"220 mailsink")
        for line in self.rfile:
            match line[:4].upper():
                case b"DATA":
                    self._say(b"354 End with a dot")
                    self._skip_mail()
                    self._say(b"250 Taken")
                case b"QUIT":
                    self._say(b"221 Goodbye")
                    return
                case _:
                    self._say(b"250 OK")

    def _say(self, answer: bytes) -> None:
        self.wfile.write(answer + b"\r\n")

    def _skip_mail(self) -> None:
        while self.rfile.readline() not in (b".\r\n", b""):
            pass


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False


@contextlib.contextmanager
def listening(address: str = "127.0.0.1") -> Iterator[int]:
    """Take mails on a free port for the block, without TLS and login; yields the port."""
    with _Server((address, 0), _Dialogue) as server:
        threading.Thread(target=server.serve_forever, name="mailsink", daemon=True).start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
