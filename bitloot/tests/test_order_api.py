"""The order's answer and its ETag: whatever changes the one changes the other, and a poll costs two statements."""

import json
import uuid
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db.models import F
from django.utils import timezone

from bitloot.shop.serializers import ItemSerializer, OrderSerializer
from fulfillment.models import Reservation
from orders.access import make_token
from orders.models import Order, OrderItem, Product
from orders.serializers import PlacedOrderSerializer
from orders.state import OrderEvent
from orders.tests.factories import make_order, make_product
from payments.models import Coin, Payment, Refund
from payments.serializers import PaymentSerializer
from payments.tests.factories import ASKED, make_coin, make_payment
from storage.models import Key
from storage.tests.factories import make_key

pytestmark = pytest.mark.django_db
PATH = "/api/orders/{}"


def read(client, order, etag=None, *, query="", **headers):
    headers = {"Authorization": f"Bearer {make_token(order, 'api')}", **headers}
    if etag is not None:
        headers["If-None-Match"] = etag
    return client.get(PATH.format(order.id) + query, headers=headers)


def make_reservation(item, **fields):
    return Reservation.objects.create(item=item, external_id=str(uuid.uuid4()), dialect="ecommerce", **fields)


@pytest.fixture
def order():
    """An order with every kind of row that its answer shows."""
    order = make_order(make_product(title="One"), make_product(title="Two"), status="underpaid")
    soon = timezone.now() + timedelta(minutes=20)
    make_coin(needs_memo=False)
    payment = make_payment(order, status="partially_paid", credit="1.00", reason="too_little")
    make_payment(order, expires_at=soon)
    Refund.objects.create(order=order, payment=payment, amount=Decimal("0.5"), currency="btc", reason="asked")
    for item in order.items.all():
        make_reservation(item)
        make_key(item)
    return order


# Rows, the change, and whether the customer sees it.
LATER = timezone.now() + timedelta(minutes=40)
OVER = timezone.now() - timedelta(minutes=1)
WAITING = Payment.objects.filter(status="waiting")
CHANGES = {
    "order moves": (Order, {"status": "held"}, True),
    "order's end": (Order, {"expires_at": LATER}, True),
    "order's address": (Order, {"email": "zoe@other.example"}, True),
    "why staff hold it": (Order, {"reason": "too_dear"}, False),
    "payment moves": (WAITING, {"status": "confirming"}, True),
    "payment is named": (WAITING, {"external_id": "42"}, True),
    "address": (WAITING, {"pay_address": "elsewhere"}, True),
    "amount": (WAITING, {"pay_amount": "0.5"}, True),
    "memo": (WAITING, {"payin_extra_id": "123"}, True),
    "network": (WAITING, {"network": "ln"}, True),
    "coins seen": (WAITING, {"actually_paid": "0.0001"}, True),
    "quote prolonged": (WAITING, {"expires_at": LATER}, True),
    "quote over": (WAITING, {"expires_at": OVER}, True),
    "credit": (Payment.objects.filter(status="partially_paid"), {"credit": "2.00"}, True),
    "no answer": (WAITING, {"reason": "no_answer"}, True),
    "payment read again": (Payment, {"read_at": LATER, "evidence": {"a": 1}, "provider_status": "waiting"}, False),
    "payment claimed": (Payment, {"claim_token": uuid.uuid4(), "claimed_until": LATER, "attempts": 3}, False),
    "transaction": (Payment, {"payin_hash": "0xab"}, True),
    "refund sent": (Refund, {"status": "sent", "transaction_id": "0xabc"}, True),
    "refund is all": (Refund, {"kind": "surplus"}, True),
    "refund arrived": (Refund, {"done_at": LATER}, True),
    "coin needs a memo": (Coin, {"needs_memo": True}, True),
    "coin takes a memo": (Coin, {"takes_memo": True}, True),
    "coin's minimum": (Coin, {"minimum": "1.00"}, False),
    "purchase ends": (Reservation, {"status": "delivered"}, True),
    "purchase fails": (Reservation, {"status": "failed"}, True),
    "purchase claimed": (Reservation, {"claim_token": uuid.uuid4(), "polls": 4, "last_error": "x"}, False),
    "key shredded": (
        Key, {"status": "shredded", "ciphertext": None, "wrapped_data_key": None}, True
    ),
    "key opened": (Key, {"viewed_at": LATER}, True),
    "new cover": (Product, {"cover": "covers/new.svg"}, True),
    "new picture": (Product, {"picture": "a" * 40}, True),
    "activation": (Product, {"activation": "Open Steam."}, True),
    "region": (Product, {"region": "Europe"}, True),
    "slug": (Product.objects.filter(title="One"), {"slug": "renamed"}, True),
    "price of today": (Product, {"price": "99.00"}, False),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_the_etag_changes_when_the_answer_does(client, order, name):
    rows, values, seen = CHANGES[name]
    before = read(client, order)
    changed = rows.all().update(**values) if hasattr(rows, "all") else rows.objects.update(**values)
    assert changed
    after = read(client, order, before["ETag"])
    again = read(client, order)
    assert (again.content != before.content) == seen
    assert [after.status_code, again["ETag"] != before["ETag"]] == [200 if seen else 304, seen]


NEW_ROWS = {
    "payment": (lambda order: make_payment(order, status="creating", external_id=None), True),
    "timeline": (lambda order: order.note("order", "News."), True),
    "line for staff": (lambda order: order.note("staff", "A note."), False),
    "refund": (
        lambda order: Refund.objects.create(order=order, amount=Decimal(1), currency="btc", reason="more"),
        True,
    ),
    "key": (lambda order: make_key(order.items.first()), True),
    "mail": (lambda order: order.emails.create(kind="delayed", to=order.email), False),
    "another order": (lambda order: make_payment(make_order()), False),
}


@pytest.mark.parametrize("name", NEW_ROWS)
def test_the_etag_changes_with_new_rows(client, order, name):
    make, seen = NEW_ROWS[name]
    before = read(client, order)
    make(order)
    after = read(client, order, before["ETag"])
    assert [after.status_code, (read(client, order).content != before.content)] == [200 if seen else 304, seen]


def test_the_first_purchase_of_an_item_changes_the_etag(client):
    order = make_order()
    before = read(client, order)
    make_reservation(order.items.get())
    assert read(client, order, before["ETag"]).status_code == 200


def test_a_quote_that_ends_changes_the_answer_without_any_write(client, order):
    """Found by a clock that passes, not by a row that changes."""
    WAITING.update(expires_at=timezone.now() + timedelta(milliseconds=400))
    before = read(client, order)
    assert before.json()["payment"]["qr"]
    while timezone.now() < WAITING.get().expires_at:
        pass
    after = read(client, order, before["ETag"])
    assert [after.status_code, after.json()["payment"]["status"]] == [200, "partially_paid"]


def test_an_unchanged_order_costs_two_statements(client, order, django_assert_num_queries):
    etag = read(client, order)["ETag"]
    for known in (etag, f"W/{etag}", f'"other", {etag}', f'{etag},W/"x"', "*"):
        with django_assert_num_queries(2):
            answer = read(client, order, known)
        assert [answer.status_code, answer.content, answer["ETag"]] == [304, b"", etag]
        assert [answer["Cache-Control"], answer["X-Robots-Tag"]] == ["no-store", "noindex"]


def test_what_cannot_be_included_is_refused(client, order):
    answer = read(client, order, query="?include=keys")
    assert [answer.status_code, list(answer.json()["errors"])] == [422, ["include"]]


def test_coins_come_along_when_an_unpaid_order_is_asked_for_them(client, order):
    offered = client.get("/api/payments/currencies").json()["currencies"]
    assert len(offered) == 1
    for status, query, coins in (
        ("pending", "?include=coins", offered),
        ("underpaid", "?include=coins", offered),
        ("underpaid", "", None),
        ("underpaid", "?include=", None),
        ("paid", "?include=coins", None),
    ):
        Order.objects.filter(pk=order.pk).update(status=status)
        assert read(client, order, query=query).json().get("coins") == coins, (status, query)


def test_the_coins_are_not_in_the_etag_so_polls_need_none(client, order, django_assert_num_queries):
    etag = read(client, order, query="?include=coins")["ETag"]
    Coin.objects.update(rate=F("rate") * 2)
    for query in ("", "?include=coins"):
        with django_assert_num_queries(2):
            assert read(client, order, etag, query=query).status_code == 304


@pytest.mark.parametrize("known", ['"other"', "", '"', "W/", "nonsense", '"a", "b"', "x" * 4000])
def test_another_etag_gets_the_whole_answer(client, order, known):
    answer = read(client, order, known)
    assert [answer.status_code, answer["Cache-Control"]] == [200, "no-store"]


@pytest.mark.parametrize("path", [PATH, "/api/products", "/api/products/{1}", "/api/schema", "/robots.txt"])
def test_a_version_that_is_not_there_is_a_problem_like_any_other(client, order, path):
    path, token = path.format(order.id, order.items.first().product.slug), f"Bearer {make_token(order, 'api')}"
    answers = [client.get(path, headers={"Authorization": token, "If-Match": known}) for known in ('"other"', "*")]
    assert [answer.status_code for answer in answers] == [412, 200]
    assert answers[0]["Content-Type"] == "application/problem+json"
    assert (answers[0].json()["code"], answers[0]["Cache-Control"]) == ("precondition_failed", "no-store")


def test_an_etag_opens_nothing(client, order):
    """The token is looked at first: without it a 304 would confirm what somebody guessed."""
    etag = read(client, order)["ETag"]
    for known in (etag, "*"):
        answer = client.get(PATH.format(order.id), headers={"If-None-Match": known})
        assert [answer.status_code, answer.get("ETag")] == [404, None]
    assert read(client, make_order(), etag).status_code == 200


def test_a_whole_order_costs_five_statements_however_much_there_is(client, django_assert_num_queries):
    """Order, version, payments, items, timeline; refunds where there are some."""
    order = make_order(*[make_product() for _ in range(3)])
    with django_assert_num_queries(4):
        read(client, order)
    make_payment(order)
    read(client, order)  # once a minute it is noted that the page is open
    for number in range(3):
        payment = make_payment(order)
        order.note("order", f"Line {number}.")
        with django_assert_num_queries(5):
            read(client, order)
    for _ in range(2):
        Refund.objects.create(order=order, payment=None, amount=Decimal(1), currency=payment.pay_currency, reason="x")
        with django_assert_num_queries(6):
            read(client, order)


def test_what_is_due_counts_finished_and_partial_payments(client):
    order = make_order(make_product(price=Decimal("10.00")))
    make_payment(order, status="partially_paid", price_amount="10.00", credit="3.33")
    make_payment(order, status="finished", price_amount="4.00")
    make_payment(order, status="expired", price_amount="10.00", credit="0.00")
    assert read(client, order).json()["amount_due"] == "2.67"
    Payment.objects.filter(status="finished").update(price_amount=F("price_amount") + 50)
    assert read(client, order).json()["amount_due"] == "0.00"


def test_items_show_their_purchase_and_their_keys(client):
    order = make_order(make_product(title="A"), make_product(title="B"), make_product(title="C"), quantity=2)
    bought, failed, _ = order.items.order_by("title")
    make_reservation(bought, status="delivered")
    make_reservation(failed, status="failed")
    for _ in range(3):
        key = make_key(bought)
    Key.objects.filter(pk=key.pk).update(status="shredded", ciphertext=None, wrapped_data_key=None)
    items = read(client, order).json()["items"]
    shown = [(item["product"]["title"], item["status"], item["keys_ready"]) for item in items]
    assert shown == [("A", "fulfilled", 2), ("B", "failed", 0), ("C", "pending", 0)]


def test_the_answer_is_the_documented_one(client, order):
    body = read(client, order).json()
    assert json.loads(json.dumps(body)) == body
    assert OrderItem.objects.filter(order=order).count() == len(body["items"])
    assert len(body["timeline"]) == OrderEvent.objects.filter(order=order).exclude(kind="staff").count()


def test_bodies_made_by_hand_have_the_documented_members(client, order):
    body = read(client, order, query="?include=coins").json()
    assert list(body) == list(OrderSerializer().fields)
    assert list(body["payment"]) == list(PaymentSerializer().fields)
    assert list(body["items"][0]) == list(ItemSerializer().fields)
    items = [{"product": order.items.first().product.slug, "quantity": 1}]
    placed = client.post(
        "/api/orders", {"email": "a@b.example", "items": items}, content_type="application/json"
    ).json()
    assert list(placed) == list(PlacedOrderSerializer().fields)
    assert list(placed["items"][0]) == list(PlacedOrderSerializer().fields["items"].child.fields)


def test_a_payment_that_nobody_was_shown_keeps_nobody_from_choosing_a_coin(client):
    order = make_order()
    make_payment(order, status="review", reason="create_mismatch")
    assert read(client, order).json()["payment"] is None
    make_payment(order, status="waiting")
    assert read(client, order).json()["payment"]["status"] == "waiting"


def test_a_second_payment_stands_beside_the_one_that_paid(client):
    order = make_order()
    make_payment(order, status="finished", actually_paid=ASKED)
    make_payment(order, status="review", reason="child_payment", actually_paid=ASKED / 2)
    body = read(client, order).json()
    assert body["payment"]["status"] == "finished"
    assert body["extra_payment"]["headline"] == "A second payment came"
    assert body["extra_payment"]["coins"] == "0.00061725 BTC"
