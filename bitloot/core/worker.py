"""How a worker process handles its queues: one drain per queue claims due rows, threads of the process handle them.

Fairness is the seats: no queue can take another's threads. Admission is the pool of database connections, which
serves the longest waiting first.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from celery import current_app

from bitloot.core.database import leave_connection

logger = logging.getLogger(__name__)

# Jobs that one process has under way at a time. Most of them wait for a provider, without a database connection.
SEATS = {
    "webhooks": 16, "fulfillment": 48, "payments": 8, "storage": 8, "orders": 4, "notifications": 4, "partners": 8,
    "replays": 1,
}  # fmt: skip
# Other workers get their share of a burst, and a worker that dies leaves only so many leases to wait out.
MOST_PER_CLAIM = 8

Claim = Callable[[int], Sequence[Any]]
Job = Callable[[Sequence[Any]], None]


class Lane:
    """What one process does for one queue."""

    def __init__(self, seats: int) -> None:
        self.wanted = threading.Event()
        self.draining = threading.Lock()
        self.is_full = False  # its drain waits for a seat
        self._seats = threading.Semaphore(seats)

    def take_seats(self, most: int) -> int:
        """Wait for one seat and take more that are free, up to `most`; return how many."""
        # `look` reads this without a lock: a wrong answer costs a message too many, or waits for the next sweep.
        if not self._seats.acquire(blocking=False):
            self.is_full = True
            self._seats.acquire()
            self.is_full = False
        taken = 1
        while taken < most and self._seats.acquire(blocking=False):
            taken += 1
        return taken

    def leave_seats(self, count: int) -> None:
        if count:
            self._seats.release(count)


class Worker:
    """The queues of one process. Without `start` it has no threads, and a drain handles its rows itself."""

    def __init__(self, seats: Mapping[str, int]) -> None:
        self._lanes = {queue: Lane(count) for queue, count in seats.items()}
        # A thread for each seat, and one for each queue's drain.
        self._size = sum(seats.values()) + len(seats)
        self._threads: Executor | None = None
        self._stopping = threading.Event()

    def start(self, *, sweep_seconds: float, heartbeat: Callable[[], None]) -> None:
        """Handle rows in threads from now on, and look at every queue now and each `sweep_seconds`."""
        self._heartbeat = heartbeat
        self._threads = ThreadPoolExecutor(self._size, thread_name_prefix="work")
        threading.Thread(target=self._sweep, args=(sweep_seconds,), name="sweep", daemon=True).start()

    def stop(self) -> None:
        """Claim nothing more, and return when everything that was claimed is finished."""
        self._stopping.set()
        if self._threads is None:
            return
        for lane in self._lanes.values():
            # A drain between its claim and handing over must come first: its rows would wait out their lease.
            with lane.draining:
                pass
        self._threads.shutdown(wait=True)

    def look(self, queue: str) -> bool:
        """Drain the queue in this process; False if others should: this is not a worker, or its seats are taken."""
        lane = self._lanes.get(queue)
        if self._threads is None or lane is None or self._stopping.is_set():
            return False
        lane.wanted.set()  # first: a drain that is about to end looks at it once more
        if not lane.draining.locked():
            with suppress(RuntimeError):  # the worker began to stop just now
                self._threads.submit(_drain_task, queue)
        return not lane.is_full

    def drain(self, queue: str, claim: Claim, job: Job, *, batch: int) -> int:
        """Claim due rows and have them handled, `batch` by one thread, until none is due; return how many.

        Where another drain of this queue is at work in this process, it is left a note to look once more.
        """
        lane, claimed = self._lanes[queue], 0
        lane.wanted.set()
        # The loop closes a race: a note left after the last claim, but before the lock is free, must not get lost.
        while lane.wanted.is_set() and not self._stopping.is_set() and lane.draining.acquire(blocking=False):
            try:
                lane.wanted.clear()
                claimed += self._claim_all(lane, claim, job, batch)
            finally:
                lane.draining.release()
        return claimed

    def _claim_all(self, lane: Lane, claim: Claim, job: Job, batch: int) -> int:
        claimed = 0
        while True:
            leave_connection()
            seats = lane.take_seats(max(MOST_PER_CLAIM // batch, 1))
            parts: list[Sequence[Any]] = []
            try:
                if not self._stopping.is_set():
                    rows = claim(seats * batch)
                    parts = [rows[start : start + batch] for start in range(0, len(rows), batch)]
            finally:
                # Also if the claim failed: a seat that is not given back is lost until the process ends.
                lane.leave_seats(seats - len(parts))
            for part in parts:
                self._hand_over(lane, job, part)
            claimed += sum(map(len, parts))
            # Free seats are left over, so nothing more is due.
            if len(parts) < seats:
                return claimed

    def _hand_over(self, lane: Lane, job: Job, rows: Sequence[Any]) -> None:
        if self._threads is None:
            _work(lane, job, rows)
        else:
            self._threads.submit(_work, lane, job, rows)

    def _sweep(self, seconds: float) -> None:
        """Find rows whose wake-up was lost, whose time has come, or whose worker died."""
        while not self._stopping.is_set():
            for queue in self._lanes:
                self.look(queue)
            self._heartbeat()
            self._stopping.wait(seconds)


def _drain_task(queue: str) -> None:
    try:
        current_app.tasks[f"{queue}.drain"]()
    except Exception:
        logger.exception("Draining %s failed; the next sweep tries again", queue)
    finally:
        leave_connection()


def _work(lane: Lane, job: Job, rows: Sequence[Any]) -> None:
    try:
        job(rows)
    except Exception:
        logger.exception("The outcome of a job could not be recorded; its rows are due again when their lease ends")
    finally:
        leave_connection()
        lane.leave_seats(1)


this_process = Worker(SEATS)
