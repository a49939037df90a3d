"""An S3 server that fails on demand, in the ways in which a network and a distributed store do."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from bitloot.tests.serving import start_serving


class Stub(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.objects: dict[str, bytes] = {}
        self.faults: dict[str, deque[str]] = {"PUT": deque(), "GET": deque(), "DELETE": deque()}
        self.calls: list[str] = []
        self.headers: dict[str, str] = {}
        self.lets_read = ""  # the origin whose pages may read

    @property
    def options(self) -> dict[str, str]:
        endpoint = f"http://127.0.0.1:{self.server_address[1]}"
        return {"bucket_name": "keys", "endpoint_url": endpoint, "access_key": "id", "secret_key": "secret"}

    def fail(self, method: str, *faults: str) -> None:
        self.faults[method].extend(faults)


class Handler(BaseHTTPRequestHandler):
    server: Stub
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        fault = self._begin()
        if fault == "503":
            return self._error(503, "ServiceUnavailable")
        if fault == "403":
            return self._error(403, "SignatureDoesNotMatch")
        if self.headers.get("If-None-Match") == "*" and self.path in self.server.objects:
            return self._error(412, "PreconditionFailed")
        self.server.objects[self.path] = body
        if fault == "drop the answer":
            return self._hang_up()
        return self._answer(200, b"")

    def do_GET(self) -> None:
        fault, body = self._begin(), self.server.objects.get(self.path)
        if fault == "503":
            return self._error(503, "ServiceUnavailable")
        if "list-type=2" in self.path:
            keys = (path.rpartition("/")[2] for path in self.server.objects)
            listed = "".join(f"<Contents><Key>{key}</Key></Contents>" for key in keys)
            return self._answer(200, f"<ListBucketResult>{listed}</ListBucketResult>".encode())
        if fault == "no bucket":
            return self._error(404, "NoSuchBucket")
        if body is None:
            return self._error(404, "NoSuchKey")
        if fault == "flip a bit":
            body = bytes([body[0] ^ 1]) + body[1:]
        if fault == "cut":
            self._answer(200, body[:-5], length=len(body))
            return self._hang_up()
        return self._answer(200, body)

    def do_OPTIONS(self) -> None:
        if self.headers["Origin"] != self.server.lets_read:
            return self._error(403, "CORSResponse")
        return self._answer(200, b"", allowed=self.server.lets_read)

    def do_DELETE(self) -> None:
        if self._begin() == "503":
            return self._error(503, "ServiceUnavailable")
        self.server.objects.pop(self.path, None)
        return self._answer(204, b"")

    def log_message(self, *args: Any) -> None:
        """Say nothing."""

    def _begin(self) -> str:
        self.server.calls.append(self.command)
        self.server.headers = dict(self.headers)
        faults = self.server.faults[self.command]
        return faults.popleft() if faults else ""

    def _error(self, status: int, code: str) -> None:
        self._answer(status, f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode())

    def _answer(self, status: int, body: bytes, length: int | None = None, allowed: str = "") -> None:
        self.send_response(status)
        if allowed:
            self.send_header("Access-Control-Allow-Origin", allowed)
        if status != 204:
            self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def _hang_up(self) -> None:
        self.close_connection = True


@contextmanager
def running_stub() -> Iterator[Stub]:
    with Stub() as stub:
        thread = start_serving(stub)
        try:
            yield stub
        finally:
            stub.shutdown()
            thread.join()
