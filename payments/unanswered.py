"""What NOWPayments does not answer: noted on the payment it was asked about, and reported to staff in time."""

from datetime import timedelta

from django.db.models.functions import Now

from bitloot.core.clock import delay
from bitloot.core.providers import Cause, ProviderError
from orders.alerts import close_alert, raise_alert
from orders.choices import AlertKind
from payments.choices import ReviewReason
from payments.models import Payment

NOWPAYMENTS = "NOWPayments"
PATIENCE_SECONDS = 15 * 60
FAILED_IN_A_ROW = 3
READ_AGAIN = "automatic: it was read again"
# Of one payment alone.
OF_A_PAYMENT = {Cause.NONSENSE: AlertKind.PAYMENT_UNREADABLE, Cause.REQUEST: AlertKind.PAYMENT_REFUSED}
WHAT_TO_DO = {
    AlertKind.PAYMENT_UNREADABLE: "Look the payment up in their dashboard; it is read again until that works.",
    AlertKind.PAYMENT_REFUSED: (
        "A payment can only be read with the API key that made it: was NOWPAYMENTS_API_KEY changed? Put the old key"
        " back until this payment has ended, or look it up in their dashboard."
    ),
}


def note_failure(payment: Payment, err: ProviderError) -> timedelta | None:
    """Remember since when a payment cannot be read, and tell staff: of refused credentials at once, else in time.

    Return how long staff have yet to wait for that, or None if they were told.
    """
    since = payment.unread_since
    if since is None:
        # Filtered on the null: of several readers that fail at once the first one counts.
        Payment.objects.filter(pk=payment.pk, unread_since=None).update(unread_since=Now())
    if err.cause is Cause.CREDENTIALS:
        credentials_refused(err)
        return None
    left = delay(PATIENCE_SECONDS) - (payment.claimed_at - since if since else delay(0))
    if left > delay(0):
        return left
    if err.cause is Cause.UNREACHABLE and not _others_were_read(payment):
        raise_alert(AlertKind.PAYMENTS_DOWN, NOWPAYMENTS, _down(err))
        return None
    kind = OF_A_PAYMENT.get(err.cause, AlertKind.PAYMENT_UNREADABLE)
    message = f"{payment} could not be read for a quarter of an hour: {str(err)[:160]}. {WHAT_TO_DO[kind]}"
    raise_alert(kind, payment, message, order=payment.order)
    return None


def note_success(payment: Payment) -> None:
    """End what `note_failure` began; nothing is written for a payment that could be read all along."""
    if payment.unread_since is None:
        return
    Payment.objects.filter(pk=payment.pk).update(unread_since=None)
    for kind in (*OF_A_PAYMENT.values(), AlertKind.PAYMENT_POISON):
        close_alert(kind, payment, by=READ_AGAIN)
    answers_again()


def credentials_refused(err: ProviderError) -> None:
    message = (
        f"NOWPayments refuses our credentials ({err.status}): nobody can pay, and payments cannot be read. Correct"
        " NOWPAYMENTS_API_KEY and restart; everything resumes automatically."
    )
    raise_alert(AlertKind.PROVIDER_CREDENTIALS, NOWPAYMENTS, message)


def coins_unread(err: ProviderError) -> None:
    """Tell staff that the list of coins has been old for a while."""
    if err.cause is Cause.UNREACHABLE:
        raise_alert(AlertKind.PAYMENTS_DOWN, NOWPAYMENTS, _down(err))
        return
    message = f"NOWPayments’ list of coins cannot be used: {str(err)[:200]}. The coins known before stay on offer."
    raise_alert(AlertKind.COINS_UNREAD, NOWPAYMENTS, message)


def not_made(err: ProviderError) -> None:
    """Tell staff if several payments in a row could not be made: the rest of the provider may work all the same."""
    of_today = Payment.objects.filter(created_at__gt=Now() - delay(24 * 3600))
    # A refused coin says nothing of the others: it neither counts nor ends the row.
    newest = of_today.exclude(reason=ReviewReason.COIN_REFUSED).order_by("-created_at")[:FAILED_IN_A_ROW]
    failed = [one for one in newest if one.reason in (ReviewReason.NO_ANSWER, ReviewReason.REFUSED)]
    if len(failed) < FAILED_IN_A_ROW:
        return
    coins = ", ".join(sorted({one.pay_currency.upper() for one in failed}))
    message = (
        f"The last {FAILED_IN_A_ROW} payments (in {coins}) could not be created at NOWPayments: {str(err)[:200]}."
        " These customers cannot pay and are asked to try again. The alert closes once a payment is created."
    )
    raise_alert(AlertKind.PAYMENTS_NOT_MADE, NOWPAYMENTS, message)


def made_again() -> None:
    close_alert(AlertKind.PAYMENTS_NOT_MADE, NOWPAYMENTS, by="automatic: a payment was created")


def answers_again(*kinds: AlertKind) -> None:
    """Close the alerts about the provider as a whole."""
    for kind in (AlertKind.PAYMENTS_DOWN, AlertKind.PROVIDER_CREDENTIALS, *kinds):
        close_alert(kind, NOWPAYMENTS, by="automatic: it answers again")


def _others_were_read(payment: Payment) -> bool:
    """Return whether the provider answered about other payments meanwhile: then the trouble is this one's."""
    return Payment.objects.filter(read_at__gt=payment.unread_since).exclude(pk=payment.pk).exists()


def _down(err: ProviderError) -> str:
    return (
        f"NOWPayments cannot be reached: {str(err)[:160]}. Nobody can choose a coin; money that arrives is seen as soon"
        " as they answer."
    )
