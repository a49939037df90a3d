"""One order's life as the world outside makes it: a customer, two providers and workers, each of whom may come again.

It runs in a forked process that may die anywhere. Doing it once more from the start is always allowed: a customer who
saw an error tries again, providers repeat their webhooks, and messages are delivered twice.
"""

import hmac
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Model
from django.db.models.functions import Now
from django.test import Client
from requests.adapters import HTTPAdapter

import fulfillment.services
import webhooks.services
from fulfillment import kinguin, pipeline
from fulfillment.models import Reservation, SupplierGate
from fulfillment.tasks import drain_reservations
from orders.models import Email, Order
from orders.tasks import drain_mails
from payments.creation import start_payment
from payments.models import Payment
from payments.tasks import drain_payments
from storage.models import Key
from storage.tasks import drain as drain_keys
from tools.chaos.control import Control
from webhooks.models import WebhookLog
from webhooks.tasks import drain_webhooks

logger = logging.getLogger("chaos")

QUEUES: tuple[type[Model], ...] = (WebhookLog, Payment, Reservation, Key, Email)
PATIENCE = 40
COIN = "btc"
TO_ALERT, TO_HOLD = timedelta(minutes=16), timedelta(hours=25)


@dataclass(frozen=True)
class Run:
    order_id: str
    item_id: str
    control: Control
    waits: bool  # whether a late order appears while we still search, or only after we have given up
    starts_paid: bool = False

    @property
    def order(self) -> Order:
        return Order.objects.get(pk=self.order_id)

    @property
    def reservation(self) -> Reservation | None:
        return Reservation.objects.filter(item_id=self.item_id).first()


def live(run: Run, *, rounds: int = PATIENCE) -> int:
    """Let everybody act and time pass until nothing changes; return how many rounds that took."""
    for number in range(1, rounds + 1):
        act(run)
        if is_settled(run):
            return number
        let_time_pass(run, number)
    return rounds


def act(run: Run) -> None:
    """Let customer, providers and workers do once what they would do now. No time passes."""
    for step in (work,) if run.starts_paid else (pay, announce, work):
        _attempt(lambda step=step: step(run))


def pay(run: Run) -> None:
    """The customer asks for an address and pays; the first that BitLoot hears is that coins were seen."""
    if run.order.status != Order.Status.PENDING:
        return
    payment = start_payment(order=run.order, coin=COIN)
    if payment.external_id and not _provider_says(run, payment):
        said = {"status": "confirming", "actually_paid": str(payment.pay_amount), "silent": True}
        run.control.call(f"payments/{payment.external_id}/status", said)


def announce(run: Run) -> None:
    """NOWPayments tells of each step, and tells the old ones again when it is in doubt."""
    for payment in Payment.objects.filter(order_id=run.order_id).exclude(external_id=None):
        said = _provider_says(run, payment)
        if not said:
            continue
        send_ipn(payment, "confirming")
        _attempt(drain_webhooks)
        if said == "confirming":
            run.control.call(f"payments/{payment.external_id}/status", {"status": "finished", "silent": True})
        send_ipn(payment, "finished")


def work(run: Run) -> None:
    """Workers: each queue is looked at, and the reservation is advanced by the message that names it."""
    _attempt(drain_webhooks)
    if (reservation := run.reservation) is not None:
        _attempt(lambda: pipeline.advance(reservation.pk))
    for drain in (drain_reservations, drain_payments, drain_keys, drain_mails):
        _attempt(drain)


def let_time_pass(run: Run, number: int) -> None:
    """Move rows instead of clocks: every lease lapses and everything becomes due; the unknown grows old."""
    lapse()
    Payment.objects.filter(status="creating").update(created_at=F("created_at") - timedelta(minutes=2))
    unknown = Reservation.objects.filter(item_id=run.item_id, status="unknown")
    if number >= 3 and (not run.waits or run.control.idle()):
        unknown.update(unknown_at=Now() - (TO_ALERT if number == 3 else TO_HOLD))
    if not run.control.idle():
        time.sleep(0.02)


def lapse() -> None:
    """Make all planned work due now, also what is claimed; what a stopped worker has locked stays."""
    for model in QUEUES:
        with transaction.atomic():
            waiting = model._default_manager.filter(next_attempt_at__isnull=False).select_for_update(skip_locked=True)
            due = model._default_manager.filter(pk__in=list(waiting.values_list("pk", flat=True)))
            due.update(next_attempt_at=Now() - timedelta(seconds=1))
    SupplierGate.objects.filter(status="paused").update(probe_at=Now() - timedelta(seconds=1))


def begin(run: Run) -> None:
    """Make the order's rows due, which were put away when it was placed ahead of its turn."""
    Reservation.objects.filter(item_id=run.item_id).update(next_attempt_at=Now())
    Email.objects.filter(order_id=run.order_id, status="queued").update(next_attempt_at=Now())


def is_settled(run: Run) -> bool:
    """Return whether the order has come to rest: fulfilled with all its mails out, or with staff."""
    order, reservation = run.order, run.reservation
    if order.status == Order.Status.PENDING or reservation is None:
        return False
    if order.emails.exclude(status__in=["sent", "overtaken", "failed"]).exists():
        return False
    if order.status == Order.Status.FULFILLED:
        return not Key.objects.filter(item_id=run.item_id, status="received").exists()
    if order.status not in (Order.Status.HELD, Order.Status.REFUND_DUE) or not run.control.idle():
        return False
    # What came in the last moment is found by one more look.
    Reservation.objects.filter(pk=reservation.pk, next_attempt_at__isnull=False).update(next_attempt_at=Now())
    pipeline.advance(reservation.pk)
    return run.order.status == order.status


def send_ipn(payment: Payment, status: str) -> None:
    body = {"order_id": str(payment.order_id), "payment_id": int(payment.external_id or 0), "payment_status": status}
    raw = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    signature = hmac.new(settings.NOWPAYMENTS_IPN_SECRET[0].encode(), raw, "sha512").hexdigest()
    headers = {"x-nowpayments-sig": signature}
    _post("/api/payments/ipn", raw, headers)


def send_supplier_webhook(run: Run, status: str = "completed") -> None:
    """Kinguin announces that something happened to the order, which may be untrue."""
    body = {"orderExternalId": run.item_id, "status": status, "updatedAt": "2026-01-01T00:00:00+00:00"}
    headers = {"X-Event-Name": "order.status", "X-Event-Secret": settings.KINGUIN_WEBHOOK_SECRET[0]}
    _attempt(lambda: _post("/api/webhooks/kinguin", json.dumps(body).encode(), headers))


def prepare(behaviour: str) -> None:
    """Do to this process, or to its rows, what the behaviour asks for beyond the sandbox's own faults."""
    client = kinguin.client()
    if behaviour == "unreachable":
        client._endpoint._transport._writes = _ToNobody  # type: ignore[attr-defined]
    if behaviour == "gate was paused":
        SupplierGate.objects.update_or_create(
            pk=client.host, defaults={"status": "paused", "probe_at": Now() - timedelta(seconds=1)}
        )


class _ToNobody(HTTPAdapter):
    def send(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        request.url = "http://127.0.0.1:9/"
        return super().send(request, *args, **kwargs)


def _post(path: str, raw: bytes, headers: dict[str, str]) -> None:
    answer = Client().post(path, raw, content_type="application/json", headers=headers)
    if answer.status_code >= 300:
        logger.warning("%s was answered with %s", path, answer.status_code)


def _provider_says(run: Run, payment: Payment) -> str:
    """Return the payment's status by the provider's own books; nothing as long as it was not paid."""
    said = run.control.ledger(what="payment_status", order_id=str(payment.external_id))
    return str(said[-1]["detail"]["status"]) if said else ""


def _attempt(step: Callable[[], Any]) -> None:
    """Survive an error of BitLoot's as a customer, who tries again, or a worker, which takes the next message."""
    try:
        step()
    except Exception as err:  # noqa: BLE001 - a failpoint may raise anything anywhere
        logger.warning("a step failed: %s: %s", type(err).__name__, err)
        if not connection.is_usable():
            connection.close()


def replay(run: Run) -> None:
    """Staff press every button there is: all webhooks again, delivery again, and resume what is held."""
    payments = Payment.objects.filter(order_id=run.order_id).exclude(external_id=None)
    named = [run.item_id, *payments.values_list("external_id", flat=True)]
    for log in WebhookLog.objects.filter(external_id__in=named):
        _attempt(lambda log=log: webhooks.services.replay(log))
    _attempt(lambda: fulfillment.services.run_order(run.order, actor="staff"))
    if (reservation := run.reservation) is not None and reservation.status == Reservation.Status.HELD:
        _attempt(lambda: fulfillment.services.resume(reservation, actor="staff"))


def put_away() -> None:
    """Leave nothing to do, so that the next run finds only rows of its own."""
    for model in QUEUES:
        model._default_manager.update(next_attempt_at=None)
    SupplierGate.objects.all().delete()
