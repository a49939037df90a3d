"""What the tests of staff's decisions share: a payment with money that waits for one, and its traces on the order."""

import re
from decimal import Decimal

import pytest

from bitloot.core.decisions import DecisionRefused
from orders.models import Email
from payments import refunds, review
from payments.models import Refund
from payments.refund_addresses import give_address
from payments.tests.factories import ADDRESS, make_payment

WHY = "looked at the chain"
TXID = "0x" + "12" * 32
HALF = {"status": "partially_paid", "actually_paid": Decimal("0.0006"), "credit": Decimal("12.00")}


def money_in(order=None, status="review", **fields):
    return make_payment(order, status, **{"actually_paid": Decimal("0.0012"), "reason": "too_little", **fields})


def refused(sentence):
    """Expect a refusal in exactly these words: staff read them, and nothing else, as the reason."""
    return pytest.raises(DecisionRefused, match=f"^{re.escape(sentence)}$")


def accept(payment, reason=WHY):
    review.accept_as_paid(payment, actor="ada", reason=reason)


def refund_of(payment):
    return refunds.request_refund(payment, actor="ada", reason=WHY)


def give(refund, address=ADDRESS, extra_id=""):
    return give_address(order=refund.order, refund_id=refund.pk, address=address, extra_id=extra_id)


def send(refund, transaction_id=TXID, *, actor="ada"):
    """Record it as sent to the address that is the newest now."""
    newest = Refund.objects.get(pk=refund.pk).destination_id
    refunds.mark_sent(refund, actor=actor, transaction_id=transaction_id, destination=newest)


def now(row):
    row.refresh_from_db()
    return row.status


def mails(order):
    return list(order.emails.exclude(kind=Email.Kind.ALERT).order_by("id").values_list("kind", flat=True))[1:]


def story(order):
    """What the timeline says after the order was placed, and who did it."""
    return list(order.events.values_list("kind", "message", "actor"))[1:]
