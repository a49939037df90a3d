"""The judge: what the supplier's and the payment provider's ledgers say, against what our rows say."""

from collections import Counter
from typing import Any

from fulfillment.models import Reservation, ReservationAttempt
from orders.models import Alert, Order
from storage.models import Key
from tools.chaos.story import Run


def judge(run: Run, *, after: int) -> tuple[list[str], dict[str, Any]]:
    """Return what is wrong with the order that this run was about, and the facts that were counted."""
    lines = run.control.ledger(after=after)
    of = {what: [line for line in lines if line["what"] == what] for what in {line["what"] for line in lines}}
    order, reservation = run.order, run.reservation
    sold, paid = of.get("sold", []), run.starts_paid or _paid(of.get("payment_status", []), run)
    wrong = [*_purchases(run, sold, of), *_paid_order(order, reservation, paid), *_delivery(run, order, sold, of)]
    facts = {
        "last": max((line["id"] for line in lines), default=after),
        "sold": len(sold),
        "posts": len(of.get("order_received", [])),
        "order": str(order.status),
        "reservation": str(reservation.status) if reservation else "",
        "reason": reservation.reason if reservation else "",
    }
    return wrong, facts


def _paid(statuses: list[dict[str, Any]], run: Run) -> bool:
    return any(line["detail"]["status"] == "finished" and line["external_id"] == run.order_id for line in statuses)


def _purchases(run: Run, sold: list[dict[str, Any]], of: dict[str, list[dict[str, Any]]]) -> list[str]:
    wrong = []
    if len(sold) > 1:
        wrong.append(f"double purchase: the supplier sold {len(sold)} times for one item")
    for line in sold:
        linked = Reservation.objects.filter(external_id=line["external_id"], supplier_order_id=line["order_id"])
        if linked.count() != 1:
            wrong.append(f"unlinked purchase: no reservation has the supplier's order {line['order_id']}")
    posts = Counter(line["external_id"] for line in of.get("order_received", []))
    permits = ReservationAttempt.objects.filter(reservation__item_id=run.item_id).count()
    if sum(posts.values()) > permits:
        wrong.append(f"sent without a permit: {sum(posts.values())} purchases left on {permits} permits")
    if set(posts) - {run.item_id}:
        wrong.append("another external id: one item is known to the supplier under several")
    if of.get("redirect_followed"):
        wrong.append("redirect followed: the request, with our key, went where the supplier sent it")
    return wrong


def _paid_order(order: Order, reservation: Reservation | None, paid: bool) -> list[str]:
    if not paid:
        return ["not paid: the story did not come so far"]
    if order.status == Order.Status.FULFILLED:
        return []
    watched = Alert.objects.filter(order=order, status="open").exists()
    if order.status in (Order.Status.HELD, Order.Status.REFUND_DUE) and watched:
        return []
    state = reservation.status if reservation else "none"
    return [f"lost paid order: {order.status}, reservation {state}, {'with' if watched else 'without'} an alert"]


def _delivery(run: Run, order: Order, sold: list[dict[str, Any]], of: dict[str, list[dict[str, Any]]]) -> list[str]:
    fulfilled = order.status == Order.Status.FULFILLED
    if not fulfilled:
        return ["bought but not delivered: the supplier has the money and the keys"] if sold else []
    wrong = []
    keys = list(Key.objects.filter(item_id=run.item_id).values_list("supplier_key_id", flat=True))
    issued = {f"ecommerce:{line['detail']['key_id']}" for line in of.get("key_issued", [])}
    quantity = order.items.get().quantity
    if len(keys) != quantity or not set(keys) <= issued:
        wrong.append(f"keys: {len(keys)} of {quantity}, of which the supplier issued {len(issued & set(keys))}")
    if Key.objects.filter(item_id=run.item_id, status="received").exists():
        wrong.append("key not stored: it was never copied to the object store")
    mails = order.emails.filter(kind="key_ready")
    if [mail.status for mail in mails] != ["sent"]:
        wrong.append(f"mail: {[str(mail.status) for mail in mails]} instead of one that was sent")
    return wrong
