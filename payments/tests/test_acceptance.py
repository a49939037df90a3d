import dataclasses
import uuid
from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from orders.models import Order
from payments.acceptance import binding_objection, brings_more, exceeds, is_late, objection
from payments.models import Payment
from payments.nowpayments import UNIT, ProviderStatus
from payments.tests.factories import ASKED, make_facts

TOLERANCE = Decimal("0.005")
# Not random: they are part of the tests' names.
ORDER = Order(id=uuid.UUID("5e0a3c39-7a3d-4b0e-9f55-0d8f6a1c2b3d"), total=Decimal("24.99"), currency="EUR")
OTHER = Order(id=uuid.UUID("6f1b4d4a-8b4e-4c1f-8a66-1e9a7b2d3c4e"))


def payment(**fields):
    return Payment(
        **{
            "order": ORDER,
            "external_id": "5077125051",
            "price_amount": Decimal("24.99"),
            "price_currency": "eur",
            "pay_currency": "btc",
            "pay_amount": ASKED,
            **fields,
        }
    )


def judge(own=None, tolerance=TOLERANCE, **changes):
    mine = payment(**(own or {}))
    return objection(mine, make_facts(payment(), **changes), tolerance=tolerance)


def test_a_payment_that_is_right_in_everything_pays():
    assert judge() is None


MUTATED = {
    "payment_id": (
        "other_payment",
        ["", "0", "5077125052", "507712505", "50771250510", " 5077125051", "5077125051 ", "05077125051", "-1", "x"],
    ),
    "status": ("not_finished", [status for status in ProviderStatus if status is not ProviderStatus.FINISHED]),
    "order_id": (
        "other_order",
        [
            *("", "GK-1", str(ORDER.id).upper(), ORDER.id.hex, f" {ORDER.id}", f"{ORDER.id} ", str(ORDER.id)[:-1]),
            *(str(OTHER.id), "None", f"{{{ORDER.id}}}"),
        ],
    ),
    "parent_payment_id": (
        "child_payment",
        ["1", "0123", "5077125051", "x", " ", "null", "None", "-1", "9" * 19, "00"],
    ),
    "price_amount": (
        "other_price",
        [Decimal(text) for text in ("24.98", "25.00", "0", "0.01", "-24.99", "24.990001", "2499", "NaN", "Infinity")],
    ),
    "price_currency": ("other_price_currency", ["usd", "", "EUR ", "eurc", "eu", "gbp", "btc", "e", "€", "euro"]),
    "pay_currency": ("other_coin", ["eth", "", "BTC", "btc ", "btcln", "bt", "usdttrc20", "bch", "b", "xbt"]),
    "actually_paid": (
        None,
        [Decimal(text) for text in ("0", "-1", "NaN", "Infinity", "-Infinity", "1E-18", "-0.0012345", "0.00122")],
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, (_, values) in MUTATED.items() for value in values]
)
def test_one_field_that_differs_pays_nothing(name, value):
    reason = judge(**{name: value}) if name != "status" else _with_status(value)
    assert reason
    expected = MUTATED[name][0]
    if expected:
        assert reason == expected


def _with_status(status):
    facts = dataclasses.replace(make_facts(payment()), status=status)
    return objection(payment(), facts, tolerance=TOLERANCE)


OWN = {
    "external_id": ("other_payment", [None, "", "5077125052"]),
    "order": ("other_order", [OTHER]),
    "parent_external_id": ("not_created_by_us", ["1", "unbound"]),
    "price_amount": ("other_price", [Decimal("24.98"), Decimal(0)]),
    "price_currency": ("other_price_currency", ["usd", ""]),
    "pay_currency": ("other_coin", ["eth", ""]),
    "pay_amount": ("no_amount", [None, Decimal(0), Decimal(-1)]),
}


@pytest.mark.parametrize(
    ("name", "value", "reason"), [(name, value, reason) for name, (reason, values) in OWN.items() for value in values]
)
def test_a_row_of_ours_that_differs_is_paid_by_nothing(name, value, reason):
    assert judge({name: value}) == reason


@pytest.mark.parametrize(
    ("paid", "tolerance", "reason"),
    [
        ("0.0012345", "0", None),
        ("0.0012344999", "0", "too_little"),
        ("0.0012283275", "0.005", None),
        ("0.0012283274", "0.005", "too_little"),
        ("0.001172775", "0.05", None),
        ("0.0011727749", "0.05", "too_little"),
        ("0.0012345000000000001", "0", None),
        ("99999999", "0", None),
        ("0", "0.05", "nothing_paid"),
        ("-0.0012345", "0.05", "nothing_paid"),
        ("NaN", "0.05", "no_amount"),
        ("Infinity", "0.05", "no_amount"),
    ],
)
def test_the_tolerance_is_exact(paid, tolerance, reason):
    assert judge(tolerance=Decimal(tolerance), actually_paid=Decimal(paid)) == reason


def test_upper_case_in_our_own_row_is_no_difference():
    assert judge({"price_currency": "EUR"}) is None


def test_the_binding_is_judged_whatever_the_status():
    assert binding_objection(payment(), make_facts(payment(), "partially_paid")) is None
    assert binding_objection(payment(), make_facts(payment(), "waiting", order_id="x")) == "other_order"


@pytest.mark.parametrize("nameless", ["", None])
def test_a_payment_that_the_provider_has_not_named_is_not_found_in_a_nameless_answer(nameless):
    assert judge({"external_id": nameless}, payment_id=nameless) == "other_payment"


def test_the_first_reason_names_what_is_most_wrong():
    assert judge(payment_id="1", parent_payment_id="2", order_id="x", actually_paid=Decimal(0)) == "other_payment"
    assert judge(parent_payment_id="2", order_id="x") == "child_payment"
    assert judge(price_amount=Decimal(1), actually_paid=Decimal(0)) == "other_price"


NOW = timezone.now()
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("before", "now", "more"),
    [("0", "0.0004", False), ("0.0001", "0.0004", True), ("0.0004", "0.0004", False), ("0.0004", "0.0001", False)],
)
def test_further_coins_are_those_that_come_after_some(before, now, more):
    own = payment(actually_paid=Decimal(before))
    assert brings_more(own, make_facts(own, actually_paid=Decimal(now))) is more


@pytest.mark.parametrize(
    ("ended", "seen", "before", "late"),
    [
        (NOW + HOUR, None, "0", False),
        (NOW - HOUR, None, "0", True),
        (NOW - HOUR, NOW - 2 * HOUR, "0", False),
        (NOW - HOUR, NOW - HOUR, "0", False),  # at the very end
        (NOW - 2 * HOUR, NOW - HOUR, "0", True),
        (NOW - HOUR, NOW - 2 * HOUR, "0.0004", False),  # nothing came since
        (NOW - HOUR, NOW - 2 * HOUR, "0.0001", True),  # some came in time, and more just now
        (NOW + HOUR, NOW - 2 * HOUR, "0.0001", False),
    ],
)
def test_coins_are_late_if_the_last_of_them_came_after_the_quote(ended, seen, before, late):
    own = payment(expires_at=ended, coins_seen_at=seen, actually_paid=Decimal(before))
    assert is_late(own, make_facts(own, actually_paid=Decimal("0.0004"))) is late


def test_the_last_digit_that_a_database_keeps_is_no_more_coins():
    assert [exceeds(units * UNIT, Decimal(0)) for units in (1, 2)] == [False, True]
