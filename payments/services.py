"""From a customer's wish to pay, over what the provider says on re-reading, to an order that is paid."""

import dataclasses
import logging
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillRunning
from datetime import timedelta
from decimal import ROUND_DOWN, Decimal
from typing import Any

from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.db.models import QuerySet, Sum
from django.db.models.functions import Now
from django.urls import reverse
from django.utils import timezone

from bitloot.lib.clock import delay
from bitloot.lib.failpoint import failpoint
from bitloot.lib.http import ProviderError, ProviderNotSent, ProviderRejected, ProviderUnavailable
from bitloot.lib.money import CENT, cents, plain
from orders import idempotency
from orders.models import Email, Order, close_alert, raise_alert
from orders.services import queue_email
from payments import coins
from payments.exceptions import NoAnswer, NotPayable, TooSmall, UnknownCoin, UnknownPayment
from payments.models import Payment, Refund
from payments.nowpayments import (
    BelowMinimum,
    CoinUnavailable,
    CreatedPayment,
    NowPaymentsClient,
    PaymentFacts,
    ProviderStatus,
)
from payments.rules import binding_objection, objection
from payments.signature import IpnHint

logger = logging.getLogger(__name__)

CUSTOMER_WAITS = 5.0
WATCHED_FOR = timedelta(days=7, hours=6)
UNANSWERED_FOR = timedelta(hours=1)
PAYABLE = (Order.Status.PENDING, Order.Status.UNDERPAID)
NOTHING = Decimal("0.00")
PAID_IN_PARTS = "paid_in_parts"
# Still being delivered: stop when the money goes back.
REFUNDABLE = (Order.Status.PAID, Order.Status.FULFILLING, Order.Status.PARTIALLY_FULFILLED)
# Money in a payment that had ended is for a person.
ENDED = (Payment.Status.FAILED, Payment.Status.CANCELLED, Payment.Status.REFUNDED, Payment.Status.REVIEW)
_callers = ThreadPoolExecutor(max_workers=8, thread_name_prefix="create-payment")

_STEPS = {
    ProviderStatus.WAITING: Payment.Status.WAITING,
    ProviderStatus.CONFIRMING: Payment.Status.CONFIRMING,
    ProviderStatus.CONFIRMED: Payment.Status.CONFIRMED,
    ProviderStatus.SENDING: Payment.Status.SENDING,
}
_STEP_MESSAGES = {
    Payment.Status.WAITING: "The payment waits for coins.",
    Payment.Status.CONFIRMING: "The coins were seen; the network is confirming them.",
    Payment.Status.CONFIRMED: "The network confirmed the coins.",
    Payment.Status.SENDING: "The coins are on their way to the store.",
}


def start_payment_once(*, order: Order, coin: str, idempotency_key: str) -> idempotency.Once:
    """Start a payment under an Idempotency-Key; raises what start_payment and idempotency.once_outside raise."""

    def make() -> uuid.UUID:
        return start_payment(order=order, coin=coin).pk

    body = f"{order.pk} {coin.lower()}".encode()
    return idempotency.once_outside(route="payments", key=idempotency_key, body=body, make=make)


def start_payment(*, order: Order, coin: str) -> Payment:
    """Return a payment of the order in this coin, with an address to pay to, or still `creating` after five seconds.

    An open quote in the same coin is returned again instead of making a second payment. The row is committed before
    the provider is asked, because their call is not idempotent. Raises NotPayable, UnknownCoin, TooSmall or NoAnswer.
    """
    coin = coin.lower()
    payment, is_new = _claim_payment(order, coin)
    if not is_new:
        return payment
    failpoint("payment.claimed")
    call = _callers.submit(_ask, payment)
    try:
        answer = call.result(timeout=CUSTOMER_WAITS)
    except StillRunning:
        call.add_done_callback(lambda done: _record_later(payment, done))
        return payment
    except ProviderError as err:
        _record_failure(payment, err)
        raise _for_customer(err, coin) from err
    failpoint("payment.created")
    _record_created(payment, answer)
    failpoint("payment.bound")
    return payment


def amount_due(order: Order) -> Decimal:
    """Return what is left to pay, in the order's currency: partial payments count with what arrived."""
    finished = order.payments.filter(status=Payment.Status.FINISHED).aggregate(total=Sum("price_amount"))["total"]
    return max(order.total - _credits(order.payments.all()) - cents(finished or Decimal(0)), NOTHING)


def handle_ipn(hint: IpnHint) -> str:
    """Re-read the payment that an authentic IPN names and apply what the provider says; return what came of it.

    Raises UnknownPayment for a payment we may still be creating, and ProviderUnavailable.
    """
    payment = Payment.objects.filter(external_id=hint.payment_id).first()
    if payment is None:
        return _handle_unbound(hint)
    if hint.order_id and hint.order_id != str(payment.order_id):
        _alert_other_order(str(payment), payment.order)
    return refresh(payment)


def refresh(payment: Payment) -> str:
    """Ask the provider for this payment and apply the answer. Raises ProviderUnavailable."""
    if not payment.external_id:
        return "the provider has not named this payment yet"
    facts = _read(payment.external_id)
    failpoint("payment.read")
    if facts.status is ProviderStatus.FINISHED and payment.price_amount < payment.order.total:
        _reread_parts(payment)
    outcome = apply(payment, facts)
    failpoint("payment.applied")
    for child in facts.payment_extra_ids:
        _notice_child(payment, child)
    return outcome


def watch(payment: Payment) -> None:
    """Re-read one claimed payment whose turn has come: the road for IPNs that never arrive."""
    if payment.external_id is None:
        _end_unanswered(payment)
        return
    try:
        refresh(payment)
    except ProviderError as err:
        logger.warning("%s could not be re-read: %s", payment, err)
        payment.retry()
    else:
        payment.release(next_look(Payment.objects.get(pk=payment.pk)), attempts=0)


def give_up(payment: Payment) -> None:
    """Let a payment that crashed its worker again and again rest for an hour, and tell staff."""
    raise_alert(
        "payment_poison",
        str(payment),
        f"Reading {payment} crashed the worker three times. Look at the log, then use “read again”.",
        order=payment.order,
    )
    payment.release(delay(3600))


def next_look(payment: Payment) -> timedelta | None:
    """Return when to re-read, or None once nothing can come of this payment any more."""
    age = timezone.now() - payment.created_at
    if payment.status in (Payment.Status.EXPIRED, Payment.Status.PARTIALLY_PAID):
        return delay(3600) if age < WATCHED_FOR else None
    if payment.status not in Payment.OPEN:
        return None
    if age > WATCHED_FOR:
        return delay(6 * 3600)
    for limit, pause in ((1800, 30), (7200, 120), (86_400, 900)):
        if age < timedelta(seconds=limit):
            return delay(pause)
    return delay(3600)


def apply(payment: Payment, facts: PaymentFacts) -> str:
    """Move payment and order to what the provider says, only forwards; return a sentence for the log."""
    with transaction.atomic():
        order = payment.order.lock()
        payment = payment.lock()
        Payment.objects.filter(pk=payment.pk).update(
            provider_status=facts.raw_status[:40],
            actually_paid=facts.actually_paid,
            outcome_amount=facts.outcome_amount,
            outcome_currency=facts.outcome_currency,
            evidence=_evidence(facts),
            read_at=Now(),
        )
        if payment.refunds.filter(status=Refund.Status.DONE).exists():
            return "staff sent this money back"
        if facts.status is ProviderStatus.FINISHED:
            return _apply_finished(order, payment, facts)
        if facts.status in _STEPS:
            return _apply_step(payment, _STEPS[facts.status])
        return _apply_aside(order, payment, facts)


def _apply_finished(order: Order, payment: Payment, facts: PaymentFacts) -> str:
    if payment.status == Payment.Status.FINISHED:
        return "already finished"
    reason = objection(payment, facts, tolerance=settings.PAYMENT_TOLERANCE)
    if not reason and payment.status in ENDED:
        reason = f"finished_after_{payment.status}"
    if not reason and not _takes_money(order):
        reason = "second_payment" if order.paid_at else f"order_{order.status}"
    if not reason and payment.price_amount + _credits(order.payments.exclude(pk=payment.pk)) < order.total:
        reason = "order_not_covered"
    if reason:
        return _to_review(order, payment, reason)
    _pay(order, payment, facts)
    return "paid"


def _pay(order: Order, payment: Payment, facts: PaymentFacts) -> None:
    coins_in = f"{plain(facts.actually_paid)} {payment.pay_currency.upper()}"
    payment.move(Payment.Status.FINISHED, message=f"The store has the money: {coins_in}.", finished_at=Now(), reason="")
    order.mark_paid(message=f"Paid in full with {coins_in}.")
    queue_email(order, Email.Kind.PAYMENT_RECEIVED)
    failpoint("payment.moved")
    if payment.pay_amount and facts.actually_paid > payment.pay_amount * (1 + settings.PAYMENT_TOLERANCE):
        surplus = plain(facts.actually_paid - payment.pay_amount)
        order.note("payment", f"{surplus} {payment.pay_currency.upper()} more than asked arrived.")
    # Partial payments that this one completes need nobody any more; beside a full price they are owed back.
    partial = order.payments.filter(status=Payment.Status.PARTIALLY_PAID)
    for counted in (payment, *(partial if payment.price_amount < order.total else ())):
        close_alert("payment_review", str(counted), by="the machine: the order is paid")


def _takes_money(order: Order) -> bool:
    """Say whether a finished payment pays this order. One held for another payment, such as a deposit in the wrong
    coin, still waits for the right one: which of the two comes first must not matter.
    """
    if order.status in (*PAYABLE, Order.Status.EXPIRED):
        return True
    if order.status != Order.Status.HELD or order.paid_at is not None:
        return False
    held_for = order.payments.filter(status=Payment.Status.REVIEW, reason=order.reason)
    return order.reason == PAID_IN_PARTS or held_for.exists()


def _apply_step(payment: Payment, step: str) -> str:
    current = Payment.RANK.get(payment.status)
    if payment.status == Payment.Status.EXPIRED and step == Payment.Status.WAITING:
        return "still without coins"
    if payment.status != Payment.Status.EXPIRED and (current is None or Payment.RANK[step] <= current):
        return f"{step} brings nothing new"
    payment.move(step, message=_STEP_MESSAGES[Payment.Status(step)])
    return str(step)


def _apply_aside(order: Order, payment: Payment, facts: PaymentFacts) -> str:
    if payment.status == Payment.Status.FINISHED and payment.provider_status == facts.raw_status:
        return f"{facts.status} is known already"  # and a person may have accepted it
    if facts.status is ProviderStatus.PARTIALLY_PAID:
        return _apply_partial(order, payment, facts)
    if facts.status is ProviderStatus.REFUNDED:
        return _apply_refunded(order, payment)
    if facts.status is ProviderStatus.UNKNOWN:
        return _to_review(order, payment, "unknown_status")
    to = Payment.Status(facts.status.value)
    known_already = to == Payment.Status.EXPIRED and payment.status == Payment.Status.PARTIALLY_PAID
    if facts.actually_paid > 0 and not known_already:
        return _to_review(order, payment, f"{to}_with_money")
    if payment.status == Payment.Status.FINISHED:
        _alert(order, payment, f"{to}_after_finished")
        return f"alert: {to}_after_finished"
    if to not in Payment.TRANSITIONS[payment.status]:
        return f"{to} changes nothing"
    payment.move(to, message=f"The provider ended this payment: {to}.")
    return str(to)


def _apply_partial(order: Order, payment: Payment, facts: PaymentFacts) -> str:
    if payment.status in (Payment.Status.FAILED, Payment.Status.CANCELLED):
        return _to_review(order, payment, f"partially_paid_after_{payment.status}")
    if payment.status == Payment.Status.FINISHED:
        _alert(order, payment, "partially_paid_after_finished")
    known = payment.status == Payment.Status.PARTIALLY_PAID
    if not known and Payment.Status.PARTIALLY_PAID not in Payment.TRANSITIONS[payment.status]:
        return "partially_paid changes nothing"
    if reason := binding_objection(payment, facts):
        return _to_review(order, payment, f"partially_paid_{reason}")
    credit = _credit(payment, facts)
    if known and credit == payment.credit:
        return "partially_paid brings nothing new"
    missing = (payment.pay_amount or facts.pay_amount) - facts.actually_paid
    sentence = (
        f"{plain(facts.actually_paid)} {payment.pay_currency.upper()} arrived;"
        f" {plain(max(missing, Decimal(0)))} {payment.pay_currency.upper()} are missing."
    )
    if not payment.move(Payment.Status.PARTIALLY_PAID, message=sentence, reason="too_little", credit=credit):
        Payment.objects.filter(pk=payment.pk).update(credit=credit)
        order.note("payment", sentence)
    _ask_for_rest(order, sentence)
    _alert(order, payment, "partially_paid")
    return "partially_paid"


def _ask_for_rest(order: Order, sentence: str) -> None:
    if order.status in (Order.Status.PENDING, Order.Status.EXPIRED):
        order.mark_underpaid(message=sentence)
    if order.status not in PAYABLE:
        return
    if amount_due(order) > order.total * settings.PAYMENT_TOLERANCE:
        queue_email(order, Email.Kind.PROBLEM, reason=f"{sentence} Open your order to pay the rest, or write to us.")
        return
    # No key leaves without a finished payment, and nobody can be asked for the nothing that is missing.
    order.hold(reason=PAID_IN_PARTS, message="The parts make up the price; a person looks at them.")
    queue_email(order, Email.Kind.PROBLEM, reason="Your payments together make up the price. A person looks at them.")


def _credit(payment: Payment, facts: PaymentFacts) -> Decimal:
    """Return the share of the price that arrived, rounded down, and a cent short of it all: it was not all."""
    share = min(facts.actually_paid / payment.pay_amount, Decimal(1)) if payment.pay_amount else Decimal(0)
    return max(min((payment.price_amount * share).quantize(CENT, ROUND_DOWN), payment.price_amount - CENT), Decimal(0))


def _credits(payments: QuerySet[Payment]) -> Decimal:
    counted = payments.filter(status=Payment.Status.PARTIALLY_PAID)
    # SQLite sums in its own precision.
    return cents(counted.aggregate(total=Sum("credit"))["total"] or Decimal(0))


def _apply_refunded(order: Order, payment: Payment) -> str:
    if payment.status == Payment.Status.REFUNDED:
        return "already refunded"
    counted = payment.status in (Payment.Status.FINISHED, Payment.Status.PARTIALLY_PAID)
    payment.move(Payment.Status.REFUNDED, message="The provider sent the coins back.")
    if order.paid_at and order.status in REFUNDABLE and amount_due(order) > 0:
        order.hold(reason="payment_refunded", message="The payment was refunded by the provider.")
    if counted and order.status in (*PAYABLE, Order.Status.HELD):
        queue_email(order, Email.Kind.PROBLEM, reason="The payment provider sent your coins back. Look at your order.")
    _alert(order, payment, "refunded")
    return "refunded"


def _to_review(order: Order, payment: Payment, reason: str) -> str:
    if payment.status == Payment.Status.REVIEW:
        return f"review: {payment.reason}"
    if Payment.Status.REVIEW not in Payment.TRANSITIONS[payment.status]:
        _alert(order, payment, reason)
        return f"alert: {reason}"
    payment.move(Payment.Status.REVIEW, message="Staff have to look at this payment.", reason=reason)
    if order.status in (*PAYABLE, Order.Status.EXPIRED):
        order.hold(reason=reason, message="The payment needs a person.")
        queue_email(order, Email.Kind.PROBLEM, reason="Your payment arrived in a form that a person has to look at.")
    _alert(order, payment, reason)
    return f"review: {reason}"


def _alert(order: Order, payment: Payment, reason: str) -> None:
    raise_alert(
        "payment_review",
        str(payment),
        f"{payment} needs a person: {reason}. Open it in the admin and compare our numbers with the provider's.",
        order=order,
    )


def _evidence(facts: PaymentFacts) -> dict[str, Any]:
    return {
        "status": facts.raw_status,
        "order_id": facts.order_id,
        "price": f"{plain(facts.price_amount)} {facts.price_currency}",
        "asked": f"{plain(facts.pay_amount)} {facts.pay_currency}",
        "paid": plain(facts.actually_paid),
        "parent": facts.parent_payment_id,
    }


def _claim_payment(order: Order, coin: str) -> tuple[Payment, bool]:
    with transaction.atomic():
        order = order.lock()
        price = amount_due(order)
        if order.status not in PAYABLE or price <= 0:
            raise NotPayable(order.status)
        coins.check_payable(price=price, coin=coin)
        # A quote of another amount, from before a part was paid, is left aside (and watched).
        open_quote = order.payments.filter(
            pay_currency=coin, price_amount=price, status=Payment.Status.WAITING, expires_at__gt=Now()
        ) | order.payments.filter(pay_currency=coin, status__in=["confirming", "confirmed", "sending"])
        asking = order.payments.filter(
            pay_currency=coin, status=Payment.Status.CREATING, reason="", created_at__gt=Now() - timedelta(seconds=60)
        )
        if (existing := open_quote.first() or asking.first()) is not None:
            return existing, False
        payment = Payment.objects.create(
            order=order,
            price_amount=price,
            price_currency=order.currency.lower(),
            pay_currency=coin,
            next_attempt_at=Now() + UNANSWERED_FOR,
        )
    return payment, True


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
        connection.close()


def _record_created(payment: Payment, answer: CreatedPayment) -> None:
    """Bind the provider's payment to the order; an answer that is not about our request is not shown to anybody."""
    asked = (str(payment.order_id), payment.price_amount, payment.price_currency, payment.pay_currency)
    echoed = (answer.order_id, answer.price_amount, answer.price_currency, answer.pay_currency)
    fields: dict[str, Any] = {
        "external_id": answer.payment_id,
        "pay_amount": answer.pay_amount,
        "pay_address": answer.pay_address,
        "payin_extra_id": answer.payin_extra_id,
        "network": answer.network[:32],
        "purchase_id": answer.purchase_id,
        "expires_at": answer.expires_at,
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
                    Payment.Status.REVIEW, message="The provider answered about another payment.",
                    reason="create_mismatch", external_id=answer.payment_id,
                )  # fmt: skip
                _alert(order, payment, "create_mismatch")
            else:
                payment.move(Payment.Status.WAITING, message=_STEP_MESSAGES[Payment.Status.WAITING], **fields)
    except IntegrityError as err:
        Payment.objects.filter(pk=payment.pk).update(reason="no_answer")
        _alert(payment.order, payment, "bound_twice")
        raise NoAnswer("the provider named a payment that is bound already") from err
    if payment.status == Payment.Status.REVIEW:
        raise NoAnswer("the provider answered about another payment")


def _record_failure(payment: Payment, err: ProviderError) -> None:
    if isinstance(err, ProviderRejected | ProviderNotSent):
        with transaction.atomic():
            payment.order.lock()
            payment.move(
                Payment.Status.FAILED, message="The provider made no payment.", reason="refused", next_attempt_at=None
            )
        return
    # Whether they made a payment is unknown. Nobody sees its address; an IPN that names our order adopts it.
    Payment.objects.filter(pk=payment.pk, external_id=None).update(reason="no_answer")
    logger.warning("%s: no answer to its creation (%s)", payment, err)


def _for_customer(err: ProviderError, coin: str) -> Exception:
    if isinstance(err, BelowMinimum):
        return TooSmall(coin, None)
    if isinstance(err, CoinUnavailable):
        return UnknownCoin(coin)
    return NoAnswer(str(err))


def _end_unanswered(payment: Payment) -> None:
    """Close a creation that stayed without an answer: no address was ever shown, so nobody can have paid it."""
    if timezone.now() - payment.created_at < UNANSWERED_FOR:
        payment.release(UNANSWERED_FOR)
        return
    with transaction.atomic():
        payment.order.lock()
        if payment.lock().external_id is not None:
            payment.release(delay(0))  # an IPN named it just now
            return
        payment.release(None)
        payment.move(Payment.Status.EXPIRED, message="The provider never answered this payment's creation.")


def _handle_unbound(hint: IpnHint) -> str:
    """An authentic IPN for a payment that no row of ours names: a creation without answer, a child, or a stranger."""
    try:
        order = Order.objects.filter(pk=uuid.UUID(hint.order_id)).first() if hint.order_id else None
    except ValueError:
        order = None
    parent = Payment.objects.filter(external_id=hint.parent_payment_id).first() if hint.parent_payment_id else None
    order = order or (parent.order if parent else None)
    if order is None:
        return "ignored: neither payment nor order is ours"
    facts = _read(hint.payment_id)
    if facts.order_id not in ("", str(order.pk)):
        _alert_other_order(f"payment {hint.payment_id}", order)
        return "ignored: the provider knows this payment for another order"
    return apply(_adopt(order, facts), facts)


def _alert_other_order(payment: str, order: Order) -> None:
    raise_alert(
        "ipn_other_order",
        payment,
        f"An authentic IPN for {payment} names another order. Nothing was changed; check the provider's dashboard.",
        order=order,
    )


def _reread_parts(payment: Payment) -> None:
    """Ask for the parts that this payment completes: one may have gone back since we counted it."""
    parts = payment.order.payments.filter(status=Payment.Status.PARTIALLY_PAID).exclude(pk=payment.pk)
    for part in parts.exclude(external_id=None):
        apply(part, _read(str(part.external_id)))


def _notice_child(payment: Payment, child: str) -> None:
    """Take in a second deposit that the provider lists with its parent, in case its own IPN never comes."""
    if Payment.objects.filter(external_id=child).exists():
        return
    try:
        facts = dataclasses.replace(_read(child), parent_payment_id=str(payment.external_id))
    except ProviderUnavailable as err:
        logger.warning("a deposit beside %s could not be read: %s", payment, err)
        _alert(payment.order, payment, "a second deposit that cannot be read")
        return
    apply(_adopt(payment.order, facts), facts)


def _adopt(order: Order, facts: PaymentFacts) -> Payment:
    """Bind the payment to the creation that it answers, or open a row for staff if there is none."""
    with transaction.atomic():
        order = order.lock()
        bound = Payment.objects.filter(external_id=facts.payment_id).first()
        if bound is not None:
            return bound
        waiting = order.payments.filter(
            status=Payment.Status.CREATING, pay_currency=facts.pay_currency, price_amount=facts.price_amount
        )
        if not facts.parent_payment_id and (payment := waiting.order_by("created_at").first()) is not None:
            if payment.reason == "" and timezone.now() - payment.created_at < timedelta(seconds=30):
                raise UnknownPayment("our own call has not returned yet")
            payment.move(
                Payment.Status.WAITING, message="An IPN named this payment.", external_id=facts.payment_id,
                pay_amount=facts.pay_amount, pay_address=facts.pay_address, payin_extra_id=facts.payin_extra_id,
                reason="", next_attempt_at=Now() + delay(30),
            )  # fmt: skip
            return payment
        return Payment.objects.create(
            order=order,
            external_id=facts.payment_id,
            status=Payment.Status.WAITING,
            price_amount=order.total,
            price_currency=order.currency.lower(),
            pay_currency=facts.pay_currency,
            pay_amount=facts.pay_amount,
            parent_external_id=facts.parent_payment_id or "unbound",
        )


def _read(external_id: str) -> PaymentFacts:
    """Return what the provider says now. Raises ProviderUnavailable; what they do not know now they may know later."""
    try:
        return NowPaymentsClient.from_settings().read_payment(external_id)
    except ProviderRejected as err:
        raise ProviderUnavailable(f"payment {external_id} could not be read: {err}", status=err.status) from err


def read_again(payment: Payment) -> None:
    """Put the payment on top of the queue, for a person who does not want to wait."""
    payment.wake()
