"""Decisions about large money: one member of staff asks, another one approves, and nothing happens in between."""

from decimal import Decimal

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse

from bitloot.tests.staff import button_of, make_rows, make_staff, page_of
from orders.models import Alert, Approval
from orders.tests.factories import make_order, timeline
from payments.models import Payment
from payments.tests.factories import make_payment

pytestmark = pytest.mark.django_db
SETTLER = (
    "orders.view_order", "orders.view_approval", "payments.view_payment", "payments.view_refund",
    "payments.accept_payment", "orders.approve_decision", "orders.decline_decision",
)  # fmt: skip
REASON = {"reason": "The customer is well known to us."}


def desk(*permissions, **fields):
    client = Client()
    client.user = make_staff(*(permissions or SETTLER), **fields)
    client.force_login(client.user)
    return client


def open_form(client, row, name):
    return client.get(button_of(row, name), follow=True)


def send(client, row, name, seen, **fields):
    answer = client.post(button_of(row, name), {"seen": seen, **fields}, follow=True)
    return [str(message) for message in answer.context["messages"]]


def decide(client, row, name, **fields):
    """Send the form, also where the page shows none because something stands against it."""
    seen = admin.site.get_model_admin(type(row)).seen(type(row).objects.get(pk=row.pk))
    return send(client, row, name, seen, **fields)


@pytest.fixture
def one_satoshi():
    """Nine keys, and next to nothing for them."""
    order = make_order(status="underpaid")
    return make_payment(order, "partially_paid", actually_paid=Decimal("0.00000001"), reason="too_little")


@pytest.fixture
def asked(one_satoshi):
    ada = desk()
    ada.said = decide(ada, one_satoshi, "accept", **REASON)
    ada.approval = Approval.objects.get()
    return ada


def test_what_was_chosen_is_shown_in_the_words_of_the_form():
    rows = make_rows()
    Approval.objects.create(
        order=rows.order, about_model="storage.key", about_pk=str(rows.key.pk), decision="rebuy", digest="0" * 64,
        label="Replace: buy again", fields={"reason": "Used before.", "old_key": "shred"}, requested_by=make_staff(),
    )  # fmt: skip
    approval = Approval.objects.get(decision="rebuy")
    page = desk("orders.view_approval").get(page_of(approval)).content.decode()
    assert "<dt>The old key</dt><dd>is shredded when the new one is there</dd>" in page


def test_the_case_says_what_is_to_be_approved(asked):
    said = admin.site.get_model_admin(Approval).concern(asked.approval)
    assert said == f"{asked.user.username} asks for “Accept as paid”. Someone else has to approve or decline it."


def states(payment):
    payment.refresh_from_db()
    payment.order.refresh_from_db()
    return payment.status, payment.order.status


def test_one_member_of_staff_alone_accepts_no_satoshi(asked, one_satoshi):
    assert asked.said == [
        f"payment {one_satoshi.external_id}: a second member of staff has to approve it; it waits on the home page,"
        " and nothing has happened yet."
    ]
    assert states(one_satoshi) == ("partially_paid", "underpaid")
    assert (asked.approval.requested_by, asked.approval.status) == (asked.user, "waiting")
    assert asked.approval.fields == REASON
    assert decide(asked, asked.approval, "approve") == [
        "approval of “Accept as paid”: You asked for it. Someone else has to approve it."
    ]
    assert states(one_satoshi) == ("partially_paid", "underpaid")
    assert (
        reverse("admin:orders_approval_decide", args=[asked.approval.pk, "approve"])
        not in asked.get(page_of(asked.approval)).content.decode()
    )


def test_asking_again_is_refused_while_it_waits(asked, one_satoshi):
    assert "already" in decide(asked, one_satoshi, "accept", **REASON)[0]
    assert Approval.objects.count() == 1


def test_a_request_waits_on_the_home_page_and_staff_are_told(asked):
    home = desk().get(reverse("admin:index")).content.decode()
    assert "To approve" in home
    alert = Alert.objects.get(kind="approval_waiting")
    assert (alert.status, alert.about_pk) == ("open", str(asked.approval.pk))


def test_a_second_member_of_staff_approves(asked, one_satoshi):
    grace = desk()
    shown = open_form(grace, asked.approval, "approve").content.decode()
    assert all(fact in shown for fact in ("Accept as paid", REASON["reason"], "0.00000001", asked.user.username))
    assert decide(grace, asked.approval, "approve") == ["approval of “Accept as paid”: approved and carried out."]
    assert states(one_satoshi) == ("finished", "paid")
    approval = Approval.objects.get()
    assert (approval.status, approval.approved_by) == ("approved", grace.user)
    assert Alert.objects.get(kind="approval_waiting").status == "closed"
    said = [(event.actor, event.message) for event in one_satoshi.order.events.filter(kind="staff")]
    assert said == [
        (asked.user.username, "Asked for “Accept as paid”: it waits for approval."),
        (grace.user.username, f"Approved “Accept as paid”, which {asked.user.username} asked for."),
        (grace.user.username, f"Accepted as paid: {REASON['reason']}"),
    ]
    logged = LogEntry.objects.filter(object_id=str(one_satoshi.pk)).order_by("pk")
    assert [entry.user for entry in logged] == [asked.user, grace.user]
    assert asked.user.username in logged.last().change_message
    assert ("order", "underpaid", "paid") in timeline(one_satoshi.order)


def test_what_waits_for_a_second_one_is_not_offered_again(asked, one_satoshi):
    url = button_of(one_satoshi, "accept")
    for page in (page_of(one_satoshi), page_of(one_satoshi.order), "/admin/"):
        assert url not in asked.get(page).content.decode(), page
    assert "waiting for a second member of staff already" in asked.get(url, follow=True).content.decode()
    decide(desk(), asked.approval, "decline", reason="Ask them for the rest.")
    assert url in asked.get(page_of(one_satoshi)).content.decode()


def test_an_approval_holds_once(asked, one_satoshi):
    grace, kim = desk(), desk()
    seen = open_form(kim, asked.approval, "approve").context["seen"]
    decide(grace, asked.approval, "approve")
    assert "Somebody decided about it meanwhile" in send(kim, asked.approval, "approve", seen)[0]
    assert "already" in open_form(kim, asked.approval, "approve").context["messages"]._loaded_data[0].message


def test_what_changed_since_it_was_asked_for_is_not_approved(asked, one_satoshi):
    grace = desk()
    seen = open_form(grace, asked.approval, "approve").context["seen"]
    Payment.objects.filter(pk=one_satoshi.pk).update(reason="other_order", status="review")
    assert "changed meanwhile" in send(grace, asked.approval, "approve", seen)[0]
    page = open_form(grace, asked.approval, "approve").content.decode()
    assert "has changed. Decline it" in page
    assert states(one_satoshi) == ("review", "underpaid")


def test_an_approver_needs_the_permission_of_the_decision(asked, one_satoshi):
    grace = desk(*(name for name in SETTLER if name != "payments.accept_payment"))
    assert "do not cover" in decide(grace, asked.approval, "approve")[0]
    kim = desk(*(name for name in SETTLER if name != "orders.approve_decision"))
    assert kim.get(button_of(asked.approval, "approve")).status_code == 403
    assert states(one_satoshi) == ("partially_paid", "underpaid")


def test_a_request_may_be_declined_and_asked_for_again(asked, one_satoshi):
    assert decide(desk(), asked.approval, "decline", reason="Ask them for the rest.") == [
        "approval of “Accept as paid”: declined. Nothing was carried out."
    ]
    assert states(one_satoshi) == ("partially_paid", "underpaid")
    assert Alert.objects.get(kind="approval_waiting").status == "closed"
    decide(asked, one_satoshi, "accept", **REASON)
    assert sorted(Approval.objects.values_list("status", flat=True)) == ["declined", "waiting"]


@pytest.mark.parametrize(
    ("share", "limit", "takes_two"),
    [("0.2", "100", False), ("0.05", "100", True), ("0.2", "2", True), ("0.2", "2.49", True), ("0.2", "2.5", False)],
)
def test_the_limits_are_an_amount_and_a_share(settings, share, limit, takes_two):
    settings.APPROVAL_SHARE, settings.APPROVAL_LIMIT = Decimal(share), Decimal(limit)
    payment = make_payment(
        make_order(status="underpaid"), "partially_paid", pay_amount=Decimal(10), actually_paid=Decimal(9)
    )
    assert payment.price_amount == Decimal("24.99")
    decide(desk(), payment, "accept", **REASON)
    assert (states(payment) == ("partially_paid", "underpaid")) == takes_two == Approval.objects.exists()


def test_the_database_itself_wants_two(asked):
    with pytest.raises(IntegrityError), transaction.atomic():
        Approval.objects.update(approved_by=asked.user)
    with pytest.raises(IntegrityError), transaction.atomic():
        Approval.objects.update(status="approved")
