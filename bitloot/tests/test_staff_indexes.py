"""The lists of staff that grow with the orders: each filter and each search is answered from an index.

An empty table says which plans there are, not how long they take: sequential scans are forbidden here, so PostgreSQL
falls back to one only where no index fits. `python -m tools.bench.admin` measures.
"""

import pytest
from django.contrib import admin
from django.db import connection
from django.test import RequestFactory
from knox.models import AuthToken

from bitloot.accounting.journal import KINDS
from bitloot.core.database import planned_by_values
from bitloot.tests.staff import make_staff
from fulfillment.models import Reservation, ReservationAttempt, SupplierCall
from orders.models import Email, Order, OrderEvent, OrderItem
from payments.models import Payment, Refund
from storage.models import Key, KeyDeliveryLog
from webhooks.models import WebhookLog

pytestmark = pytest.mark.postgres

LARGE = (
    Order, OrderItem, OrderEvent, Email, Payment, Refund, Reservation, ReservationAttempt, SupplierCall, Key,
    KeyDeliveryLog, WebhookLog,
)  # fmt: skip
# Half of all rows, or short rows of which a million is read in a tenth of a second.
READ = {
    (WebhookLog, "provider__exact"),
    (ReservationAttempt, "outcome__exact"),
    (ReservationAttempt, "permitted_at__gte"),
}
TERMS = ("5077125051", "ada@example.org", "half-an-addr", "6d1c2e8a-4f6b-4c43-9a55-0a1f6c9d2b11", "6d1c2e8a")


@pytest.fixture
def boss(db):
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")
    return make_staff(superuser=True)


def asked(boss, query=""):
    request = RequestFactory().get(f"/{query}")
    request.user = boss
    return request


def reads_all(rows):
    plan = rows.select_related(None).order_by().explain()  # joins and orders have their own indexes
    return [model._meta.db_table for model in LARGE if f"Seq Scan on {model._meta.db_table}" in plan]


@pytest.mark.parametrize("model", LARGE)
def test_every_filter_has_an_index(boss, model):
    page = admin.site.get_model_admin(model)
    changes = page.get_changelist_instance(asked(boss))
    choices = [choice["query_string"] for spec in changes.filter_specs for choice in spec.choices(changes)]
    without = {}
    for query in choices:
        if query == "?" or (model, query[1:].partition("=")[0]) in READ:
            continue
        if found := reads_all(page.get_changelist_instance(asked(boss, query)).queryset):
            without[query] = found
    assert without == {}


@pytest.mark.parametrize("model", LARGE)
def test_every_search_and_the_order_of_the_list_have_an_index(boss, model):
    page = admin.site.get_model_admin(model)
    rows = page.get_queryset(asked(boss))
    found = {
        f"{condition}": reads_all(rows.filter(condition)) for term in TERMS for condition in page._conditions(term)
    }
    assert {condition: tables for condition, tables in found.items() if tables} == {}
    newest = page.get_changelist_instance(asked(boss)).queryset[:50].explain()
    assert "->  Sort  (" not in newest


def prepared(table):
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement FROM pg_prepared_statements WHERE statement LIKE %s", [f"%{table}%"])
        return cursor.fetchall()


def test_pages_of_staff_are_planned_for_the_values_they_ask_for(client, boss):
    """The plan of a prepared statement reads a whole table to count the rows of a status that none has."""
    client.force_login(boss)
    for _ in range(4):
        assert client.get("/admin/orders/order/").status_code == 200
    assert prepared("orders_order%LIMIT") == []


def test_the_finder_is_planned_for_the_values_it_asks_for(client, boss):
    client.force_login(boss)
    for _ in range(5):
        assert client.get("/admin/", {"q": "half-an-addr"}).status_code == 200
    assert prepared("FROM %orders_order") == []


@pytest.mark.parametrize(
    "path", ["orders", "payments", "refunds", "reservations", "keys", "webhook-logs", "alerts", "mails", "replays"]
)
def test_lists_over_rest_are_planned_for_the_values_they_ask_for(client, boss, path):
    token = f"Token {AuthToken.objects.create(boss)[1]}"
    model = {"reservations": Reservation, "keys": Key}.get(path)
    for _ in range(5):
        assert client.get(f"/api/admin/{path}", headers={"Authorization": token}).status_code == 200
    assert prepared("LIMIT") == []
    assert model is None or prepared(model._meta.db_table) == []


def test_exports_are_planned_for_the_days_they_ask_for(client, boss):
    client.force_login(boss)
    asked = {"since": "2026-01-01", "until": "2026-01-31", "kinds": KINDS}
    for _ in range(5):
        answer = client.post("/admin/accounting/acknowledgement/export/", asked)
        assert b"".join(answer.streaming_content).startswith(b"at,kind")
    assert [table for model in (Order, Payment, Refund, Reservation) if (table := prepared(model._meta.db_table))] == []


def test_connection_prepares_again_afterwards(boss):
    raw = connection.connection
    with planned_by_values(), planned_by_values():
        assert raw.prepare_threshold is None
    assert raw.prepare_threshold == 3


def test_connection_that_was_left_meanwhile_prepares_again(boss):
    """A decision waits for a provider and leaves its connection to somebody else, who does not keep it as it is."""
    raw = connection.connection
    first, second = planned_by_values(), planned_by_values()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    assert raw.prepare_threshold == 3
