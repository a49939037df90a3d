"""NOWPayments' API in our words. docs/nowpayments.md lists what is documented, seen live or merely assumed."""

import logging
import re
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache, partial
from typing import Any
from urllib.parse import quote

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from bitloot.core.money import plain
from bitloot.core.providers import (
    Answer,
    CredentialsRefused,
    ProviderRejected,
    ProviderUnavailable,
    Transport,
    UnreadableAnswer,
    Urgency,
)
from bitloot.core.reader import Fields
from bitloot.core.strict_json import dump_json

logger = logging.getLogger(__name__)

READ_TIMEOUT = 10
_PAYMENT_ID = re.compile(r"[0-9]{1,19}")
_ADDRESS = re.compile(r"\S+")
UNIT = Decimal("1E-18")  # the least that our columns hold of a coin; a few are divided further


class BelowMinimum(ProviderRejected):
    """The price is less than the smallest amount of this coin that they accept."""


class CoinUnavailable(ProviderRejected):
    """The coin cannot be paid with now."""


class PaymentNotFound(ProviderRejected):
    """They know no such payment under our API key."""


class ProviderStatus(StrEnum):
    WAITING = "waiting"
    CONFIRMING = "confirming"
    CONFIRMED = "confirmed"
    SENDING = "sending"
    FINISHED = "finished"
    PARTIALLY_PAID = "partially_paid"
    FAILED = "failed"
    REFUNDED = "refunded"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"


STATUSES = {
    "waiting": ProviderStatus.WAITING,
    "confirming": ProviderStatus.CONFIRMING,
    "confirmed": ProviderStatus.CONFIRMED,
    "sending": ProviderStatus.SENDING,
    "finished": ProviderStatus.FINISHED,
    "partially_paid": ProviderStatus.PARTIALLY_PAID,
    "failed": ProviderStatus.FAILED,
    "refunded": ProviderStatus.REFUNDED,
    "expired": ProviderStatus.EXPIRED,
    "cancelled": ProviderStatus.CANCELLED,
    "canceled": ProviderStatus.CANCELLED,
}


@dataclass(frozen=True)
class Coin:
    code: str
    name: str
    network: str
    wallet_regex: str
    takes_memo: bool
    needs_memo: bool
    memo_regex: str = ""
    ticker: str = ""


@dataclass(frozen=True)
class MinAmount:
    min_amount: Decimal
    fiat_equivalent: Decimal | None


@dataclass(frozen=True)
class CreatedPayment:
    payment_id: str
    status: ProviderStatus
    pay_address: str
    pay_amount: Decimal
    pay_currency: str
    payin_extra_id: str
    price_amount: Decimal
    price_currency: str
    order_id: str
    network: str
    purchase_id: str
    expires_at: datetime | None
    valid_until: datetime | None


@dataclass(frozen=True)
class PaymentFacts:
    payment_id: str
    status: ProviderStatus
    raw_status: str
    price_amount: Decimal
    price_currency: str
    pay_amount: Decimal
    pay_currency: str
    actually_paid: Decimal
    order_id: str
    parent_payment_id: str
    outcome_amount: Decimal | None
    outcome_currency: str
    pay_address: str
    purchase_id: str
    payment_extra_ids: tuple[str, ...]
    updated_at: datetime | None
    payin_extra_id: str = ""
    payin_hash: str = ""
    notes: tuple[str, ...] = ()  # members that decide nothing and could not be read


class NowPaymentsClient:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @classmethod
    def from_settings(cls) -> "NowPaymentsClient":
        return _client(settings.NOWPAYMENTS_BASE_URL, settings.NOWPAYMENTS_API_KEY)

    def status(self) -> None:
        """Raise ProviderError unless the service says that it works."""
        if self._get("/status").text("message").upper() != "OK":
            raise UnreadableAnswer("NOWPayments does not say that it works")

    def merchant_coins(self) -> list[str]:
        """Return the tickers switched on in our account."""
        answer = self._get("/merchant/coins")
        # Documented as "currencies", live as "selectedCurrencies" in upper case.
        tickers = answer.items("selectedCurrencies" if "selectedCurrencies" in answer else "currencies", required=True)
        return [ticker.lower() for ticker in tickers if isinstance(ticker, str) and ticker]

    def coins(self) -> list[Coin]:
        """Return every coin that can be paid with now; an entry we cannot read is left out."""
        coins = []
        for entry in self._get("/full-currencies").items("currencies", required=True):
            try:
                coin = _usable_coin(Fields(entry, what="NOWPayments coin"))
            except UnreadableAnswer as err:
                logger.warning("Left out a coin: %s", err)
                continue
            coins += [coin] if coin else []
        return coins

    def min_amount(self, currency_from: str, currency_to: str, fiat_equivalent: str = "eur") -> MinAmount:
        answer = self._get(
            "/min-amount",
            currency_from=currency_from.lower(),
            currency_to=currency_to.lower(),
            fiat_equivalent=fiat_equivalent.lower(),
        )
        return MinAmount(answer.amount("min_amount"), answer.optional_amount("fiat_equivalent"))

    def estimate(
        self, amount: Decimal, currency_from: str, currency_to: str, *, urgency: Urgency = Urgency.BACKGROUND
    ) -> Decimal:
        pair = {"currency_from": currency_from.lower(), "currency_to": currency_to.lower()}
        answer = self._get("/estimate", urgency, amount=plain(amount), **pair)
        # Late coins count with what this says, so it must be about the pair that was asked for.
        if any(answer.optional_text(name).lower() not in ("", asked) for name, asked in pair.items()):
            raise UnreadableAnswer(f"NOWPayments estimated a different pair than {currency_from} and {currency_to}")
        estimated = answer.amount("estimated_amount")
        if not estimated:
            raise UnreadableAnswer(f"NOWPayments estimated {currency_to} at zero")
        return estimated

    def create_payment(
        self,
        *,
        price_amount: Decimal,
        price_currency: str,
        pay_currency: str,
        order_id: str,
        description: str,
        ipn_callback_url: str,
    ) -> CreatedPayment:
        """Create a payment. ProviderUnavailable, except ProviderNotSent, leaves open whether one was made: the API
        has no idempotency key. The answer's price, coin and order are what they echo; compare them with the request.
        """
        request = {
            "price_amount": price_amount,
            "price_currency": price_currency.lower(),
            "pay_currency": pay_currency.lower(),
            "order_id": order_id,
            "order_description": description,
            "ipn_callback_url": ipn_callback_url,
        }
        return _created_payment(self._request("POST", "/payment", body=dump_json(request), urgency=Urgency.QUOTE))

    def read_payment(self, payment_id: str, *, urgency: Urgency = Urgency.FIRST) -> PaymentFacts:
        """Return the payment as they see it now. Raises PaymentNotFound."""
        if not _PAYMENT_ID.fullmatch(payment_id):
            raise PaymentNotFound("not a payment id of NOWPayments, so it was not asked for")
        facts = _payment_facts(self._get(f"/payment/{quote(payment_id)}", urgency))
        # Money moves on this answer, so it must be about the payment that was asked for.
        if facts.payment_id != payment_id:
            raise UnreadableAnswer(f"NOWPayments answered with another payment than {payment_id}")
        return facts

    def _get(self, path: str, urgency: Urgency = Urgency.BACKGROUND, /, **params: str) -> Fields:
        return self._request("GET", path, params=params or None, urgency=urgency)

    def _request(self, method: str, path: str, **request: Any) -> Fields:
        answer = self._transport.request(method, path, **request)
        if not answer.ok:
            raise _refusal(answer)
        return Fields(answer.json(), what=f"NOWPayments {method} {path}")


@lru_cache(maxsize=4)
def _client(base_url: str, api_key: str) -> NowPaymentsClient:
    if not base_url or not api_key:
        raise ImproperlyConfigured("Set NOWPAYMENTS_BASE_URL and NOWPAYMENTS_API_KEY; see docs/nowpayments.md.")
    return NowPaymentsClient(
        Transport(provider="nowpayments", base_url=base_url, headers={"x-api-key": api_key}, read_timeout=READ_TIMEOUT)
    )


def _refusal(answer: Answer) -> ProviderRejected | ProviderUnavailable:
    """Return the error for a 4xx answer; one without NOWPayments' own words comes from a gateway and proves nothing."""
    if answer.status in (401, 403):
        message = f"NOWPayments refuses our API key with {answer.status}; check NOWPAYMENTS_API_KEY"
        return CredentialsRefused(message, status=answer.status, body=answer.body)
    try:
        words = Fields(answer.json(), what="NOWPayments error")
    except UnreadableAnswer:
        words = Fields({}, what="NOWPayments error")
    code, detail = (words.aside(words.optional_text, name, "") for name in ("code", "message"))
    detail = detail[:200]
    if not code:
        message = f"NOWPayments answered {answer.status} without saying why"
        return UnreadableAnswer(message, status=answer.status, body=answer.body)
    message = f"NOWPayments answered {answer.status} {code}: {detail}"
    return _rejection(answer.status, code, detail)(message, status=answer.status, body=answer.body)


def _rejection(status: int, code: str, detail: str) -> type[ProviderRejected]:
    if code == "AMOUNT_MINIMAL_ERROR":
        return BelowMinimum
    # Besides the code they refuse a coin in prose, in this spelling.
    if code == "CURRENCY_UNAVAILABLE" or re.search("not convertable|can ?not get estimate", detail, re.IGNORECASE):
        return CoinUnavailable
    return PaymentNotFound if status == 404 else ProviderRejected


def _usable_coin(entry: Fields) -> Coin | None:
    # Only live answers have available_for_payment.
    if not entry.flag("enable", default=False) or not entry.flag("available_for_payment", default=True):
        return None
    code = entry.text("code").lower()
    return Coin(
        code=code,
        name=entry.aside(entry.text, "name", code.upper()),
        network=entry.aside(entry.optional_text, "network", "").lower(),
        wallet_regex=entry.aside(entry.optional_text, "wallet_regex", ""),
        takes_memo=(takes_memo := entry.flag("extra_id_exists", default=False)),
        # Their live lists say that Ripple's tag is optional: wallets of one's own have none.
        needs_memo=takes_memo and not entry.flag("extra_id_optional", default=False),
        memo_regex=entry.aside(entry.optional_text, "extra_id_regex", ""),
        ticker=entry.aside(entry.optional_text, "ticker", "").lower(),
    )


def _created_payment(answer: Fields) -> CreatedPayment:
    """Read what decides strictly; address and memo belong to it, for coins sent without them are lost."""
    pay_amount = answer.amount("pay_amount")
    if pay_amount < UNIT:
        raise UnreadableAnswer("NOWPayments created a payment of nothing")
    pay_address = answer.text("pay_address", limit=200).strip()
    if not _ADDRESS.fullmatch(pay_address):
        raise UnreadableAnswer("NOWPayments created a payment without a usable address")
    return CreatedPayment(
        payment_id=answer.digits("payment_id"),
        status=_status(answer.text("payment_status")),
        pay_address=pay_address,
        pay_amount=pay_amount,
        pay_currency=answer.text("pay_currency", limit=32).lower(),
        payin_extra_id=answer.memo("payin_extra_id", limit=100),
        price_amount=answer.amount("price_amount"),
        price_currency=answer.text("price_currency").lower(),
        order_id=answer.text("order_id"),
        network=answer.aside(answer.optional_text, "network", "").lower(),
        purchase_id=answer.aside(answer.optional_digits, "purchase_id", ""),
        expires_at=answer.moment("expiration_estimate_date"),
        valid_until=answer.moment("valid_until"),
    )


def _payment_facts(answer: Fields) -> PaymentFacts:
    """Read strictly what decides, and only that: nothing else that they write oddly may keep money unseen."""
    raw_status = answer.text("payment_status")
    status, actually_paid = _status(raw_status), answer.optional_amount("actually_paid") or Decimal(0)
    if status is ProviderStatus.PARTIALLY_PAID and not actually_paid:
        # The customer would be asked for the whole price once more, although coins came.
        raise UnreadableAnswer("NOWPayments reports a partial payment without its amount")
    return PaymentFacts(
        payment_id=answer.digits("payment_id"),
        status=status,
        raw_status=raw_status,
        price_amount=answer.amount("price_amount"),
        price_currency=answer.text("price_currency").lower(),
        pay_amount=answer.amount("pay_amount"),
        pay_currency=answer.text("pay_currency", limit=32).lower(),
        actually_paid=actually_paid,
        order_id=answer.optional_text("order_id"),
        parent_payment_id=answer.optional_digits("parent_payment_id"),
        outcome_amount=answer.aside(answer.optional_amount, "outcome_amount", None),
        outcome_currency=answer.aside(partial(answer.optional_text, limit=32), "outcome_currency", "").lower(),
        pay_address=answer.aside(partial(answer.optional_text, limit=200), "pay_address", ""),
        purchase_id=answer.aside(answer.optional_digits, "purchase_id", ""),
        payment_extra_ids=_children(answer),
        updated_at=answer.moment("updated_at"),
        payin_extra_id=answer.aside(partial(answer.memo, limit=100), "payin_extra_id", ""),
        payin_hash=answer.aside(partial(answer.optional_text, limit=200), "payin_hash", ""),
        notes=tuple(answer.notes),
    )


def _children(answer: Fields) -> tuple[str, ...]:
    listed: list[Any] = answer.aside(answer.items, "payment_extra_ids", [])
    children = tuple(
        str(child) for child in listed if isinstance(child, int | str) and _PAYMENT_ID.fullmatch(str(child))
    )
    if len(children) < len(listed):
        answer.notes.append("payment_extra_ids lists something that is no payment id")
    return children


def is_known_word(word: str) -> bool:
    """Whether a stored status is one of theirs that we know; an empty one was never read."""
    return not word or word in STATUSES


def _status(word: str) -> ProviderStatus:
    status = STATUSES.get(word, ProviderStatus.UNKNOWN)
    if status is ProviderStatus.UNKNOWN:
        logger.warning("NOWPayments sent a payment status we do not know: %r", word)
    return status
