import hashlib
import hmac
import time

import pytest

EMBER, IMAGE = "64b000000000000000000001", "64b000000000000000000004"


@pytest.fixture
def token(sandbox):
    answer = sandbox.http.post(
        "/kinguin/reservations/auth/token", json={"client_id": "client", "client_secret": "client-secret"}
    )
    assert (answer.json["token_type"], answer.json["expires_in"]) == ("bearer", 3600)
    return {"Authorization": f"Bearer {answer.json['access_token']}"}


def reserve(sandbox, token, **body):
    body = {"productId": EMBER, "quantity": 1, **body}
    return sandbox.http.post("/kinguin/reservations/reservations", json=body, headers=token)


def order(sandbox, key="kinguin-key", **body):
    body = {"offerId": "64c000000000000000000001", "quantity": 1, "autoDeliver": True, **body}
    return sandbox.http.post("/kinguin/orders/v1/orders", json=body, headers={"Authorization": f"Bearer {key}"})


def read_order(sandbox, order_id):
    url = f"/kinguin/orders/v1/orders/{order_id}"
    return sandbox.http.get(url, headers={"Authorization": "Bearer kinguin-key"})


def test_reservation_goes_from_reserved_over_given_to_delivered(sandbox, token, store):
    reserved = reserve(sandbox, token, quantity=2)
    reservation_id = reserved.json["reservationId"]
    url = f"/kinguin/reservations/reservations/{reservation_id}"
    assert (reserved.status_code, reserved.json["status"]) == (201, "reserved")
    assert sandbox.ledger("sold") == []

    given = [sandbox.http.post(f"{url}/give", headers=token).json for _ in range(2)]
    waiting = sandbox.http.get(f"{url}/delivered", headers=token).json
    sandbox.control(f"/orders/{reservation_id}/deliver")
    delivered = sandbox.http.get(f"{url}/delivered", headers=token).json

    assert given == [{"reservationId": reservation_id, "status": "given"}] * 2
    assert waiting == {"reservationId": reservation_id, "status": "given", "codes": []}
    assert delivered["status"] == "delivered"
    assert len(set(delivered["codes"])) == 2
    assert [row["amount"] for row in sandbox.ledger("sold")] == ["14.98"]
    assert store.wait(3) == [
        {"reservationId": reservation_id, "event": event} for event in ("reserve", "give", "delivered")
    ]
    assert all(headers["X-Auth-Token"] == "kinguin-hook" for _, headers, _ in store.received)


def test_cancelled_reservation_cannot_be_given(sandbox, token):
    reservation_id = reserve(sandbox, token).json["reservationId"]
    sandbox.control(f"/orders/{reservation_id}/cancel")

    answer = sandbox.http.post(f"/kinguin/reservations/reservations/{reservation_id}/give", headers=token)

    assert (answer.status_code, answer.json["error"]) == (409, "reservation_cancelled")
    assert sandbox.kinguin("GET", "/v1/balance").json == {"balance": 250000}


def test_token_is_needed_and_ends(sandbox, token, monkeypatch):
    wrong = {"client_id": "client", "client_secret": "other"}
    assert sandbox.http.post("/kinguin/reservations/auth/token", json=wrong).status_code == 401
    assert reserve(sandbox, {"Authorization": "Bearer 99999999999.00"}).status_code == 401
    assert reserve(sandbox, {}).status_code == 401
    assert len(sandbox.ledger("order_received")) == 2

    later = time.time() + 3601
    monkeypatch.setattr(time, "time", lambda: later)
    assert reserve(sandbox, token).status_code == 401


@pytest.mark.parametrize(
    ("body", "status"),
    [({"quantity": 0}, 400), ({"quantity": "1"}, 400), ({"productId": "x"}, 404), ({"productId": IMAGE}, 404)],
)
def test_reservation_that_makes_no_sense_is_refused(sandbox, token, body, status):
    assert reserve(sandbox, token, **body).status_code == status
    assert [row["what"] for row in sandbox.ledger()] == ["order_received", "order_refused"]


def test_giving_without_funds_is_refused(sandbox, token):
    reservation_id = reserve(sandbox, token).json["reservationId"]
    sandbox.control("/balance", {"balance": 1})

    answer = sandbox.http.post(f"/kinguin/reservations/reservations/{reservation_id}/give", headers=token)

    assert (answer.status_code, answer.json["error"]) == (402, "insufficient_balance")


def test_order_with_automatic_delivery(sandbox, store):
    created = order(sandbox)
    order_id = created.json["id"]
    assert (created.status_code, created.json) == (201, {"id": order_id, "status": "pending"})

    sandbox.control(f"/orders/{order_id}/deliver")

    ready = read_order(sandbox, order_id).json
    assert (ready["status"], set(ready)) == ("ready", {"id", "status", "key"})
    assert store.wait(1) == [{"orderId": order_id, "event": "order.ready"}]
    _, headers, raw = store.received[0]
    assert headers["X-KINGUIN-SIGNATURE"] == hmac.new(b"kinguin-hook", raw, hashlib.sha512).hexdigest()


def test_order_of_several_keys_lists_them(sandbox):
    order_id = order(sandbox, quantity=3).json["id"]
    sandbox.control(f"/orders/{order_id}/deliver")

    assert len(set(read_order(sandbox, order_id).json["keys"])) == 3


def test_cancelled_order_says_so(sandbox, store):
    order_id = order(sandbox).json["id"]
    sandbox.control(f"/orders/{order_id}/cancel")

    cancelled = read_order(sandbox, order_id).json

    assert cancelled == {"id": order_id, "status": "cancelled", "error": "The order was cancelled by the supplier."}
    assert store.wait(1) == [{"orderId": order_id, "event": "order.cancelled"}]


def test_orders_of_one_dialect_are_unknown_in_the_others(sandbox, token):
    order_id = order(sandbox).json["id"]

    url = f"/kinguin/reservations/reservations/{order_id}/delivered"
    assert sandbox.http.get(url, headers=token).status_code == 404
    assert sandbox.kinguin("GET", f"/v1/order/{order_id}").status_code == 404


def test_orders_need_the_key(sandbox):
    assert order(sandbox, key="other").status_code == 401
    assert sandbox.http.get("/kinguin/orders/v1/health").status_code == 401
    headers = {"Authorization": "Bearer kinguin-key"}
    assert sandbox.http.get("/kinguin/orders/v1/health", headers=headers).json == {"status": "ok"}


def test_out_of_stock_is_refused(sandbox):
    sandbox.control(f"/products/{EMBER}", {"qty": 0})

    assert (order(sandbox).status_code, order(sandbox).json["error"]) == (409, "out_of_stock")
