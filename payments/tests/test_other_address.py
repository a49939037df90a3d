import pytest

from orders.alerts import close_alert
from orders.models import Alert
from payments.settlement import apply
from payments.tests.factories import ADDRESS, alerts, make_facts, make_payment

pytestmark = pytest.mark.django_db
OTHER = "bc1" + "p" * 39


def read(payment, status="waiting", **changes):
    outcome = apply(payment, make_facts(payment, status, **changes))
    payment.refresh_from_db()
    return outcome


def test_another_address_is_told_once_and_not_taken():
    payment = make_payment()
    for _ in range(2):
        read(payment, pay_address=OTHER)
    alert = Alert.objects.get()
    assert [alert.kind, alert.times, alert.order, OTHER in alert.message] == ["other_address", 1, payment.order, True]
    assert [payment.pay_address, payment.evidence["other_address"]] == [ADDRESS, OTHER]


def test_money_follows_the_payment_whatever_its_address():
    payment = make_payment()
    assert read(payment, "finished", pay_address=OTHER) == "paid"
    assert alerts() == ["other_address"]


def test_an_alert_that_staff_closed_comes_back_with_a_third_address_only():
    payment = make_payment()
    read(payment, pay_address=OTHER)
    close_alert("other_address", payment, by="ada")
    read(payment, pay_address=OTHER)
    read(payment, pay_address="")  # left out: nothing new
    assert [payment.evidence["other_address"], Alert.objects.filter(status="open").count()] == [OTHER, 0]
    read(payment, pay_address="bc1third")
    assert Alert.objects.filter(status="open").count() == 1


def test_the_first_address_named_again_closes_the_alert():
    payment = make_payment()
    read(payment, pay_address=OTHER)
    read(payment)
    assert [Alert.objects.get().status, "other_address" in payment.evidence] == ["closed", False]


@pytest.mark.parametrize(
    ("shown", "named", "differs"),
    [
        ({"pay_address": "0xAbCd"}, {"pay_address": "0xabcd"}, False),
        ({"pay_address": "qpm2"}, {"pay_address": "bitcoincash:qpm2"}, False),
        ({"pay_address": ""}, {"pay_address": OTHER}, False),  # nobody was shown one
        ({"payin_extra_id": "7"}, {"payin_extra_id": "7"}, False),
        ({"payin_extra_id": "7"}, {"payin_extra_id": ""}, False),  # some answers leave it out
        ({"payin_extra_id": "7"}, {"payin_extra_id": "8"}, True),
    ],
    ids=str,
)
def test_what_is_another_address(shown, named, differs):
    payment = make_payment(**shown)
    read(payment, **named)
    assert alerts() == (["other_address"] if differs else [])
