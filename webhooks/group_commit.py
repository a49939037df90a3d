"""Group commit: callers that come while another one writes share the next write, and each returns when it is done."""

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")


class _Place(Generic[Item]):
    def __init__(self, item: Item) -> None:
        self.item = item
        self.written = self.leads = False
        self._turn = threading.Lock()
        self._turn.acquire()

    def wait(self) -> None:
        self._turn.acquire()

    def call(self) -> None:
        self._turn.release()


class Group(Generic[Item]):
    """Hands the items of callers in several threads to `write`, many at a time.

    A caller that finds nobody writing writes at once, so a lone one never waits. Those who come meanwhile wait, and the
    first of them then writes for all. If a write for several fails, each of them writes its own item alone: the error
    of one is not the others', so `write` has to bear being repeated.
    """

    def __init__(self, write: Callable[[Sequence[Item]], None], *, most: int) -> None:
        self._write, self._most = write, most
        self._waiting: list[_Place[Item]] = []
        self._is_writing = False
        self._lock = threading.Lock()

    def __call__(self, item: Item) -> None:
        """Return once the item is written; raises what `write` raises."""
        mine = _Place(item)
        with self._lock:
            self._waiting.append(mine)
            mine.leads, self._is_writing = not self._is_writing, True
        if not mine.leads:
            mine.wait()
        if mine.leads:
            self._write_for_all()
        if not mine.written:
            self._write([item])

    def _write_for_all(self) -> None:
        with self._lock:
            batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
        try:
            self._write([place.item for place in batch])
            for place in batch:
                place.written = True
        except Exception:
            if len(batch) == 1:
                raise
        finally:
            self._let_go_on(batch[1:])

    def _let_go_on(self, others: Sequence[_Place[Item]]) -> None:
        with self._lock:
            leader = self._waiting[0] if self._waiting else None
            self._is_writing = leader is not None
        if leader is not None:
            leader.leads = True
            leader.call()
        for place in others:
            place.call()
