"""What every part of the sandbox works on: its settings, its file, its faults and its workers."""

import json
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

from sandbox import catalogue
from sandbox.config import Config
from sandbox.faults import Fault, Faults
from sandbox.mailbox import Mailbox
from sandbox.store import Store, Tx

T = TypeVar("T")
CALLS_KEPT = 20_000


class World:
    def __init__(self, config: Config) -> None:
        self.store = Store(config.db)
        self.config = self.store.write(lambda tx: _open(tx, config))
        self.faults = Faults(self.store)
        self.mailbox = Mailbox()
        # When each call to a provider came, and what it asked for: how often a shop asks is read from these.
        self.calls: deque[tuple[float, str, str]] = deque(maxlen=CALLS_KEPT)

    def write(self, run: Callable[[Tx], T]) -> T:
        return self.store.write(run)

    def fault(self, op: str, subject: Callable[[], str]) -> Fault:
        return self.faults.pick(script=self.config.script, seed=self.config.seed, op=op, subject=subject)

    def configure(self, changes: dict[str, Any]) -> None:
        config = self.config.changed(changes)
        saved = json.dumps(config.tunables())
        self.store.write(lambda tx: _save(tx, "tunables", saved))
        self.config = config

    @property
    def serial_secret(self) -> str:
        return f"{self.config.seed}:{self.config.kinguin_webhook_secret}"


def euros(cents: int) -> float:
    return cents / 100


def cents_of(amount: Any) -> int:
    return round(amount * 100)


def seconds_stamp(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")


def milliseconds_stamp(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds")


def zulu_stamp(moment: float) -> str:
    return milliseconds_stamp(moment).replace("+00:00", "Z")


def _open(tx: Tx, config: Config) -> Config:
    """Fill a new file; in a known one keep what the control page changed, unless started differently."""
    tx.run("INSERT INTO wallet VALUES (1, ?) ON CONFLICT DO NOTHING", catalogue.OPENING_BALANCE)
    for item in catalogue.ITEMS:
        stock = catalogue.OPENING_STOCK
        tx.run(
            "INSERT INTO product VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            *(item.product_id, item.kinguin_id, item.offer_id, item.cents, stock, stock * item.is_text, time.time()),
        )
    saved = {row["name"]: row["value"] for row in tx.all("SELECT name, value FROM setting")}
    if saved.get("fingerprint") == config.fingerprint() and "tunables" in saved:
        return config.changed(json.loads(saved["tunables"]))
    tx.run("DELETE FROM setting WHERE name = 'tunables'")
    _save(tx, "fingerprint", config.fingerprint())
    return config


def _save(tx: Tx, name: str, value: str) -> None:
    tx.run("INSERT INTO setting VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", name, value)
