from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitloot.core.money import cents, plain


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("1E-8", "0.00000001"),
        ("1.50", "1.5"),
        ("100", "100"),
        ("1E+3", "1000"),
        ("0.000", "0"),
        ("0", "0"),
        ("-1.10", "-1.1"),
    ],
)
def test_plain_writes_an_amount_in_full(amount, text):
    assert plain(Decimal(amount)) == text


@given(st.decimals(allow_nan=False, allow_infinity=False, places=18, min_value=0, max_value=10**20))
def test_plain_loses_nothing(amount):
    assert Decimal(plain(amount)) == amount
    assert "E" not in plain(amount)


@pytest.mark.parametrize(
    ("amount", "rounded"), [("19.995", "20.00"), ("19.994", "19.99"), ("0.005", "0.01"), ("0.1", "0.10"), ("2", "2.00")]
)
def test_cents_round_half_up(amount, rounded):
    assert str(cents(Decimal(amount))) == rounded
