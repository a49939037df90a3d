"""Believable orders of an invented shop with all their rows, as unsaved rows of the models; the same in each run."""

import json
import random
import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Any

from django.db.models import Model

from fulfillment.models import Reservation, ReservationAttempt, SupplierCall
from orders.models import Alert, Email, Order, OrderEvent, OrderItem, Product
from payments.models import Payment, Refund, RefundAddress
from storage.models import Key, KeyAccess, KeyDeliveryLog
from webhooks.models import WebhookLog

FIRST_PAYMENT_ID = 6_000_000_000
COINS = ("btc", "btc", "btc", "eth", "ltc", "usdttrc20", "usdttrc20", "xmr")
PLACES = ("mail.example", "post.example", "inbox.example", "letters.example")
# In the order in which they may be stored. Of ended orders, and how many in a hundred of each.
MODELS: tuple[type[Model], ...] = (
    Order, OrderItem, Payment, Reservation, ReservationAttempt, SupplierCall, Key, KeyDeliveryLog, KeyAccess, Refund,
    RefundAddress, Alert, Email, OrderEvent, WebhookLog,
)  # fmt: skip
ENDED = ("fulfilled",) * 80 + ("expired",) * 15 + ("cancelled",) * 2 + ("refunded",) * 3
OPEN = ("pending",) * 70 + ("confirming",) * 10 + ("buying",) * 6 + ("held",) * 6 + ("review",) * 4 + ("owed",) * 4
_PAID = frozenset({"fulfilled", "refunded", "buying", "held", "owed"})
_WEBHOOKS: dict[str, tuple[str, ...]] = {
    "expired": ("waiting", "waiting", "expired"),
    "cancelled": ("waiting", "waiting", "failed"),
    "pending": ("waiting",),
    "confirming": ("waiting", "confirming"),
    "review": ("waiting", "confirming", "partially_paid"),
    "refunded": ("waiting", "confirming", "finished"),
}
_MAILS: dict[str, tuple[str, ...]] = {
    "fulfilled": ("order_received", "payment_received", "key_ready"),
    "expired": ("order_received", "expired"),
    "cancelled": ("order_received", "cancelled"),
    "refunded": ("order_received", "payment_received", "delayed", "refund_asked", "refund_sent"),
}
_EVENTS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "fulfilled": (
        ("order", "", "pending"), ("payment", "waiting", "finished"), ("order", "pending", "paid"),
        ("reservation", "pending", "delivered"), ("order", "fulfilling", "fulfilled"),
    ),
    "expired": (
        ("order", "", "pending"), ("payment", "creating", "waiting"), ("mail", "", ""),
        ("payment", "waiting", "expired"), ("order", "pending", "expired"),
    ),
    "cancelled": (
        ("order", "", "pending"), ("payment", "creating", "waiting"), ("mail", "", ""),
        ("payment", "waiting", "cancelled"), ("staff", "pending", "cancelled"),
    ),
    "refunded": (
        ("order", "", "pending"), ("payment", "waiting", "finished"), ("order", "pending", "paid"),
        ("staff", "held", "refund_due"), ("refund", "requested", "done"),
    ),
}  # fmt: skip
_OF_OPEN = _EVENTS["fulfilled"][:3]
_STATUS = {"confirming": "pending", "buying": "fulfilling", "review": "pending", "owed": "refund_due"}
_PAYMENT_STATUS = {
    "pending": "waiting", "confirming": "confirming", "expired": "expired", "cancelled": "cancelled",
    "review": "review",
}  # fmt: skip
_PURCHASE_STATUS = {
    "fulfilled": "delivered", "refunded": "cancelled", "buying": "reserved", "held": "held", "owed": "cancelled",
}  # fmt: skip


class Stories:
    """Rows of `count` orders placed within `span` before `now`, their kinds dealt as `kinds` has them."""

    def __init__(
        self,
        name: str,
        products: Sequence[Product],
        *,
        kinds: Sequence[str],
        count: int,
        now: datetime,
        span: timedelta,
    ) -> None:
        self.rows: dict[type[Model], list[Any]] = defaultdict(list)
        self._products, self._name = products, name
        self._chance = random.Random(name)  # noqa: S311 - invented orders, not secrets
        for number in range(count):
            # 37 and the hundred kinds share no factor: each kind has its share, and neighbours differ.
            kind = kinds[number * 37 % len(kinds)]
            hours = 1 if kinds is ENDED else 0
            if kind in ("expired", "cancelled"):
                hours = 25  # what expires needs a day for it
            ended = now - timedelta(hours=hours)
            self._tell(number, kind, ended - span * (count - number) / count)

    def _add(self, *rows: Any) -> Any:
        for row in rows:
            self.rows[type(row)].append(row)
        return rows[0]

    def _id(self, *parts: object) -> uuid.UUID:
        return uuid.uuid5(uuid.NAMESPACE_OID, f"{self._name} {' '.join(map(str, parts))}")

    def _text(self, length: int, *parts: object) -> str:
        return sha256(self._id(*parts).bytes).hexdigest()[:length]

    def _tell(self, number: int, kind: str, at: datetime) -> None:
        products = self._chance.sample(self._products, 2 if number % 8 == 0 else 1)
        is_paid = kind in _PAID
        order = self._add(
            Order(
                id=self._id("order", number), email=f"customer{number}@{self._chance.choice(PLACES)}",
                status=_STATUS.get(kind, kind), reason=_reason(kind), total=sum(product.price for product in products),
                currency="EUR", created_at=at, expires_at=at + timedelta(hours=24),
                paid_at=at + timedelta(minutes=12) if is_paid else None,
                fulfilled_at=at + timedelta(minutes=13, seconds=number % 90) if kind == "fulfilled" else None,
            )
        )  # fmt: skip
        payment = self._payment(number, kind, order)
        purchases = [self._item(f"{number}.{place}", kind, order, product) for place, product in enumerate(products)]
        bought = [str(purchase.supplier_order_id) for purchase in purchases if purchase and purchase.supplier_order_id]
        names = [str(payment.external_id)] * 3
        names[2:] = bought[:1] if kind == "fulfilled" else names[:1]
        if kind in ("refunded", "owed"):
            self._refund(number, kind, order, payment)
        self._add(*_events(order, kind))
        self._add(*(self._mail(number, place, word, order) for place, word in enumerate(_mails(kind))))
        events = _WEBHOOKS.get(kind, ("confirming", "finished", "order.status"))
        self._add(*(self._webhook(number, place, names[place], word, at) for place, word in enumerate(events)))

    def _payment(self, number: int, kind: str, order: Order) -> Payment:
        has_money = kind in _PAID or kind == "review"
        asked = (order.total / 60_000).quantize(Decimal("1e-8"))
        return self._add(
            Payment(
                id=self._id("payment", number), order=order, external_id=str(self._number(number)),
                status=_PAYMENT_STATUS.get(kind, "finished"), reason="too_little" if kind == "review" else "",
                price_amount=order.total, price_currency="eur", pay_currency=self._chance.choice(COINS),
                pay_amount=asked, pay_address="bc1q" + self._text(38, "address", number),
                purchase_id=str(self._number(number) + 7), actually_paid=asked if has_money else 0,
                outcome_amount=order.total if has_money else None, outcome_currency="eur" if has_money else "",
                provider_status=_PAYMENT_STATUS.get(kind, "finished"),
                payin_hash=self._text(64, "hash", number) if has_money else "",
                evidence={"payment_status": "finished", "actually_paid": str(asked)} if has_money else {},
                created_at=order.created_at + timedelta(minutes=1), expires_at=order.created_at + timedelta(minutes=21),
                finished_at=order.paid_at, read_at=order.created_at + timedelta(minutes=13),
                coins_seen_at=order.paid_at, next_attempt_at=None, request_id=self._id("request", number),
            )
        )  # fmt: skip

    def _number(self, number: int) -> int:
        return FIRST_PAYMENT_ID + number * 10

    def _item(self, name: str, kind: str, order: Order, product: Product) -> Reservation | None:
        item = self._add(
            OrderItem(id=self._id("item", name), order=order, product=product, title=product.title, quantity=1,
                      unit_price=product.price)
        )  # fmt: skip
        if kind not in _PURCHASE_STATUS:
            return None
        at = order.created_at + timedelta(minutes=12)
        is_bought = kind in ("fulfilled", "buying")
        purchase: Reservation = self._add(
            Reservation(
                id=self._id("purchase", name), item=item, external_id=str(item.pk), dialect="ecommerce",
                supplier_order_id="K" + self._text(20, "supplier", name) if is_bought else None,
                status=_PURCHASE_STATUS[kind], reason=_purchase_reason(kind),
                cost=product.max_cost if is_bought else None,
                supplier_product_id=product.supplier_product_id, title=product.title, price_cap=product.max_cost,
                created_at=at, sent_at=at, reserved_at=at if is_bought else None, changed_at=at,
                delivered_at=order.fulfilled_at, next_attempt_at=None, request_id=self._id("request", name),
            )
        )  # fmt: skip
        outcome = "placed" if is_bought else "refused"
        self._add(
            ReservationAttempt(reservation=purchase, number=1, price=product.max_cost, permitted_at=at, outcome=outcome)
        )
        self._add(
            *(_call(purchase, word, at, 80 + self._chance.randrange(400)) for word in ("quote", "reserve", "read"))
        )
        if kind == "fulfilled":
            self._key(name, item, order)
        return purchase

    def _key(self, name: str, item: OrderItem, order: Order) -> None:
        at = order.fulfilled_at or order.created_at
        is_opened = self._chance.random() < 0.9
        key = self._add(
            Key(
                id=self._id("key", name), item=item, supplier_key_id=self._text(32, "theirs", name),
                fingerprint=self._text(64, "print", name), status="stored", content_type="text/plain",
                object_name=self._text(40, "object", name), ciphertext_sha256=self._text(64, "cipher", name),
                nonce=b"0" * 12, wrapped_data_key=b"0" * 60, master_key_id="seeded", environment="seeded",
                received_at=at, stored_at=at, viewed_at=at + timedelta(minutes=5) if is_opened else None,
                next_attempt_at=None, request_id=self._id("request", name),
            )
        )  # fmt: skip
        self._add(
            KeyDeliveryLog(
                key=key, order=order, customer_email=order.email, object_key=key.object_name,
                status="opened" if is_opened else "stored", created_at=at, expires_at=at + timedelta(days=400),
                last_accessed_at=key.viewed_at, opened_at=key.viewed_at, times_accessed=int(is_opened),
            )
        )  # fmt: skip
        if is_opened:
            network = f"203.0.{self._chance.randrange(256)}.0/24"
            self._add(KeyAccess(key=key, order=order, at=key.viewed_at, token="mail", generation=1, network=network,  # noqa: S106
                                agent="Mozilla/5.0"))  # fmt: skip

    def _refund(self, number: int, kind: str, order: Order, payment: Payment) -> None:
        is_done, at = kind == "refunded", order.created_at + timedelta(minutes=30)
        refund = self._add(
            Refund(
                id=self._id("refund", number), order=order, payment=payment, status="done" if is_done else "requested",
                amount=payment.actually_paid, currency=payment.pay_currency, worth=order.total, created_at=at,
                transaction_id=self._text(64, "back", number) if is_done else "", reason="decided_by_staff",
                sent_at=at if is_done else None, done_at=at if is_done else None,
            )
        )  # fmt: skip
        self._add(
            RefundAddress(refund=refund, address="bc1q" + self._text(38, "to", number), given_at=at, link_kind="mail")
        )
        if is_done:
            self._add(
                Alert(kind="refund_to_send", about_model="payments.refund", about_pk=str(refund.pk), order=order,
                      message="Coins have to be sent back.", status="closed", opened_at=at, last_at=at, closed_at=at)
            )  # fmt: skip

    def _mail(self, number: int, place: int, kind: str, order: Order) -> Email:
        at = order.created_at + timedelta(minutes=6 * place)
        return Email(order=order, kind=kind, to=order.email, status="sent", created_at=at, sent_at=at, facts={},
                     next_attempt_at=None, request_id=self._id("mail", number, place))  # fmt: skip

    def _webhook(self, number: int, place: int, name: str, event: str, at: datetime) -> WebhookLog:
        is_supplier = event == "order.status"
        body = json.dumps({
            "payment_id": name, "payment_status": event, "pay_address": self._text(42, "address", number),
            "order_description": "BitLoot order", "updated_at": place,
            "fee": {"currency": "btc", "depositFee": 0.0000012},
            "invoice_id": None, "purchase_id": name, "price_currency": "eur", "outcome_currency": "eur",
        }).encode()  # fmt: skip
        received = at + timedelta(minutes=4 * place)
        return WebhookLog(
            provider="kinguin" if is_supplier else "nowpayments", body=body, body_sha256=sha256(body).digest(),
            headers={"content-type": "application/json", "x-request-id": self._text(32, "header", number)},
            external_id=name, event_type=event, status="ignored" if event == "waiting" else "processed",
            outcome="The payment was read again.", received_at=received, processed_at=received, next_attempt_at=None,
            repeats=0, replays=0, request_id=self._id("webhook", number, place),
        )  # fmt: skip


def _call(purchase: Reservation, word: str, at: datetime, milliseconds: int) -> SupplierCall:
    return SupplierCall(
        reservation=purchase, at=at, call=word, outcome="ok", status_code=200, milliseconds=milliseconds
    )


def _events(order: Order, kind: str) -> Iterable[OrderEvent]:
    for place, (about, before, after) in enumerate(_EVENTS.get(kind, _OF_OPEN)):
        yield OrderEvent(
            order=order, kind=about, from_status=before, to_status=after,
            at=order.created_at + timedelta(minutes=3 * place),
            message=f"{about.capitalize()}: {after or 'sent'}.", actor="staff" if about == "staff" else "",
        )  # fmt: skip


def _mails(kind: str) -> Sequence[str]:
    return _MAILS.get(kind, ("order_received",))


def _reason(kind: str) -> str:
    reasons = {"expired": "unpaid", "cancelled": "cancelled", "owed": "decided_by_staff", "held": "out_of_stock"}
    return reasons.get(kind, "")


def _purchase_reason(kind: str) -> str:
    return {"held": "out_of_stock", "refunded": "canceled", "owed": "canceled"}.get(kind, "")
