import re
import uuid
from datetime import timedelta
from decimal import Decimal

import pytest
from django.conf import settings
from django.db import IntegrityError, connection, transaction

from orders.alerts import close_alert, raise_alert
from orders.exceptions import InvalidTransition
from orders.models import Alert, Email, Order, OrderEvent, OrderItem, Product
from orders.models.order import PAYABLE_FOR
from orders.signals import order_paid, order_refund_due
from orders.tests.factories import make_order, make_product, timeline

pytestmark = pytest.mark.django_db

MOVES = {
    "underpaid": lambda order: order.mark_underpaid(message="Some is missing."),
    "paid": lambda order: order.mark_paid(message="Paid.", actor="ada"),
    "fulfilling": lambda order: order.mark_fulfilling(),
    "partially_fulfilled": lambda order: order.mark_partially_fulfilled(message="One key is there."),
    "fulfilled": lambda order: order.mark_fulfilled(),
    "held": lambda order: order.hold(reason="why", message="Held.", actor="ada"),
    "expired": lambda order: order.expire(),
    "cancelled": lambda order: order.cancel(message="Cancelled.", actor="ada"),
    "failed": lambda order: order.fail(reason="why", message="Failed."),
    "refund_due": lambda order: order.mark_refund_due(reason="why", message="Owed.", actor="ada"),
    "refunded": lambda order: order.mark_refunded(message="Sent back.", actor="ada"),
}
# Written out once more, so that a change of the table in the model is a decision and not a slip.
ALLOWED = {
    "pending": {"underpaid", "paid", "expired", "cancelled", "held", "refund_due"},
    "underpaid": {"paid", "expired", "cancelled", "held", "refund_due"},
    "paid": {"fulfilling", "fulfilled", "held", "refund_due", "failed"},
    "fulfilling": {"fulfilled", "partially_fulfilled", "held", "refund_due", "failed"},
    "partially_fulfilled": {"fulfilling", "fulfilled", "held", "refund_due"},
    "held": {
        "pending",
        *("paid", "fulfilling", "fulfilled", "partially_fulfilled", "refund_due", "failed", "cancelled", "expired"),
    },
    "expired": {"paid", "underpaid", "held", "refund_due"},
    "cancelled": {"held", "refund_due"},
    "failed": {"held", "refund_due"},
    "fulfilled": set(),
    "refund_due": {"refunded", "held"},
    "refunded": set(),
}
PAIRS = [(start, to) for start in ALLOWED for to in MOVES]


def test_every_status_is_in_the_table():
    assert set(ALLOWED) == set(Order.Status.values) == set(Order.TRANSITIONS)
    assert {*MOVES, "pending"} == set(Order.Status.values)


@pytest.mark.parametrize(("start", "to"), PAIRS)
def test_a_transition_is_allowed_repeated_or_refused(start, to):
    order = make_order(status=start)
    before = timeline(order)
    if start == to:
        assert MOVES[to](order) is False
        expected = before
    elif to in ALLOWED[start]:
        assert MOVES[to](order) is True
        expected = [*before, ("order", start, to)]
    else:
        with pytest.raises(InvalidTransition, match=f"{start} -> {to}"):
            MOVES[to](order)
        expected = before
    assert timeline(order) == expected
    assert Order.objects.get(pk=order.pk).status == order.status == (to if expected != before else start)


def test_a_move_writes_who_and_why_and_only_what_belongs_to_it():
    order = make_order()
    order.hold(reason="second_payment", message="Two payments.", actor="ada")
    event = order.events.last()
    assert [event.message, event.actor, order.reason] == ["Two payments.", "ada", "second_payment"]
    order.mark_paid(message="Accepted.")
    assert order.paid_at is not None
    assert [order.reason, order.fulfilled_at] == ["", None]


def test_upper_apps_hear_of_a_payment_once():
    heard = []
    order = make_order()

    def listen(order, **_):
        heard.append(order.pk)

    order_paid.connect(listen)
    order_refund_due.connect(listen)
    try:
        order.mark_paid(message="Paid.")
        order.mark_paid(message="Paid again.")
        order.mark_refund_due(reason="r", message="Owed.")
        order.mark_refund_due(reason="r", message="Owed.")
    finally:
        order_paid.disconnect(listen)
        order_refund_due.disconnect(listen)
    assert heard == [order.pk, order.pk]


def test_a_receiver_that_fails_takes_the_move_back():
    order = make_order()

    def fail(**_):
        raise RuntimeError

    order_paid.connect(fail)
    try:
        with pytest.raises(RuntimeError), transaction.atomic():
            order.mark_paid(message="Paid.")
    finally:
        order_paid.disconnect(fail)
    assert Order.objects.get(pk=order.pk).status == "pending"
    assert timeline(order) == [("order", "", "pending")]


@pytest.mark.parametrize("status", Order.Status.values)
def test_each_status_has_a_word_and_a_sentence_where_it_needs_one(status):
    order = Order(status=status)
    words = {
        **dict.fromkeys(("pending", "underpaid"), "pending"),
        **dict.fromkeys(("paid", "fulfilling", "held", "partially_fulfilled"), "processing"),
        "fulfilled": "fulfilled",
    }
    assert order.fulfillment_word == words.get(status, "failed")
    needs_sentence = order.fulfillment_word == "failed" or status == "held"
    assert bool(order.customer_error) is needs_sentence


def test_the_address_is_masked():
    assert Order(email="ada.lovelace@example.org").masked_email == "a…@example.org"


BAD_SQL = [
    ("order_status_known", "UPDATE orders_order SET status = 'paied'"),
    ("order_total_positive", "UPDATE orders_order SET total = 0"),
    ("orderitem_quantity", "UPDATE orders_orderitem SET quantity = 10"),
    ("orderitem_quantity", "UPDATE orders_orderitem SET quantity = 0"),
    ("product_price_positive", "UPDATE orders_product SET price = -1"),
    ("product_max_cost_positive", "UPDATE orders_product SET max_cost = 0"),
    (
        "orderitem_product_once",
        "INSERT INTO orders_orderitem (id, order_id, product_id, title, quantity, unit_price)"
        " SELECT {uuid}, order_id, product_id, title, 1, 1 FROM orders_orderitem",
    ),
]


@pytest.mark.parametrize(("name", "sql"), BAD_SQL, ids=[sql for _, sql in BAD_SQL])
def test_the_database_refuses_what_must_never_be(name, sql):
    make_order()
    fresh = "gen_random_uuid()" if connection.vendor == "postgresql" else "lower(hex(randomblob(16)))"
    names = name if connection.vendor == "postgresql" or "once" not in name else "UNIQUE"
    with pytest.raises(IntegrityError, match=names), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql.format(uuid=fresh))


def test_an_order_and_its_rows_cannot_be_deleted_from_under_its_timeline():
    order = make_order()
    for victim in (order, order.items.get().product):
        with pytest.raises(IntegrityError):  # ProtectedError is one
            victim.delete()
    assert OrderEvent.objects.count() == OrderItem.objects.count() == Product.objects.count() == 1


def test_names_for_people():
    order = make_order(make_product(title="Ember Drift"), quantity=2)
    mail = Email(kind="key_ready", to="ada@example.org")
    assert str(order) == f"order {order.id}"
    assert str(order.items.get()) == "2 x Ember Drift"
    assert [str(mail), str(Alert(kind="mail_failed", about_pk="b"))] == [
        "“Key ready” to ada@example.org",
        "Mail failed: b",
    ]
    assert str(order.events.get()) == "order: The order was placed."
    assert re.fullmatch(r"Product \d+", str(make_product(price=Decimal(1))))


def test_an_alert_is_open_once_per_kind_and_subject_and_mailed_once():
    for number in range(3):
        raise_alert("kind", "subject", f"Message {number}.")
    raise_alert("kind", "other subject", "Other.")
    first, other = Alert.objects.order_by("pk")
    assert [first.times, first.message, first.status, other.times] == [3, "Message 2.", "open", 1]
    mails = Email.objects.order_by("pk").values_list("kind", "to", "reason", "status")
    assert list(mails) == [
        ("alert", settings.STAFF_EMAIL[0], "Message 0.", "queued"),
        ("alert", settings.STAFF_EMAIL[0], "Other.", "queued"),
    ]


def test_a_closed_alert_opens_anew():
    first = raise_alert("kind", "subject", "One.")
    assert close_alert("kind", "subject", by="ada") == 1
    assert close_alert("kind", "subject") == 0
    second = raise_alert("kind", "subject", "Two.")
    first.refresh_from_db()
    assert [first.status, first.closed_by, first.closed_at is not None] == ["closed", "ada", True]
    assert [second.pk != first.pk, second.times] == [True, 1]


def test_an_alert_that_another_worker_opens_and_closes_at_this_moment_opens_anew():
    other = Alert(kind="kind", about_pk="subject", message="One.")
    inserted = []

    def be_faster_once(execute, sql, params, many, context):
        if inserted or not sql.startswith('INSERT INTO "orders_alert"'):
            return execute(sql, params, many, context)
        inserted.append(sql)
        other.save()
        try:
            return execute(sql, params, many, context)
        finally:
            other.close(by="ada")

    with connection.execute_wrapper(be_faster_once):
        alert = raise_alert("kind", "subject", "Two.")
    assert [alert.status, alert.message, alert.pk != other.pk] == ["open", "Two.", True]
    assert Email.objects.get(kind="alert").alert == alert


def test_an_alert_is_about_the_row_and_not_about_what_it_is_called():
    order = make_order()
    alert = raise_alert("order_held", order, "Look.", order=order)
    assert [alert.about_model, alert.about_pk, alert.about] == ["orders.order", str(order.pk), f"order {order.pk}"]
    assert alert.about_path == f"/admin/orders/order/{order.pk}/change/"
    assert Email.objects.get(kind="alert").alert == alert
    assert close_alert("order_held", make_order()) == 0
    assert close_alert("order_held", Order(pk=order.pk)) == 1


def test_an_alert_about_no_row_has_no_page():
    assert raise_alert("object_store", "object store", "Down.").about_path == ""


def test_a_move_knows_what_the_database_made_of_it(django_assert_num_queries):
    """Fails if a move forgets such a field instead: reading it then runs a query that nobody sees."""
    order = make_order()
    order.mark_paid(message="Paid.")
    with django_assert_num_queries(0):
        paid_at = order.paid_at
    assert paid_at == Order.objects.get(pk=order.pk).paid_at


def test_an_alert_without_staff_address_owes_no_mail(settings):
    settings.STAFF_EMAIL = ()
    order = make_order()
    alert = raise_alert("kind", "subject", "x" * 600, order=order)
    assert [len(alert.message), alert.order] == [500, order]
    assert not Email.objects.filter(kind="alert").exists()


def test_the_database_keeps_one_open_alert_even_against_two_writers():
    raise_alert("kind", "subject", "One.")
    with pytest.raises(IntegrityError), transaction.atomic():
        Alert.objects.create(kind="kind", about_pk="subject", message="Two.")


def test_what_an_old_copy_says_is_not_believed():
    """A move is judged by the row, whatever this instance was when it was read."""
    order = make_order()
    old = Order.objects.get(pk=order.pk)
    order.mark_paid(message="Paid.")
    assert old.mark_paid(message="Paid again.") is False
    order.hold(reason="look", message="Staff are checking.")
    with pytest.raises(InvalidTransition, match="held -> underpaid"):
        Order(pk=order.pk, status="pending").mark_underpaid(message="Too little.")
    lagging = Order(pk=order.pk, status="paid")
    assert lagging.mark_fulfilling() is True
    assert [event.from_status for event in order.events.filter(to_status="fulfilling")] == ["held"]


def test_times_are_the_databases_own_even_right_after_a_move():
    order = make_order()
    order.mark_paid(message="Paid.")
    assert order.paid_at == Order.objects.get(pk=order.pk).paid_at


def test_the_database_itself_gives_an_order_a_day():
    """Django 5.2 does this sum in its INSERT, 6.1 leaves it to the column's default."""
    order = make_order()
    names = ", ".join(
        f'"{field.column}"'
        for field in Order._meta.concrete_fields
        if field.name not in ("id", "created_at", "expires_at")
    )
    copy = Order._meta.pk.get_db_prep_value(uuid.uuid4(), connection)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO orders_order (id, {names}) SELECT %s, {names} FROM orders_order",
            [copy],
        )
    made = Order.objects.exclude(pk=order.pk).get()
    assert abs(made.expires_at - made.created_at - PAYABLE_FOR) < timedelta(seconds=1)
