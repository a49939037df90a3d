"""The admin over all apps: every page, who may do what, and what strangers type into it."""

import re
import uuid
from datetime import timedelta

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.core.cache import caches
from django.db import connection
from django.db.models.functions import Now
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from knox.models import AuthToken

from bitloot.core.admin.base import ReadOnlyAdmin, ReadOnlyInline
from bitloot.core.admin.decisions import DecisionAdmin
from bitloot.core.admin.formatting import short
from bitloot.core.admin.panels import Panel
from bitloot.core.outcome import Outcome
from bitloot.staff.site import HEADER, SECTIONS
from bitloot.tests.staff import LISTS, SERIAL, button_of, do, list_of, make_rows, make_staff, page_of, press
from fulfillment.models import Reservation, SupplierGate
from orders.decisions import CLOSE
from orders.models import Alert, Email, Order, OrderEvent
from orders.tests.factories import make_order
from payments.models import Payment
from storage.models import Key
from webhooks.handlers import HANDLERS
from webhooks.models import WebhookLog
from webhooks.tasks import drain_webhooks
from webhooks.tests.factories import ipn, make_log

pytestmark = pytest.mark.django_db
EVIL = "<script>alert(1)</script>"
PASSWORD = "a long enough word"
READ_ONLY = sorted(set(LISTS) - {"orders.product", "partners.apikey", "fulfillment.pricerule"})
OF_AN_ORDER = ["payment", "reservation", "key", "delivery", "item", "email", "alert", "event", "refund", "log"]
OURS = ("orders", "payments", "fulfillment", "storage", "webhooks", "partners", "evidence")


@pytest.fixture
def boss(client):
    """The client, logged in as a superuser."""
    user = make_staff(superuser=True)
    client.force_login(user)
    client.user = user
    return client


@pytest.fixture
def quick_passwords(settings):
    """Real hashing takes a second each under load."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def rows():
    return make_rows()


def text(answer):
    return answer.content.decode()


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


def test_sold_product_cannot_be_deleted(boss, rows):
    boss.post(page_of(rows.product).replace("/change/", "/delete/"), {"post": "yes"})
    rows.product.refresh_from_db()


@pytest.mark.parametrize("price", ["0", "-1", "1e400", "NaN", "9" * 30])
def test_product_wants_a_price(boss, rows, price):
    page = boss.get(page_of(rows.product))
    answer = boss.post(page_of(rows.product), {**as_shown(page), "price": price})
    assert answer.status_code == 200
    assert answer.context["errors"]


# --- who may come in ---


@pytest.mark.parametrize("path", ["", "orders/order/", "orders/order/x/decide/run_delivery/", "nothing/at/all/"])
def test_anonymous_people_are_led_to_the_login_and_learn_nothing(client, path):
    answer = client.get(f"/admin/{path}")
    assert answer.status_code == 302
    assert answer["Location"].startswith("/admin/login/?next=")


def test_login_page_names_no_model_and_goes_nowhere_else(client, quick_passwords):
    page = text(client.get("/admin/login/"))
    assert "Webhook" not in page
    user = make_staff(password=PASSWORD)
    login = {"username": user.username, "password": PASSWORD, "next": "//evil.example/"}
    answer = client.post("/admin/login/?next=//evil.example/", login)
    assert "evil" not in answer["Location"]


def test_customer_login_without_staff_rights_stays_outside(client, django_user_model):
    client.force_login(django_user_model.objects.create_user("eve"))
    assert client.get("/admin/orders/order/").status_code == 302


def test_staff_sees_only_what_they_may(client, rows):
    client.force_login(make_staff("orders.view_order"))
    assert client.get(list_of("orders.order")).status_code == 200
    assert client.get(list_of("payments.payment")).status_code == 403
    assert client.get(list_of("storage.key")).status_code == 403
    order = text(client.get(page_of(rows.order)))
    assert "Mail a fresh link" not in order
    assert rows.payment.external_id not in order
    assert rows.reservation.external_id not in order
    Order.objects.filter(pk=rows.order.pk).update(status="held")
    Payment.objects.update(status="review")
    front = text(client.get("/admin/"))
    assert "Order held" in front
    assert "Payment in review" not in front
    assert "Ember Drift needs attention." not in front
    assert "Buying at the supplier" not in front


def test_login_is_locked_after_ten_wrong_passwords_for_that_address_only(client, quick_passwords):
    user = make_staff(password=PASSWORD)
    wrong, right = {"username": user.username, "password": "guess"}, {"username": user.username.upper()}
    for _ in range(10):
        assert "do not fit together" in text(client.post("/admin/login/", wrong))
    locked = client.post("/admin/login/", {**wrong, "password": PASSWORD})
    assert "Too many wrong passwords" in text(locked)
    assert "Too many wrong passwords" in text(client.post("/admin/login/", {**right, "password": "guess"}))
    elsewhere = Client(REMOTE_ADDR="198.51.100.7")
    assert elsewhere.post("/admin/login/", {**wrong, "password": PASSWORD}).status_code == 302


def test_dismissed_staff_is_out_at_the_next_request(boss):
    assert boss.get("/admin/").status_code == 200
    type(boss.user).objects.filter(pk=boss.user.pk).update(is_active=False)
    assert boss.get("/admin/").status_code == 302


BUTTONS = [
    ("order", "mail_fresh_link", "orders.renew_link"),
    ("order", "run_delivery", "fulfillment.run_delivery"),
    ("alert", "close", "orders.close_alert"),
    ("payment", "read_again", "payments.read_again"),
    ("reservation", "run_now", "fulfillment.run_purchase"),
    ("reservation", "search", "fulfillment.search_purchase"),
    ("reservation", "resume", "fulfillment.resume_purchase"),
    ("gate", "stop", "fulfillment.stop_gate"),
    ("gate", "open_again", "fulfillment.open_gate"),
    ("log", "replay", "webhooks.replay_webhook"),
]


# Where the row of make_rows does not fit the decision yet.
FITTING = {
    "search": {"status": "unknown", "supplier_order_id": None},
    "resume": {"status": "held", "supplier_order_id": None},
    "open_again": {"status": "stopped"},
}


@pytest.mark.parametrize(("row", "name", "permission"), BUTTONS)
def test_button_needs_its_permission_a_post_and_a_csrf_token(client, rows, row, name, permission):
    row = getattr(rows, row)
    if name in FITTING:
        type(row).objects.filter(pk=row.pk).update(**FITTING[name])
    label = next(each.label for each in admin.site.get_model_admin(type(row)).decisions if each.name == name)
    view = f"{row._meta.app_label}.view_{row._meta.model_name}"
    client.force_login(make_staff(view))
    assert client.post(button_of(row, name)).status_code == 403
    refused = LogEntry.objects.get()
    assert (refused.object_id, refused.change_message) == (str(row.pk), f"Refused “{label}”: no permission.")
    ticked = {"action": name, "_selected_action": [str(row.pk)], "index": "0"}
    assert client.post(list_of(row._meta.label_lower), ticked).status_code == 403
    assert LogEntry.objects.count() == 2

    client.force_login(make_staff(view, permission))
    assert client.get(button_of(row, name)).status_code == 405
    assert button_of(row, name) in text(client.get(page_of(row)))
    assert press(client, row, name)
    careful = Client(enforce_csrf_checks=True)
    careful.force_login(make_staff(superuser=True))
    assert careful.post(button_of(row, name)).status_code == 403


def test_unknown_buttons_and_rows_are_not_found(boss, rows):
    assert boss.post(button_of(rows.order, "delete_selected")).status_code == 404
    assert boss.post(button_of(rows.order, "get_queryset")).status_code == 404
    assert boss.post(button_of(Order(pk=uuid.uuid4()), "run_delivery")).status_code == 404
    assert boss.post("/admin/orders/order/garbage/decide/run_delivery/").status_code == 404


NOWHERE = ("/admin/nowhere/", "/admin/orders/nowhere/7", f"/admin/orders/order/{uuid.UUID(int=7)}/decide/hold/")


@pytest.mark.parametrize("path", NOWHERE)
def test_staff_who_come_to_nothing_are_led_home(boss, path):
    answer = boss.get(path)
    page = text(answer)
    assert answer.status_code == 404
    assert "<h1>There is nothing here</h1>" in page
    assert '<input id="finder"' in page
    assert '<a class="choice" href="/admin/">Home</a>' in page
    assert 'href="/admin/orders/order/"' in page


@pytest.mark.parametrize("path", [*NOWHERE, "/admin/system/"])
def test_strangers_and_customers_learn_nothing_of_what_is_there(client, path):
    assert client.get(path)["Location"] == f"/admin/login/?next={path}"
    user = make_staff()
    user.is_staff = False
    user.save()
    client.force_login(user)
    assert client.get(path)["Location"] == f"/admin/login/?next={path}"


# --- what the buttons do ---


def test_fresh_link_is_mailed_and_ends_the_older_ones(boss, rows):
    said = press(boss, rows.order, "mail_fresh_link")
    rows.order.refresh_from_db()
    assert rows.order.link_generation == 2
    assert rows.order.emails.filter(kind="fresh_link").count() == 1
    assert OrderEvent.objects.get(order=rows.order, kind="mail").actor == boss.user.username
    done = "a fresh link goes to the customer; older links no longer open the order"
    assert said == [f"order {str(rows.order.pk)[:8]}: {done}"]
    assert LogEntry.objects.get().object_id == str(rows.order.pk)


def test_run_delivery_wakes_the_purchases_of_a_paid_order(boss, rows):
    Reservation.objects.update(next_attempt_at=None)
    press(boss, rows.order, "run_delivery")
    assert Reservation.objects.due().count() == 1
    assert OrderEvent.objects.filter(order=rows.order, kind="staff", actor=boss.user.username).count() == 1


def test_run_delivery_of_an_unpaid_order_is_refused(boss):
    order = make_order()
    assert "It is not paid" in press(boss, order, "run_delivery")[0]
    assert LogEntry.objects.count() == 0


def test_alert_is_closed_once(boss, rows):
    press(boss, rows.alert, "close")
    rows.alert.refresh_from_db()
    assert (rows.alert.status, rows.alert.closed_by) == ("closed", boss.user.username)
    assert "It is closed already." in press(boss, rows.alert, "close")[0]
    assert LogEntry.objects.count() == 1


def test_payment_is_read_again(boss, rows):
    Payment.objects.update(next_attempt_at=None)
    press(boss, rows.payment, "read_again")
    assert Payment.objects.due().count() == 1


def test_gate_is_stopped_and_opened(boss, rows, settings):
    press(boss, rows.gate, "stop")
    gate = SupplierGate.objects.get(pk=rows.gate.pk)
    assert (gate.status, gate.reason) == ("stopped", f"stopped by {boss.user.username}")
    assert "It is stopped already." in press(boss, rows.gate, "stop")[0]
    settings.SAFE_MODE = True
    assert "SAFE_MODE is set" in press(boss, rows.gate, "open_again")[1]
    assert SupplierGate.objects.get(pk=rows.gate.pk).status == "open"
    assert "It is open already." in press(boss, rows.gate, "open_again")[0]


def test_run_now_wakes_what_waits_and_refuses_what_is_over_or_in_hand(boss, rows):
    def set_to(**fields):
        Reservation.objects.filter(pk=rows.reservation.pk).update(next_attempt_at=None, **fields)

    set_to(status="pending")
    assert "takes its next step within seconds" in press(boss, rows.reservation, "run_now")[0]
    assert Reservation.objects.due().count() == 1
    for fields, why in (
        ({"status": "delivered"}, "It is delivered already"),
        ({"status": "cancelled"}, "It has ended"),
        ({"status": "sending", "claimed_until": Now() + timedelta(minutes=1)}, "A worker is handling it right now"),
        ({"status": "unknown", "claimed_until": None, "supplier_order_id": None}, "Search for it at the supplier"),
    ):
        set_to(**fields)
        assert why in press(boss, rows.reservation, "run_now")[0]
        assert Reservation.objects.due().count() == 0


def test_held_purchase_goes_on_unless_something_may_have_been_bought(boss, rows):
    assert "It is not held" in press(boss, rows.reservation, "resume")[0]
    Reservation.objects.update(status="held", reason="out_of_stock")
    assert "Something may have been bought" in press(boss, rows.reservation, "resume")[0]
    Reservation.objects.update(supplier_order_id=None)
    press(boss, rows.reservation, "resume")
    rows.reservation.refresh_from_db()
    assert (rows.reservation.status, rows.reservation.reason) == ("pending", "")
    assert OrderEvent.objects.filter(kind="reservation", actor=boss.user.username).count() == 1


def test_action_takes_a_hundred_rows_and_says_so(boss):
    first = make_rows().alert
    Alert.objects.bulk_create(Alert(kind="test", about_pk=str(number), message="x") for number in range(120))
    said = do(boss, "orders.alert", "close", first, select_across="1")
    assert said[0].startswith("100 alerts: closed")
    assert "Only the first 100 were taken" in said[1]
    assert Alert.objects.filter(status="closed").count() == 100
    assert LogEntry.objects.count() == 100


def test_action_on_several_rows_counts_those_that_were_left(boss, rows):
    other = make_rows().alert
    press(boss, other, "close")
    said = do(boss, "orders.alert", "close", rows.alert, other)
    assert said[0] == f"{short(rows.alert)}: closed; it opens again, with a mail, if the same thing happens again"
    assert said[1] == "1 left unchanged: It is closed already."


def test_ids_that_are_none_do_not_crash_an_action(boss, rows):
    for name, action in (("orders.order", "mail_fresh_link"), ("webhooks.webhooklog", "replay")):
        for value in ("garbage", "9" * 40, "-1", "\x00"):
            ticked = {"action": action, "_selected_action": [value], "index": "0"}
            assert boss.post(list_of(name), ticked).status_code in (302, 400), value


# --- searching and filtering ---


FOUND_BY = {
    "an order by its id": ("orders.order", "order", lambda rows: str(rows.order.pk)),
    "an order by its id without hyphens": ("orders.order", "order", lambda rows: rows.order.pk.hex),
    "an order as a mail spells it": ("orders.order", "order", lambda rows: f"  Order {str(rows.order.pk).upper()} "),
    "an order by the start of its id": ("orders.order", "order", lambda rows: str(rows.order.pk)[:8]),
    "an order by its short id": ("orders.order", "order", lambda rows: f"#{rows.order.pk.hex[:12]}"),
    "an order by its address in capitals": ("orders.order", "order", lambda rows: rows.order.email.upper()),
    "an order by the start of its address": ("orders.order", "order", lambda rows: rows.order.email.split("@")[0]),
    "a payment by its id": ("payments.payment", "payment", lambda rows: rows.payment.external_id),
    "a payment by its address": ("payments.payment", "payment", lambda rows: rows.payment.pay_address),
    "a payment by its refund": ("payments.payment", "payment", lambda rows: rows.refund.transaction_id),
    "a payment by its order": ("payments.payment", "payment", lambda rows: str(rows.order.pk)),
    "a refund by its transaction": ("payments.refund", "refund", lambda rows: rows.refund.transaction_id),
    "a purchase by the supplier's id": (
        "fulfillment.reservation",
        "reservation",
        lambda rows: rows.reservation.supplier_order_id,
    ),
    "a purchase by our id": ("fulfillment.reservation", "reservation", lambda rows: rows.reservation.external_id),
    "a purchase by our id without hyphens": (
        "fulfillment.reservation",
        "reservation",
        lambda rows: rows.reservation.external_id.replace("-", ""),
    ),
    "a purchase by its order": ("fulfillment.reservation", "reservation", lambda rows: str(rows.order.pk)),
    "a call by the supplier's id": (
        "fulfillment.suppliercall",
        "call",
        lambda rows: rows.reservation.supplier_order_id,
    ),
    "a key by its id": ("storage.key", "key", lambda rows: str(rows.key.pk)),
    "a key by its object": ("storage.key", "key", lambda rows: rows.key.object_name),
    "a key by its order": ("storage.key", "key", lambda rows: str(rows.order.pk)),
    "a delivery by its object": ("storage.keydeliverylog", "delivery", lambda rows: rows.key.object_name),
    "a webhook by its payment": ("webhooks.webhooklog", "log", lambda rows: rows.payment.external_id),
    "a webhook by its id": ("webhooks.webhooklog", "log", lambda rows: str(rows.log.pk)),
    "a mail by its address": ("orders.email", "email", lambda rows: rows.order.email),
}


@pytest.mark.parametrize("case", FOUND_BY)
def test_search_finds_a_row_by_every_id_that_people_hold(boss, rows, case):
    name, row, term = FOUND_BY[case]
    make_rows()
    found = boss.get(list_of(name, q=term(rows))).context["cl"].queryset
    assert getattr(rows, row) in found
    assert len(found) <= 4


def test_finder_on_the_first_page_searches_every_list(boss, rows):
    page = text(boss.get("/admin/", {"q": str(rows.order.pk)}))
    for row in (rows.order, rows.payment, rows.reservation, rows.key, rows.email):
        assert page_of(row) in page
    nothing = text(boss.get("/admin/", {"q": EVIL}))
    assert "Nothing has this id" in nothing
    assert EVIL not in nothing


PASTED = ["%", "\\", "_", "\x00", "a\x00b", "'", '"', "x" * 10_240, "9" * 400, "é" * 200, "\u202e", " ", "f" * 31]


@pytest.mark.parametrize("place", range(len(LISTS) + 1))
def test_search_survives_what_people_paste(boss, place):
    # Each list gets a quarter, the finder all: the lists share their search, but not their columns.
    path, terms = "/admin/", PASTED
    if place:
        path, terms = f"/admin/{list(LISTS)[place - 1].replace('.', '/')}/", PASTED[place % 4 :: 4]
    assert {term: boss.get(path, {"q": term}).status_code for term in terms} == dict.fromkeys(terms, 200)


def test_wildcards_are_not_wild(boss, rows):
    assert boss.get(list_of("orders.order", q="k%m")).context["cl"].result_count == 0


@pytest.mark.parametrize("query", ["o=9999", "o=x", "p=-1", "p=9999", "p=x", "e=1", "all=", "status__exact=nonsense"])
def test_odd_addresses_are_answered(boss, rows, query):
    assert boss.get(f"{list_of('orders.order')}?{query}", follow=True).status_code == 200


@pytest.mark.parametrize(
    ("name", "lookup"),
    [
        ("orders.order", "items__product__slug__startswith=e"),
        ("orders.order", "email__startswith=k"),
        ("payments.payment", "order__email__startswith=k"),
        ("storage.key", "wrapped_data_key__startswith=x"),
        ("storage.key", "ciphertext__isnull=1"),
        ("orders.idempotencyrecord", "key__startswith=s"),
        ("webhooks.webhooklog", "headers__x-nowpayments-sig__startswith=a"),
        ("admin.logentry", "user__password__startswith=p"),
    ],
)
def test_address_bar_reaches_no_other_column(boss, rows, name, lookup):
    assert boss.get(f"{list_of(name)}?{lookup}").status_code == 400


@pytest.mark.parametrize(
    "query", ["status__exact=%00", "order__exact=garbage", "created_at__gte=garbage", "status__in=a,b", "order=%00"]
)
def test_filters_survive_nonsense(boss, rows, query):
    assert boss.get(f"{list_of('payments.payment')}?{query}", follow=True).status_code == 200


@pytest.mark.parametrize("name", ["orders.order", "webhooks.webhooklog", "fulfillment.suppliergate", "payments.coin"])
@pytest.mark.parametrize("pk", ["garbage", "9" * 40, "_00", "-1"])
def test_pages_of_rows_that_do_not_exist_lead_back(boss, name, pk):
    answer = boss.get(f"{list_of(name)}{pk}/change/")
    assert answer.status_code == 302


# --- what is shown ---


@pytest.mark.once
@pytest.mark.parametrize("name", LISTS)
def test_names_and_payloads_are_escaped(boss, name):
    rows = make_rows(title=EVIL)
    for page in (boss.get(list_of(name)), boss.get(page_of(getattr(rows, LISTS[name])))):
        assert EVIL not in text(page)
    assert EVIL not in text(boss.get("/admin/"))


@pytest.mark.once
def test_no_key_and_nothing_that_opens_one_is_shown_anywhere(boss, rows):
    key = Key.objects.get(pk=rows.key.pk)
    secrets = [bytes(value) for value in (key.ciphertext, key.nonce, key.wrapped_data_key)]
    shapes = [SERIAL.decode(), *(secret.hex() for secret in secrets), *(str(secret)[2:-1] for secret in secrets)]
    for name in LISTS:
        for page in (boss.get(list_of(name)), boss.get(page_of(getattr(rows, LISTS[name])))):
            assert [shape for shape in shapes if shape in text(page)] == []
            assert rows.record.key not in text(page)


def test_what_seals_a_key_is_not_even_read_for_its_pages(boss, rows):
    with CaptureQueriesContext(connection) as queries:
        boss.get(list_of("storage.key"))
        boss.get(page_of(rows.key))
        boss.get(page_of(rows.order))
        boss.get(page_of(rows.delivery))
    read = [query["sql"].partition(" FROM ")[0] for query in queries]
    assert [sql for sql in read if "wrapped_data_key" in sql or '"nonce"' in sql] == []


def test_token_of_the_staff_api_is_not_shown(boss):
    made, token = AuthToken.objects.create(user=boss.user)
    pages = [boss.get(reverse("admin:knox_authtoken_changelist")), boss.get(page_of(made))]
    assert [page.status_code for page in pages] == [200, 200]
    assert all(token not in text(page) for page in pages)


def test_order_page_leads_everywhere(boss, rows):
    page = text(boss.get(page_of(rows.order)))
    for row in (rows.payment, rows.reservation, rows.key, rows.email, rows.alert, rows.refund):
        assert page_of(row) in page
    webhooks = re.search(r'href="(/admin/webhooks/webhooklog/\?[^"]*)"', page)[1].replace("&amp;", "&")
    assert rows.log in boss.get(webhooks).context["cl"].queryset


@pytest.mark.parametrize("start", OF_AN_ORDER)
def test_pages_lead_back_to_the_order(boss, rows, start):
    assert page_of(rows.order) in text(boss.get(page_of(getattr(rows, start))))


@pytest.mark.once
@pytest.mark.parametrize("start", ["order", "payment", "reservation", "item", "log"])
def test_every_link_of_a_page_leads_somewhere(boss, rows, start):
    page = text(boss.get(page_of(getattr(rows, start))))
    links = {link.replace("&amp;", "&") for link in re.findall(r'href="(/admin/[^"]*)"', page)}
    assert {link: boss.get(link).status_code for link in links} == dict.fromkeys(links, 200)


def test_page_of_a_new_order_says_what_is_not_there_yet(boss):
    page = text(boss.get(page_of(make_order())))
    assert "No provider knows of this order yet." in page


def test_first_page_shows_what_needs_a_person(boss, rows):
    Email.objects.update(next_attempt_at=Now() - timedelta(minutes=5))
    make_log(provider="kinguin", body=b"{}", external_id="")
    page = boss.get("/admin/")
    shown = " ".join(text(page).split())
    assert "Ember Drift needs attention." in shown
    assert rows.gate.host in shown
    assert "Is the worker running?" in shown


def test_first_page_says_that_safe_mode_is_set(boss, settings):
    settings.SAFE_MODE = True
    assert "SAFE_MODE is set" in text(boss.get("/admin/"))


def test_home_asks_as_often_for_three_rows_as_for_one(boss, rows, monkeypatch):
    # What is possible is asked for each case that is shown, and for no other.
    monkeypatch.setattr("bitloot.staff.cases.SHOWN", 1)

    def asked():
        caches["local"].clear()
        with CaptureQueriesContext(connection) as queries:
            boss.get("/admin/")
        return [query["sql"] for query in queries]

    asked()  # content types and the like are read once
    one = asked()
    make_rows()
    make_rows()
    three = asked()
    assert len(three) == len(one), three


def header_links(client):
    header = text(client.get("/admin/")).partition('<nav class="lists"')[2].partition("</nav>")[0]
    return re.findall(r"<a[^>]*>([^<>]+?) *<", header)


def test_header_leads_to_the_lists_in_the_order_of_the_work(boss, client):
    work = "Home Orders Payments Refunds Purchases Keys Mails Webhooks Products Approvals Alerts System"
    assert header_links(boss) == work.split()
    client.force_login(make_staff("payments.view_payment", "orders.view_order"))
    assert header_links(client) == ["Home", "Orders", "Payments", "System"]


def test_header_counts_what_waits(boss, rows):
    Order.objects.filter(pk=rows.order.pk).update(status="held")
    header = " ".join(text(boss.get(list_of("orders.product"))).split())
    assert re.search(r">Orders <b class=\"count\" [^>]*>1</b>", header)
    assert re.search(r">Payments</a>", header)


def test_every_list_of_the_header_exists_and_the_others_are_in_system(boss, rows):
    assert [label for label in HEADER if not admin.site.is_registered(apps.get_model(label))] == []
    page = text(boss.get("/admin/system/"))
    assert [name for name in LISTS if list_of(name) not in page] == []


def test_every_list_of_a_section_exists():
    named = [label for section in SECTIONS for label in section.models]
    assert len(set(named)) == len(named)
    assert [label for label in named if not admin.site.is_registered(apps.get_model(label))] == []


def test_panel_asks_for_its_permission_beside_the_lists(client, monkeypatch):
    panel = Panel(
        title="Costs", template="admin/bitloot/live_bar.html", query=lambda _: {}, permission="orders.hold_order"
    )
    monkeypatch.setattr(admin.site.get_model_admin(Order), "panels", (panel,))
    for permissions, is_shown in (
        (["view_order"], False),
        (["hold_order"], False),
        (["view_order", "hold_order"], True),
    ):
        client.force_login(make_staff(*(f"orders.{name}" for name in permissions)))
        assert ("Costs" in [shown["title"] for shown in client.get("/admin/").context["panels"]]) == is_shown


def test_page_is_extended_in_the_order_of_the_places_and_leaves_other_pages_alone(rf):
    class Page(DecisionAdmin):
        fieldsets = ((None, {"fields": ("id",)}),)

    class Late(ReadOnlyInline):
        model, place = Email, 90

    class Early(ReadOnlyInline):
        model, place = Payment, 10

    Page.extend(inlines=[Late], fieldsets=[("Elsewhere", {"fields": ("a",)})], of=Payment, decisions=(CLOSE,))
    Page.extend(inlines=[Early], fieldsets=[("Elsewhere", {"fields": ("b",)})], of=Key)
    page, request = Page(Order, admin.site), rf.get("/")
    request.user = make_staff("payments.view_payment", "storage.view_key")
    assert (page.inlines, page.decisions) == ([Early, Late], (CLOSE,))
    assert page.get_fieldsets(request)[1:] == (("Elsewhere", {"fields": ("a", "b")}),)
    request.user = make_staff("storage.view_key")
    assert page.get_fieldsets(request)[1:] == (("Elsewhere", {"fields": ("b",)}),)
    assert (list(DecisionAdmin.inlines), DecisionAdmin.extra_fieldsets, DecisionAdmin.decisions) == ([], (), ())


def test_page_of_one_app_is_only_its_lists(boss):
    page = text(boss.get("/admin/orders/"))
    assert "live-home" not in page
    assert list_of("orders.order") in page


def test_list_counts_rows_by_status(boss, rows):
    page = boss.get(list_of("fulfillment.reservation"))
    counts = {count["label"]: count["count"] for count in page.context["status_counts"]}
    assert counts["Pending"] == "1"
    assert counts["Held"] == "0"
    only = boss.get(list_of("fulfillment.reservation", status__exact="held"))
    assert only.context["cl"].result_count == 0
    assert "Nothing here matches" in text(only)


def test_live_fetch_leaves_messages_for_the_person(boss, rows):
    boss.post(button_of(rows.alert, "close"))
    assert "it opens again" not in text(boss.get(page_of(rows.alert), headers={"X-Live": "1"}))
    assert "it opens again" in text(boss.get(page_of(rows.alert)))


def test_long_lists_are_counted_and_paged_only_so_far(boss, monkeypatch):
    monkeypatch.setattr("bitloot.core.admin.base.MAX_COUNTED", 60)
    Alert.objects.bulk_create(Alert(kind="test", about_pk=str(number), message="x") for number in range(80))
    page = boss.get(list_of("orders.alert"))
    assert (page.context["cl"].result_count, len(page.context["cl"].result_list)) == (60, 50)
    assert "There are more than 60." in text(page)
    assert len(boss.get(list_of("orders.alert", p=2)).context["cl"].result_list) == 10


def test_long_tables_on_a_page_show_the_newest_rows(boss, rows):
    OrderEvent.objects.bulk_create(
        OrderEvent(order=rows.order, kind="staff", message=f"Fact number {number}.") for number in range(130)
    )
    page = text(boss.get(page_of(rows.order)))
    assert "Fact number 129." in page
    assert "Fact number 30." in page
    assert "Fact number 29." not in page
    assert "These are the newest 100." in page


# --- the story of a replay ---


def test_broken_handler_is_mended_and_replayed(boss, monkeypatch):
    order = make_order()

    def broken(log):
        raise ZeroDivisionError("a bug")

    def mended(log):
        paid = Order.objects.get(pk=order.pk).mark_paid(message="Paid.")
        return Outcome.processed("paid" if paid else "nothing new")

    def work():
        WebhookLog.objects.filter(next_attempt_at__isnull=False, status="received").update(next_attempt_at=Now())
        drain_webhooks()
        log.refresh_from_db()
        order.refresh_from_db()
        return log.status, log.outcome, order.status

    log = make_log(body=ipn())
    monkeypatch.setitem(HANDLERS, "nowpayments", broken)
    assert work() == ("failed", "ZeroDivisionError: a bug", "pending")
    assert "It could not be handled: ZeroDivisionError: a bug" in text(boss.get("/admin/"))

    monkeypatch.setitem(HANDLERS, "nowpayments", mended)
    assert "handed to its handler again" in press(boss, log, "replay")[0]
    assert work() == ("processed", "paid", "paid")
    timeline = list(order.events.values_list("to_status", "message"))

    assert do(boss, "webhooks.webhooklog", "replay", log)[0].endswith("the result within seconds")
    assert work() == ("processed", "nothing new", "paid")
    assert list(order.events.values_list("to_status", "message")) == timeline
    assert log.replays == 2
    assert LogEntry.objects.filter(object_id=str(log.pk)).count() == 2


def test_webhook_in_a_workers_hand_or_with_a_changed_body_is_not_replayed(boss, rows):
    WebhookLog.objects.filter(pk=rows.log.pk).update(claim_token=uuid.uuid4())
    assert "A worker is handling it right now" in press(boss, rows.log, "replay")[0]
    WebhookLog.objects.filter(pk=rows.log.pk).update(claim_token=None, body=b"{}")
    assert "not the one that was verified" in press(boss, rows.log, "replay")[0]
    rows.log.refresh_from_db()
    assert rows.log.replays == 0
    assert LogEntry.objects.count() == 0


@pytest.mark.parametrize("name", LISTS)
def test_first_column_of_a_list_is_no_link_within_a_link(boss, name):
    make_rows()
    assert not re.search(r"<a [^>]*>\s*<a ", boss.get(list_of(name)).content.decode())
