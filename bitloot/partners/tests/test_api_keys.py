"""What an API key may do, what it may not, and what is kept of it."""

import logging
import secrets
from datetime import timedelta

import pytest
from django.core.cache import caches
from django.db.models.functions import Now
from django.utils import timezone

from bitloot.core.clients import Scope
from bitloot.core.logs import HIDDEN, Line
from bitloot.partners import services
from bitloot.partners.models import ApiKey
from bitloot.partners.tests.factories import ALL, bearer, make_key
from bitloot.staff.models import StaffEvent
from orders.access import make_token
from orders.models import Email, Order
from orders.tests.factories import make_order, make_product
from storage.models import KeyAccess
from storage.tests.factories import make_key as make_licence_key

pytestmark = pytest.mark.django_db


def place(client, text, *, email="buyer@customer.example", product=None, **headers):
    body = {"email": email, "items": [{"product": (product or make_product()).slug, "quantity": 1}]}
    return client.post("/api/orders", body, "application/json", headers={**bearer(text), **headers})


def own_order(client, text, **fields):
    placed = place(client, text)
    assert placed.status_code == 201, placed.content
    Order.objects.filter(pk=placed.json()["id"]).update(**fields)
    return Order.objects.get(pk=placed.json()["id"])


def problem(answer):
    return answer.status_code, answer.json()["code"]


def test_an_order_belongs_to_the_key_that_placed_it(client):
    key, text = make_key()
    placed = place(client, text).json()
    assert "access_token" not in placed  # it would open the licence keys, whatever the scopes say
    assert Order.objects.get().placed_with == key.pk
    shown = client.get(f"/api/orders/{placed['id']}", headers=bearer(text)).json()
    assert (shown["status"], shown["email"]) == ("pending", "buyer@customer.example")
    assert not shown["can_change_email"]


@pytest.mark.parametrize(
    "header", ["{}", "Token {}", "Basic {}", "Bearer\t{}", "Bearer {0}, Bearer {0}", "Bearer {0},{0}"]
)
def test_a_key_in_another_form_places_no_order_as_a_stranger(client, header):
    _, text = make_key()
    answer = place(client, text, Authorization=header.format(text))
    assert problem(answer) == (401, "api_key_refused")
    assert not Order.objects.exists()


ROUTES = {
    "GET /api/products": Scope.PRODUCTS,
    "GET /api/payments/currencies": Scope.PRODUCTS,
    "GET /api/orders": Scope.READ,
    "GET /api/orders/{id}": Scope.READ,
    "GET /api/fulfillment/{id}/status": Scope.READ,
    "POST /api/orders": Scope.PLACE,
    "POST /api/payments/create": Scope.PLACE,
    "POST /api/payments/refund-address": Scope.REFUNDS,
    "POST /api/payments/refund-surplus": Scope.REFUNDS,
    "POST /api/fulfillment/{id}/money-back": Scope.REFUNDS,
    "GET /api/fulfillment/{id}/download-link": Scope.KEYS,
    "POST /api/fulfillment/{id}/reveal": Scope.KEYS,
    "POST /api/fulfillment/{id}/download-report": Scope.KEYS,
    # These bring tokens that open everything, or mail links, or are the customer's own choice; no scope is for them.
    "POST /api/orders/language": None,
    "POST /api/orders/email": None,
    "POST /api/orders/close-links": None,
    "POST /api/orders/lookup": None,
    "POST /api/orders/code": None,
    "POST /api/orders/redeem": None,
}


@pytest.mark.once
@pytest.mark.parametrize("route", ROUTES)
def test_each_route_wants_its_scope_and_no_other(client, route):
    needed, order = ROUTES[route], make_order()
    method, path = route.split()

    def ask(scopes):
        key, text = make_key(scopes=scopes)
        Order.objects.update(placed_with=key.pk)
        where = path.replace("{id}", str(order.pk))
        return client.generic(method, where, b"{}", "application/json", headers=bearer(text))

    assert problem(ask([scope for scope in ALL if scope != needed])) == (403, "scope_missing")
    assert needed is None or ask([needed]).status_code in (200, 404, 409, 422)


def test_a_foreign_order_is_not_there(client):
    _, text = make_key()
    _, other = make_key(name="Another Shop")
    theirs, ordinary = own_order(client, other), make_order()
    bodies = []
    for order in (theirs.pk, ordinary.pk, "00000000-0000-0000-0000-000000000007", "no-id"):
        for path in (f"/api/orders/{order}", f"/api/fulfillment/{order}/download-link"):
            answer = client.get(path, headers=bearer(text))
            assert problem(answer) == (404, "not_found")
            bodies.append({**answer.json(), "request_id": ""})
        asked = {"order_id": str(order), "pay_currency": "btc"}
        paid = client.post("/api/payments/create", asked, "application/json", headers=bearer(text))
        assert problem(paid) == (404, "not_found")
    assert all(body == bodies[0] for body in bodies)
    assert client.get("/api/orders", headers=bearer(text)).json()["results"] == []


def test_the_list_is_filtered_paged_and_costs_the_same_for_one_and_three(client, django_assert_num_queries):
    _, text = make_key()

    def listed(query=""):
        return client.get(f"/api/orders{query}", headers=bearer(text))

    first = own_order(client, text, status="paid", created_at=timezone.now() - timedelta(days=2))
    listed()  # keeps when the key was last used
    with django_assert_num_queries(5):
        assert listed().json()["count"] == 1
    newest = [own_order(client, text) for _ in range(2)][::-1]
    with django_assert_num_queries(5):
        rows = listed().json()["results"]
    assert [row["id"] for row in rows] == [str(order.pk) for order in (*newest, first)]
    assert rows[2]["status"] == "paid"
    assert rows[2]["items"][0]["quantity"] == 1
    assert "access_token" not in rows[2]
    day_ago = (timezone.now() - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    counts = [listed(query).json()["count"] for query in ("?status=paid", f"?since={day_ago}", f"?until={day_ago}")]
    assert counts == [1, 2, 1]
    assert len(listed("?limit=1").json()["results"]) == 1
    assert [listed(query).status_code for query in ("?status=odd", "?since=odd", "?odd=1")] == [422] * 3
    # As a program sends what nobody chose.
    assert listed("?status=&since=&until=&limit=&offset=").json()["count"] == 3


@pytest.mark.parametrize("moment", ["2026-01-31", "2026-01-31T12:00:00", "0001-01-01T00:00:00%2B14:00", "%00"])
@pytest.mark.parametrize("name", ["since", "until"])
def test_a_time_that_may_mean_another_hour_is_refused(client, name, moment):
    _, text = make_key()
    answer = client.get(f"/api/orders?{name}={moment}", headers=bearer(text))
    assert problem(answer) == (422, "invalid")
    assert client.get(f"/api/orders?{name}=2026-01-31T12:00:00%2B01:00", headers=bearer(text)).status_code == 200


def test_the_list_is_for_keys_only(client):
    answer = client.get("/api/orders")
    assert problem(answer) == (401, "api_key_needed")
    assert answer["WWW-Authenticate"].startswith("Bearer")


def test_opening_keys_leaves_the_same_evidence(client):
    _, text = make_key()
    order = own_order(client, text)
    order.mark_paid(message="Paid.")
    licence = make_licence_key(order.items.get())
    opened = client.post(f"/api/fulfillment/{order.pk}/reveal", {}, "application/json", headers=bearer(text))
    assert opened.json()["keys"][0]["key"]
    access = KeyAccess.objects.get()
    assert (access.key, access.order, access.token) == (licence, order, "key")
    licence.refresh_from_db()
    assert (licence.viewed_at is not None, licence.delivery.times_accessed) == (True, 1)
    assert Email.objects.filter(kind=Email.Kind.KEY_OPENED, order=order).exists()


@pytest.mark.parametrize("change", ["unknown", "cut", "other secret", "ended", "expired", "renewed"])
def test_a_key_that_opens_nothing_says_the_same_every_time(client, change):
    key, text = make_key()
    if change == "ended":
        services.end_key(key, actor="ada", reason="It leaked.")
    elif change == "expired":
        ApiKey.objects.update(expires_at=Now() - timedelta(seconds=1))
    elif change == "renewed":
        services.renew_key(key, overlap=timedelta(0))
    shown = {"unknown": f"blk_00000000_{'x' * 43}", "cut": text[:-1], "other secret": text[:-43] + "x" * 43}
    answer = client.get("/api/orders", headers=bearer(shown.get(change, text)))
    assert problem(answer) == (401, "api_key_refused")
    assert answer["WWW-Authenticate"].startswith("Bearer")


def test_guesses_of_an_address_are_limited_before_a_key_is_looked_up(client, settings, django_assert_num_queries):
    """Malformed ones count too; neither right requests nor another network's guesses do."""
    caches["local"].clear()
    settings.THROTTLE_SCALE = 0.1  # three guesses a minute
    _, right = make_key(requests_per_minute=1000)
    neighbour = f"203.0.{secrets.randbelow(256)}.{secrets.randbelow(256)}"

    def ask(text, address=neighbour):
        return client.get("/api/products", headers=bearer(text), REMOTE_ADDR=address)

    assert {ask(right).status_code for _ in range(5)} == {200}
    guesses = ["blk_", f"blk_00000000_{'x' * 43}", right[:-1], right[:-43] + "x" * 43]
    assert [ask(guess).status_code for guess in guesses] == [401] * 4
    with django_assert_num_queries(0):
        refused = [ask(right), ask("blk_")]
    assert [problem(answer) for answer in refused] == [(429, "throttled")] * 2
    assert refused[0]["Retry-After"] == "60"
    assert ask(right, "198.51.100.77").status_code == 200
    caches["local"].clear()  # another process learns of it with its own first guess
    assert [ask("blk_").status_code, ask("blk_").status_code] == [401, 429]


def test_a_renewed_key_keeps_its_orders_and_for_a_while_its_earlier_secret(client):
    key, earlier = make_key()
    order = own_order(client, earlier)
    newer = str(services.renew_key(key, overlap=timedelta(hours=1)))
    assert newer[:12] == earlier[:12]
    for text in (earlier, newer):
        assert client.get(f"/api/orders/{order.pk}", headers=bearer(text)).status_code == 200
    ApiKey.objects.update(earlier_until=Now() - timedelta(seconds=1))
    assert client.get(f"/api/orders/{order.pk}", headers=bearer(earlier)).status_code == 401
    assert client.get(f"/api/orders/{order.pk}", headers=bearer(newer)).status_code == 200


def test_only_a_digest_is_kept_and_nothing_is_logged(client, caplog):
    caplog.set_level(logging.DEBUG)
    key, text = make_key()
    own_order(client, text)
    client.get("/api/orders", headers=bearer(text + "x"))
    secret = text.split("_", 2)[2]  # which may hold an underline itself
    assert secret not in f"{list(ApiKey.objects.values())} {list(StaffEvent.objects.values())} {caplog.text}"
    assert len(ApiKey.objects.get().digest) == 64
    record = logging.LogRecord("x", logging.INFO, "x", 1, f"got {text} and whsec_c2VjcmV0+/c2VjcmV0=", None, None)
    assert Line().format(record).endswith(f"got {HIDDEN} and {HIDDEN}")


def test_every_change_of_rights_is_kept(client):
    key, _ = make_key(scopes=["orders:read"])
    services.renew_key(key, overlap=timedelta(hours=2))
    services.end_key(key, actor="ada", reason="The contract ended.")
    about = f"API key Corner Shop (blk_{key.prefix}…)"
    assert [(event.about, event.what) for event in StaffEvent.objects.order_by("pk")] == [
        (about, "made: orders:read"),
        (about, "new secret; the one before works for 2 h"),
        (about, "ended: The contract ended."),
    ]


def test_the_last_use_is_kept_to_the_minute(client, django_assert_num_queries):
    _, text = make_key()
    client.get("/api/products", headers=bearer(text))
    assert ApiKey.objects.get().last_used_at is not None
    with django_assert_num_queries(1):  # the key alone: the page of products is kept
        client.get("/api/products", headers=bearer(text))


def test_its_requests_have_a_limit_of_their_own(client, settings):
    settings.THROTTLE_SCALE = 1
    _, text = make_key(requests_per_minute=2)
    _, other = make_key(name="Another Shop")
    answers = [client.get("/api/orders", headers=bearer(text)).status_code for _ in range(3)]
    assert answers == [200, 200, 429]
    assert client.get("/api/orders", headers=bearer(other)).status_code == 200
    assert client.get("/api/products").status_code == 200


def test_unpaid_orders_count_for_the_key_instead_of_the_address(client, settings):
    settings.THROTTLE_SCALE = 0.05  # others: two orders an hour for a mailbox, one of them unpaid
    product = make_product()
    _, text = make_key(unpaid_per_hour=60)
    own = {"email": "Dev@Partner.example", "product": product}
    assert {place(client, text, **own).status_code for _ in range(3)} == {201}
    refused = place(client, text, **own)
    assert problem(refused) == (429, "too_many_unpaid")
    assert refused["Retry-After"]
    Order.objects.update(status="paid")
    assert place(client, text, **own).status_code == 201


def test_a_stranger_s_mailbox_stays_protected_from_keys(client, settings):
    settings.THROTTLE_SCALE = 0.05  # two orders an hour for each mailbox
    _, text = make_key(unpaid_per_hour=1000, requests_per_minute=1000)
    product = make_product()
    assert [place(client, text, product=product).status_code for _ in range(3)] == [201, 201, 422]


def test_an_idempotency_key_is_its_own_and_repeats_even_when_paid(client):
    product = make_product()
    _, text = make_key()
    _, other = make_key(name="Another Shop")
    name = {"Idempotency-Key": "the-same-name-twice"}
    first = place(client, text, product=product, **name).json()
    assert place(client, other, product=product, **name).json()["id"] != first["id"]
    Order.objects.get(pk=first["id"]).mark_paid(message="Paid.")
    again = place(client, text, product=product, **name)
    assert (again["Idempotent-Replayed"], again.json()["id"]) == ("true", first["id"])


def test_a_token_still_opens_the_order_that_a_key_placed(client):
    """The customer's mailed link works, whoever placed the order."""
    _, text = make_key()
    order = own_order(client, text)
    assert client.get(f"/api/orders/{order.pk}", headers=bearer(make_token(order, "mail"))).status_code == 200
