"""The pipeline against the real sandbox over HTTP: its ledger, not our database, says what was bought."""

import threading
import uuid
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.utils import timezone

from bitloot.lib.http import ProviderUnavailable
from bitloot.lib.queue import LeaseLost
from fulfillment import gate, kinguin, pipeline
from fulfillment.models import Reservation, ReservationAttempt, SupplierCall, SupplierGate
from fulfillment.services import keys_of
from fulfillment.steps import buying
from orders.models import Alert, Email, Order, OrderEvent, OrderItem, Product
from orders.services import Line, place_order
from storage.models import Key
from storage.services import reveal

pytestmark = pytest.mark.django_db
Status = Reservation.Status
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def impatient(settings, sandbox):
    """The real client with the real sandbox behind it, only less patient, so that silence costs a second."""
    kinguin.client()._endpoint._transport.read_timeout = 1
    sandbox.control("config", {"deliver": "auto", "deliver_after_ms": 0})
    sandbox.control("balance", {"balance": 100000})
    return sandbox


@pytest.fixture
def product():
    return Product.objects.create(
        slug="ember-drift",
        title="Ember Drift",
        price=Decimal("9.99"),
        max_cost=Decimal("8.50"),
        supplier_product_id="64b000000000000000000001",
        supplier_offer_id="64c000000000000000000001",
    )


@pytest.fixture
def picture():
    return Product.objects.create(
        slug="nightline-courier",
        title="Nightline Courier",
        price=Decimal("22.99"),
        max_cost=Decimal("20.40"),
        key_type="image",
        supplier_product_id="64b000000000000000000004",
    )


def paid(*lines):
    order = place_order(email="kim@shop.example", lines=[Line(p.slug, n) for p, n in lines]).order
    order.mark_paid(message="Paid.")
    return order


@pytest.fixture
def reservation(product):
    return Reservation.objects.get(item__order=paid((product, 1)))


def run(reservation, times=1):
    for _ in range(times):
        assert pipeline.advance(reservation.pk)
    reservation.refresh_from_db()
    reservation.item.order.refresh_from_db()
    return reservation


def finish(reservation):
    """Run until it is delivered: the sandbox hands keys over from a thread of its own."""
    for _ in range(50):
        if run(reservation).status == "delivered":
            return reservation
        threading.Event().wait(0.05)
    pytest.fail(f"{reservation} stays {reservation.status}: {reservation.reason} {reservation.last_error}")


def timeline(order):
    return list(order.events.exclude(kind__in=["mail"]).values_list("kind", "to_status"))


def purchases(sandbox, reservation):
    return [line for line in sandbox.ledger("sold") if line["external_id"] == reservation.external_id]


def posts(sandbox, reservation):
    return [line for line in sandbox.ledger("order_received") if line["external_id"] == reservation.external_id]


def age(reservation, **fields):
    Reservation.objects.filter(pk=reservation.pk).update(**fields)


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
        ("order", "fulfilling"),
        ("reservation", "sending"),
        ("reservation", "reserved"),
        ("reservation", "given"),
        ("key", "received"),
        ("reservation", "delivered"),
        ("order", "fulfilled"),
    ]
    assert list(order.emails.order_by("id").values_list("kind", "status")) == [
        ("order_received", "queued"),
        ("key_ready", "queued"),
    ]
    assert reservation.next_attempt_at is None
    assert set(SupplierCall.objects.values_list("call", flat=True)) >= {"quote", "reserve", "give", "delivered"}


def test_delivered_key_is_the_one_the_supplier_sold_and_no_column_holds_it(reservation, sandbox):
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    finish(reservation)
    order = reservation.item.order
    [material] = reveal(order=order, keys=list(Key.objects.filter(item__order=order)))
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


def test_unpaid_order_is_never_bought(product, sandbox):
    order = place_order(email="kim@shop.example", lines=[Line(product.slug, 1)]).order
    item = order.items.get()
    reservation = Reservation.objects.create(item=item, external_id=str(item.pk), dialect="ecommerce")
    run(reservation)
    assert reservation.status == "pending"
    assert posts(sandbox, reservation) == []


def test_order_whose_money_goes_back_is_not_bought(reservation, sandbox):
    reservation.item.order.mark_refund_due(reason="asked", message="The customer asked for it.")
    run(reservation)
    assert reservation.status == "cancelled"
    assert posts(sandbox, reservation) == []


@pytest.mark.parametrize("fault", ["5xx_after", "accept_then_silent", "garbage", "truncated"])
def test_purchase_without_usable_answer_is_asked_for_and_adopted(reservation, sandbox, fault):
    sandbox.fault("kinguin.order.create", fault, times=1)
    run(reservation)
    assert reservation.status == "unknown"
    assert reservation.permits.get().outcome == "unknown"
    finish(reservation)
    assert len(posts(sandbox, reservation)) == len(purchases(sandbox, reservation)) == 1


def test_purchase_that_never_happened_stays_unknown_and_is_never_sent_again(reservation, sandbox):
    sandbox.fault("kinguin.order.create", "5xx_before", times=1)
    run(reservation, 4)
    assert reservation.status == "unknown"
    assert len(posts(sandbox, reservation)) == 1
    assert not Alert.objects.exists()
    age(reservation, unknown_at=Now() - timedelta(minutes=16))
    run(reservation)
    assert Alert.objects.get().message.startswith("[unknown]")
    age(reservation, unknown_at=Now() - 25 * HOUR)
    run(reservation)
    assert (reservation.status, reservation.reason) == ("held", "unknown_purchase")
    assert reservation.item.order.status == "held"
    run(reservation, 2)
    assert len(posts(sandbox, reservation)) == 1


def test_order_that_appears_late_is_adopted_even_when_held(reservation, sandbox):
    sandbox.fault("kinguin.order.create", "accept_late", times=1, args={"late_s": 2})
    run(reservation)
    age(reservation, unknown_at=Now() - 25 * HOUR)
    run(reservation)
    assert reservation.status == "held"
    for _ in range(40):
        run(reservation)
        if reservation.status == "delivered":
            break
        threading.Event().wait(0.1)
    assert (reservation.status, reservation.item.order.status) == ("delivered", "fulfilled")
    assert len(purchases(sandbox, reservation)) == 1


def test_crash_in_mid_send_becomes_unknown_and_never_pending(reservation, sandbox):
    order = reservation.item.order
    order.mark_fulfilling()
    ReservationAttempt.objects.create(reservation=reservation, number=1)
    dead = {"claim_token": uuid.uuid4(), "claimed_until": Now() - HOUR, "next_attempt_at": Now() - HOUR}
    age(reservation, status="sending", sent_at=Now() - HOUR, **dead)
    [claimed] = Reservation.objects.all().claim(only=reservation.pk)
    pipeline.advance_claimed(claimed)
    reservation.refresh_from_db()
    assert reservation.status == "unknown"
    assert reservation.permits.get().outcome == "unknown"
    assert posts(sandbox, reservation) == []


def test_worker_that_wakes_after_its_lease_cannot_record(reservation, sandbox, monkeypatch):
    client = kinguin.client()
    really = type(client).reserve

    def pause(self, **purchase):
        bought = really(self, **purchase)
        age(reservation, claim_token=uuid.uuid4())  # somebody took the row over in the meantime
        return bought

    monkeypatch.setattr(type(client), "reserve", pause)
    with pytest.raises(LeaseLost):
        pipeline.advance(reservation.pk)
    reservation.refresh_from_db()
    assert (reservation.status, reservation.supplier_order_id) == ("sending", None)
    monkeypatch.undo()
    age(reservation, claim_token=None)
    finish(reservation)
    assert len(purchases(sandbox, reservation)) == 1


@pytest.mark.parametrize("status", [400, 409, 422])
def test_duplicate_external_id_is_adopted_not_renamed(reservation, sandbox, status):
    sandbox.control("config", {"duplicate_status": status})
    product = reservation.item.product
    bought = buying._buy(reservation, kinguin.client(), product)
    finish(reservation)
    assert reservation.supplier_order_id == bought.order_id
    assert reservation.permits.get().outcome == "duplicate"
    assert len(purchases(sandbox, reservation)) == 1


def test_supplier_out_of_reach_sends_nothing_and_waits(reservation, settings):
    settings.KINGUIN_BASE_URL = "http://127.0.0.1:9/kinguin/esa/api"
    run(reservation)
    assert (reservation.status, reservation.attempts) == ("pending", 1)
    assert reservation.next_attempt_at > timezone.now()
    for _ in range(gate.FAILURES_TO_PAUSE):
        run(reservation)
    assert SupplierGate.objects.get(host="127.0.0.1:9").status == "paused"
    assert Alert.objects.filter(kind="supplier_down").count() == 1
    assert reservation.permits.count() == 0


def test_paused_gate_opens_by_a_harmless_read(reservation, sandbox):
    client = kinguin.client()
    SupplierGate.objects.create(host=client.host, status="paused", probe_at=Now() - HOUR)
    finish(reservation)
    assert SupplierGate.objects.get().status == "open"


@pytest.mark.parametrize("stopped", ["environment", "row"])
def test_safe_mode_lets_no_purchase_out(reservation, sandbox, settings, stopped):
    if stopped == "environment":
        settings.SAFE_MODE = True
    else:
        gate.stop(kinguin.client().host, reason="by hand")
    run(reservation, 2)
    assert reservation.status == "pending"
    assert posts(sandbox, reservation) == []


def test_gate_closed_between_quote_and_permit_wins(reservation, sandbox, monkeypatch):
    client = kinguin.client()
    monkeypatch.setattr(gate, "is_open", lambda client: True)  # a stale look
    SupplierGate.objects.create(host=client.host, status="stopped")
    run(reservation)
    assert reservation.status == "pending"
    assert posts(sandbox, reservation) == []


def test_stop_by_hand_while_the_gate_is_probed_stays(reservation, sandbox, monkeypatch):
    client = kinguin.client()
    SupplierGate.objects.create(host=client.host, status="paused", probe_at=Now() - HOUR)
    really = type(client).health

    def stopped_meanwhile(self):
        gate.stop(self.host, reason="by hand")
        return really(self)

    monkeypatch.setattr(type(client), "health", stopped_meanwhile)
    run(reservation)
    assert SupplierGate.objects.get().status == "stopped"
    assert (reservation.status, posts(sandbox, reservation)) == ("pending", [])


def test_too_dear_holds_and_buys_by_itself_once_the_price_is_back(reservation, sandbox):
    product = reservation.item.product
    Product.objects.filter(pk=product.pk).update(max_cost=Decimal("1.00"))
    run(reservation)
    order = reservation.item.order
    assert (reservation.status, reservation.reason, order.status) == ("held", "too_expensive", "held")
    assert Email.objects.filter(kind="problem").count() == 1
    assert "cap" not in order.events.filter(kind="order").last().message
    Product.objects.filter(pk=product.pk).update(max_cost=Decimal("8.50"))
    finish(reservation)
    assert not Alert.objects.filter(status="open").exists()


def test_out_of_stock_for_a_day_owes_the_money_back(reservation, sandbox):
    sandbox.control("products/64b000000000000000000001", {"qty": 0, "textQty": 0})
    run(reservation)
    assert (reservation.status, reservation.reason) == ("held", "out_of_stock")
    age(reservation, created_at=Now() - 25 * HOUR)
    run(reservation)
    sandbox.control("products/64b000000000000000000001", {"qty": 50000, "textQty": 50000})
    assert (reservation.status, reservation.item.order.status) == ("cancelled", "refund_due")


def test_supplier_that_does_not_answer_ends_no_wait_for_stock(reservation, sandbox):
    Product.objects.update(stock_wait_hours=72)
    sandbox.control("products/64b000000000000000000001", {"qty": 0, "textQty": 0})
    run(reservation)
    age(reservation, created_at=Now() - 25 * HOUR)
    sandbox.control("products/64b000000000000000000001", {"qty": 50000, "textQty": 50000})
    sandbox.fault("kinguin.product", "5xx_before", times=1)
    run(reservation)
    assert (reservation.status, reservation.reason) == ("held", "out_of_stock")
    assert reservation.next_attempt_at > timezone.now()
    assert Email.objects.filter(kind="problem").count() == 1
    finish(reservation)


def test_quote_that_fails_for_a_day_goes_to_a_person(reservation, sandbox):
    age(reservation, created_at=Now() - 25 * HOUR)
    sandbox.fault("kinguin.product", "5xx_before", times=1)
    run(reservation)
    assert (reservation.status, reservation.reason) == ("held", "supplier_unavailable")
    assert reservation.next_attempt_at is None


def test_low_balance_holds_and_resumes_after_a_top_up(reservation, sandbox):
    sandbox.control("balance", {"balance": 1})
    run(reservation)
    assert (reservation.status, reservation.reason) == ("held", "no_funds")
    assert reservation.permits.get().outcome == "refused"
    run(reservation)
    assert reservation.status == "held"
    sandbox.control("balance", {"balance": 1000})
    SupplierGate.objects.update(probe_at=Now() - HOUR)
    finish(reservation)
    assert len(purchases(sandbox, reservation)) == 1


def test_refused_credentials_hold_and_close_the_gate(reservation, sandbox, settings):
    settings.KINGUIN_API_KEY = "not-the-key-of-this-store"
    Reservation.objects.filter(pk=reservation.pk).update(next_attempt_at=Now())
    run(reservation)
    assert posts(sandbox, reservation) == []
    assert reservation.status in ("pending", "held")
    assert reservation.last_error != ""


def test_polling_goes_on_without_webhooks_and_partial_keys_are_shown(product, sandbox):
    sandbox.control("config", {"deliver": "manual"})
    reservation = Reservation.objects.get(item__order=paid((product, 2)))
    run(reservation, 2)
    assert (reservation.status, reservation.polls) == ("given", 2)
    sandbox.control(f"orders/{reservation.supplier_order_id}/deliver", {"count": 1})
    run(reservation)
    assert (Key.objects.count(), reservation.item.order.status) == (1, "partially_fulfilled")
    sandbox.control(f"orders/{reservation.supplier_order_id}/deliver", {})
    run(reservation)
    assert (Key.objects.count(), reservation.item.order.status) == (2, "fulfilled")


def test_polling_runs_out_after_a_day(reservation, sandbox):
    sandbox.control("config", {"deliver": "never"})
    run(reservation, 12)
    assert reservation.status == "given"
    age(reservation, reserved_at=Now() - 25 * HOUR)
    run(reservation)
    assert (reservation.status, reservation.reason) == ("held", "no_keys")
    assert Alert.objects.get().order == reservation.item.order


@pytest.mark.parametrize("reason", ["no_keys", "supplier_unavailable", "poison"])
def test_held_purchase_is_delivered_when_somebody_looks_again_and_its_keys_are_there(reservation, sandbox, reason):
    sandbox.control("config", {"deliver": "manual"})
    run(reservation)
    reservation.move("held", message="Held.", reason=reason)
    reservation.item.order.hold(reason=reason, message="Held.")
    run(reservation)
    assert (reservation.status, reservation.reason, reservation.next_attempt_at) == ("held", reason, None)
    sandbox.control(f"orders/{reservation.supplier_order_id}/deliver", {})
    run(reservation)
    assert (reservation.status, reservation.item.order.status) == ("delivered", "fulfilled")
    assert not Alert.objects.filter(status="open").exists()
    assert len(posts(sandbox, reservation)) == 1


def test_supplier_that_cancels_after_the_purchase_owes_the_customer_money(reservation, sandbox):
    sandbox.control("config", {"deliver": "manual"})
    run(reservation)
    sandbox.control(f"orders/{reservation.supplier_order_id}/cancel", {})
    run(reservation)
    order = reservation.item.order
    assert (reservation.status, order.status, order.reason) == ("cancelled", "refund_due", "supplier_cancelled")
    assert Alert.objects.filter(order=order).exists()


def test_missing_credentials_are_a_configuration_error_and_lose_nothing(reservation, settings):
    from django.core.exceptions import ImproperlyConfigured

    settings.KINGUIN_API_KEY = ""
    [claimed] = Reservation.objects.all().claim(only=reservation.pk)
    with pytest.raises(ImproperlyConfigured, match="KINGUIN_API_KEY"):
        pipeline.advance_claimed(claimed)
    reservation.refresh_from_db()
    assert reservation.status == "pending"


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


def test_read_that_fails_for_a_day_goes_to_a_person(reservation, sandbox):
    sandbox.control("config", {"deliver": "manual"})
    run(reservation)
    sandbox.fault("kinguin.order.keys", "5xx_before")
    run(reservation, 3)
    assert (reservation.status, reservation.attempts) == ("given", 3)
    age(reservation, reserved_at=Now() - 25 * HOUR)
    run(reservation)
    assert (reservation.status, reservation.reason) == ("held", "supplier_unavailable")


def test_key_that_another_order_has_is_refused(product, sandbox):
    first = finish(Reservation.objects.get(item__order=paid((product, 1))))
    sandbox.control("config", {"deliver": "manual"})
    second = run(Reservation.objects.get(item__order=paid((product, 1))))
    sandbox.control(f"orders/{second.supplier_order_id}/deliver", {})
    [sold] = [row for row in sandbox.sold() if row["external_id"] == second.external_id]
    Key.objects.filter(item=first.item).update(supplier_key_id=f"ecommerce:{sold['key_id']}")
    run(second)
    assert (second.status, second.reason, second.item.order.status) == ("held", "foreign_key", "held")
    assert not Key.objects.filter(item=second.item).exists()


def test_key_that_another_order_has_is_refused_while_others_are_awaited(product, sandbox):
    first = finish(Reservation.objects.get(item__order=paid((product, 1))))
    sandbox.control("config", {"deliver": "manual"})
    second = run(Reservation.objects.get(item__order=paid((product, 2))))
    sandbox.control(f"orders/{second.supplier_order_id}/deliver", {"count": 1})
    [key] = kinguin.client().delivered(second.supplier_order_id)
    Key.objects.filter(item=first.item).update(supplier_key_id=f"ecommerce:{key.key_id}")
    run(second)
    assert (second.status, second.reason, second.item.order.status) == ("held", "foreign_key", "held")


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


def test_margin_below_the_minimum_holds_like_a_price_that_is_too_high(reservation, sandbox):
    Product.objects.update(min_margin=Decimal("3.00"))  # 9.99 - 7.49 leaves 2.50
    run(reservation)
    assert (reservation.status, reservation.reason) == ("held", "too_expensive")
    Product.objects.update(min_margin=Decimal("2.50"))
    finish(reservation)
    assert reservation.permits.get().price == Decimal("7.49")


def test_wait_for_stock_is_the_products_own(reservation, sandbox):
    Product.objects.update(stock_wait_hours=1)
    sandbox.control("products/64b000000000000000000001", {"qty": 0, "textQty": 0})
    run(reservation)
    age(reservation, created_at=Now() - 2 * HOUR)
    run(reservation)
    sandbox.control("products/64b000000000000000000001", {"qty": 50000, "textQty": 50000})
    assert (reservation.status, reservation.item.order.status) == ("cancelled", "refund_due")


def test_low_balance_pauses_the_gate_for_everybody_until_there_is_enough(product, sandbox):
    first = Reservation.objects.get(item__order=paid((product, 1)))
    second = Reservation.objects.get(item__order=paid((product, 1)))
    sandbox.control("balance", {"balance": 1})
    run(first)
    gate_row = SupplierGate.objects.get()
    assert (gate_row.status, gate_row.reason, gate_row.needed_balance) == ("paused", "low_balance", Decimal("8.50"))
    run(second)
    assert (second.status, posts(sandbox, second)) == ("pending", [])
    SupplierGate.objects.update(probe_at=Now() - HOUR)
    run(second)
    assert SupplierGate.objects.get().balance == Decimal("1.00")
    sandbox.control("balance", {"balance": 1000})
    SupplierGate.objects.update(probe_at=Now() - HOUR)
    finish(second)
    finish(first)


def test_keys_nobody_needs_any_more_go_back_before_they_are_fetched(reservation, sandbox):
    sandbox.control("config", {"deliver": "manual"})
    run(reservation)
    sandbox.control(f"orders/{reservation.supplier_order_id}/deliver", {})
    reservation.item.order.mark_refund_due(reason="asked", message="The customer asked for it.")
    run(reservation)
    assert (reservation.status, reservation.reason) == ("cancelled", "returned")
    assert not Key.objects.exists()
    assert sandbox.ledger("refunded")[-1]["external_id"] == reservation.external_id


def test_order_that_lost_its_money_is_not_bought_when_the_stock_is_back(reservation, sandbox):
    sandbox.control("products/64b000000000000000000001", {"qty": 0, "textQty": 0})
    run(reservation)
    order = reservation.item.order
    order.hold_unpaid(message="The payment was refunded by the provider.")
    sandbox.control("products/64b000000000000000000001", {"qty": 50000, "textQty": 50000})
    run(reservation, 3)
    assert (order.status, order.reason) == ("held", "payment_refunded")
    assert posts(sandbox, reservation) == []


def test_keys_of_an_order_that_lost_its_money_are_not_fetched_and_go_back(reservation, sandbox):
    sandbox.fault("kinguin.order.create", "5xx_after", times=1)
    run(reservation)
    order = reservation.item.order
    order.hold_unpaid(message="The payment was refunded by the provider.")
    run(reservation, 3)
    assert (reservation.status, order.status, order.reason) == ("given", "held", "payment_refunded")
    assert not Key.objects.exists()
    order.mark_refund_due(reason="asked", message="A person gave the order up.")
    run(reservation)
    assert (reservation.status, reservation.reason) == ("cancelled", "returned")


def test_keys_of_an_order_that_loses_its_money_while_they_are_fetched_are_for_a_person(reservation, monkeypatch):
    really = kinguin.EcommerceClient.delivered

    def refunded_meanwhile(self, order_id):
        Order.objects.get().mark_refund_due(reason="asked", message="The customer asked for it.")
        return really(self, order_id)

    with monkeypatch.context() as patch:
        patch.setattr(kinguin.EcommerceClient, "delivered", refunded_meanwhile)
        run(reservation)
    assert (reservation.status, Key.objects.exists()) == ("given", False)
    run(reservation)
    assert (reservation.status, reservation.reason) == ("held", "bought_but_refunded")
    assert Alert.objects.filter(order=reservation.item.order, status="open").exists()


def test_hold_by_staff_is_not_ended_by_a_purchase_that_is_found(product, picture, sandbox):
    order = paid((product, 1), (picture, 1))
    sandbox.control("config", {"deliver": "manual"})
    sandbox.fault("kinguin.order.create", "5xx_after", times=1)
    unknown = run(Reservation.objects.get(item__order=order, item__product=product))
    order.refresh_from_db()
    order.hold(reason="held_by_staff", message="Staff look at it.")
    found = run(unknown)
    other = run(Reservation.objects.get(item__order=order, item__product=picture))
    assert (found.status, found.item.order.status) == ("given", "held")
    assert (other.status, posts(sandbox, other)) == ("pending", [])


def test_fetched_keys_of_a_refunded_order_are_for_a_person(product, sandbox):
    sandbox.control("config", {"deliver": "manual"})
    reservation = Reservation.objects.get(item__order=paid((product, 2)))
    run(reservation)
    sandbox.control(f"orders/{reservation.supplier_order_id}/deliver", {"count": 1})
    run(reservation)
    reservation.item.order.mark_refund_due(reason="asked", message="The customer asked for it.")
    run(reservation)
    assert (reservation.status, reservation.reason) == ("held", "bought_but_refunded")
    assert reservation.item.order.status == "refund_due"


def test_order_that_is_partly_delivered_is_not_taken_back_by_the_machine(product, picture, sandbox):
    order = paid((product, 1), (picture, 1))
    delivered = finish(Reservation.objects.get(item__order=order, item__product=product))
    sandbox.control("config", {"deliver": "manual"})
    cancelled = run(Reservation.objects.get(item__order=order, item__product=picture))
    sandbox.control(f"orders/{cancelled.supplier_order_id}/cancel", {})
    run(cancelled)
    order.refresh_from_db()
    assert (delivered.status, cancelled.status) == ("delivered", "cancelled")
    assert (order.status, order.reason) == ("held", "partly_delivered")
    assert Alert.objects.filter(order=order, status="open").exists()
    assert len(keys_of(order)) == 1
