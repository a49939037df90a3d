"""What staff may decide about an order and its alerts."""

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils.translation import gettext_noop

from bitloot.core import wakeup
from bitloot.core.decisions import Decision, DecisionRefused, ReasonForm, demand, nothing_against
from orders.alerts import STAFF_MAIL, close_alert, raise_alert
from orders.choices import AlertKind, OrderReason
from orders.exceptions import OrderRefused
from orders.mailboxes import MailboxField, tidy
from orders.models import Alert, Email, Order
from orders.services import correct_address, queue_email, renew_link

CAN_BE_HELD = ("pending", "underpaid", "paid", "fulfilling", "partially_fulfilled")
# Statuses of payments, as the timeline has them: this app must not import the one above it.
ARRIVED = ("partially_paid", "finished")
SEEN = ("confirming", "confirmed", "sending", *ARRIVED)
CLOSED_ALREADY = "It is closed already."
SAME_ADDRESS = "The order has this address already. To mail a link there, press “Mail a fresh link”."
ON_ITS_WAY = "It has not left yet. BitLoot keeps trying for a day."


class CorrectionForm(ReasonForm):
    email = MailboxField(max_length=254, label="Correct e-mail address")
    field_order = ("email", "reason")


def objection_to_holding(order: Order) -> str | None:
    if order.status == Order.Status.HELD:
        return "It is held already."
    return None if order.status in CAN_BE_HELD else f"An order that is {_state(order)} cannot be held."


def hold(order: Order, *, actor: str, reason: str) -> None:
    """Stop the order until staff decide; an alert stays open for it. Raises DecisionRefused."""
    with transaction.atomic():
        order = order.lock()
        demand(objection_to_holding(order))
        order.hold(
            reason=OrderReason.HELD_BY_STAFF,
            message=gettext_noop("Our staff stopped this order to look at it."),
            actor=actor,
        )
        message = f"{actor} holds {order}: {reason.rstrip('.')}. Decide about it."
        raise_alert(AlertKind.ORDER_HELD, order, message, order=order)
        order.note("staff", reason, actor=actor)


def objection_to_releasing(order: Order) -> str | None:
    if order.status != Order.Status.HELD:
        return f"It is {_state(order)}, not held."
    if order.reason != OrderReason.HELD_BY_STAFF:
        return "Staff do not hold it. Decide about its purchase or its payment instead."
    return None


def release(order: Order, *, actor: str, reason: str) -> None:
    """Let an order that staff held continue: one that is not paid can be paid again. Raises DecisionRefused."""
    with transaction.atomic():
        order = order.lock()
        demand(objection_to_releasing(order))
        if order.paid_at is None:
            order.undo_hold(to=status_before_hold(order), actor=actor)
        else:
            order.mark_fulfilling()
        _settled(order, actor=actor, reason=reason)


def status_before_hold(order: Order) -> str:
    """Return the status in which an unpaid order that is held can be paid again."""
    # Only the timeline remembers where a held order came from.
    held = order.events.filter(kind=Order.TIMELINE_KIND, to_status=Order.Status.HELD).order_by("-pk").first()
    was_underpaid = held is not None and held.from_status == Order.Status.UNDERPAID
    return Order.Status.UNDERPAID if was_underpaid else Order.Status.PENDING


def correct_email(order: Order, *, actor: str, email: str, reason: str) -> None:
    """Correct the customer's address. Raises DecisionRefused."""
    with transaction.atomic():
        order = order.lock()
        # Under the lock: of two who make the same correction at once only one mails the new link.
        demand(SAME_ADDRESS if tidy(email).lower() == order.email.lower() else None)
        try:
            correct_address(order, email=email, actor=actor, reason=reason)
        except OrderRefused as err:
            raise DecisionRefused(str(err)) from err


def correction_takes_two(order: Order, _fields: Mapping[str, Any]) -> bool:
    """Whether the keys that the new address opens are worth a second member of staff."""
    return order.paid_at is not None and order.total > settings.APPROVAL_LIMIT


def objection_to_sending_again(mail: Email) -> str | None:
    return None if mail.status in (Email.Status.SENT, Email.Status.FAILED) else ON_ITS_WAY


def send_again(mail: Email, *, actor: str) -> None:
    """Owe a mail that was sent or failed once more; it is rendered afresh. Raises DecisionRefused."""
    with transaction.atomic():
        demand(None if mail.mark_queued_again() else ON_ITS_WAY)
        if mail.order is not None:
            mail.order.note("staff", f"The mail “{mail.get_kind_display()}” is sent again.", actor=actor)
        close_alert(AlertKind.MAIL_FAILED, STAFF_MAIL if mail.kind == Email.Kind.ALERT else mail, by=actor)
        wakeup.notify("orders")


def objection_to_cancelling(order: Order) -> str | None:
    if Order.Status.CANCELLED not in Order.TRANSITIONS[order.status]:
        return f"An order that is {_state(order)} cannot be cancelled."
    if _saw_payment(order, *SEEN):
        return "Money for it was seen, so it cannot be cancelled. Give the money back."
    return "A payment of it is in review. Decide about that payment first." if _in_review(order) else None


def cancel(order: Order, *, actor: str, reason: str) -> None:
    """End an order for which no money was seen. Raises DecisionRefused."""
    with transaction.atomic():
        order = order.lock()
        demand(objection_to_cancelling(order))
        order.cancel(message=gettext_noop("Our staff cancelled this order."), actor=actor)
        queue_email(order, Email.Kind.CANCELLED)
        _settled(order, actor=actor, reason=reason)


def objection_to_giving_back(order: Order) -> str | None:
    if Order.Status.REFUND_DUE not in Order.TRANSITIONS[order.status]:
        return f"The money of an order that is {_state(order)} cannot go back from here."
    return None if _saw_payment(order, *ARRIVED) or _in_review(order) else "No money arrived for it."


def give_back(order: Order, *, actor: str, reason: str) -> None:
    """Owe the customer the money of every payment; what was not bought stays unbought. Raises DecisionRefused."""
    with transaction.atomic():
        order = order.lock()
        demand(objection_to_giving_back(order))
        message = gettext_noop("The money for this order goes back.")
        order.mark_refund_due(reason=OrderReason.DECIDED_BY_STAFF, message=message, actor=actor)
        _settled(order, actor=actor, reason=reason)


def objection_to_closing(alert: Alert) -> str | None:
    return None if alert.status == Alert.Status.OPEN else CLOSED_ALREADY


def close(alert: Alert, *, actor: str) -> None:
    """Close an alert that staff took care of. Raises DecisionRefused."""
    # Instead of a lock: of two who close it at once, Alert.close lets only the first.
    demand(None if alert.close(by=actor) else CLOSED_ALREADY)


def _state(order: Order) -> str:
    return f"“{order.get_status_display().lower()}”"


def _saw_payment(order: Order, *steps: str) -> bool:
    return order.paid_at is not None or order.events.filter(kind="payment", to_status__in=steps).exists()


def _in_review(order: Order) -> bool:
    """Whether a payment went to review and was not ended there: staff may only end one for which nothing arrived."""
    steps = order.events.filter(kind="payment")
    return steps.filter(to_status="review").count() > steps.filter(from_status="review", to_status="cancelled").count()


def _settled(order: Order, *, actor: str, reason: str) -> None:
    """Keep the reason where the customer does not read it; the order waits for staff no longer."""
    order.note("staff", reason, actor=actor)
    close_alert(AlertKind.ORDER_HELD, order, by=actor)


HOLD = Decision(
    name="hold",
    label="Hold",
    permission="orders.hold_order",
    objection=objection_to_holding,
    carry_out=hold,
    form=ReasonForm,
    consequence="The order stops until staff decide; an alert stays open for it.",
    done="held. Nothing more is bought for it until you decide; purchases already sent are still followed.",
)
RELEASE = Decision(
    name="release",
    label="Let it continue",
    permission="orders.release_order",
    objection=objection_to_releasing,
    carry_out=release,
    form=ReasonForm,
    consequence="The order continues where it was held, at today's price and cap. One that is not paid can be paid"
    " again, for 24 hours.",
    done="released. If it is paid, what it waits for is bought within a minute; if not, the customer can pay it again.",
)
CANCEL = Decision(
    name="cancel",
    label="Cancel",
    permission="orders.cancel_order",
    objection=objection_to_cancelling,
    carry_out=cancel,
    form=ReasonForm,
    consequence="The order ends. No money was seen for it; money that still arrives goes to manual review.",
    done="cancelled. Money that still arrives for it goes to manual review.",
)
GIVE_BACK = Decision(
    name="money-back",
    label="Give the money back",
    permission="orders.refund_order",
    objection=objection_to_giving_back,
    carry_out=give_back,
    form=ReasonForm,
    consequence="Every payment of this order gets a refund, and keys not bought yet will not be bought. Keys that the"
    " customer has stay with them.",
    done="the refund is due. The customer is asked for an address for each payment.",
)
CORRECT_EMAIL = Decision(
    name="correct-email",
    label="Correct the e-mail address",
    permission="orders.correct_email",
    objection=nothing_against,
    carry_out=correct_email,
    form=CorrectionForm,
    initial=lambda order: {"email": order.email},
    needs_second=correction_takes_two,
    consequence="Every link mailed so far stops working. The new address gets a link to the order and its keys; the old"
    " one gets a note without a link.",
    done="corrected. The new address gets a fresh link, the old one a note; older links no longer open the order.",
)
SEND_AGAIN = Decision(
    name="send_again",
    label="Send again",
    permission="orders.resend_email",
    objection=objection_to_sending_again,
    carry_out=send_again,
    done="queued again; it is written afresh and leaves within a minute",
)
MAIL_FRESH_LINK = Decision(
    name="mail_fresh_link",
    label="Mail a fresh link",
    permission="orders.renew_link",
    objection=nothing_against,
    carry_out=renew_link,
    done="a fresh link goes to the customer; older links no longer open the order",
)
CLOSE = Decision(
    name="close",
    label="Close: it is taken care of",
    permission="orders.close_alert",
    objection=objection_to_closing,
    carry_out=close,
    done="closed; it opens again, with a mail, if the same thing happens again",
)
