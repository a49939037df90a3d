"""What goes wrong, and when: rules set by hand, then the script's draws.

A draw depends on the seed, the operation, what the call is about (our external id, the payment's order id) and which
call about it this is. It does not depend on time or on what other orders do, so a seed gives the same run however
the calls interleave.

On a call (before = nothing happens, after = it happens and the answer suffers):
  before  refuse, insufficient_balance, out_of_stock, 5xx_before, 429, redirect_307
  after   5xx_after, accept_then_silent, garbage (HTML with 200), truncated, unknown_status
  other   slow; accept_late (silent now, the order appears `late_s` later); search_lag (absent from search)
On a webhook      lost, repeated, reordered, delayed, lying (it says more than the API does)
On kinguin.delivery  one_by_one, key_duplicate, odd_keys, cancel, never
"""

import hashlib
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sandbox.store import Store, Tx

BEFORE = frozenset({"refuse", "insufficient_balance", "out_of_stock", "5xx_before", "429", "redirect_307"})
SILENT = frozenset({"accept_then_silent", "accept_late"})
CALL_FAULTS = BEFORE | SILENT | {"5xx_after", "garbage", "truncated", "unknown_status", "slow", "search_lag"}
WEBHOOK_FAULTS = frozenset({"lost", "repeated", "reordered", "delayed", "lying"})
DELIVERY_FAULTS = frozenset({"one_by_one", "key_duplicate", "odd_keys", "cancel", "never"})

CREATE_OPS = ("kinguin.order.create", "kinguin.reservation.create", "kinguin.reservation.give")
READ_OPS = (
    "kinguin.products",
    "kinguin.product",
    "kinguin.order.get",
    "kinguin.order.keys",
    "kinguin.order.search",
    "kinguin.balance",
    "kinguin.lookup",
    "kinguin.token",
    "kinguin.health",
    "kinguin.reservation.get",
    "nowpayments.status",
    "nowpayments.currencies",
    "nowpayments.min_amount",
    "nowpayments.estimate",
    "nowpayments.payment.get",
)
WEBHOOK_OPS = ("webhook.kinguin", "webhook.nowpayments")
OPS = frozenset(
    (*CREATE_OPS, *READ_OPS, *WEBHOOK_OPS, "nowpayments.payment.create", "kinguin.order.return", "kinguin.delivery")
)


@dataclass(frozen=True)
class Fault:
    name: str
    args: Mapping[str, Any] = field(default_factory=dict)

    def number(self, name: str, default: float) -> float:
        return float(self.args.get(name, default))


NONE = Fault("none")

# A table's entry: how often in a thousand calls, which fault, its arguments.
Chance = tuple[int, str, dict[str, Any]]

_READS: list[Chance] = [
    (40, "slow", {"seconds": 1}),
    (20, "5xx_before", {}),
    (15, "429", {}),
    (10, "garbage", {}),
    (10, "truncated", {}),
]
_WEBHOOKS: list[Chance] = [
    (60, "lost", {}),
    (60, "repeated", {"times": 2}),
    (60, "reordered", {"seconds": 1}),
    (30, "delayed", {"seconds": 5}),
    (20, "lying", {}),
]
_STATUS_READS: list[Chance] = [*_READS, (10, "unknown_status", {})]
_PURCHASES: list[Chance] = [
    (40, "slow", {"seconds": 1}),
    (40, "5xx_before", {}),
    (60, "5xx_after", {}),
    (50, "accept_then_silent", {}),
    (30, "accept_late", {}),
    (20, "429", {}),
    (30, "garbage", {}),
    (20, "truncated", {}),
    (10, "redirect_307", {}),
    (30, "search_lag", {"search_lag_s": 10}),
    (20, "refuse", {"kind": "OrderFailed"}),
    (15, "out_of_stock", {}),
    (15, "insufficient_balance", {}),
]
_DELIVERIES: list[Chance] = [(100, "one_by_one", {"seconds": 1}), (20, "cancel", {}), (10, "key_duplicate", {})]
_PAYMENT_CREATES: list[Chance] = [
    (40, "slow", {"seconds": 1}),
    (30, "5xx_before", {}),
    (30, "5xx_after", {}),
    (20, "accept_then_silent", {}),
    (30, "429", {}),
    (10, "garbage", {}),
    (10, "truncated", {}),
]

_ROUGH: dict[str, list[Chance]] = {
    **dict.fromkeys(READ_OPS, _READS),
    **dict.fromkeys(WEBHOOK_OPS, _WEBHOOKS),
    "kinguin.delivery": [(100, "one_by_one", {"seconds": 1})],
}
SCRIPTS: dict[str, dict[str, list[Chance]]] = {
    "calm": {},
    "rough": _ROUGH,
    "storm": {
        **_ROUGH,
        **dict.fromkeys(CREATE_OPS, _PURCHASES),
        # Asked only while keys are awaited: so seldom that a run would miss the rare ones.
        "kinguin.order.get": [(3 * weight, name, args) for weight, name, args in _STATUS_READS],
        "nowpayments.payment.get": _STATUS_READS,
        "kinguin.order.search": [*_READS, (100, "search_lag", {})],
        "nowpayments.payment.create": _PAYMENT_CREATES,
        "kinguin.delivery": _DELIVERIES,
    },
}


def draw(*, script: str, seed: int, op: str, subject: str, call: int) -> Fault:
    table = SCRIPTS[script].get(op, [])
    digest = hashlib.sha256(f"{seed}|{op}|{subject}|{call}".encode()).digest()
    left = int.from_bytes(digest[:8]) % 1000
    for weight, name, args in table:
        if left < weight:
            return Fault(name, args)
        left -= weight
    return NONE


@dataclass
class Rule:
    id: int
    op: str
    fault: Fault
    times: int | None
    external_id: str | None

    def matches(self, op: str, subject: str) -> bool:
        return self.op == op and self.external_id in (None, subject) and (self.times is None or self.times > 0)


class Faults:
    """Rules and call counters, kept in memory and written behind, so that a restart continues where it was."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._rules = [
            Rule(row["id"], row["op"], Fault(row["fault"], json.loads(row["args"])), row["times"], row["external_id"])
            for row in store.read("SELECT * FROM rule ORDER BY id")
        ]
        self._calls = {(row["op"], row["subject"]): row["calls"] for row in store.read("SELECT * FROM draw")}

    def pick(self, *, script: str, seed: int, op: str, subject: Callable[[], str]) -> Fault:
        if not self._rules and op not in SCRIPTS[script]:
            return NONE
        about = subject()
        with self._lock:
            rule = next((rule for rule in self._rules if rule.matches(op, about)), None)
            if rule is not None:
                self._use(rule)
                return rule.fault
            if op not in SCRIPTS[script]:
                return NONE
            return draw(script=script, seed=seed, op=op, subject=about, call=self._count(op, about))

    def rules(self) -> list[Rule]:
        with self._lock:
            return list(self._rules)

    def add(self, op: str, fault: Fault, *, times: int | None, external_id: str | None) -> Rule:
        def insert(tx: Tx) -> int:
            args = json.dumps(dict(fault.args), default=str)
            return tx.insert("rule", op=op, fault=fault.name, times=times, external_id=external_id, args=args)

        rule = Rule(self._store.write(insert), op, fault, times, external_id)
        with self._lock:
            self._rules.append(rule)
        return rule

    def clear(self) -> None:
        with self._lock:
            self._rules.clear()
        self._store.write(lambda tx: tx.run("DELETE FROM rule").rowcount)

    def _use(self, rule: Rule) -> None:
        if rule.times is None:
            return
        rule.times -= 1
        if rule.times > 0:
            self._store.write_soon(lambda tx: _run(tx, "UPDATE rule SET times = times - 1 WHERE id = ?", rule.id))
            return
        self._rules.remove(rule)
        self._store.write_soon(lambda tx: _run(tx, "DELETE FROM rule WHERE id = ?", rule.id))

    def _count(self, op: str, subject: str) -> int:
        call = self._calls[op, subject] = self._calls.get((op, subject), 0) + 1
        sql = "INSERT INTO draw VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET calls = excluded.calls"
        self._store.write_soon(lambda tx: _run(tx, sql, op, subject, call))
        return call


def _run(tx: Tx, sql: str, *values: Any) -> None:
    tx.run(sql, *values)


def checked(op: str, name: str) -> None:
    """Raise ValueError when the operation does not exist or cannot have this fault."""
    if op not in OPS:
        raise ValueError(f"No operation {op!r}; choose from {', '.join(sorted(OPS))}")
    allowed = _allowed(op)
    if name not in allowed:
        raise ValueError(f"{op} cannot have the fault {name!r}; choose from {', '.join(sorted(allowed))}")


def _allowed(op: str) -> frozenset[str]:
    if op in WEBHOOK_OPS:
        return WEBHOOK_FAULTS
    return DELIVERY_FAULTS if op == "kinguin.delivery" else CALL_FAULTS
