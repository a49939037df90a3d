"""What is forgotten when its time is over, in batches that may end and begin again anywhere. The ledger's rows stay."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone
from knox.models import AuthToken

from bitloot.core.faults import failpoint
from bitloot.partners.models import OutgoingWebhook
from orders import covers
from orders.choices import AlertKind
from orders.erasure import STAND_IN_HOST, erase_address, pseudonym
from orders.models import Alert, Email, Order, Product
from payments.models import Payment, Refund
from storage.models import KeyAccess
from webhooks.models import WebhookLog

BATCH = 500
ENDED_UNPAID = (Order.Status.EXPIRED, Order.Status.CANCELLED)
ENDED = (*ENDED_UNPAID, Order.Status.FULFILLED, Order.Status.REFUNDED)


@dataclass(frozen=True)
class Rule:
    """Rows that are due to be forgotten, and how; `setting` says after how many days."""

    name: str
    what: str
    due: Callable[[Any], QuerySet[Any]]  # the rows older than this moment
    forget: Callable[[QuerySet[Any]], int]
    setting: str = ""

    @property
    def days(self) -> int:
        return getattr(settings, self.setting) if self.setting else 0

    def count(self) -> int:
        return self.rows().count()

    def prune(self, *, batch: int = BATCH) -> Iterator[int]:
        """Forget what is due; yield how many rows after each batch, once they are committed."""
        # By primary key: a row that a rule leaves as it is must not come up again, or this would never end.
        rest = due = self.rows().order_by("pk")
        while pks := list(rest.values_list("pk", flat=True)[:batch]):
            with transaction.atomic():
                # Asked for again by the rule itself: since the list was read, some may have stopped being due.
                forgotten = self.forget(self.rows().filter(pk__in=pks))
                failpoint("prune.forgotten")
            rest = due.filter(pk__gt=pks[-1])
            yield forgotten

    def rows(self) -> QuerySet[Any]:
        return self.due(Now() - timedelta(days=self.days))


@dataclass(frozen=True)
class Covers:
    """Files of covers that no product names: it was given another one, or is gone."""

    name: str = "covers"
    what: str = "files of covers that no product has"
    setting: str = ""
    # A cover is stored before the product that names it is saved, and pages that were read may still show it.
    days: int = 1

    def count(self) -> int:
        return sum(1 for _ in self._files())

    def prune(self, *, batch: int = BATCH) -> Iterator[int]:
        """Remove the files that are due, one by one; `batch` is for rows. Raises OSError."""
        for file in self._files():
            covers.forget(file)
            yield 1

    def _files(self) -> Iterator[str]:
        named = set(Product.objects.exclude(picture="").values_list("picture", flat=True))
        return covers.unnamed(named, before=timezone.now() - timedelta(days=self.days))


def prune_all(*, of_owner: bool) -> dict[str, int]:
    """Forget everything that is due; return how many rows by the rule's name. Rows need the owner of the tables."""
    rules = RULES if of_owner else (COVERS,)
    return {rule.name: sum(rule.prune()) for rule in rules}


def without_money(orders: QuerySet[Order]) -> QuerySet[Order]:
    """Leave only orders that no money came for and none can come for any more, as far as the provider says."""
    payments = Payment.objects.filter(order=OuterRef("pk"))
    some = payments.filter(Q(actually_paid__gt=0) | Q(status__in=[*Payment.OPEN, Payment.Status.REVIEW]))
    watched = payments.filter(next_attempt_at__isnull=False)
    refunds = Refund.objects.filter(order=OuterRef("pk"))
    return orders.filter(~Exists(some), ~Exists(watched), ~Exists(refunds), paid_at=None)


def _webhook_bodies(before: Any) -> QuerySet[WebhookLog]:
    # What failed is kept: its body is what a replay needs.
    done = (WebhookLog.Status.PROCESSED, WebhookLog.Status.IGNORED)
    rows = WebhookLog.objects.filter(status__in=done, received_at__lt=before, next_attempt_at=None, claim_token=None)
    return rows.exclude(body=b"")


def _forget_bodies(rows: QuerySet[WebhookLog]) -> int:
    return rows.update(body=b"", headers={})


def _unpaid_addresses(before: Any) -> QuerySet[Order]:
    ended = Order.objects.filter(status__in=ENDED_UNPAID, created_at__lt=before, expires_at__lt=before)
    return without_money(ended.exclude(email__endswith=STAND_IN_HOST))


def _forget_addresses(rows: QuerySet[Order]) -> int:
    locked = list(Order.objects.select_for_update(no_key=True).filter(pk__in=rows.values("pk")).order_by("pk"))
    # Looked at once more under the locks: late coins may have come for one of them just now.
    still = set(rows.values_list("pk", flat=True))
    erased = [order for order in locked if order.pk in still]
    for order in erased:
        erase_address(order, stand_in=pseudonym())
    return len(erased)


def _mails(before: Any) -> QuerySet[Email]:
    # While its alert is open, staff may still send a failed mail again.
    waiting = Alert.objects.filter(kind=AlertKind.MAIL_FAILED, status=Alert.Status.OPEN, about_model="orders.email")
    over = (Email.Status.SENT, Email.Status.FAILED)
    mails = Email.objects.filter(status__in=over, created_at__lt=before, next_attempt_at=None, claim_token=None)
    # By a subquery: with a join, the DELETE would choose the mails beforehand, and PostgreSQL would not look again at
    # one that staff queue once more meanwhile.
    ended = mails.filter(Q(order=None) | Q(order__in=Order.objects.filter(status__in=ENDED)))
    return ended.exclude(pk__in=[int(pk) for pk in waiting.values_list("about_pk", flat=True)])


def _outgoing(before: Any) -> QuerySet[OutgoingWebhook]:
    ended = OutgoingWebhook.objects.filter(status__in=OutgoingWebhook.ENDED, next_attempt_at=None, claim_token=None)
    return ended.filter(created_at__lt=before)


def _key_accesses(before: Any) -> QuerySet[KeyAccess]:
    return KeyAccess.objects.filter(at__lt=before)


def _sessions(before: Any) -> QuerySet[Session]:
    return Session.objects.filter(expire_date__lt=before)


def _staff_tokens(before: Any) -> QuerySet[Any]:
    return AuthToken.objects.filter(expiry__lt=before)


def _delete(rows: QuerySet[Any]) -> int:
    return rows.delete()[0]


COVERS = Covers()
# Covers last: an object store that does not answer keeps nothing else from being forgotten.
RULES: tuple[Rule | Covers, ...] = (
    Rule("webhook_bodies", "bodies of webhooks", _webhook_bodies, _forget_bodies, "WEBHOOK_RETENTION_DAYS"),
    Rule("outgoing_webhooks", "webhooks sent to shops", _outgoing, _delete, "WEBHOOK_RETENTION_DAYS"),
    Rule("unpaid_emails", "addresses of orders nobody paid", _unpaid_addresses, _forget_addresses,
         "UNPAID_EMAIL_RETENTION_DAYS"),
    Rule("mails", "mails that were sent or failed", _mails, _delete, "MAIL_RETENTION_DAYS"),
    Rule("key_accesses", "openings of keys", _key_accesses, _delete, "KEY_ACCESS_RETENTION_DAYS"),
    Rule("sessions", "sessions that ended", _sessions, _delete),
    Rule("staff_tokens", "API tokens of staff that ended", _staff_tokens, _delete),
    COVERS,
)  # fmt: skip
