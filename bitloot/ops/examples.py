"""One purchase, told by the examples of the OpenAPI document. `make check` holds each against its schema."""

from typing import Any

from drf_spectacular.utils import OpenApiExample

ORDER = "0b8c1e2a-5f43-4d0e-9b7a-6c1d2e3f4a50"
ITEM = "7d9e8f10-1a2b-4c3d-8e4f-5a6b7c8d9e0f"
KEY = "c2a4f6b8-0d1e-4f23-8a45-b6c7d8e9f001"
PAYMENT = "3f1d2c4b-6a58-4e79-9c0d-1b2a3c4d5e6f"
REFUND = "9e8d7c6b-5a49-4382-8170-6f5e4d3c2b1a"
TOKEN = "a.1.1767225600.Kd0GmS9vYh2nQ4tXwZ7bLr1cFp8uJe5o"  # noqa: S105
SEALED = "https://keys.shop.example/c2a4f6b8?X-Amz-Signature=5f0c8d7e"
BITCOIN = "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq"

_PAYMENT = {
    "id": PAYMENT,
    "payment_id": "5524759814",
    "status": "waiting",
    "price_amount": "24.90",
    "price_currency": "EUR",
    "pay_address": BITCOIN,
    "pay_amount": "0.00041871",
    "pay_currency": "btc",
    "payin_extra_id": None,
    "network": "btc",
    "network_name": "Bitcoin",
    "actually_paid": "0",
    "surplus": None,
    "created_at": "2026-01-01T00:01:00Z",
    "expires_at": "2026-01-01T00:21:00Z",
    "uri": f"bitcoin:{BITCOIN}?amount=0.00041871",
    "qr": "data:image/svg+xml,…",
    "qr_note": "The code holds the address and the amount.",
    "headline": None,
    "reason": None,
    "transaction_id": "",
    "transaction_url": None,
}
_ORDER = {
    "id": ORDER,
    "status": "fulfilled",
    "fulfillment_status": "fulfilled",
    "total": "24.90",
    "currency": "EUR",
    "email": "kim@example.org",
    "can_change_email": False,
    "created_at": "2026-01-01T00:00:00Z",
    "expires_at": "2026-01-02T00:00:00Z",
    "error": None,
    "waits_for": None,
    "expected_by": None,
    "outlook": {"now": "", "late": ""},
    "can_have_money_back": False,
    "items": [
        {
            "id": ITEM,
            "product": {
                "slug": "ember-drift",
                "title": "Ember Drift",
                "cover": "covers/ember-drift.svg",
                "platform": "Steam",
                "region": "Region free",
                "activation": "Open Steam, choose “Activate a Product on Steam”, type the key.",
            },
            "quantity": 1,
            "unit_price": "24.90",
            "status": "fulfilled",
            "keys_ready": 1,
            "keys": [{"id": KEY, "opened_at": None}],
        }
    ],
    "amount_due": "0.00",
    "payment": {**_PAYMENT, "status": "finished", "actually_paid": "0.00041871", "uri": None, "qr": None}
    | {"qr_note": None},
    "extra_payment": None,
    "refunds": [],
    "timeline": [
        {"at": "2026-01-01T00:00:00Z", "kind": "order", "event": "pending", "message": "The order was placed."},
    ],
}
_PLACED = {
    "id": ORDER,
    "status": "pending",
    "total": "24.90",
    "currency": "EUR",
    "items": [
        {"id": ITEM, "product": "ember-drift", "title": "Ember Drift", "quantity": 1, "unit_price": "24.90"},
    ],
    "access_token": TOKEN,
}
_STORED = {"id": KEY, "product": "ember-drift", "download_url": SEALED, "content_type": "text/plain"}
_OPENABLE = _STORED | {
    "fallback_url": "https://shop.example/objects/c2a4f6b8?signature=9b2a4c1d",
    "algorithm": "A256GCM",
    "key": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
    "nonce": "oKGio6Slpqeoqaqr",
    "aad": "eyJjb250ZW50X3R5cGUiOiJ0ZXh0L3BsYWluIn0",
}
_REFUND = {
    "id": REFUND,
    "kind": "surplus",
    "status": "requested",
    "amount": "0.00010000",
    "currency": "btc",
    "address": "",
    "extra_id": "",
    "rests_until": None,
    "takes_memo": False,
    "needs_memo": False,
    "transaction_id": "",
    "transaction_url": None,
    "sent_at": None,
    "done_at": None,
}
_COIN = {
    "code": "btc",
    "name": "Bitcoin",
    "ticker": "BTC",
    "network": "btc",
    "network_name": "Bitcoin",
    "minimum": "3.10",
    "rate": "0.000016815",
    "usual_minutes": 20,
}


def _asked(name: str, value: Any) -> OpenApiExample:
    return OpenApiExample(name, value, request_only=True)


def _answered(name: str, value: Any, status: int = 200) -> OpenApiExample:
    return OpenApiExample(name, value, response_only=True, status_codes=[str(status)])


EXAMPLES: dict[str, list[OpenApiExample]] = {
    "place_order": [
        _asked("One key", {"email": "kim@example.org", "items": [{"product": "ember-drift", "quantity": 1}]}),
        _answered("Placed", _PLACED, 201),
    ],
    "read_order": [_answered("Delivered", _ORDER)],
    "find_orders": [
        _asked("One order", {"order_id": ORDER, "email": "kim@example.org"}),
        _asked("All orders of an address", {"email": "kim@example.org"}),
    ],
    "mail_code": [_asked("An order", {"order_id": ORDER, "email": "kim@example.org"})],
    "redeem_code": [
        _asked("Six digits", {"order_id": ORDER, "code": "402817"}),
        _answered("Opened", {"access_token": TOKEN}),
    ],
    "change_email": [
        _asked("The right address", {"order_id": ORDER, "email": "kim@example.org"}),
        _answered("Changed", {"access_token": TOKEN}),
    ],
    "close_other_links": [_asked("An order", {"order_id": ORDER}), _answered("Closed", {"access_token": TOKEN})],
    "list_coins": [_answered("Coins", {"currencies": [_COIN]})],
    "start_payment": [
        _asked("In bitcoin", {"order_id": ORDER, "pay_currency": "btc"}),
        _answered("An address to pay to", _PAYMENT, 201),
        _answered("Not there yet", {"status": "creating"}, 202),
    ],
    "give_refund_address": [
        _asked("Bitcoin", {"order_id": ORDER, "refund": REFUND, "address": BITCOIN}),
        _answered("Taken", _REFUND | {"address": BITCOIN}),
    ],
    "ask_for_surplus": [_asked("An order", {"order_id": ORDER}), _answered("Asked for", _REFUND, 201)],
    "read_delivery": [_answered("On its way", {"order_id": ORDER, "status": "processing"})],
    "list_sealed_keys": [
        _answered(
            "One key",
            {
                "order_id": ORDER,
                "download_url": SEALED,
                "expires_at": "2026-01-01T00:40:00Z",
                "message": "These links lead to sealed keys and expire soon; ask again for fresh ones.",
                "keys": [_STORED],
            },
        )
    ],
    "reveal_keys": [
        _asked("One key", {"keys": [KEY]}),
        _asked("All keys", {}),
        _answered("One key", {"order_id": ORDER, "expires_at": "2026-01-01T00:40:00Z", "keys": [_OPENABLE]}),
    ],
    "report_download": [_asked("It could not be opened", {"key": KEY, "result": "not_opened"})],
    "ask_for_money_back": [_answered("Granted", {"order_id": ORDER, "status": "failed"}, 202)],
    "staff_deliver_order": [
        _asked("Run it again", {}),
        _asked(
            "A code typed by hand",
            {"codes": [{"item": ITEM, "serial": "AAAAA-BBBBB-CCCCC"}], "reason": "The supplier mailed it to us."},
        ),
        _answered("Under way", {"order_id": ORDER, "status": "processing"}, 202),
    ],
    "staff_sign_in": [
        _asked("With the second factor", {"name": "grace", "password": "…", "code": "402817"}),
        _answered("Signed in", {"token": "5f0c8d7e2b9a4c1d…", "expires_at": "2026-01-01T10:00:00Z"}),
    ],
}
