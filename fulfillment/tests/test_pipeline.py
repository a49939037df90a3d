"""The whole way against the real sandbox over HTTP: its ledger, not our database, says what was bought."""

import threading
import uuid
from decimal import Decimal

import pytest
from django.db import connection
from django.db.models.functions import Now

from bitloot.core.providers import ProviderUnavailable
from bitloot.core.queue import LeaseLost
from fulfillment import pipeline
from fulfillment.models import Reservation, SupplierCall
from fulfillment.tests.world import age, finish, paid, posts, purchases, run, timeline
from orders.models import Alert, Email, Order, OrderEvent, OrderItem
from storage.models import Key
from storage.services import reveal
from storage.tests.factories import OPENER

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("supplier")]


def test_order_paid_opens_one_reservation_per_item_with_its_own_external_id(product, picture):
    order = paid((product, 2), (picture, 1))
    order.mark_paid(message="Paid again.")
    rows = Reservation.objects.filter(item__order=order)
    assert {row.external_id for row in rows} == {str(item.pk) for item in order.items.all()}
    assert {row.status for row in rows} == {"pending"}


def test_advance_buys_seals_and_finishes_the_order_with_every_step_on_the_timeline(reservation, sandbox):
    finish(reservation)
    order = reservation.item.order
    assert (reservation.status, order.status) == ("delivered", "fulfilled")
    assert reservation.cost == Decimal("7.49")
    assert len(purchases(sandbox, reservation)) == 1
    assert timeline(order) == [
        ("order", "pending"),
        ("order", "paid"),
        ("reservation", "sending"),
        ("order", "fulfilling"),
        ("reservation", "reserved"),
        ("reservation", "given"),
        ("key", "received"),
        ("reservation", "delivered"),
        ("order", "fulfilled"),
        ("key", "stored"),
    ]
    assert list(order.emails.order_by("id").values_list("kind", "status")) == [
        ("order_received", "queued"),
        ("key_ready", "queued"),
    ]
    assert reservation.next_attempt_at is None
    calls = list(SupplierCall.objects.values_list("call", flat=True))
    assert calls[:3] == ["quote", "reserve", "delivered"]
    assert set(calls[3:]) <= {"read", "delivered"}  # the sandbox hands keys over from a thread of its own


def test_delivered_key_is_the_one_the_supplier_sold_and_no_column_holds_it(reservation, sandbox):
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    finish(reservation)
    order = reservation.item.order
    [material] = reveal(order=order, keys=list(Key.objects.filter(item__order=order)), by=OPENER)
    [sold] = [row for row in sandbox.sold() if row["external_id"] == reservation.external_id]
    decode = lambda text: __import__("base64").urlsafe_b64decode(text + "==")  # noqa: E731
    plain = AESGCM(decode(material.data_key)).decrypt(
        decode(material.nonce), bytes(material.key.ciphertext), decode(material.aad)
    )
    assert plain.decode() == sold["serial"]
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names():
            cursor.execute(f"SELECT * FROM {table}")  # noqa: S608
            assert sold["serial"] not in repr(cursor.fetchall()), table


def test_several_units_and_image_keys_arrive_as_bought(picture, sandbox):
    reservation = Reservation.objects.get(item__order=paid((picture, 3)))
    finish(reservation)
    keys = Key.objects.filter(item=reservation.item)
    assert [key.content_type for key in keys] == ["image/png"] * 3
    assert sum(Decimal(line["amount"]) for line in purchases(sandbox, reservation)) == Decimal("55.20")


def test_running_twice_and_after_delivery_buys_nothing_more(reservation, sandbox):
    finish(reservation)
    run(reservation, 3)
    assert len(posts(sandbox, reservation)) == 1
    assert Key.objects.count() == 1
    assert Email.objects.filter(kind="key_ready").count() == 1


def test_unknown_reservation_is_not_an_error():
    assert pipeline.advance(uuid.uuid4()) is False


def test_worker_that_wakes_after_its_lease_cannot_record(reservation, sandbox, at):
    at("purchase.answered", lambda: age(reservation, claim_token=uuid.uuid4()))  # somebody else took the row over
    with pytest.raises(LeaseLost):
        pipeline.advance(reservation.pk)
    reservation.refresh_from_db()
    assert (reservation.status, reservation.supplier_order_id) == ("sending", None)
    age(reservation, claim_token=None)
    finish(reservation)
    assert len(purchases(sandbox, reservation)) == 1


def test_missing_credentials_are_a_configuration_error_and_lose_nothing(reservation, settings):
    from django.core.exceptions import ImproperlyConfigured

    settings.KINGUIN_API_KEY = ""
    [claimed] = Reservation.objects.all().claim(only=reservation.pk)
    with pytest.raises(ImproperlyConfigured, match="KINGUIN_API_KEY"):
        pipeline.advance_claimed(claimed)
    reservation.refresh_from_db()
    assert reservation.status == "pending"


def test_refund_that_is_decided_while_a_worker_is_at_it_is_not_missed(reservation, sandbox, at):
    sandbox.fault("kinguin.order.create", "refuse", times=1, args={"kind": "ConstraintViolation"})
    at("purchase.failed", lambda: Order.objects.get().mark_refund_due(reason="asked", message="The customer asked."))
    run(reservation)
    assert (reservation.status, reservation.reason) == ("held", "refused")
    for due in Reservation.objects.all().claim():
        pipeline.advance_claimed(due)
    reservation.refresh_from_db()
    assert (reservation.status, reservation.next_attempt_at) == ("cancelled", None)


def test_row_that_kills_its_worker_three_times_is_held(reservation):
    [claimed] = Reservation.objects.all().claim(only=reservation.pk)
    pipeline.give_up(claimed)
    reservation.refresh_from_db()
    assert (reservation.status, reservation.reason) == ("held", "poison")
    assert reservation.item.order.status == "held"


def test_held_row_that_kills_its_worker_three_times_is_told(reservation):
    reservation.move("held", message="Held.", reason="out_of_stock", next_attempt_at=Now())
    [claimed] = Reservation.objects.all().claim(only=reservation.pk)
    pipeline.give_up(claimed)
    reservation.refresh_from_db()
    assert (reservation.status, reservation.reason, reservation.next_attempt_at) == ("held", "out_of_stock", None)
    assert Alert.objects.get().message.startswith("[poison]")


@pytest.mark.django_db(transaction=True)
def test_parallel_advances_buy_once(product, sandbox):
    reservation = Reservation.objects.get(item__order=paid((product, 1)))
    barrier = threading.Barrier(6)

    def advance():
        try:
            barrier.wait()
            pipeline.advance(reservation.pk)
        except (LeaseLost, ProviderUnavailable):
            pass
        finally:
            connection.close()

    threads = [threading.Thread(target=advance) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    finish(reservation)
    assert len(posts(sandbox, reservation)) == 1
    assert Order.objects.get().status == "fulfilled"
    assert OrderEvent.objects.filter(to_status="fulfilled").count() == 1
    assert OrderItem.objects.count() == 1
