"""The hand-made statements mean what the same queryset means, on rows with every kind of column."""

import uuid
from datetime import date, timedelta
from decimal import Decimal
from unittest import mock

import pytest
from django.db import IntegrityError, connection, models, transaction
from django.db.models import F
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext, isolate_apps

from bitloot.core import queries
from orders.models import Email, Order, OrderEvent, OrderItem, Product
from orders.tests.factories import make_order, make_product
from payments.models import Payment
from storage.models import Key
from storage.tests.factories import make_key

pytestmark = pytest.mark.django_db


def make_payment(**fields):
    order = make_order()
    fixed = {"price_amount": order.total, "price_currency": "eur", "pay_currency": "btc"}
    return Payment.objects.create(order=order, evidence={"asked": "1 BTC", "parts": [1, None]}, **fixed | fields)


def columns_of(row):
    return {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}


def test_select_reads_rows_as_a_queryset_does():
    payment, key = make_payment(pay_amount=Decimal("0.000000000000000001")), make_key()
    for row in (payment, payment.order, key):
        model = type(row)
        (found,) = queries.select(model, {"pk": row.pk})
        assert columns_of(found) == columns_of(model.objects.get(pk=row.pk))
        assert not found._state.adding


def test_select_reads_only_the_named_fields(django_assert_num_queries):
    product = make_product(genres=["Action"], release_date=date(2026, 1, 31))
    (found,) = queries.select(Product, {"pk": product.pk}, only=("id", "title", "release_date"))
    assert found.get_deferred_fields() == set(columns_of(product)) - {"id", "title", "release_date"}
    with django_assert_num_queries(0):
        assert [found.pk, found.title, found.release_date] == [product.pk, product.title, product.release_date]
    with django_assert_num_queries(1):
        assert found.genres == ["Action"]


def test_select_knows_null_and_several_columns():
    named, nameless = make_payment(external_id="4711"), make_payment()
    assert queries.select(Payment, {"external_id": None, "pay_currency": "btc"}) == [nameless]
    assert queries.select(Payment, {"order": named.order_id}) == [named]
    assert queries.select(Payment, {"external_id": "'; --"}) == []


def test_a_join_brings_the_rows_of_foreign_keys_along():
    key = make_key()
    with CaptureQueriesContext(connection) as seen:
        item = queries.get(OrderItem, key.item_id, join=("order", "product"))
        order, product = item.order, item.product
    assert len(seen) == 1
    expected = OrderItem.objects.select_related("order", "product").get(pk=key.item_id)
    for row, same in ((item, expected), (order, expected.order), (product, expected.product)):
        assert columns_of(row) == columns_of(same)
    payment = make_payment()
    (found,) = queries.select(Payment, {"order": payment.order_id}, join=("order",))
    assert [found.evidence, found.order] == [payment.evidence, payment.order]


def test_select_with_pairs_rows_with_the_one_row_of_another_model_or_none():
    payment, product = make_payment(), make_product()
    where = {"pk": payment.pk}
    ((found, match),) = queries.select_with(Payment, where, Product, {"slug": product.slug}, only=("id", "evidence"))
    assert [found.evidence, "price_amount" in found.get_deferred_fields()] == [payment.evidence, True]
    assert columns_of(match) == columns_of(Product.objects.get(pk=product.pk))
    ((found, match),) = queries.select_with(Payment, where, Product, {"slug": "no-such-game"})
    assert [columns_of(found), match] == [columns_of(Payment.objects.get()), None]
    assert queries.select_with(Payment, {"pk": uuid.uuid4()}, Product, {"slug": product.slug}) == []


def test_get_says_which_row_is_missing():
    missing = uuid.uuid4()
    with pytest.raises(Order.DoesNotExist, match=str(missing)):
        queries.get(Order, missing)


def test_a_lock_is_taken_where_the_database_has_locks():
    order = make_order()
    with (
        CaptureQueriesContext(
            connection,
        ) as seen,
        transaction.atomic(),
    ):
        assert queries.get(Order, order.pk, lock=True) == order
    locked = any(query["sql"].endswith("FOR NO KEY UPDATE") for query in seen)
    assert locked == connection.features.has_select_for_update


def test_update_changes_the_rows_that_fit_and_counts_them():
    payment, other = make_payment(), make_payment()
    values = {
        "evidence": {"paid": "2"}, "actually_paid": Decimal("0.10"), "attempts": F("attempts") + 2,
        "read_at": Now(), "next_attempt_at": Now() + timedelta(hours=1), "outcome_amount": None,
    }  # fmt: skip
    assert queries.update(Payment, {"pk": payment.pk, "status": "creating"}, values) == 1
    assert queries.update(Payment, {"pk": payment.pk, "status": "waiting"}, {"reason": "no"}) == 0
    payment.refresh_from_db()
    assert [payment.evidence, payment.actually_paid, payment.attempts] == [{"paid": "2"}, Decimal("0.10"), 2]
    assert payment.next_attempt_at - payment.read_at >= timedelta(minutes=59)
    assert payment.reason == ""
    before = columns_of(other)
    other.refresh_from_db()
    assert columns_of(other) == before


def test_update_may_depend_on_another_row():
    order, other = make_order(), make_order()
    for status, changed in (("paid", 0), ("pending", 1)):
        only_then = (Order, {"pk": other.pk, "status": status})
        assert queries.update(Order, {"pk": order.pk}, {"reason": status}, if_exists=only_then) == changed
    order.refresh_from_db()
    assert order.reason == "pending"


def test_insert_saves_what_create_would_and_reads_the_defaults_of_the_database_later():
    order = make_order()
    fields = {"order": order, "kind": "delayed", "to": order.email, "reason": "Why."}
    expected = Email.objects.create(**fields)
    mail = Email(**fields)
    assert queries.insert(mail)
    saved = Email.objects.exclude(pk=expected.pk).get(order=order, kind="delayed")
    made_there = {"id", "created_at", "next_attempt_at"}
    assert {k: v for k, v in columns_of(saved).items() if k not in made_there} == {
        k: v for k, v in columns_of(expected).items() if k not in made_there
    }
    key = make_key()
    assert key.received_at == Key.objects.get(pk=key.pk).received_at


def test_insert_all_saves_each_row_with_its_own_values():
    order = make_order()
    queries.insert_all([])
    lines = [OrderEvent(order=order, kind="note", message=text) for text in ("one", "two", "three")]
    queries.insert_all(lines)
    saved = OrderEvent.objects.filter(kind="note").order_by("id")
    assert list(saved.values_list("message", flat=True)) == ["one", "two", "three"]
    assert not any(line._state.adding for line in lines)
    lines = [OrderEvent(order=order, kind="note"), OrderEvent(order=order, kind="note", at=order.created_at)]
    with pytest.raises(ValueError, match="different fields"):
        queries.insert_all(lines)


def test_insert_with_saves_a_row_and_what_belongs_to_it(django_assert_num_queries):
    product, made = make_product(), make_order()
    order = Order(email="ada@example.org", total=Decimal("9.99"), currency="EUR")
    items = [
        OrderItem(order=order, product=each, title=each.title, quantity=2, unit_price=Decimal("9.99"))
        for each in (product, make_product())
    ]
    line = OrderEvent(order=order, kind="order", message="m")
    with django_assert_num_queries(1 if connection.vendor == "postgresql" else 3):
        queries.insert_with(order, items, [line], [])
    with django_assert_num_queries(0):  # what the database made of the first row is read back
        held = columns_of(order)
    assert held == columns_of(Order.objects.get(pk=order.pk))
    assert [columns_of(item) for item in items] == [columns_of(OrderItem.objects.get(pk=item.pk)) for item in items]
    assert list(order.events.values_list("message", flat=True)) == ["m"]
    assert not any(row._state.adding for row in (order, *items, line))
    queries.insert_with(OrderEvent(order=order, kind="order", message="alone"))
    assert order.events.filter(message="alone").exists()
    for row in (order, Order(email=order.email, total=0, currency="EUR")):  # taken, and against a constraint
        with pytest.raises(IntegrityError), transaction.atomic():
            queries.insert_with(row, [OrderEvent(order=made, kind="order", message="never")])
    assert not OrderEvent.objects.filter(message="never").exists()


def test_insert_does_nothing_only_if_the_named_value_is_taken():
    first, second = make_key(), make_key()
    copy = Key.objects.get(pk=first.pk)
    copy.pk, copy.object_name = uuid.uuid4(), "another"
    copy._state.adding = True
    assert not queries.insert(copy, unless_taken="supplier_key_id")
    assert copy._state.adding
    copy.supplier_key_id, copy.object_name = "another", second.object_name
    with pytest.raises(IntegrityError), transaction.atomic():
        queries.insert(copy, unless_taken="supplier_key_id")
    assert Key.objects.count() == 2


def test_an_insert_without_a_name_for_conflicts_never_swallows_one():
    key = make_key()
    with pytest.raises(IntegrityError), transaction.atomic():
        queries.insert(Key.objects.get(pk=key.pk))


def test_a_line_of_the_timeline_is_written_by_the_database_clock():
    order = make_order()
    with mock.patch("django.utils.timezone.now", side_effect=AssertionError("the worker's clock")):
        queries.insert(OrderEvent(order=order, kind="order", message="m"))
    assert order.events.filter(message="m", at__lte=Now()).count() == 1


def test_a_saved_row_has_what_the_database_made_and_reading_it_runs_no_query(django_assert_num_queries):
    order = make_order()
    lines = [OrderEvent(order=order, kind="note", message=text) for text in ("one", "two")]
    mail = Email(order=order, kind="delayed", to=order.email)
    queries.insert_all(lines)
    queries.insert(mail)
    saved = [*OrderEvent.objects.filter(kind="note").order_by("id"), Email.objects.get(kind="delayed")]
    with django_assert_num_queries(0):
        assert [columns_of(row) for row in (*lines, mail)] == [columns_of(row) for row in saved]


def test_update_returning_brings_what_the_database_computed():
    payment, other = make_payment(), make_payment()
    names = ("attempts", "read_at", "actually_paid", "order_id")
    values = {"attempts": F("attempts") + 2, "read_at": Now(), "actually_paid": Decimal("0.10")}
    found = queries.update_returning(Payment, {"pk": payment.pk, "status": "creating"}, values, names=names)
    payment.refresh_from_db()
    assert found == (2, payment.read_at, Decimal("0.10"), payment.order_id)
    assert queries.update_returning(Payment, {"pk": other.pk, "status": "paid"}, values, names=names) is None
    other.refresh_from_db()
    assert other.attempts == 0


@isolate_apps("orders")
def test_a_model_that_only_save_can_fill_is_refused():
    class Stamped(models.Model):
        changed_at = models.DateTimeField(auto_now=True)

        class Meta:
            app_label = "orders"

    class Sluggish(models.Model):
        class Upper(models.CharField):
            def pre_save(self, model_instance, add):
                return "changed"

        name = Upper(max_length=9)

        class Meta:
            app_label = "orders"

    for model, values in ((Stamped, {}), (Sluggish, {"name": "a"})):
        for statement in (
            lambda model=model, values=values: queries.insert(model(**values)),
            lambda model=model, values=values: queries.update(model, {"pk": 1}, values or {"changed_at": Now()}),
            lambda model=model: queries.select(model, {"pk": 1}),
        ):
            with pytest.raises(queries.NotForThis, match="save"):
                statement()
