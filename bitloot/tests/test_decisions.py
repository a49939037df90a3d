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
from bitloot.core.decisions import DecisionRefused, Secret, SecretField
from bitloot.partners.models import ApiKey, Endpoint, OutgoingWebhook
from bitloot.partners.services import MOST_ENDPOINTS
from bitloot.partners.tests.factories import make_endpoint
from bitloot.tests.staff import LISTS, make_rows, page_of
from fulfillment.by_hand import Code, deliver_by_hand, objection_to_delivery_by_hand, objection_to_typed_codes
from fulfillment.models import Reservation, SupplierGate, SupplierStock
from orders.models import Alert, Approval, Order, OrderEvent, OrderItem, Product
from payments.models import Payment, Refund, RefundAddress
from payments.tests.factories import make_refund_address
from storage.models import Key
from storage.services import shred
from webhooks.models import ReplayRun, WebhookLog

pytestmark = [pytest.mark.django_db, pytest.mark.once]
FIELDS = {
    "ReasonForm": {"reason": "The customer asked for it."},
    "SentForm": {"transaction_id": "f4184fc596403b9d"},
    "ConfirmForm": {},
    "RebuyForm": {"reason": "The customer used it.", "old_key": "shred"},
    "ReplaceByHandForm": {"reason": "It does not work.", "old_key": "keep", "code": Secret("AAAA-REPLACED")},
    "SentElsewhereForm": {"transaction_id": "f4184fc596403b9d", "address": "bc1qexample", "reason": "Sent before."},
    "CorrectionForm": {"email": "right@example.org", "reason": "The customer asked for it."},
    "LimitsForm": {"email": "dev@partner.example", "requests_per_minute": 1, "unpaid_per_hour": 1},
    "EndpointForm": {"url": "https://hooks.partner.example/", "events": ["order.paid"]},
    None: {},
}
SOON = Now() + timedelta(minutes=5)


class Undone(Exception):
    """Ends a transaction whose effect is not wanted."""


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


def fields_of(decision, row):
    """What is typed into the decision's form; a code of its own into each field for one."""
    own = decision.form_for(type(row).objects.get(pk=row.pk)).base_fields if decision.form_for else {}
    codes = {name: Secret(f"CODE-{name}") for name, field in own.items() if isinstance(field, SecretField)}
    return {**FIELDS[decision.form.__name__ if decision.form else None], **codes}


def decisions_accepted(row, actor):
    return {
        decision.name
        for decision in admin.site.get_model_admin(type(row)).decisions
        if accepts(
            decision.carry_out,
            type(row).objects.get(pk=row.pk),
            actor=actor,
            **{**(decision.initial(row) if decision.initial else {}), **fields_of(decision, row)},
        )
    }


def check(boss, row, **fields):
    """Set the row's fields; return the decisions that are possible then, which are those that the services accept."""
    if fields:
        type(row).objects.filter(pk=row.pk).update(**fields)
    request = RequestFactory().get("/")
    request.user = boss.user
    page = admin.site.get_model_admin(type(row))
    possible = {decision.name for decision in page.possible(request, type(row).objects.get(pk=row.pk))}
    assert possible == decisions_accepted(row, boss.user.username), fields
    return possible


@pytest.mark.parametrize("name", ["order", "alert", "payment", "reservation", "gate", "log"])
def test_page_shows_a_button_or_a_link_for_each_possible_decision(boss, name):
    rows = make_rows()
    rows.approval.delete()  # what waits for a second member of staff is not offered again
    row = getattr(rows, name)
    for status in row.Status.values:
        possible = check(boss, row, status=status)
        assert decisions_shown(boss, row) == possible


def test_every_page_with_decisions_is_in_this_file():
    pages = [admin.site.get_model_admin(apps.get_model(label)) for label in LISTS]
    with_decisions = {page.opts.model_name for page in pages if isinstance(page, DecisionAdmin)}
    assert with_decisions == {
        "order",
        "alert",
        "approval",
        "email",
        "payment",
        "refund",
        "reservation",
        "suppliergate",
        "key",
        "webhooklog",
        "apikey",
        "endpoint",
        "outgoingwebhook",
        "replayrun",
        "pricerule",
    }


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


@pytest.mark.parametrize("status", Reservation.Status.values)
def test_order_with_a_missing_key(boss, status):
    rows = make_rows()
    OrderItem.objects.update(quantity=2)
    seen = set()
    for order_status, supplier_order in itertools.product(("paid", "held", "fulfilled", "refund_due"), (None, "S1")):
        Reservation.objects.update(status=status, supplier_order_id=supplier_order)
        seen |= check(boss, rows.order, status=order_status)
    assert ("deliver-by-hand" in seen) == (status in ("pending", "held", "cancelled", "failed"))


@pytest.mark.parametrize("status", Payment.Status.values)
def test_payment(boss, status):
    rows = make_rows()
    rows.approval.delete()
    seen = set()
    for has_refund, paid, order_status in itertools.product((True, False), (0, 1), ("underpaid", "held", "refund_due")):
        if not has_refund:
            RefundAddress.objects.all().delete()
            Refund.objects.all().delete()
        Order.objects.update(status=order_status, paid_at=None)
        seen |= check(boss, rows.payment, status=status, actually_paid=paid)
    assert ("accept" in seen) == (status in ("review", "partially_paid"))


@pytest.mark.parametrize("status", Refund.Status.values)
def test_refund(boss, status):
    rows = make_rows()
    RefundAddress.objects.all().delete()
    sendable = (set(), {"sent"}, {"sent", "sent-elsewhere"})
    for number, address in enumerate(("", "bc1qexample", "bc1qanother")):
        if address:
            make_refund_address(rows.refund, address)
        shown = check(boss, rows.refund, status=status, transaction_id="")
        assert shown == {"requested": sendable[number], "sent": {"done"}, "done": set()}[status]


@pytest.mark.parametrize("status", Reservation.Status.values)
def test_reservation(boss, status):
    rows = make_rows()
    for supplier_order, unknown_at, until in itertools.product((None, "S1"), (None, Now()), (None, SOON)):
        token = uuid.uuid4() if until else None
        check(
            boss, rows.reservation, status=status, supplier_order_id=supplier_order, unknown_at=unknown_at,
            claimed_until=until, claim_token=token,
        )  # fmt: skip


@pytest.mark.parametrize("status", Key.Status.values)
def test_key(boss, status):
    rows = make_rows()
    if status == "shredded":
        shred(rows.key, reason="The customer asked for it.")
    for order_status, purchase, sent in itertools.product(
        ("fulfilling", "fulfilled", "refund_due"), ("delivered", "held"), (None, "sending", "held")
    ):
        Order.objects.update(status=order_status)
        Reservation.objects.filter(replaces=None).update(status=purchase)
        Reservation.objects.filter(replaces=rows.key).delete()
        if sent:
            Reservation.objects.create(
                item=rows.item, replaces=rows.key, external_id=str(rows.key.pk), dialect="ecommerce", status=sent
            )
        seen = check(boss, rows.key)
        assert ("rebuy" in seen) == (order_status == "fulfilled" and purchase == "delivered" and sent is None)


@pytest.mark.parametrize("status", SupplierGate.Status.values)
def test_gate(boss, status):
    shown = check(boss, make_rows().gate, status=status)
    assert shown == {"open": {"stop"}, "paused": {"stop", "open_again"}, "stopped": {"open_again"}}[status]


@pytest.mark.parametrize("status", Alert.Status.values)
def test_alert(boss, status):
    assert check(boss, make_rows().alert, status=status) == ({"close"} if status == "open" else set())


@pytest.mark.parametrize("status", Approval.Status.values)
def test_approval(boss, status):
    approval = make_rows().approval
    page = admin.site.get_model_admin(Payment)
    digest = page.digest(approval.about)
    approved = {"approved_by": boss.user, "approved_at": Now()} if status == "approved" else {}
    shown = check(boss, approval, status=status, digest=digest, **approved)
    assert shown == (set() if status != "waiting" else {"approve", "decline"} if shown != {"decline"} else shown)
    assert check(boss, approval, digest="0" * 64) == ({"decline"} if status == "waiting" else set())


@pytest.mark.parametrize("status", WebhookLog.Status.values)
def test_webhook(boss, status):
    log = make_rows().log
    assert check(boss, log, status=status) == {"replay"}
    assert check(boss, log, status=status, claim_token=uuid.uuid4()) == set()
    assert check(boss, log, status=status, claim_token=None, body=b"{}") == set()


@pytest.mark.parametrize("ended", [None, Now()])
def test_api_key(boss, ended):
    key = make_rows().api_key
    assert check(boss, key, ended_at=ended) == (set() if ended else {"add-endpoint", "limits", "end"})
    for _ in range(MOST_ENDPOINTS):
        make_endpoint(key=key)
    assert check(boss, key, ended_at=ended) == (set() if ended else {"limits", "end"})


@pytest.mark.parametrize("ended", [None, Now()])
@pytest.mark.parametrize("is_enabled", [True, False])
def test_endpoint(boss, is_enabled, ended):
    endpoint = make_rows().endpoint
    ApiKey.objects.update(ended_at=ended)
    shown = check(boss, endpoint, is_enabled=is_enabled)
    always = set() if ended else {"change", "new-secret"}
    assert shown - always == ({"switch-off"} if is_enabled else set()) | (
        set() if ended else {"send-test"} if is_enabled else {"switch-on"}
    )


@pytest.mark.parametrize("status", OutgoingWebhook.Status.values)
def test_outgoing_webhook(boss, status):
    rows = make_rows()
    assert check(boss, rows.outgoing, status=status) == ({"redeliver"} if status != "queued" else set())
    Endpoint.objects.update(is_enabled=False)
    assert check(boss, rows.outgoing) == set()


def test_price_rule(boss):
    rows = make_rows()
    assert check(boss, rows.rule) == set()
    Product.objects.update(platform=rows.rule.platform)
    known = {"price": 5, "quantity": 9, "text_quantity": 9, "asked_at": Now(), "seen_at": Now()}
    SupplierStock.objects.update_or_create(product=rows.item.product, defaults=known)
    assert check(boss, rows.rule) == {"apply"}


@pytest.mark.parametrize("status", ReplayRun.Status.values)
def test_replay_run(boss, status):
    rows = make_rows()
    for is_dry, matches in itertools.product((True, False), (True, False)):
        wanted = {"ids": [rows.log.pk if matches else rows.log.pk + 1]}
        shown = check(boss, rows.run, status=status, is_dry=is_dry, wanted=wanted)
        ended = {"replay_these"} if is_dry and matches else set()
        assert shown == ({"stop"} if status == "running" else ended)


@pytest.mark.parametrize("order_status", Order.Status.values)
def test_codes_by_hand(order_status):
    """What the API takes; the order's page offers it for the items of which it takes codes."""
    rows = make_rows()
    OrderItem.objects.update(quantity=2)  # of which one has its key
    for status, supplier_order, unknown_at in itertools.product(Reservation.Status, (None, "S1"), (None, Now())):
        Order.objects.update(status=order_status)
        Reservation.objects.update(status=status, supplier_order_id=supplier_order, unknown_at=unknown_at)
        order, reservation = Order.objects.get(), Reservation.objects.get()
        objections = objection_to_delivery_by_hand(order), objection_to_typed_codes(reservation)
        codes = [Code(str(rows.item.pk), "AAAA-BBBB")]
        accepted = accepts(deliver_by_hand, order=order, codes=codes, reason="Bought elsewhere.", actor="kim")
        assert accepted == (objections == (None, None)), (status, supplier_order, unknown_at)
