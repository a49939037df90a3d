"""The staff's home page: what waits as one list with its decisions, and the finder that leads to the order."""

import re
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db.models.functions import Now

from bitloot.tests.staff import button_of, list_of, make_rows, make_staff, page_of
from fulfillment.models import Reservation
from orders.alerts import raise_alert
from orders.models import Approval, Email, IdempotencyRecord, Order
from payments.models import Payment, Refund
from webhooks.models import WebhookLog

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nothing_else_waits(settings):
    settings.STAFF_EMAIL = []


def calm():
    rows = make_rows()
    rows.notification.delete()
    rows.alert.delete()
    rows.approval.delete()
    return rows  # its refund waits for the customer's address


def cases(client):
    panel = next(panel for panel in client.get("/admin/").context["panels"] if panel["title"] == "Decide now")
    return panel["cases"]


def only(client):
    (case,) = cases(client)
    return case


def labels(case):
    return [choice["label"] for choice in case["choices"]]


KINDS = {
    "a held order": (Order, "order", {"status": "held", "reason": "held_by_staff"}, "Held by staff", "Let it continue"),
    "a failed order": (Order, "order", {"status": "failed"}, "Order failed", "Give the money back"),
    "a payment in review": (
        Payment, "payment", {"status": "review", "reason": "second_payment"}, "Second payment", "Refund all",
    ),
    "a held purchase": (
        Reservation, "reservation", {"status": "held", "reason": "no_keys"}, "No keys", "Run now",
    ),
    "an unknown purchase": (
        Reservation, "reservation", {"status": "unknown", "supplier_order_id": None}, "Purchase unknown",
        "Search at the supplier",
    ),
    "a refund that is on its way": (
        Refund, "refund", {"status": "sent", "sent_at": Now()}, "Refund to confirm", "Mark as done",
    ),
    "a failed webhook": (WebhookLog, "log", {"status": "failed"}, "Webhook failed", "Replay: run the handler again"),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_that_waits_is_a_case_with_its_decision(boss, kind):
    model, name, fields, heading, label = KINDS[kind]
    rows = calm()
    assert cases(boss) == []
    if model is Refund:
        Refund.objects.update(destination=rows.refund_address)
    elif model is Payment:
        rows.refund_address.delete()
        rows.refund.delete()
    model.objects.filter(pk=getattr(rows, name).pk).update(**fields)
    case = only(boss)
    assert case["headings"] == [heading]
    assert case["order"] == rows.order
    assert label in labels(case)
    assert case["why"]
    page = boss.get("/admin/").content.decode()
    assert rows.order.email in page
    assert page_of(rows.order) in page


def test_underpaid_order_is_a_case_although_nothing_was_held(boss):
    rows = calm()
    rows.refund_address.delete()
    rows.refund.delete()
    Payment.objects.update(status="partially_paid", reason="too_little", credit=Decimal("1.00"))
    Order.objects.update(status="underpaid", paid_at=None)
    case = only(boss)
    assert case["headings"] == ["Too little"]
    assert {"Accept as paid", "Ask for the rest", "Refund all"} <= set(labels(case))


def test_failed_mail_is_sent_again_from_its_alert(boss):
    rows = calm()
    Email.objects.filter(pk=rows.email.pk).update(status="failed", error="550")
    raise_alert("mail_failed", rows.email, "The mail was refused.", order=rows.order)
    case = only(boss)
    assert (case["headings"], case["why"]) == (["Mail failed"], ["The mail was refused."])
    assert {"Send again", "Close: it is taken care of"} <= set(labels(case))


def test_decision_to_approve_waits_for_somebody_else(boss):
    rows = calm()
    approval = Approval.objects.create(
        order=rows.order, about_model="payments.payment", about_pk=str(rows.payment.pk), decision="refund",
        label="Refund all", fields={}, digest="0" * 64, requested_by=boss.user,
    )  # fmt: skip
    case = only(boss)
    assert case["headings"] == ["To approve"]
    assert button_of(approval, "decline") in [choice["url"].partition("?")[0] for choice in case["choices"]]
    assert "Approve" not in labels(case)  # they asked for it themselves


def test_order_and_its_purchase_are_one_case_that_says_what_comes_and_when(boss):
    rows = calm()
    Order.objects.update(status="held", reason="out_of_stock")
    Reservation.objects.update(
        status="held", reason="out_of_stock", supplier_order_id=None, waiting_since=Now() - timedelta(hours=1)
    )
    raise_alert("reservation", rows.reservation, "[out_of_stock] No stock.", order=rows.order)
    case = only(boss)
    assert case["headings"] == ["Out of stock"]
    assert case["why"] == ["The supplier has too little of it now."]  # the alert would say it once more
    assert (case["then"]["what"], "in 22 h" in case["then"]["when"]) == ("The money is owed back", True)
    assert {"Let it continue", "Give the money back"} <= set(labels(case))
    assert len(labels(case)) == len(set(labels(case)))


def test_case_says_who_holds_the_order_and_why(boss):
    rows = calm()
    raise_alert("payment_review", rows.payment, "The payment needs attention.", order=rows.order)
    url = button_of(rows.order, "hold")
    boss.post(url, {"seen": boss.get(url).context["seen"], "reason": "The customer asked us to wait."})
    case = only(boss)
    assert "Order held" in case["headings"]
    assert any(f"{boss.user.username} holds" in each and "asked us to wait." in each for each in case["why"])
    assert "Let it continue" in labels(case)


def test_alert_about_something_else_stays(boss):
    rows = calm()
    Order.objects.update(status="held", reason="held_by_staff")
    raise_alert("key_not_opened", rows.key, "The customer's key does not open.", order=rows.order)
    assert "The customer's key does not open." in only(boss)["why"]


def test_dear_purchase_leads_to_its_product(boss):
    rows = calm()
    Reservation.objects.update(status="held", reason="too_expensive", supplier_order_id=None)
    assert only(boss)["ways"] == [("Raise the cap", page_of(rows.product))]


def test_same_decision_about_several_rows_of_an_order_names_each_row(boss):
    rows = calm()
    mails = [rows.email, Email.objects.create(order=rows.order, kind="key_ready", to=rows.order.email)]
    Email.objects.update(status="failed", error="550")
    for mail in mails:
        raise_alert("mail_failed", mail, "The mail was refused.", order=rows.order)
    case = only(boss)
    closing = {f"Close: it is taken care of (Mail failed: email {mail.pk})" for mail in mails}
    assert {f"Send again ({mail})" for mail in mails} | closing == set(labels(case))
    assert [label for label, _ in case["ways"]] == ["What to do"]  # the same row of the runbook


def test_trouble_of_the_shop_comes_first_then_money_then_age(boss):
    small, old, new = calm(), calm(), calm()
    Order.objects.update(status="held", reason="held_by_staff")
    for row, total, hours in ((small, 5, 9), (old, 50, 2), (new, 50, 1)):
        Order.objects.filter(pk=row.order.pk).update(total=total, created_at=Now() - timedelta(hours=hours))
    raise_alert("payments_down", "payments", "NOWPayments does not answer.")
    assert [case["order"] for case in cases(boss)] == [None, old.order, new.order, small.order]


def test_list_ends_and_says_how_many_more(boss, monkeypatch):
    monkeypatch.setattr("bitloot.staff.cases.SHOWN", 2)
    for _ in range(3):
        calm()
    Order.objects.update(status="held", reason="held_by_staff")
    page = boss.get("/admin/").content.decode()
    assert "Decide now (3)" in page
    assert "1 more, about less money or younger." in page


def test_quiet_shop_says_so(boss):
    assert "Nothing waits for you." in boss.get("/admin/").content.decode()


def test_decision_taken_from_home_leads_back_there(boss):
    rows = calm()
    Email.objects.filter(pk=rows.email.pk).update(status="failed")
    raise_alert("mail_failed", rows.email, "The mail was refused.", order=rows.order)
    again = next(choice for choice in only(boss)["choices"] if choice["label"] == "Send again")
    assert boss.post(again["url"])["Location"] == "/admin/"
    Order.objects.update(status="held", reason="held_by_staff")
    release = next(choice for choice in only(boss)["choices"] if choice["label"] == "Let it continue")
    form = boss.get(release["url"])
    sent = {"seen": form.context["seen"], "reason": "Looked at, all is well."}
    assert boss.post(release["url"], sent)["Location"] == "/admin/"


@pytest.mark.parametrize("back", ["//evil.example/", "https://evil.example/admin/", "/orders/", "javascript:alert(1)"])
def test_decision_leads_back_nowhere_else(boss, back):
    rows = calm()
    answer = boss.post(f"{button_of(rows.order, 'mail_fresh_link')}?back={back}")
    assert answer["Location"] == page_of(rows.order)


def test_case_shows_no_decision_without_its_permission(client):
    calm()
    Order.objects.update(status="held", reason="held_by_staff")
    client.force_login(make_staff("orders.view_order"))
    assert labels(only(client)) == []


# --- the finder ---


def payin_hash(rows):
    """Let the payment have the transaction that the provider named."""
    named = f"0x{rows.order.pk.hex}abcdef"
    Payment.objects.filter(pk=rows.payment.pk).update(payin_hash=named)
    return named


FOUND_BY = {
    "the order": lambda rows: str(rows.order.pk).upper(),
    "the start of the order": lambda rows: rows.order.pk.hex[:8],
    "a pasted link": lambda rows: f"https://shop.example/orders/{rows.order.pk}#token",
    "the e-mail address": lambda rows: rows.order.email.upper(),
    "the payment": lambda rows: rows.payment.external_id,
    "the pay address": lambda rows: rows.payment.pay_address.upper(),
    "the customer's transaction": lambda rows: payin_hash(rows).upper(),
    "the refund's transaction": lambda rows: rows.refund.transaction_id.upper(),
    "the supplier's order": lambda rows: rows.reservation.supplier_order_id.lower(),
    "our id of the purchase": lambda rows: rows.reservation.external_id.upper(),
    "the key": lambda rows: str(rows.key.pk),
    "the order's item": lambda rows: str(rows.item.pk),
}


@pytest.mark.parametrize("number", FOUND_BY)
def test_finder_leads_to_the_order_whatever_is_typed(boss, number):
    make_rows()
    rows = make_rows()
    page = boss.get("/admin/", {"q": f" {FOUND_BY[number](rows)} "}).content.decode()
    found = page.partition('class="hit"')[2]
    first = re.search(r'href="([^"]*)"', found)
    assert first[1] == page_of(rows.order)
    assert found.index(page_of(rows.order)) < found.index('class="places"')


def test_finder_names_only_places_that_help_a_person(boss):
    rows = make_rows()
    IdempotencyRecord.objects.create(key="a" * 64, route="orders", object_id=rows.order.pk)
    for term in (str(rows.order.pk), rows.order.email, rows.reservation.external_id, boss.user.username):
        page = boss.get("/admin/", {"q": term}).content.decode().partition('class="places"')[2].partition("</dl>")[0]
        named = set(re.findall(r"<dt>([^<]*)</dt>", page))
        assert named <= {
            "Orders", "Alerts", "Approvals", "Mails", "Payments", "Refunds", "Purchases", "Keys", "Webhooks",
            "Outgoing webhooks",
        }, term  # fmt: skip
    assert len(named) <= 1


def test_finder_stands_in_the_header_of_every_page(boss):
    rows = make_rows()
    for path in ("/admin/", list_of("orders.order"), page_of(rows.order), "/admin/system/"):
        page = boss.get(path).content.decode()
        assert '<input id="finder"' in page, path
        assert 'action="/admin/"' in page


def test_finder_shows_no_order_without_its_permission(client):
    rows = make_rows()
    client.force_login(make_staff("payments.view_payment"))
    page = client.get("/admin/", {"q": rows.payment.external_id}).content.decode()
    assert page_of(rows.payment) in page
    assert rows.order.email not in page
