import itertools
import json
from decimal import Decimal

import responses
from django.conf import settings

from orders.models import Alert
from orders.tests.factories import make_order
from payments.models import Coin, Payment, Refund, RefundAddress
from payments.nowpayments import PaymentFacts, ProviderStatus

_ids = itertools.count(5_900_000_000)  # far from those that tests name themselves
COIN, ADDRESS = "btc", "bc1" + "q" * 39
ASKED = Decimal("0.0012345")


def make_coin(code=COIN, **fields):
    return Coin.objects.create(**{"code": code, "name": code.title(), "minimum": Decimal("5.00"), **fields})


def make_payment(order=None, status="waiting", **fields):
    """A payment bound to the provider's, in any state without the way there."""
    order = order or make_order()
    return Payment.objects.create(
        order=order,
        status=status,
        **{
            "external_id": str(next(_ids)),
            "price_amount": order.total,
            "price_currency": order.currency.lower(),
            "pay_currency": COIN,
            "pay_amount": ASKED,
            "pay_address": ADDRESS,
            **fields,
        },
    )


def make_refund_address(refund, address=ADDRESS, extra_id=""):
    """An address that the customer gave, without telling anybody."""
    row = RefundAddress.objects.create(refund=refund, address=address, extra_id=extra_id)
    Refund.objects.filter(pk=refund.pk).update(destination=row)
    refund.refresh_from_db()
    return row


def make_facts(payment, status="finished", **changes):
    """What the provider says of this payment when all is well and `status` is its word."""
    paid = {"finished": ASKED, "partially_paid": ASKED / 2}.get(status, Decimal(0))
    return PaymentFacts(
        **{
            "payment_id": payment.external_id,
            "status": ProviderStatus(status),
            "raw_status": status,
            "price_amount": payment.price_amount,
            "price_currency": payment.price_currency,
            "pay_amount": payment.pay_amount,
            "pay_currency": payment.pay_currency,
            "actually_paid": paid,
            "order_id": str(payment.order_id),
            "parent_payment_id": "",
            "outcome_amount": None,
            "outcome_currency": "",
            "pay_address": payment.pay_address,
            "payin_extra_id": "",
            "purchase_id": "",
            "payment_extra_ids": (),
            "updated_at": None,
            **changes,
        }
    )


def read_answer(payment, status="finished", **changes):
    """The same over the wire: the body of GET /payment/{id}."""
    facts = make_facts(payment, status)
    return {
        "payment_id": int(payment.external_id),
        "payment_status": status,
        "price_amount": float(facts.price_amount),
        "price_currency": facts.price_currency,
        "pay_amount": str(facts.pay_amount),
        "pay_currency": facts.pay_currency,
        "actually_paid": str(facts.actually_paid),
        "order_id": facts.order_id,
        "parent_payment_id": None,
        "pay_address": facts.pay_address,
        **changes,
    }


def created_answer(request_body, **changes):
    """The body of POST /payment for a request, as the provider echoes it."""
    asked = json.loads(request_body)
    return {
        "payment_id": str(next(_ids)),
        "payment_status": "waiting",
        "pay_address": ADDRESS,
        "price_amount": asked["price_amount"],
        "price_currency": asked["price_currency"],
        "pay_amount": str(ASKED),
        "pay_currency": asked["pay_currency"],
        "order_id": asked["order_id"],
        "payin_extra_id": None,
        "network": "btc",
        "purchase_id": "6084744717",
        "expiration_estimate_date": "2999-01-01T00:00:00.000Z",
        "valid_until": "2999-01-08T00:00:00.000Z",
        **changes,
    }


def url(path):
    return f"{settings.NOWPAYMENTS_BASE_URL}{path}"


def on_create(wire, **changes):
    """Have the provider answer the next creations, with these members changed."""

    def answer(request):
        return 201, {}, json.dumps(created_answer(request.body, **changes))

    wire.add_callback(responses.POST, url("/payment"), answer)


def on_read(wire, payment, status="finished", **changes):
    wire.add(responses.GET, url(f"/payment/{payment.external_id}"), json=read_answer(payment, status, **changes))


def alerts():
    return sorted(Alert.objects.values_list("kind", flat=True))


def kinds(order):
    return [mail.kind for mail in order.emails.order_by("pk")][1:]
