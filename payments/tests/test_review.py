from decimal import Decimal

from orders.models import Order
from payments.models import Payment
from payments.review import compare


def test_an_amount_that_was_never_asked_for_is_compared_with_nothing():
    payment = Payment(
        order=Order(), price_amount=Decimal("24.99"), price_currency="eur", pay_currency="btc", evidence={"paid": "0.1"}
    )
    lines = {line.what: line for line in compare(payment)}
    assert [lines["asked"].ours, lines["arrived"].theirs, lines["arrived"].differs] == [
        "–",
        "0.1",
        "nothing to compare it with",
    ]
