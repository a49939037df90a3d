"""Compare the shop's rows with the providers' ledgers after a random run. Runs with the shop's settings."""

import json
import sys
from collections import Counter, defaultdict
from typing import Any

import django


def main() -> None:
    django.setup()
    from tools.chaos.control import Control

    what, sandbox = sys.argv[1:]
    control = Control(sandbox)
    print(json.dumps(facts(control) if what == "facts" else judge(control)))


def facts(control: Any) -> dict[str, Any]:
    """Return how far things are; `unsettled` counts what must still end or get its alert."""
    from django.db.models import Count

    from fulfillment.models import Reservation
    from orders.models import Alert, Email, Order
    from storage.models import Key

    orders = Counter(dict(Order.objects.values_list("status").annotate(Count("pk"))))
    paid = paid_orders(control)
    unsettled = [str(pk) for pk in paid - _at_rest() - _with_a_person()]
    unsettled += [line["order_id"] for line in _unlinked(control.ledger(what="sold"))]
    queued = Email.objects.filter(status="queued").count() + Key.objects.filter(status="received").count()
    return {
        "paid": len(paid),
        "orders": {str(name): count for name, count in orders.items()},
        "reservations": dict(Counter(map(str, Reservation.objects.values_list("status", flat=True)))),
        "held_for": dict(Counter(Reservation.objects.filter(status="held").values_list("reason", flat=True))),
        "open_alerts": Alert.objects.filter(status="open").count(),
        "unsettled": len(unsettled) + queued,
        "some": unsettled[:5],
    }


def judge(control: Any) -> dict[str, Any]:
    """Compare the ledger with the rows; every sentence is a violation."""
    sold, posts, followed = _ledger(control)
    wrong = [*_purchases(sold, posts), *_paid(control), *_stuck(), *_keys(control), *_mails()]
    if followed:
        wrong.append(f"redirect followed {followed} times")
    counted = facts(control)
    counted |= {"sold": len(sold), "posts": sum(posts.values())}
    counted |= {"double": sum(count > 1 for count in Counter(line["external_id"] for line in sold).values())}
    return {"wrong": wrong, "facts": counted}


def paid_orders(control: Any) -> set[str]:
    """Return the orders whose payment is finished by the payment provider's own ledger."""
    return {
        line["external_id"] for line in control.ledger(what="payment_status") if line["detail"]["status"] == "finished"
    }


def _ledger(control: Any) -> tuple[list[dict[str, Any]], Counter[str], int]:
    posts = Counter(line["external_id"] for line in control.ledger(what="order_received"))
    return control.ledger(what="sold"), posts, len(control.ledger(what="redirect_followed"))


def _purchases(sold: list[dict[str, Any]], posts: Counter[str]) -> list[str]:
    from django.db.models import Count

    from fulfillment.models import Reservation

    times = Counter(line["external_id"] for line in sold)
    wrong = [f"double purchase: {name} was sold {count} times" for name, count in times.items() if count > 1]
    rows = {row.external_id: row for row in Reservation.objects.filter(external_id__in=times)}
    for line in _unlinked(sold):
        row = rows.get(line["external_id"])
        state = f"{row.status} {row.reason}, next look {row.next_attempt_at}" if row else "no reservation"
        wrong.append(f"unlinked purchase: {line['order_id']} for {line['external_id']} ({state})")
    permits = dict(Reservation.objects.annotate(n=Count("permits")).values_list("external_id", "n"))
    wrong += [
        f"sent without a permit: {name} left {count} times on {permits.get(name, 0)} permits"
        for name, count in posts.items()
        if count > permits.get(name, 0)
    ]
    return wrong


def _unlinked(sold: list[dict[str, Any]]) -> list[dict[str, Any]]:
    from fulfillment.models import Reservation

    ours = dict(Reservation.objects.values_list("external_id", "supplier_order_id"))
    return [line for line in sold if ours.get(line["external_id"]) != line["order_id"]]


def _at_rest() -> set[str]:
    from orders.models import Order

    return set(map(str, Order.objects.filter(status="fulfilled").values_list("pk", flat=True)))


def _watched() -> set[str]:
    """Return the orders about which staff have an open alert."""
    from orders.models import Alert

    return set(map(str, Alert.objects.filter(status="open", order__isnull=False).values_list("order_id", flat=True)))


def _with_a_person() -> set[str]:
    """Return the orders about which staff have an open alert, and which no worker will touch again.

    What nobody knows to be bought is searched for once an hour for a day; until then the alert is what there is.
    While an order is held for one of its items, the others are not bought: they wait for the same decision.
    """
    from fulfillment.models import Reservation

    ended = ["delivered", "held", "cancelled", "failed", "unknown"]
    going = Reservation.objects.exclude(status__in=ended).exclude(status="pending", item__order__status="held")
    return _watched() - set(map(str, going.values_list("item__order_id", flat=True)))


def _paid(control: Any) -> list[str]:
    from fulfillment.models import Reservation
    from orders.models import Order

    left, watched = paid_orders(control) - _at_rest() - _with_a_person(), _watched()
    states = {str(pk): status for pk, status in Order.objects.filter(pk__in=left).values_list("pk", "status")}
    rows: dict[str, list[str]] = defaultdict(list)
    for row in Reservation.objects.filter(item__order__in=left).select_related("item"):
        rows[str(row.item.order_id)].append(f"{row.status} {row.reason}, next look {row.next_attempt_at}")
    return [
        f"lost paid order: {pk} is {states.get(pk, 'unknown to us')}, purchases {rows[pk]},"
        f" {'with' if pk in watched else 'without'} an alert"
        for pk in sorted(left)
    ]


def _stuck() -> list[str]:
    """Return reservations that neither ended nor wait for staff."""
    from fulfillment.models import Reservation

    going = Reservation.objects.exclude(status__in=["delivered", "cancelled", "failed"]).select_related("item")
    watched = _watched()
    return [
        f"stuck without an alert: {row} is {row.status} {row.reason}"
        for row in going
        if str(row.item.order_id) not in watched
    ]


def _keys(control: Any) -> list[str]:
    from fulfillment.models import Reservation
    from storage.models import Key

    had: dict[str, list[str]] = defaultdict(list)
    for item, name in Key.objects.values_list("item_id", "supplier_key_id"):
        had[str(item)].append(name)
    issued: dict[str, set[str]] = defaultdict(set)
    for line in control.ledger(what="key_issued"):
        issued[line["external_id"]].add(f"ecommerce:{line['detail']['key_id']}")
    wrong = []
    for row in Reservation.objects.filter(status="delivered", manual=False).select_related("item"):
        names = had[str(row.item_id)]
        if len(names) != row.item.quantity or not set(names) <= issued[row.external_id]:
            wrong.append(f"keys: {row} has {len(names)} of {row.item.quantity}, or some that were not issued for it")
    if Key.objects.filter(status="received").exists():
        wrong.append("key not stored: some were never copied to the object store")
    return wrong


def _mails() -> list[str]:
    from django.db.models import Count, Q

    from orders.models import Order

    ready = Order.objects.filter(status="fulfilled").annotate(
        sent=Count("emails", filter=Q(emails__kind="key_ready", emails__status="sent")),
        owed=Count("emails", filter=Q(emails__kind="key_ready")),
    )
    return [f"mail: {order} has {order.sent} of {order.owed} sent" for order in ready.exclude(sent=1, owed=1)]


if __name__ == "__main__":
    main()
