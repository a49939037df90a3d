"""Runs what is due: jobs of the stand-ins' own, and webhooks with the providers' retries.

The table is the queue; the heap only mirrors it. A job's work and its deletion are one transaction. A webhook is
deleted after it was answered, so one that a kill -9 interrupts is sent again after the restart.
"""

import heapq
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import urllib3

from sandbox.store import Job, Store, Tx
from sandbox.webhooks import TIMEOUTS, TRIES
from sandbox.world import World

SENDERS = 32
IDLE_SECONDS = 5.0

logger = logging.getLogger(__name__)

Handler = Callable[[World, Tx, dict[str, Any]], None]


class Dispatcher:
    def __init__(self, world: World, handlers: Mapping[str, Handler]) -> None:
        self._world = world
        self._handlers = handlers
        self._heap: list[Job] = []
        self._changed = threading.Condition()
        # Webhooks about one order wait here for the one before them; only a fault reorders them.
        self._lines: dict[str, deque[Job]] = {}
        self._stopped = False
        # Not requests: its session costs more processor time than everything else about a webhook.
        self._http = urllib3.PoolManager(maxsize=SENDERS)
        self._pool = ThreadPoolExecutor(SENDERS, thread_name_prefix="sandbox-sender")
        self._thread = threading.Thread(target=self._work, name="sandbox-dispatcher", daemon=True)

    def start(self) -> None:
        self._store.on_jobs = self._accept
        self._accept(self._store.unfinished_jobs())
        self._thread.start()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join()
        self._pool.shutdown(cancel_futures=True)
        self._http.clear()

    @property
    def _store(self) -> Store:
        return self._world.store

    def _accept(self, jobs: list[Job]) -> None:
        with self._changed:
            for job in jobs:
                heapq.heappush(self._heap, job)
            self._changed.notify()

    def _work(self) -> None:
        while True:
            with self._changed:
                if self._stopped:
                    return
                wait = self._heap[0].due - time.time() if self._heap else IDLE_SECONDS
                if wait > 0 or not self._heap:
                    self._changed.wait(min(wait, IDLE_SECONDS))
                    continue
                job = heapq.heappop(self._heap)
                if not self._stands_in_line(job):
                    self._pool.submit(self._run, job)

    def _stands_in_line(self, job: Job) -> bool:
        """Put a webhook behind the one being sent about the same order, if there is one."""
        line = _line_of(job)
        if line is None:
            return False
        if line in self._lines:
            self._lines[line].append(job)
            return True
        self._lines[line] = deque()
        return False

    def _call_next(self, job: Job) -> None:
        line = _line_of(job)
        with self._changed:
            if line is None or self._stopped:
                return
            if self._lines[line]:
                self._pool.submit(self._run, self._lines[line].popleft())
            else:
                del self._lines[line]

    def _run(self, job: Job) -> None:
        try:
            if job.kind == "webhook":
                self._send(job)
            else:
                self._store.write(lambda tx: self._perform(tx, job))
        except Exception:
            logger.exception("Sandbox job %s (%s) failed and is tried again after the next start", job.id, job.kind)
        finally:
            self._call_next(job)

    def _perform(self, tx: Tx, job: Job) -> None:
        tx.finish(job)
        self._handlers[job.kind](self._world, tx, job.payload)

    def _send(self, job: Job) -> None:
        outcome = self._post(job.payload)
        accepted = outcome.isdigit() and 200 <= int(outcome) < 300
        self._store.write(lambda tx: self._record(tx, job, outcome, accepted=accepted))

    def _post(self, webhook: dict[str, Any]) -> str:
        """Return the answer's status, or the name of what went wrong."""
        try:
            answer = self._http.request(
                "POST",
                webhook["url"],
                body=webhook["body"].encode(),
                headers={"Content-Type": "application/json", **webhook["headers"]},
                timeout=TIMEOUTS[webhook["provider"]],
                retries=False,
                redirect=False,
            )
        except urllib3.exceptions.HTTPError as err:
            return type(err).__name__
        return str(answer.status)

    def _record(self, tx: Tx, job: Job, outcome: str, *, accepted: bool) -> None:
        webhook, attempt = job.payload, job.attempts + 1
        tx.log(
            "webhook_sent",
            external_id=webhook["subject"],
            order_id=webhook["order_id"],
            provider=webhook["provider"],
            event=webhook["event"],
            outcome=outcome,
            attempt=attempt,
            **webhook["extra"],
        )
        if accepted or attempt >= TRIES[webhook["provider"]]:
            tx.finish(job)
        else:
            tx.put_off(job, self._world.config.retry_ms / 1000)


def _line_of(job: Job) -> str | None:
    # Repeated webhooks go out side by side: a shop has to cope with that too.
    return job.payload["subject"] if job.kind == "webhook" and "copy" not in job.payload["extra"] else None
