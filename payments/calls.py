"""Calls that customers start, in threads of their own: however slow the provider is, web has threads for webhooks."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeVar

T = TypeVar("T")


class Calls:
    """A few threads that call, and the few requests that may wait for an answer."""

    def __init__(self, *, threads: int, under_way: int, waiting: int) -> None:
        self._threads = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="customer-call")
        self._most = under_way
        self._seats = threading.BoundedSemaphore(waiting)
        self._under_way: set[Future[Any]] = set()

    @property
    def are_too_many(self) -> bool:
        # Unlocked, so a few more may slip through at once: it only keeps the queue from growing without end.
        return len(self._under_way) >= self._most

    def start(self, call: Callable[..., T], *arguments: Any) -> "Future[T]":
        # With the context of the request: its log lines, and what it asks the provider, name its id.
        started = self._threads.submit(copy_context().run, call, *arguments)
        # Added first: a call that has ended by now is discarded by the next line.
        self._under_way.add(started)
        started.add_done_callback(self._under_way.discard)
        return started

    def wait_for(self, started: "Future[T]", *, seconds: float) -> T:
        """Return the call's result. Raises TimeoutError after that time, or at once where enough requests wait."""
        if not self._seats.acquire(blocking=False):
            return started.result(timeout=0)
        try:
            return started.result(timeout=seconds)
        finally:
            self._seats.release()
