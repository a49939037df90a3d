"""A leaked link, a browser's history, a read of the database: what they open, and how their reach ends."""

import re
import uuid
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.sessions.models import Session
from django.core import mail as outbox
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from orders import codes
from orders.access import make_token
from orders.exceptions import LinkReplaced
from orders.mail import sending
from orders.models import AccessCode, Email, IdempotencyRecord, Order
from orders.services import close_other_links, correct_address, renew_link
from orders.tasks import drain_mails
from orders.tests.factories import make_order, make_product
from storage import links

pytestmark = pytest.mark.django_db
IDEMPOTENCY_KEY = "a-key-of-sixteen-chars"


def post(client, path, body, token=None, **headers):
    headers |= {"Authorization": f"Bearer {token}"} if token else {}
    return client.post(path, body, content_type="application/json", headers=headers)


def read(client, order, token):
    return client.get(f"/api/orders/{order.id}", headers={"Authorization": f"Bearer {token}"}).status_code


def reveal(client, order, token):
    return post(client, f"/api/fulfillment/{order.id}/reveal", {}, token).status_code


def redeem(client, order_id, code):
    return post(client, "/api/orders/redeem", {"order_id": str(order_id), "code": code})


def check_out(client):
    product = make_product()
    form = client.get("/checkout", {"product": product.slug}).context["form"]
    sent = {"product": product.slug, "quantity": "1", "email": "kim@customer.example"}
    answer = client.post("/checkout", sent | {"idempotency_key": form.initial["idempotency_key"]})
    address = urlsplit(answer["Location"])
    return Order.objects.get(pk=address.path.rpartition("/")[2]), address.fragment


def mailed_code(order):
    drain_mails()
    return re.search(r"Your code: (\d{6})", outbox.outbox[-1].body)[1]


def ask_for_code(client, order, email=None):
    asked = {"order_id": str(order.id), "email": email or order.email}
    assert post(client, "/api/orders/code", asked).status_code == 202


# --- M3: a token that never ended ---


@pytest.mark.parametrize("end", ["lookup", "close"])
def test_fresh_link_and_closing_end_the_api_token(client, end):
    order = make_order()
    stolen = make_token(order, "api")
    assert read(client, order, stolen) == 200
    if end == "lookup":
        post(client, "/api/orders/lookup", {"order_id": str(order.id), "email": order.email})
        kept = None
    else:
        answer = post(client, "/api/orders/close-links", {"order_id": str(order.id)}, make_token(order, "mail"))
        kept = answer.json()["access_token"]
    assert [read(client, order, stolen), reveal(client, order, stolen)] == [410, 410]
    assert kept is None or read(client, order, kept) == 200
    assert order.emails.filter(kind=Email.Kind.FRESH_LINK).count() == 1


def test_close_links_demands_the_orders_own_token(client):
    order, other = make_order(), make_order()
    for token in (None, "x", make_token(other, "api")):
        assert post(client, "/api/orders/close-links", {"order_id": str(order.id)}, token).status_code == 404
    order.refresh_from_db()
    assert order.link_generation == 1


def test_thief_who_closes_again_and_again_does_not_flood_the_customer(client):
    order = make_order()
    token = make_token(order, "api")
    for _ in range(5):
        answer = post(client, "/api/orders/close-links", {"order_id": str(order.id)}, token)
        token = answer.json()["access_token"]
    assert order.emails.filter(kind=Email.Kind.FRESH_LINK).count() == 3
    assert read(client, order, token) == 200


def test_address_that_the_checkout_leaves_in_the_history_opens_nothing(client):
    order, fragment = check_out(client)
    assert read(client, order, fragment) == 404
    token = redeem(client, order.id, fragment).json()["access_token"]
    assert read(client, order, token) == 200
    # What a shared or synced browser offers afterwards.
    assert redeem(client, order.id, fragment).json()["code"] == "code_refused"


def test_code_of_the_checkout_is_for_its_order_and_for_minutes(client):
    order, fragment = check_out(client)
    other = make_order()
    late, late_fragment = check_out(Client())
    AccessCode.objects.filter(order=late).update(created_at="2020-01-01T00:00:00Z")
    forged = f"c.{uuid.uuid4().hex}.{fragment.split('.', 2)[2]}"
    tried = [(other.id, fragment), (late.id, late_fragment), (order.id, forged), (order.id, fragment[:-2]),
             (uuid.uuid4(), fragment), ("nonsense", fragment), (order.id, "c."), (order.id, "c.x.y")]  # fmt: skip
    answers = [redeem(client, order_id, code) for order_id, code in tried]
    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(422, "code_refused")}
    assert redeem(client, order.id, fragment).status_code == 200


def test_ending_the_links_ends_the_codes_as_well(client):
    order, fragment = check_out(client)
    post(client, "/api/orders/close-links", {"order_id": str(order.id)}, make_token(order, "api"))
    assert redeem(client, order.id, fragment).status_code == 422


def test_code_that_is_entered_while_the_links_are_ended_opens_nothing_afterwards(client):
    order, fragment = check_out(client)

    def end_links_once_it_is_spent(execute, sql, *rest):
        answer = execute(sql, *rest)
        if sql.startswith("UPDATE") and "orders_accesscode" in sql and order.link_generation == 1:
            order.link_generation = 2  # so that it happens once
            renew_link(order)
        return answer

    with connection.execute_wrapper(end_links_once_it_is_spent):
        token = redeem(client, order.id, fragment).json()["access_token"]
    assert read(client, order, token) == 410


def test_of_two_who_end_the_links_with_one_token_only_the_first_gets_a_new_one(client):
    order = make_order()
    same = Order.objects.get(pk=order.pk)
    close_other_links(order)
    with pytest.raises(LinkReplaced):
        close_other_links(same)
    assert read(client, order, make_token(order, "api")) == 200


# --- six digits by mail ---


def test_code_by_mail_opens_the_order_once(client):
    order = make_order()
    ask_for_code(client, order)
    code = mailed_code(order)
    token = redeem(client, order.id, f" {code[:3]} {code[3:]} ").json()["access_token"]
    assert read(client, order, token) == 200
    assert redeem(client, order.id, code).status_code == 422


def test_five_wrong_digits_end_the_code(client):
    order = make_order()
    ask_for_code(client, order)
    code = mailed_code(order)
    wrong = "000000" if code != "000000" else "111111"
    assert {redeem(client, order.id, wrong).status_code for _ in range(5)} == {422}
    assert redeem(client, order.id, code).status_code == 422


def test_code_by_mail_ends_after_a_quarter_of_an_hour(client):
    order = make_order()
    ask_for_code(client, order)
    code = mailed_code(order)
    AccessCode.objects.update(created_at=timezone.now() - timedelta(minutes=16))
    assert redeem(client, order.id, code).status_code == 422


def test_newer_code_ends_the_one_before_and_there_are_three_an_hour(client):
    order = make_order()
    for _ in range(4):
        ask_for_code(client, order)
    assert order.emails.filter(kind=Email.Kind.ACCESS_CODE).count() == 3
    assert AccessCode.objects.filter(order=order, ended_at=None).count() == 1


def test_code_for_a_corrected_address_is_not_mailed_to_the_address_before():
    order = make_order(email="wrong@customer.example")
    codes.mail_code(order_id=order.id, email=order.email)
    (claimed,) = Email.objects.claim(only=order.emails.get(kind=Email.Kind.ACCESS_CODE).pk)
    with sending([claimed]) as send_one:  # which has read the order
        correct_address(order, email="right@customer.example", actor="kim", reason="Mistyped.")
        codes.mail_code(order_id=order.id, email=order.email)
        send_one(claimed)
    assert outbox.outbox == []
    assert Email.objects.get(pk=claimed.pk).status == "overtaken"
    assert re.fullmatch(r"\d{6}", mailed_code(order))


def test_asking_for_a_code_shows_nothing_and_costs_the_same(client):
    order = make_order()
    counts, bodies = [], set()
    asked = [(order.id, order.email), (order.id, "b@example.org"), (uuid.uuid4(), "a@b.example")]
    for order_id, email in asked:
        with CaptureQueriesContext(connection) as seen:
            answer = post(client, "/api/orders/code", {"order_id": str(order_id), "email": email})
        counts.append(len(seen))
        bodies.add((answer.status_code, answer.content))
    assert len(set(counts)) == 1
    assert len(bodies) == 1
    assert AccessCode.objects.count() == 1


def test_database_alone_does_not_tell_the_digits(client, settings):
    order = make_order()
    ask_for_code(client, order)
    before = codes.digits_of(AccessCode.objects.get())
    settings.ORDER_TOKEN_SECRET = "another" * 10
    assert codes.digits_of(AccessCode.objects.get()) != before


# --- SECRET_KEY and the secret of the links ---


def test_secret_key_rotates_without_ending_a_link(client, settings):
    order = make_order()
    token, link = make_token(order, "mail"), links.sign_own_url("object")
    settings.SECRET_KEY = "another" * 10
    settings.SECRET_KEY_FALLBACKS = []
    query = dict(pair.split("=") for pair in urlsplit(link.url).query.split("&"))
    assert read(client, order, token) == 200
    assert links.is_valid("object", query["expires"], query["signature"])


# --- M2: the database alone ---


def place(client, **changes):
    body = {"email": "kim@customer.example", "items": [{"product": changes["product"].slug, "quantity": 1}]}
    headers = {"Idempotency-Key": changes.get("key", IDEMPOTENCY_KEY)}
    return client.post("/api/orders", body, content_type="application/json", headers=headers)


def test_idempotency_key_in_the_database_repeats_no_request(client):
    product = make_product()
    place(client, product=product)
    record = IdempotencyRecord.objects.get()
    columns = [str(getattr(record, field.attname)) for field in IdempotencyRecord._meta.concrete_fields]
    assert not any(IDEMPOTENCY_KEY in column for column in columns)
    repeated = place(client, product=product, key=record.key)
    assert repeated.json()["id"] != str(record.object_id)


@pytest.mark.parametrize("event", ["paid", "links ended"])
def test_idempotency_key_brings_no_token_any_more(client, event):
    product = make_product()
    first = place(client, product=product).json()
    assert place(client, product=product).json() == first
    order = Order.objects.get()
    if event == "paid":
        order.mark_paid(message="Paid in full.")
    else:
        post(client, "/api/orders/close-links", {"order_id": first["id"]}, first["access_token"])
    answer = place(client, product=product)
    assert [answer.status_code, answer.json()["code"]] == [409, "order_is_placed"]
    assert "access_token" not in answer.json()
    assert Order.objects.count() == 1


def test_session_in_the_database_signs_nobody_in(client):
    user = get_user_model().objects.create_superuser("ada", password="a long password of ada")
    client.force_login(user)
    assert client.get("/admin/").status_code == 200
    thief = Client()
    thief.cookies[settings.SESSION_COOKIE_NAME] = Session.objects.get().session_key
    assert thief.get("/admin/").status_code == 302
    client.logout()
    assert not Session.objects.exists()
