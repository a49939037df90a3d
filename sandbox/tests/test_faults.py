import json
import random
import time

import pytest

from sandbox import faults
from sandbox.config import SCRIPT_NAMES
from sandbox.tests.conftest import fixture


def rule(sandbox, op, fault, times=1, **more):
    answer = sandbox.control("/faults", {"op": op, "fault": fault, "times": times, **more})
    assert answer.status_code == 201, answer.json


def search(sandbox, external_id="order-1"):
    return sandbox.kinguin("GET", f"/v1/order?orderExternalId={external_id}").json["item_count"]


def test_every_script_names_known_operations_and_faults():
    assert set(faults.SCRIPTS) == set(SCRIPT_NAMES)
    for table in faults.SCRIPTS.values():
        for op, chances in table.items():
            assert sum(weight for weight, _, _ in chances) <= 1000
            for _, name, _ in chances:
                faults.checked(op, name)


def test_same_seed_draws_the_same_whatever_the_order_of_calls(start, tmp_path):
    calls = [(op, f"order-{n}") for op in ("kinguin.order.create", "nowpayments.payment.get") for n in range(20)] * 5

    def run(seed, file, shuffled):
        sandbox = start(script="storm", seed=seed, db=str(tmp_path / file))
        drawn = {}
        for op, about in random.Random(shuffled).sample(calls, len(calls)):
            fault = sandbox.app.world.fault(op, lambda about=about: about)
            drawn.setdefault((op, about), []).append(fault.name)
        return drawn

    first = run(7, "a", 1)
    assert run(7, "b", 2) == first
    assert run(8, "c", 1) != first
    assert len({name for names in first.values() for name in names}) > 8


def test_counting_goes_on_after_a_restart(start):
    sandbox = start(script="storm", seed=3)
    before = [sandbox.app.world.fault("kinguin.order.get", lambda: "x").name for _ in range(40)]
    sandbox.app.close()
    sandbox = start(script="storm", seed=3)
    after = [sandbox.app.world.fault("kinguin.order.get", lambda: "x").name for _ in range(40)]

    expected = [
        faults.draw(script="storm", seed=3, op="kinguin.order.get", subject="x", call=n).name for n in range(1, 81)
    ]
    assert before + after == expected


def test_rule_holds_for_one_external_id_and_so_many_times(sandbox):
    rule(sandbox, "kinguin.order.create", "5xx_before", times=2, external_id="a")

    statuses = [sandbox.order(external_id).status_code for external_id in ("b", "a", "a", "a")]

    assert statuses == [201, 500, 500, 201]
    assert sandbox.http.get("/control/faults").json["faults"] == []


def test_permanent_rule_holds_until_cleared_and_over_a_restart(start):
    sandbox = start(deliver="manual")
    rule(sandbox, "kinguin.balance", "5xx_before", times=None)
    assert [sandbox.kinguin("GET", "/v1/balance").status_code for _ in range(3)] == [500] * 3
    sandbox.app.close()

    sandbox = start(deliver="manual")
    assert sandbox.kinguin("GET", "/v1/balance").status_code == 500
    sandbox.http.delete("/control/faults")
    assert sandbox.kinguin("GET", "/v1/balance").status_code == 200


@pytest.mark.parametrize(
    ("op", "fault"), [("nonsense", "slow"), ("kinguin.balance", "lost"), ("webhook.kinguin", "slow")]
)
def test_rule_that_makes_no_sense_is_refused(sandbox, op, fault):
    answer = sandbox.control("/faults", {"op": op, "fault": fault})

    assert answer.status_code == 400
    assert "choose from" in answer.json["error"]


@pytest.mark.parametrize(
    ("fault", "args", "status", "kind"),
    [
        ("refuse", {}, 422, "OrderFailed"),
        ("refuse", {"kind": "ResourceLock"}, 409, "ResourceLock"),
        ("insufficient_balance", {}, 400, "InsufficientBalance"),
        ("out_of_stock", {}, 422, "ProductUnavailable"),
        ("5xx_before", {}, 500, "Error"),
        ("429", {}, 429, None),
    ],
)
def test_fault_before_the_order_leaves_only_the_request_in_the_ledger(sandbox, fault, args, status, kind):
    rule(sandbox, "kinguin.order.create", fault, args=args)

    answer = sandbox.order()

    assert (answer.status_code, answer.json.get("kind")) == (status, kind)
    assert search(sandbox) == 0
    assert [(row["what"], row["external_id"]) for row in sandbox.ledger()] == [
        ("order_received", "order-1"),
        ("order_refused", "order-1"),
    ]


@pytest.mark.parametrize("fault", ["5xx_after", "accept_then_silent", "garbage", "truncated"])
def test_fault_after_the_order_hides_that_it_was_made(sandbox, fault):
    rule(sandbox, "kinguin.order.create", fault)

    answer = sandbox.order()

    assert search(sandbox) == 1
    assert [row["external_id"] for row in sandbox.ledger("sold")] == ["order-1"]
    if fault == "5xx_after":
        assert (answer.status_code, set(answer.json)) == (500, set(fixture("error_internal_500.json")))
    elif fault == "accept_then_silent":
        assert answer.status_code == 504
    elif fault == "garbage":
        assert (answer.status_code, answer.mimetype) == (200, "text/html")
    else:
        assert answer.status_code == 201
        with pytest.raises(json.JSONDecodeError):
            json.loads(answer.data)


def test_accept_then_silent_holds_the_connection(sandbox):
    rule(sandbox, "kinguin.order.create", "accept_then_silent", args={"hold_s": 0.3})

    started = time.monotonic()
    sandbox.order()

    assert time.monotonic() - started >= 0.3


def test_accept_late_makes_the_order_later(sandbox):
    rule(sandbox, "kinguin.order.create", "accept_late", args={"late_s": 3600})
    assert sandbox.order("not yet").status_code == 504
    assert search(sandbox, "not yet") == 0

    rule(sandbox, "kinguin.order.create", "accept_late", args={"late_s": 0.05})
    assert sandbox.order().status_code == 504
    sandbox.until(lambda: search(sandbox) == 1)
    told = [row["what"] for row in sandbox.ledger("order_received", "sold") if row["external_id"] == "order-1"]
    assert told == ["order_received", "sold"]


def test_accept_late_is_refused_when_the_id_was_used_meanwhile(sandbox):
    rule(sandbox, "kinguin.order.create", "accept_late", args={"late_s": 2})
    sandbox.order()
    assert sandbox.order().status_code == 201

    (late,) = sandbox.until(lambda: sandbox.ledger("order_refused"))

    assert late["detail"]["reason"] == "late: AlreadyUsed"
    assert len(sandbox.ledger("sold")) == 1


def test_search_lag_hides_the_order_for_a_while(sandbox):
    rule(sandbox, "kinguin.order.create", "search_lag", args={"search_lag_s": 3600})
    order_id = sandbox.order("hidden").json["orderId"]
    assert search(sandbox, "hidden") == 0
    assert sandbox.kinguin("GET", f"/v1/order/{order_id}").status_code == 200

    rule(sandbox, "kinguin.order.create", "search_lag", args={"search_lag_s": 0.05})
    sandbox.order()
    sandbox.until(lambda: search(sandbox) == 1)
    rule(sandbox, "kinguin.order.search", "search_lag")
    assert [search(sandbox), search(sandbox)] == [0, 1]


def test_redirect_leads_to_another_host_and_following_it_is_logged(sandbox):
    rule(sandbox, "kinguin.order.create", "redirect_307")

    answer = sandbox.order()

    assert (answer.status_code, search(sandbox)) == (307, 0)
    assert answer.headers["Location"].startswith("http://localhost")
    assert answer.headers["Location"].endswith("/elsewhere")
    sandbox.http.post("/elsewhere", headers={"X-Api-Key": "leaked"})
    (followed,) = sandbox.ledger("redirect_followed")
    assert "X-Api-Key" in followed["detail"]["headers"]


def test_unknown_status_is_shown_once(sandbox):
    order_id = sandbox.order().json["orderId"]
    payment_id = sandbox.payment().json["payment_id"]
    rule(sandbox, "kinguin.order.get", "unknown_status")
    rule(sandbox, "nowpayments.payment.get", "unknown_status", args={"status": "wrong_asset_confirmed"})

    orders = [sandbox.kinguin("GET", f"/v1/order/{order_id}").json["status"] for _ in range(2)]
    payments = [sandbox.nowpayments("GET", f"/payment/{payment_id}").json["payment_status"] for _ in range(2)]

    assert orders == ["in_review", "processing"]
    assert payments == ["wrong_asset_confirmed", "waiting"]


def test_slow_answer_is_right_but_late(sandbox):
    rule(sandbox, "kinguin.balance", "slow", args={"seconds": 0.2})

    started = time.monotonic()

    assert sandbox.kinguin("GET", "/v1/balance").json == {"balance": 250000}
    assert time.monotonic() - started >= 0.2


def test_delay_slows_the_supplier(start):
    sandbox = start(deliver="manual", delay_ms=300)

    started = time.monotonic()
    sandbox.kinguin("GET", "/v1/balance")

    assert time.monotonic() - started >= 0.3


def test_delay_does_not_slow_the_payment_provider(start):
    sandbox = start(deliver="manual", delay_ms=60_000)

    started = time.monotonic()
    sandbox.nowpayments("GET", "/currencies")

    assert time.monotonic() - started < 60


def test_webhook_lost_and_repeated(sandbox, store):
    rule(sandbox, "webhook.kinguin", "lost", external_id="a")
    rule(sandbox, "webhook.kinguin", "repeated", external_id="b", args={"times": 3})

    sandbox.order("a")
    sandbox.order("b")

    assert [body["orderExternalId"] for body in store.wait(3)] == ["b"] * 3
    assert [row["external_id"] for row in sandbox.ledger("webhook_lost")] == ["a"]


def test_webhook_reordered_is_overtaken(sandbox, store):
    rule(sandbox, "webhook.kinguin", "reordered", args={"seconds": 2})
    order_id = sandbox.order().json["orderId"]
    sandbox.control(f"/orders/{order_id}/deliver")

    assert [body["status"] for body in store.wait(2)] == ["completed", "processing"]


def test_lying_webhook_says_more_than_the_api(sandbox, store):
    rule(sandbox, "webhook.kinguin", "lying")
    rule(sandbox, "webhook.nowpayments", "lying")

    order_id = sandbox.order().json["orderId"]
    payment_id = sandbox.payment(ipn_callback_url=f"{store.url}/ipn").json["payment_id"]

    bodies = store.wait(4)
    assert sorted(body["status"] for body in bodies if "status" in body) == ["completed", "processing"]
    assert sorted(body["payment_status"] for body in bodies if "payment_status" in body) == ["finished", "waiting"]
    assert sandbox.kinguin("GET", f"/v1/order/{order_id}").json["status"] == "processing"
    assert sandbox.nowpayments("GET", f"/payment/{payment_id}").json["payment_status"] == "waiting"


def test_keys_come_one_by_one(start):
    sandbox = start()
    rule(sandbox, "kinguin.delivery", "one_by_one", args={"seconds": 0.05})

    order_id = sandbox.order(qty=3).json["orderId"]

    sandbox.until(lambda: sandbox.kinguin("GET", f"/v1/order/{order_id}").json["status"] == "completed")
    issued = [row["ts"] for row in sandbox.ledger("key_issued")]
    assert len(issued) == 3
    assert all(later - earlier >= 0.05 for earlier, later in zip(issued, issued[1:], strict=False))


def test_supplier_cancels_or_never_delivers(start):
    sandbox = start()
    rule(sandbox, "kinguin.delivery", "cancel", external_id="a")
    rule(sandbox, "kinguin.delivery", "never", external_id="b")

    ids = [sandbox.order(external_id).json["orderId"] for external_id in ("a", "b", "c")]

    sandbox.until(lambda: sandbox.http.get("/control/state").json["jobs"] == 0)
    statuses = [sandbox.kinguin("GET", f"/v1/order/{order_id}").json["status"] for order_id in ids]
    assert statuses == ["canceled", "processing", "completed"]


def test_duplicate_key_repeats_an_earlier_serial(start):
    sandbox = start()
    rule(sandbox, "kinguin.delivery", "key_duplicate", external_id="b")

    for external_id in ("a", "b"):
        sandbox.order(external_id)
        sandbox.until(lambda wanted=external_id: wanted in [row["external_id"] for row in sandbox.ledger("key_issued")])

    first, second = sandbox.http.get("/control/sold").json["sold"]
    assert first["serial"] == second["serial"]
    assert first["key_id"] != second["key_id"]


def test_webhooks_of_one_order_keep_their_order_without_a_fault(start, store):
    sandbox = start(deliver="manual")
    ids = [sandbox.order(f"order-{n}").json["orderId"] for n in range(15)]
    for order_id in ids:
        sandbox.control(f"/orders/{order_id}/deliver")

    bodies = store.wait(30)

    for order_id in ids:
        assert [body["status"] for body in bodies if body["orderId"] == order_id] == ["processing", "completed"]
    # A line is dropped by its own thread, a moment after its last webhook is answered.
    sandbox.until(lambda: sandbox.app._dispatcher._lines == {})
