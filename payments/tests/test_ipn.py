import hashlib
import hmac
import json
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bitloot.core.strict_json import MalformedJson
from payments.ipn import (
    MAX_CANONICAL_BYTES,
    BadSignature,
    IpnHint,
    SignatureNotConfigured,
    event_type_and_id,
    parse_ipn,
    verify_ipn,
)

FIXTURES = Path(__file__).parent / "fixtures"
VECTORS = json.loads((FIXTURES / "ipn_vectors.json").read_text())
SIGNED = json.loads((FIXTURES / "ipn_signatures.json").read_text())
SECRET = "test-ipn-secret-do-not-use-0001"


def sign(text: bytes, secret: str = SECRET) -> str:
    return hmac.new(secret.encode(), text, hashlib.sha512).hexdigest()


def accepted(raw: bytes, header: str | None, secrets: tuple[str, ...] = (SECRET,)) -> bool:
    try:
        verify_ipn(raw, header, secrets)
    except BadSignature:
        return False
    return True


@pytest.mark.parametrize("vector", [v for v in VECTORS if v["valid"] is not False], ids=lambda v: v["name"])
def test_verify_accepts_every_valid_vector(vector):
    assert verify_ipn(vector["raw_body"].encode(), vector["signature"], [vector["secret"]]) is None


@pytest.mark.parametrize("vector", [v for v in VECTORS if v["valid"] is False], ids=lambda v: v["name"])
def test_verify_refuses_every_forged_vector(vector):
    with pytest.raises(SignatureNotConfigured if not vector["secret"] else BadSignature):
        verify_ipn(vector["raw_body"].encode(), vector["signature"], [vector["secret"]])


def test_the_vectors_are_all_here():
    assert [len(VECTORS), sum(v["valid"] is False for v in VECTORS), len(SIGNED["signatures"])] == [31, 7, 28]


@pytest.mark.parametrize("name", SIGNED["signatures"])
def test_verify_accepts_each_recorded_ipn_and_not_its_neighbour(name):
    raw, header = (FIXTURES / name).read_bytes(), SIGNED["signatures"][name]
    assert accepted(raw, header, (SIGNED["secret"],))
    assert not accepted(raw.replace(b'"', b"'", 1), header, (SIGNED["secret"],))
    assert not accepted(raw, header[:-1] + ("0" if header[-1] != "0" else "1"), (SIGNED["secret"],))


BODY = b'{"payment_id":4870000042,"payment_status":"finished"}'


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "0" * 128,
        "0x" + sign(BODY),
        "0x" + sign(BODY)[2:],
        " " + sign(BODY),
        sign(BODY) + "\n",
        sign(BODY)[:-1],
        sign(BODY) + "," + sign(BODY),
        sign(BODY)[:64] + " " + sign(BODY)[64:],
        "٣" * 128,
        "ａ" * 128,
        "\udcff" * 128,
        hashlib.sha512(BODY).hexdigest(),
        hmac.new(SECRET.encode(), BODY, hashlib.sha256).hexdigest(),
        sign(BODY, "another-secret"),
        sign(BODY, ""),
    ],
)
def test_verify_refuses_other_headers(header):
    with pytest.raises(BadSignature):
        verify_ipn(BODY, header, [SECRET])


def test_verify_takes_upper_case_hex():
    verify_ipn(BODY, sign(BODY).upper(), [SECRET])


@pytest.mark.parametrize("secrets", [(), ("",), ("  ", "\n")])
def test_verify_without_a_secret_says_what_to_set(secrets):
    with pytest.raises(SignatureNotConfigured, match="NOWPAYMENTS_IPN_SECRET"):
        verify_ipn(BODY, sign(BODY, ""), secrets)


def test_verify_takes_old_and_new_secret_while_they_are_changed():
    assert accepted(BODY, sign(BODY, "the-old-one"), ("the-new-one", "the-old-one"))
    assert accepted(BODY, sign(BODY, "the-new-one"), ("the-new-one", "the-old-one"))
    assert not accepted(BODY, sign(BODY, "the-old-one"), ("the-new-one",))
    assert not accepted(BODY, sign(BODY, ""), ("the-new-one", ""))


@pytest.mark.parametrize(
    ("wire", "javascript"),
    [
        ("9e-8", "9e-8"),
        ("9e-08", "9e-8"),
        ("0.00000009", "9e-8"),
        ("0.000001", "0.000001"),
        ("1E-7", "1e-7"),
        ("1.50", "1.5"),
        ("20.0", "20"),
        ("-0", "0"),
        ("-0.0", "0"),
        ("-1.5e-10", "-1.5e-10"),
        ("1e21", "1e+21"),
        ("1e20", "100000000000000000000"),
        ("999999999999999999999", "1e+21"),
        ("123456789012345678901", "123456789012345680000"),
        ("9007199254740993", "9007199254740992"),
        ("0.1", "0.1"),
        ("5e-60", "5e-60"),
        ("1.7976931348623157e+60", "1.7976931348623157e+60"),
        ("0.30000000000000004", "0.30000000000000004"),
        ("123e-20", "1.23e-18"),
    ],
)
def test_numbers_are_signed_as_javascript_prints_them(wire, javascript):
    raw = f'{{"pay_amount": {wire}, "a": 1}}'.encode()
    assert accepted(raw, sign(f'{{"a":1,"pay_amount":{javascript}}}'.encode()))
    assert accepted(raw, sign(f'{{"a":1,"pay_amount":{wire}}}'.encode()))


def test_numbers_in_an_array_are_signed_as_javascript_prints_them():
    assert accepted(b'{"a": [1.50]}', sign(b'{"a":[1.5]}'))


def test_members_are_ordered_as_a_javascript_object_keeps_them():
    raw = '{"b":1,"10":2,"9":3,"4294967295":8,"\U0001f3ae":4,"\ufb01":5,"01":6,"_":7}'.encode()
    ordered = '{"9":3,"10":2,"01":6,"4294967295":8,"_":7,"b":1,"\U0001f3ae":4,"\ufb01":5}'.encode()
    assert accepted(raw, sign(ordered))


def test_an_array_index_ends_where_javascripts_does():
    raw = b'{"01":1,"4294967295":2,"4294967294":3,"2147483647":4,"63":5,"100":6}'
    assert accepted(raw, sign(b'{"63":5,"100":6,"2147483647":4,"4294967294":3,"01":1,"4294967295":2}'))


def test_arrays_may_be_signed_as_they_are_or_as_objects():
    raw = b'{"b":[{"y":1,"x":[]},2,3,4,5,6,7,8,9,10,11],"a":null}'
    as_array = b'{"a":null,"b":[{"x":[],"y":1},2,3,4,5,6,7,8,9,10,11]}'
    as_object = b'{"a":null,"b":{"0":{"x":{},"y":1},"1":2,"2":3,"3":4,"4":5,"5":6,"6":7,"7":8,"8":9,"9":10,"10":11}}'
    assert accepted(raw, sign(as_array))
    assert accepted(raw, sign(as_object))


@pytest.mark.parametrize(
    "raw",
    [
        b'{"payment_id":1,"payment_id":1}',
        b'{"payment_id":NaN}',
        b'{"payment_id":1e999}',
        b'{"payment_id":"\\ud800"}',
        b"\xef\xbb\xbf{}",
        b"{}{}",
        b"\xff",
        b"[" * 100_000,
        b'{"payment_id":' + b"9" * 5000 + b"}",
    ],
)
def test_what_is_not_strict_json_counts_only_as_its_own_bytes(raw):
    assert accepted(raw, sign(raw))
    assert not accepted(raw, sign(b'{"payment_id":1}'))


@pytest.mark.parametrize(("size", "is_sorted_too"), [(2048, True), (2049, False)])
def test_a_body_over_the_limit_counts_only_as_its_own_bytes(size, is_sorted_too):
    text = b"x" * (size - len(b'{"b":1,"a":""}'))
    raw = b'{"b":1,"a":"' + text + b'"}'
    assert len(raw) == size
    assert accepted(raw, sign(raw))
    assert accepted(raw, sign(b'{"a":"' + text + b'","b":1}')) is is_sorted_too


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8)
)
BODIES = st.dictionaries(
    st.from_regex(r"[a-zA-Z_]{1,8}", fullmatch=True),
    SCALARS
    | st.lists(SCALARS, max_size=4)
    | st.dictionaries(st.from_regex(r"[a-z]{1,4}", fullmatch=True), SCALARS, max_size=4),
    max_size=8,
)


def canonical(body: object) -> bytes:
    # Sorted by code point, which is right for the ASCII members drawn here.
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


@given(BODIES, st.booleans(), st.integers(0, 4))
def test_any_writing_of_a_body_passes_with_its_canonical_signature(body, ascii_only, indent):
    raw = json.dumps(body, ensure_ascii=ascii_only, indent=indent or None).encode()
    assume(len(raw) <= MAX_CANONICAL_BYTES)
    assert accepted(raw, sign(canonical(body)))


@given(BODIES, BODIES)
def test_a_body_with_another_meaning_never_passes(signed, sent):
    # An array of a body reads as the object of its indices, so compare meanings in that form.
    def meaning(value):
        if isinstance(value, list):
            return {str(index): meaning(item) for index, item in enumerate(value)}
        if isinstance(value, dict):
            return {name: meaning(item) for name, item in value.items()}
        return repr(value)

    if meaning(signed) != meaning(sent):
        assert not accepted(json.dumps(sent).encode(), sign(canonical(signed)))


@given(st.data())
def test_any_change_of_one_byte_in_body_or_signature_is_refused(data):
    raw = (FIXTURES / "ipn_finished.json").read_bytes()
    header = SIGNED["signatures"]["ipn_finished.json"]
    assert accepted(raw, header, (SIGNED["secret"],))
    at = data.draw(st.integers(0, len(raw) - 1))
    changed = raw[:at] + bytes([data.draw(st.integers(0, 255).filter(lambda b: b != raw[at]))]) + raw[at + 1 :]
    assert not accepted(changed, header, (SIGNED["secret"],))
    at = data.draw(st.integers(0, 127))
    digit = data.draw(st.sampled_from("0123456789abcdef").filter(lambda d: d != header[at]))
    assert not accepted(raw, header[:at] + digit + header[at + 1 :], (SIGNED["secret"],))


def test_parse_reads_the_hint():
    assert parse_ipn((FIXTURES / "ipn_finished.json").read_bytes()) == IpnHint(
        payment_id="4870000042", status="finished", order_id="GK-2026-000042", parent_payment_id=""
    )
    assert parse_ipn((FIXTURES / "ipn_all_strings.json").read_bytes()) == parse_ipn(
        (FIXTURES / "ipn_finished.json").read_bytes()
    )
    assert parse_ipn((FIXTURES / "ipn_null_order_id.json").read_bytes()).order_id == ""
    assert parse_ipn((FIXTURES / "ipn_repeated_deposit_child.json").read_bytes()).parent_payment_id == "4870000042"
    assert parse_ipn((FIXTURES / "ipn_payout.json").read_bytes()) == IpnHint("", "FINISHED", "", "")


@pytest.mark.parametrize(
    "none", ["null", '""', "0", '"0"', "[]", "false", '"null"', '"None"', "-1", "1.5", "0.0", "1" * 20]
)
def test_parse_takes_every_way_of_saying_that_there_is_no_parent(none):
    assert parse_ipn(b'{"payment_id":1,"parent_payment_id":%s}' % none.encode()).parent_payment_id == ""


@pytest.mark.parametrize("bad", ["-1", "1.5", "true", "null", "[]", "{}", '""', '"1_0"', '"٣"', '"1 "', "1" * 20])
def test_parse_refuses_a_payment_id_that_is_none(bad):
    raw = f'{{"payment_id":{bad},"payment_status":"finished"}}'.encode()
    with pytest.raises(MalformedJson):
        parse_ipn(raw)
    assert event_type_and_id(json.loads(raw)) == ("malformed", "")


@pytest.mark.parametrize("raw", [b"", b"null", b"[]", b"1", b'"x"', b"{", b"{}", b'{"order_id":"x"}', b"payment_id=1"])
def test_parse_refuses_what_is_no_ipn(raw):
    with pytest.raises(ValueError):
        parse_ipn(raw)


@pytest.mark.parametrize("body", [{}, {"order_id": "x"}])
def test_event_type_and_id_of_what_is_no_ipn(body):
    assert event_type_and_id(body) == ("malformed", "")


@pytest.mark.parametrize(
    ("raw", "filed"),
    [
        (b'{"payment_id":5077125051,"payment_status":"finished"}', ("finished", "5077125051")),
        (b'{"payment_id":"5077125051","payment_status":"hacked"}', ("hacked", "5077125051")),
        (b'{"payment_id":5077125051,"payment_status":7}', ("unknown", "5077125051")),
        (b'{"payment_id":5077125051,"payment_status":null}', ("unknown", "5077125051")),
        (b'{"payment_id":5077125051,"payment_status":"a\\nb"}', ("unknown", "5077125051")),
        (b'{"payment_id":5077125051,"payment_status":"%s"}' % (b"x" * 41), ("unknown", "5077125051")),
        (b'{"payment_id":5077125051,"payment_status":"finished","id":"5001234567"}', ("finished", "5077125051")),
        (b'{"id":"5001234567","batch_withdrawal_id":"5","status":"FINISHED"}', ("payout", "5001234567")),
        (b'{"id":["x"],"status":"FINISHED"}', ("payout", "")),
        (b'{"batch_withdrawal_id":"5"}', ("payout", "")),
    ],
)
def test_event_type_and_id_file_a_body(raw, filed):
    assert event_type_and_id(json.loads(raw)) == filed


@given(BODIES)
def test_event_type_and_id_never_raises(body):
    kind, event_id = event_type_and_id(body)
    assert len(kind) <= 40
    assert len(event_id) <= 40
