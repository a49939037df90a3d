"""What we know of a customer, for the customer; and its end. The order stays in the books, without the name."""

from collections.abc import Iterable
from typing import Any

from django.contrib.admin.models import LogEntry
from django.db import transaction
from django.db.models import Q, QuerySet

from bitloot.core.decisions import DecisionRefused
from bitloot.ops.retention import ENDED
from orders.erasure import erase_address, erase_in_approvals, pseudonym, replace_text
from orders.mailboxes import tidy
from orders.models import Approval, Email, Order
from payments.models import Payment, Refund, RefundAddress
from storage.models import Key, KeyAccess, KeyDeliveryLog

ORDER = ("id", "email", "status", "total", "currency", "created_at", "expires_at", "paid_at", "fulfilled_at")
ITEM = ("title", "quantity", "unit_price")
EVENT = ("at", "kind", "from_status", "to_status", "message")
PAYMENT = (
    "id", "external_id", "status", "price_amount", "price_currency", "pay_amount", "pay_currency", "pay_address",
    "payin_extra_id", "actually_paid", "created_at", "expires_at", "finished_at",
)  # fmt: skip
REFUND = ("id", "status", "kind", "amount", "currency", "transaction_id", "created_at", "sent_at", "done_at")
REFUND_ADDRESS = ("refund_id", "address", "extra_id", "given_at", "client")
MAIL = ("kind", "to", "status", "reason", "facts", "created_at", "sent_at")
# Neither the key nor what opens it: the customer's page hands those out.
KEY = ("id", "status", "content_type", "received_at", "viewed_at", "shredded_at")
DELIVERY = ("key_id", "status", "created_at", "expires_at", "last_accessed_at", "times_accessed", "opened_at")
ACCESS = ("key_id", "at", "network", "agent")


def orders_of(email: str) -> QuerySet[Order]:
    return Order.objects.filter(email__iexact=tidy(email)).order_by("created_at", "pk")


def export_customer(email: str) -> dict[str, Any]:
    """Return everything we keep about this address, as JSON would have it; no key and no link is in it."""
    elsewhere = Email.objects.filter(to__iexact=tidy(email)).exclude(order__in=orders_of(email))
    return {
        "email": tidy(email),
        "orders": [export_order(order) for order in orders_of(email)],
        # Of orders whose address was corrected since: only what was written there.
        "other_mails": list(elsewhere.exclude(kind=Email.Kind.ALERT).order_by("pk").values(*MAIL)),
    }


def export_order(order: Order) -> dict[str, Any]:
    """Return everything we keep about an order, without its keys."""
    of_order: dict[str, tuple[QuerySet[Any], Iterable[str]]] = {
        "items": (order.items.all(), ITEM),
        "timeline": (order.events.order_by("pk"), EVENT),
        "payments": (Payment.objects.filter(order=order).order_by("created_at"), PAYMENT),
        "refunds": (Refund.objects.filter(order=order).order_by("created_at"), REFUND),
        "refund_addresses": (RefundAddress.objects.filter(refund__order=order), REFUND_ADDRESS),
        "mails": (order.emails.exclude(kind=Email.Kind.ALERT).order_by("pk"), MAIL),
        "keys": (Key.objects.filter(item__order=order), KEY),
        "deliveries": (KeyDeliveryLog.objects.filter(order=order).order_by("pk"), DELIVERY),
        "key_accesses": (KeyAccess.objects.filter(order=order).order_by("pk"), ACCESS),
    }
    own = {name: getattr(order, name) for name in ORDER}
    return own | {name: list(rows.values(*columns)) for name, (rows, columns) in of_order.items()}


def objection_to_erasing(order: Order) -> str | None:
    if order.status not in ENDED:
        return f"{order} is “{order.get_status_display().lower()}”. Finish or cancel it first."
    open_payment = Q(status__in=[*Payment.OPEN, Payment.Status.REVIEW]) | Q(next_attempt_at__isnull=False)
    if Payment.objects.filter(open_payment, order=order).exists():
        return f"Money may still come for {order}: one of its payments has not ended. Try again in a week."
    if Refund.objects.filter(order=order).exclude(status=Refund.Status.DONE).exists():
        return f"A refund of {order} has not arrived yet. Finish it first."
    if order.approvals.filter(status=Approval.Status.WAITING).exists():
        # Approved afterwards, it could bring an address back.
        return f"A decision about {order} waits for a second member of staff. Approve or decline it first."
    return None


@transaction.atomic
def erase_customer(email: str, *, actor: str) -> int:
    """Let a stand-in take the address's place in every row; return how many orders had it.

    All or nothing. Raises DecisionRefused while one of the orders is open.
    """
    email, stand_in = tidy(email), pseudonym()
    _lock_all_that_name(email)
    orders = list(orders_of(email).order_by("pk"))
    if objections := [objection for order in orders if (objection := objection_to_erasing(order))]:
        raise DecisionRefused(" ".join(objections))
    for order in orders:
        erase_address(order, stand_in=stand_in)
        KeyAccess.objects.filter(order=order).update(network="", agent="")
        RefundAddress.objects.filter(refund__order=order).update(client="")
        KeyDeliveryLog.objects.filter(order=order).update(customer_email=stand_in)
        order.note("staff", "The customer's personal data was erased.", actor=actor)
    _erase_elsewhere(email, stand_in)
    return len(orders)


def _lock_all_that_name(email: str) -> None:
    """Lock every order with a row that names the address, also one whose address was corrected since."""
    named = (
        orders_of(email).values_list("pk", flat=True),
        Email.objects.filter(to__iexact=email).values_list("order_id", flat=True),
        KeyDeliveryLog.objects.filter(customer_email__iexact=email).values_list("order_id", flat=True),
    )
    # Before any row of theirs, as everywhere: who opens a key of such an order holds the order, then wants the rows.
    # The same lock as `Order.lock`: writing a row that refers to one of these orders does not wait for it.
    orders = Order.objects.filter(pk__in=set().union(*named)).order_by("pk")
    list(orders.select_for_update(no_key=True).values_list("pk"))


def _erase_elsewhere(email: str, stand_in: str) -> None:
    """Erase the address where others' orders and the staff log write it."""
    KeyDeliveryLog.objects.filter(customer_email__iexact=email).update(customer_email=stand_in)
    corrected = Order.objects.filter(pk__in=Email.objects.filter(to__iexact=email).values("order"))
    for order in corrected:
        replace_text(order.events.all(), "message", email, stand_in)
    Email.objects.filter(to__iexact=email).exclude(kind=Email.Kind.ALERT).update(to=stand_in)
    # A correction that was declined typed an address that no order ever had. All are looked through: they are few.
    erase_in_approvals(Approval.objects.all(), email, stand_in=stand_in)
    for column in ("change_message", "object_repr"):
        replace_text(LogEntry.objects.all(), column, email, stand_in)
