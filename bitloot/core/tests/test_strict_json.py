import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitloot.core.strict_json import MAX_NUMBER_LENGTH, MalformedJson, dump_json, parse_json, parse_object


@pytest.mark.parametrize(
    ("raw", "document"),
    [
        (b"null", None),
        (b' [1, -2, true, "\\u00e9"] \n', [1, -2, True, "é"]),
        ('{"é":"\U0001f3ae"}'.encode(), {"é": "\U0001f3ae"}),
        (b'{"a":1.50}', {"a": Decimal("1.50")}),
        (b'{"a":1e-7}', {"a": Decimal("1e-7")}),
        (b'{"a":0.123456789012345678901234567890}', {"a": Decimal("0.123456789012345678901234567890")}),
        (b'{"a":90071992547409931234}', {"a": 90071992547409931234}),
        (b'{"":{"a":{}}}', {"": {"a": {}}}),
        (b'"\\ud83c\\udfae"', "\U0001f3ae"),
    ],
)
def test_parse_json_reads_it_exactly(raw, document):
    parsed = parse_json(raw)
    assert parsed == document
    assert repr(parsed) == repr(document)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"{}{}", "not valid JSON"),
        (b"{} x", "not valid JSON"),
        (b"{'a':1}", "not valid JSON"),
        (b'{"a":1,}', "not valid JSON"),
        (b'{"a":01}', "not valid JSON"),
        (b'"\n"', "not valid JSON"),
        (b'"\x00"', "not valid JSON"),
        (b"\xff", "not valid JSON"),
        (b"\xef\xbb\xbf{}", "not valid JSON"),
        ("{}".encode("utf-16"), "not valid JSON"),
        ("{}".encode("utf-32"), "not valid JSON"),
        (b'"\xed\xa0\x80"', "not valid JSON"),
        (b"[" * 200_000, "not valid JSON"),
        (b'{"a":' * 200_000, "not valid JSON"),
        (b'{"a":1,"a":2}', "same member twice"),
        (b'{"a":{"b":1,"b":1}}', "same member twice"),
        (b'{"a":1,"\\u0061":2}', "same member twice"),
        (b"NaN", "NaN and Infinity"),
        (b"[Infinity]", "NaN and Infinity"),
        (b"[-Infinity]", "NaN and Infinity"),
        (b"1e999", "out of range"),
        (b"-1e61", "out of range"),
        (b"1e-61", "out of range"),
        (b"1e999999999999999999999", "out of range"),
        (b"0e9999", "out of range"),
        (b"9" * 65, "too long"),
        (b"9" * 5000, "too long"),
        (b"0." + b"1" * 70, "too long"),
        (b'"\\u0000"', "cannot be stored"),
        (b'{"\\u0000":1}', "cannot be stored"),
        (b'["\\ud800"]', "cannot be stored"),
        (b'{"a":[{"\\udfff":1}]}', "cannot be stored"),
        (b"[" + b"1," * 200 + b"1]", "too many members"),
        (json.dumps({str(n): n for n in range(201)}).encode(), "too many members"),
        (b"[" * 10 + b"]" * 10, "nested too deeply"),
        (b'{"a":' * 9 + b"1" + b"}" * 9, "nested too deeply"),
    ],
)
def test_parse_json_refuses_what_json_loads_lets_pass(raw, why):
    with pytest.raises(MalformedJson, match=why):
        parse_json(raw)


def test_parse_json_limits_are_inclusive_and_can_be_set():
    assert len(parse_json(b"[" + b"1," * 199 + b"1]")) == 200
    assert parse_json(b"9" * MAX_NUMBER_LENGTH) == int("9" * MAX_NUMBER_LENGTH)
    assert parse_json(b'{"a":' * 8 + b"1" + b"}" * 8)
    with pytest.raises(MalformedJson, match="too many members"):
        parse_json(b"[1,2,3]", max_members=2)
    with pytest.raises(MalformedJson, match="nested too deeply"):
        parse_json(b"[[[[]]]]", max_depth=2)


def test_the_message_never_quotes_the_input():
    for raw in (b'{"SECRET":', b'{"SECRET":1,"SECRET":2}', b'"SECRET\\u0000"', b"SECRET"):
        with pytest.raises(MalformedJson) as caught:
            parse_json(raw)
        assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("raw", [b"null", b"[]", b'"x"', b"1", b"true"])
def test_parse_object_wants_an_object(raw):
    with pytest.raises(MalformedJson, match="has to be a JSON object"):
        parse_object(raw)


def test_parse_object_passes_the_limits_on():
    assert parse_object(b'{"a":[1]}', max_depth=2) == {"a": [1]}
    with pytest.raises(MalformedJson):
        parse_object(b'{"a":[1,2]}', max_members=1)


@given(st.binary(max_size=200))
def test_parse_json_raises_nothing_else(raw):
    try:
        parse_json(raw)
    except MalformedJson:
        return


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**60), 10**60)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=10)
    | st.decimals(-(10**6), 10**6, places=4, allow_nan=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc\u00e9", max_size=4), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(VALUES)
def test_what_we_write_reads_as_it_was(document):
    assert parse_json(dump_json(document), max_depth=32) == document


def test_dump_json_is_compact_utf8_with_prices_as_numbers():
    document = {"price": Decimal("14.90"), "name": "é/<", "qty": 2, "text": True, "none": None, "sum": Decimal("0.10")}
    assert dump_json(document) == '{"price":14.9,"name":"é/<","qty":2,"text":true,"none":null,"sum":0.1}'.encode()


@pytest.mark.parametrize("value", [object(), b"x", {1, 2}])
def test_dump_json_refuses_what_json_has_no_word_for(value):
    with pytest.raises(TypeError, match="cannot be sent as JSON"):
        dump_json({"a": value})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), Decimal("NaN"), Decimal("Infinity")])
def test_dump_json_refuses_numbers_that_are_none(value):
    with pytest.raises(ValueError):
        dump_json([value])
