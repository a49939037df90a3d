"""What a customer reads about money that staff have to look at: what happened, what happens next, what to do."""

from dataclasses import dataclass

from django.utils.translation import gettext_lazy as _

from bitloot.core.sentences import Words
from payments.choices import ReviewReason
from payments.models import Payment


@dataclass(frozen=True)
class Trouble:
    headline: Words
    sentence: Words


_LATE = Trouble(
    _("Your coins came too late"),
    _(
        "They arrived after the quote had ended and are no longer worth the price. Our staff accept them or send them"
        " back, and e-mail you which. Please do not send anything else until then."
    ),
)
_OTHERWISE = Trouble(
    _("Your coins came, but not as asked"),
    _(
        "They came in another coin, or once more to an old address, so they could not be matched automatically. Our"
        " staff count them towards your order or send them back, and e-mail you which. Please do not send anything"
        " else until then."
    ),
)
_TOO_LITTLE = Trouble(
    _("What arrived does not cover the price"),
    _(
        "The parts that you sent do not make up the price together. Our staff ask you for the rest or send the parts"
        " back, and e-mail you which. Please do not send anything else until then."
    ),
)
_ENDED = Trouble(
    _("Your coins came after the end"),
    _(
        "They arrived when this payment or this order had ended already. Our staff accept them or send them back, and"
        " e-mail you which. Please do not send anything else until then."
    ),
)
_ORDER_ENDED = Trouble(
    _("Your coins came after the end"),
    _(
        "They arrived when this order had ended already, so they buy nothing. Our staff send them back: we e-mail you"
        " as soon as you can tell us your address here. Please do not send anything else."
    ),
)
_SECOND = Trouble(
    _("A second payment came"),
    _(
        "This order was paid already, so the second payment buys nothing. Our staff send it back: we e-mail you as"
        " soon as you can tell us your address here."
    ),
)
_ANY = Trouble(
    _("Our staff are looking at your payment"),
    _(
        "It did not arrive as expected. Your money is safe: our staff compare it with the payment provider's records,"
        " and e-mail you what they found. Please do not send anything else until then."
    ),
)
_ABOUT: dict[str, Trouble] = {
    ReviewReason.LATE_RATE: _LATE,
    ReviewReason.SECOND_PAYMENT: _SECOND,
    **dict.fromkeys(
        (
            ReviewReason.CHILD_PAYMENT, ReviewReason.NOT_CREATED_BY_US, ReviewReason.OTHER_COIN,
            ReviewReason.PART_OF_CHILD_PAYMENT, ReviewReason.PART_NOT_CREATED_BY_US, ReviewReason.PART_IN_OTHER_COIN,
        ),
        _OTHERWISE,
    ),
    **dict.fromkeys(
        (ReviewReason.TOO_LITTLE, ReviewReason.PARTIALLY_PAID, ReviewReason.ORDER_NOT_COVERED), _TOO_LITTLE
    ),
    **dict.fromkeys(
        (ReviewReason.ORDER_CANCELLED, ReviewReason.ORDER_FAILED, ReviewReason.ORDER_REFUNDED), _ORDER_ENDED
    ),
    **dict.fromkeys(
        (
            ReviewReason.FINISHED_AFTER_FAILED, ReviewReason.FINISHED_AFTER_CANCELLED,
            ReviewReason.PARTIALLY_PAID_AFTER_FAILED, ReviewReason.PARTIALLY_PAID_AFTER_CANCELLED,
            ReviewReason.EXPIRED_WITH_MONEY, ReviewReason.FAILED_WITH_MONEY, ReviewReason.CANCELLED_WITH_MONEY,
        ),
        _ENDED,
    ),
}  # fmt: skip


def trouble_of(payment: Payment, *, is_beside: bool = False) -> Trouble | None:
    """Return what the customer reads about a payment in review, or None about any other.

    `is_beside`: another payment has paid the order, so this one can only go back.
    """
    if payment.status != Payment.Status.REVIEW:
        return None
    return _SECOND if is_beside else _ABOUT.get(payment.reason, _ANY)
