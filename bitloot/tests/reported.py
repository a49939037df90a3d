"""A process that reports errors to Sentry as web and worker do; test_sentry starts it and reads what it sent.

SENTRY_DSN and the providers' addresses point to the test's own server, whose answers hold what must not be reported.
"""

import json
import logging
import os
import sys
from datetime import UTC, datetime
from decimal import Decimal

import django

django.setup()

import sentry_sdk  # noqa: E402
from django.conf import settings  # noqa: E402
from werkzeug.test import Client  # noqa: E402

from bitloot.core import logs  # noqa: E402
from bitloot.core.providers import ProviderError  # noqa: E402
from bitloot.core.signing import sign  # noqa: E402
from bitloot.wsgi import application  # noqa: E402
from fulfillment import kinguin  # noqa: E402
from fulfillment.kinguin.protocol import AmbiguousSearch, UnreadableKey  # noqa: E402
from payments.nowpayments import NowPaymentsClient  # noqa: E402

logger = logging.getLogger("bitloot.tests.reported")

TOKEN = f"a.1.1700000000.{sign('canary', 'token')}"
CODE = "CNRY1-CNRY2-CNRY3"
CANARIES = {
    "kinguin key": settings.KINGUIN_API_KEY,
    "kinguin webhook secret": settings.KINGUIN_WEBHOOK_SECRET[0],
    "nowpayments key": settings.NOWPAYMENTS_API_KEY,
    "nowpayments secret": settings.NOWPAYMENTS_IPN_SECRET[0],
    "master secret": settings.KEY_ENCRYPTION_SECRET,
    "order token": TOKEN.rpartition(".")[2],
    "licence key": CODE,
    "link": "f00dcafe" * 8,
    "staff token": "5ca1ab1e" * 8,
    "idempotency key": "canary-idempotency-key",
    "ipn signature": "deadbeef" * 16,
    "address": "canary.customer",
    "body": "canary-in-the-body",
}


def provider_errors() -> None:
    """Have every answer of the test's server met by every call of both clients, and each error reported."""
    payments, supplier = NowPaymentsClient.from_settings(), kinguin.client()
    calls = [
        payments.merchant_coins,
        payments.coins,
        lambda: payments.min_amount("btc", "btc", "EUR"),
        lambda: payments.estimate(Decimal(1), "eur", "btc"),
        lambda: payments.read_payment("17"),
        lambda: supplier.quote("p1"),
        lambda: supplier.read("o1"),
        lambda: supplier.delivered("o1"),
        lambda: supplier.find("e1"),
        lambda: list(supplier.list_since(datetime(2026, 1, 1, tzinfo=UTC))),  # type: ignore[attr-defined]
        supplier.health,
    ]
    for _ in json.loads(os.environ["ANSWERS"]):
        for call in calls:
            secret_in_a_local_variable = f"{CODE} {TOKEN}"
            try:
                call()
            except ProviderError:
                logger.exception("a call failed for ada <%s@example.org>", CANARIES["address"])
            except Exception:
                logger.exception("a call crashed with %s", secret_in_a_local_variable)
    for err in (UnreadableKey("k1", f"no key: {CODE}"), AmbiguousSearch("e1", ["o1", CODE])):
        logger.error("%s", err, exc_info=err)


def requests_that_fail() -> None:
    """Send requests that bring secrets along, to a shop whose database has no tables."""
    headers = {
        "Authorization": f"Bearer {TOKEN}",
        "X-Event-Secret": CANARIES["kinguin webhook secret"],
        "X-Nowpayments-Sig": CANARIES["ipn signature"],
        "Idempotency-Key": CANARIES["idempotency key"],
        "Referer": f"https://shop.example/?signature={CANARIES['link']}",
        "Cookie": f"sessionid={CANARIES['staff token']}",
    }
    body = {"email": f"{CANARIES['address']}@example.org", "items": [], "note": CANARIES["body"]}
    order = "7d9e8f10-1a2b-4c3d-8e4f-5a6b7c8d9e0f"
    browser = Client(application, use_cookies=False)
    browser.get(f"/objects/{order}?expires=1&signature={CANARIES['link']}", headers=headers)
    browser.get(f"/api/fulfillment/{order}/status", headers=headers)
    browser.post("/api/orders", json=body, headers=headers)
    browser.post("/api/webhooks/kinguin", json=body, headers=headers)
    browser.get(f"/admin/?q={CANARIES['address']}%40example.org", headers=headers)
    staff = headers | {"Authorization": f"Token {CANARIES['staff token']}"}
    browser.get("/api/admin/payments/1", headers=staff)


def requests_of_strangers() -> None:
    browser = Client(application, use_cookies=False)
    for number in range(20):
        browser.get("/", headers={"Host": f"evil{number}.example"})
        browser.post("/api/payments/ipn", json={}, headers={"Host": "evil.example"})
        fields = {f"evil{field}": "1" for field in range(500)}
        browser.post("/checkout", data=fields, headers={"Cookie": f"csrftoken={32 * 'a'}"})


if __name__ == "__main__":
    with logs.about(request="canary-request-id", order="canary-order-id"):
        provider_errors()
    requests_that_fail()
    requests_of_strangers()
    sentry_sdk.flush(30)
    sys.stdout.write(json.dumps(CANARIES))
