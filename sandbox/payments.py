"""NOWPayments' side of a payment: its money, its statuses and the IPNs about them."""

import json
import secrets
import string
import time
from decimal import ROUND_UP, Decimal
from sqlite3 import Row
from typing import Any

from sandbox import javascript
from sandbox.catalogue import COINS, EURO_IN, Coin
from sandbox.store import Refused, Tx
from sandbox.webhooks import Webhook, post
from sandbox.world import World, zulu_stamp

STEPS = ("confirming", "confirmed", "sending")
STATUSES = (
    *("waiting", "confirming", "confirmed", "sending", "finished", "partially_paid"),
    *("failed", "expired", "refunded", "cancelled"),
)
PAY_MODES = ("exact", "under", "over", "late", "wrong_coin", "repeat")
SHARES = {"exact": Decimal(1), "late": Decimal(1), "under": Decimal("0.5"), "over": Decimal("1.2")}
OUTCOME_SHARE = Decimal("0.99")
BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
BECH32 = "".join(sorted(set(string.ascii_lowercase + string.digits) - set("1bio")))


def convert(amount: Decimal, currency: str, coin: Coin) -> Decimal:
    step = Decimal(1).scaleb(-coin.places)
    return (amount / EURO_IN[currency] / coin.euros).quantize(step, rounding=ROUND_UP)


def create(world: World, tx: Tx, request: dict[str, Any], coin: Coin) -> Row:
    price, currency = request["price_amount"], request["price_currency"].lower()
    payment = _insert(
        tx,
        coin,
        order_id=request.get("order_id"),
        description=request.get("order_description"),
        status="waiting",
        price_amount=str(price),
        price_currency=currency,
        pay_amount=str(convert(Decimal(price), currency, coin)),
        ipn_url=request.get("ipn_callback_url"),
        fixed_rate=int(bool(request.get("is_fixed_rate") or request.get("is_fee_paid_by_user"))),
        fee_by_user=int(bool(request.get("is_fee_paid_by_user"))),
    )
    tx.log(
        "payment_created",
        external_id=payment["order_id"],
        order_id=str(payment["id"]),
        amount=payment["pay_amount"],
        currency=coin.code,
        price=payment["price_amount"],
    )
    send_ipn(world, tx, payment)
    return payment


def pay(world: World, tx: Tx, payment: Row, *, mode: str, silent: bool, amount: Decimal | None = None) -> Row:
    """Put money on a payment's address; return the payment that shows it (a child for wrong_coin and repeat)."""
    if mode not in PAY_MODES:
        raise Refused(400, {"error": f"No mode {mode!r}; choose from {', '.join(PAY_MODES)}"})
    if mode in ("wrong_coin", "repeat"):
        return _child(world, tx, payment, mode=mode, silent=silent, amount=amount)
    if payment["status"] not in ("waiting", "expired"):
        problem = f"Payment {payment['id']} is {payment['status']}: it has its money. Use the mode repeat for more."
        raise Refused(409, {"error": problem})
    if mode == "late" and payment["status"] == "waiting":
        payment = set_status(world, tx, payment, "expired", silent=silent)
    paid = amount if amount is not None else Decimal(payment["pay_amount"]) * SHARES[mode]
    payment = _update(tx, payment, actually_paid=f"{paid.normalize():f}")
    _log_money(tx, payment, mode=mode)
    last = "partially_paid" if paid < Decimal(payment["pay_amount"]) else "finished"
    steps = {"payment_id": payment["id"], "statuses": [*STEPS, last], "silent": silent}
    tx.later(world.config.step_ms / 1000, "payment_step", steps)
    return payment


def step_job(world: World, tx: Tx, payload: dict[str, Any]) -> None:
    status, *rest = payload["statuses"]
    set_status(world, tx, fetch(tx, payload["payment_id"]), status, silent=payload["silent"])
    if rest:
        tx.later(world.config.step_ms / 1000, "payment_step", payload | {"statuses": rest})


def set_status(
    world: World, tx: Tx, payment: Row, status: str, *, silent: bool = False, overrides: dict[str, Any] | None = None
) -> Row:
    merged = json.loads(payment["overrides"]) | (overrides or {})
    payment = _update(tx, payment, status=status, overrides=javascript.stringify(merged))
    tx.log(
        "payment_status",
        external_id=payment["order_id"],
        order_id=str(payment["id"]),
        amount=payment["actually_paid"],
        status=status,
        overrides=merged,
    )
    if not silent:
        send_ipn(world, tx, payment)
    return payment


def set_paid(tx: Tx, payment: Row, amount: Decimal) -> Row:
    payment = _update(tx, payment, actually_paid=f"{amount:f}")
    _log_money(tx, payment, mode="set")
    return payment


def fetch(tx: Tx, payment_id: int) -> Row:
    payment = tx.one("SELECT * FROM payment WHERE id = ?", payment_id)
    if payment is None:
        raise Refused(404, {"error": f"No payment {payment_id}. GET /control/state lists the payments there are."})
    return payment


def as_created(payment: Row) -> dict[str, Any]:
    coin, created = COINS[payment["pay_currency"]], payment["created"]
    return {
        "payment_id": str(payment["id"]),
        "payment_status": payment["status"],
        "pay_address": payment["pay_address"],
        "price_amount": Decimal(payment["price_amount"]),
        "price_currency": payment["price_currency"],
        "pay_amount": Decimal(payment["pay_amount"]),
        "amount_received": _net(payment["pay_amount"]),
        "pay_currency": payment["pay_currency"],
        "order_id": payment["order_id"],
        "order_description": payment["description"],
        "payin_extra_id": payment["extra_id"],
        "ipn_callback_url": payment["ipn_url"],
        "customer_email": None,
        "created_at": zulu_stamp(created),
        "updated_at": zulu_stamp(created),
        "purchase_id": str(payment["purchase_id"]),
        "smart_contract": None,
        "network": coin.network,
        "network_precision": None,
        "time_limit": None,
        "burning_percent": None,
        "expiration_estimate_date": zulu_stamp(created + 20 * 60),
        "is_fixed_rate": bool(payment["fixed_rate"]),
        "is_fee_paid_by_user": bool(payment["fee_by_user"]),
        "valid_until": zulu_stamp(created + 7 * 86400),
        "type": "crypto2crypto",
        "product": "api",
        "origin_ip": "127.0.0.1",
    }


def as_read(payment: Row, children: list[int]) -> dict[str, Any]:
    paid = Decimal(payment["actually_paid"])
    shown = {
        "payment_id": payment["id"],
        "invoice_id": None,
        "payment_status": payment["status"],
        "pay_address": payment["pay_address"],
        "payin_extra_id": payment["extra_id"],
        "price_amount": Decimal(payment["price_amount"]),
        "price_currency": payment["price_currency"],
        "pay_amount": Decimal(payment["pay_amount"]),
        "actually_paid": paid,
        "pay_currency": payment["pay_currency"],
        "order_id": payment["order_id"],
        "order_description": payment["description"],
        "purchase_id": payment["purchase_id"],
        "outcome_amount": _net(payment["actually_paid"]) if paid else None,
        "outcome_currency": payment["pay_currency"],
        "payout_hash": f"0x{payment['id']:064x}" if payment["status"] in ("finished", "partially_paid") else None,
        "payin_hash": f"0x{payment['purchase_id']:064x}" if paid else None,
        "created_at": zulu_stamp(payment["created"]),
        "updated_at": zulu_stamp(payment["updated"]),
        "burning_percent": "null",
        "type": "crypto2crypto",
    }
    if children:
        shown["payment_extra_ids"] = children
    if payment["parent_id"]:
        shown["parent_payment_id"] = payment["parent_id"]
    return shown | json.loads(payment["overrides"], parse_float=Decimal)


def as_ipn(payment: Row) -> dict[str, Any]:
    paid = Decimal(payment["actually_paid"])
    shown = {
        "payment_id": payment["id"],
        "parent_payment_id": payment["parent_id"],
        "invoice_id": None,
        "payment_status": payment["status"],
        "pay_address": payment["pay_address"],
        "payin_extra_id": payment["extra_id"],
        "price_amount": Decimal(payment["price_amount"]),
        "price_currency": payment["price_currency"],
        "pay_amount": Decimal(payment["pay_amount"]),
        "actually_paid": paid,
        "actually_paid_at_fiat": 0,
        "pay_currency": payment["pay_currency"],
        "order_id": payment["order_id"],
        "order_description": payment["description"],
        "purchase_id": str(payment["purchase_id"]),
        "outcome_amount": _net(payment["actually_paid"] if paid else payment["pay_amount"]),
        "outcome_currency": payment["pay_currency"],
        "payment_extra_ids": None,
        "fee": {"currency": payment["pay_currency"], "depositFee": 0, "serviceFee": 0, "withdrawalFee": 0},
        "updated_at": int(payment["updated"] * 1000),
    }
    overrides = json.loads(payment["overrides"], parse_float=Decimal)
    return shown | {name: value for name, value in overrides.items() if name in shown}


def send_ipn(
    world: World, tx: Tx, payment: Row, *, fields: dict[str, Any] | None = None, secret: str | None = None
) -> None:
    if not payment["ipn_url"]:
        return
    signed_by = world.config.nowpayments_ipn_secret if secret is None else secret
    body = as_ipn(payment) | (fields or {})
    lie = body | {"payment_status": "finished", "actually_paid": body["pay_amount"]}
    post(world, tx, _webhook(payment, body, signed_by), lie=_webhook(payment, lie, signed_by))


def _webhook(payment: Row, body: dict[str, Any], secret: str) -> Webhook:
    raw, signature = javascript.sign(body, secret)
    return Webhook(
        provider="nowpayments",
        url=payment["ipn_url"],
        body=raw.decode(),
        headers={"x-nowpayments-sig": signature, "User-Agent": "NOWPayments v1.0"},
        subject=payment["order_id"] or str(payment["id"]),
        order_id=str(payment["id"]),
        event=str(body["payment_status"]),
    )


def _child(world: World, tx: Tx, parent: Row, *, mode: str, silent: bool, amount: Decimal | None) -> Row:
    """A second deposit, or one in another coin, becomes a payment of its own that asks for what arrived."""
    coin = COINS[parent["pay_currency"]]
    if mode == "wrong_coin":
        coin = COINS["usdttrc20" if coin.code != "usdttrc20" else "trx"]
    paid = amount or convert(Decimal(parent["price_amount"]), parent["price_currency"], coin)
    child = _insert(
        tx,
        coin,
        parent_id=parent["id"],
        order_id=parent["order_id"],
        description=parent["description"],
        status="finished",
        price_amount=parent["price_amount"],
        price_currency=parent["price_currency"],
        pay_amount=str(paid),
        actually_paid=str(paid),
        ipn_url=parent["ipn_url"],
        fixed_rate=0,
        fee_by_user=0,
    )
    tx.run(
        "UPDATE payment SET pay_address = ?, extra_id = ? WHERE id = ?",
        *(parent["pay_address"], parent["extra_id"], child["id"]),
    )
    child = fetch(tx, child["id"])
    _log_money(tx, child, mode=mode)
    if not silent:
        send_ipn(world, tx, child)
    return child


def _insert(tx: Tx, coin: Coin, **values: Any) -> Row:
    now = time.time()
    payment_id = _free_id(tx)
    tx.insert(
        "payment",
        id=payment_id,
        pay_currency=coin.code,
        pay_address=_address(coin),
        extra_id=str(secrets.randbelow(900_000_000) + 100_000_000) if coin.needs_memo else None,
        purchase_id=secrets.randbelow(1_000_000_000) + 5_000_000_000,
        created=now,
        updated=now,
        **values,
    )
    return fetch(tx, payment_id)


def _free_id(tx: Tx) -> int:
    while True:
        payment_id = secrets.randbelow(5_000_000_000) + 4_000_000_000
        if tx.one("SELECT 1 FROM payment WHERE id = ?", payment_id) is None:
            return payment_id


def _update(tx: Tx, payment: Row, **values: Any) -> Row:
    changes = ", ".join(f"{name} = ?" for name in (*values, "updated"))
    tx.run(f"UPDATE payment SET {changes} WHERE id = ?", *values.values(), time.time(), payment["id"])  # noqa: S608
    return fetch(tx, payment["id"])


def _log_money(tx: Tx, payment: Row, *, mode: str) -> None:
    tx.log(
        "money_in",
        external_id=payment["order_id"],
        order_id=str(payment["id"]),
        amount=payment["actually_paid"],
        currency=payment["pay_currency"],
        mode=mode,
        parent=payment["parent_id"],
    )


def _net(amount: str) -> Decimal:
    return (Decimal(amount) * OUTCOME_SHARE).quantize(Decimal("1e-8"))


def _address(coin: Coin) -> str:
    def letters(alphabet: str, length: int) -> str:
        return "".join(secrets.choice(alphabet) for _ in range(length))

    match coin.network:
        case "btc":
            return "bc1q" + letters(BECH32, 38)
        case "ltc":
            return "ltc1q" + letters(BECH32, 38)
        case "eth" | "bsc":
            return "0x" + secrets.token_hex(20)
        case "trx":
            return "T" + letters(BASE58, 33)
        case "xrp":
            return "r" + letters(BASE58, 33)
    return letters(BASE58, 44)
