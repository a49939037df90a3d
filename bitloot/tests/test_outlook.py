"""What waiting customers read: what happens, how long it usually takes, and by when something else happens."""

from datetime import timedelta

import pytest
from django.core.cache import cache
from django.utils import timezone

from bitloot.tests.test_order_api import make_reservation, read
from fulfillment import gate, kinguin
from fulfillment.models import Reservation
from orders.models import Order
from orders.tests.factories import make_order, make_paid_order, make_product
from payments.tests.factories import make_payment
from storage.tests.factories import make_key

pytestmark = pytest.mark.django_db
MINUTE = timedelta(minutes=1)
NOW = timezone.now()


@pytest.fixture(autouse=True)
def no_figures_of_other_tests():
    cache.clear()
    yield
    cache.clear()


def outlook(client, order):
    body = read(client, order).json()
    return body["waits_for"], body["outlook"]["now"], body["outlook"]["late"]


def deliveries(*minutes: int) -> None:
    for number in minutes:
        make_order(status="fulfilled", paid_at=NOW - number * MINUTE, fulfilled_at=NOW)


def held(reason: str = "out_of_stock", **fields) -> Order:
    order = make_paid_order(make_product(stock_wait_hours=6))
    Order.objects.filter(pk=order.pk).update(status="held", reason=reason)
    fields = {"status": "held", "reason": reason, "waiting_since": NOW - 60 * MINUTE, **fields}
    Reservation.objects.filter(item__order=order).update(**fields)
    order.refresh_from_db()
    return order


def test_a_new_order_waits_for_its_customer_until_it_expires(client):
    order = make_order()
    body = read(client, order).json()
    assert (body["waits_for"], body["outlook"]["now"]) == ("customer", "")
    assert body["expected_by"] == body["expires_at"]
    make_payment(order, expires_at=NOW + 20 * MINUTE)
    body = read(client, order).json()
    assert body["expected_by"] == body["payment"]["expires_at"]


def test_delivery_has_no_figures_until_ten_are_known_and_then_those_of_the_shop(client):
    order = make_paid_order()
    deliveries(2, 2, 2)
    assert outlook(client, order)[1].startswith("This usually takes a few minutes.")
    cache.clear()
    deliveries(2, 2, 3, 3, 3, 3, 44)
    waits_for, now, _ = outlook(client, order)
    assert waits_for == "supplier"
    assert now.startswith("This usually takes about 3 minutes, sometimes about 45 minutes.")
    expected = Order.objects.get(pk=order.pk).paid_at + timedelta(minutes=44)
    assert read(client, order).json()["expected_by"][:16] == f"{expected:%Y-%m-%dT%H:%M}"


def test_deliveries_of_last_month_do_not_count(client):
    deliveries(*[1] * 12)
    Order.objects.update(created_at=NOW - timedelta(days=8))
    assert outlook(client, make_paid_order())[1].startswith("This usually takes a few minutes.")


def test_figures_are_read_once_for_many_readers(client, django_assert_num_queries):
    order = make_paid_order()
    read(client, order)
    with django_assert_num_queries(4):
        read(client, order)


def test_a_late_delivery_names_the_day_on_which_staff_take_over(client):
    order = make_paid_order()
    Order.objects.filter(pk=order.pk).update(paid_at="2030-05-01T10:15:00Z")
    assert "What is not here by Thursday, 2 May, 10:15 UTC, our staff take over" in outlook(client, order)[2]


def test_after_a_day_the_words_change_although_no_row_did(client, settings):
    settings.SUPPORT_EMAIL = "help@corner.example"
    order = make_paid_order()
    before = read(client, order)
    # A day as the clock would bring it: the same order, paid longer ago.
    Order.objects.filter(pk=order.pk).update(paid_at=NOW - timedelta(hours=25))
    after = read(client, order, before["ETag"])
    assert after.status_code == 200
    assert after.json()["waits_for"] == "staff"
    assert "write to help@corner.example with your order number" in after.json()["outlook"]["now"]


def test_a_customer_reads_that_purchases_are_stopped_and_that_they_leave_again(client):
    order, host = make_paid_order(), kinguin.client().host
    before = read(client, order)
    gate.stop(host, reason="tests")
    stopped = read(client, order, before["ETag"])
    assert stopped.status_code == 200
    body = stopped.json()
    assert (body["waits_for"], body["expected_by"], body["outlook"]["late"]) == ("staff", None, "")
    assert body["outlook"]["now"].startswith("We have paused buying keys for the moment.")
    gate.open_again(host, by="tests")
    assert outlook(client, order)[1].startswith("This usually takes a few minutes.")


def test_the_environment_s_safe_mode_stops_purchases_for_customers_too(client, settings):
    order = make_paid_order()
    before = read(client, order)
    settings.SAFE_MODE = True
    assert read(client, order, before["ETag"]).json()["outlook"]["now"].startswith("We have paused buying keys")


def test_what_was_bought_already_comes_although_purchases_are_stopped(client):
    order = make_paid_order()
    Reservation.objects.filter(item__order=order).update(status="given")
    gate.stop(kinguin.client().host, reason="tests")
    assert outlook(client, order)[1].startswith("This usually takes a few minutes.")


def test_what_is_ready_can_be_opened_while_the_rest_is_on_its_way_or_failed(client):
    order = make_paid_order(make_product(title="A"), make_product(title="B"))
    ready, other = order.items.order_by("title")
    make_key(ready)
    Order.objects.filter(pk=order.pk).update(status="partially_fulfilled")
    assert outlook(client, order)[:2] == (
        "supplier", "You can open what is ready. The rest appears here automatically.",
    )  # fmt: skip
    Reservation.objects.filter(item=other).update(status="failed")
    waits_for, now, _ = outlook(client, order)
    assert (waits_for, "We could not get the rest." in now) == ("staff", True)


def test_the_network_has_the_time_that_this_coin_usually_takes(client):
    order = make_order()
    for number in range(10):
        seen = NOW - timedelta(minutes=20 + number)
        make_payment(make_order(), status="finished", coins_seen_at=seen, finished_at=NOW)
    make_payment(order, status="confirming", coins_seen_at=NOW)
    waits_for, now, late = outlook(client, order)
    assert waits_for == "network"
    assert "This usually takes about 25 minutes, sometimes about 30 minutes." in now
    assert "If nothing has moved by" in late


WHY = [
    ("out_of_stock", "Our supplier is out of stock."),
    ("too_expensive", "The price at our supplier rose."),
    ("no_funds", "Our supplier cannot sell us your key at the moment."),
]


@pytest.mark.parametrize(("reason", "why"), WHY)
def test_a_held_order_says_why_and_until_when_it_waits(client, reason, why):
    order = held(reason)
    body = read(client, order).json()
    ends = NOW + timedelta(hours=5)
    assert body["outlook"]["now"].startswith(why)
    assert (
        f"If we cannot get it by {ends:%A}, {ends.day} {ends:%B, %H:%M} UTC, your money goes back"
        in (body["outlook"]["now"])
    )
    assert body["expected_by"][:16] == f"{ends:%Y-%m-%dT%H:%M}"
    assert (body["waits_for"], body["can_have_money_back"]) == ("supplier", True)


def test_an_order_that_waits_with_a_part_ready_promises_the_money_for_the_rest_only(client):
    order = held()
    make_key(order.items.get())
    body = read(client, order).json()
    assert body["outlook"]["now"].startswith("You can open what is ready. Our supplier is out of stock.")
    assert "you get the money for it back" in body["outlook"]["now"]
    assert "the money for it" in body["outlook"]["late"]
    assert body["can_have_money_back"] is False


@pytest.mark.parametrize(
    ("reason", "words"),
    [("no_keys", "has not sent your key"), ("unknown_purchase", "never buy one twice"), ("held_by_staff", "Our staff")],
)
def test_what_staff_have_to_find_out_offers_no_money_back_and_promises_no_date(client, reason, words):
    body = read(client, held(reason)).json()
    assert words in body["outlook"]["now"]
    assert (body["waits_for"], body["expected_by"], body["can_have_money_back"]) == ("staff", None, False)


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("no_keys", "Our supplier took the order"),
        ("held_by_staff", "Our staff stopped this order"),
        ("poison", "Our staff are looking at this order."),  # which has no words of its own
    ],
)
def test_what_is_ready_can_be_opened_while_staff_look_at_the_rest(client, reason, words):
    order = held(reason)
    make_key(order.items.get())
    assert outlook(client, order)[1].startswith(f"You can open what is ready. {words}")


def test_an_order_held_for_a_payment_that_was_sent_back_says_that_the_coins_are_gone(client):
    order = make_order(status="held", reason="failed_with_money")
    payment = make_payment(order, status="review", reason="failed_with_money")
    assert "Our staff accept them or send them back" in outlook(client, order)[1]
    payment.move("refunded", message="The provider sent the coins back.")
    assert outlook(client, order)[1].startswith("Your coins went back to you")


def test_another_reason_of_a_held_order_changes_the_etag(client):
    order = held()
    before = read(client, order)
    Order.objects.filter(pk=order.pk).update(reason="no_keys")
    assert read(client, order, before["ETag"]).status_code == 200


def test_an_order_that_is_done_waits_for_nothing(client):
    order = make_order(status="fulfilled")
    make_reservation(order.items.get(), status="delivered")
    body = read(client, order).json()
    assert (body["waits_for"], body["expected_by"], body["outlook"]) == (None, None, {"now": "", "late": ""})


def test_the_order_names_its_keys_and_when_they_were_opened(client):
    order = make_paid_order(make_product(activation="Open Steam.", region="Europe", platform="Steam"))
    key = make_key(order.items.get())
    item = read(client, order).json()["items"][0]
    assert item["keys"] == [{"id": str(key.pk), "opened_at": None}]
    assert [item["product"][name] for name in ("platform", "region", "activation")] == [
        "Steam",
        "Europe",
        "Open Steam.",
    ]
