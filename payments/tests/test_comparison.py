import uuid
from decimal import Decimal

import pytest

from orders.models import Order
from payments.comparison import compare
from payments.models import Payment

ORDER = str(uuid.UUID(int=7))
AGREES = {
    "order": (ORDER, ORDER, ""),
    "price": ("24.99 EUR", "24.99 EUR", ""),
    "asked": ("0.001 BTC", "0.001 BTC", ""),
    "arrived": ("0.001 BTC", "0.001 BTC", ""),
    "state": ("finished", "finished", ""),
    "payment it belongs to": ("–", "–", ""),
}
SAID = {
    "order_id": ORDER, "price": "24.99 eur", "asked": "0.001 btc", "paid": "0.001", "status": "finished", "parent": "",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _tolerance(settings):
    settings.PAYMENT_TOLERANCE = Decimal("0.005")


def lines(said, **fields):
    """Compare a payment of 24.99 EUR for which 0.001 BTC were asked with what the provider said of it."""
    ours = {
        "order": Order(pk=ORDER), "status": "finished", "price_amount": Decimal("24.99"), "price_currency": "EUR",
        "pay_currency": "btc", "pay_amount": Decimal("0.00100"), "actually_paid": Decimal("0.001"),
    }  # fmt: skip
    compared = compare(Payment(**{**ours, **fields}, evidence=said))
    return {line.what: (line.ours, line.theirs, line.differs) for line in compared}


def arrived(coins):
    """What a re-read leaves when so many coins have come: on our row, and in the provider's words."""
    return {"actually_paid": Decimal(coins)}, {"paid": coins}


@pytest.mark.parametrize(
    ("fields", "said", "differences"),
    [
        pytest.param({}, {}, {}, id="agrees"),
        pytest.param({"status": "review"}, {}, {"state": ("review", "finished", "")}, id="finished-and-in-review"),
        pytest.param(
            {}, {"status": "partially_paid"}, {"state": ("finished", "partially paid", "not finished")}, id="unfinished"
        ),
        pytest.param(
            *arrived("0.00098765"), {"arrived": ("0.001 BTC", "0.00098765 BTC", "too little: 98.8%")}, id="too-little"
        ),
        pytest.param(*arrived("0.000995"), {"arrived": ("0.001 BTC", "0.000995 BTC", "")}, id="just-enough"),
        pytest.param(*arrived("0.001005"), {"arrived": ("0.001 BTC", "0.001005 BTC", "")}, id="hardly-more"),
        pytest.param(*arrived("0.00125"), {"arrived": ("0.001 BTC", "0.00125 BTC", "too much: 125.0%")}, id="too-much"),
        pytest.param(*arrived("0"), {"arrived": ("0.001 BTC", "0 BTC", "too little: 0.0%")}, id="nothing-arrived"),
        pytest.param(
            {"pay_amount": None},
            {},
            {
                "asked": ("–", "0.001 BTC", "differs"),
                "arrived": ("–", "0.001 BTC", "nothing to compare it with"),
            },
            id="no-amount-of-ours",
        ),
        pytest.param(
            {"pay_amount": Decimal(0)},
            {"asked": "0 btc"},
            {
                "asked": ("0 BTC", "0 BTC", ""),
                "arrived": ("0 BTC", "0.001 BTC", "nothing to compare it with"),
            },
            id="asked-for-nothing",
        ),
        pytest.param(
            {"parent_external_id": "4"},
            {"parent": "4"},
            {"payment it belongs to": ("4", "4", "a child of another payment")},
            id="child-payment",
        ),
        pytest.param(
            {},
            {"parent": "4"},
            {"payment it belongs to": ("–", "4", "a child of another payment")},
            id="child-payment-unknown-to-us",
        ),
        pytest.param({}, {"order_id": "another"}, {"order": (ORDER, "another", "differs")}, id="other-order"),
        pytest.param({}, {"price": "9.99 eur"}, {"price": ("24.99 EUR", "9.99 EUR", "differs")}, id="other-price"),
        pytest.param(
            {},
            {"asked": "0.001 eth"},
            {"asked": ("0.001 BTC", "0.001 ETH", "differs"), "arrived": ("0.001 BTC", "0.001 ETH", "")},
            id="other-coin",
        ),
    ],
)
def test_what_differs_is_said_in_words(fields, said, differences):
    assert lines({**SAID, **said}, **fields) == {**AGREES, **differences}


@pytest.mark.parametrize(
    ("said", "arrived", "state"),
    [({"status": "waiting"}, "", "waiting"), ({"paid": "0.001"}, "0.001", "")],
)
def test_what_the_answer_left_out_counts_as_different(said, arrived, state):
    assert lines(said) == {
        "order": (ORDER, "–", "differs"),
        "price": ("24.99 EUR", "–", "differs"),
        "asked": ("0.001 BTC", "–", "differs"),
        "arrived": ("0.001 BTC", arrived, ""),
        "state": ("finished", state, "not finished"),
        "payment it belongs to": ("–", "–", ""),
    }


def test_before_any_reading_there_is_nothing_to_compare():
    assert lines({}) == {}


def test_the_lines_stand_in_the_order_in_which_staff_check_them():
    assert list(lines(SAID)) == list(AGREES)
