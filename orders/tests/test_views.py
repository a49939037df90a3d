"""The road through the API; what bad input does is in bitloot/tests/test_bad_input.py."""

import uuid
from decimal import Decimal

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from orders.access import make_token, open_order
from orders.models import Email, Order
from orders.tests.factories import make_order, make_product

pytestmark = pytest.mark.django_db
KEY = "a-key-of-16-chars"


def place(client, product, headers=None, **changes):
    body = {"email": "ada@example.org", **changes}
    body.setdefault("items", [{"product": product and product.slug, "quantity": 2}])
    return client.post("/api/orders", body, content_type="application/json", headers=headers)


def test_each_request_is_answered_in_its_own_language(client):
    """Fails with one serializer for all languages: its fields keep the sentence that they said first."""
    said = []
    for language in ("en", "de", "en"):
        answer = place(client, None, {"Accept-Language": language}, items=[{"product": "x" * 81, "quantity": 1}])
        assert answer.status_code == 422
        said.append(answer.json()["errors"]["items.0.product"])
    assert said == [
        ["Ensure this field has no more than 80 characters."],
        ["Stelle sicher, dass dieses Feld nicht mehr als 80 Zeichen lang ist."],
        ["Ensure this field has no more than 80 characters."],
    ]


def test_an_order_comes_back_with_its_bearer(client):
    product = make_product(price=Decimal("0.10"))
    answer = place(client, product)
    order = Order.objects.get()
    item = order.items.get()
    assert answer.status_code == 201
    assert answer.json() == {
        "id": str(order.id),
        "status": "pending",
        "total": "0.20",
        "currency": "EUR",
        "items": [
            {
                "id": str(item.id),
                "product": product.slug,
                "title": product.title,
                "quantity": 2,
                "unit_price": "0.10",
            }
        ],
        "access_token": make_token(order, "api", issued_at=order.created_at.timestamp()),
    }
    assert open_order(order.id, answer.json()["access_token"]) == order
    assert answer["Cache-Control"] == "no-store"
    assert answer["X-Robots-Tag"] == "noindex"
    assert uuid.UUID(hex=answer["X-Request-Id"])


def test_a_repeat_with_the_same_key_is_the_same_answer(client):
    product = make_product()
    answers = [place(client, product, {"Idempotency-Key": KEY}) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [201] * 3
    assert answers[0].json() == answers[1].json() == answers[2].json()
    assert [answer.get("Idempotent-Replayed") for answer in answers] == [None, "true", "true"]
    assert Order.objects.count() == 1


def test_the_same_key_with_another_body_is_refused(client):
    product = make_product()
    place(client, product, {"Idempotency-Key": KEY})
    answer = place(client, product, {"Idempotency-Key": KEY}, email="bob@example.org")
    assert [answer.status_code, answer.json()["code"]] == [422, "idempotency_key_reused"]
    assert Order.objects.count() == 1


def test_an_existing_customer_is_no_different(client):
    product = make_product()
    make_order(product, email="ada@example.org")
    first, second = place(client, product).json(), place(client, product, email="new@example.org").json()
    assert set(first) == set(second)


def lookup(client, order_id, email):
    body = {"order_id": str(order_id), "email": email}
    return client.post("/api/orders/lookup", body, content_type="application/json")


def test_a_lookup_answers_everybody_the_same(client):
    order = make_order(email="ada@example.org")
    asked = [
        (order.id, "ada@example.org"),
        (order.id, "bob@example.org"),
        (uuid.uuid4(), "ada@example.org"),
        ("nonsense", "ada@example.org"),
    ]
    answers = [lookup(client, *one) for one in asked]
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.content for answer in answers}) == 1
    headers = [{name: value for name, value in answer.items() if name != "X-Request-Id"} for answer in answers]
    assert headers[0] == headers[1] == headers[2] == headers[3]
    assert Email.objects.filter(kind="fresh_link").count() == 1


def test_a_lookup_costs_the_same_for_everybody(client, django_assert_num_queries):
    order = make_order(email="ada@example.org")
    for order_id, email in ((order.id, order.email), (order.id, "b@example.org"), (uuid.uuid4(), "a@b.example")):
        with django_assert_num_queries(8):
            lookup(client, order_id, email)


def test_placing_an_order_costs_the_same_for_each_size(client, settings):
    """BEGIN, key, whether we buy, limit, the order with all that belongs to it, COMMIT; products and stock one by one.

    PostgreSQL locks the address for the limit, and SQLite writes to the four tables one by one. Without Redis the
    counters are statements as well.
    """
    settings.THROTTLE_SCALE = 1  # or the limit is not asked for
    counts = []
    for size in (1, 3):
        items = [{"product": make_product().slug, "quantity": 1} for _ in range(size)]
        with CaptureQueriesContext(connection) as seen:
            assert place(client, None, {"Idempotency-Key": f"{KEY}-{size}"}, items=items).status_code == 201
        counts.append(sum("core_allowance" not in query["sql"] for query in seen) - 2 * size)
    assert counts == [7 if connection.vendor == "postgresql" else 9] * 2


def test_the_throttle_counts_by_address_and_says_when_to_come_back(client, settings):
    settings.THROTTLE_SCALE = 0.1  # six orders a minute
    product = make_product()
    answers = [place(client, product, email=f"a{number}@example.org") for number in range(7)]
    assert [answer.status_code for answer in answers] == [201] * 6 + [429]
    assert [answers[-1].json()["code"], 0 < int(answers[-1]["Retry-After"]) <= 61] == ["throttled", True]
    assert client.get("/api/products").status_code == 200
    # A header that no proxy of ours wrote buys no fresh budget.
    assert place(client, product, {"X-Forwarded-For": "203.0.113.9"}).status_code == 429
    assert (
        client.post("/api/orders", "{}", content_type="application/json", REMOTE_ADDR="203.0.113.9").status_code == 422
    )
    assert Order.objects.count() == 6
