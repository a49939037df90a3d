"""Outgoing calls to the shop: queued in the transaction that caused them, and spoilt as the script says."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from sandbox.faults import NONE, Fault
from sandbox.store import Tx
from sandbox.world import World

KINGUIN_TRIES = 5
NOWPAYMENTS_TRIES = 3
# NOWPayments wants its answer within three seconds; Kinguin names no limit.
TIMEOUTS = {"kinguin": 10.0, "nowpayments": 3.0}
TRIES = {"kinguin": KINGUIN_TRIES, "nowpayments": NOWPAYMENTS_TRIES}


@dataclass(frozen=True)
class Webhook:
    provider: str
    url: str
    body: str
    headers: dict[str, str]
    subject: str
    order_id: str
    event: str
    extra: dict[str, Any] = field(default_factory=dict)


def post(world: World, tx: Tx, webhook: Webhook, *, lie: Webhook | None = None) -> None:
    fault = world.fault(f"webhook.{webhook.provider}", lambda: webhook.subject)
    if fault.name == "lost":
        tx.log("webhook_lost", external_id=webhook.subject, order_id=webhook.order_id, event=webhook.event)
        return
    if fault.name == "lying" and lie is not None:
        _enqueue(tx, dataclasses.replace(lie, extra={"lie": True}), NONE)
    if fault.name == "repeated":
        for copy in range(int(fault.number("times", 2))):
            _enqueue(tx, dataclasses.replace(webhook, extra={"copy": copy + 1}), fault)
    else:
        _enqueue(tx, webhook, fault)


def _enqueue(tx: Tx, webhook: Webhook, fault: Fault) -> None:
    wait = fault.number("seconds", 1) if fault.name in ("reordered", "delayed") else 0.0
    tx.later(wait, "webhook", vars(webhook))
