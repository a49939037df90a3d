"""What happened to an order, as one story: timeline, webhooks, answers of the supplier, mails, openings, staff."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby, islice
from operator import attrgetter
from typing import Any

from django.contrib.admin.models import LogEntry
from django.db.models import Q
from django.http import HttpRequest

from bitloot.core.admin.base import MAX_INLINES, may_view
from bitloot.core.admin.formatting import age, in_words, link, state_badge
from fulfillment.models import SupplierCall
from orders.admin import change_of
from orders.models import Email, Order, OrderEvent
from storage.models import KeyAccess
from webhooks.models import WebhookLog

_WAYS = {"mail": "a mailed link", "api": "the order's page, or a program"}


@dataclass(frozen=True)
class Line:
    at: datetime
    kind: str  # names the icon and its colour
    text: str
    state: str = ""
    actor: str = ""
    link: str = ""
    times: int = 1  # of a run that was folded; `at` is the last one's

    @property
    def when(self) -> str:
        return age(self.at)


@dataclass(frozen=True)
class Around:
    """The rows that an order hangs on, by whose names other tables know it."""

    order: Order
    payments: Sequence[Any]
    purchases: Sequence[Any]
    rows: Sequence[Any]  # all that staff decide about, the order among them

    @property
    def external_ids(self) -> list[str]:
        names = [payment.external_id for payment in self.payments]
        names += [name for purchase in self.purchases for name in (purchase.external_id, purchase.supplier_order_id)]
        return [name for name in names if name]


def story_of(request: HttpRequest, around: Around) -> dict[str, Any]:
    """Return the newest lines of each kind that they may see, newest first."""
    found = [_newest(lines(around)) for model, lines in _SOURCES if may_view(request, model)]
    lines = sorted((line for part in found for line in part), key=attrgetter("at"), reverse=True)
    return {"lines": list(_folded(lines)), "most": MAX_INLINES if any(len(p) == MAX_INLINES for p in found) else 0}


def _newest(lines: Iterator[Line]) -> list[Line]:
    return list(islice(lines, MAX_INLINES))


def _folded(lines: Iterable[Line]) -> Iterator[Line]:
    """Make one line of the same thing that happened several times in a row."""
    for _, run in groupby(lines, key=lambda line: (line.kind, line.text, line.state, line.actor)):
        same = list(run)
        yield replace(same[0], times=sum(line.times for line in same))


def _events(around: Around) -> Iterator[Line]:
    for event in OrderEvent.objects.filter(order=around.order).order_by("-pk")[:MAX_INLINES]:
        yield Line(event.at, event.kind_in_words, event.message, change_of(event), event.actor)


def _webhooks(around: Around) -> Iterator[Line]:
    logs = WebhookLog.objects.filter(external_id__in=around.external_ids).defer("body").order_by("-pk")
    for log in logs[:MAX_INLINES]:
        outcome = log.outcome if log.status == WebhookLog.Status.FAILED else in_words(log.outcome)
        text = f"{log.get_provider_display()} sent “{log.event_type or 'no type'}”: {outcome or 'not handled yet'}"
        yield Line(log.received_at, "webhook", text, state_badge(log), link=link(log, "open"), times=1 + log.repeats)


def _calls(around: Around) -> Iterator[Line]:
    calls = SupplierCall.objects.filter(reservation__in=around.purchases).order_by("-pk")
    for call in calls[:MAX_INLINES]:
        answer = "answered" if call.outcome == "ok" else call.detail or call.outcome
        yield Line(call.at, "supplier", f"Call “{call.call}” to the supplier: {answer}")


def _mails(around: Around) -> Iterator[Line]:
    for mail in Email.objects.filter(order=around.order).order_by("-pk")[:MAX_INLINES]:
        text = f"Mail {mail}"
        yield Line(mail.sent_at or mail.created_at, "mail", text, state_badge(mail), link=link(mail, "open"))


def _openings(around: Around) -> Iterator[Line]:
    for access in KeyAccess.objects.filter(order=around.order).order_by("-pk")[:MAX_INLINES]:
        way = _WAYS.get(access.token, access.token)
        what = f"Key {str(access.key_id)[:8]} was opened with {way} from {access.network}"
        yield Line(access.at, "opened", f"{what}, {access.agent}" if access.agent else what)


def _staff(around: Around) -> Iterator[Line]:
    # By id without a type: ids are random UUIDs, so no other table has the same.
    about = Q(object_id__in=[str(row.pk) for row in around.rows])
    for entry in LogEntry.objects.filter(about).select_related("user").order_by("-pk")[:MAX_INLINES]:
        yield Line(entry.action_time, "staff", entry.get_change_message(), actor=entry.user.get_username())


_SOURCES: tuple[tuple[Any, Callable[[Around], Iterator[Line]]], ...] = (
    (OrderEvent, _events),
    (WebhookLog, _webhooks),
    (SupplierCall, _calls),
    (Email, _mails),
    (KeyAccess, _openings),
    (LogEntry, _staff),
)
