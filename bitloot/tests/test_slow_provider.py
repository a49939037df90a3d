"""A payment provider that takes its time must not keep its own IPNs waiting."""

import hmac
import json
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
import responses
from django.db import connection

from bitloot.tests.services import Sandbox, own_store
from bitloot.tests.shopper import Shopper, bearer
from orders.tests.factories import make_order
from payments import creation
from payments.creation import start_payment
from payments.models import Payment
from payments.tests.factories import created_answer, make_coin, url
from tools.dev.supervise import wait_until

THREADS = 8  # of web, see deploy/systemd/bitloot-web.service


@pytest.fixture
def silent_provider():
    """A provider that answers when it is told to."""
    answer_now = threading.Event()

    def answer(request):
        answer_now.wait(120)
        return 201, {}, json.dumps(created_answer(request.body))

    with responses.RequestsMock(assert_all_requests_are_fired=False) as wire:
        wire.add_callback(responses.POST, url("/payment"), answer)
        yield answer_now
        answer_now.set()


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_three_requests_wait_and_the_others_are_told_that_it_takes_a_while(silent_provider, monkeypatch):
    """Fails if every request waits for the provider: web then has no thread left."""
    monkeypatch.setattr(creation, "CUSTOMER_WAITS", 120)
    make_coin("btc")
    orders = [make_order(email=f"kim{number}@example.org") for number in range(THREADS)]

    def choose(order):
        try:
            return start_payment(order=order, coin="btc").status
        finally:
            connection.close()

    with ThreadPoolExecutor(THREADS) as pool:
        chosen: list[Future[str]] = [pool.submit(choose, order) for order in orders]
        wait_until(lambda: sum(one.done() for one in chosen) == 5, seconds=60, what="five answers")
        assert {one.result() for one in chosen if one.done()} == {"creating"}
        silent_provider.set()
        assert sorted(one.result() for one in chosen) == ["creating"] * 5 + ["waiting"] * 3
    recorded = Payment.objects.filter(status="waiting")
    wait_until(lambda: recorded.count() == THREADS, seconds=60, what="the record of the answers nobody waited for")


@pytest.mark.once
def test_ipn_is_acknowledged_while_web_waits_for_the_provider(tmp_path):
    """Fails if every request waits for the provider: the IPN then waits until the first of them gives up."""
    with own_store(tmp_path) as store:
        shopper = Shopper(store.url)
        placed = [shopper.order() for _ in range(3 * THREADS)]
        shopper.payment(placed[0])  # now there is a list of coins
        sandbox = Sandbox(store.sandbox_url)
        sandbox.fault("nowpayments.payment.create", "slow", args={"seconds": 9}, times=len(placed))
        with ThreadPoolExecutor(len(placed)) as pool:
            answers = [pool.submit(choose_coin, store.url, order) for order in placed]
            wait_until(lambda: sum(one.done() for one in answers) >= len(placed) - 3, seconds=60, what="the answers")
            assert announce(store.url, tmp_path) == 200
            assert [sum(not one.done() for one in answers), len(sandbox.ledger("payment_created"))] == [3, 1]
            assert {one.result() for one in answers} == {202}


def choose_coin(shop, order):
    asked = {"order_id": order["id"], "pay_currency": "ltc"}
    return Shopper(shop).send("POST", "/api/payments/create", json=asked, headers=bearer(order)).status_code


def announce(shop, folder):
    """Send an authentic IPN."""
    body = b'{"payment_id":4870000042,"payment_status":"finished"}'
    secret = read_env(folder / "dev.env")["NOWPAYMENTS_IPN_SECRET"]
    headers = {"x-nowpayments-sig": hmac.new(secret.encode(), body, "sha512").hexdigest()}
    return Shopper(shop).send("POST", "/api/payments/ipn", data=body, headers=headers).status_code


def read_env(path):
    lines = [line for line in path.read_text().splitlines() if "=" in line]
    return dict(line.split("=", 1) for line in lines)
