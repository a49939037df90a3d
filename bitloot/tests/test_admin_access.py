"""Who may come into the admin, and who may press which button."""

import uuid

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.test import Client

from bitloot.tests.staff import button_of, list_of, make_staff, page_of, press, text
from orders.models import Order
from payments.models import Payment

PASSWORD = "a long enough word"

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("path", ["", "orders/order/", "orders/order/x/decide/run_delivery/", "nothing/at/all/"])
def test_anonymous_people_are_led_to_the_login_and_learn_nothing(client, path):
    answer = client.get(f"/admin/{path}")
    assert answer.status_code == 302
    assert answer["Location"].startswith("/admin/login/?next=")


def test_login_page_names_no_model_and_goes_nowhere_else(client):
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


def test_login_is_locked_after_ten_wrong_passwords_for_that_address_only(client):
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
