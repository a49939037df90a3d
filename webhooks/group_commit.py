"""Group commit: callers that come while another one writes share the next write, and each returns when it is done."""

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")


class _Place(Generic[Item]):
    def __init__(self, item: Item) -> None:
        self.item = item
        self.written = self.leads = False
        # A bare lock that another thread releases: an Event would make a Condition and two more locks per webhook.
        self._woken = threading.Lock()
        self._woken.acquire()

    def wait(self) -> None:
        self._woken.acquire()

    def wake(self) -> None:
        self._woken.release()


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
            mine.leads = not self._is_writing
            self._is_writing = True
        if not mine.leads:
            mine.wait()
        if mine.leads:
            self._write_for_all()
        # The write for all failed, perhaps because of another's item. Alone, this one is written or raises its own
        # error.
        if not mine.written:
            self._write([item])

    def _write_for_all(self) -> None:
        with self._lock:
            # The leader's own item is the first: it leads because nobody waits longer.
            batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
        try:
            self._write([place.item for place in batch])
            # Before anybody is woken, below: the woken read it without the lock.
            for place in batch:
                place.written = True
        except Exception:
            # Of several none is marked as written, so each writes its own; alone, the error is this caller's.
            if len(batch) == 1:
                raise
        finally:
            self._wake_next(batch[1:])

    def _wake_next(self, others: Sequence[_Place[Item]]) -> None:
        with self._lock:
            # Chosen under the lock, with `_is_writing` left on: a caller that arrives now joins instead of leading too.
            leader = self._waiting[0] if self._waiting else None
            self._is_writing = leader is not None
        # The next batch first: the others have their answer already and only return.
        if leader is not None:
            leader.leads = True
            leader.wake()
        for place in others:
            place.wake()
