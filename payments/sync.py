"""How BitLoot learns of a payment: an IPN or the sweep names it, and the provider is asked for the truth."""

import dataclasses
import logging
import uuid
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal

from django.conf import settings
from django.core.cache import caches
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Coalesce, Now
from django.utils.translation import gettext_noop

from bitloot.core import logs, queries
from bitloot.core.clock import backoff, delay
from bitloot.core.decisions import Decision, nothing_against
from bitloot.core.faults import failpoint
from bitloot.core.outcome import Outcome
from bitloot.core.providers import Cause, CredentialsRefused, OverBudget, ProviderError, ProviderRejected, Urgency
from orders.alerts import close_alert, raise_alert
from orders.choices import AlertKind
from orders.models import Order
from payments.acceptance import exceeds, is_late, objection
from payments.choices import ReviewReason
from payments.creation import UNANSWERED_FOR
from payments.exceptions import UnknownPayment
from payments.ipn import IpnHint
from payments.models import Payment
from payments.nowpayments import NowPaymentsClient, PaymentFacts, ProviderStatus
from payments.settlement import LOOK_AFTER_FINISH, PAYABLE, Today, alert, apply
from payments.unanswered import credentials_refused, note_failure, note_success

logger = logging.getLogger(__name__)

# What they keep of what arrived, at most.
PROVIDER_FEES = Decimal("0.01")
WATCHED_FOR = timedelta(days=7, hours=6)
# Open pages ask every few seconds; what they tell us is written down once in a while.
LOOKS_NOTED_EVERY = 60
SHOWN_LATELY = timedelta(seconds=3 * LOOKS_NOTED_EVERY)
# So often a payment that nobody looks at is left unread for lack of budget, some six minutes, until its reading counts
# for more than a new payment: an IPN may have been lost.
POLLS_LEFT_OUT = 8
# Of the deposits beside a payment so many are read: an endless list must not use up what we may ask.
MOST_CHILDREN = 20
# What the provider may announce of a payment to which nothing has come: anybody can cause that.
WITHOUT_MONEY = ("waiting", "expired")


def handle_ipn(hint: IpnHint) -> Outcome:
    """Re-read the payment that an authentic IPN names and apply what the provider says; return the outcome.

    Raises UnknownPayment for a payment we may still be creating, and ProviderError.
    """
    known = queries.select(Payment, {"external_id": hint.payment_id}, join=("order",))
    try:
        return _handle_known(known[0], hint) if known else _handle_unbound(hint)
    except ProviderError as err:
        if known:
            note_failure(known[0], err)
        elif err.cause is Cause.CREDENTIALS:
            credentials_refused(err)
        raise


def _handle_known(payment: Payment, hint: IpnHint) -> Outcome:
    # Staff hear of it; what counts is what the provider says when it is asked, below.
    if hint.order_id and hint.order_id != str(payment.order_id):
        _alert_other_order(payment, payment.order)
    urgency = _urgency(payment) if hint.status in WITHOUT_MONEY else Urgency.FIRST
    try:
        return Outcome.processed(refresh(payment, urgency=urgency))
    except OverBudget:
        if urgency is Urgency.FIRST:
            raise
        return Outcome.ignored("the provider is asked too often already; the payment is read when it is due")


def note_look(order: Order) -> None:
    """Remember that a customer has the page of an unpaid order open: its payments are read before others."""
    if order.status in PAYABLE and caches["local"].add(f"looked:{order.pk}", True, LOOKS_NOTED_EVERY):
        order.payments.filter(status__in=Payment.OPEN).update(shown_at=Now())


def refresh(payment: Payment, *, urgency: Urgency = Urgency.FIRST) -> str:
    """Ask the provider for this payment and apply the answer. Raises ProviderError."""
    if not payment.external_id:
        return "the provider has not named this payment yet"
    logs.note(order=payment.order_id)
    facts = _read(payment.external_id, urgency=urgency)
    failpoint("payment.read")
    # The parts first: what this payment covers depends on them.
    if facts.status is ProviderStatus.FINISHED and payment.price_amount < payment.order.total:
        _reread_parts(payment)
    outcome = _settle(payment, facts)
    failpoint("payment.applied")
    note_success(payment)
    # Last: trouble with a deposit beside it must not keep the payment itself waiting.
    for child in facts.payment_extra_ids[:MOST_CHILDREN]:
        _notice_child(payment, child)
    if len(facts.payment_extra_ids) > MOST_CHILDREN:
        alert(payment.order, payment, ReviewReason.CHILD_UNREADABLE)
    return outcome


def read_again(payment: Payment, *, actor: str = "") -> None:
    """Put the payment at the head of the queue, for staff who do not want to wait."""
    payment.wake()


def watch(payment: Payment) -> None:
    """Re-read one claimed payment that is due: the fallback for IPNs that never arrive."""
    if payment.external_id is None:
        _end_unanswered(payment)
        return
    payment.order = queries.get(Order, payment.order_id)
    urgency = _urgency(payment)
    try:
        refresh(payment, urgency=urgency)
    except ProviderError as err:
        if urgency is not Urgency.FIRST and isinstance(err, OverBudget):
            # Nobody waits for it and nothing is wrong: it comes again, less often the longer this lasts.
            payment.release(max(delay(30), backoff(payment.attempts + 1)), attempts=F("attempts") + 1)
            return
        logger.warning("%s could not be re-read: %s", payment, err)
        pause = backoff(payment.attempts + 1)
        left = note_failure(payment, err)
        # Staff must hear of it in time, not a backoff later.
        payment.release(min(pause, left) if left else pause, attempts=F("attempts") + 1)
    else:
        # Read anew: `refresh` moved the row, not this instance.
        payment.release(next_look(queries.get(Payment, payment.pk)), attempts=0)


def give_up(payment: Payment) -> None:
    """Let a payment that crashed its worker again and again rest for an hour, and tell staff."""
    raise_alert(
        AlertKind.PAYMENT_POISON,
        payment,
        f"Reading {payment} crashed the worker three times. Look at the log, then use “Read again at the provider”.",
        order=payment.order,
    )
    # From here on it counts as unread, so that the next read that works closes the alert.
    payment.release(delay(3600), unread_since=Coalesce("unread_since", Now()))


def next_look(payment: Payment) -> timedelta | None:
    """Return when to re-read, or None once nothing more can come of this payment."""
    # Both by the database's clock: this process's may be off.
    age = payment.claimed_at - payment.created_at
    if payment.status in (Payment.Status.EXPIRED, Payment.Status.PARTIALLY_PAID):
        return delay(3600) if age < WATCHED_FOR else None
    if payment.status == Payment.Status.FINISHED and payment.finished_at is not None:
        later = delay(LOOK_AFTER_FINISH)
        return later if payment.claimed_at - payment.finished_at < later else None
    if payment.status not in Payment.OPEN:
        return None
    if age > WATCHED_FOR:
        return delay(6 * 3600)
    # IPNs bring the news; this only catches lost ones, sooner while a customer is likely to be waiting.
    for limit, pause in ((1800, 30), (7200, 120), (86_400, 900)):
        if age < timedelta(seconds=limit):
            return delay(pause)
    return delay(3600)


def _urgency(payment: Payment) -> Urgency:
    """Payments to which coins came, and those whose page is open, are read before those that nobody waits for.

    Those yield to new payments as well, until they were left out too often.
    """
    has_money = payment.status not in (Payment.Status.WAITING, Payment.Status.EXPIRED) or payment.actually_paid > 0
    is_shown = payment.shown_at is not None and payment.claimed_at - payment.shown_at < SHOWN_LATELY
    if has_money or is_shown:
        return Urgency.FIRST
    return Urgency.OVERDUE if payment.attempts >= POLLS_LEFT_OUT else Urgency.POLL


def _end_unanswered(payment: Payment) -> None:
    """Close a creation that stayed without an answer: no address was ever shown, so nobody can have paid it."""
    if payment.claimed_at - payment.created_at < UNANSWERED_FOR:
        payment.release(UNANSWERED_FOR)
        return
    with transaction.atomic():
        payment.order.lock()
        if payment.lock().external_id is not None:
            payment.release(delay(0))  # an IPN named it just now: read it instead of ending it
            return
        payment.release(None)
        payment.move(
            Payment.Status.EXPIRED, message=gettext_noop("The provider never answered this payment's creation.")
        )


def _handle_unbound(hint: IpnHint) -> Outcome:
    """An authentic IPN for a payment that no row of ours names: a creation without answer, a child, or a stranger."""
    try:
        orders = queries.select(Order, {"pk": uuid.UUID(hint.order_id)}) if hint.order_id else []
    except ValueError:
        orders = []
    order = orders[0] if orders else None
    parent = Payment.objects.filter(external_id=hint.parent_payment_id).first() if hint.parent_payment_id else None
    order = order or (parent.order if parent else None)
    if order is None:
        return Outcome.ignored("neither payment nor order is ours")
    facts = _read(hint.payment_id)
    if facts.order_id not in ("", str(order.pk)):
        _alert_other_order(f"NOWPayments payment {hint.payment_id}", order)
        return Outcome.ignored("the provider knows this payment for another order")
    return Outcome.processed(_settle(_adopt(order, facts), facts))


def _alert_other_order(payment: Payment | str, order: Order) -> None:
    raise_alert(
        AlertKind.IPN_OTHER_ORDER,
        payment,  # by name where no row of ours has it
        f"An authentic IPN for {payment} names another order. Nothing was changed; check the provider's dashboard.",
        order=order,
    )


def _reread_parts(payment: Payment) -> None:
    """Ask for the parts that this payment completes: one may have gone back since we counted it."""
    parts = payment.order.payments.filter(status=Payment.Status.PARTIALLY_PAID).exclude(pk=payment.pk)
    for part in parts.exclude(external_id=None):
        apply(part, _read(str(part.external_id)))


def _settle(payment: Payment, facts: PaymentFacts) -> str:
    """Apply what the provider says, and before that ask what coins that came late are worth. Raises ProviderError."""
    # Decided and asked before `apply`, whose transaction must not wait for a provider.
    asks = _changes_what_is_paid(payment, facts) and is_late(payment, facts)
    return apply(payment, facts, today=_today(payment, facts) if asks else None)


def _changes_what_is_paid(payment: Payment, facts: PaymentFacts) -> bool:
    if facts.status is ProviderStatus.PARTIALLY_PAID:
        is_known = payment.status == Payment.Status.PARTIALLY_PAID
        return not is_known or exceeds(facts.actually_paid, payment.actually_paid)
    would_pay = objection(payment, facts, tolerance=settings.PAYMENT_TOLERANCE) is None
    return would_pay and payment.status != Payment.Status.FINISHED


def _today(payment: Payment, facts: PaymentFacts) -> Today:
    """Return what the coins are worth at today's rate, in the price's currency. Raises ProviderError.

    A part that was counted before keeps what it was worth then; only what came since is weighed.
    """
    client = NowPaymentsClient.from_settings()
    was_counted = payment.status == Payment.Status.PARTIALLY_PAID
    for coin, amount, share in _since(payment, facts) if was_counted else _arrived(facts):
        try:
            needed = payment.price_amount
            if coin != payment.price_currency:
                needed = client.estimate(payment.price_amount, payment.price_currency, coin, urgency=Urgency.FIRST)
        except CredentialsRefused:
            raise
        except ProviderRejected as err:
            logger.warning("what %s is worth in %s is not known: %s", payment, coin, err)
            continue  # they quote no price for this pair: judge by the next coin
        worth = payment.price_amount * amount / (needed * share)
        return Today(worth + payment.credit if was_counted else worth)
    return Today(None)


def _since(payment: Payment, facts: PaymentFacts) -> Iterator[tuple[str, Decimal, Decimal]]:
    yield facts.pay_currency, max(facts.actually_paid - payment.actually_paid, Decimal(0)), Decimal(1)


def _arrived(facts: PaymentFacts) -> Iterator[tuple[str, Decimal, Decimal]]:
    """Yield the coin and amount that came, and the share of the price it has to make up: the outcome is net of fees."""
    if facts.outcome_amount and facts.outcome_currency:
        yield facts.outcome_currency, facts.outcome_amount, 1 - PROVIDER_FEES
    yield facts.pay_currency, facts.actually_paid, Decimal(1)


def _notice_child(payment: Payment, child: str) -> None:
    """Take in a second deposit that the provider lists with its parent, in case its own IPN never comes."""
    if Payment.objects.filter(external_id=child).exists():
        return
    try:
        # Its parent is the payment that lists it, even if its own answer does not say so.
        facts = dataclasses.replace(_read(child), parent_payment_id=str(payment.external_id))
    except ProviderError as err:
        logger.warning("a deposit beside %s could not be read: %s", payment, err)
        alert(payment.order, payment, ReviewReason.CHILD_UNREADABLE)
        return
    _settle(_adopt(payment.order, facts), facts)


def _adopt(order: Order, facts: PaymentFacts) -> Payment:
    """Bind the payment to the creation that it answers, or open a row for staff if there is none."""
    with transaction.atomic():
        order = order.lock()
        # Looked up again under the lock: its IPN, and the sweep that reads its parent, may both bring it in.
        bound = Payment.objects.filter(external_id=facts.payment_id).first()
        if bound is not None:
            return bound
        waiting = order.payments.filter(
            status=Payment.Status.CREATING, pay_currency=facts.pay_currency, price_amount=facts.price_amount
        )
        if not facts.parent_payment_id and (payment := waiting.order_by("created_at").first()) is not None:
            # An IPN may overtake the answer to our own call, which also brings the memo and the quote's end.
            if waiting.filter(pk=payment.pk, reason="", created_at__gt=Now() - timedelta(seconds=30)).exists():
                raise UnknownPayment("our own call has not returned yet")
            had_trouble = payment.reason != ""
            payment.move(
                Payment.Status.WAITING, message=gettext_noop("An IPN named this payment."),
                external_id=facts.payment_id, pay_amount=facts.pay_amount, pay_address=facts.pay_address,
                payin_extra_id=facts.payin_extra_id,
                reason="", next_attempt_at=Now() + delay(30),
            )  # fmt: skip
            if had_trouble:
                # The alert was raised before the provider's id arrived; this id is what was missing.
                close_alert(AlertKind.PAYMENT_REVIEW, payment, by="automatic: the provider named the payment")
            return payment
        return Payment.objects.create(
            order=order,
            external_id=facts.payment_id,
            status=Payment.Status.WAITING,
            price_amount=order.total,
            price_currency=order.currency.lower(),
            pay_currency=facts.pay_currency,
            pay_amount=facts.pay_amount,
            # Never empty: `acceptance` lets no payment count that we did not create.
            parent_external_id=facts.parent_payment_id or "unbound",
        )


def _read(external_id: str, *, urgency: Urgency = Urgency.FIRST) -> PaymentFacts:
    """Return what the provider says now. Raises ProviderError; what they refuse or do not know now may come later."""
    return NowPaymentsClient.from_settings().read_payment(external_id, urgency=urgency)


READ_AGAIN = Decision(
    name="read_again",
    label="Read again at the provider",
    permission="payments.read_again",
    objection=nothing_against,
    carry_out=read_again,
    done="the provider is asked again within seconds",
)
