"""The staff's API: who may, what is listed, and what a filter that means nothing is told."""

import uuid
from datetime import timedelta

import pytest
from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.db import connection
from django.db.models.functions import Now
from django.test import Client
from django.test.utils import CaptureQueriesContext
from knox.models import AuthToken

from bitloot.staff import api
from fulfillment.models import Reservation
from orders.tests.factories import make_order, make_paid_order
from payments.models import Payment
from webhooks.models import WebhookLog
from webhooks.tests.factories import ipn, make_log

pytestmark = pytest.mark.django_db
JSON = "application/json"

PERMISSIONS = {
    "payments": "payments.view_payment",
    "payment": "payments.view_payment",
    "fulfillment": "fulfillment.view_reservation",
    "reservations": "fulfillment.view_reservation",
    "webhook-logs": "webhooks.view_webhooklog",
    "replay": "webhooks.replay_webhook",
    "deliver": "orders.deliver_order",
}
LISTS = ["payments", "reservations", "webhook-logs"]


def make_staff(*permissions, **fields):
    user = get_user_model().objects.create(username=f"u{uuid.uuid4().hex[:8]}", **{"is_staff": True, **fields})
    for name in permissions:
        app, _, codename = name.partition(".")
        user.user_permissions.add(Permission.objects.get(codename=codename, content_type__app_label=app))
    return user


def token_of(user, **options):
    return f"Token {AuthToken.objects.create(user, **options)[1]}"


class Desk:
    def __init__(self):
        self.client = Client(raise_request_exception=False)
        self.order = make_paid_order()
        self.payment = make_payment(self.order)
        self.reservation = Reservation.objects.get(item__order=self.order)
        self.log = make_log()
        self.paths = {
            "payments": "/api/admin/payments",
            "payment": f"/api/admin/payments/{self.payment.id}",
            "fulfillment": f"/api/admin/payments/orders/{self.order.id}/fulfillment",
            "reservations": "/api/admin/reservations",
            "webhook-logs": "/api/admin/webhook-logs",
            "replay": f"/api/admin/webhook-logs/{self.log.pk}/replay",
            "deliver": f"/api/fulfillment/{self.order.id}/deliver",
        }
        self.token = token_of(make_staff(*PERMISSIONS.values()))

    def ask(self, route, token=None, query="", **headers):
        token = self.token if token is None else token
        sent = {name: value for name, value in {"Authorization": token, **headers}.items() if value}
        path = self.paths.get(route, route) + (f"?{query}" if query else "")
        if route in ("replay", "deliver"):
            return self.client.post(path, b"{}", content_type=JSON, headers=sent)
        return self.client.get(path, headers=sent)


def make_payment(order=None, **fields):
    return Payment.objects.create(
        order=order or make_order(),
        **{
            "external_id": str(uuid.uuid4().int)[:15],
            "status": "waiting",
            "price_amount": "24.99",
            "price_currency": "eur",
            "pay_currency": "btc",
            "pay_amount": "0.00012345",
            **fields,
        },
    )


@pytest.fixture
def desk():
    return Desk()


def digest():
    models = [
        model
        for app in ("orders", "payments", "fulfillment", "webhooks")
        for model in apps.get_app_config(app).get_models()
    ]
    return {model.__name__: list(model.objects.order_by("pk").values()) for model in models}


NOBODY = {
    "none": lambda: "",
    "nonsense": lambda: "Token nonsense",
    "two words": lambda: "Token a b",
    "no token": lambda: "Token",
    "another scheme": lambda: token_of(make_staff(*PERMISSIONS.values())).replace("Token", "Bearer"),
    "non-ASCII": lambda: "Token \xe9\xff",
    "emoji": lambda: "Token \xf0\x9f\x8e\xae",
    "NUL": lambda: "Token a\x00b",
    "long": lambda: "Token " + "a" * 8000,
    "expired": lambda: token_of(make_staff(*PERMISSIONS.values()), expiry=timedelta(seconds=-1)),
    "not active": lambda: token_of(make_staff(*PERMISSIONS.values(), is_active=False)),
}


@pytest.mark.once
@pytest.mark.parametrize("case", NOBODY)
@pytest.mark.parametrize("route", PERMISSIONS)
def test_without_a_valid_token_nobody_comes_in(desk, route, case):
    token = NOBODY[case]()
    before = digest()
    answer = desk.ask(route, token)
    assert answer.status_code == 401, answer.content
    assert answer.json()["code"] in ("not_authenticated", "authentication_failed")
    assert answer["WWW-Authenticate"] == "Token"
    assert digest() == before


@pytest.mark.parametrize("route", PERMISSIONS)
def test_each_route_wants_its_own_permission(desk, route):
    others = [permission for permission in PERMISSIONS.values() if permission != PERMISSIONS[route]]
    before = digest()
    for user in (make_staff(*others), make_staff(), make_staff(PERMISSIONS[route], is_staff=False)):
        answer = desk.ask(route, token_of(user))
        assert [answer.status_code, answer.json()["code"]] == [403, "permission_denied"]
    assert digest() == before
    assert desk.ask(route, token_of(make_staff(PERMISSIONS[route]))).status_code in (200, 202)


def test_a_session_of_the_admin_opens_nothing_here(desk):
    desk.client.force_login(make_staff(*PERMISSIONS.values(), is_superuser=True))
    assert desk.ask("payments", "").status_code == 401
    assert desk.ask("deliver", "").status_code == 401


def test_the_token_is_hashed_at_rest(desk):
    secret = desk.token.removeprefix("Token ")
    assert secret not in repr(list(AuthToken.objects.values()))


def test_staff_that_left_are_out_at_once(desk):
    user = make_staff(*PERMISSIONS.values())
    token = token_of(user)
    assert desk.ask("payments", token).status_code == 200
    user.is_active = False
    user.save()
    assert desk.ask("payments", token).status_code == 401


def test_payments_are_listed_newest_first(desk):
    newer = make_payment(status="review", reason="other_coin")
    answer = desk.ask("payments").json()
    assert [answer["count"], answer["next"], answer["previous"]] == [2, None, None]
    assert [row["id"] for row in answer["results"]] == [str(newer.id), str(desk.payment.id)]
    assert {
        "order": str(newer.order_id),
        "payment_id": newer.external_id,
        "status": "review",
        "reason": "other_coin",
        "price_amount": "24.99",
        "pay_currency": "btc",
        "finished_at": None,
    }.items() <= answer["results"][0].items()


def test_a_payment_shows_evidence_and_the_audit_trail(desk):
    Payment.objects.update(evidence={"paid": "0.1"}, provider_status="finished")
    answer = desk.ask("payment").json()
    assert [answer["evidence"], answer["provider_status"]] == [{"paid": "0.1"}, "finished"]
    moves = [(event["kind"], event["from_status"], event["to_status"]) for event in answer["audit"]]
    assert ("order", "pending", "paid") in moves


def test_an_orders_fulfilment_is_shown_with_its_audit_trail(desk):
    Reservation.objects.update(supplier_order_id="TSTORD1A2B3")
    answer = desk.ask("fulfillment").json()
    (row,) = answer["reservations"]
    assert [answer["order_id"], answer["status"], answer["error"]] == [str(desk.order.id), "processing", None]
    assert [row["reservation_id"], row["external_id"], row["status"]] == [
        "TSTORD1A2B3",
        desk.reservation.external_id,
        "pending",
    ]
    assert row["order"] == str(desk.order.id)
    assert answer["audit"]


def test_webhooks_are_listed_without_their_bodies(desk):
    make_log(body=ipn(order_description="CANARY"))
    answer = desk.ask("webhook-logs")
    assert answer.json()["count"] == 2
    assert "CANARY" not in answer.content.decode()


def test_a_replay_hands_the_webhook_to_its_handler_once_more(desk):
    WebhookLog.objects.update(status="failed", next_attempt_at=None, attempts=5)
    answer = desk.ask("replay")
    assert [answer.status_code, answer.json()["status"], answer.json()["replays"]] == [202, "received", 1]
    assert WebhookLog.objects.filter(next_attempt_at__lte=Now()).exists()


def test_a_webhook_in_a_workers_hand_is_not_replayed(desk):
    WebhookLog.objects.update(claim_token=uuid.uuid4())
    answer = desk.ask("replay")
    assert [answer.status_code, answer.json()["code"]] == [409, "refused"]
    assert answer.json()["detail"] == "A worker is handling it right now; try again in a moment."
    assert WebhookLog.objects.get().replays == 0


def test_a_changed_body_is_not_replayed(desk):
    WebhookLog.objects.update(body=b"{}", status="failed")
    answer = desk.ask("replay")
    assert [answer.status_code, answer.json()["code"]] == [409, "tampered"]
    assert WebhookLog.objects.get().status == "failed"


@pytest.mark.parametrize(
    "path",
    [
        *(f"/api/admin/payments/{uuid.UUID(int=7)}", "/api/admin/payments/7", "/api/admin/payments/%00"),
        f"/api/admin/payments/orders/{uuid.UUID(int=7)}/fulfillment",
        *("/api/admin/nothing", "/api/admin/payments/", "/api/admin/"),
    ],
)
def test_what_is_not_there_is_404(desk, path):
    answer = desk.ask(path)
    assert [answer.status_code, answer.json()["code"]] == [404, "not_found"]


@pytest.mark.parametrize("number", ["0", "999", "9" * 30, "-1", "x"])
def test_a_webhook_that_is_not_there_is_not_replayed(desk, number):
    path = f"/api/admin/webhook-logs/{number}/replay"
    answer = desk.client.post(path, b"", content_type=JSON, headers={"Authorization": desk.token})
    assert answer.status_code == 404


def test_a_delivery_for_an_order_that_is_not_there(desk):
    path = f"/api/fulfillment/{uuid.UUID(int=7)}/deliver"
    answer = desk.client.post(path, b"{}", content_type=JSON, headers={"Authorization": desk.token})
    assert [answer.status_code, answer.json()["code"]] == [404, "not_found"]


def make_rows(route, number):
    for index in range(number):
        if route == "payments":
            make_payment()
        elif route == "reservations":
            make_paid_order()
        else:
            make_log(body=ipn(payment_id=index + 1))


@pytest.mark.parametrize("route", LISTS)
def test_a_list_asks_as_often_for_three_rows_as_for_one(desk, route):
    statements = []
    for wanted in (1, 3):
        make_rows(route, wanted - desk.ask(route).json()["count"])
        with CaptureQueriesContext(connection) as captured:
            assert desk.ask(route).json()["count"] == wanted
        statements.append(len(captured))
    assert statements[0] == statements[1]


@pytest.mark.parametrize("route", ["payment", "fulfillment"])
def test_a_detail_asks_as_often_for_many_events_as_for_few(desk, route):
    desk.ask(route)  # a process asks for Django's content types once
    with CaptureQueriesContext(connection) as few:
        desk.ask(route)
    for number in range(5):
        desk.order.note("staff", f"Note {number}")
    with CaptureQueriesContext(connection) as many:
        desk.ask(route)
    assert len(few) == len(many)


@pytest.mark.parametrize("route", LISTS)
def test_pages_follow_each_other_without_gap_or_repeat(desk, route):
    make_rows(route, 4)
    seen, query = [], "limit=2"
    while query:
        page = desk.ask(route, query=query).json()
        assert len(page["results"]) <= 2
        seen += [row["id"] for row in page["results"]]
        query = page["next"] and page["next"].partition("?")[2]
    assert len(seen) == len(set(seen)) == 5


@pytest.mark.parametrize("route", LISTS)
def test_count_is_capped_and_the_pages_go_on(desk, route, monkeypatch):
    make_rows(route, 5)
    monkeypatch.setattr(api, "MAX_COUNTED", 6)
    page = desk.ask(route, query="limit=2").json()
    assert [page["count"], page["count_is_capped"]] == [6, False]
    monkeypatch.setattr(api, "MAX_COUNTED", 3)
    seen, query = [], "limit=2"
    while query:
        page = desk.ask(route, query=query).json()
        assert [page["count"], page["count_is_capped"]] == [3, True]
        seen += [row["id"] for row in page["results"]]
        query = page["next"] and page["next"].partition("?")[2]
    assert len(seen) == len(set(seen)) == 6


def test_counting_reads_no_further_than_the_cap(desk, monkeypatch):
    monkeypatch.setattr(api, "MAX_COUNTED", 3)
    with CaptureQueriesContext(connection) as queries:
        desk.ask("webhook-logs", query="limit=2")
    (count,) = (query["sql"] for query in queries if "COUNT(" in query["sql"] and "webhooks_webhooklog" in query["sql"])
    assert "LIMIT 4" in count


def test_payments_also_take_a_page(desk):
    make_rows("payments", 4)
    rows = [row["id"] for row in desk.ask("payments").json()["results"]]
    pages = [
        [row["id"] for row in desk.ask("payments", query=f"limit=2&page={page}").json()["results"]]
        for page in (1, 2, 3)
    ]
    assert pages == [rows[:2], rows[2:4], rows[4:]]
    assert desk.ask("payments", query="page=999999999").json()["results"] == []


def test_the_links_of_a_numbered_page_lead_on_and_back(desk):
    make_rows("payments", 4)
    rows = [row["id"] for row in desk.ask("payments").json()["results"]]
    seen, query, back = [], "limit=2&page=1", ""
    while query:
        page = desk.ask("payments", query=query).json()
        seen += [row["id"] for row in page["results"]]
        query, back = page["next"] and page["next"].partition("?")[2], page["previous"] or back
        assert len(seen) <= len(rows)
    assert seen == rows
    assert [row["id"] for row in desk.ask("payments", query=back.partition("?")[2]).json()["results"]] == rows[2:4]


@pytest.mark.parametrize("route", LISTS)
def test_at_most_a_hundred_rows_are_listed(desk, route):
    assert desk.ask(route, query="limit=100000").json()["count"] == 1
    make_rows("webhook-logs", 101)
    assert len(desk.ask("webhook-logs", query="limit=100000").json()["results"]) == 100


FILTERS = {
    "payments": [("status=waiting", 1), ("status=review", 0), ("status=", 1)],
    "reservations": [
        ("status=pending", 1),
        ("status=held", 0),
        ("reservation_id=TSTORD1A2B3", 1),
        ("reservation_id=' OR 1=1--", 0),
    ],
    "webhook-logs": [
        ("provider=nowpayments", 1),
        ("provider=kinguin", 0),
        ("external_id=5077125051", 1),
        ("external_id=" + "9" * 9000, 0),
        ("status=received&provider=nowpayments", 1),
    ],
}
TIMES = [
    ("created_after=2020-01-01T00:00:00Z", 1),
    ("created_before=2020-01-01T00:00:00Z", 0),
    ("created_after=2020-01-01T00:00:00%2B02:00&created_before=2999-12-31T23:59:59.999999Z", 1),
]


@pytest.mark.parametrize(
    ("route", "query", "rows"), [(route, *case) for route in LISTS for case in [*FILTERS[route], *TIMES]]
)
def test_filters_find_what_they_name(desk, route, query, rows):
    Reservation.objects.update(supplier_order_id="TSTORD1A2B3")
    answer = desk.ask(route, query=query)
    assert [answer.status_code, answer.json()["count"]] == [200, rows]


BAD_QUERIES = [
    *("status=hacked", "status=%00", "status=WAITING", "created_after=yesterday", "created_after=2026-13-45T00:00:00Z"),
    *("created_after=2026-01-01", "created_after=2026-01-01T00:00:00", "created_after=%00", "created_before=1e9"),
    *("created_after=0001-01-01T00:00:00%2B14:00", "created_before=9999-12-31T23:59:59-14:00"),
    *(
        "limit=0",
        "limit=x",
        "offset=-1",
        "offset=" + "9" * 30,
        "CANARY=1",
        "order__email=x",
        "ordering=id",
        "format=api",
    ),
    *("created_after=" + "9" * 9000, "created_after=%D9%A2%D9%A0-01-01T00:00:00Z"),
]


@pytest.mark.once
@pytest.mark.parametrize("query", BAD_QUERIES, ids=lambda query: query[:50])
@pytest.mark.parametrize("route", LISTS)
def test_a_filter_that_means_nothing_is_an_error(desk, route, query):
    answer = desk.ask(route, query=query)
    assert [answer.status_code, answer.json()["code"]] == [422, "invalid"]
    assert "CANARY" not in answer.content.decode()


@pytest.mark.parametrize("page", ["0", "-1", "abc", "1e3", "%00", "9" * 30, "1.5"])
def test_a_page_that_is_none_is_an_error(desk, page):
    assert desk.ask("payments", query=f"page={page}").status_code == 422
    assert desk.ask("reservations", query="page=1").status_code == 422


def test_a_filter_that_comes_twice_is_an_error(desk):
    answer = desk.ask("payments", query="status=waiting&status=review")
    assert [answer.status_code, answer.json()["code"]] == [400, "parse_error"]


@pytest.mark.parametrize("value", ["a%00b", "%00"])
def test_an_id_with_nul_is_an_error_and_not_a_crash(desk, value):
    assert desk.ask("reservations", query=f"reservation_id={value}").status_code == 422
    assert desk.ask("webhook-logs", query=f"external_id={value}").status_code == 422


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
@pytest.mark.parametrize("route", ["payments", "payment", "fulfillment", "reservations", "webhook-logs"])
def test_reading_is_all_that_the_lists_do(desk, route, method):
    before = digest()
    answer = getattr(desk.client, method)(
        desk.paths[route], b"{}", content_type=JSON, headers={"Authorization": desk.token}
    )
    assert answer.status_code == 405
    assert digest() == before
