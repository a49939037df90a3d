"""NOWPayments' API: /nowpayments/v1."""

import hmac
from decimal import Decimal, InvalidOperation
from sqlite3 import Row
from typing import Any

from werkzeug.routing import Rule
from werkzeug.wrappers import Response

from sandbox import payments
from sandbox.calls import Call, Endpoint, Family, View, html, respond
from sandbox.catalogue import COINS, EURO_IN, Coin
from sandbox.store import Refused

BASE = "/nowpayments/v1"
MAX_PRICE = 1_000_000
ERRORS = {
    "refuse": (400, "BAD_REQUEST", "Currency is not convertable now"),
    "insufficient_balance": (400, "BAD_REQUEST", "Currency is not convertable now"),
    "out_of_stock": (400, "CURRENCY_UNAVAILABLE", "Currency is currently unavailable"),
    "5xx_before": (500, "INTERNAL_ERROR", "Internal server error"),
    "5xx_after": (500, "INTERNAL_ERROR", "Internal server error"),
}


def show_status(call: Call) -> Response:
    return respond({"message": "OK"})


def list_merchant_coins(call: Call) -> Response:
    return respond({"selectedCurrencies": [code.upper() for code in COINS]})


def list_currencies(call: Call) -> Response:
    return respond({"currencies": list(COINS)})


def list_full_currencies(call: Call) -> Response:
    return respond({"currencies": [_coin(coin) for coin in COINS.values()]})


def show_min_amount(call: Call) -> Response:
    source = _known_coin(call.args.get("currency_from", ""))
    target = call.args.get("currency_to", source.code)
    answer = {"currency_from": source.code, "currency_to": target.lower(), "min_amount": source.minimum}
    fiat = call.args.get("fiat_equivalent", "").lower()
    if fiat in EURO_IN:
        answer["fiat_equivalent"] = source.minimum * source.euros * EURO_IN[fiat]
    return respond(answer)


def show_estimate(call: Call) -> Response:
    source, target = call.args.get("currency_from", "").lower(), call.args.get("currency_to", "").lower()
    amount = call.args.get("amount", type=_decimal)
    if (
        source not in EURO_IN
        or target not in COINS
        or amount is None
        or not amount.is_finite()
        or not 0 < amount <= MAX_PRICE
    ):
        raise error(400, "BAD_REQUEST", f"Can not get estimate from {source.upper()} to {target.upper()}")
    # Documented as a number, live a string.
    estimated = str(payments.convert(amount, source, COINS[target]))
    answer = {"currency_from": source, "amount_from": amount, "currency_to": target}
    return respond({**answer, "estimated_amount": estimated})


def create_payment(call: Call) -> Response:
    request = call.body
    price: Any = request.get("price_amount")
    currency = str(request.get("price_currency", "")).lower()
    if type(price) not in (int, Decimal) or not 0 < price <= MAX_PRICE:
        raise error(400, "INVALID_REQUEST_PARAMS", f"price_amount must be a number above 0, at most {MAX_PRICE}")
    if currency not in EURO_IN:
        raise error(400, "INVALID_REQUEST_PARAMS", f"price_currency {currency} is not supported")
    _check_texts(request)
    coin = _known_coin(str(request.get("pay_currency", "")))
    amount = payments.convert(Decimal(price), currency, coin)
    if amount < coin.minimum:
        raise error(400, "AMOUNT_MINIMAL_ERROR", f"Crypto amount {amount:f} is less than minimal")
    payment = call.world.write(lambda tx: payments.create(call.world, tx, request, coin))
    return respond(payments.as_created(payment), 201)


def show_payment(call: Call, payment_id: str) -> Response:
    payment = _payment(call, payment_id)
    if payment is None:
        raise error(404, "NOT_FOUND", "Payment not found")
    sql = "SELECT id FROM payment WHERE parent_id = ? ORDER BY created"
    children = [row["id"] for row in call.world.store.read(sql, payment["id"])]
    return respond(payments.as_read(payment, children))


def error(status: int, code: str, message: str) -> Refused:
    return Refused(status, {"status": False, "statusCode": status, "code": code, "message": message})


def _authorize(call: Call) -> None:
    given = call.headers.get("x-api-key", "")
    if not hmac.compare_digest(given.encode(), call.world.config.nowpayments_api_key.encode()):
        raise error(403, "INVALID_API_KEY", "Invalid api key")


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation as err:
        raise ValueError(text) from err


def _known_coin(code: str) -> Coin:
    coin = COINS.get(code.lower())
    if coin is None:
        raise error(400, "BAD_REQUEST", f"Currency {code.lower()[:20]} is not convertable to eur now")
    return coin


def _check_texts(request: dict[str, Any]) -> None:
    for name in ("order_id", "order_description", "ipn_callback_url"):
        if not isinstance(request.get(name), str | None):
            raise error(400, "INVALID_REQUEST_PARAMS", f"{name} must be a string")
    url = request.get("ipn_callback_url")
    if url is not None and not url.startswith(("http://", "https://")):
        raise error(400, "INVALID_REQUEST_PARAMS", "ipn_callback_url must be a valid uri")


def _payment(call: Call, payment_id: str) -> Row | None:
    if not (payment_id.isascii() and payment_id.isdigit() and len(payment_id) < 19):
        return None
    return call.world.store.read_one("SELECT * FROM payment WHERE id = ?", int(payment_id))


def _coin(coin: Coin) -> dict[str, Any]:
    return {
        "id": coin.id,
        "code": coin.code.upper(),
        "name": coin.name,
        "enable": True,
        "wallet_regex": coin.wallet_regex,
        "priority": coin.id,
        "extra_id_exists": coin.needs_memo,
        "extra_id_regex": "^[0-9]{1,10}$" if coin.needs_memo else None,
        "logo_url": f"/images/coins/{coin.code}.svg",
        "track": True,
        "cg_id": coin.name.lower(),
        "is_maxlimit": False,
        "network": coin.network,
        "smart_contract": None,
        "network_precision": str(coin.places),
        "ticker": coin.ticker,
        "is_popular": True,
        "is_stable": coin.is_stable,
        "available_for_payment": True,
        "available_for_payout": True,
    }


def _refusal(call: Call, name: str) -> Refused:
    return error(*ERRORS.get(name, ERRORS["refuse"]))


def _too_many(call: Call) -> Response:
    return html(429, "429 Too Many Requests")


_OPEN = Family(authorize=lambda call: None, refusal=_refusal, too_many=_too_many)
_KEY = Family(authorize=_authorize, refusal=_refusal, too_many=_too_many)


def _rule(method: str, path: str, view: View, op: str, *, family: Family = _KEY, **more: Any) -> Rule:
    return Rule(BASE + path, methods=[method], endpoint=Endpoint(family, view, f"nowpayments.{op}", **more))


def _order_id(call: Call) -> str:
    return str(call.body.get("order_id") or "-")


def _order_of(call: Call, payment_id: str) -> str:
    payment = _payment(call, payment_id)
    return (payment["order_id"] if payment else None) or payment_id


RULES = [
    _rule("GET", "/status", show_status, "status", family=_OPEN),
    _rule("GET", "/merchant/coins", list_merchant_coins, "currencies"),
    _rule("GET", "/currencies", list_currencies, "currencies"),
    _rule("GET", "/full-currencies", list_full_currencies, "currencies"),
    _rule("GET", "/min-amount", show_min_amount, "min_amount"),
    _rule("GET", "/estimate", show_estimate, "estimate"),
    _rule("POST", "/payment", create_payment, "payment.create", subject=_order_id),
    _rule("GET", "/payment/<payment_id>", show_payment, "payment.get", subject=_order_of),
]
