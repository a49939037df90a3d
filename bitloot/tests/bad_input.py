"""What the tests of bad input share: a world with one of everything, its routes, and bodies that are no strict JSON."""

import json
from decimal import Decimal

from django.apps import apps
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client
from knox.models import AuthToken

from fulfillment.tests.world import stock_up
from orders.access import make_token
from orders.tests.factories import make_order, make_paid_order, make_product
from payments.models import Coin
from webhooks.tests.factories import make_log

CANARY = "CANARY"
JSON = "application/json"
OWN_APPS = ("orders", "payments", "fulfillment", "storage", "webhooks")


def counts():
    models = [model for app in OWN_APPS for model in apps.get_app_config(app).get_models()]
    each = [f"SELECT '{model.__name__}', count(*) FROM {model._meta.db_table}" for model in models]  # noqa: S608
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(each))
        return dict(cursor.fetchall())


class World:
    """One of everything, a client that shows a crash as the 500 it is, and a way to reach each route."""

    def __init__(self):
        self.client = Client(raise_request_exception=False, enforce_csrf_checks=True)
        self.product = stock_up(make_product(price=Decimal("24.99")))
        Coin.objects.create(code="btc", name="Bitcoin", minimum=Decimal("5.00"))
        self.order = make_order(self.product, email="ada@example.org")
        self.token = make_token(self.order, "api")
        self.paid = make_paid_order(self.product)
        self.paid_token = make_token(self.paid, "api")
        self.log = make_log()
        staff = get_user_model().objects.create(username="grace", is_staff=True, is_superuser=True)
        self.staff = f"Token {AuthToken.objects.create(staff)[1]}"
        self.routes = {
            "order": ("/api/orders", "", self.order_body()),
            "lookup": ("/api/orders/lookup", "", {"order_id": str(self.order.id), "email": "ada@example.org"}),
            "pay": ("/api/payments/create", self.token, {"order_id": str(self.order.id), "pay_currency": "btc"}),
            "reveal": (f"/api/fulfillment/{self.paid.id}/reveal", self.paid_token, None),
            "deliver": (f"/api/fulfillment/{self.paid.id}/deliver", self.staff, {}),
            "replay": (f"/api/admin/webhook-logs/{self.log.pk}/replay", self.staff, None),
            "read": (f"/api/orders/{self.order.id}", self.token, None),
            "status": (f"/api/fulfillment/{self.order.id}/status", self.token, None),
            "link": (f"/api/fulfillment/{self.paid.id}/download-link", self.paid_token, None),
            "products": ("/api/products", "", None),
            "coins": ("/api/payments/currencies", "", None),
            "ipn": ("/api/payments/ipn", "", None),
            "kinguin": ("/api/webhooks/kinguin", "", None),
        }

    def order_body(self, **changes):
        return {"email": "ada@example.org", "items": [{"product": self.product.slug, "quantity": 1}], **changes}

    def send(self, route, body=None, *, method="POST", content_type=JSON, headers=None, path=None, **extra):
        own_path, token, good = self.routes[route]
        if body is None and good is not None:
            body = good
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        authorization = token if token.startswith("Token") or not token else f"Bearer {token}"
        sent = {"Authorization": authorization, **(headers or {})}
        sent = {name: value for name, value in sent.items() if value or name != "Authorization"}
        return self.client.generic(method, path or own_path, raw, content_type, headers=sent, **extra)


def assert_refused(answer, status, code, before):
    """The answer is the problem document that was expected, quotes nothing, and nothing was stored."""
    assert answer.status_code == status, answer.content
    if answer.content:
        problem = answer.json()
        assert answer["Content-Type"] == "application/problem+json"
        assert problem["status"] == status
        assert problem["code"] == code
        assert {"type", "title", "detail", "request_id"} <= set(problem)
        assert CANARY not in answer.content.decode()
    assert counts() == before


WITH_BODY = ["order", "lookup", "pay", "deliver"]
POSTS = [*WITH_BODY, "reveal", "replay"]
GETS = ["read", "status", "link", "products", "coins"]
WEBHOOKS = ["ipn", "kinguin"]

MALFORMED = {
    "G06 empty": b"",
    "G07 null": b"null",
    "G07 list": b"[]",
    "G07 text": b'"CANARY"',
    "G07 number": b"1",
    "G07 true": b"true",
    "G08 truncated": b'{"CANARY":',
    "G09 two documents": b"{}{}",
    "G09 trailing": b"{} CANARY",
    "G10 twice": b'{"CANARY":1,"CANARY":2}',
    "G11 NaN": b'{"CANARY":NaN}',
    "G11 Infinity": b'{"CANARY":Infinity}',
    "G11 -Infinity": b'{"CANARY":-Infinity}',
    "G12 1e999": b'{"CANARY":1e999}',
    "G13 5000 digits": b'{"CANARY":' + b"1" * 5000 + b"}",
    "G14 deep list": b"[" * 30_000,
    "G14 deep object": b'{"a":' * 9 + b"1" + b"}" * 9,
    "G15 many members": json.dumps({f"CANARY{number}": 1 for number in range(3000)}).encode(),
    "G15 long list": b'{"items":[' + b"1," * 5000 + b"1]}",
    "G16 no UTF-8": b'{"CANARY":"\xff"}',
    "G17 BOM": b"\xef\xbb\xbf{}",
    "G18 UTF-16": '{"a":1}'.encode("utf-16"),
    "G18 UTF-32": '{"a":1}'.encode("utf-32"),
    "G19 NUL": b'{"email":"CANARY\\u0000"}',
    "G19 raw NUL": b'{"email":"CANARY\x00"}',
    "G20 surrogate": b'{"email":"CANARY\\ud800"}',
    "G20 surrogate in a name": b'{"\\udfffCANARY":1}',
}
