"""What each word of the provider leads to: payment and order move to what was re-read, only forwards."""

from dataclasses import dataclass, replace
from decimal import ROUND_DOWN, Decimal
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_noop

from bitloot.core import queries
from bitloot.core.clock import delay
from bitloot.core.faults import failpoint
from bitloot.core.money import CENT, plain
from bitloot.core.sentences import Sentence
from orders.alerts import close_alert, raise_alert
from orders.choices import AlertKind, OrderReason
from orders.models import Email, Order
from orders.services import queue_email
from payments import other_address, overpaid
from payments.acceptance import binding_objection, brings_more, exceeds, is_late, objection
from payments.balance import amount_due, credit_of, credited
from payments.choices import BY_THE_PROVIDER, PaymentStatus, ReviewReason
from payments.models import Payment, Refund
from payments.nowpayments import PaymentFacts, ProviderStatus, is_known_word

PAYABLE = (Order.Status.PENDING, Order.Status.UNDERPAID)
# Once more, for a refund or a second deposit whose IPN was lost.
LOOK_AFTER_FINISH = 3600
# Not delivered in full: stop when the money goes back.
REFUNDABLE = (Order.Status.PAID, Order.Status.FULFILLING, Order.Status.PARTIALLY_FULFILLED, Order.Status.HELD)
# Whatever comes for it goes back.
_ENDED = (Order.Status.CANCELLED, Order.Status.FAILED, Order.Status.REFUNDED)
# Of coins in these a mail has told the customer that they came.
_CUSTOMER_KNOWS = frozenset(
    {
        Payment.Status.CONFIRMING, Payment.Status.CONFIRMED, Payment.Status.SENDING, Payment.Status.PARTIALLY_PAID,
        Payment.Status.REVIEW, Payment.Status.FINISHED,
    }
)  # fmt: skip
# Money in a payment that had ended is for staff.
_FINISHED_AFTER: dict[str, ReviewReason] = {
    Payment.Status.FAILED: ReviewReason.FINISHED_AFTER_FAILED,
    Payment.Status.CANCELLED: ReviewReason.FINISHED_AFTER_CANCELLED,
    Payment.Status.REFUNDED: ReviewReason.FINISHED_AFTER_REFUNDED,
    Payment.Status.REVIEW: ReviewReason.FINISHED_AFTER_REVIEW,
}
_PARTIALLY_PAID_AFTER: dict[str, ReviewReason] = {
    Payment.Status.FAILED: ReviewReason.PARTIALLY_PAID_AFTER_FAILED,
    Payment.Status.CANCELLED: ReviewReason.PARTIALLY_PAID_AFTER_CANCELLED,
}
# What takes no money although it was never paid.
_ORDER_TAKES_NONE: dict[str, ReviewReason] = {
    Order.Status.HELD: ReviewReason.ORDER_HELD,
    Order.Status.CANCELLED: ReviewReason.ORDER_CANCELLED,
    Order.Status.FAILED: ReviewReason.ORDER_FAILED,
    Order.Status.REFUND_DUE: ReviewReason.ORDER_REFUND_DUE,
    Order.Status.REFUNDED: ReviewReason.ORDER_REFUNDED,
}
# What `binding_objection` says, said of a part of the money.
_OF_A_PART = {
    ReviewReason.OTHER_PAYMENT: ReviewReason.PART_OF_OTHER_PAYMENT,
    ReviewReason.CHILD_PAYMENT: ReviewReason.PART_OF_CHILD_PAYMENT,
    ReviewReason.OTHER_ORDER: ReviewReason.PART_OF_OTHER_ORDER,
    ReviewReason.NOT_CREATED_BY_US: ReviewReason.PART_NOT_CREATED_BY_US,
    ReviewReason.OTHER_PRICE_CURRENCY: ReviewReason.PART_IN_OTHER_PRICE_CURRENCY,
    ReviewReason.OTHER_PRICE: ReviewReason.PART_OF_OTHER_PRICE,
    ReviewReason.OTHER_COIN: ReviewReason.PART_IN_OTHER_COIN,
}


@dataclass(frozen=True)
class _End:
    """How the provider may end a payment, and what staff are told if money or a finish contradicts that."""

    to: PaymentStatus
    with_money: ReviewReason
    after_finished: ReviewReason
    message: str


_ENDS = {
    ProviderStatus.EXPIRED: _End(
        Payment.Status.EXPIRED,
        ReviewReason.EXPIRED_WITH_MONEY,
        ReviewReason.EXPIRED_AFTER_FINISHED,
        gettext_noop("The provider ended this payment: expired."),
    ),
    ProviderStatus.FAILED: _End(
        Payment.Status.FAILED,
        ReviewReason.FAILED_WITH_MONEY,
        ReviewReason.FAILED_AFTER_FINISHED,
        gettext_noop("The provider ended this payment: failed."),
    ),
    ProviderStatus.CANCELLED: _End(
        Payment.Status.CANCELLED,
        ReviewReason.CANCELLED_WITH_MONEY,
        ReviewReason.CANCELLED_AFTER_FINISHED,
        gettext_noop("The provider ended this payment: cancelled."),
    ),
}

_STEPS = {
    ProviderStatus.WAITING: Payment.Status.WAITING,
    ProviderStatus.CONFIRMING: Payment.Status.CONFIRMING,
    ProviderStatus.CONFIRMED: Payment.Status.CONFIRMED,
    ProviderStatus.SENDING: Payment.Status.SENDING,
}
_COINS_SEEN = frozenset(
    {ProviderStatus.CONFIRMING, ProviderStatus.CONFIRMED, ProviderStatus.SENDING, ProviderStatus.FINISHED}
)
STEP_MESSAGES = {
    Payment.Status.WAITING: gettext_noop("The payment waits for coins."),
    Payment.Status.CONFIRMING: gettext_noop("The coins were seen; the network is confirming them."),
    Payment.Status.CONFIRMED: gettext_noop("The network confirmed the coins."),
    Payment.Status.SENDING: gettext_noop("The coins are on their way to us."),
}


@dataclass(frozen=True)
class Today:
    """What the coins of a payment are worth at today's rate, in the price's currency; None if nobody says."""

    worth: Decimal | None

    def covers(self, price: Decimal) -> bool:
        return self.worth is not None and self.worth >= price * (1 - settings.PAYMENT_TOLERANCE)


def apply(payment: Payment, facts: PaymentFacts, *, today: Today | None = None) -> str:
    """Move payment and order to what the provider says, only forwards; return a sentence for the log.

    `today` is given for coins that came after the quote's end: they count with what they are worth then. Locks the
    order, then the payment.
    """
    with transaction.atomic():
        # Order before payment, as everywhere: an IPN, the sweep and staff may settle the same order at once.
        order = payment.order.lock()
        payment = payment.lock()
        is_finished = facts.status is ProviderStatus.FINISHED
        known_already = payment.status == Payment.Status.FINISHED
        why_not = None
        if is_finished and not known_already:
            why_not = _why_it_pays_nothing(order, payment, facts, today)
        _close_unknown_word(payment, facts)
        other_address.notice(order, payment, facts)
        if is_finished and not known_already and why_not is None:
            _pay(order, payment, facts)
            return "paid"
        # An answer that names no coins takes back none that were named before: they are what the customer is owed.
        facts = facts if facts.actually_paid else replace(facts, actually_paid=payment.actually_paid)
        # What they say is kept even where it moves nothing: staff decide on it.
        # In the row only: the instance keeps what was known before, and what follows compares with that.
        queries.update(Payment, {"pk": payment.pk}, _seen(payment, facts))
        # The provider calls it finished for good: it knows nothing of coins that staff send.
        if payment.status == Payment.Status.REFUNDED and payment.refunds.filter(status=Refund.Status.DONE).exists():
            if exceeds(facts.actually_paid, payment.actually_paid):  # and more came after that
                return _to_review(order, payment, ReviewReason.FINISHED_AFTER_REFUNDED)
            return "staff sent this money back"
        if is_finished:
            return _known_already(order, payment, facts) if why_not is None else _to_review(order, payment, why_not)
        if facts.status in _STEPS:
            return _apply_step(order, payment, _STEPS[facts.status])
        return _apply_aside(order, payment, facts, today)


def _close_unknown_word(payment: Payment, facts: PaymentFacts) -> None:
    if facts.status is not ProviderStatus.UNKNOWN and not is_known_word(payment.provider_status):
        close_alert(AlertKind.PAYMENT_UNKNOWN_STATUS, payment, by="automatic: the provider says a word we know")


def _known_already(order: Order, payment: Payment, facts: PaymentFacts) -> str:
    if exceeds(facts.actually_paid, payment.actually_paid):  # more came to its address since it finished
        overpaid.notice(order, payment, arrived=facts.actually_paid)
    elif exceeds(payment.actually_paid, facts.actually_paid) and _is_short(payment, facts):
        alert(order, payment, ReviewReason.PARTIALLY_PAID_AFTER_FINISHED)
        return "alert: only a part arrived"
    return "already finished"


def _is_short(payment: Payment, facts: PaymentFacts) -> bool:
    return objection(payment, facts, tolerance=settings.PAYMENT_TOLERANCE) is ReviewReason.TOO_LITTLE


def _seen(payment: Payment, facts: PaymentFacts) -> dict[str, Any]:
    came = facts.actually_paid > 0 or facts.status in _COINS_SEEN
    is_news = (came and payment.coins_seen_at is None) or brings_more(payment, facts)
    return {
        **({"coins_seen_at": Now()} if is_news else {}),
        "provider_status": facts.raw_status[:40],
        "actually_paid": facts.actually_paid,
        "outcome_amount": facts.outcome_amount,
        "outcome_currency": facts.outcome_currency,
        # Some answers leave it out again.
        "payin_hash": facts.payin_hash or payment.payin_hash,
        "evidence": _evidence(payment, facts),
        "read_at": Now(),
    }


def _why_it_pays_nothing(
    order: Order, payment: Payment, facts: PaymentFacts, today: Today | None
) -> ReviewReason | None:
    """Return why a payment that is finished at the provider does not pay its order, or None if it does."""
    # Staff read the first that applies: what the provider says of it, what it had become here, then its order.
    if reason := objection(payment, facts, tolerance=settings.PAYMENT_TOLERANCE):
        return reason
    if reason := _FINISHED_AFTER.get(payment.status):
        return reason
    if not _takes_money(order):
        second = ReviewReason.SECOND_PAYMENT
        return second if order.paid_at else _ORDER_TAKES_NONE.get(order.status, second)
    # None: it was not late when it was read.
    if today is not None and is_late(payment, facts) and not today.covers(payment.price_amount):
        return ReviewReason.LATE_RATE
    return None if _covers(payment, order) else ReviewReason.ORDER_NOT_COVERED


def _covers(payment: Payment, order: Order) -> bool:
    """Whether the payment and the parts before it make up the order's price."""
    missing = order.total - payment.price_amount
    return missing <= 0 or credited(order.payments.exclude(pk=payment.pk)) >= missing


def _takes_money(order: Order) -> bool:
    """Whether a finished payment pays this order. One held for another payment, such as a deposit in the wrong
    coin, still waits for the right one: which of the two comes first must not matter.
    """
    if order.status in (*PAYABLE, Order.Status.EXPIRED):
        return True
    if order.status != Order.Status.HELD or order.paid_at is not None:
        return False
    held_for = order.payments.filter(status=Payment.Status.REVIEW, reason=order.reason)
    return order.reason == OrderReason.PAID_IN_PARTS or held_for.exists()


def _pay(order: Order, payment: Payment, facts: PaymentFacts) -> None:
    coins_in = _coins(payment, facts.actually_paid)
    was_partial = payment.status == Payment.Status.PARTIALLY_PAID
    fields: dict[str, Any] = {**_seen(payment, facts), "finished_at": Now(), "reason": ""}
    if payment.claim_token is None:  # else the worker that is asking right now decides that
        fields["next_attempt_at"] = Now() + delay(LOOK_AFTER_FINISH)
    payment.move(Payment.Status.FINISHED, message=Sentence("We have the money: %(coins)s.", coins=coins_in), **fields)
    order.mark_paid(message=Sentence("Paid in full with %(coins)s.", coins=coins_in))
    queue_email(order, Email.Kind.PAYMENT_RECEIVED)
    failpoint("payment.moved")
    overpaid.notice(order, payment, arrived=facts.actually_paid)
    _close_partial_alerts(order, payment, was_partial=was_partial)


def _coins(payment: Payment, amount: Decimal) -> str:
    return f"{plain(amount)} {payment.pay_currency.upper()}"


def _close_partial_alerts(order: Order, payment: Payment, *, was_partial: bool) -> None:
    """Partial payments that made up the price need no review; beside a full price they are owed back."""
    partial = order.payments.filter(status=Payment.Status.PARTIALLY_PAID)
    completed = [*partial] if payment.price_amount < order.total else []
    if was_partial:
        completed.append(payment)
    for counted in completed:
        close_alert(AlertKind.PAYMENT_REVIEW, counted, by="automatic: the order is paid")


def _apply_step(order: Order, payment: Payment, step: str) -> str:
    current = Payment.RANK.get(payment.status)
    # An expired payment may come alive again: coins that were sent late are still seen and confirmed.
    if payment.status == Payment.Status.EXPIRED and step == Payment.Status.WAITING:
        return "still without coins"
    if payment.status != Payment.Status.EXPIRED and (current is None or Payment.RANK[step] <= current):
        return f"{step} brings nothing new"
    payment.move(step, message=STEP_MESSAGES[Payment.Status(step)])
    seen = Payment.RANK[Payment.Status.CONFIRMING]
    if Payment.RANK[step] >= seen and (current is None or current < seen):
        queue_email(order, Email.Kind.PAYMENT_SEEN)
    return str(step)


def _apply_aside(order: Order, payment: Payment, facts: PaymentFacts, today: Today | None) -> str:
    if payment.status == Payment.Status.FINISHED and payment.provider_status == facts.raw_status:
        return f"{facts.status} is known already"  # and staff may have accepted it
    if facts.status is ProviderStatus.PARTIALLY_PAID:
        return _apply_partial(order, payment, facts, today)
    if facts.status is ProviderStatus.REFUNDED:
        return _apply_refunded(order, payment)
    if facts.status is ProviderStatus.UNKNOWN:
        return _alert_unknown_word(order, payment, facts)
    return _apply_end(order, payment, facts)


def _alert_unknown_word(order: Order, payment: Payment, facts: PaymentFacts) -> str:
    """Tell staff once of each word that we do not know. It decides nothing: the payment is watched as before."""
    if payment.status == Payment.Status.REVIEW or payment.provider_status == facts.raw_status[:40]:
        return f"{facts.raw_status[:40]!r} is known to be unknown"
    raise_alert(
        AlertKind.PAYMENT_UNKNOWN_STATUS,
        payment,
        f"NOWPayments says “{facts.raw_status[:40]}” of {payment}, a word that we do not know. Nothing was changed; the"
        " payment is watched. Read their documentation; if money came, accept it as paid or refund it.",
        order=order,
    )
    return "alert: unknown status"


def _apply_end(order: Order, payment: Payment, facts: PaymentFacts) -> str:
    end = _ENDS[facts.status]
    # A partial payment may still expire there; its money is counted already.
    known_already = end.to == Payment.Status.EXPIRED and payment.status == Payment.Status.PARTIALLY_PAID
    if facts.actually_paid > 0 and not known_already:
        return _to_review(order, payment, end.with_money)
    if payment.status == Payment.Status.FINISHED:
        alert(order, payment, end.after_finished)
        return f"alert: {end.after_finished}"
    # What is in review only staff may end.
    if payment.status == Payment.Status.REVIEW or end.to not in Payment.TRANSITIONS[payment.status]:
        return f"{end.to} changes nothing"
    # A provider that ends the quote early ends its rate, too.
    early = end.to == Payment.Status.EXPIRED and payment.quote_ended_at > timezone.now()
    ended: dict[str, Any] = {"expires_at": Now()} if early else {}
    payment.move(end.to, message=end.message, **ended)
    return str(end.to)


def _apply_partial(order: Order, payment: Payment, facts: PaymentFacts, today: Today | None) -> str:
    if reason := _PARTIALLY_PAID_AFTER.get(payment.status):
        return _to_review(order, payment, reason)
    if payment.status == Payment.Status.FINISHED:
        # They contradict themselves: staff hear of it, and the transitions below keep the payment as it is.
        alert(order, payment, ReviewReason.PARTIALLY_PAID_AFTER_FINISHED)
    known = payment.status == Payment.Status.PARTIALLY_PAID
    if not known and Payment.Status.PARTIALLY_PAID not in Payment.TRANSITIONS[payment.status]:
        return "partially_paid changes nothing"
    if reason := _why_it_counts_nothing(payment, facts, today):
        return _to_review(order, payment, reason)
    credit = _credit(payment, facts, today)
    if known and credit == payment.credit:
        return "partially_paid brings nothing new"
    missing = (payment.pay_amount or facts.pay_amount) - facts.actually_paid
    sentence = Sentence(
        "%(coins)s arrived; %(missing)s are missing.",
        coins=_coins(payment, facts.actually_paid),
        missing=_coins(payment, max(missing, Decimal(0))),
    )
    # False: more came to a payment that was partial before, which is no move but another credit.
    if not payment.move(Payment.Status.PARTIALLY_PAID, message=sentence, reason=ReviewReason.TOO_LITTLE, credit=credit):
        Payment.objects.filter(pk=payment.pk).update(credit=credit)
        order.note("payment", sentence)
    _ask_for_rest(order, payment, sentence, arrived=facts.actually_paid)
    alert(order, payment, ReviewReason.PARTIALLY_PAID)
    return "partially_paid"


def _why_it_counts_nothing(payment: Payment, facts: PaymentFacts, today: Today | None) -> ReviewReason | None:
    """Return why a part of the money does not count towards its order, or None if it does."""
    if reason := binding_objection(payment, facts):
        return _OF_A_PART[reason]
    return ReviewReason.LATE_RATE if today is not None and today.worth is None else None


def _credit(payment: Payment, facts: PaymentFacts, today: Today | None) -> Decimal:
    """Return what a part counts for: late coins at today's rate, and none for more than was agreed."""
    agreed = credit_of(payment, facts)
    if today is not None and today.worth is not None:
        # The smaller first: an absurd rate makes a worth that has too many digits to be rounded.
        return min(agreed, today.worth).quantize(CENT, ROUND_DOWN)
    was_counted = payment.status == Payment.Status.PARTIALLY_PAID
    brings_nothing = was_counted and not exceeds(facts.actually_paid, payment.actually_paid)
    # It may have been counted for less, because it came late.
    return min(agreed, payment.credit) if brings_nothing else agreed


def _ask_for_rest(order: Order, payment: Payment, sentence: str, *, arrived: Decimal) -> None:
    if order.status in (Order.Status.PENDING, Order.Status.EXPIRED):
        order.mark_underpaid(message=sentence)
    if order.status not in PAYABLE:
        return
    missing = amount_due(order)
    if missing > order.total * settings.PAYMENT_TOLERANCE:
        queue_email(order, Email.Kind.UNDERPAID, missing=str(missing), coins=_coins(payment, arrived))
        return
    # No key leaves without a finished payment, and nobody can be asked for the nothing that is missing.
    order.hold(
        reason=OrderReason.PAID_IN_PARTS,
        message=gettext_noop("The parts make up the price; our staff are checking them."),
    )
    queue_email(order, Email.Kind.PAYMENT_CHECKED, in_parts=True)


def _apply_refunded(order: Order, payment: Payment) -> str:
    if payment.status == Payment.Status.REFUNDED:
        return "already refunded"
    # Asked before the move, which leaves no trace of it.
    was_told = payment.status in _CUSTOMER_KNOWS
    payment.move(Payment.Status.REFUNDED, message=gettext_noop("The provider sent the coins back."))
    for refund in payment.refunds.filter(status=Refund.Status.REQUESTED):
        # Nobody may send them a second time. Staff still check that they arrived.
        refund.move(
            Refund.Status.SENT, message=gettext_noop("The provider sent the coins of this refund itself."),
            transaction_id=BY_THE_PROVIDER, sent_at=Now(),
        )  # fmt: skip
        close_alert(AlertKind.REFUND_TO_SEND, refund, by="automatic: the provider sent the coins")
    if order.paid_at and order.status in REFUNDABLE and amount_due(order) > 0:
        order.hold_unpaid(message=gettext_noop("The payment was refunded by the provider."))
    if was_told and order.status in (*PAYABLE, Order.Status.HELD, Order.Status.EXPIRED, *_ENDED):
        queue_email(order, Email.Kind.COINS_RETURNED)
    alert(order, payment, ReviewReason.REFUNDED)
    return "refunded"


def _to_review(order: Order, payment: Payment, reason: ReviewReason) -> str:
    if payment.status == Payment.Status.REVIEW:
        return f"review: {payment.reason}"
    if Payment.Status.REVIEW not in Payment.TRANSITIONS[payment.status]:
        alert(order, payment, reason)
        return f"alert: {reason}"
    payment.move(Payment.Status.REVIEW, message=gettext_noop("Our staff are checking this payment."), reason=reason)
    if order.status in (*PAYABLE, Order.Status.EXPIRED):
        order.hold(reason=reason, message=gettext_noop("The payment needs a manual review."))
        queue_email(order, Email.Kind.PAYMENT_CHECKED)
    elif order.status in _ENDED:
        # Their last mail said that the order is over: without another one they would not know that we have their coins.
        queue_email(order, Email.Kind.PAYMENT_CHECKED, ended=True)
    alert(order, payment, reason)
    return f"review: {reason}"


def alert(order: Order, payment: Payment, reason: ReviewReason) -> None:
    why = f"{reason}. {ReviewReason.sentence_for(reason)}"
    message = f"{payment} needs attention: {why} Compare our numbers with the provider's."
    raise_alert(AlertKind.PAYMENT_REVIEW, payment, message, order=order)


def _evidence(payment: Payment, facts: PaymentFacts) -> dict[str, Any]:
    named = other_address.named_otherwise(payment, facts)
    return {
        "status": facts.raw_status,
        "order_id": facts.order_id,
        "price": f"{plain(facts.price_amount)} {facts.price_currency}",
        "asked": f"{plain(facts.pay_amount)} {facts.pay_currency}",
        "paid": plain(facts.actually_paid),
        "parent": facts.parent_payment_id,
        **({other_address.NAMED: named} if named else {}),
        **({"notes": list(facts.notes)} if facts.notes else {}),
    }
