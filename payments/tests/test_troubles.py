import pytest

from payments.choices import ReviewReason
from payments.models import Payment
from payments.troubles import trouble_of


def read(reason, status="review"):
    return trouble_of(Payment(status=status, reason=reason))


@pytest.mark.parametrize(
    ("reason", "headline"),
    [
        ("late_rate", "Your coins came too late"),
        ("other_coin", "Your coins came, but not as asked"),
        ("child_payment", "Your coins came, but not as asked"),
        ("too_little", "What arrived does not cover the price"),
        ("expired_with_money", "Your coins came after the end"),
        ("second_payment", "A second payment came"),
        ("other_order", "Our staff are looking at your payment"),
    ],
)
def test_each_kind_of_trouble_has_its_headline(reason, headline):
    assert read(reason).headline == headline


@pytest.mark.parametrize("reason", ReviewReason.values)
def test_a_customer_reads_what_happens_next_and_never_our_word_for_it(reason):
    trouble = read(reason)
    assert "e-mail you" in trouble.sentence
    assert reason not in trouble.sentence


def test_a_payment_that_needs_nobody_has_no_trouble():
    assert read("too_little", status="partially_paid") is None


def test_money_beside_a_paid_order_can_only_go_back():
    payment = Payment(status="review", reason="child_payment")
    assert trouble_of(payment, is_beside=True).headline == "A second payment came"
