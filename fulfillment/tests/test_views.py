"""The road through the API; what bad input does is in bitloot/tests/test_bad_input.py."""

import base64
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from knox.models import AuthToken

from fulfillment.models import Reservation
from orders.access import make_token
from orders.models import Alert, Order
from orders.tests.factories import make_order, make_paid_order, make_product
from storage.models import Key, KeyDeliveryLog
from storage.services import shred
from storage.tests.factories import SERIAL, make_key

pytestmark = pytest.mark.django_db
JSON = "application/json"


def ask(client, order, what, method="get"):
    headers = {"Authorization": f"Bearer {make_token(order, 'api')}"}
    options = {"content_type": "application/json"} if method == "post" else {}
    return getattr(client, method)(f"/api/fulfillment/{order.id}/{what}", headers=headers, **options)


def unpad(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def download(client, url, settings):
    return client.get(url.removeprefix(settings.SITE_URL)).content


@pytest.mark.parametrize("status", Order.Status.values)
def test_the_status_says_how_far_it_is(client, status):
    order = make_order(status=status)
    answer = ask(client, order, "status")
    expected = {"order_id": str(order.id), "status": order.fulfillment_word}
    if order.customer_error:
        expected["error"] = order.customer_error
    assert [answer.status_code, answer.json()] == [200, expected]


def test_a_link_leads_to_ciphertext_and_reveal_to_what_opens_it(client, settings):
    order = make_paid_order(make_product(slug="ember-drift"))
    key = make_key(order.items.get())
    link = ask(client, order, "download-link")
    assert link.status_code == 200
    body = link.json()
    (stored,) = body["keys"]
    assert [body["order_id"], body["download_url"]] == [str(order.id), stored["download_url"]]
    assert [stored["id"], stored["product"], stored["content_type"]] == [str(key.id), "ember-drift", "text/plain"]
    assert set(stored) == {"id", "product", "download_url", "content_type"}

    answer = ask(client, order, "reveal", "post")
    assert answer.status_code == 200
    (opened,) = answer.json()["keys"]
    assert opened["algorithm"] == "A256GCM"
    ciphertext = download(client, opened["download_url"], settings)
    assert download(client, stored["download_url"], settings) == ciphertext
    assert download(client, opened["fallback_url"], settings) == ciphertext
    plaintext = AESGCM(unpad(opened["key"])).decrypt(unpad(opened["nonce"]), ciphertext, unpad(opened["aad"]))
    assert plaintext == SERIAL
    for served in (link.content, answer.content, ciphertext):
        assert SERIAL not in served


def test_a_link_changes_nothing_and_a_reveal_is_logged(client):
    order = make_paid_order()
    make_key(order.items.get())
    ask(client, order, "download-link")
    log = KeyDeliveryLog.objects.get()
    assert [log.status, log.times_accessed, log.last_accessed_at, Key.objects.get().viewed_at] == [
        "stored",
        0,
        None,
        None,
    ]
    for times in (1, 2, 3):
        assert ask(client, order, "reveal", "post").status_code == 200
        log.refresh_from_db()
        assert [log.status, log.times_accessed, log.last_accessed_at is None] == ["handed_out", times, False]
    assert Key.objects.get().viewed_at is not None


@pytest.mark.parametrize("what", ["download-link", "reveal"])
def test_a_partly_delivered_order_shows_what_is_there(client, what):
    order = make_paid_order(make_product(), make_product())
    key = make_key(order.items.first())
    answer = ask(client, order, what, "post" if what == "reveal" else "get")
    assert [row["id"] for row in answer.json()["keys"]] == [str(key.id)]


@pytest.mark.parametrize("what", ["download-link", "reveal"])
def test_keys_that_were_destroyed_are_gone(client, what):
    order = make_paid_order()
    shred(make_key(order.items.get()), reason="test")
    answer = ask(client, order, what, "post" if what == "reveal" else "get")
    assert [answer.status_code, answer.json()["code"]] == [410, "gone"]


@pytest.mark.parametrize("what", ["download-link", "reveal"])
def test_keys_whose_retention_ended_are_gone(client, what):
    order = make_paid_order()
    make_key(order.items.get())
    KeyDeliveryLog.objects.update(expires_at=Now() - timedelta(seconds=1))
    answer = ask(client, order, what, "post" if what == "reveal" else "get")
    assert [answer.status_code, answer.json()["code"]] == [410, "gone"]
    assert KeyDeliveryLog.objects.get().times_accessed == 0


def test_a_key_whose_master_is_missing_is_503_with_an_alert_and_no_half_of_it(client, settings):
    order = make_paid_order()
    make_key(order.items.get())
    settings.KEY_ENCRYPTION_SECRET = "another-secret-" * 4
    answer = ask(client, order, "reveal", "post")
    assert [answer.status_code, answer.json()["code"]] == [503, "integrity"]
    assert Alert.objects.get().kind == "key_integrity"
    assert KeyDeliveryLog.objects.get().times_accessed == 0


@pytest.mark.parametrize("what", ["download-link", "reveal"])
def test_three_keys_cost_as_many_statements_as_one(client, what):
    orders = [make_paid_order(), make_paid_order(make_product(), make_product(), make_product())]
    statements = []
    for order in orders:
        for item in order.items.all():
            make_key(item)
        with CaptureQueriesContext(connection) as captured:
            assert (
                len(ask(client, order, what, "post" if what == "reveal" else "get").json()["keys"])
                == order.items.count()
            )
        statements.append(len(captured))
    assert statements[0] == statements[1]


@pytest.fixture
def staff():
    user = get_user_model().objects.create(username="grace", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="deliver_order"))
    return f"Token {AuthToken.objects.create(user)[1]}"


def deliver(client, order, staff, body):
    return client.post(
        f"/api/fulfillment/{order.id}/deliver", body, content_type=JSON, headers={"Authorization": staff}
    )


def test_staff_run_a_delivery_at_once(client, staff):
    order = make_paid_order()
    Reservation.objects.update(next_attempt_at=Now() + timedelta(hours=1))
    answer = deliver(client, order, staff, {})
    assert [answer.status_code, answer.json()] == [202, {"order_id": str(order.id), "status": "processing"}]
    assert Reservation.objects.filter(next_attempt_at__lte=Now()).exists()
    note = order.events.filter(kind="staff").get()
    assert [note.message, note.actor] == ["Staff asked for the delivery to run now.", "grace"]


def test_staff_deliver_codes_that_they_typed(client, staff):
    order = make_paid_order(make_product(), quantity=2)
    item = order.items.get()
    codes = [{"item": str(item.id).upper(), "serial": " CANARY-1 "}, {"item": str(item.id), "serial": "CANARY-2"}]
    answer = deliver(client, order, staff, {"codes": codes, "reason": "The supplier is away."})
    assert [answer.status_code, answer.json()["status"]] == [202, "fulfilled"]
    reservation = Reservation.objects.get()
    assert [reservation.status, reservation.manual, reservation.supplier_order_id] == ["delivered", True, None]
    assert Key.objects.count() == 2
    assert ask(client, order, "reveal", "post").status_code == 200
    for row in [*order.events.values(), *Key.objects.values()]:
        assert "CANARY" not in repr(row)


@pytest.mark.parametrize(
    ("reason", "says"),
    [
        ({}, "Say why codes are delivered by hand."),
        ({"reason": ""}, "This field may not be blank."),
        ({"reason": "  "}, "This field may not be blank."),
    ],
)
def test_codes_need_a_reason(client, staff, reason, says):
    order = make_paid_order()
    codes = [{"item": str(order.items.get().id), "serial": "CANARY"}]
    answer = deliver(client, order, staff, {"codes": codes, **reason})
    assert [answer.status_code, answer.json()["errors"]] == [422, {"reason": [says]}]
    assert not Key.objects.exists()


@pytest.mark.parametrize("status", ["sending", "unknown", "reserved", "given"])
def test_codes_are_refused_while_a_purchase_may_exist(client, staff, status):
    order = make_paid_order()
    Reservation.objects.update(status=status)
    codes = [{"item": str(order.items.get().id), "serial": "CANARY"}]
    answer = deliver(client, order, staff, {"codes": codes, "reason": "why"})
    assert [answer.status_code, answer.json()["code"]] == [409, "permit_open"]
    assert not Key.objects.exists()


@pytest.mark.parametrize("status", ["pending", "underpaid", "expired", "cancelled", "refund_due", "refunded"])
@pytest.mark.parametrize("with_codes", [True, False])
def test_nothing_is_delivered_without_money(client, staff, status, with_codes):
    order = make_paid_order()
    Order.objects.update(status=status)
    codes = [{"item": str(order.items.get().id), "serial": "CANARY"}]
    answer = deliver(client, order, staff, {"codes": codes, "reason": "why"} if with_codes else {})
    assert [answer.status_code, answer.json()["code"]] == [409, "not_deliverable"]
    assert not Key.objects.exists()


def test_a_delivered_item_is_not_delivered_again(client, staff):
    order = make_paid_order()
    item = order.items.get()
    body = {"codes": [{"item": str(item.id), "serial": "CANARY-1"}], "reason": "why"}
    assert deliver(client, order, staff, body).status_code == 202
    Order.objects.update(status="held")
    answer = deliver(client, order, staff, {**body, "codes": [{"item": str(item.id), "serial": "CANARY-2"}]})
    assert [answer.status_code, answer.json()["code"], Key.objects.count()] == [422, "codes_refused", 1]


@pytest.mark.parametrize("status", ["refund_due", "refunded"])
def test_key_that_was_delivered_opens_when_the_money_for_the_rest_goes_back(client, status):
    order = make_paid_order(quantity=2)
    assert ask(client, order, "reveal", "post").json()["code"] == "not_stored_yet"
    Order.objects.update(status=status)
    assert ask(client, order, "reveal", "post").json()["code"] == "gone"
    key = make_key(order.items.get())
    assert [opened["id"] for opened in ask(client, order, "reveal", "post").json()["keys"]] == [str(key.pk)]
    assert ask(client, order, "download-link").status_code == 200


def test_a_browser_reports_that_it_opened_a_key(client):
    order = make_paid_order()
    key = make_key(order.items.get())
    path = f"/api/fulfillment/{order.id}/download-report"
    headers = {"Authorization": f"Bearer {make_token(order, 'api')}"}

    def report(result):
        body = {"key": str(key.pk), "result": result}
        return client.post(path, body, content_type="application/json", headers=headers).status_code

    assert report("opened") == 404  # it was not handed out
    ask(client, order, "reveal", "post")
    assert [report("opened"), report("nonsense")] == [204, 422]
    assert KeyDeliveryLog.objects.get().status == "opened"
    assert (
        client.post(path, {"key": str(key.pk), "result": "opened"}, content_type="application/json").status_code == 404
    )
