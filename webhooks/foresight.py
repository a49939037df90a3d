"""What a replay would change: the handler runs as always, and then everything that it did is undone."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.db import Error as DatabaseFailure
from django.db.models import Max, Model, Q

from bitloot.core.decisions import DecisionRefused, demand
from bitloot.core.money import plain
from bitloot.core.providers import OverBudget, ProviderError
from bitloot.core.rehearsal import NotRehearsed, rehearse
from fulfillment.models import Reservation
from orders.models import Alert, Email, Order, OrderEvent
from payments.exceptions import UnknownPayment
from payments.models import Payment, Refund
from webhooks.choosing import names_beside
from webhooks.handlers import HANDLERS
from webhooks.models import Verdict, WebhookLog
from webhooks.services import objection_to_replay

NOTHING = "Nothing would change"


@dataclass(frozen=True)
class Foreseen:
    verdict: Verdict
    text: str


def foresee(log: WebhookLog) -> Foreseen:
    """Return what a replay would do now; providers are read, and nothing is changed, mailed or bought.

    Raises DecisionRefused for what would not be replayed, and OverBudget while the provider must not be asked.
    """
    demand(objection_to_replay(log))
    return rehearse(partial(_handled, log))


def foreseen_or_left(log: WebhookLog) -> tuple[str, str]:
    """Return verdict and text, also for what would not be replayed. Raises OverBudget."""
    try:
        seen = foresee(log)
    except DecisionRefused as err:
        return Verdict.LEFT.value, str(err)
    return seen.verdict.value, seen.text


def _handled(log: WebhookLog) -> Foreseen:
    before = _Before(log)
    try:
        outcome = HANDLERS[log.provider](log).text
    except OverBudget:
        # Nothing was foreseen: the run waits for room, and rehearses this webhook then.
        raise
    except (ProviderError, UnknownPayment) as err:
        return Foreseen(Verdict.WAITING, f"It would wait and try again: {err}")
    except (NotRehearsed, DatabaseFailure) as err:
        return Foreseen(Verdict.LEFT, f"It cannot be foreseen: {err}")
    except Exception as err:  # noqa: BLE001 - exactly what the replay would run into
        return Foreseen(Verdict.FAILED, f"It would fail: {type(err).__name__}: {err}")
    changes = list(before.changes())
    if not changes:
        return Foreseen(Verdict.NOTHING, f"{NOTHING}. Its handler says: {outcome}.")
    return Foreseen(Verdict.WOULD, "\n".join([*changes, f"Its handler says: {outcome}."]))


class _Before:
    """How things stood before the handler ran; read again afterwards, in the same transaction."""

    def __init__(self, log: WebhookLog) -> None:
        self._names = names_beside(log.external_id) if log.external_id else []
        self._newest = {model: _newest(model) for model in (OrderEvent, Email, Alert)}
        self._known = {pk for model in (Refund, Reservation) for pk in self._of_orders(model)}
        self._payments = {row.pk: _payment(row) for row in self._payments_now()}
        self._due = {row.pk: row.next_attempt_at for row in self._purchases_now()}

    def changes(self) -> Iterator[str]:
        for payment in self._payments_now():
            if (now := _payment(payment)) != (then := self._payments.get(payment.pk, "not known here")):
                yield f"Payment {payment.external_id}: {then} → {now}."
        orders = self._orders()
        for event in self._new(OrderEvent, orders).order_by("pk"):
            moved = f" ({event.from_status or 'new'} → {event.to_status})" if event.to_status else ""
            yield f"Timeline: {event.message}{moved}"
        yield from self._opened(orders)
        for purchase in self._purchases_now():
            if purchase.pk in self._due and purchase.next_attempt_at != self._due[purchase.pk]:
                yield f"A worker would take the next step of {purchase} ({purchase.status}) at once."
        yield from self._told(orders)

    def _opened(self, orders: set[Any]) -> Iterator[str]:
        for purchase in Reservation.objects.filter(item__order__in=orders).exclude(pk__in=self._known):
            yield f"A purchase would begin: {purchase.quantity} x {purchase.item.title}."
        for refund in Refund.objects.filter(order__in=orders).exclude(pk__in=self._known):
            yield f"A refund would be opened: {refund.coins}."

    def _told(self, orders: set[Any]) -> Iterator[str]:
        for mail in self._new(Email, orders).exclude(kind=Email.Kind.ALERT):
            # Kept with the run for as long as that: the address is not.
            yield f"Mail to the customer: “{mail.get_kind_display()}”."
        about = [str(row.pk) for row in (*self._payments_now(), *self._purchases_now())]
        for alert in Alert.objects.filter(Q(order__in=orders) | Q(about_pk__in=about), pk__gt=self._newest[Alert]):
            yield f"Alert “{alert.get_kind_display()}”: {alert.message}"

    def _new(self, model: Any, orders: set[Any]) -> Any:
        return model.objects.filter(order__in=orders, pk__gt=self._newest[model])

    def _payments_now(self) -> list[Payment]:
        return list(Payment.objects.filter(external_id__in=self._names))

    def _purchases_now(self) -> list[Reservation]:
        names = Q(external_id__in=self._names) | Q(supplier_order_id__in=self._names)
        return list(Reservation.objects.filter(names).select_related("item"))

    def _orders(self) -> set[Any]:
        return {row.order_id for row in self._payments_now()} | {row.item.order_id for row in self._purchases_now()}

    def _of_orders(self, model: Any) -> list[Any]:
        path = "item__order__in" if model is Reservation else "order__in"
        return list(model.objects.filter(**{path: self._orders()}).values_list("pk", flat=True))


def _newest(model: type[Model]) -> int:
    return int(model._default_manager.aggregate(last=Max("pk"))["last"] or 0)


def _payment(row: Payment) -> str:
    order: str = Order.objects.values_list("status", flat=True).get(pk=row.order_id)
    reason = f", {row.reason}" if row.reason else ""
    arrived = f"{plain(row.actually_paid)} {row.pay_currency.upper()} arrived"
    return f"{row.status}{reason}, {arrived}, its order {order}"
