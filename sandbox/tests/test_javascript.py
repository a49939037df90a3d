import hashlib
import hmac
import json
from decimal import Decimal

import pytest

from sandbox import javascript
from sandbox.tests.conftest import fixture


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        (0, "0"),
        (-0.0, "0"),
        (13.0, "13"),
        (Decimal("1.50"), "1.5"),
        (-7.49, "-7.49"),
        (0.000083, "0.000083"),
        (1e-6, "0.000001"),
        (1e-7, "1e-7"),
        (1.5e-7, "1.5e-7"),
        (123456789012345680000, "123456789012345680000"),
        (2**53 + 1, "9007199254740992"),
        (1e21, "1e+21"),
        (1.5e21, "1.5e+21"),
        (Decimal("0.1000000000000000055511151231257827"), "0.1"),
        (float("inf"), "null"),
    ],
)
def test_number_is_printed_as_javascript_does(value, printed):
    assert javascript.number(value) == printed


def test_stringify_sorts_at_every_depth_and_leaves_text_unescaped():
    value = {"b": [{"z": None, "a": True}], "a": {"10": 1, "2": 'é/"<\n\u2028', "Z": False, "_": "😀"}}

    printed = javascript.stringify(value, sort=True)

    assert printed == '{"a":{"2":"é/\\"<\\n\u2028","10":1,"Z":false,"_":"😀"},"b":[{"a":true,"z":null}]}'


def test_stringify_escapes_a_lone_surrogate():
    assert javascript.stringify({"é": "\ud83d"}) == '{"é":"\\ud83d"}'


def test_sign_covers_the_exact_sorted_bytes():
    body = {"payment_status": "finished", "fee": {"depositFee": 0.0000231, "currency": "eth"}, "actually_paid": 13.0}

    raw, signature = javascript.sign(body, " secret\n")

    expected = b'{"actually_paid":13,"fee":{"currency":"eth","depositFee":0.0000231},"payment_status":"finished"}'
    assert raw == expected
    assert signature == hmac.new(b"secret", expected, hashlib.sha512).hexdigest()


@pytest.mark.parametrize("vector", fixture("ipn_vectors.json"), ids=lambda vector: vector["name"])
def test_sign_agrees_with_the_published_vectors(vector):
    assert javascript.sign(json.loads(vector["raw_body"]), vector["secret"])[1] == vector["signature"]
