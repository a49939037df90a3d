"""Requests as the providers and the customers send them, built before the clock starts."""

import hashlib
import hmac
import itertools
import json
import urllib.request
import uuid
from collections.abc import Iterator
from typing import Any

from tools.bench.load import request
from tools.bench.stack import DIRECT, Stack, address

PRODUCT = "ember-drift"
_numbers = itertools.count(1)


def ipn(*, payment_id: int, order_id: str) -> dict[str, Any]:
    """Return the members of a finished IPN, in the size and order of a real one."""
    return {
        "actually_paid": 0.00493825,
        "actually_paid_at_fiat": 0,
        "fee": {"currency": "eth", "depositFee": 0.0000231, "serviceFee": 0.00002469, "withdrawalFee": 0},
        "invoice_id": None,
        "order_description": "BitLoot order",
        "order_id": order_id,
        "outcome_amount": 0.00489046,
        "outcome_currency": "eth",
        "parent_payment_id": None,
        "pay_address": "0x00000000000000000000000000000000000000aa",
        "pay_amount": 0.00493825,
        "pay_currency": "eth",
        "payin_extra_id": None,
        "payment_extra_ids": None,
        "payment_id": payment_id,
        "payment_status": "finished",
        "price_amount": 9.99,
        "price_currency": "eur",
        "purchase_id": "5312800042",
        "updated_at": 1772445553404,
    }


def distinct_ipns(stack: Stack) -> Iterator[bytes]:
    """Yield IPNs that differ in payment and order; nobody's, so that a worker's look at them ends in our database."""
    sorted_text = json.dumps(ipn(payment_id=7_777_777_777, order_id="ORDER"), separators=(",", ":"), sort_keys=True)
    while True:
        payment_id = 8_000_000_000 + next(_numbers)
        text = sorted_text.replace("7777777777", str(payment_id)).replace("ORDER", str(uuid.uuid4()))
        yield _signed(stack, text.replace("2.31e-05", "0.0000231").replace("2.469e-05", "0.00002469").encode())


def unsorted_ipns(stack: Stack) -> Iterator[bytes]:
    """Yield IPNs whose members come in another order than they were signed in, with spaces between them."""
    secret = stack.settings["NOWPAYMENTS_IPN_SECRET"].encode()
    while True:
        payment_id, order_id = 8_000_000_000 + next(_numbers), str(uuid.uuid4())
        document = ipn(payment_id=payment_id, order_id=order_id)
        signed = json.dumps(document, separators=(",", ":"), sort_keys=True)
        signed = signed.replace("2.31e-05", "0.0000231").replace("2.469e-05", "0.00002469")
        signature = hmac.new(secret, signed.encode(), hashlib.sha512).hexdigest()
        yield _posted(stack, json.dumps(dict(reversed(document.items()))).encode(), signature)


def forged_ipns(stack: Stack) -> Iterator[bytes]:
    """Yield IPNs in the right form, signed with another secret."""
    for message in distinct_ipns(stack):
        body = message.partition(b"\r\n\r\n")[2]
        yield _posted(stack, body, hmac.new(b"not the secret", body, hashlib.sha512).hexdigest())


def repeated_ipns(stack: Stack) -> Iterator[bytes]:
    return itertools.repeat(next(distinct_ipns(stack)))


def kinguin_webhooks(stack: Stack) -> Iterator[bytes]:
    headers = {"X-Event-Name": "order.status", "X-Event-Secret": stack.settings["KINGUIN_WEBHOOK_SECRET"]}
    for number in _numbers:
        body = {
            "orderId": f"PHS84FJ{number:08d}",
            "orderExternalId": str(uuid.uuid4()),
            "status": "completed",
            "updatedAt": "2026-03-02T09:59:13.404+00:00",
        }
        yield request("POST", "/api/webhooks/kinguin", host=stack.host, body=json.dumps(body).encode(), headers=headers)


def new_orders(stack: Stack) -> Iterator[bytes]:
    while True:
        number = next(_numbers)
        # Orders are limited by the mailbox's domain, too.
        email = f"customer{number}@shop{number // 200}.example"
        body = {"email": email, "items": [{"product": PRODUCT, "quantity": 1}]}
        headers = {"X-Forwarded-For": address(), "Idempotency-Key": uuid.uuid4().hex}
        yield request("POST", "/api/orders", host=stack.host, body=json.dumps(body).encode(), headers=headers)


def reads(stack: Stack, orders: list[dict[str, Any]], path: str) -> Iterator[bytes]:
    """Yield reads of these orders by their customers."""
    for order in itertools.cycle(orders):
        headers = {"Authorization": f"Bearer {order['access_token']}", "X-Forwarded-For": address()}
        yield request("GET", path.format(order["id"]), host=stack.host, headers=headers)


def polls(stack: Stack, orders: list[dict[str, Any]], path: str) -> Iterator[bytes]:
    """Yield reads of these orders by pages that have the newest answer already."""
    asked = []
    for order in orders:
        headers = {"Authorization": f"Bearer {order['access_token']}", "X-Forwarded-For": address()}
        headers["If-None-Match"] = _etag(stack, path.format(order["id"]), headers)
        asked.append(request("GET", path.format(order["id"]), host=stack.host, headers=headers))
    return itertools.cycle(asked)


def reveals(stack: Stack, orders: list[dict[str, Any]]) -> Iterator[bytes]:
    """Yield what the button of a key sends, for the keys of these orders."""
    for order in itertools.cycle(orders):
        headers = {"Authorization": f"Bearer {order['access_token']}", "X-Forwarded-For": address()}
        path = f"/api/fulfillment/{order['id']}/reveal"
        yield request("POST", path, host=stack.host, body=b"{}", headers=headers)


def pages(stack: Stack, path: str) -> Iterator[bytes]:
    while True:
        yield request("GET", path, host=stack.host, headers={"X-Forwarded-For": address(), "Accept-Encoding": "gzip"})


def products(stack: Stack) -> Iterator[bytes]:
    while True:
        yield request("GET", "/api/products", host=stack.host, headers={"X-Forwarded-For": address()})


def known_products(stack: Stack) -> Iterator[bytes]:
    etag = _etag(stack, "/api/products", {})
    while True:
        headers = {"X-Forwarded-For": address(), "If-None-Match": etag}
        yield request("GET", "/api/products", host=stack.host, headers=headers)


def _etag(stack: Stack, path: str, headers: dict[str, str]) -> str:
    with DIRECT.open(urllib.request.Request(f"http://{stack.host}{path}", headers=headers), timeout=30) as answer:
        return str(answer.headers["ETag"])


def new_payments(stack: Stack, orders: list[dict[str, Any]]) -> Iterator[bytes]:
    for order in orders:
        body = json.dumps({"order_id": order["id"], "pay_currency": "ltc"}).encode()
        headers = {"Authorization": f"Bearer {order['access_token']}", "X-Forwarded-For": address()}
        yield request("POST", "/api/payments/create", host=stack.host, body=body, headers=headers)


def _signed(stack: Stack, body: bytes) -> bytes:
    secret = stack.settings["NOWPAYMENTS_IPN_SECRET"].encode()
    return _posted(stack, body, hmac.new(secret, body, hashlib.sha512).hexdigest())


def _posted(stack: Stack, body: bytes, signature: str) -> bytes:
    return request("POST", "/api/payments/ipn", host=stack.host, body=body, headers={"x-nowpayments-sig": signature})
