"""The control page's actions, for people (forms) and programs (JSON): /control."""

import json
import time
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from sqlite3 import Row
from typing import Any
from urllib.parse import urlsplit

from werkzeug.routing import Rule
from werkzeug.utils import redirect
from werkzeug.wrappers import Response

from sandbox import faults, page, payments, purchases
from sandbox.announcements import announce_product
from sandbox.calls import Call, Endpoint, Family, View, respond
from sandbox.faults import Fault
from sandbox.store import Refused, Tx
from sandbox.world import cents_of, euros, zulu_stamp

NEWEST = 100
LEDGER_PAGE = 1000
TRUE = (True, 1, "1", "true", "on", "yes")


def show_page(call: Call) -> Response:
    return Response(page.render(_state(call)), content_type="text/html; charset=utf-8")


def show_state(call: Call) -> Response:
    return respond(_state(call))


def show_ledger(call: Call) -> Response:
    """List the ledger in order; `after` is the last id already seen."""
    where, values = ["id > ?"], [str(call.args.get("after", 0, type=int))]
    for name in ("what", "external_id", "order_id"):
        if name in call.args:
            where.append(f"{name} = ?")
            values.append(call.args[name])
    limit = call.args.get("limit", LEDGER_PAGE, type=int)
    sql = f"SELECT * FROM ledger WHERE {' AND '.join(where)} ORDER BY id LIMIT ?"  # noqa: S608 - fixed columns
    rows = call.world.store.read(sql, *values, limit)
    return respond({"ledger": [{**dict(row), "detail": json.loads(row["detail"])} for row in rows]})


def show_calls(call: Call) -> Response:
    """List when each call to a provider came, oldest first; the newest are kept, in memory."""
    calls = list(call.world.calls)
    return respond({"calls": [{"at": at, "method": method, "path": path} for at, method, path in calls]})


def show_sold(call: Call) -> Response:
    """List every key handed out, with whose order it was for."""
    rows = call.world.store.read(
        "SELECT purchase.id AS order_id, external_id, dialect, product_id, licence.id AS key_id, serial, type,"
        " licence.status FROM licence JOIN purchase ON purchase.id = purchase_id WHERE serial IS NOT NULL"
        " ORDER BY licence.delivered"
    )
    return respond({"sold": [dict(row) for row in rows]})


def show_mails(call: Call) -> Response:
    return respond({"taken": call.world.mailbox.taken, "mails": call.world.mailbox.newest()})


def pay(call: Call, ref: str) -> Response:
    payment = _payment(call, ref)
    mode, silent = str(_field(call, "mode", "exact")), _flag(call, "silent")
    amount = _decimal(call, "amount")
    paid = call.world.write(
        lambda tx: payments.pay(
            call.world, tx, payments.fetch(tx, payment["id"]), mode=mode, silent=silent, amount=amount
        )
    )
    return _done(call, payments.as_read(paid, []))


def set_payment_status(call: Call, ref: str) -> Response:
    payment_id, status = _payment(call, ref)["id"], str(_field(call, "status", ""))
    if status not in payments.STATUSES and not _flag(call, "any"):
        known = ", ".join(payments.STATUSES)
        raise _bad(f'No status {status!r}; choose from {known}, or add "any": true to invent one.')
    paid, overrides = _decimal(call, "actually_paid"), _mapping(call, "fields")

    def change(tx: Tx) -> Row:
        payment = payments.fetch(tx, payment_id)
        if paid is not None:
            payment = payments.set_paid(tx, payment, paid)
        return payments.set_status(call.world, tx, payment, status, silent=_flag(call, "silent"), overrides=overrides)

    return _done(call, payments.as_read(call.world.write(change), []))


def send_ipn(call: Call, ref: str) -> Response:
    payment_id, fields = _payment(call, ref)["id"], _mapping(call, "fields")
    secret = None if _flag(call, "signed", default=True) else "not the shared secret"

    def send(tx: Tx) -> None:
        payments.send_ipn(call.world, tx, payments.fetch(tx, payment_id), fields=fields, secret=secret)

    call.world.write(send)
    return _done(call, {"sent": True})


def deliver(call: Call, ref: str) -> Response:
    count = _field(call, "count", None)

    def run(tx: Tx, purchase_id: str) -> None:
        if not purchases.deliver(call.world, tx, purchase_id, count=None if count in (None, "") else int(count)):
            raise Refused(409, {"error": f"Order {purchase_id} has no keys left to deliver; nothing was changed."})

    return _on_purchase(call, ref, run)


def cancel(call: Call, ref: str) -> Response:
    return _on_purchase(call, ref, lambda tx, purchase_id: purchases.cancel(call.world, tx, purchase_id))


def refund(call: Call, ref: str) -> Response:
    return _on_purchase(call, ref, lambda tx, purchase_id: purchases.refund(call.world, tx, purchase_id))


def hold(call: Call, ref: str) -> Response:
    return _on_purchase(call, ref, purchases.hold)


def set_balance(call: Call) -> Response:
    balance = _decimal(call, "balance")
    if balance is None or balance < 0:
        raise _bad('Send the new balance in EUR: {"balance": 100.00}')

    def change(tx: Tx) -> None:
        tx.run("UPDATE wallet SET cents = ?", cents_of(balance))
        tx.log("balance_set", amount=balance)

    call.world.write(change)
    return _done(call, {"balance": balance})


def set_product(call: Call, product_id: str) -> Response:
    price = _decimal(call, "price")
    counts = {column: _decimal(call, name) for name, column in {"qty": "qty", "textQty": "text_qty"}.items()}
    changes = {column: int(value) for column, value in counts.items() if value is not None}
    if price is not None:
        changes["cents"] = cents_of(price)
    if any(value < 0 for value in changes.values()):
        raise _bad("Price and stock must not be negative.")
    row = call.world.write(lambda tx: _change_product(call, tx, product_id, changes))
    return _done(call, _product(row))


def configure(call: Call) -> Response:
    try:
        call.world.configure({**call.form.to_dict(), **call.body})
    except ValueError as err:
        raise _bad(str(err)) from err
    return _done(call, call.world.config.tunables())


def add_fault(call: Call) -> Response:
    op, name = str(_field(call, "op", "")), str(_field(call, "fault", ""))
    times, external_id = _field(call, "times", None), _field(call, "external_id", None) or None
    try:
        faults.checked(op, name)
        count = None if times in (None, "") else int(times)
    except ValueError as err:
        raise _bad(str(err)) from err
    fault = Fault(name, _mapping(call, "args"))
    rule = call.world.faults.add(op, fault, times=count, external_id=external_id)
    return _done(call, _rule_shown(rule), 201)


def list_faults(call: Call) -> Response:
    return respond({"faults": [_rule_shown(rule) for rule in call.world.faults.rules()], "ops": sorted(faults.OPS)})


def clear_faults(call: Call) -> Response:
    call.world.faults.clear()
    return _done(call, {"faults": []})


def log_followed_redirect(call: Call) -> Response:
    headers = sorted(call.headers.keys())
    call.world.write(lambda tx: tx.log("redirect_followed", method=call.method, headers=headers))
    return respond({"error": "You followed a redirect that a payment or supplier client must not follow."})


def _state(call: Call) -> dict[str, Any]:
    store = call.world.store
    limit = call.args.get("limit", NEWEST, type=int)
    return {
        "balance": euros(store.read("SELECT cents FROM wallet")[0]["cents"]),
        "config": call.world.config.tunables(),
        "faults": [_rule_shown(rule) for rule in call.world.faults.rules()],
        "jobs": store.read("SELECT count(*) AS n FROM job")[0]["n"],
        "webhooks_waiting": store.read("SELECT count(*) AS n FROM job WHERE kind = 'webhook'")[0]["n"],
        "products": [_product(row) for row in store.read("SELECT * FROM product ORDER BY kinguin_id")],
        "orders": [
            _purchase_shown(call, row)
            for row in store.read("SELECT * FROM purchase ORDER BY created DESC LIMIT ?", limit)
        ],
        "payments": [
            payments.as_read(row, []) | {"ipn_callback_url": row["ipn_url"]}
            for row in store.read("SELECT * FROM payment ORDER BY created DESC LIMIT ?", limit)
        ],
    }


def _purchase_shown(call: Call, row: Row) -> dict[str, Any]:
    keys = call.world.store.read("SELECT id, status FROM licence WHERE purchase_id = ? ORDER BY line, id", row["id"])
    return {
        "order_id": row["id"],
        "external_id": row["external_id"],
        "dialect": row["dialect"],
        "status": row["status"],
        "sold": bool(row["sold"]),
        "held": bool(row["held"]),
        "total": euros(row["cents"]),
        "lines": [{"product_id": line["product_id"], "qty": line["qty"]} for line in json.loads(row["lines"])],
        "keys": [dict(key) for key in keys],
        "created_at": zulu_stamp(row["created"]),
        "updated_at": zulu_stamp(row["updated"]),
    }


def _product(row: Row) -> dict[str, Any]:
    return {
        "product_id": row["id"],
        "kinguin_id": row["kinguin_id"],
        "offer_id": row["offer_id"],
        "name": page.name_of(row["id"]),
        "price": euros(row["cents"]),
        "qty": row["qty"],
        "textQty": row["text_qty"],
    }


def _change_product(call: Call, tx: Tx, product_id: str, changes: dict[str, int]) -> Row:
    for column, value in changes.items():
        tx.run(f"UPDATE product SET {column} = ? WHERE id = ?", value, product_id)  # noqa: S608 - fixed columns
    tx.run("UPDATE product SET updated = ? WHERE id = ?", time.time(), product_id)
    row = tx.one("SELECT * FROM product WHERE id = ?", product_id)
    if row is None:
        raise Refused(404, {"error": f"No product {product_id}. GET /control/state lists the products there are."})
    if _flag(call, "announce"):
        announce_product(call.world, tx, row)
    return row


def _payment(call: Call, ref: str) -> Row:
    """Find a payment by its id, its address or the order id the shop gave it (the newest)."""
    row = call.world.store.read_one(
        "SELECT * FROM payment WHERE parent_id IS NULL AND (CAST(id AS TEXT) = ? OR pay_address = ? OR order_id = ?)"
        " ORDER BY created DESC LIMIT 1",
        *(ref, ref, ref),
    ) or call.world.store.read_one("SELECT * FROM payment WHERE CAST(id AS TEXT) = ?", ref)
    if row is None:
        raise Refused(404, {"error": f"No payment {ref}. GET /control/state lists the payments there are."})
    return row


def _on_purchase(call: Call, ref: str, run: Callable[[Tx, str], None]) -> Response:
    row = call.world.store.read_one(
        "SELECT id FROM purchase WHERE id = ? OR external_id = ? ORDER BY created DESC LIMIT 1", ref, ref
    )
    if row is None:
        raise Refused(404, {"error": f"No order {ref}. GET /control/state lists the orders there are."})
    call.world.write(lambda tx: run(tx, row["id"]))
    changed = call.world.store.read("SELECT * FROM purchase WHERE id = ?", row["id"])[0]
    return _done(call, _purchase_shown(call, changed))


def _rule_shown(rule: faults.Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "op": rule.op,
        "fault": rule.fault.name,
        "times": rule.times,
        "external_id": rule.external_id,
        "args": dict(rule.fault.args),
    }


def _done(call: Call, body: dict[str, Any], status: int = 200) -> Response:
    return redirect("/", 303) if call.form else respond(body, status)


def _field(call: Call, name: str, default: Any) -> Any:
    return call.body.get(name, call.form.get(name, default))


def _flag(call: Call, name: str, *, default: bool = False) -> bool:
    return _field(call, name, default) in TRUE


def _decimal(call: Call, name: str) -> Decimal | None:
    value = _field(call, name, None)
    if value in (None, ""):
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation as err:
        raise _bad(f"{name} must be a number, not {value!r}") from err
    if not number.is_finite():
        raise _bad(f"{name} must be a number, not {value!r}")
    return number


def _mapping(call: Call, name: str) -> dict[str, Any]:
    value = call.body.get(name, {})
    if not isinstance(value, dict):
        raise _bad(f"{name} must be an object")
    return value


def _bad(message: str) -> Refused:
    return Refused(400, {"error": message})


def _authorize(call: Call) -> None:
    # The page has no login: a form on another site must not press its buttons.
    origin = call.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != call.host:
        raise Refused(403, {"error": "The sandbox takes orders only from its own page and from programs."})


FAMILY = Family(authorize=_authorize, refusal=lambda call, name: _bad(name))


def _rule(method: str, path: str, view: View) -> Rule:
    return Rule(path, methods=[method], endpoint=Endpoint(FAMILY, view))


RULES = [
    _rule("GET", "/", show_page),
    _rule("GET", "/control/state", show_state),
    _rule("GET", "/control/ledger", show_ledger),
    _rule("GET", "/control/calls", show_calls),
    _rule("GET", "/control/sold", show_sold),
    _rule("GET", "/control/mails", show_mails),
    _rule("POST", "/control/payments/<ref>/pay", pay),
    _rule("POST", "/control/payments/<ref>/status", set_payment_status),
    _rule("POST", "/control/payments/<ref>/ipn", send_ipn),
    _rule("POST", "/control/orders/<ref>/deliver", deliver),
    _rule("POST", "/control/orders/<ref>/cancel", cancel),
    _rule("POST", "/control/orders/<ref>/refund", refund),
    _rule("POST", "/control/orders/<ref>/hold", hold),
    _rule("POST", "/control/balance", set_balance),
    _rule("POST", "/control/products/<product_id>", set_product),
    _rule("POST", "/control/config", configure),
    _rule("POST", "/control/faults", add_fault),
    _rule("GET", "/control/faults", list_faults),
    _rule("DELETE", "/control/faults", clear_faults),
    _rule("POST", "/control/faults/clear", clear_faults),
    Rule(
        "/elsewhere", endpoint=Endpoint(Family(lambda call: None, lambda call, name: _bad(name)), log_followed_redirect)
    ),
]
