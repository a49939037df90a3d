"""The words that payments and refunds are stored with."""

from django.db import models

from bitloot.core.choices import ReasonChoices, StatusChoices, Tone


class PaymentStatus(StatusChoices):
    CREATING = "creating", Tone.BUSY
    WAITING = "waiting"
    CONFIRMING = "confirming", Tone.BUSY
    CONFIRMED = "confirmed", Tone.BUSY
    SENDING = "sending", Tone.BUSY
    FINISHED = "finished", Tone.GOOD
    PARTIALLY_PAID = "partially_paid", Tone.LOOK
    EXPIRED = "expired"
    FAILED = "failed", Tone.BAD
    CANCELLED = "cancelled"
    REFUNDED = "refunded"
    REVIEW = "review", Tone.LOOK


class RefundStatus(StatusChoices):
    REQUESTED = "requested", Tone.BUSY
    SENT = "sent", Tone.GOOD
    DONE = "done", Tone.GOOD


BY_THE_PROVIDER = "sent by the provider"  # in place of a transaction id, which they do not report to us


class RefundKind(models.TextChoices):
    """How much of a payment goes back: what is left of it, what came beyond the price, or what bought nothing."""

    ALL = "all", "Everything that came"
    SURPLUS = "surplus", "Surplus"
    SHARE = "share", "Share that was not delivered"


class ReviewReason(ReasonChoices):
    """Why staff should look at a payment; the last three say how a payment that needs nobody came to its status."""

    # The amounts.
    TOO_LITTLE = "too_little", "Less than asked arrived. The customer was asked for the rest.", "Too little"
    PARTIALLY_PAID = "partially_paid", "Less than asked arrived. The customer was asked for the rest.", "Partially paid"
    NO_AMOUNT = "no_amount", "The provider's amounts cannot be compared.", "No amount"
    NOTHING_PAID = "nothing_paid", "The provider says finished, and that nothing was paid.", "Nothing paid"
    ORDER_NOT_COVERED = (
        "order_not_covered",
        "This payment and the parts before it do not make up the price.",
        "Order not covered",
    )
    LATE_RATE = (
        "late_rate",
        "The coins came after the quote had ended, and are no longer worth the price.",
        "Late, at an old rate",
    )
    # Whose payment it is.
    OTHER_PAYMENT = "other_payment", "The provider answered about another payment.", "Other payment"
    CHILD_PAYMENT = (
        "child_payment",
        "Coins came once more to an old address, or in another coin than the one asked for.",
        "Child payment",
    )
    OTHER_ORDER = "other_order", "The provider knows this payment for another order.", "Other order"
    NOT_CREATED_BY_US = (
        "not_created_by_us",
        "This payment was not made by us for this order: coins came to an old address.",
        "Not created by us",
    )
    OTHER_PRICE_CURRENCY = (
        "other_price_currency",
        "The provider knows the price in another currency.",
        "Other price currency",
    )
    OTHER_PRICE = "other_price", "The provider knows another price than we asked for.", "Other price"
    OTHER_COIN = "other_coin", "The payment is in another coin than the one asked for.", "Other coin"
    CREATE_MISMATCH = (
        "create_mismatch",
        "When we made this payment the provider answered about another one.",
        "Create mismatch",
    )
    BOUND_TWICE = "bound_twice", "The provider named a payment that another order has.", "Bound twice"
    # The same objections to a part of the money.
    PART_OF_OTHER_PAYMENT = (
        "partially_paid_other_payment",
        "A part arrived. The provider answered about another payment.",
        "Part of other payment",
    )
    PART_OF_CHILD_PAYMENT = (
        "partially_paid_child_payment",
        "A part arrived. Coins came once more to an old address, or in another coin than the one asked for.",
        "Part of child payment",
    )
    PART_OF_OTHER_ORDER = (
        "partially_paid_other_order",
        "A part arrived. The provider knows this payment for another order.",
        "Part of other order",
    )
    PART_NOT_CREATED_BY_US = (
        "partially_paid_not_created_by_us",
        "A part arrived. This payment was not made by us for this order: coins came to an old address.",
        "Part not created by us",
    )
    PART_IN_OTHER_PRICE_CURRENCY = (
        "partially_paid_other_price_currency",
        "A part arrived. The provider knows the price in another currency.",
        "Part in other price currency",
    )
    PART_OF_OTHER_PRICE = (
        "partially_paid_other_price",
        "A part arrived. The provider knows another price than we asked for.",
        "Part of other price",
    )
    PART_IN_OTHER_COIN = (
        "partially_paid_other_coin",
        "A part arrived. The payment is in another coin than the one asked for.",
        "Part in other coin",
    )
    # Money where none was expected.
    SECOND_PAYMENT = "second_payment", "The order is paid already: this came on top of it.", "Second payment"
    CHILD_UNREADABLE = (
        "child_unreadable",
        "The provider lists a second deposit beside this payment, which could not be read.",
        "Child unreadable",
    )
    ORDER_HELD = "order_held", "The money arrived for an order that no longer takes any: held.", "Order held"
    ORDER_CANCELLED = (
        "order_cancelled",
        "The money arrived for an order that no longer takes any: cancelled.",
        "Order cancelled",
    )
    ORDER_FAILED = "order_failed", "The money arrived for an order that no longer takes any: failed.", "Order failed"
    ORDER_REFUND_DUE = (
        "order_refund_due",
        "The money arrived for an order that no longer takes any: refund due.",
        "Order refund due",
    )
    ORDER_REFUNDED = (
        "order_refunded",
        "The money arrived for an order that no longer takes any: refunded.",
        "Order refunded",
    )
    FINISHED_AFTER_FAILED = (
        "finished_after_failed",
        "The money arrived for a payment that had ended: failed.",
        "Finished after failed",
    )
    FINISHED_AFTER_CANCELLED = (
        "finished_after_cancelled",
        "The money arrived for a payment that had ended: cancelled.",
        "Finished after cancelled",
    )
    FINISHED_AFTER_REFUNDED = (
        "finished_after_refunded",
        "The money arrived for a payment that had ended: refunded.",
        "Finished after refunded",
    )
    FINISHED_AFTER_REVIEW = (
        "finished_after_review",
        "The money arrived for a payment that was in review already.",
        "Finished after review",
    )
    PARTIALLY_PAID_AFTER_FAILED = (
        "partially_paid_after_failed",
        "A part arrived for a payment that had ended: failed.",
        "Partially paid after failed",
    )
    PARTIALLY_PAID_AFTER_CANCELLED = (
        "partially_paid_after_cancelled",
        "A part arrived for a payment that had ended: cancelled.",
        "Partially paid after cancelled",
    )
    PARTIALLY_PAID_AFTER_FINISHED = (
        "partially_paid_after_finished",
        "The provider now says that only a part arrived, although it said finished.",
        "Partially paid after finished",
    )
    EXPIRED_WITH_MONEY = (
        "expired_with_money",
        "The provider ended the payment (expired) although coins had come.",
        "Expired with money",
    )
    FAILED_WITH_MONEY = (
        "failed_with_money",
        "The provider ended the payment (failed) although coins had come.",
        "Failed with money",
    )
    CANCELLED_WITH_MONEY = (
        "cancelled_with_money",
        "The provider ended the payment (cancelled) although coins had come.",
        "Cancelled with money",
    )
    # What the provider took back or said otherwise.
    EXPIRED_AFTER_FINISHED = (
        "expired_after_finished",
        "The provider says expired, although it said finished.",
        "Expired after finished",
    )
    FAILED_AFTER_FINISHED = (
        "failed_after_finished",
        "The provider says failed, although it said finished.",
        "Failed after finished",
    )
    CANCELLED_AFTER_FINISHED = (
        "cancelled_after_finished",
        "The provider says cancelled, although it said finished.",
        "Cancelled after finished",
    )
    REFUNDED = "refunded", "The provider sent the customer's coins back.", "Refunded"
    NOT_FINISHED = "not_finished", "The provider no longer says finished.", "Not finished"
    # Not in review.
    NO_ANSWER = "no_answer", "The provider did not answer when this payment was created.", "No answer"
    REFUSED = "refused", "The provider refused to create this payment.", "Refused"
    COIN_REFUSED = "coin_refused", "The provider does not take this coin, or not for so small a price.", "Coin refused"
    ACCEPTED = "accepted", "Staff accepted the payment although a rule objected.", "Accepted"
