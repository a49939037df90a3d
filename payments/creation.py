"""From "I want to pay" to an address: one call that is not idempotent, claimed before and recorded after."""

import logging
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime, timedelta
from decimal import Decimal
from math import ceil
from typing import Any

from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_noop

from bitloot.core.clock import delay
from bitloot.core.faults import failpoint
from bitloot.core.limits import count
from bitloot.core.providers import (
    CredentialsRefused,
    OverBudget,
    ProviderError,
    ProviderNotSent,
    ProviderRejected,
    UnreadableAnswer,
)
from orders import idempotency
from orders.models import Order
from payments import coins
from payments.balance import amount_due
from payments.calls import Calls
from payments.choices import ReviewReason
from payments.exceptions import NoAnswer, NotPayable, ProviderBusy, TooManyQuotes, TooSmall, UnknownCoin
from payments.models import USUAL_QUOTE, Payment
from payments.nowpayments import BelowMinimum, CoinUnavailable, CreatedPayment, NowPaymentsClient
from payments.settlement import PAYABLE, STEP_MESSAGES, alert
from payments.unanswered import credentials_refused, made_again, not_made

logger = logging.getLogger(__name__)

CUSTOMER_WAITS = 5.0
UNANSWERED_FOR = timedelta(hours=1)
PAID_INTO = (Payment.Status.CONFIRMING, Payment.Status.CONFIRMED, Payment.Status.SENDING)
HOUR = 3600
_OF_THE_COIN = (BelowMinimum, CoinUnavailable)
# What the customer's coin, our key or our own limit explains.
_EXPLAINED = (*_OF_THE_COIN, CredentialsRefused, OverBudget)
# Web has eight threads in each process (Dockerfile, deploy/systemd): five stay free for webhooks and pages while the
# provider is slow. A customer who is not waited for is told at once that the payment is being made, and asks again.
_calls = Calls(threads=8, under_way=32, waiting=3)
BUSY_SECONDS = 10


def start_payment_once(
    *, order: Order, coin: str, idempotency_key: str | None, client: str, check: Callable[[Order], None]
) -> idempotency.Once:
    """Start a payment under an Idempotency-Key; raises what start_payment and idempotency.once_outside raise.

    `check` is the upper rooms' say: it raises if nobody should pay for this order now. A repeat does not ask it again.
    """

    def make() -> uuid.UUID:
        _price_to_pay(order, coin.lower())  # what the order and the coin forbid comes first, and asks nobody
        check(order)
        return start_payment(order=order, coin=coin, client=client).pk

    # Each API key has its Idempotency-Keys for itself, and so has anyone who holds the order's token.
    owner = order.placed_with or order.pk
    # A call that failed after the client was told `creating` leaves the key free, as one that fails at once does.
    came_to_nothing = order.payments.filter(external_id=None).exclude(pk__in=_being_asked(order))
    return idempotency.once_outside(
        route=f"pay:{owner.hex}",
        key=idempotency_key,
        body=f"{order.pk} {coin.lower()}".encode(),
        make=make,
        came_to_nothing=came_to_nothing,
    )


def start_payment(*, order: Order, coin: str, client: str = "") -> Payment:
    """Return a payment of the order in this coin, with an address to pay to, or still `creating` if that takes long.

    An open quote in the same coin is returned again instead of making a second payment. The row is committed before
    the provider is asked, because their call is not idempotent. `client` is what is counted together for the hourly
    limit. Raises NotPayable, UnknownCoin, TooSmall, TooManyQuotes, ProviderBusy or NoAnswer.
    """
    coin = coin.lower()
    with transaction.atomic():
        # Two clicks at once would otherwise each find no open quote and make a payment of their own.
        order = order.lock()
        price = _price_to_pay(order, coin)
        if (existing := _open_payment(order, coin, price)) is not None:
            return existing
        _demand_room_for_another(order, client)
        payment = Payment.objects.create(
            order=order,
            price_amount=price,
            price_currency=order.currency.lower(),
            pay_currency=coin,
            # If this process dies before the answer is recorded, the sweep looks at the row then.
            next_attempt_at=Now() + UNANSWERED_FOR,
        )
    failpoint("payment.claimed")
    call = _calls.start(_ask, payment)
    try:
        answer = _calls.wait_for(call, seconds=CUSTOMER_WAITS)
    except TimeoutError:
        # The call cannot be taken back, and it may have made a payment: its answer is recorded when it comes.
        call.add_done_callback(lambda done: _record_later(payment, done))
        return payment
    except ProviderError as err:
        _record_failure(payment, err)
        raise _for_customer(err, coin) from err
    failpoint("payment.created")
    _record_created(payment, answer)
    failpoint("payment.bound")
    return payment


def _price_to_pay(order: Order, coin: str) -> Decimal:
    price = amount_due(order)
    if order.status not in PAYABLE or price <= 0:
        raise NotPayable(order.status)
    coins.check_payable(price=price, coin=coin)
    return price


def _open_payment(order: Order, coin: str, price: Decimal) -> Payment | None:
    """Return the payment in this coin that the customer can still use, if there is one."""
    # A quote of another amount, from before a part was paid, is left aside (and watched).
    open_quote = order.payments.filter(
        pay_currency=coin,
        price_amount=price,
        status=Payment.Status.WAITING,
        expires_at__gt=Now(),
        # Coins are coming in to that one: a second address would only split the money.
    ) | order.payments.filter(pay_currency=coin, status__in=PAID_INTO)
    # A call that has not returned yet: a second click gets the row of the first.
    return open_quote.first() or _being_asked(order).filter(pay_currency=coin).first()


def _being_asked(order: Order) -> QuerySet[Payment]:
    return order.payments.filter(
        # Older ones count as unanswered: the customer may start another.
        status=Payment.Status.CREATING,
        reason="",
        created_at__gt=Now() - timedelta(seconds=60),
    )


def _demand_room_for_another(order: Order, client: str) -> None:
    """Raise TooManyQuotes or ProviderBusy unless one more quote may be asked for; the caller holds the order's lock."""
    # Before the hourly limit counts: what we refuse for our own reasons must not use up the customer's hour.
    if _calls.are_too_many:
        raise ProviderBusy(BUSY_SECONDS)
    open_quotes = order.payments.filter(status=Payment.Status.WAITING, expires_at__gt=Now()) | _being_asked(order)
    ends = [quote.quote_ended_at for quote in open_quotes]
    if len(ends) >= settings.PAYMENT_QUOTES_PER_ORDER:
        raise TooManyQuotes(_seconds_until(min(ends)), of_order=True)
    most = settings.PAYMENT_QUOTES_PER_HOUR * settings.THROTTLE_SCALE
    if client and most and count(f"quotes:{client}", seconds=HOUR) > most:
        raise TooManyQuotes(HOUR, of_order=False)


def _seconds_until(end: datetime) -> int:
    return max(ceil((end - timezone.now()).total_seconds()), 1)


def _ask(payment: Payment) -> CreatedPayment:
    return NowPaymentsClient.from_settings().create_payment(
        price_amount=payment.price_amount,
        price_currency=payment.price_currency,
        pay_currency=payment.pay_currency,
        order_id=str(payment.order_id),
        description=f"BitLoot order {str(payment.order_id)[:8]}",
        ipn_callback_url=settings.SITE_URL + reverse("ipn"),
    )


def _record_later(payment: Payment, done: "Future[CreatedPayment]") -> None:
    try:
        if (err := done.exception()) is None:
            _record_created(payment, done.result())
        elif isinstance(err, ProviderError):
            _record_failure(payment, err)
        else:
            logger.error("creating %s failed", payment, exc_info=err)
    except NoAnswer as err:
        logger.error("creating %s: %s", payment, err)
    finally:
        connection.close()  # this thread serves no request, so Django does not close it for us


def _record_created(payment: Payment, answer: CreatedPayment) -> None:
    """Bind the provider's payment to the order; an answer that is not about our request is not shown to anybody."""
    if not answer.payin_extra_id and coins.needs_memo(payment.pay_currency):
        # Coins that are sent to such an address without a memo are nobody's.
        err = UnreadableAnswer(f"NOWPayments gave no memo for {payment.pay_currency}")
        _record_failure(payment, err)
        raise NoAnswer(str(err))
    asked = (str(payment.order_id), payment.price_amount, payment.price_currency, payment.pay_currency)
    echoed = (answer.order_id, answer.price_amount, answer.price_currency, answer.pay_currency)
    fields: dict[str, Any] = {
        "external_id": answer.payment_id,
        "pay_amount": answer.pay_amount,
        "pay_address": answer.pay_address,
        "payin_extra_id": answer.payin_extra_id,
        "network": answer.network[:32],
        "purchase_id": answer.purchase_id,
        "expires_at": _end_of_quote(answer),
        "valid_until": answer.valid_until,
        "next_attempt_at": Now() + delay(30),
    }
    try:
        with transaction.atomic():
            order = payment.order.lock()
            if payment.lock().external_id is not None:
                # An IPN was faster. It knew the address, but not the memo nor the end of the quote.
                named = Payment.objects.filter(pk=payment.pk, external_id=answer.payment_id)
                named.update(**fields if echoed == asked else {"next_attempt_at": Now()})
                payment.refresh_from_db()
            elif echoed != asked or answer.pay_amount <= 0:
                payment.move(
                    Payment.Status.REVIEW, message=gettext_noop("The provider answered about another payment."),
                    reason=ReviewReason.CREATE_MISMATCH, external_id=answer.payment_id,
                )  # fmt: skip
                alert(order, payment, ReviewReason.CREATE_MISMATCH)
            else:
                payment.move(Payment.Status.WAITING, message=STEP_MESSAGES[Payment.Status.WAITING], **fields)
    except IntegrityError as err:
        # Their id is unique in our table, so one payment never counts for two orders.
        # Out here: the transaction that failed takes no more statements.
        Payment.objects.filter(pk=payment.pk).update(reason=ReviewReason.NO_ANSWER)
        alert(payment.order, payment, ReviewReason.BOUND_TWICE)
        raise NoAnswer("the provider named a payment that is bound already") from err
    if payment.status == Payment.Status.REVIEW:
        raise NoAnswer("the provider answered about another payment")
    made_again()


def _end_of_quote(answer: CreatedPayment) -> datetime:
    """Return when the rate ends. An end that is missing, or over before it began, would leave nothing to pay with."""
    now = timezone.now()
    if answer.expires_at is not None and answer.expires_at > now:
        return answer.expires_at
    logger.warning("NOWPayments names no usable end of the quote of payment %s", answer.payment_id)
    return now + USUAL_QUOTE


def _record_failure(payment: Payment, err: ProviderError) -> None:
    if isinstance(err, CredentialsRefused):
        credentials_refused(err)
    if isinstance(err, ProviderRejected | ProviderNotSent):
        with transaction.atomic():
            payment.order.lock()
            payment.move(
                Payment.Status.FAILED, message=gettext_noop("The provider made no payment."),
                reason=ReviewReason.COIN_REFUSED if isinstance(err, _OF_THE_COIN) else ReviewReason.REFUSED,
                next_attempt_at=None,
            )  # fmt: skip
    else:
        # Whether they made a payment is unknown. Nobody sees its address; an IPN that names our order adopts it.
        Payment.objects.filter(pk=payment.pk, external_id=None).update(reason=ReviewReason.NO_ANSWER)
        logger.warning("%s: no answer to its creation (%s)", payment, err)
    if not isinstance(err, _EXPLAINED):
        not_made(err)


def _for_customer(err: ProviderError, coin: str) -> Exception:
    if isinstance(err, BelowMinimum):
        return TooSmall(coin, None)
    if isinstance(err, CoinUnavailable):
        return UnknownCoin(coin)
    if isinstance(err, OverBudget):
        return ProviderBusy(ceil(err.seconds))
    return NoAnswer(str(err))
