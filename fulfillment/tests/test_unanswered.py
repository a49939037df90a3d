"""The supplier does not answer, for each of the four causes: the gate, the order, the alert, and how it ends."""

import json
from datetime import timedelta
from decimal import Decimal

import pytest
import responses
from django.db.models import F
from django.db.models.functions import Now

from fulfillment import balance, by_hand, gate, kinguin
from fulfillment.models import Reservation, SupplierGate
from fulfillment.tests.kinguin_wire import recorded
from fulfillment.tests.world import HOUR, finish, paid, posts, run
from orders.models import Alert, Email, Product

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("supplier")]
WRONG_KEY = "not-the-key-of-this-store"


@pytest.fixture
def wire(settings):
    """Answers for single calls; every other call reaches the sandbox."""
    with responses.RequestsMock(assert_all_requests_are_fired=False) as answers:
        answers.add_passthru(settings.KINGUIN_BASE_URL)
        yield answers


def alerts():
    return sorted(Alert.objects.filter(status="open").values_list("kind", flat=True))


def unread_for(reservation, **time):
    Reservation.objects.filter(pk=reservation.pk).update(unread_since=F("unread_since") - timedelta(**time))


def product_url(settings, reservation):
    return f"{settings.KINGUIN_BASE_URL}/v2/products/{reservation.item.product.supplier_product_id}"


def seen_gate():
    return SupplierGate.objects.get(pk=kinguin.client().host)


ODD = {
    "nonsense": ({"json": {"productId": "64b000000000000000000001", "price": None, "qty": 5}}, "purchase_unreadable"),
    "a page": ({"body": b"<html>"}, "purchase_unreadable"),
    "a refusal": ({"status": 400, "json": {"kind": "ConstraintViolation", "detail": "No."}}, "purchase_refused"),
    "an error for it alone": ({"status": 500}, "purchase_unreadable"),
}


@pytest.mark.parametrize("name", ODD)
def test_one_odd_product_concerns_its_own_order_alone(reservation, wire, settings, name):
    answer, kind = ODD[name]
    failing = wire.get(product_url(settings, reservation), **answer)
    run(reservation, gate.FAILURES_TO_PAUSE + 2)
    assert (reservation.status, seen_gate().status, alerts()) == ("pending", "open", [])
    unread_for(reservation, minutes=16)
    run(reservation, 2)
    alert = Alert.objects.get()
    assert (alert.kind, alert.about_pk, alert.order) == (kind, str(reservation.pk), reservation.item.order)
    # Another order is bought meanwhile.
    other = Product.objects.create(
        slug="other", title="Other", price=Decimal("22.99"), max_cost=Decimal("20.40"), key_type="any",
        supplier_product_id="64b000000000000000000004",
    )  # fmt: skip
    finish(Reservation.objects.get(item__order=paid((other, 1))))
    wire.remove(failing)
    finish(reservation)
    assert (alerts(), reservation.unread_since) == ([], None)


def test_a_mistyped_product_id_is_its_own_order_s_trouble(reservation):
    Product.objects.update(supplier_product_id="../../v1/balance")
    run(reservation, gate.FAILURES_TO_PAUSE + 1)
    assert (seen_gate().status, alerts()) == ("open", [])
    unread_for(reservation, minutes=16)
    run(reservation)
    assert alerts() == ["purchase_refused"]


def test_a_host_that_fails_for_all_is_paused(reservation, wire, settings):
    wire.get(product_url(settings, reservation), status=503)
    down = wire.get(f"{settings.KINGUIN_BASE_URL}/v1/balance", status=503)
    run(reservation, gate.FAILURES_TO_PAUSE)
    assert (seen_gate().status, seen_gate().reason, alerts()) == ("paused", "unreachable", ["supplier_down"])
    wire.remove(down)
    wire.remove("GET", product_url(settings, reservation))
    SupplierGate.objects.update(probe_at=Now() - HOUR)
    finish(reservation)
    assert (seen_gate().status, alerts()) == ("open", [])


def test_a_refused_key_is_told_at_once_holds_nothing_and_resumes(reservation, sandbox, settings):
    right = settings.KINGUIN_API_KEY
    settings.KINGUIN_API_KEY = WRONG_KEY
    run(reservation)
    alert = Alert.objects.get()
    assert (alert.kind, alert.about_pk) == ("provider_credentials", kinguin.client().host)
    assert "refuses our credentials" in alert.message
    assert (seen_gate().status, seen_gate().reason) == ("paused", "credentials")
    # For days: no hold, no mail to the customer, no other alert.
    SupplierGate.objects.update(probe_at=Now() - HOUR)
    Reservation.objects.update(created_at=Now() - timedelta(days=9), attempts=50)
    run(reservation, 3)
    assert (reservation.status, reservation.item.order.status, alerts()) == ("pending", "paid", [alert.kind])
    assert not Email.objects.filter(kind="delayed").exists()
    settings.KINGUIN_API_KEY = right
    SupplierGate.objects.update(probe_at=Now() - HOUR)
    finish(reservation)
    assert (alerts(), seen_gate().status, len(posts(sandbox, reservation))) == ([], "open", 1)


def test_keys_that_were_bought_wait_out_a_refused_key(reservation, sandbox, settings):
    sandbox.control("config", {"deliver": "manual"})
    right = settings.KINGUIN_API_KEY
    run(reservation)
    assert reservation.status == "given"
    settings.KINGUIN_API_KEY = WRONG_KEY
    Reservation.objects.update(reserved_at=Now() - timedelta(days=9), attempts=50)
    run(reservation, 2)
    assert (reservation.status, alerts()) == ("given", ["provider_credentials"])
    settings.KINGUIN_API_KEY = right
    sandbox.control(f"orders/{reservation.supplier_order_id}/deliver", {})
    Reservation.objects.update(reserved_at=Now())
    finish(reservation)
    SupplierGate.objects.update(probe_at=Now() - HOUR)
    balance.watch()
    assert (alerts(), seen_gate().status) == ([], "open")


def test_a_search_that_our_key_is_refused_for_holds_nothing(reservation, sandbox, settings):
    Reservation.objects.update(status="unknown", unknown_at=Now() - timedelta(days=3), sent_at=Now())
    settings.KINGUIN_API_KEY = WRONG_KEY
    run(reservation)
    assert (reservation.status, alerts()) == ("unknown", ["provider_credentials"])


def test_an_outage_that_ends_with_a_refused_key_says_so(reservation, settings):
    SupplierGate.objects.create(host=kinguin.client().host)
    SupplierGate.objects.pause(reason="unreachable", probe_at=Now())
    gate.unreachable(kinguin.client().host)
    settings.KINGUIN_API_KEY = WRONG_KEY
    for _ in range(2):
        SupplierGate.objects.update(probe_at=Now() - HOUR)
        run(reservation)
    assert (seen_gate().reason, alerts()) == ("credentials", ["provider_credentials"])
    assert Alert.objects.get(kind="provider_credentials").times == 1


def test_the_regular_look_at_the_balance_tells_of_a_refused_key(settings):
    right = settings.KINGUIN_API_KEY
    settings.KINGUIN_API_KEY = WRONG_KEY
    balance.watch()
    assert alerts() == ["provider_credentials"]
    settings.KINGUIN_API_KEY = right
    SupplierGate.objects.update(probe_at=Now() - HOUR)
    balance.watch()
    assert (alerts(), seen_gate().status) == ([], "open")


def test_an_order_that_cannot_be_read_is_told_and_its_keys_come_when_it_can(reservation, sandbox, wire, settings):
    sandbox.control("config", {"deliver": "manual"})
    run(reservation)
    failing = wire.get(f"{settings.KINGUIN_BASE_URL}/v1/order/{reservation.supplier_order_id}", body=b"<html>")
    run(reservation)
    unread_for(reservation, minutes=16)
    run(reservation)
    assert (reservation.status, alerts(), seen_gate().status) == ("given", ["purchase_unreadable"], "open")
    wire.remove(failing)
    sandbox.control(f"orders/{reservation.supplier_order_id}/deliver", {})
    finish(reservation)
    assert alerts() == []


def charge(wire, settings, price):
    """Have the supplier take this for the next purchase, whatever was agreed."""

    def bought(request):
        body = json.loads(request.body)
        row = {"productId": body["products"][0]["productId"], "qty": 1}
        answer = recorded("order_create_response_201") | {
            "orderExternalId": body["orderExternalId"], "paymentPrice": price, "products": [row],
        }  # fmt: skip
        return 201, {}, json.dumps(answer)

    wire.add_callback("POST", f"{settings.KINGUIN_BASE_URL}/v2/order", bought)


def test_the_supplier_taking_more_than_agreed_is_told_at_once(reservation, wire, settings):
    charge(wire, settings, 8.51)
    run(reservation)
    alert = Alert.objects.get(kind="cost_above_cap")
    assert (alert.about_pk, alert.order) == (str(reservation.pk), reservation.item.order)
    assert "took 8.51 EUR" in alert.message
    assert "at most 8.5 EUR" in alert.message
    assert (reservation.supplier_order_id is not None, reservation.cost) == (True, Decimal("8.51"))


def test_an_absurd_figure_is_told_and_undoes_no_purchase(reservation, wire, settings):
    charge(wire, settings, "1e19")
    run(reservation)
    assert (reservation.status, reservation.supplier_order_id is None, reservation.cost) == ("given", False, None)
    assert "took 10000000000000000000 EUR" in Alert.objects.get(kind="cost_above_cap").message


def test_a_replacement_is_one_key_however_many_its_item_has(product, wire, settings):
    bought = finish(Reservation.objects.get(item__order=paid((product, 2))))
    old = bought.keys.select_related("item__order", "item__product").first()
    by_hand.rebuy(old, actor="kim", reason="It was used.", old_key=by_hand.KEEP)
    charge(wire, settings, 8.51)
    run(Reservation.objects.get(replaces=old))
    assert "at most 8.5 EUR" in Alert.objects.get(kind="cost_above_cap").message
