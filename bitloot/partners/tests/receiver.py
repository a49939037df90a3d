"""A shop's endpoint on loopback: keeps what is posted to it, and answers what a test wants."""

import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook

from bitloot.tests.serving import start_serving


class Receiver(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status, self.answer, self.headers, self.posted = 200, b"thanks", {}, []
        start_serving(self)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/hooks?token=CANARYTOKEN"

    def opened(self, secret):
        """Return the events, each verified as its receiver does; raises if one is not genuine."""
        return [Webhook(secret).verify(body, headers) for headers, body in self.posted]


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posted.append((dict(self.headers), body))
        json.loads(body)
        self.send_response(self.server.status)
        for name, value in {"Content-Length": str(len(self.server.answer)), **self.server.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.server.answer)

    def log_message(self, *_):
        """Stay quiet."""


@contextmanager
def running_receiver():
    server = Receiver()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
