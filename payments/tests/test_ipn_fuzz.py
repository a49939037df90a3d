"""Nobody without the secret gets anything stored, and nobody with it gets a 5xx out."""

import hashlib
import hmac
import json
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection
from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from hypothesis import strategies as st

from orders.models import Alert, Order
from payments.models import Payment
from tools.dev.testenv import PROFILE
from webhooks.models import WebhookLog
from webhooks.tasks import drain_webhooks

pytestmark = [pytest.mark.django_db, pytest.mark.once, pytest.mark.timeout(3600)]

NIGHTLY = PROFILE == "nightly"
FORGERIES = 100_000 if NIGHTLY else 1000
GARBAGE = 5000 if NIGHTLY else 150
URLS = ("/api/payments/ipn", "/api/webhooks/nowpayments")
FIXTURES = Path(__file__).parent / "fixtures"
BODIES = [
    FIXTURES.joinpath(name).read_bytes()
    for name in ("ipn_finished.json", "ipn_partially_paid.json", "ipn_all_strings.json", "ipn_payout.json")
]
SHARED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]


def mac(raw, secret=None, digest=hashlib.sha512):
    return hmac.new((secret or settings.NOWPAYMENTS_IPN_SECRET[0]).encode(), raw, digest).hexdigest()


def post(client, raw, header, url=URLS[0], **headers):
    sent = {**headers, **({} if header is None else {"x-nowpayments-sig": header})}
    return client.post(url, raw, content_type="application/json", headers=sent)


def no_database(execute, sql, params, many, context):
    raise AssertionError(f"a request without a valid signature reached the database: {sql}")


def meaning(raw):
    """Return what the bytes say; None for what is not JSON. Two bodies that say the same may share a signature."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


# Changes to a body that was signed, each leaving the signature as it was.
positions = st.integers(0, 2000)
edits = st.one_of(
    st.tuples(st.just("flip"), positions, st.integers(1, 255)),
    st.tuples(st.just("cut"), positions, st.integers(1, 40)),
    st.tuples(st.just("insert"), positions, st.binary(min_size=1, max_size=20)),
    st.tuples(st.just("repeat"), positions, st.integers(1, 60)),
    st.tuples(st.just("digit"), positions, st.sampled_from(b"0123456789.eE+-")),
    st.tuples(st.just("append"), positions, st.sampled_from([b"{}", b" x", b"\x00", b"\xff", b"]", b"\xef\xbb\xbf"])),
    st.tuples(
        st.just("member"),
        st.just(0),
        st.sampled_from(
            [b'"payment_status":"finished",', b'"order_id":"x",', b'"__proto__":{},', b'"actually_paid":1e999,']
        ),
    ),
)


def edited(raw, edit):
    kind, at, what = edit
    at = at % len(raw)
    if kind == "flip":
        return raw[:at] + bytes([raw[at] ^ what]) + raw[at + 1 :]
    if kind == "digit":
        places = [index for index, byte in enumerate(raw) if chr(byte).isdigit()]
        at = places[at % len(places)]
        return raw[:at] + bytes([what]) + raw[at + 1 :]
    if kind == "member":
        return b"{" + what + raw[1:]
    return {
        "cut": lambda: raw[:at] + raw[at + what :],
        "insert": lambda: raw[:at] + what + raw[at:],
        "repeat": lambda: raw[: at + what] + raw[at:],
        "append": lambda: raw + what,
    }[kind]()


def no_signature(raw):
    """Return strategies for headers that nobody with the secret would have sent over this body."""
    right = mac(raw)
    places = st.integers(0, 127)
    other_digit = st.builds(
        lambda at, digit: right[:at] + (digit if digit != right[at] else "0f"[digit == "0"]) + right[at + 1 :],
        places,
        st.sampled_from("0123456789abcdef"),
    )
    return st.one_of(
        st.none(),
        other_digit,
        st.sampled_from(
            [
                "", "0" * 128, right[:-1], right + "0", f"0x{right}", f" {right[:-1]}", f"sha512={right}", right[::-1],
                mac(raw, "wrong-secret"), mac(raw, digest=hashlib.sha256), mac(raw + b"\n"), mac(b""),
                hashlib.sha512(raw).hexdigest(), f"{right},{right}",
            ]
        ),
        st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=255), max_size=140),
    )  # fmt: skip


cases = st.one_of(
    st.sampled_from(BODIES).flatmap(lambda raw: st.tuples(st.just(raw), no_signature(raw))),
    st.tuples(st.sampled_from(BODIES), st.lists(edits, min_size=1, max_size=4)).map(
        lambda pair: (_edited_by_all(*pair), mac(pair[0]))
    ),
    st.binary(max_size=300).flatmap(lambda raw: st.tuples(st.just(raw), no_signature(raw))),
)


def _edited_by_all(raw, changes):
    for change in changes:
        raw = edited(raw, change) or b"{"
    return raw


def is_signed(raw, header):
    """Whether the header fits, perhaps because other bytes mean the same."""
    signed = [body for body in (raw, *BODIES) if header is not None and header.lower() == mac(body)]
    return raw in signed or any(meaning(raw) == meaning(body) for body in signed)


def test_nothing_is_stored_or_asked_without_a_valid_signature(client):
    forgeries = []

    @effort(max_examples=FORGERIES, deadline=None, suppress_health_check=SHARED)
    @given(case=cases, url=st.sampled_from(URLS), address=st.sampled_from(["51.89.194.21", "10.0.0.1"]))
    def forge(case, url, address):
        raw, header = case
        if is_signed(raw, header):
            return
        with connection.execute_wrapper(no_database):
            answer = post(client, raw, header, url, X_Forwarded_For=address)
        assert answer.status_code == 401
        assert answer.content == b""
        forgeries.append(1)

    forge()
    assert len(forgeries) >= FORGERIES * 0.8
    assert not WebhookLog.objects.exists()
    assert not Alert.objects.exists()


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**25), 10**25)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=30)
    | st.sampled_from(["", "0", "NaN", "finished", "4870000042", "\x00", "٣", "' OR 1=1--", "{{7*7}}"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=8,
)
names = st.sampled_from(
    ["payment_id", "payment_status", "order_id", "parent_payment_id", "id", "batch_withdrawal_id", "fee", "updated_at"]
)
authentic = st.one_of(
    st.dictionaries(names, anything, max_size=8).map(lambda body: json.dumps(body).encode()),
    anything.map(lambda body: json.dumps(body).encode()),
    st.tuples(st.sampled_from(BODIES), st.lists(edits, max_size=3)).map(lambda pair: _edited_by_all(*pair)),
    st.binary(max_size=300),
)


def test_what_is_signed_is_never_an_error_of_ours(client):
    @effort(max_examples=GARBAGE, deadline=None, suppress_health_check=SHARED)
    @given(raw=authentic)
    def send(raw):
        WebhookLog.objects.all().delete()
        answer = post(client, raw, mac(raw))
        assert answer.status_code in (200, 400)
        assert WebhookLog.objects.count() == (answer.status_code == 200)
        if answer.status_code == 200:
            assert bytes(WebhookLog.objects.get().body) == raw
            assert post(client, raw, mac(raw).upper()).status_code == 200
            drain_webhooks()
            log = WebhookLog.objects.get()
            assert (log.status, log.repeats) == ("ignored", 1)

    send()
    assert not Payment.objects.exists()
    assert not Order.objects.exists()


@pytest.mark.parametrize("length", [64 * 1024, 64 * 1024 + 1, 300 * 1024])
def test_size_is_bounded_before_anything_is_computed(client, length):
    raw = b'{"payment_id":1,"x":"' + b"x" * (length - 23) + b'"}'
    with connection.execute_wrapper(no_database):
        answer = post(client, raw, "0" * 128)
    assert answer.status_code == (401 if length <= 64 * 1024 else 413)
