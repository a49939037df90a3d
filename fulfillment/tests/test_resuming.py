"""What is held resumes automatically once its cause is over, and not before."""

import pytest
import responses
from django.db.models.functions import Now
from django.utils import timezone

from fulfillment import services
from fulfillment.models import Reservation
from fulfillment.tests.world import HOUR, age, finish, posts, purchases, run
from orders.models import Alert, Email, Product

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("supplier")]


def test_out_of_stock_for_a_day_owes_the_money_back(reservation, sandbox):
    sandbox.control("products/64b000000000000000000001", {"qty": 0, "textQty": 0})
    run(reservation)
    assert (reservation.status, reservation.reason) == ("held", "out_of_stock")
    age(reservation, waiting_since=Now() - 25 * HOUR)
    run(reservation)
    sandbox.control("products/64b000000000000000000001", {"qty": 50000, "textQty": 50000})
    assert (reservation.status, reservation.item.order.status) == ("cancelled", "refund_due")


def test_supplier_that_does_not_answer_ends_no_wait_for_stock(reservation, sandbox):
    Product.objects.update(stock_wait_hours=72)
    sandbox.control("products/64b000000000000000000001", {"qty": 0, "textQty": 0})
    run(reservation)
    age(reservation, waiting_since=Now() - 25 * HOUR)
    sandbox.control("products/64b000000000000000000001", {"qty": 50000, "textQty": 50000})
    sandbox.fault("kinguin.product", "5xx_before", times=1)
    run(reservation)
    assert (reservation.status, reservation.reason) == ("held", "out_of_stock")
    assert reservation.next_attempt_at > timezone.now()
    assert Email.objects.filter(kind="delayed").count() == 1
    finish(reservation)


def test_low_balance_holds_and_resumes_after_a_top_up(reservation, sandbox):
    sandbox.control("balance", {"balance": 1})
    run(reservation)
    assert (reservation.status, reservation.reason) == ("held", "no_funds")
    assert reservation.permits.get().outcome == "refused"
    run(reservation)
    assert reservation.status == "held"
    sandbox.control("balance", {"balance": 1000})
    finish(reservation)
    assert len(purchases(sandbox, reservation)) == 1


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


def test_wait_for_stock_is_the_products_own(reservation, sandbox):
    Product.objects.update(stock_wait_hours=1)
    sandbox.control("products/64b000000000000000000001", {"qty": 0, "textQty": 0})
    run(reservation)
    age(reservation, waiting_since=Now() - 2 * HOUR)
    run(reservation)
    sandbox.control("products/64b000000000000000000001", {"qty": 50000, "textQty": 50000})
    assert (reservation.status, reservation.item.order.status) == ("cancelled", "refund_due")


def test_order_that_lost_its_money_is_not_bought_when_the_stock_is_back(reservation, sandbox):
    sandbox.control("products/64b000000000000000000001", {"qty": 0, "textQty": 0})
    run(reservation)
    order = reservation.item.order
    order.hold_unpaid(message="The payment was refunded by the provider.")
    sandbox.control("products/64b000000000000000000001", {"qty": 50000, "textQty": 50000})
    run(reservation, 3)
    assert (order.status, order.reason) == ("held", "payment_refunded")
    assert posts(sandbox, reservation) == []


# --- patience


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("out_of_stock", "out_of_stock"), ("insufficient_balance", "no_funds")],
)
def test_refusals_although_the_catalogue_says_yes_end_with_the_products_patience(reservation, sandbox, fault, reason):
    sandbox.fault("kinguin.order.create", fault)
    run(reservation)
    assert (reservation.status, reservation.reason) == ("held", reason)
    for _ in range(8):
        run(reservation)
    order = reservation.item.order
    assert (reservation.status, order.status, reservation.permits.count()) == ("held", "held", 9)
    mails = Email.objects.filter(order=order)
    assert [mails.filter(kind=kind).count() for kind in ("delayed", "alert")] == [1, 1]
    assert Alert.objects.filter(kind="reservation").count() == 1
    age(reservation, waiting_since=Now() - 25 * HOUR)
    run(reservation)
    order.refresh_from_db()
    assert (reservation.status, reservation.reason, order.status) == ("cancelled", reason, "refund_due")
    assert len(purchases(sandbox, reservation)) == 0


def test_patience_counts_from_the_first_refusal_and_not_from_the_payment(reservation, sandbox):
    age(reservation, created_at=Now() - 48 * HOUR)
    sandbox.fault("kinguin.order.create", "out_of_stock", times=1)
    run(reservation)
    assert (reservation.status, reservation.item.order.status) == ("held", "held")
    assert reservation.next_attempt_at < timezone.now() + HOUR
    finish(reservation)
    assert not Alert.objects.filter(status="open").exists()


def test_each_cause_is_told_once(reservation, sandbox):
    for fault in ("out_of_stock", "insufficient_balance", "out_of_stock", "insufficient_balance"):
        sandbox.fault("kinguin.order.create", fault, times=1)
        run(reservation)
    mails = Email.objects.filter(order=reservation.item.order)
    assert mails.filter(kind="alert").count() == 2
    causes = mails.filter(kind="delayed").order_by("pk").values_list("facts__cause", flat=True)
    assert list(causes) == ["out_of_stock", "supplier"]
    assert Alert.objects.filter(status="open").count() == 1


def test_refused_purchases_are_tried_less_and_less_often_and_never_past_the_patience(reservation, sandbox):
    sandbox.fault("kinguin.order.create", "out_of_stock")
    pauses = []
    for _ in range(5):
        run(reservation)
        pauses.append(round((reservation.next_attempt_at - timezone.now()).total_seconds() / 900))
    assert pauses == [1, 2, 4, 8, 8]
    age(reservation, waiting_since=Now() - 95 * HOUR / 4)
    run(reservation)
    assert (reservation.next_attempt_at - timezone.now()).total_seconds() < 910


def test_supplier_that_never_answers_ends_with_the_patience_as_well(reservation, sandbox):
    age(reservation, created_at=Now() - 25 * HOUR, attempts=10)
    sandbox.fault("kinguin.product", "5xx_before", times=1)
    run(reservation)
    assert (reservation.status, reservation.reason) == ("held", "supplier_unavailable")
    age(reservation, waiting_since=Now() - 25 * HOUR)
    sandbox.control("products/64b000000000000000000001", {"qty": 0, "textQty": 0})
    run(reservation)
    sandbox.control("products/64b000000000000000000001", {"qty": 50000, "textQty": 50000})
    assert (reservation.status, reservation.item.order.status) == ("cancelled", "refund_due")


def test_staff_who_let_it_continue_begin_the_patience_anew(reservation, sandbox):
    sandbox.fault("kinguin.order.create", "out_of_stock", times=2)
    run(reservation)
    age(reservation, waiting_since=Now() - 25 * HOUR)
    services.resume(Reservation.objects.get(pk=reservation.pk), actor="kim")
    run(reservation)
    assert (reservation.status, reservation.item.order.status) == ("held", "held")


def test_any_other_refusal_is_tried_again_and_ends_with_the_patience(reservation, settings):
    refusal = {"kind": "ConstraintViolation", "status": 400, "detail": "The price is too low."}
    with responses.RequestsMock() as wire:
        wire.add_passthru(settings.KINGUIN_BASE_URL)
        wire.post(f"{settings.KINGUIN_BASE_URL}/v2/order", json=refusal, status=400)
        run(reservation, 2)
        assert (reservation.status, reservation.reason, reservation.permits.count()) == ("held", "refused", 2)
        age(reservation, waiting_since=Now() - 25 * HOUR)
        run(reservation)
    assert (reservation.status, reservation.item.order.status) == ("cancelled", "refund_due")
