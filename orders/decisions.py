"""What staff may decide about an order and its alerts."""

from django.db import transaction

from bitloot.core.decisions import Decision, ReasonForm, demand, nothing_against
from orders.alerts import close_alert, raise_alert
from orders.choices import AlertKind, OrderReason
from orders.models import Alert, Order
from orders.services import renew_link

CAN_BE_HELD = ("pending", "underpaid", "paid", "fulfilling", "partially_fulfilled")
ARRIVED = ("partially_paid", "review", "finished")
SEEN = ("confirming", "confirmed", "sending", *ARRIVED)
CLOSED_ALREADY = "It is closed already."


def objection_to_holding(order: Order) -> str | None:
    if order.status == Order.Status.HELD:
        return "It is held already."
    return None if order.status in CAN_BE_HELD else f"An order that is {_state(order)} cannot be held."


def hold(order: Order, *, actor: str, reason: str) -> None:
    """Stop the order until staff decide; an alert stays open for it. Raises DecisionRefused."""
    with transaction.atomic():
        order = order.lock()
        demand(objection_to_holding(order))
        order.hold(reason=OrderReason.HELD_BY_STAFF, message="Our staff stopped this order to look at it.", actor=actor)
        message = f"{actor} holds {order}: {reason.rstrip('.')}. Decide about it."
        raise_alert(AlertKind.ORDER_HELD, order, message, order=order)
        order.note("staff", reason, actor=actor)


def objection_to_releasing(order: Order) -> str | None:
    if order.status != Order.Status.HELD:
        return f"It is {_state(order)}, not held."
    if order.reason != OrderReason.HELD_BY_STAFF:
        return "Staff do not hold it. Decide about its purchase or its payment instead."
    return None if order.paid_at is not None else "It is not paid. Cancel it, or wait until it expires."


def release(order: Order, *, actor: str, reason: str) -> None:
    """Let an order that staff held continue. Raises DecisionRefused."""
    with transaction.atomic():
        order = order.lock()
        demand(objection_to_releasing(order))
        order.mark_fulfilling()
        _settled(order, actor=actor, reason=reason)


def objection_to_cancelling(order: Order) -> str | None:
    if Order.Status.CANCELLED not in Order.TRANSITIONS[order.status]:
        return f"An order that is {_state(order)} cannot be cancelled."
    return (
        "Money for it was seen, so it cannot be cancelled. Give the money back." if _saw_payment(order, *SEEN) else None
    )


def cancel(order: Order, *, actor: str, reason: str) -> None:
    """End an order for which no money was seen. Raises DecisionRefused."""
    with transaction.atomic():
        order = order.lock()
        demand(objection_to_cancelling(order))
        order.cancel(message="Our staff cancelled this order.", actor=actor)
        _settled(order, actor=actor, reason=reason)


def objection_to_giving_back(order: Order) -> str | None:
    if Order.Status.REFUND_DUE not in Order.TRANSITIONS[order.status]:
        return f"The money of an order that is {_state(order)} cannot go back from here."
    return None if _saw_payment(order, *ARRIVED) else "No money arrived for it."


def give_back(order: Order, *, actor: str, reason: str) -> None:
    """Owe the customer the money of every payment; what was not bought stays unbought. Raises DecisionRefused."""
    with transaction.atomic():
        order = order.lock()
        demand(objection_to_giving_back(order))
        message = "The money for this order goes back."
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


def _settled(order: Order, *, actor: str, reason: str) -> None:
    """Keep the reason where the customer does not read it; the order waits for staff no longer."""
    order.note("staff", reason, actor=actor)
    close_alert(AlertKind.ORDER_HELD, order, by=actor)


HOLD = Decision(
    name="hold",
    label="Hold",
    permission="orders.settle_order",
    objection=objection_to_holding,
    carry_out=hold,
    form=ReasonForm,
    consequence="The order stops until staff decide; an alert stays open for it.",
    done="held. Nothing more is bought for it until you decide; purchases already sent are still followed.",
)
RELEASE = Decision(
    name="release",
    label="Let it continue",
    permission="orders.settle_order",
    objection=objection_to_releasing,
    carry_out=release,
    form=ReasonForm,
    consequence="The order continues where it was held, at today's price and cap.",
    done="released. What it waits for is bought within a minute.",
)
CANCEL = Decision(
    name="cancel",
    label="Cancel",
    permission="orders.settle_order",
    objection=objection_to_cancelling,
    carry_out=cancel,
    form=ReasonForm,
    consequence="The order ends. No money was seen for it; money that still arrives goes to manual review.",
    done="cancelled. Money that still arrives for it goes to manual review.",
)
GIVE_BACK = Decision(
    name="money-back",
    label="Give the money back",
    permission="orders.settle_order",
    objection=objection_to_giving_back,
    carry_out=give_back,
    form=ReasonForm,
    consequence="Every payment of this order gets a refund, and keys not bought yet will not be bought. Keys that the"
    " customer has stay with them.",
    done="the refund is due. The customer is asked for an address for every payment.",
)
MAIL_FRESH_LINK = Decision(
    name="mail_fresh_link",
    label="Mail a fresh link",
    permission="orders.deliver_order",
    objection=nothing_against,
    carry_out=renew_link,
    done="a fresh link goes to the customer; older links no longer open the order",
)
CLOSE = Decision(
    name="close",
    label="Close: it is taken care of",
    permission="orders.change_alert",
    objection=objection_to_closing,
    carry_out=close,
    done="closed; it opens again, with a mail, if the same thing happens again",
)
