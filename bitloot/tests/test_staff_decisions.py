"""Decisions of staff over REST: the same permission, objection, second person and log line as the admin's button."""

import logging
from decimal import Decimal

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from drf_spectacular.generators import SchemaGenerator
from knox.models import AuthToken

from bitloot.tests.parallel import at_once
from bitloot.tests.staff import make_rows, make_staff
from fulfillment.models import Reservation
from orders.models import Alert, Approval, Email, Order
from orders.tests.factories import make_order, make_paid_order, timeline
from payments.models import Payment, Refund
from payments.tests.factories import make_payment, make_refund_address
from storage.models import Key
from webhooks.models import WebhookLog

pytestmark = pytest.mark.django_db
REASON = {"reason": "The customer asked for it."}
# Resource, the row of make_rows, the permission to view it.
RESOURCES = [
    ("orders", "order", "orders.view_order"),
    ("payments", "payment", "payments.view_payment"),
    ("refunds", "refund", "payments.view_refund"),
    ("reservations", "reservation", "fulfillment.view_reservation"),
    ("keys", "key", "storage.view_key"),
    ("webhook-logs", "log", "webhooks.view_webhooklog"),
    ("alerts", "alert", "orders.view_alert"),
    ("approvals", "approval", "orders.view_approval"),
    ("mails", "email", "orders.view_email"),
]
RESOURCE_OF = {name: resource for resource, name, _ in RESOURCES}


class Api:
    def __init__(self, *permissions, **fields):
        self.user = make_staff(*permissions, **fields)
        self.headers = {"Authorization": f"Token {AuthToken.objects.create(self.user)[1]}"}

    def get(self, path):
        return Client().get(f"/api/admin/{path}", headers=self.headers)

    def post(self, path, body):
        client = Client(raise_request_exception=False)
        return client.post(f"/api/admin/{path}", body, content_type="application/json", headers=self.headers)

    def decide(self, resource, row, name, *, seen=None, **form):
        seen = seen or self.get(f"{resource}/{row.pk}").json()["seen"]
        return self.post(f"{resource}/{row.pk}/decisions/{name}", {"seen": seen, "form": form})


@pytest.fixture
def rows():
    return make_rows()


@pytest.fixture
def boss():
    return Api(superuser=True)


def page_of(row):
    return admin.site.get_model_admin(type(row))


# --- who may ---


@pytest.mark.parametrize(("resource", "name", "permission"), RESOURCES)
def test_list_and_row_need_the_permission_to_view(rows, resource, name, permission):
    row = getattr(rows, name)
    others = [other for *_, other in RESOURCES if other != permission]
    for api, status in ((Api(*others), 403), (Api(permission), 200)):
        assert [api.get(resource).status_code, api.get(f"{resource}/{row.pk}").status_code] == [status, status]


@pytest.mark.parametrize(("resource", "name", "view"), RESOURCES)
def test_decisions_without_their_permission_are_refused_and_logged(rows, resource, name, view):
    row, api = getattr(rows, name), Api(view)
    before = type(row).objects.values().get(pk=row.pk)
    decisions = page_of(row).decisions
    assert api.get(f"{resource}/{row.pk}").json()["decisions"] == []
    for decision in decisions:
        answer = api.decide(resource, row, decision.name, **REASON)
        assert [answer.status_code, answer.json()["code"]] == [403, "permission_denied"]
    assert type(row).objects.values().get(pk=row.pk) == before
    said = LogEntry.objects.order_by("pk").values_list("user", "object_id", "change_message")
    refused = [(api.user.pk, str(row.pk), f"Refused “{each.label}”: no permission.") for each in decisions]
    assert list(said) == refused


@pytest.mark.parametrize(("resource", "name", "view"), RESOURCES)
def test_a_decision_needs_the_view_of_its_row_and_a_row(rows, resource, name, view):
    row = getattr(rows, name)
    decision = page_of(row).decisions[0]
    path = f"decisions/{decision.name}"
    assert Api(decision.permission).post(f"{resource}/{row.pk}/{path}", {"seen": "x"}).status_code == 403
    boss = Api(superuser=True)
    gone = "99" if isinstance(row.pk, int) else "00000000-0000-4000-8000-000000000007"
    assert boss.post(f"{resource}/{gone}/{path}", {"seen": "x"}).status_code == 404
    assert boss.post(f"{resource}/{row.pk}/decisions/steal", {"seen": "x"}).status_code == 404
    if isinstance(row.pk, int):
        assert boss.get(f"{resource}/{2**63}").status_code == 404


def test_no_two_decisions_share_a_permission():
    pages = [admin.site.get_model_admin(model) for model in (Order, Payment, Refund, Reservation, Key, WebhookLog)]
    pages += [admin.site.get_model_admin(model) for model in (Alert, Approval, Email)]
    permissions = [decision.permission for page in pages for decision in page.decisions]
    assert sorted(permissions) == sorted(set(permissions))


# --- what is shown ---


@pytest.mark.parametrize(("resource", "name", "view"), RESOURCES)
def test_row_lists_the_decisions_of_the_admin_with_their_objections(boss, rows, resource, name, view):
    row = getattr(rows, name)
    request = RequestFactory().get("/")
    request.user = boss.user
    listed = boss.get(f"{resource}/{row.pk}").json()["decisions"]
    assert [each["name"] for each in listed] == [each.name for each in page_of(row).decisions]
    possible = {each["name"] for each in listed if each["objection"] is None}
    assert possible == {each.name for each in page_of(row).possible(request, type(row).objects.get(pk=row.pk))}


def test_fields_that_a_decision_asks_for_are_named(boss, rows):
    listed = {each["name"]: each for each in boss.get(f"orders/{rows.order.pk}").json()["decisions"]}
    assert listed["hold"]["form"] == [{"name": "reason", "text": "Reason", "is_required": True, "choices": []}]
    assert [field["name"] for field in listed["correct-email"]["form"]] == ["email", "reason"]
    sent = {each["name"]: each for each in boss.get(f"refunds/{rows.refund.pk}").json()["decisions"]}["sent"]
    assert [field["name"] for field in sent["form"]] == ["transaction_id"]  # the address is part of what was seen


@pytest.mark.parametrize("resource", [resource for resource, *_ in RESOURCES])
def test_a_list_asks_as_often_for_three_rows_as_for_one(boss, resource):
    counts = []
    for number in (1, 2):
        for _ in range(number):
            make_rows()
        with CaptureQueriesContext(connection) as captured:
            assert boss.get(resource).status_code == 200
        counts.append(len(captured))
    assert counts[0] == counts[1]


@pytest.mark.parametrize("resource", [resource for resource, *_ in RESOURCES if resource != "webhook-logs"])
def test_lists_are_filtered_by_order(boss, resource):
    mine, other = make_rows(), make_rows()
    if resource == "orders":
        query, strange = f"email={mine.order.email.upper()}", "email=nobody@example.org"
    else:
        query, strange = f"order={mine.order.pk}", "order=00000000-0000-4000-8000-000000000007"
        assert boss.get(f"{resource}?order=nonsense").status_code == 422
    found = boss.get(f"{resource}?{query}").json()["results"]
    assert found
    assert not {str(other.order.pk)} & {row.get("order", row["id"]) for row in found}
    assert boss.get(f"{resource}?{strange}").json()["results"] == []


def test_a_payment_holds_its_webhooks_for_those_who_may_view_them(rows):
    paths = f"payments/{rows.payment.pk}"
    assert Api("payments.view_payment").get(paths).json()["webhooks"] is None
    seen = Api("payments.view_payment", "webhooks.view_webhooklog").get(paths).json()["webhooks"]
    assert [log["id"] for log in seen] == [rows.log.pk]


def test_fulfilment_shows_keys_deliveries_and_openings_and_never_a_key(rows):
    path = f"payments/orders/{rows.order.pk}/fulfillment"
    assert Api("fulfillment.view_reservation").get(path).json()["keys"] is None
    answer = Api("fulfillment.view_reservation", "storage.view_key").get(path)
    (key,) = answer.json()["keys"]
    assert [key["id"], key["object"]["name"], key["delivery"]["status"]] == [
        str(rows.key.pk), rows.key.object_name, "stored",
    ]  # fmt: skip
    assert [opening["network"] for opening in key["accesses"]] == ["203.0.113.0/24"]
    for hidden in ("CANARY", 'ciphertext"', "wrapped", "nonce"):
        assert hidden not in answer.content.decode()


# --- deciding ---


def test_a_decision_has_one_effect_and_the_line_of_the_admin(boss):
    order = make_paid_order()
    answer = boss.decide("orders", order, "hold", **REASON)
    assert [answer.status_code, answer.json()["status"], answer.json()["waits_for_approval"]] == [200, "held", False]
    assert answer.json()["detail"].startswith("held.")
    entry = LogEntry.objects.get()
    assert [entry.user, entry.object_id] == [boss.user, str(order.pk)]
    assert entry.change_message == "Hold. The customer asked for it."
    assert timeline(order).count(("order", "paid", "held")) == 1


def test_a_decision_sent_twice_has_one_effect(boss):
    order = make_paid_order()
    seen = boss.get(f"orders/{order.pk}").json()["seen"]
    answers = [boss.decide("orders", order, "hold", seen=seen, **REASON) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 409]
    assert "Somebody decided about it meanwhile" in answers[1].json()["detail"]
    assert LogEntry.objects.count() == 1
    again = boss.decide("orders", order, "hold", **REASON)
    assert [again.status_code, again.json()["detail"]] == [409, "It is held already."]


@pytest.mark.parametrize(("name", "decision"), [("alert", "close"), ("log", "replay"), ("order", "mail_fresh_link")])
def test_what_asks_nothing_is_decided_once_as_well(boss, rows, name, decision):
    row, resource = getattr(rows, name), RESOURCE_OF[name]
    seen = boss.get(f"{resource}/{row.pk}").json()["seen"]
    answers = [boss.decide(resource, row, decision, seen=seen).status_code for _ in range(2)]
    assert answers == [200, 409]
    assert LogEntry.objects.count() == 1


def test_what_changed_since_it_was_read_is_not_decided(boss, rows):
    seen = boss.get(f"payments/{rows.payment.pk}").json()["seen"]
    Payment.objects.filter(pk=rows.payment.pk).update(status="review", reason="other_coin")
    answer = boss.decide("payments", rows.payment, "read_again", seen=seen)
    assert [answer.status_code, answer.json()["code"]] == [409, "refused"]
    assert "changed meanwhile" in answer.json()["detail"]
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({}, {"seen"}),
        ({"seen": "none.0", "form": {}}, {"form.reason"}),
        ({"seen": "none.0", "form": {"reason": "x"}}, {"form.reason"}),
        ({"seen": "none.0", "form": {"reason": 7}}, {"form.reason"}),
        ({"seen": "none.0", "form": {**REASON, "total": "1"}}, {"form"}),
        ({"seen": "none.0", "form": [1]}, {"form"}),
        ({"seen": 7, "form": REASON}, {"seen"}),
        ({"seen": "none.0", "form": REASON, "status": "paid"}, {"body"}),
    ],
)
def test_bad_input_is_named_and_nothing_decided(boss, body, errors):
    order = make_paid_order()
    answer = boss.post(f"orders/{order.pk}/decisions/hold", body)
    assert [answer.status_code, set(answer.json()["errors"])] == [422, errors]
    order.refresh_from_db()
    assert [order.status, LogEntry.objects.count()] == ["paid", 0]


def test_large_money_waits_for_a_second_person_here_as_well():
    order = make_order(status="underpaid")
    payment = make_payment(order, "partially_paid", actually_paid=Decimal("0.00000001"), reason="too_little")
    views = ("payments.view_payment", "orders.view_approval")
    ada = Api(*views, "payments.accept_payment", "orders.approve_decision")
    asked = ada.decide("payments", payment, "accept", **REASON)
    assert [asked.status_code, asked.json()["waits_for_approval"]] == [202, True]
    approval = Approval.objects.get()
    own = {each["name"]: each["objection"] for each in ada.get(f"approvals/{approval.pk}").json()["decisions"]}
    assert own == {"approve": "You asked for it. Someone else has to approve it."}
    assert ada.decide("approvals", approval, "approve").status_code == 409
    grace = Api(*views, "payments.accept_payment", "orders.approve_decision")
    assert grace.decide("approvals", approval, "approve").status_code == 200
    order.refresh_from_db()
    assert order.status == "paid"
    assert {entry.user for entry in LogEntry.objects.filter(object_id=str(payment.pk))} == {ada.user, grace.user}


def test_a_refund_is_marked_sent_to_the_address_that_was_seen(boss, rows):
    Refund.objects.update(transaction_id="", status="requested")
    make_refund_address(rows.refund, "bc1qfirst")
    seen = boss.get(f"refunds/{rows.refund.pk}").json()["seen"]
    make_refund_address(rows.refund, "bc1qsecond")
    late = boss.decide("refunds", rows.refund, "sent", seen=seen, transaction_id="f4184fc596403b9d")
    assert late.status_code == 409
    assert boss.decide("refunds", rows.refund, "sent", transaction_id="f4184fc596403b9d").status_code == 200
    assert Refund.objects.get().destination.address == "bc1qsecond"


def test_a_typed_key_is_in_no_answer_log_or_line(boss, rows, caplog):
    Order.objects.update(status="fulfilled")
    Reservation.objects.update(status="delivered")
    form = {**REASON, "old_key": "keep", "code": "CANARY-TYPED-CODE"}
    with caplog.at_level(logging.DEBUG):
        answer = boss.decide("keys", rows.key, "replace-by-hand", **form)
    assert answer.status_code == 200, answer.content
    twice = boss.decide("keys", Key.objects.get(replaces=rows.key), "replace-by-hand", **form)
    assert twice.status_code in (409, 422)
    said = answer.content.decode() + twice.content.decode() + caplog.text + repr(list(LogEntry.objects.values()))
    assert "CANARY" not in said


# --- two at once ---


AT_ONCE = [
    ("order", "hold", REASON), ("order", "money-back", REASON), ("order", "mail_fresh_link", {}),
    ("order", "correct-email", {**REASON, "email": "right@example.org"}),
    ("payment", "refund", REASON), ("payment", "read_again", {}),
    ("refund", "sent", {"transaction_id": "f4184fc596403b9d"}),
    ("reservation", "run_now", {}), ("alert", "close", {}), ("log", "replay", {}), ("email", "send_again", {}),
    ("approval", "decline", REASON), ("key", "replace-by-hand", {**REASON, "old_key": "keep", "code": "AAAA-BBBB"}),
]  # fmt: skip


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("name", "decision", "form"), AT_ONCE)
def test_two_at_once_have_one_effect_and_one_line(name, decision, form):
    rows = make_rows()
    row, resource = getattr(rows, name), RESOURCE_OF[name]
    Email.objects.update(status="sent")
    if name == "refund":
        Refund.objects.update(transaction_id="", status="requested")
        make_refund_address(rows.refund, "bc1qfirst")
    if name == "payment":
        rows.approval.delete()
        rows.refund_address.delete()
        Refund.objects.all().delete()
    if name == "key":
        Order.objects.update(status="fulfilled")
        Reservation.objects.update(status="delivered")
    ada, grace = Api(superuser=True), Api(superuser=True)
    seen = ada.get(f"{resource}/{row.pk}").json()["seen"]
    answers = at_once(*(lambda api=api: api.decide(resource, row, decision, seen=seen, **form) for api in (ada, grace)))
    codes = sorted(answer.status_code for answer in answers)
    assert codes in ([200, 409], [202, 409]), [answer.content for answer in answers]
    lines = LogEntry.objects.filter(object_id=str(row.pk))
    assert lines.count() == 1
    winner = next(api for api, answer in zip((ada, grace), answers, strict=True) if answer.status_code != 409)
    assert lines.get().user == winner.user


def test_the_document_names_every_decision_and_its_permission():
    document = SchemaGenerator().get_schema(request=None, public=True)
    for resource, key in (("orders", "order_id"), ("refunds", "refund_id")):
        post = document["paths"][f"/api/admin/{resource}/{{{key}}}/decisions/{{name}}"]["post"]
        assert post["tags"] == ["Staff"]
        model = {"orders": Order, "refunds": Refund}[resource]
        for decision in admin.site.get_model_admin(model).decisions:
            assert f"`{decision.name}`: {decision.label} (`{decision.permission}`)" in post["description"]
