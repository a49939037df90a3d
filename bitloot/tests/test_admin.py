"""The admin over all apps: every model has a page, lists stay cheap, and little can be changed by hand."""

import re
from datetime import timedelta

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from django.utils.html import escape

from bitloot.core.admin.base import ReadOnlyAdmin
from bitloot.tests.staff import LISTS, list_of, make_rows, page_of, press, text
from fulfillment.models import Reservation
from orders.alerts import raise_alert
from orders.models import Alert, Email
from payments.models import Payment
from webhooks.models import WebhookLog

pytestmark = pytest.mark.django_db
READ_ONLY = sorted(set(LISTS) - {"orders.product", "partners.apikey", "fulfillment.pricerule"})
OURS = ("orders", "payments", "fulfillment", "storage", "webhooks", "partners", "evidence")


def test_every_model_of_the_store_has_a_page():
    ours = {model for app in OURS for model in apps.get_app_config(app).get_models()}
    assert [model for model in ours if not admin.site.is_registered(model)] == []
    assert {model._meta.label_lower for model in ours} == set(LISTS)


@pytest.mark.once
@pytest.mark.parametrize("name", LISTS)
def test_list_and_page_show_a_row(boss, rows, name):
    row = getattr(rows, LISTS[name])
    listed, page = boss.get(list_of(name)), boss.get(page_of(row))
    assert (listed.status_code, page.status_code) == (200, 200)
    assert page_of(row) in text(listed)
    assert 'content="same-origin"' in text(page)
    assert "style=" not in re.sub(r"<meta[^>]*>", "", text(listed))  # a strict CSP refuses inline styles
    assert re.findall(r"<script(?![^>]*src=)", text(page)) == []


@pytest.mark.once
@pytest.mark.parametrize("name", LISTS)
def test_list_asks_as_often_for_three_rows_as_for_one(boss, rows, name):
    boss.get(list_of(name))  # content types and the like are read once
    with CaptureQueriesContext(connection) as one:
        boss.get(list_of(name))
    make_rows()
    make_rows()
    with CaptureQueriesContext(connection) as three:
        boss.get(list_of(name))
    assert len(three) == len(one), [query["sql"] for query in three]


def test_order_page_asks_as_often_for_three_of_everything_as_for_one(boss):
    """What is possible is asked for each row; none of these costs a query for that."""

    def with_lines(count):
        found = make_rows()
        for _ in range(count - 1):
            Payment.objects.create(order=found.order, price_amount=1, price_currency="eur", pay_currency="btc")
            found.order.note("staff", "A fact.")
            Email.objects.create(order=found.order, kind="delayed", to=found.order.email)
        return found.order

    first, second = with_lines(1), with_lines(3)
    boss.get(page_of(first))
    with CaptureQueriesContext(connection) as one:
        boss.get(page_of(first))
    with CaptureQueriesContext(connection) as three:
        boss.get(page_of(second))
    assert len(three) == len(one)


@pytest.mark.once
@pytest.mark.parametrize("name", READ_ONLY)
def test_nothing_but_products_and_price_rules_is_added_changed_or_deleted(boss, rows, name):
    row = getattr(rows, LISTS[name])
    base = list_of(name)
    before = type(row).objects.filter(pk=row.pk).values().get()
    fields = {"status": "paid", "amount": "1", "total": "1", "external_id": "x", "message": "x", "email": "a@b.example"}
    assert boss.get(f"{base}add/").status_code == 403
    assert boss.post(page_of(row), fields).status_code == 403
    assert boss.post(page_of(row).replace("/change/", "/delete/"), {"post": "yes"}).status_code == 403
    boss.post(base, {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"})
    assert type(row).objects.filter(pk=row.pk).values().get() == before


def test_log_of_staff_is_read_only(boss, rows):
    press(boss, rows.alert, "close")
    entry = LogEntry.objects.get()
    assert isinstance(admin.site.get_model_admin(LogEntry), ReadOnlyAdmin)
    assert "Closed; it opens again" in text(boss.get(page_of(entry)))
    assert boss.post(page_of(entry).replace("/change/", "/delete/"), {"post": "yes"}).status_code == 403
    assert boss.get(reverse("admin:admin_logentry_changelist"), {"q": boss.user.username}).status_code == 200


def as_shown(page):
    return {name: value for name, value in page.context["adminform"].form.initial.items() if value is not None}


def test_product_is_edited_but_not_its_currency(boss, rows):
    page = boss.get(page_of(rows.product))
    fields = {**as_shown(page), "price": "21.99", "currency": "USD", "is_active": ""}
    assert boss.post(page_of(rows.product), fields).status_code == 302
    rows.product.refresh_from_db()
    assert (str(rows.product.price), rows.product.currency, rows.product.is_active) == ("21.99", "EUR", False)
    assert LogEntry.objects.get().change_message


def test_product_cannot_be_deleted_and_no_button_offers_it(boss, rows):
    assert boss.post(page_of(rows.product).replace("/change/", "/delete/"), {"post": "yes"}).status_code == 403
    rows.product.refresh_from_db()
    assert "/delete/" not in text(boss.get(page_of(rows.product)))


def test_an_address_breaks_behind_its_at_sign(boss, rows):
    name, _, host = rows.order.email.partition("@")
    for page in (list_of("orders.order"), list_of("orders.email"), page_of(rows.order)):
        assert f"{name}@<wbr>{host}" in text(boss.get(page)), page


def test_history_of_a_row_names_the_zone_of_its_times(boss, rows):
    press(boss, rows.alert, "close")
    page = text(boss.get(page_of(rows.alert).replace("/change/", "/history/")))
    assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", page)
    assert f'<a href="{list_of("orders.alert")}">Alerts</a>' in page


def test_outcome_of_a_webhook_is_said_in_words_and_an_error_as_it_was_raised(boss, rows):
    said = {"processed": "partially_paid brings nothing new", "failed": "KeyError: 'pay_amount'"}
    for status, outcome in said.items():
        WebhookLog.objects.filter(pk=rows.log.pk).update(status=status, outcome=outcome)
        shown = outcome if status == "failed" else "partially paid brings nothing new"
        for page in (list_of("webhooks.webhooklog"), page_of(rows.order)):
            assert escape(shown) in text(boss.get(page)), page


def test_nobody_is_told_again_of_a_closed_alert(boss, rows):
    Alert.objects.filter(pk=rows.alert.pk).update(notify_at=timezone.now() + timedelta(hours=3))

    def next_notice():
        return text(boss.get(page_of(rows.alert))).partition("Staff are told next")[2].partition("</div>")[0]

    assert "in 2 h" in next_notice()
    press(boss, rows.alert, "close")
    assert "–" in next_notice()


def test_open_alerts_stand_above_closed_ones(boss, rows):
    press(boss, rows.alert, "close")
    raise_alert("mail_failed", rows.email, "It came later.", order=rows.order)
    Alert.objects.filter(pk=rows.alert.pk).update(last_at=timezone.now() + timedelta(hours=1))
    page = text(boss.get(list_of("orders.alert")))
    assert page.index("It came later.") < page.index("needs attention.")


def test_purchase_that_was_delivered_no_longer_says_what_it_was_held_for(boss, rows):
    held = {"reason": "out_of_stock", "last_error": "The supplier has none.", "manual": True}
    Reservation.objects.filter(pk=rows.reservation.pk).update(status="delivered", **held)
    page = text(boss.get(page_of(rows.order)))
    assert "staff typed the codes" in page
    assert "The supplier has none." not in page
    assert 'class="why"' not in page + text(boss.get(list_of("fulfillment.reservation")))


@pytest.mark.parametrize("price", ["0", "-1", "1e400", "NaN", "9" * 30])
def test_product_wants_a_price(boss, rows, price):
    page = boss.get(page_of(rows.product))
    answer = boss.post(page_of(rows.product), {**as_shown(page), "price": price})
    assert answer.status_code == 200
    assert answer.context["errors"]


@pytest.mark.parametrize("name", LISTS)
def test_first_column_of_a_list_is_no_link_within_a_link(boss, name):
    make_rows()
    assert not re.search(r"<a [^>]*>\s*<a ", boss.get(list_of(name)).content.decode())
