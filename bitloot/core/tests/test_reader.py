from datetime import UTC, datetime
from decimal import Decimal

import pytest

from bitloot.core.providers import ProviderUnavailable
from bitloot.core.reader import MAX_AMOUNT, Fields


def fields(**members):
    return Fields(members, what="answer")


@pytest.mark.parametrize("document", [None, [], "x", 1, True])
def test_a_document_has_to_be_an_object(document):
    with pytest.raises(ProviderUnavailable, match="answer is not a JSON object"):
        Fields(document, what="answer")


@pytest.mark.parametrize(
    ("reader", "value", "result"),
    [
        ("text", "x", "x"),
        ("text", "é" * 512, "é" * 512),
        ("optional_text", "x", "x"),
        ("optional_text", "", ""),
        ("optional_text", None, ""),
        ("digits", 7, "7"),
        ("digits", "007", "007"),
        ("digits", "9" * 19, "9" * 19),
        ("optional_digits", 7, "7"),
        ("optional_digits", "0", ""),
        ("optional_digits", 0, ""),
        ("optional_digits", "", ""),
        ("optional_digits", None, ""),
        ("amount", 0, Decimal(0)),
        ("amount", 12, Decimal(12)),
        ("amount", Decimal("1E-8"), Decimal("1E-8")),
        ("amount", "0.10", Decimal("0.10")),
        ("amount", "1.5e-7", Decimal("1.5e-7")),
        ("optional_amount", None, None),
        ("optional_amount", "2", Decimal(2)),
        ("count", -3, -3),
        ("items", None, []),
        ("items", [1, "x"], [1, "x"]),
        ("raw", {"a": 1}, {"a": 1}),
        ("moment", "2026-03-02T10:00:00.742Z", datetime(2026, 3, 2, 10, 0, 0, 742000, tzinfo=UTC)),
        ("moment", "2026-03-02T12:00:00+02:00", datetime(2026, 3, 2, 10, tzinfo=UTC)),
        ("moment", 1772445553404, datetime(2026, 3, 2, 9, 59, 13, 404000, tzinfo=UTC)),
        ("moment", "2026-03-02T12:00:00", None),
        ("moment", "yesterday", None),
        ("moment", 10**40, None),
        ("moment", "0001-01-01T00:00:00+14:00", None),
        ("moment", "9999-12-31T23:59:59-14:00", None),
        ("moment", True, None),
        ("moment", None, None),
        ("moment", [], None),
    ],
)
def test_a_reader_returns(reader, value, result):
    assert getattr(fields(member=value), reader)("member") == result


@pytest.mark.parametrize(
    ("reader", "value"),
    [
        *[("text", value) for value in (None, "", 7, True, [], {}, "x" * 513)],
        *[("optional_text", value) for value in (7, False, [], "x" * 513)],
        *[("digits", value) for value in (None, "", -1, True, Decimal("1.5"), "1.5", "1_0", "٣", " 1", "9" * 20, [])],
        *[("optional_digits", value) for value in (-1, True, "x", [], "9" * 20)],
        *[
            ("amount", value)
            for value in (None, "", -1, Decimal(-1), "-1", True, "1_000", "٣", "NaN", "0x1", " 1", "1,5")
        ],
        *[
            ("amount", value)
            for value in (".5", "5.", "1e999", str(MAX_AMOUNT), MAX_AMOUNT, 10**39, "1" * 41, [], {}, Decimal("NaN"))
        ],
        *[("optional_amount", value) for value in ("", -1, False)],
        *[("count", value) for value in (None, "1", True, Decimal(1), 10**9 + 1)],
        *[("items", value) for value in ({}, "x", 7, False)],
    ],
)
def test_a_reader_refuses_and_names_the_member_only(reader, value):
    with pytest.raises(ProviderUnavailable) as caught:
        getattr(fields(member=value), reader)("member")
    assert str(caught.value) == "answer: member is missing or not what was expected"


def test_a_flag_may_be_missing_but_not_odd():
    assert fields().flag("member", default=True) is True
    assert fields(member=False).flag("member", default=True) is False
    for odd in (None, 0, "true"):
        with pytest.raises(ProviderUnavailable):
            fields(member=odd).flag("member", default=True)


def test_null_counts_as_missing():
    assert "member" not in fields(member=None)
    assert "member" in fields(member=0)
