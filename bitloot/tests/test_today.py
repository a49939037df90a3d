"""The home page's numbers: how the business goes, and how the machines are."""

import re
from datetime import timedelta
from decimal import Decimal

import django
import pytest
from django.core.cache import caches
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from bitloot.staff.machines import runway
from bitloot.staff.templatetags.charts import sparkline, stacked_bar
from bitloot.staff.today import renew_closed_days
from bitloot.tests.staff import make_rows, make_staff
from fulfillment.models import Reservation, SupplierCall, SupplierGate
from orders.models import Order
from orders.tests.factories import make_order, make_paid_order
from payments.models import Payment, Refund

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nothing_kept():
    caches["local"].clear()
    caches["default"].clear()


def panel(client, title, **query):
    panels = client.get("/admin/", query).context["panels"]
    return next(panel for panel in panels if panel["title"] == title)


def values(shown):
    return {figure.name: figure.value for figure in shown["figures"]}


def deliver(order, *, seconds):
    Order.objects.filter(pk=order.pk).update(
        status="fulfilled", paid_at=order.paid_at, fulfilled_at=order.paid_at + timedelta(seconds=seconds)
    )


def test_figures_count_orders_money_and_time(boss):
    orders = [make_paid_order() for _ in range(3)]
    make_order()
    deliver(orders[0], seconds=10)
    deliver(orders[1], seconds=100)
    Reservation.objects.filter(item__order=orders[0]).update(cost=Decimal("4.00"))
    Refund.objects.create(order=orders[2], amount=1, currency="btc", worth=Decimal("2.50"))
    total = orders[0].total
    shown = values(panel(boss, "Today"))
    assert shown == {
        "Orders": "4",
        "Paid": "3",
        "Delivered": "2",
        "Revenue": f"{3 * total} EUR",
        "Cost": "4.00 EUR",
        "Margin": f"{2 * total - 4} EUR",
        "Success": "67%",
        "Paid to key, half within": "10 s",
        "Paid to key, 95 % within": "100 s",
        "Refunds": "2.50 EUR",
    }


def test_line_has_a_point_for_each_hour_or_day(boss):
    make_order()
    yesterday = make_order()
    Order.objects.filter(pk=yesterday.pk).update(created_at=Now() - timedelta(days=2))
    hours = panel(boss, "Today")["figures"][0]
    days = panel(boss, "Today", period="30d")["figures"][0]
    assert ([int(n) for n in hours.line], hours.value) == ([0] * 23 + [1], "1")
    assert ([int(n) for n in days.line], days.value) == ([0] * 27 + [1, 0, 1], "2")


def test_unknown_period_is_the_day(boss):
    assert panel(boss, "Today", period="<b>")["period"] == "24 hours"


def test_money_in_flight(boss):
    rows = make_rows()
    Payment.objects.update(status="confirming", price_amount=Decimal("7.00"))
    Order.objects.update(status="refund_due")
    make_paid_order()
    flight = {part["name"]: (part["count"], part["worth"]) for part in panel(boss, "Today")["flight"]}
    assert flight["Confirming"] == (1, Decimal("7.00"))
    assert flight["Owed back"] == (1, rows.order.total)
    assert flight["Being bought"][0] == 1
    assert flight["Held"] == (0, Decimal("0.00"))


def test_reasons_why_orders_stopped_in_words(boss):
    for reason in ("out_of_stock", "out_of_stock", "too_expensive"):
        Order.objects.filter(pk=make_paid_order().pk).update(status="held", reason=reason)
    assert panel(boss, "Today")["reasons"] == [("Out of stock", 2), ("Too expensive", 1)]
    assert "Why orders stopped: Out of stock 2, Too expensive 1" in boss.get("/admin/").content.decode()


def test_numbers_are_kept_for_seconds(boss):
    assert values(panel(boss, "Today"))["Orders"] == "0"
    make_order()
    with CaptureQueriesContext(connection) as queries:
        assert values(panel(boss, "Today"))["Orders"] == "0"
    assert [query["sql"] for query in queries if "orders_refund" in query["sql"] and "SUM" in query["sql"]] == []
    caches["local"].clear()
    assert values(panel(boss, "Today"))["Orders"] == "1"


def in_days(*ages):
    """Orders that were delivered at a cost of 4, this many days ago."""
    for age in ages:
        order = make_paid_order()
        deliver(order, seconds=10)
        moment = Now() - timedelta(days=age)
        Order.objects.filter(pk=order.pk).update(created_at=moment)
        Reservation.objects.filter(item__order=order).update(created_at=moment, cost=Decimal("4.00"))
        Refund.objects.create(order=order, amount=1, currency="btc", worth=Decimal("2.50"))
        Refund.objects.filter(order=order).update(created_at=moment)


def lines_of_month(client):
    caches["local"].clear()
    return {
        figure.name: (figure.value, list(figure.line)) for figure in panel(client, "Today", period="30d")["figures"]
    }


def asked_about(queries, days):
    """How many statements read so far back that they add up that many days."""
    since = timezone.now() - timedelta(days=days)
    sums = [query["sql"] for query in queries if "SUM(" in query["sql"] and "orders_order" in query["sql"]]
    return sum(f"{since:%Y-%m-%d}" in sql for sql in sums)


def test_days_of_a_month_that_are_kept_say_what_reading_them_said(boss):
    in_days(0, 1, 2, 2, 29)
    with CaptureQueriesContext(connection) as first:
        read = lines_of_month(boss)
    with CaptureQueriesContext(connection) as second:
        assert lines_of_month(boss) == read
    assert (asked_about(first, 29) > 0, asked_about(second, 29)) == (True, 0)
    assert read["Orders"] == ("5", [1] + [0] * 26 + [2, 1, 1])
    assert read["Cost"][0] == "20.00 EUR"
    assert read["Refunds"][0] == "12.50 EUR"


def test_the_present_day_is_read_with_each_look_and_earlier_ones_after_a_while(boss):
    in_days(0, 1, 2)
    lines_of_month(boss)
    in_days(0, 1, 2)
    assert lines_of_month(boss)["Orders"][1][-3:] == [1, 1, 2]
    yesterday = timezone.now() - timedelta(days=1)
    caches["default"].delete(f"staff.day.{yesterday:%Y-%m-%d}")  # its quarter of an hour is over
    assert lines_of_month(boss)["Orders"][1][-3:] == [1, 2, 2]


def test_yesterday_is_kept_for_a_shorter_time_than_older_days(boss, monkeypatch):
    kept = {}
    monkeypatch.setattr(caches["default"], "set", lambda key, value, seconds: kept.update({key: seconds}))
    lines_of_month(boss)
    days = sorted(key for key in kept if key.startswith("staff.day."))
    assert [kept[day] for day in days] == [6 * 3600] * 28 + [900]


def test_beat_reads_the_days_before_they_are_forgotten(boss):
    in_days(2)
    lines_of_month(boss)
    in_days(2)
    renew_closed_days()
    assert lines_of_month(boss)["Orders"][0] == "2"
    in_days(2)
    renew_closed_days()  # not again for three hours
    assert lines_of_month(boss)["Orders"][0] == "2"


def test_numbers_need_the_permission_to_see_orders(client):
    client.force_login(make_staff("payments.view_payment"))
    assert [panel["title"] for panel in client.get("/admin/").context["panels"]] == ["Decide now"]


def test_chart_says_in_words_what_it_draws():
    drawn = sparkline([0, None, 4, 2], "<Orders>")
    assert 'aria-label="&lt;Orders&gt;: from 0 to 4, last 2"' in drawn
    assert len(re.search(r'points="([^"]*)"', drawn)[1].split()) == 3  # where nothing is known, nothing is drawn
    assert "style=" not in drawn
    assert "nothing yet" in sparkline([None, None], "Time")
    assert 'points=""' in sparkline([], "Empty")
    assert len(re.search(r'points="([^"]*)"', sparkline([None, 5], "One"))[1].split()) == 2
    assert 'points="2.0,2.0 118.0,26.0"' in sparkline([1, -1], "Margin")


def test_bar_is_as_wide_as_its_parts():
    drawn = stacked_bar([("Out of stock", 3), ("<b>", 1)], "Why")
    assert re.findall(r'x="([\d.]+)" y="0" width="([\d.]+)"', drawn) == [("0.00", "75.00"), ("75.00", "25.00")]
    assert "&lt;b&gt;" in drawn
    assert "None." in stacked_bar([], "Why")


# --- machines ---


def test_machines_show_the_last_calls_of_the_supplier(boss):
    rows = make_rows()
    for outcome in ("Unavailable", "OutOfStock"):
        SupplierCall.objects.create(reservation=rows.reservation, call="quote", outcome=outcome, milliseconds=90)
    kinguin, nowpayments = panel(boss, "Machines")["providers"]
    assert (kinguin["errors"], kinguin["is_bad"]) == ("1 of the last 3 calls", True)  # out of stock is an answer
    assert kinguin["latency"] == "90 ms, 95 % within 90 ms"
    Payment.objects.update(unread_since=timezone.now())
    assert "1 of the newest 1 payments cannot be read" in panel(boss, "Machines")["providers"][1]["errors"]
    assert nowpayments["errors"].startswith("0 of")


def test_machines_say_how_long_the_balance_lasts(boss):
    make_rows()
    SupplierGate.objects.update(balance=Decimal("70.00"))
    assert runway(Decimal("70.00")) == "nothing was bought this week"
    Reservation.objects.update(cost=Decimal("14.00"))
    assert runway(Decimal("70.00")) == "lasts 35 days at this week's rate"
    assert runway(Decimal("1.00")) == "lasts less than a day at this week's rate"
    assert "70.00 EUR, lasts 35 days" in boss.get("/admin/").content.decode()


def test_machines_say_when_a_queue_was_last_worked_at(boss):
    rows = make_rows()
    type(rows.email).objects.update(status="sent", sent_at=Now(), next_attempt_at=None)
    queues = {queue["name"]: queue for queue in panel(boss, "Machines")["queues"]}
    assert "ago" in queues["Mails"]["last"]
    assert queues["Mails"]["due"] == "0"


def test_machines_name_channels_and_versions(boss, settings):
    settings.STAFF_EMAIL = ("kim@shop.example",)
    page = boss.get("/admin/").content.decode()
    assert "mail to kim@shop.example" in page
    assert f"Django {django.get_version()}" in page
