"""Kinguin's side of a purchase, whichever dialect it came in through."""

import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from sqlite3 import Row
from typing import Any

from sandbox import catalogue, serials
from sandbox.announcements import announce
from sandbox.faults import NONE, Fault
from sandbox.store import Refused, Tx
from sandbox.world import World, cents_of, euros

ID_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ0123456789"
UNDELIVERED = ("PENDING", "PROCESSING")
RETURN_SECONDS = 24 * 3600
REQUEST_CHARACTERS = 4000


@dataclass(frozen=True)
class Line:
    product_id: str
    qty: int
    ceiling: Decimal | None = None
    offer_id: str | None = None
    key_type: str | None = None


class Unavailable(Exception):
    def __init__(self, line: Line) -> None:
        super().__init__(f"quantity {line.qty} for product id {line.product_id} and price {line.ceiling}")


class NoFunds(Exception):
    """The balance does not cover the order."""


class AlreadyUsed(Exception):
    """An order with this external id exists."""


def received(tx: Tx, *, dialect: str, external_id: str | None, request: str) -> None:
    """Write down that an order was asked for, before anything is decided about it."""
    tx.log("order_received", external_id=external_id, dialect=dialect, request=request[:REQUEST_CHARACTERS])


def refused(tx: Tx, *, dialect: str, external_id: str | None, reason: str) -> None:
    tx.log("order_refused", external_id=external_id, dialect=dialect, reason=reason)


def place(
    world: World, tx: Tx, *, dialect: str, lines: Sequence[Line], external_id: str | None, fault: Fault = NONE
) -> str:
    """Take the stock and the money for an order; return its id. Raise when it is refused, with nothing changed."""
    if external_id and world.config.enforce_external_id and _known(tx, external_id):
        raise AlreadyUsed(external_id)
    rows = [_offer(tx, line) for line in lines]
    total = sum(row["cents"] * line.qty for row, line in zip(rows, lines, strict=True))
    purchase_id = "".join(secrets.choice(ID_ALPHABET) for _ in range(11))
    if dialect != "reservations":
        _pay(tx, total)
    _insert(tx, purchase_id, dialect, external_id, total, fault)
    order_lines = [
        _sell(tx, purchase_id, at, row, line) for at, (row, line) in enumerate(zip(rows, lines, strict=True))
    ]
    tx.run("UPDATE purchase SET lines = ? WHERE id = ?", json.dumps(order_lines), purchase_id)
    announce(world, tx, fetch(tx, purchase_id), "processing")
    if dialect != "reservations":
        _sold(world, tx, purchase_id)
    return purchase_id


def give(world: World, tx: Tx, purchase_id: str) -> None:
    """Pay for a reservation. Repeating it changes nothing."""
    purchase = fetch(tx, purchase_id)
    if purchase["status"] != "processing" or purchase["sold"]:
        return
    _pay(tx, purchase["cents"])
    announce(world, tx, purchase, "given")
    _sold(world, tx, purchase_id)


def deliver(world: World, tx: Tx, purchase_id: str, *, count: int | None = None) -> int:
    """Hand out up to this many of the keys still owed; return how many."""
    purchase = fetch(tx, purchase_id)
    owed = tx.all(
        "SELECT * FROM licence WHERE purchase_id = ? AND status IN ('PENDING', 'PROCESSING') ORDER BY line, id",
        purchase_id,
    )
    for licence in owed[:count]:
        _issue(world, tx, purchase, licence)
    if owed and (count is None or count >= len(owed)):
        settle(world, tx, purchase_id, "completed")
    return len(owed[:count])


def cancel(world: World, tx: Tx, purchase_id: str) -> None:
    """Take back the keys not delivered yet, and return their price."""
    _end(world, tx, purchase_id, statuses=UNDELIVERED, key_status="CANCELED", status="canceled")


def refund(world: World, tx: Tx, purchase_id: str) -> None:
    _end(world, tx, purchase_id, statuses=(*UNDELIVERED, "DELIVERED"), key_status="REFUNDED", status="refunded")


def return_keys(world: World, tx: Tx, purchase_id: str) -> bool:
    """Take back what nobody has seen; False when there is nothing to take or it was asked before."""
    purchase = fetch(tx, purchase_id)
    eligible = tx.all(
        "SELECT * FROM licence WHERE purchase_id = ? AND (status IN ('PENDING', 'PROCESSING')"
        " OR (status = 'DELIVERED' AND NOT claimed AND delivered > ?))",
        *(purchase_id, time.time() - RETURN_SECONDS),
    )
    if purchase["return_asked"] or not eligible:
        return False
    tx.run("UPDATE purchase SET return_asked = 1 WHERE id = ?", purchase_id)
    _take_back(tx, purchase, [licence for licence in eligible if licence["status"] == "DELIVERED"], "RETURNED")
    left = tx.one("SELECT count(*) FROM licence WHERE purchase_id = ? AND status != 'RETURNED'", purchase_id)
    if left is not None and left[0] == 0:
        settle(world, tx, purchase_id, "refunded")
    return True


def hold(tx: Tx, purchase_id: str) -> None:
    fetch(tx, purchase_id)
    tx.run("UPDATE purchase SET held = 1 WHERE id = ?", purchase_id)


def fetch(tx: Tx, purchase_id: str) -> Row:
    purchase = tx.one("SELECT * FROM purchase WHERE id = ?", purchase_id)
    if purchase is None:
        raise Refused(404, {"error": f"No order {purchase_id}. GET /control/state lists the orders there are."})
    return purchase


def settle(world: World, tx: Tx, purchase_id: str, status: str) -> None:
    tx.run("UPDATE purchase SET status = ?, updated = ? WHERE id = ?", status, time.time(), purchase_id)
    announce(world, tx, fetch(tx, purchase_id), status)


def deliver_job(world: World, tx: Tx, payload: dict[str, Any]) -> None:
    purchase = fetch(tx, payload["purchase_id"])
    if purchase["held"] or purchase["status"] != "processing":
        return
    deliver(world, tx, purchase["id"], count=payload.get("count"))
    if payload.get("count") and fetch(tx, purchase["id"])["status"] == "processing":
        tx.later(payload["seconds"], "deliver", payload)


def cancel_job(world: World, tx: Tx, payload: dict[str, Any]) -> None:
    if fetch(tx, payload["purchase_id"])["status"] == "processing":
        cancel(world, tx, payload["purchase_id"])


def place_job(world: World, tx: Tx, payload: dict[str, Any]) -> None:
    """Make an order whose request arrived long after its sender gave up."""
    lines = [
        Line(**{**line, "ceiling": None if line["ceiling"] is None else Decimal(line["ceiling"])})
        for line in payload["lines"]
    ]
    try:
        place(world, tx, dialect=payload["dialect"], lines=lines, external_id=payload["external_id"])
    except (AlreadyUsed, Unavailable, NoFunds) as refusal:
        reason = f"late: {type(refusal).__name__}"
        refused(tx, dialect=payload["dialect"], external_id=payload["external_id"], reason=reason)


def _known(tx: Tx, external_id: str) -> bool:
    return tx.one("SELECT 1 FROM purchase WHERE external_id = ?", external_id) is not None


def _offer(tx: Tx, line: Line) -> Row:
    row = tx.one("SELECT * FROM product WHERE id = ?", line.product_id)
    if (
        row is None
        or row["qty"] < line.qty
        or (line.key_type == "text" and row["text_qty"] < line.qty)
        or (line.offer_id is not None and line.offer_id != row["offer_id"])
        or (line.ceiling is not None and cents_of(line.ceiling) < row["cents"])
    ):
        raise Unavailable(line)
    return row


def _pay(tx: Tx, cents: int) -> None:
    if tx.run("UPDATE wallet SET cents = cents - ? WHERE cents >= ?", cents, cents).rowcount == 0:
        raise NoFunds


def _insert(tx: Tx, purchase_id: str, dialect: str, external_id: str | None, total: int, fault: Fault) -> None:
    now = time.time()
    tx.insert(
        "purchase",
        id=purchase_id,
        dialect=dialect,
        external_id=external_id,
        status="processing",
        lines="[]",
        cents=total,
        searchable=now + fault.number("search_lag_s", 10 if fault.name == "search_lag" else 0),
        created=now,
        updated=now,
    )


def _sell(tx: Tx, purchase_id: str, at: int, row: Row, line: Line) -> dict[str, Any]:
    """Take one line out of stock, open its keys, and return it as the order shows it."""
    item = catalogue.BY_PRODUCT_ID[row["id"]]
    texts = line.qty if item.is_text else 0
    tx.run("UPDATE product SET qty = qty - ?, text_qty = max(0, text_qty - ?) WHERE id = ?", line.qty, texts, row["id"])
    for _ in range(line.qty):
        tx.insert(
            "licence",
            id=f"6a2{secrets.token_hex(11)[:21]}",
            purchase_id=purchase_id,
            line=at,
            product_id=row["id"],
            cents=row["cents"],
            status="PROCESSING",
            type=item.key_type,
        )
    asked = row["cents"] if line.ceiling is None else cents_of(line.ceiling)
    return {"product_id": row["id"], "qty": line.qty, "cents": row["cents"], "asked": asked, "key_type": line.key_type}


def _sold(world: World, tx: Tx, purchase_id: str) -> None:
    purchase = fetch(tx, purchase_id)
    tx.run("UPDATE purchase SET sold = 1, updated = ? WHERE id = ?", time.time(), purchase_id)
    lines = [{"product_id": line["product_id"], "qty": line["qty"]} for line in json.loads(purchase["lines"])]
    tx.log(
        "sold",
        external_id=purchase["external_id"],
        order_id=purchase_id,
        amount=f"{euros(purchase['cents']):.2f}",
        dialect=purchase["dialect"],
        lines=lines,
    )
    _plan_delivery(world, tx, purchase)


def _plan_delivery(world: World, tx: Tx, purchase: Row) -> None:
    subject = purchase["external_id"] or purchase["id"]
    fault = world.fault("kinguin.delivery", lambda: subject)
    if fault.name == "key_duplicate":
        tx.run("UPDATE purchase SET duplicate_key = 1 WHERE id = ?", purchase["id"])
    if fault.name == "odd_keys":
        # Every key of this purchase is shown with these members, such as another "serial" or "type".
        tx.run("UPDATE purchase SET odd = ? WHERE id = ?", json.dumps(dict(fault.args)), purchase["id"])
    if world.config.deliver != "auto" or fault.name == "never":
        return
    payload: dict[str, Any] = {"purchase_id": purchase["id"]}
    if fault.name == "one_by_one":
        payload |= {"count": 1, "seconds": fault.number("seconds", 1)}
    kind = "cancel" if fault.name == "cancel" else "deliver"
    tx.later(world.config.deliver_after_ms / 1000, kind, payload)


def _issue(world: World, tx: Tx, purchase: Row, licence: Row) -> None:
    serial = _serial(world, tx, purchase, licence)
    status = "RETURNED" if purchase["return_asked"] else "DELIVERED"
    tx.run(
        "UPDATE licence SET status = 'DELIVERED', serial = ?, delivered = ? WHERE id = ?",
        *(serial, time.time(), licence["id"]),
    )
    tx.log(
        "key_issued",
        external_id=purchase["external_id"],
        order_id=purchase["id"],
        key_id=licence["id"],
        product_id=licence["product_id"],
        type=licence["type"],
        serial=serial,
    )
    if status == "RETURNED":
        _take_back(tx, purchase, [licence], status)


def _serial(world: World, tx: Tx, purchase: Row, licence: Row) -> str:
    if purchase["duplicate_key"]:
        sql = "SELECT serial FROM licence WHERE product_id = ? AND serial IS NOT NULL ORDER BY delivered DESC LIMIT 1"
        earlier = tx.one(sql, licence["product_id"])
        if earlier is not None:
            return str(earlier["serial"])
    serial = serials.serial_for(world.serial_secret, purchase["id"], licence["id"])
    return serial if licence["type"] == "text/plain" else serials.picture_of(serial, world.serial_secret)


def _end(world: World, tx: Tx, purchase_id: str, *, statuses: Sequence[str], key_status: str, status: str) -> None:
    purchase = fetch(tx, purchase_id)
    if purchase["status"] in ("canceled", "refunded"):
        raise Refused(409, {"error": f"Order {purchase_id} is already {purchase['status']}; nothing was changed."})
    marks = ", ".join("?" * len(statuses))
    taken = tx.all(
        f"SELECT * FROM licence WHERE purchase_id = ? AND status IN ({marks})",  # noqa: S608 - only placeholders
        *(purchase_id, *statuses),
    )
    _take_back(tx, purchase, taken, key_status)
    settle(world, tx, purchase_id, status)


def _take_back(tx: Tx, purchase: Row, taken: Sequence[Row], key_status: str) -> None:
    for licence in taken:
        tx.run("UPDATE licence SET status = ? WHERE id = ?", key_status, licence["id"])
        texts = int(licence["type"] == "text/plain")
        tx.run("UPDATE product SET qty = qty + 1, text_qty = text_qty + ? WHERE id = ?", texts, licence["product_id"])
    cents = sum(licence["cents"] for licence in taken)
    if not purchase["sold"] or not taken:
        return
    tx.run("UPDATE wallet SET cents = cents + ?", cents)
    tx.log(
        "refunded",
        external_id=purchase["external_id"],
        order_id=purchase["id"],
        amount=f"{euros(cents):.2f}",
        keys=[licence["id"] for licence in taken],
        status=key_status,
    )
