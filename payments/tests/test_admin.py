"""Review in the admin: who may decide about money, what a decision does, and that it is done once."""

from decimal import Decimal

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from fulfillment.models import Reservation
from orders.alerts import raise_alert
from orders.models import Alert, Email, Order
from orders.tests.factories import make_order, make_paid_order, timeline
from payments import refunds
from payments.choices import ReviewReason
from payments.models import Coin, Payment, Refund
from payments.tests.factories import make_refund_address

pytestmark = pytest.mark.django_db
ADDRESS = "bc1q" + "a" * 38
REASON = {"reason": "The wallet kept a fee of two percent."}
VIEWS = ("orders.view_order", "payments.view_payment", "payments.view_refund")
DECIDES = (
    "payments.accept_payment", "payments.ask_for_rest", "payments.refund_payment", "payments.send_refund",
    "payments.finish_refund", "payments.read_again", "orders.hold_order", "orders.release_order",
    "orders.cancel_order", "orders.refund_order",
)  # fmt: skip


def staff(client, *permissions):
    """Log a new member of staff in, with these permissions."""
    user = get_user_model().objects.create_user(f"kim{get_user_model().objects.count()}", is_staff=True)
    for permission in permissions:
        app, _, codename = permission.partition(".")
        user.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
    client.force_login(user)
    return user


@pytest.fixture
def settler(client):
    return staff(client, *VIEWS, *DECIDES)


def make_payment(order=None, **fields):
    """Make a payment of 24.99 EUR in BTC of which 98 % arrived, with the evidence that a re-read leaves."""
    order = order or make_order(status="underpaid")
    payment = Payment.objects.create(
        **{
            "order": order, "external_id": str(5_077_125_000 + Payment.objects.count()), "status": "partially_paid",
            "reason": "too_little", "price_amount": order.total, "price_currency": "eur", "pay_currency": "btc",
            "pay_amount": Decimal("0.001"), "actually_paid": Decimal("0.00098"), "credit": Decimal("24.49"),
            "evidence": {
                "status": "partially_paid", "order_id": str(order.pk), "price": f"{order.total} eur",
                "asked": "0.001 btc", "paid": "0.00098", "parent": "",
            },
            **fields,
        }
    )  # fmt: skip
    raise_alert("payment_review", payment, f"{payment} needs attention.", order=order)
    return payment


def page_of(row):
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])


def form_of(row, name):
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_decide", args=[row.pk, name])


def choices(client, row):
    shown = client.get(page_of(row)).context
    found = shown["order_choices"] if "order_choices" in shown else shown["decisions"]
    return [choice["label"] for choice in found if choice.get("asks", True)]  # those that ask


def decide(client, row, name, **fields):
    """Fill the decision's form in and send it; return the messages that the row's page shows then."""
    opened = client.get(form_of(row, name))
    assert opened.status_code == 200, opened.content
    return send(client, row, name, seen=opened.context["seen"], **fields)


def seen_now(row):
    """What the form would hold if it were open, for a decision that the page does not offer."""
    page = admin.site.get_model_admin(type(row))
    return f"none.{page.digest(type(row).objects.get(pk=row.pk))}"


def send(client, row, name, **fields):
    answer = client.post(form_of(row, name), fields, follow=True)
    assert answer.redirect_chain == [(page_of(row), 302)], answer.content.decode()
    return [f"{message.level_tag}: {message}" for message in answer.context["messages"]]


# --- who may ---

EVERY_DECISION = [
    ("payment", "accept"), ("payment", "ask"), ("payment", "refund"), ("refund", "sent"), ("refund", "done"),
    ("order", "hold"), ("order", "release"), ("order", "cancel"), ("order", "money-back"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "name"), EVERY_DECISION)
@pytest.mark.parametrize("method", ["get", "post"])
def test_without_the_permission_nothing_is_decided_and_the_try_is_logged(client, what, name, method):
    user = staff(client, *VIEWS)
    payment = make_payment()
    order = payment.order
    refund = Refund.objects.create(order=order, payment=payment, amount=1, currency="btc", reason="x")
    make_refund_address(refund)
    row = {"payment": payment, "refund": refund, "order": order}[what]
    before = Payment.objects.values().get(), Order.objects.values().get(), Refund.objects.values().get()
    answer = getattr(client, method)(form_of(row, name), {**REASON, "transaction_id": "abcdef0123", "seen": "none"})
    assert answer.status_code == 403
    assert (Payment.objects.values().get(), Order.objects.values().get(), Refund.objects.values().get()) == before
    entry = LogEntry.objects.get()
    assert (entry.user, entry.object_id) == (user, str(row.pk))
    assert entry.change_message.startswith("Refused “")
    assert choices(client, row) == []


def test_strangers_and_staff_without_the_list_learn_nothing(client):
    payment = make_payment()
    assert client.get(form_of(payment, "accept"))["Location"].startswith("/admin/login/")
    staff(client, "payments.accept_payment")
    assert client.get(form_of(payment, "accept")).status_code == 404


def test_decision_that_does_not_exist_is_not_found(client, settler):
    assert client.get(form_of(make_payment(), "steal")).status_code == 404
    assert client.get(reverse("admin:payments_payment_decide", args=["x", "accept"])).status_code == 404


def test_decision_wants_a_csrf_token(settler):
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(settler)
    payment = make_payment()
    assert strict.post(form_of(payment, "accept"), {**REASON, "seen": "none"}).status_code == 403
    assert Payment.objects.get().status == "partially_paid"


# --- payments ---


def test_accepting_pays_the_order_once(client, settler):
    payment = make_payment()
    assert choices(client, payment) == ["Accept as paid", "Ask for the rest", "Refund all"]
    sent = {**REASON, "seen": client.get(form_of(payment, "accept")).context["seen"]}
    assert send(client, payment, "accept", **sent) == [
        f"success: {payment}: accepted. The order counts as paid, and its keys are bought now."
    ]
    assert send(client, payment, "accept", **sent) == [
        f"error: {payment}: Somebody decided about it meanwhile, or the form was sent twice. Look again."
    ]
    payment.refresh_from_db()
    assert (payment.status, payment.order.status) == ("finished", "paid")
    assert timeline(payment.order).count(("order", "underpaid", "paid")) == 1
    assert Reservation.objects.filter(item__order=payment.order).count() == 1
    assert Email.objects.filter(kind="payment_received").count() == 1
    assert Alert.objects.get(kind="payment_review").closed_by == settler.username
    entry = LogEntry.objects.get()
    assert (entry.user, entry.change_message) == (settler, f"Accept as paid. {REASON['reason']}")
    assert (choices(client, payment), client.get(page_of(payment)).context["concern"]) == (["Refund all"], "")


@pytest.mark.parametrize("reason", ["", "   ", "ok", "x" * 201])
def test_acceptance_without_a_reason_asks_again(client, settler, reason):
    payment = make_payment()
    answer = client.post(form_of(payment, "accept"), {"reason": reason, "seen": "none"})
    assert (answer.status_code, list(answer.context["form"].errors)) == (200, ["reason"])
    assert answer.context["seen"] == "none"
    assert Payment.objects.get().status == "partially_paid"


def test_what_review_refuses_is_explained_and_changes_nothing(client, settler):
    payment = make_payment()
    Order.objects.update(status="fulfilled")
    assert send(client, payment, "accept", **REASON, seen=seen_now(payment)) == [
        f"error: {payment}: The order is “fulfilled” and takes no more money; refund this payment."
    ]
    Payment.objects.update(actually_paid=0)
    assert send(client, payment, "refund", **REASON, seen=seen_now(payment)) == [
        f"error: {payment}: No coins came with this payment, or they went back already."
    ]
    assert (LogEntry.objects.count(), Refund.objects.count(), Payment.objects.get().status) == (0, 0, "partially_paid")
    closed = client.get(form_of(payment, "accept"), follow=True)
    assert [str(message) for message in closed.context["messages"]] == [
        f"{payment}: The provider reports no coins for this payment. Read it again first."
    ]


def test_rest_is_asked_for_once_per_form(client, settler):
    payment = make_payment()
    seen = client.get(form_of(payment, "ask")).context["seen"]
    assert send(client, payment, "ask", seen=seen) == [
        f"success: {payment}: the customer is asked for the rest by mail."
    ]
    assert send(client, payment, "ask", seen=seen)[0].startswith("error: ")
    assert Email.objects.get(kind="underpaid").facts == {"missing": "0.50"}
    assert LogEntry.objects.get().change_message == "Ask for the rest"


def test_refund_goes_from_the_decision_to_done(client, settler):
    payment = make_payment()
    assert decide(client, payment, "refund", **REASON) == [f"success: {payment}: {refunds.REFUND.done}"]
    refund = Refund.objects.get()
    assert (refund.reason, choices(client, payment), choices(client, refund)) == (REASON["reason"], [], [])
    make_refund_address(refund, ADDRESS, extra_id="77")
    page = client.get(page_of(refund)).content.decode()
    assert (ADDRESS in page, "<code>77</code>" in page, "<code>0.00098</code> BTC" in page) == (True, True, True)

    form = client.post(form_of(refund, "sent"), {"transaction_id": "", "seen": "none"}).context["form"]
    assert list(form.errors) == ["transaction_id", "destination"]
    paid = refund.destination_id
    mistyped = {"transaction_id": "not one word", "destination": paid}
    form = client.post(form_of(refund, "sent"), mistyped).context["form"]
    assert form.errors == {"transaction_id": ["Enter the transaction id as the network shows it."]}
    assert decide(client, refund, "sent", transaction_id="f4184fc596403b9d", destination=paid) == [
        f"success: refund {str(refund.pk)[:8]}: sent. The customer sees the transaction;"
        " mark it done when the coins have arrived."
    ]
    assert (choices(client, refund), choices(client, payment)) == (["Mark as done"], [])
    decide(client, refund, "done")
    refund.refresh_from_db()
    assert (refund.status, refund.transaction_id) == ("done", "f4184fc596403b9d")
    assert (Payment.objects.get().status, Order.objects.get().status) == ("refunded", "refunded")
    assert [entry.change_message for entry in LogEntry.objects.order_by("pk")] == [
        f"Refund all. {REASON['reason']}", "Mark as sent. f4184fc596403b9d", "Mark as done",
    ]  # fmt: skip
    assert choices(client, refund) == []


def test_decision_names_whose_order_it_is_about_and_what_would_go_back(client, settler):
    order = make_order(email="kim@customer.example")
    payment = make_payment(order, status="finished", reason="", actually_paid=Decimal("0.0012"))
    page = client.get(form_of(payment, "refund")).content.decode()
    for words in ("kim@customer.example", order.product_names, f"{order.total} {order.currency}", page_of(order)):
        assert words in page, words
    assert "<dt>Refund all</dt><dd>0.0012 BTC</dd>" in page
    assert "<dt>Refund the surplus</dt><dd>0.0002 BTC</dd>" in page


def test_refund_without_an_address_is_not_sent(client, settler):
    refund = Refund.objects.create(order=make_order(status="refund_due"), amount=1, currency="btc", reason="x")
    said = {"transaction_id": "f4184fc596403b9d", "destination": 1}
    assert send(client, refund, "sent", **said, seen=seen_now(refund)) == [
        f"error: refund {str(refund.pk)[:8]}: The customer has not given an address yet."
    ]
    refund.refresh_from_db()
    assert (refund.status, refund.sent_at) == ("requested", None)


def test_filter_finds_the_payments_that_need_a_person(client, settler):
    short, wrong = make_payment(), make_payment(status="review", reason="other_coin")
    refunded = make_payment(status="review")
    Refund.objects.create(order=refunded.order, payment=refunded, amount=1, currency="btc", reason="x")
    make_payment(status="waiting")
    Alert.objects.filter(about_pk=Payment.objects.get(status="waiting").pk).update(status="closed")
    listed = client.get(reverse("admin:payments_payment_changelist"), {"attention": "yes"})
    assert set(listed.context["cl"].result_list) == {short, wrong}
    everything = client.get(reverse("admin:payments_payment_changelist"), {"attention": "no"})
    assert everything.context["cl"].result_count == Payment.objects.count()


def test_page_of_the_refunds_filters_by_state_and_shows_money_read_only(client, settler):
    refund = Refund.objects.create(order=make_order(), amount=Decimal("0.5"), currency="btc", reason="x")
    listed = client.get(reverse("admin:payments_refund_changelist"), {"status__exact": "sent"})
    assert list(listed.context["cl"].result_list) == []
    listed = client.get(reverse("admin:payments_refund_changelist"))
    assert str(refund.pk)[:8] in listed.content.decode()
    assert client.post(page_of(refund), {"amount": "9", "address": ADDRESS}).status_code == 403


# --- evidence ---


def test_payment_that_was_never_read_has_no_evidence(client, settler):
    payment = make_payment(status="review", evidence={}, pay_amount=None)
    assert "has not been asked about this payment yet" in client.get(page_of(payment)).content.decode()


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("second_payment", "The order is paid already: this came on top of it."),
        ("partially_paid_other_coin", "A part arrived. The payment is in another coin than the one asked for."),
        ("finished_after_failed", "The money arrived for a payment that had ended: failed."),
        ("partially_paid_after_cancelled", "A part arrived for a payment that had ended: cancelled."),
        ("order_refund_due", "The money arrived for an order that no longer takes any: refund due."),
        ("expired_with_money", "The provider ended the payment (expired) although coins had come."),
        ("something_new", "Something new"),
    ],
)
def test_reason_is_said_in_words(reason, words):
    assert ReviewReason.sentence_for(reason) == words


def test_webhooks_are_linked_once_the_provider_named_the_payment(client, settler):
    payment = make_payment(external_id=None)
    not_yet = "The provider has not named this payment yet."
    assert not_yet in client.get(page_of(payment)).content.decode()
    Payment.objects.update(external_id="5077125051")
    page = client.get(page_of(payment)).content.decode()
    assert ("external_id=5077125051" in page, not_yet in page) == (True, False)


def test_hostile_text_from_the_provider_is_only_text(client, settler):
    payment = make_payment(evidence={"status": "<script>alert(1)</script>", "order_id": "<b>", "paid": "1"})
    page = client.get(page_of(payment)).content.decode()
    assert ("<script>alert(1)" in page, "&lt;script&gt;alert(1)" in page) == (False, True)


# --- orders ---


def test_held_order_is_let_go_on(client, settler):
    order = make_paid_order()
    assert choices(client, order) == ["Hold", "Give the money back"]
    decide(client, order, "hold", **REASON)
    order.refresh_from_db()
    assert (order.status, order.reason) == ("held", "held_by_staff")
    assert Alert.objects.get(kind="order_held").status == "open"
    assert order.events.filter(kind="staff", message=REASON["reason"], actor=settler.username).count() == 1
    assert choices(client, order) == ["Let it continue", "Give the money back"]
    decide(client, order, "release", **REASON)
    order.refresh_from_db()
    assert (order.status, order.reason, Alert.objects.get(kind="order_held").status) == ("fulfilling", "", "closed")


def test_only_an_order_without_money_is_cancelled(client, settler):
    order, short = make_order(), make_payment().order
    short.payments.get().move("review", message="To review.")
    assert choices(client, order) == ["Hold", "Cancel"]
    assert choices(client, short) == ["Hold", "Give the money back"]
    assert "A payment of it is in review" in send(client, short, "cancel", **REASON, seen=seen_now(short))[0]
    decide(client, order, "cancel", **REASON)
    order.refresh_from_db()
    assert (order.status, order.reason) == ("cancelled", "cancelled")
    assert LogEntry.objects.get().change_message == f"Cancel. {REASON['reason']}"


def test_money_of_an_order_goes_back_once(client, settler):
    Coin.objects.create(code="btc", name="Bitcoin")
    order = make_paid_order()
    payment = make_payment(order, status="finished", reason="")
    seen = client.get(form_of(order, "money-back")).context["seen"]
    assert send(client, order, "money-back", **REASON, seen=seen)[0].startswith(f"success: order {str(order.pk)[:8]}: ")
    assert send(client, order, "money-back", **REASON, seen=seen)[0].startswith("error: ")
    order.refresh_from_db()
    assert (order.status, order.reason) == ("refund_due", "decided_by_staff")
    assert [refund.payment for refund in order.refunds.all()] == [payment]
    assert timeline(order).count(("order", "paid", "refund_due")) == 1
    assert REASON["reason"] not in [event.message for event in order.events.exclude(kind="staff")]
