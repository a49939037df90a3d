"""A small load generator: some keep-alive connections, requests that were built before, one thread and epoll.

It runs in the bench's own process, whose CPU time is counted nowhere.
"""

import re
import selectors
import socket
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

ANSWER_SECONDS = 30.0
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)


class NoAnswer(Exception):
    """The server went quiet, or closed a connection in the middle of an answer."""


@dataclass
class Load:
    """The outcome of one run: how long it took, each answer's time, and the answers by status."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    bodies: list[bytes] = field(default_factory=list)

    def takes(self, line: "_Line") -> bool:
        """Count the line's answer; False while it is not whole."""
        answer = line.receive()
        if answer is None:
            return False
        self.latencies.append(time.perf_counter() - line.sent_at)
        self.statuses[answer[0]] += 1
        return True

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds if self.seconds else 0.0

    def percentile(self, share: float) -> float:
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def request(
    method: str, path: str, *, host: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> bytes:
    """Return the bytes of one HTTP/1.1 request."""
    lines = [
        f"{method} {path} HTTP/1.1",
        f"Host: {host}",
        *(f"{name}: {value}" for name, value in (headers or {}).items()),
    ]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


def run(requests: Sequence[bytes], *, port: int, connections: int, seconds: float, keep_bodies: bool = False) -> Load:
    """Send the requests in turn until they or the seconds are used up. Raises NoAnswer if the server goes quiet."""
    load, waiting = Load(), iter(requests)
    with selectors.DefaultSelector() as selector:
        started = time.perf_counter()
        lines = [_Line(port, selector) for _ in range(min(connections, len(requests)))]
        try:
            _drive(lines, selector, waiting, load, started + seconds, keep_bodies=keep_bodies)
        finally:
            load.seconds = time.perf_counter() - started
            for line in lines:
                line.close()
    return load


def _drive(
    lines: "list[_Line]",
    selector: selectors.BaseSelector,
    waiting: Iterator[bytes],
    load: Load,
    deadline: float,
    *,
    keep_bodies: bool,
) -> None:
    busy = sum(line.send_next(waiting) for line in lines)
    while busy:
        ready = selector.select(ANSWER_SECONDS)
        if not ready:
            raise NoAnswer(f"no answer within {ANSWER_SECONDS:g} s")
        for key, _ in ready:
            line: _Line = key.data
            answer = line.receive()
            if answer is None:
                continue
            now = time.perf_counter()
            load.latencies.append(now - line.sent_at)
            load.statuses[answer[0]] += 1
            if keep_bodies:
                load.bodies.append(answer[1])
            if now >= deadline or not line.send_next(waiting):
                busy -= 1


def run_paced(requests: Sequence[bytes], *, port: int, connections: int, rate: float) -> Load:
    """Send so many requests a second. An answer counts from the moment its request was due, not when it was sent."""
    load = Load()
    with selectors.DefaultSelector() as selector:
        idle = lines = [_Line(port, selector) for _ in range(min(connections, len(requests)))]
        started, sent = time.perf_counter(), 0
        try:
            while len(load.latencies) < len(requests):
                idle, sent = _send_due(idle, requests, sent, started, rate)
                is_next = bool(idle) and sent < len(requests)
                pause = max(0.0, started + sent / rate - time.perf_counter()) if is_next else ANSWER_SECONDS
                ready = [key.data for key, _ in selector.select(pause)]
                if not ready and not is_next:
                    raise NoAnswer(f"no answer within {ANSWER_SECONDS:g} s")
                idle = [*idle, *(line for line in ready if load.takes(line))]
        finally:
            load.seconds = time.perf_counter() - started
            for line in lines:
                line.close()
    return load


def _send_due(
    idle: "list[_Line]", requests: Sequence[bytes], sent: int, started: float, rate: float
) -> "tuple[list[_Line], int]":
    """Send what is due on the lines that are idle; return those that still are, and how many were sent in all."""
    due = min(len(requests), int((time.perf_counter() - started) * rate) + 1) - sent
    busy = idle[: max(0, due)]
    for number, line in enumerate(busy, sent):
        line.send_next(iter([requests[number]]))
        line.sent_at = started + number / rate
    return idle[len(busy) :], sent + len(busy)


class _Line:
    """One keep-alive connection with at most one request under way."""

    def __init__(self, port: int, selector: selectors.BaseSelector) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=ANSWER_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = b""
        self.sent_at = 0.0
        selector.register(self._socket, selectors.EVENT_READ, self)

    def send_next(self, waiting: Iterator[bytes]) -> bool:
        """Send one request; False if none is left."""
        message = next(waiting, None)
        if message is None:
            return False
        self.sent_at = time.perf_counter()
        self._socket.sendall(message)
        return True

    def receive(self) -> tuple[int, bytes] | None:
        """Return status and body once the whole answer is here."""
        part = self._socket.recv(65536)
        if not part:
            raise NoAnswer("the server closed the connection")
        self._received += part
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return None
        length = _LENGTH.search(head)
        if length is None and head[9:12] not in (b"204", b"304"):
            raise NoAnswer("an answer without Content-Length")
        if length is not None and len(body) < int(length[1]):
            return None
        self._received = b""
        return int(head[9:12]), body

    def close(self) -> None:
        self._socket.close()
