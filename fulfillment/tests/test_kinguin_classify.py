import pytest
import responses

from bitloot.core.providers import ProviderNotSent, ProviderRejected, ProviderUnavailable, Transport
from fulfillment.kinguin import EcommerceClient, KinguinRejected, Outcome, classify
from fulfillment.tests.kinguin_wire import BASE, EXTERNAL_ID, FIXTURES, NO_ANSWER, PRODUCT_ID, recorded

PURCHASE = {
    "external_id": EXTERNAL_ID,
    "product_id": PRODUCT_ID,
    "offer_id": "",
    "quantity": 1,
    "price": 5,
    "text_only": True,
}
TABLE = {
    "error_authorization_401": Outcome.REFUSED_CONFIG,
    "error_constraint_violation_duplicate_product_400": Outcome.REFUSED_OTHER,
    "error_constraint_violation_qty_400": Outcome.REFUSED_OTHER,
    "error_duplicate_external_id_400_ASSUMED": Outcome.DUPLICATE,
    "error_duplicate_external_id_409_ASSUMED": Outcome.DUPLICATE,
    "error_duplicate_external_id_422_ASSUMED": Outcome.DUPLICATE,
    "error_insufficient_balance_STATUS_ASSUMED": Outcome.REFUSED_FUNDS,
    "error_internal_500": Outcome.UNKNOWN,
    "error_no_keys_to_return_STATUS_ASSUMED": Outcome.UNKNOWN,
    "error_order_failed_422": Outcome.UNKNOWN,
    "error_order_not_found_STATUS_ASSUMED": Outcome.UNKNOWN,
    "error_preorder_STATUS_ASSUMED": Outcome.REFUSED_STOCK,
    "error_product_not_found_404": Outcome.UNKNOWN,
    "error_product_unavailable_STATUS_ASSUMED": Outcome.REFUSED_STOCK,
    "error_rate_limited_429_ASSUMED": Outcome.UNKNOWN,
    "error_resource_lock_STATUS_ASSUMED": Outcome.UNKNOWN,
}


def outcome_of(status, **answer):
    client = EcommerceClient(Transport(provider="kinguin", base_url=BASE, headers={}))
    with responses.RequestsMock() as wire:
        wire.post(f"{BASE}/v2/order", status=status, **answer)
        with pytest.raises((ProviderRejected, ProviderUnavailable)) as caught:
            client.reserve(**PURCHASE)
        # Threads that an earlier test has left asking for stock meet this wire, too.
        assert len([call for call in wire.calls if call.request.method == "POST"]) == 1
    assert caught.value.body == b""
    return classify(caught.value)


def test_the_table_judges_every_recorded_error():
    assert set(TABLE) == {path.stem for path in FIXTURES.glob("error_*.json")}


@pytest.mark.parametrize("name", TABLE)
def test_a_recorded_error_proves_this(name):
    body = recorded(name)
    assert outcome_of(body["status"], json=body) is TABLE[name]


# Whichever status these kinds come with: the documentation does not say.
@pytest.mark.parametrize("status", [400, 402, 409, 422])
@pytest.mark.parametrize(
    ("kind", "outcome"),
    [
        ("Authentication", Outcome.REFUSED_CONFIG),
        ("InsufficientBalance", Outcome.REFUSED_FUNDS),
        ("ProductUnavailable", Outcome.REFUSED_STOCK),
        ("Preorder", Outcome.REFUSED_STOCK),
        ("OrderNotSupported", Outcome.REFUSED_STOCK),
        ("ConstraintViolation", Outcome.REFUSED_OTHER),
        ("OrderFailed", Outcome.UNKNOWN),
        ("ResourceLock", Outcome.UNKNOWN),
        ("HttpClient", Outcome.UNKNOWN),
        ("Error", Outcome.UNKNOWN),
        ("Http", Outcome.UNKNOWN),
        ("SomethingNew", Outcome.UNKNOWN),
    ],
)
def test_a_kind_proves_the_same_with_every_status(status, kind, outcome):
    assert outcome_of(status, json={"kind": kind, "status": status, "detail": "x"}) is outcome


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("body", [b"", b"<html>", b'{"kind":"OrderFailed"}', b'{"kind":"ConstraintViolation"}'])
def test_a_refused_key_is_told_by_the_status_alone(status, body):
    assert outcome_of(status, body=body) is Outcome.REFUSED_CONFIG


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429, 408, 301, 302, 307, 308])
def test_a_kind_proves_nothing_when_the_status_does_not(status):
    assert outcome_of(status, json={"kind": "InsufficientBalance", "detail": "x"}) is Outcome.UNKNOWN


@pytest.mark.parametrize("status", [400, 404, 409, 422])
@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"{}", b'{"kind":7}', b'{"code":2613,"message":"no funds"}', b'{"kind":""}', b"\xff"],
)
def test_a_refusal_without_their_words_proves_nothing(status, body):
    assert outcome_of(status, body=body) is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("status", "kind", "detail", "outcome"),
    [
        (409, "Anything", "external ID exists", Outcome.DUPLICATE),
        (422, "Anything", "order_external_id exists", Outcome.DUPLICATE),
        (400, "Anything", "external id exists", Outcome.UNKNOWN),
        (400, "ConstraintViolation", "orderExternalId exists", Outcome.DUPLICATE),
        (404, "OrderFailed", "orderExternalId exists", Outcome.UNKNOWN),
    ],
)
def test_a_used_external_id_is_recognised_by_its_text(status, kind, detail, outcome):
    assert outcome_of(status, json={"kind": kind, "detail": detail}) is outcome


def test_a_used_external_id_is_recognised_by_its_value_when_known():
    err = KinguinRejected("x", status=409, kind="ResourceLock", detail=f"{EXTERNAL_ID} exists")
    assert classify(err) is Outcome.UNKNOWN
    assert classify(err, EXTERNAL_ID) is Outcome.DUPLICATE
    assert classify(KinguinRejected("x", status=409, kind="ResourceLock"), "") is Outcome.UNKNOWN


@pytest.mark.parametrize("error", NO_ANSWER)
def test_no_answer_proves_nothing(error):
    client = EcommerceClient(Transport(provider="kinguin", base_url=BASE, headers={}))
    with responses.RequestsMock() as wire:
        wire.post(f"{BASE}/v2/order", body=error)
        with pytest.raises(ProviderUnavailable) as caught:
            client.reserve(**PURCHASE)
    assert classify(caught.value) is Outcome.UNKNOWN


def test_a_connection_that_was_never_made_sent_nothing():
    client = EcommerceClient(Transport(provider="kinguin", base_url="http://127.0.0.1:9", headers={}))
    with pytest.raises(ProviderNotSent) as caught:
        client.reserve(**PURCHASE)
    assert classify(caught.value) is Outcome.NOT_SENT


def test_another_rejection_proves_nothing():
    assert classify(ProviderRejected("no")) is Outcome.UNKNOWN
