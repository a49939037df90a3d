import time

import pytest

EMBER = "64b000000000000000000001"


def test_state_shows_everything(sandbox):
    order_id = sandbox.order("ext-1", qty=2).json["orderId"]
    payment_id = sandbox.payment().json["payment_id"]

    state = sandbox.http.get("/control/state").json

    assert state["balance"] == 249985.02
    assert state["config"]["deliver"] == "manual"
    assert [product["name"] for product in state["products"]][3] == "Nightline Courier"
    (order,) = state["orders"]
    assert (order["order_id"], order["external_id"], order["total"]) == (order_id, "ext-1", 14.98)
    assert [payment["payment_id"] for payment in state["payments"]] == [int(payment_id)]


def test_sold_lists_each_key_with_its_order(sandbox):
    order_id = sandbox.order("ext-1").json["orderId"]
    sandbox.control(f"/orders/{order_id}/deliver")
    (key,) = sandbox.kinguin("GET", f"/v2/order/{order_id}/keys").json

    assert sandbox.http.get("/control/sold").json["sold"] == [
        {
            "order_id": order_id,
            "external_id": "ext-1",
            "dialect": "ecommerce",
            "product_id": EMBER,
            "key_id": key["id"],
            "serial": key["serial"],
            "type": "text/plain",
            "status": "DELIVERED",
        }
    ]


def test_calls_lists_what_the_shop_asked_and_not_the_control_page(sandbox):
    before = time.time()
    sandbox.order("ext-1")
    sandbox.payment()
    calls = sandbox.http.get("/control/calls").json["calls"]

    assert [(call["method"], call["path"].rpartition("/")[2]) for call in calls] == [
        ("POST", "order"), ("POST", "payment"),
    ]  # fmt: skip
    assert before <= calls[0]["at"] <= calls[1]["at"] <= time.time()


def test_ledger_is_read_from_where_one_was(sandbox):
    sandbox.order("a")
    first = sandbox.http.get("/control/ledger?limit=1").json["ledger"]
    rest = sandbox.http.get(f"/control/ledger?after={first[0]['id']}").json["ledger"]

    assert first[0]["what"] == "order_received"
    # The webhook about the order may be noted between two readings.
    assert first + rest == sandbox.ledger()[: len(first + rest)]
    assert [row["what"] for row in rest][:1] == ["sold"]
    assert [row["what"] for row in sandbox.http.get("/control/ledger?what=sold&external_id=a").json["ledger"]] == [
        "sold"
    ]


def test_configuration_changes_at_once_and_outlives_a_restart_with_the_same_options(start):
    sandbox = start(deliver="manual")
    answer = sandbox.control("/config", {"delay_ms": 5, "script": "rough", "enforce_external_id": False})
    assert (answer.json["delay_ms"], answer.json["script"], answer.json["enforce_external_id"]) == (5, "rough", False)
    sandbox.app.close()

    again = start(deliver="manual")
    assert again.config.script == "rough"
    again.app.close()
    assert start(deliver="auto").config.script == "calm"


@pytest.mark.parametrize("change", [{"script": "worse"}, {"port": 1}, {"delay_ms": "x"}, {"delay_ms": -1}])
def test_configuration_that_makes_no_sense_is_refused(sandbox, change):
    assert sandbox.control("/config", change).status_code == 400
    assert sandbox.app.world.config == sandbox.config


def test_product_can_be_changed_and_announced(sandbox, store):
    answer = sandbox.control(f"/products/{EMBER}", {"price": 8.2, "qty": 3, "textQty": 2, "announce": True})

    assert (answer.json["price"], answer.json["qty"], answer.json["textQty"]) == (8.2, 3, 2)
    assert sandbox.kinguin("GET", f"/v2/products/{EMBER}").json["price"] == 8.2
    (body,) = store.wait(1)
    assert (body["productId"], body["qty"], body["textQty"]) == (EMBER, 3, 2)
    assert store.received[0][1]["X-Event-Name"] == "product.update"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/balance", {}, 400),
        ("/balance", {"balance": "NaN"}, 400),
        ("/products/nope", {"qty": 1}, 404),
        (f"/products/{EMBER}", {"qty": -1}, 400),
        ("/payments/1/pay", {}, 404),
        ("/orders/nope/deliver", {}, 404),
        ("/nope", {}, 404),
    ],
)
def test_what_cannot_be_done_is_explained(sandbox, path, body, status):
    answer = sandbox.control(path, body)

    assert answer.status_code == status
    assert answer.json["error"]


def test_order_cannot_end_twice(sandbox):
    order_id = sandbox.order().json["orderId"]

    statuses = [
        sandbox.control(f"/orders/{order_id}/{action}").status_code for action in ("refund", "cancel", "deliver")
    ]

    assert statuses == [200, 409, 409]
    assert sandbox.kinguin("GET", "/v1/balance").json == {"balance": 250000}


def test_unknown_payment_status_needs_insisting(sandbox):
    payment_id = sandbox.payment().json["payment_id"]

    assert sandbox.control(f"/payments/{payment_id}/status", {"status": "hacked"}).status_code == 400
    assert sandbox.control(f"/payments/{payment_id}/status", {"status": "hacked", "any": True}).status_code == 200


def test_page_shows_buttons_and_escapes_what_others_wrote(sandbox):
    order_id = sandbox.order('<script>alert("x")</script>', qty=2).json["orderId"]
    payment_id = sandbox.payment("<img>").json["payment_id"]

    page = sandbox.http.get("/").text

    assert "<script>" not in page
    assert "<img>" not in page
    assert f"/control/payments/{payment_id}/pay" in page
    assert f"/control/orders/{order_id}/deliver" in page
    assert "2 × Ember Drift" in page


def test_page_buttons_lead_back_to_the_page(sandbox):
    order_id = sandbox.order().json["orderId"]

    answer = sandbox.http.post(f"/control/orders/{order_id}/deliver", data={"now": "1"})

    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    assert sandbox.kinguin("GET", f"/v1/order/{order_id}").json["status"] == "completed"


def test_another_site_cannot_press_the_buttons(sandbox):
    answer = sandbox.http.post("/control/balance", json={"balance": 0}, headers={"Origin": "https://evil.example"})

    assert answer.status_code == 403
    assert sandbox.http.get("/control/state").json["balance"] == 250000
    own = sandbox.http.post("/control/balance", json={"balance": 1}, headers={"Origin": "http://localhost"})
    assert own.status_code == 200


def test_page_offers_only_what_can_be_done(sandbox):
    order_id = sandbox.order(qty=2).json["orderId"]
    sandbox.payment("paid")
    sandbox.control("/payments/paid/pay", {"mode": "exact"})
    sandbox.until(lambda: sandbox.http.get("/control/state").json["jobs"] == 0)
    sandbox.control("/faults", {"op": "kinguin.balance", "fault": "slow"})
    page = sandbox.http.get("/").text

    assert "Deliver one key" in page
    assert "Repeated deposit" in page
    assert "Pay exactly" not in page
    assert "kinguin.balance: slow" in page

    sandbox.control(f"/orders/{order_id}/refund")
    sandbox.http.post("/control/faults/clear", data={"all": "1"})
    page = sandbox.http.get("/").text
    assert "Deliver" not in page
    assert "2 refunded" in page
    assert "kinguin.balance" not in page
