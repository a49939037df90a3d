"""Every decision of staff in every state of its row: its button is shown exactly when its service accepts it."""

import itertools
import uuid
from datetime import timedelta

import pytest
from django.apps import apps
from django.contrib import admin
from django.db import transaction
from django.db.models.functions import Now
from django.test import RequestFactory
from django.urls import reverse

from bitloot.core.admin.decisions import DecisionAdmin
from bitloot.core.decisions import DecisionRefused
from bitloot.tests.staff import LISTS, make_rows, make_staff, page_of
from fulfillment.models import Reservation, SupplierGate
from fulfillment.services import Code, deliver_by_hand, objection_to_delivery_by_hand, objection_to_typed_codes
from orders.models import Alert, Order, OrderEvent
from payments.models import Payment, Refund
from webhooks.models import WebhookLog

pytestmark = pytest.mark.django_db
FIELDS = {
    "ReasonForm": {"reason": "The customer asked for it."},
    "SentForm": {"transaction_id": "f4184fc596403b9d"},
    "ConfirmForm": {},
    None: {},
}
SOON = Now() + timedelta(minutes=5)


class Undone(Exception):
    """Ends a transaction whose effect is not wanted."""


@pytest.fixture
def boss(client):
    client.user = make_staff(superuser=True)
    client.force_login(client.user)
    return client


def decisions_shown(client, row):
    page = client.get(page_of(row)).content.decode()
    view = f"admin:{row._meta.app_label}_{row._meta.model_name}_decide"
    names = [decision.name for decision in admin.site.get_model_admin(type(row)).decisions]
    return {name for name in names if f'"{reverse(view, args=[row.pk, name])}"' in page}


def accepts(act, *args, **fields):
    """Whether a service accepts; what it did is undone."""
    try:
        with transaction.atomic():
            act(*args, **fields)
            raise Undone
    except Undone:
        return True
    except DecisionRefused:
        return False


def decisions_accepted(row):
    return {
        decision.name
        for decision in admin.site.get_model_admin(type(row)).decisions
        if accepts(
            decision.carry_out,
            type(row).objects.get(pk=row.pk),
            actor="kim",
            **FIELDS[decision.form.__name__ if decision.form else None],
        )
    }


def check(boss, row, **fields):
    """Set the row's fields; return the decisions that are possible then, which are those that the services accept."""
    type(row).objects.filter(pk=row.pk).update(**fields)
    request = RequestFactory().get("/")
    request.user = boss.user
    page = admin.site.get_model_admin(type(row))
    possible = {decision.name for decision in page.possible(request, type(row).objects.get(pk=row.pk))}
    assert possible == decisions_accepted(row), fields
    return possible


@pytest.mark.parametrize("name", ["order", "alert", "payment", "refund", "reservation", "gate", "log"])
def test_page_shows_a_button_or_a_link_for_each_possible_decision(boss, name):
    row = getattr(make_rows(), name)
    for status in row.Status.values:
        possible = check(boss, row, status=status)
        assert decisions_shown(boss, row) == possible


def test_every_page_with_decisions_is_in_this_file():
    pages = [admin.site.get_model_admin(apps.get_model(label)) for label in LISTS]
    with_decisions = {page.opts.model_name for page in pages if isinstance(page, DecisionAdmin)}
    assert with_decisions == {"order", "alert", "payment", "refund", "reservation", "suppliergate", "webhooklog"}


@pytest.mark.parametrize("status", Order.Status.values)
def test_order(boss, status):
    rows = make_rows()
    seen = set()
    for step, paid_at, reason in itertools.product(("", "confirming", "review"), (None, Now()), ("", "held_by_staff")):
        OrderEvent.objects.filter(order=rows.order, kind="payment").delete()
        if step:
            OrderEvent.objects.create(order=rows.order, kind="payment", to_status=step, message="A step.")
        seen |= check(boss, rows.order, status=status, paid_at=paid_at, reason=reason)
    assert ("release" in seen) == (status == "held")


@pytest.mark.parametrize("status", Payment.Status.values)
def test_payment(boss, status):
    rows = make_rows()
    seen = set()
    for has_refund, paid, order_status in itertools.product((True, False), (0, 1), ("underpaid", "held", "refund_due")):
        if not has_refund:
            Refund.objects.all().delete()
        Order.objects.update(status=order_status, paid_at=None)
        seen |= check(boss, rows.payment, status=status, actually_paid=paid)
    assert ("accept" in seen) == (status in ("review", "partially_paid"))


@pytest.mark.parametrize("status", Refund.Status.values)
def test_refund(boss, status):
    rows = make_rows()
    for address in ("", "bc1qexample"):
        shown = check(boss, rows.refund, status=status, address=address, transaction_id="")
        assert shown == {"requested": {"sent"} if address else set(), "sent": {"done"}, "done": set()}[status]


@pytest.mark.parametrize("status", Reservation.Status.values)
def test_reservation(boss, status):
    rows = make_rows()
    for supplier_order, unknown_at, until in itertools.product((None, "S1"), (None, Now()), (None, SOON)):
        token = uuid.uuid4() if until else None
        check(
            boss, rows.reservation, status=status, supplier_order_id=supplier_order, unknown_at=unknown_at,
            claimed_until=until, claim_token=token,
        )  # fmt: skip


@pytest.mark.parametrize("status", SupplierGate.Status.values)
def test_gate(boss, status):
    shown = check(boss, make_rows().gate, status=status)
    assert shown == {"open": {"stop"}, "paused": {"stop", "open_again"}, "stopped": {"open_again"}}[status]


@pytest.mark.parametrize("status", Alert.Status.values)
def test_alert(boss, status):
    assert check(boss, make_rows().alert, status=status) == ({"close"} if status == "open" else set())


@pytest.mark.parametrize("status", WebhookLog.Status.values)
def test_webhook(boss, status):
    log = make_rows().log
    assert check(boss, log, status=status) == {"replay"}
    assert check(boss, log, status=status, claim_token=uuid.uuid4()) == set()
    assert check(boss, log, status=status, claim_token=None, body=b"{}") == set()


@pytest.mark.parametrize("order_status", Order.Status.values)
def test_codes_by_hand(order_status):
    """No page offers this yet; the API does."""
    rows = make_rows()
    for status, supplier_order, unknown_at in itertools.product(Reservation.Status, (None, "S1"), (None, Now())):
        Order.objects.update(status=order_status)
        Reservation.objects.update(status=status, supplier_order_id=supplier_order, unknown_at=unknown_at)
        order, reservation = Order.objects.get(), Reservation.objects.get()
        objections = objection_to_delivery_by_hand(order), objection_to_typed_codes(reservation)
        codes = [Code(str(rows.item.pk), "AAAA-BBBB")]
        accepted = accepts(deliver_by_hand, order=order, codes=codes, reason="Bought elsewhere.", actor="kim")
        assert accepted == (objections == (None, None)), (status, supplier_order, unknown_at)
