import re
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models import F
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from orders import idempotency
from orders.access import make_token, open_order
from orders.codes import mail_code
from orders.exceptions import KeyReused, LinkReplaced, OrderRefused, StillRunning
from orders.models import Email, IdempotencyRecord, Order, OrderEvent, OrderItem
from orders.services import Line, place_order, queue_email, renew_link, send_fresh_link
from orders.tasks import housekeeping
from orders.tests.database import between
from orders.tests.factories import make_order, make_product, timeline

pytestmark = pytest.mark.django_db
KEY = "a-key-of-16-chars"


def counts():
    return [model.objects.count() for model in (Order, OrderItem, OrderEvent, Email, IdempotencyRecord)]


def refused(**asked):
    with pytest.raises(OrderRefused) as caught:
        place_order(**{"email": "ada@example.org", "lines": [Line(make_product().slug, 1)], **asked})
    return caught.value.errors


def test_an_order_is_placed_at_todays_prices():
    ember, drift = make_product(price=Decimal("19.99")), make_product(price=Decimal("0.01"))
    placed = place_order(email="ada@example.org", lines=[Line(ember.slug, 2), Line(str(drift.id), 3)])
    order = placed.order
    assert [placed.replayed, placed.items] == [False, list(order.items.order_by("title"))]
    assert [order.status, order.total, order.currency, order.email] == [
        "pending",
        Decimal("40.01"),
        "EUR",
        "ada@example.org",
    ]
    assert order.expires_at - order.created_at == timedelta(hours=24)
    assert {(item.product, item.title, item.quantity, item.unit_price) for item in order.items.all()} == {
        (ember, ember.title, 2, Decimal("19.99")),
        (drift, drift.title, 3, Decimal("0.01")),
    }
    assert timeline(order) == [("order", "", "pending")]
    assert [(mail.kind, mail.to, mail.status) for mail in order.emails.all()] == [
        ("order_received", "ada@example.org", "queued")
    ]


def test_a_later_price_leaves_the_order_alone():
    product = make_product(price=Decimal("10.00"))
    order = make_order(product)
    product.price, product.title = Decimal("99.00"), "Renamed"
    product.save()
    item = order.items.get()
    assert [item.unit_price, item.title != "Renamed", order.total] == [Decimal("10.00"), True, Decimal("10.00")]


def test_lines_of_one_product_are_merged():
    product = make_product(price=Decimal("1.10"))
    lines = [Line(product.slug, 4), Line(str(product.id), 3), Line(product.slug, 2)]
    order = place_order(email="ada@example.org", lines=lines).order
    assert [(item.quantity, order.total) for item in order.items.all()] == [(9, Decimal("9.90"))]


def test_merged_lines_respect_the_limit_too():
    product = make_product()
    lines = [Line(product.slug, 5), Line(product.slug, 5)]
    assert refused(lines=lines) == {"items.1.quantity": ["Order 1 to 9 keys of one product."]}


def test_ten_products_are_the_most():
    lines = [Line(make_product().slug, 9) for _ in range(11)]
    assert refused(lines=lines) == {"items": ["Order 1 to 10 different products."]}
    assert place_order(email="ada@example.org", lines=lines[:10]).order.items.count() == 10
    assert refused(lines=[]) == {"items": ["Order 1 to 10 different products."]}


@pytest.mark.parametrize("quantity", [0, -1, 10, 10**9])
def test_one_to_nine_keys(quantity):
    lines = [Line(make_product().slug, quantity)]
    assert refused(lines=lines) == {"items.0.quantity": ["Order 1 to 9 keys of one product."]}


NOT_SOLD = ["", "nothing", "../x", "7e564b11-5172-49e3-b5e6-294f2c2defeb", "' OR 1=1--", "inactive"]


@pytest.mark.parametrize("reference", NOT_SOLD)
def test_what_is_not_sold_is_refused(reference):
    make_product(slug="inactive", is_active=False)
    lines = [Line(make_product().slug, 1), Line(reference, 1)]
    assert refused(lines=lines) == {"items.1.product": ["This product is not for sale."]}


BAD_ADDRESSES = [
    *("", " ", "a", "a@", "@b.example", "a@b", "a@@b.example", "a@b.example, c@d.example", '"x" <a@b.example>'),
    *("a@b.example\nBcc: x@y.example", "a@b.example\r\nSubject: x", "a b@c.example", "a@b..example"),
]


@pytest.mark.parametrize("email", BAD_ADDRESSES)
def test_an_address_that_is_none_is_refused(email):
    before = counts()
    sentence = "This is not an e-mail address. Check it: we send the link to your key there."
    assert refused(email=email) == {"email": [sentence]}
    assert counts() == before


def test_an_address_longer_than_its_column_is_refused():
    email = f"a@{'b' * 60}.{'c' * 60}.{'d' * 60}.{'e' * 60}.{'f' * 10}.example"
    assert len(email) > 254
    assert "email" in refused(email=email)


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        (" Ada@Example.ORG ", "Ada@example.org"),
        ("ada+keys@example.org", "ada+keys@example.org"),
        ("ada@xn--exmple-cua.example", "ada@xn--exmple-cua.example"),
        ('"a.b"@example.org', '"a.b"@example.org'),
    ],
)
def test_an_address_is_kept_as_typed_but_for_its_host(typed, kept):
    assert make_order(email=typed).email == kept


def test_an_order_that_no_column_holds_is_refused():
    product = make_product(price=Decimal("99999999.99"))
    assert make_order(product).total == Decimal("99999999.99")
    assert refused(lines=[Line(product.slug, 2)]) == {"items": ["This order is too large. Order less, or write to us."]}


def test_twenty_unpaid_orders_an_hour_are_enough(settings):
    settings.THROTTLE_SCALE = 0.1
    product = make_product()
    first = make_order(product, email="ada@example.org")
    make_order(product, email="ADA@example.org")
    before = counts()
    assert list(refused()) == ["email"]
    make_order(product, email="bob@example.org")
    Order.objects.filter(pk=first.pk).update(created_at=Now() - timedelta(hours=2))
    make_order(product, email="ada@example.org")
    assert counts()[0] == before[0] + 2


def once(body=b"body", key=KEY, **changes):
    product = changes.pop("product", None) or make_product()
    return place_order(email="ada@example.org", lines=[Line(product.slug, 1)], idempotency_key=key, body=body)


def test_the_same_key_and_body_make_one_order():
    product = make_product()
    first, second = once(product=product), once(product=product)
    assert [first.order, first.replayed, second.replayed] == [second.order, False, True]
    assert counts() == [1, 1, 1, 1, 1]


def test_a_key_belongs_to_its_body():
    once(b"one")
    before = counts()
    with pytest.raises(KeyReused):
        once(b"two")
    assert counts() == before


def test_without_a_body_the_key_belongs_to_what_was_asked():
    product = make_product()
    lines = [Line(product.slug, 1)]
    first = place_order(email="ada@example.org", lines=lines, idempotency_key=KEY)
    assert place_order(email="ada@example.org", lines=lines, idempotency_key=KEY).order == first.order
    for other in ({"email": "bob@example.org"}, {"lines": [Line(product.slug, 2)]}, {"lines": lines * 2}):
        with pytest.raises(KeyReused):
            place_order(**{"email": "ada@example.org", "lines": lines, "idempotency_key": KEY, **other})


def test_a_refused_order_leaves_its_key_free():
    with pytest.raises(OrderRefused):
        place_order(email="ada@example.org", lines=[Line("nothing", 1)], idempotency_key=KEY, body=b"body")
    assert counts() == [0, 0, 0, 0, 0]
    assert once().replayed is False


def test_a_key_is_free_again_after_72_hours():
    first = once()
    IdempotencyRecord.objects.update(created_at=F("created_at") - idempotency.KEPT_FOR + timedelta(minutes=1))
    assert idempotency.reap() == 0
    IdempotencyRecord.objects.update(created_at=F("created_at") - timedelta(minutes=2))
    assert idempotency.reap() == 1
    assert once(b"another").order != first.order


def test_a_key_whose_first_request_still_runs_is_refused():
    once()
    IdempotencyRecord.objects.update(object_id=None)
    with pytest.raises(StillRunning):
        once()


def test_another_broken_constraint_is_not_taken_for_a_repeat():
    def make(order_id):
        raise IntegrityError("another constraint")

    with pytest.raises(IntegrityError, match="another constraint"):
        idempotency.once(route="orders", key=KEY, body=b"", make=make)


def test_a_repeat_of_a_request_that_fails_at_this_moment_is_told_to_ask_again():
    IdempotencyRecord.objects.create(route="payments", key=idempotency._at_rest("payments", KEY, b"")[0])

    def fail_first(execute, sql, params, many, context):
        if sql.startswith("SELECT") and '"orders_idempotencyrecord"' in sql:
            IdempotencyRecord.objects.all().delete()
        return execute(sql, params, many, context)

    asked = {"route": "payments", "key": KEY, "body": b"", "make": uuid.uuid4, "came_to_nothing": Order.objects.none()}
    with connection.execute_wrapper(fail_first), pytest.raises(StillRunning):
        idempotency.once_outside(**asked)
    assert not idempotency.once_outside(**asked).replayed


@pytest.mark.parametrize("key", ["short", "x" * 15, "x" * 256, "with a space in it", "é" * 20, "tab\t" * 5, "x\n" * 10])
def test_a_key_has_16_to_255_visible_characters(key):
    with pytest.raises(idempotency.BadKey):
        once(key=key)
    assert counts() == [0, 0, 0, 0, 0]


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_twenty_requests_at_once_with_one_key_make_one_order():
    product = make_product()
    start = threading.Barrier(20)

    def ask(_):
        start.wait()
        try:
            return once(product=product)
        finally:
            connection.close()

    with ThreadPoolExecutor(20) as pool:
        placed = list(pool.map(ask, range(20)))
    assert len({one.order.pk for one in placed}) == 1
    assert sum(one.replayed for one in placed) == 19
    assert counts() == [1, 1, 1, 1, 1]


@pytest.mark.postgres
@pytest.mark.parametrize("plan", ["force_custom_plan", "force_generic_plan"])
def test_the_limit_of_unpaid_orders_reads_only_this_address(plan, settings):
    """Also as a prepared statement, whose plan knows no values: there a partial index would be of no use."""
    settings.THROTTLE_SCALE = 1  # or the limit is not asked for
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO orders_order (id, email, status, reason, total, currency, link_generation, language)"
            " SELECT gen_random_uuid(), 'customer' || n || '@example.org', 'pending', '', 1, 'EUR', 1, 'en'"
            " FROM generate_series(1, 20000) n"
        )
        cursor.execute("ANALYZE orders_order")
        cursor.execute(f"SET LOCAL plan_cache_mode = {plan}")
    with CaptureQueriesContext(connection) as seen:
        place_order(email="ADA@example.org", lines=[Line(make_product().slug, 1)])
    (statement,) = [query["sql"] for query in seen if "UPPER" in query["sql"]]
    with connection.cursor() as cursor:
        # As the server gets it: with parameters where the values stand.
        values = re.findall(r"'[^']*'", statement)
        for number, value in enumerate(values, start=1):
            statement = statement.replace(value, f"${number}", 1)
        cursor.execute(f"PREPARE counted AS {statement}")
        cursor.execute(f"EXPLAIN (ANALYZE, TIMING OFF) EXECUTE counted ({', '.join(values)})")
        text = "\n".join(line for (line,) in cursor.fetchall())
        cursor.execute("DEALLOCATE counted")
    assert "order_by_email" in text
    assert "Seq Scan" not in text, text


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_of_eight_payments_at_once_one_is_recorded():
    """Fails without the lock in _transition: each thread then reads `pending` and writes a row of its own."""
    order = make_order()
    start = threading.Barrier(8)

    def pay(_):
        mine = Order.objects.get(pk=order.pk)
        start.wait()
        try:
            return mine.mark_paid(message="Paid.")
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(pay, range(8))) == [False] * 7 + [True]
    assert [move for move in timeline(order) if move[0] == "order"] == [
        ("order", "", "pending"),
        ("order", "pending", "paid"),
    ]


def test_a_queued_mail_goes_to_the_orders_address():
    order = make_order()
    queue_email(order, Email.Kind.UNDERPAID, missing="5.00")
    mail = order.emails.get(kind="underpaid")
    assert [mail.to, mail.facts, mail.order] == [order.email, {"missing": "5.00"}, order]


def fresh_links(order):
    return order.emails.filter(kind="fresh_link").count()


@pytest.mark.parametrize("typed", ["ada@example.org", " ADA@Example.org "])
def test_a_fresh_link_goes_to_the_stored_address_and_ends_the_older_links(typed):
    order = make_order(email="ada@example.org")
    older = make_token(order, "mail")
    send_fresh_link(order_id=order.id, email=typed)
    order.refresh_from_db()
    mail = order.emails.get(kind="fresh_link")
    assert [mail.to, mail.status, mail.attempts, mail.crashes] == ["ada@example.org", "queued", 0, 0]
    assert mail.next_attempt_at is not None
    assert order.link_generation == 2
    assert timeline(order)[-1] == ("mail", "", "")
    assert order.events.last().message == "A fresh link was mailed; older links and tokens no longer open the order."
    assert open_order(order.id, make_token(order, "mail")) == order
    with pytest.raises(LinkReplaced):
        open_order(order.id, older)


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("ask", [send_fresh_link, mail_code])
def test_whoever_asks_for_a_way_in_does_not_wait_for_those_who_write_beside_the_order(ask):
    """Fails with FOR UPDATE: each line of the timeline refers to the order, and holds its key until the commit."""
    order = make_order()

    def ask_with_no_patience():
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET lock_timeout = '5s'")
            ask(order_id=order.pk, email=order.email)
        finally:
            connection.close()

    with transaction.atomic(), ThreadPoolExecutor(1) as pool:
        with connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        order.note("payment", "Read again.")
        pool.submit(ask_with_no_patience).result()
    assert order.emails.count() == 2


@pytest.mark.parametrize(
    "email", ["bob@example.org", "", "a\u0430a@example.org", "аda@example.org", "ada@example.org.x"]
)
def test_nobody_else_gets_a_fresh_link(email):
    order = make_order(email="ada@example.org")
    before = counts()
    send_fresh_link(order_id=order.id, email=email)
    order.refresh_from_db()
    assert [counts(), order.link_generation] == [before, 1]


def test_three_fresh_links_an_hour_are_enough():
    order = make_order()
    for _ in range(5):
        send_fresh_link(order_id=order.id, email=order.email)
    order.refresh_from_db()
    assert [fresh_links(order), order.link_generation] == [3, 4]
    order.emails.filter(kind="fresh_link").update(created_at=Now() - timedelta(minutes=61))
    send_fresh_link(order_id=order.id, email=order.email)
    assert fresh_links(order) == 4


def test_a_lookup_asks_the_same_whether_the_order_exists_or_not():
    order = make_order(email="ada@example.org")
    statements = []
    for order_id, email in (
        (order.id, "ada@example.org"),
        (order.id, "bob@example.org"),
        (uuid.UUID(int=7), "ada@example.org"),
    ):
        with CaptureQueriesContext(connection) as captured:
            send_fresh_link(order_id=order_id, email=email)
        statements.append([query["sql"].partition('"s')[0][:40] for query in captured])
    assert statements[0] == statements[1] == statements[2]
    assert fresh_links(order) == 1


def test_staff_renew_a_link_under_their_name():
    order = make_order()
    renew_link(order, actor="grace")
    assert [order.link_generation, order.events.last().actor, fresh_links(order)] == [2, "grace", 1]


def test_housekeeping_expires_what_nobody_paid():
    late, soon, paid = (make_order(status=status) for status in ("pending", "pending", "paid"))
    Order.objects.exclude(pk=soon.pk).update(expires_at=Now() - timedelta(seconds=1))
    once()
    IdempotencyRecord.objects.update(created_at=Now() - timedelta(hours=73))
    housekeeping()
    statuses = {order.pk: order.status for order in Order.objects.all()}
    assert [statuses[order.pk] for order in (late, soon, paid)] == ["expired", "pending", "paid"]
    assert timeline(late)[-1] == ("order", "pending", "expired")
    assert not IdempotencyRecord.objects.exists()


def test_housekeeping_leaves_an_order_that_was_paid_in_between():
    order = make_order()
    Order.objects.update(expires_at=Now() - timedelta(seconds=1))
    with between("orders_order", lambda: Order.objects.get(pk=order.pk).mark_paid(message="Just in time.")):
        housekeeping()
    order.refresh_from_db()
    assert order.status == "paid"
