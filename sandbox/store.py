"""One SQLite file: the sandbox's state, its queue and its ledger.

All writes go through one thread, which puts all that is waiting into one transaction and answers only after
the commit has reached the disk. So a hundred concurrent callers share one fsync, and an answer never runs ahead of
what a kill -9 would leave behind.
"""

import contextlib
import fcntl
import json
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar

T = TypeVar("T")

BATCH = 200
LOCK_SECONDS = 5.0
# json.dumps would build an encoder each time it is given a default.
encode = json.JSONEncoder(default=str).encode

SCHEMA = """
CREATE TABLE IF NOT EXISTS setting (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS wallet (id INTEGER PRIMARY KEY CHECK (id = 1), cents INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS product (
    id TEXT PRIMARY KEY, kinguin_id INTEGER NOT NULL UNIQUE, offer_id TEXT NOT NULL UNIQUE, cents INTEGER NOT NULL,
    qty INTEGER NOT NULL CHECK (qty >= 0), text_qty INTEGER NOT NULL CHECK (text_qty >= 0), updated REAL NOT NULL);
CREATE TABLE IF NOT EXISTS purchase (
    id TEXT PRIMARY KEY, dialect TEXT NOT NULL, external_id TEXT, status TEXT NOT NULL, lines TEXT NOT NULL,
    cents INTEGER NOT NULL, held INTEGER NOT NULL DEFAULT 0, sold INTEGER NOT NULL DEFAULT 0,
    return_asked INTEGER NOT NULL DEFAULT 0, duplicate_key INTEGER NOT NULL DEFAULT 0, odd TEXT,
    searchable REAL NOT NULL, created REAL NOT NULL, updated REAL NOT NULL);
CREATE INDEX IF NOT EXISTS purchase_external_id ON purchase (external_id);
CREATE INDEX IF NOT EXISTS purchase_created ON purchase (created);
CREATE TABLE IF NOT EXISTS licence (
    id TEXT PRIMARY KEY, purchase_id TEXT NOT NULL REFERENCES purchase (id), line INTEGER NOT NULL,
    product_id TEXT NOT NULL, cents INTEGER NOT NULL, status TEXT NOT NULL, type TEXT NOT NULL, serial TEXT,
    claimed INTEGER NOT NULL DEFAULT 0, delivered REAL);
CREATE INDEX IF NOT EXISTS licence_purchase ON licence (purchase_id);
CREATE INDEX IF NOT EXISTS licence_product ON licence (product_id) WHERE serial IS NOT NULL;
CREATE TABLE IF NOT EXISTS payment (
    id INTEGER PRIMARY KEY, parent_id INTEGER REFERENCES payment (id), order_id TEXT, description TEXT,
    status TEXT NOT NULL, price_amount TEXT NOT NULL, price_currency TEXT NOT NULL, pay_amount TEXT NOT NULL,
    pay_currency TEXT NOT NULL, actually_paid TEXT NOT NULL DEFAULT '0', pay_address TEXT NOT NULL, extra_id TEXT,
    ipn_url TEXT, purchase_id INTEGER NOT NULL, fixed_rate INTEGER NOT NULL, fee_by_user INTEGER NOT NULL,
    overrides TEXT NOT NULL DEFAULT '{}', created REAL NOT NULL, updated REAL NOT NULL);
CREATE INDEX IF NOT EXISTS payment_order_id ON payment (order_id);
CREATE INDEX IF NOT EXISTS payment_parent ON payment (parent_id) WHERE parent_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS payment_address ON payment (pay_address);
CREATE INDEX IF NOT EXISTS payment_created ON payment (created);
CREATE TABLE IF NOT EXISTS rule (
    id INTEGER PRIMARY KEY AUTOINCREMENT, op TEXT NOT NULL, fault TEXT NOT NULL, times INTEGER, external_id TEXT,
    args TEXT NOT NULL DEFAULT '{}');
CREATE TABLE IF NOT EXISTS draw (op TEXT, subject TEXT, calls INTEGER NOT NULL, PRIMARY KEY (op, subject));
CREATE TABLE IF NOT EXISTS job (
    id INTEGER PRIMARY KEY AUTOINCREMENT, due REAL NOT NULL, kind TEXT NOT NULL, payload TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS ledger (
    id INTEGER PRIMARY KEY AUTOINCREMENT, ts REAL NOT NULL, what TEXT NOT NULL, external_id TEXT, order_id TEXT,
    amount TEXT, detail TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS ledger_what ON ledger (what, id);
CREATE TRIGGER IF NOT EXISTS ledger_keeps BEFORE UPDATE ON ledger
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER IF NOT EXISTS ledger_stays BEFORE DELETE ON ledger
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
"""


class Refused(Exception):
    """A call answered with an error. What was written before it (the ledger's line) stays."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(f"{status} {body}")
        self.status = status
        self.body = body


@dataclass(frozen=True, order=True)
class Job:
    due: float
    id: int
    kind: str
    payload: dict[str, Any]
    attempts: int


class Tx:
    """The open transaction, seen by one writer at a time."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.jobs: list[Job] = []

    def run(self, sql: str, *values: Any) -> sqlite3.Cursor:
        return self._connection.execute(sql, values)

    def one(self, sql: str, *values: Any) -> sqlite3.Row | None:
        row: sqlite3.Row | None = self.run(sql, *values).fetchone()
        return row

    def all(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        return self.run(sql, *values).fetchall()

    def insert(self, table: str, **values: Any) -> int:
        marks = ", ".join("?" * len(values))
        cursor = self.run(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})", *values.values())  # noqa: S608
        return int(cursor.lastrowid or 0)

    def log(
        self,
        what: str,
        *,
        external_id: str | None = None,
        order_id: str | None = None,
        amount: Any = None,
        **detail: Any,
    ) -> None:
        self.insert(
            "ledger",
            ts=time.time(),
            what=what,
            external_id=external_id,
            order_id=order_id,
            amount=None if amount is None else str(amount),
            detail=encode(detail),
        )

    def later(self, seconds: float, kind: str, payload: dict[str, Any]) -> None:
        due = time.time() + seconds
        job_id = self.insert("job", due=due, kind=kind, payload=encode(payload))
        self.jobs.append(Job(due, job_id, kind, payload, 0))

    def put_off(self, job: Job, seconds: float) -> None:
        due, attempts = time.time() + seconds, job.attempts + 1
        self.run("UPDATE job SET due = ?, attempts = ? WHERE id = ?", due, attempts, job.id)
        self.jobs.append(Job(due, job.id, job.kind, job.payload, attempts))

    def finish(self, job: Job) -> None:
        self.run("DELETE FROM job WHERE id = ?", job.id)


@dataclass
class _Write:
    run: Callable[[Tx], Any]
    result: Any = None
    error: BaseException | None = None
    # A bare lock: half of a Future's price is its condition.
    committed: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.committed.acquire()

    def outcome(self) -> Any:
        self.committed.acquire()
        if self.error is not None:
            raise self.error
        return self.result


def lock(path: Path) -> IO[str]:
    """Take the file for this process; raise RuntimeError when another sandbox keeps it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A killed predecessor's worker may live a moment longer; two writers would interleave two ledgers.
    lock_file = path.with_name(path.name + ".lock").open("w")
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock_file
        except BlockingIOError as err:
            if time.monotonic() > deadline:
                lock_file.close()
                raise RuntimeError(f"Another sandbox uses {path}: stop it or choose another --db.") from err
            time.sleep(0.05)


class Store:
    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._lock_file = lock(self._path)
        self._idle: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue()  # for reads; threads come and go
        self._waiting: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self.on_jobs: Callable[[list[Job]], None] = lambda jobs: None
        self._connection = self._connect()
        self._connection.executescript(f"BEGIN; {SCHEMA} COMMIT;")
        self._thread = threading.Thread(target=self._work, name="sandbox-writer", daemon=True)
        self._thread.start()

    def read(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        try:
            connection = self._idle.get_nowait()
        except queue.Empty:
            connection = self._connect()
        try:
            return connection.execute(sql, values).fetchall()
        finally:
            self._idle.put(connection)

    def read_one(self, sql: str, *values: Any) -> sqlite3.Row | None:
        return next(iter(self.read(sql, *values)), None)

    def write(self, run: Callable[[Tx], T]) -> T:
        """Run in the next transaction; return, or raise what it raised, once that is on the disk."""
        write = _Write(run)
        self._waiting.put(write)
        result: T = write.outcome()
        return result

    def write_soon(self, run: Callable[[Tx], None]) -> None:
        """Write without waiting, for what may be lost with the process (counters)."""
        self._waiting.put(_Write(run))

    def unfinished_jobs(self) -> list[Job]:
        rows = self.read("SELECT id, due, kind, payload, attempts FROM job")
        return [Job(row["due"], row["id"], row["kind"], json.loads(row["payload"]), row["attempts"]) for row in rows]

    def close(self) -> None:
        self._waiting.put(None)
        self._thread.join()
        self._connection.close()
        while not self._idle.empty():
            self._idle.get_nowait().close()
        self._lock_file.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        return connection

    def _work(self) -> None:
        while True:
            batch = [self._waiting.get()]
            while len(batch) < BATCH and not self._waiting.empty():
                batch.append(self._waiting.get())
            self._commit([write for write in batch if write is not None])
            if None in batch:
                return

    def _commit(self, writes: list[_Write]) -> None:
        tx = Tx(self._connection)
        try:
            tx.run("BEGIN IMMEDIATE")
            for write in writes:
                _apply(tx, write)
            tx.run("COMMIT")
        except sqlite3.Error as err:
            _give_up(tx, writes, err)
        if tx.jobs:
            self.on_jobs(tx.jobs)
        for write in writes:
            write.committed.release()


def _apply(tx: Tx, write: _Write) -> None:
    known_jobs = len(tx.jobs)
    tx.run("SAVEPOINT one")
    try:
        write.result = write.run(tx)
    except Refused as refused:
        write.error = refused
    except Exception as err:  # noqa: BLE001 - handed to the caller, whose thread it belongs to
        tx.run("ROLLBACK TO one")
        del tx.jobs[known_jobs:]
        write.error = err
    tx.run("RELEASE one")


def _give_up(tx: Tx, writes: list[_Write], err: sqlite3.Error) -> None:
    with contextlib.suppress(sqlite3.Error):
        tx.run("ROLLBACK")
    tx.jobs.clear()
    for write in writes:
        write.error = err
