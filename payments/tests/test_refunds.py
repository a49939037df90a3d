import uuid
from decimal import Decimal

import pytest

from bitloot.core.decisions import DecisionRefused
from orders.models import Alert
from orders.tests.factories import make_order, timeline
from payments import refunds, settlement
from payments.exceptions import AddressRefused
from payments.models import Payment, Refund
from payments.tests.decisions import HALF, TXID, WHY, mails, money_in, now, refund_of, story
from payments.tests.factories import ADDRESS, make_coin, make_payment

pytestmark = pytest.mark.django_db

# --- give back


@pytest.mark.parametrize("order_status", ["pending", "underpaid", "held", "paid", "fulfilling", "expired", "cancelled"])
def test_a_refund_owes_the_order_back(order_status):
    payment = money_in(make_order(status=order_status))
    refund = refund_of(payment)
    assert (refund.status, refund.amount, refund.currency) == ("requested", Decimal("0.0012"), "btc")
    assert (refund.order, refund.payment, refund.reason) == (payment.order, payment, WHY)
    assert (now(payment), now(payment.order), payment.order.reason) == ("review", "refund_due", "refund_requested")
    assert mails(payment.order) == ["problem"]
    sentence = "We return 0.0012 BTC to you. Open your order and tell us the address they go to."
    assert payment.order.emails.get(kind="problem").reason == sentence
    assert story(payment.order) == [
        ("refund", "0.0012 BTC go back to the customer.", "ada"),
        ("order", "The payment goes back.", "ada"),
    ]


@pytest.mark.parametrize("reason", ["", "   ", "ok", "1234"])
def test_a_refund_needs_a_reason(reason):
    with pytest.raises(DecisionRefused, match="Say why"):
        refunds.request_refund(money_in(), actor="ada", reason=reason)
    assert not Refund.objects.exists()


def test_five_characters_are_a_reason_to_refund():
    assert refunds.request_refund(money_in(), actor="ada", reason="fraud").reason == "fraud"


def test_a_long_reason_to_refund_is_cut_to_what_its_column_takes():
    assert refunds.request_refund(money_in(), actor="ada", reason="x" * 400).reason == "x" * 200


def test_a_refund_closes_the_alert():
    payment = money_in()
    settlement.alert(payment.order, payment, "too_little")
    refund_of(payment)
    assert list(Alert.objects.values_list("kind", "status", "closed_by")) == [("payment_review", "closed", "ada")]


def test_a_delivered_order_keeps_its_keys():
    payment = money_in(make_order(status="fulfilled"), "finished")
    refund_of(payment)
    assert now(payment.order) == "fulfilled"


def test_an_order_that_stands_on_another_payment_goes_on():
    order = make_order(status="paid")
    make_payment(order, "finished")
    refund_of(money_in(order))
    assert now(order) == "paid"


@pytest.mark.parametrize("fields", [{"actually_paid": Decimal(0)}, {"status": "refunded"}])
def test_what_did_not_come_does_not_go_back(fields):
    with pytest.raises(DecisionRefused, match="No coins came"):
        refund_of(money_in(**fields))
    assert not Refund.objects.exists()


@pytest.mark.parametrize("status", ["requested", "sent", "done"])
def test_a_payment_goes_back_once(status):
    payment = money_in()
    Refund.objects.filter(pk=refund_of(payment).pk).update(status=status)
    with pytest.raises(DecisionRefused, match="has a refund already"):
        refund_of(payment)
    assert Refund.objects.count() == 1


def test_every_payment_with_money_of_an_order_goes_back_once():
    order = make_order(status="held")
    part, whole = make_payment(order, **HALF), money_in(order)
    make_payment(order)
    money_in(order, "refunded")
    first = refund_of(part)
    assert now(order) == "refund_due"
    assert {refund.payment_id for refund in order.refunds.all()} == {part.pk, whole.pk}
    refunds.owe_back(order)
    assert order.refunds.count() == 2
    assert order.refunds.exclude(pk=first.pk).get().reason == "refund_requested"


@pytest.mark.parametrize(("reason", "kept"), [("supplier_cancelled", "supplier_cancelled"), ("", "refund due")])
def test_money_that_the_machine_owes_back_keeps_the_orders_reason(reason, kept):
    payment = money_in(make_order(status="refund_due", reason=reason))
    refunds.owe_back(payment.order)
    assert payment.refunds.get().reason == kept
    assert story(payment.order) == [("refund", "0.0012 BTC go back to the customer.", "")]


# --- the address


def test_an_address_may_be_changed_until_the_coins_are_sent():
    make_coin(wallet_regex="^bc1[a-z0-9]{39}$")
    refund = refund_of(money_in())
    for last in "qp":
        address = "bc1" + "q" * 38 + last
        refunds.set_refund_address(order=refund.order, refund_id=refund.pk, address=f" {address}\n")
    refund.refresh_from_db()
    assert (refund.address, refund.extra_id) == ("bc1" + "q" * 38 + "p", "")
    assert story(refund.order)[-2:] == [("refund", "An address for the refund was given.", "")] * 2
    alert = Alert.objects.get(kind="refund_to_send")
    assert (alert.status, alert.times, alert.about_pk) == ("open", 2, str(refund.pk))
    assert alert.message == (
        f"The customer gave an address for refund {refund.pk}. Send 0.0012 BTC, then enter the transaction id."
    )
    refunds.mark_sent(refund, actor="ada", transaction_id=TXID)
    with pytest.raises(AddressRefused, match="does not wait for an address"):
        refunds.set_refund_address(order=refund.order, refund_id=refund.pk, address=ADDRESS)


@pytest.mark.parametrize(
    "address",
    ["", "bc1", "bc1" + "q" * 40, "BC1" + "q" * 39, "bc1" + "q" * 38 + "é", "bc1 " + "q" * 39, "x" * 201, "<script>"],
)
def test_what_is_no_address_of_the_coin_is_refused(address):
    make_coin(wallet_regex="^bc1[a-z0-9]{39}$")
    refund = refund_of(money_in())
    with pytest.raises(AddressRefused, match="not an address"):
        refunds.set_refund_address(order=refund.order, refund_id=refund.pk, address=address)
    assert not Refund.objects.exclude(address="").exists()


@pytest.mark.parametrize(
    ("address", "is_one"),
    [("x" * 7, False), ("x" * 8, True), ("x" * 200, True), ("x" * 201, False), ("x x" * 3, False), ("é" * 9, False)],
)
def test_without_a_pattern_an_address_is_8_to_200_visible_characters(address, is_one):
    refund = refund_of(money_in())
    if is_one:
        refunds.set_refund_address(order=refund.order, refund_id=refund.pk, address=address)
    else:
        with pytest.raises(AddressRefused, match="This is not an address"):
            refunds.set_refund_address(order=refund.order, refund_id=refund.pk, address=address)
    refund.refresh_from_db()
    assert refund.address == (address if is_one else "")


@pytest.mark.parametrize("pattern", ["", "([", "(?<name"])
def test_a_pattern_that_says_nothing_stops_nobody(pattern):
    make_coin(wallet_regex=pattern)
    refund = refund_of(money_in())
    assert refunds.set_refund_address(order=refund.order, refund_id=refund.pk, address=ADDRESS).address == ADDRESS


def test_a_coin_we_no_longer_know_takes_any_address():
    refund = refund_of(money_in())
    assert refunds.set_refund_address(order=refund.order, refund_id=refund.pk, address=ADDRESS).address == ADDRESS


@pytest.mark.parametrize("memo", ["", " ", "a b", "m" * 101])
def test_a_coin_with_memos_needs_one(memo):
    make_coin(needs_memo=True)
    refund = refund_of(money_in())
    with pytest.raises(AddressRefused, match="memo or tag"):
        refunds.set_refund_address(order=refund.order, refund_id=refund.pk, address=ADDRESS, extra_id=memo)
    kept = refunds.set_refund_address(order=refund.order, refund_id=refund.pk, address=ADDRESS, extra_id=" 12345 ")
    assert kept.extra_id == "12345"


def test_an_address_is_for_a_refund_of_the_same_order():
    refund, other = refund_of(money_in()), make_order()
    for order, refund_id in ((other, refund.pk), (refund.order, uuid.uuid4())):
        with pytest.raises(AddressRefused):
            refunds.set_refund_address(order=order, refund_id=refund_id, address=ADDRESS)


# --- sent and done


@pytest.fixture
def addressed():
    refund = refund_of(money_in())
    return refunds.set_refund_address(order=refund.order, refund_id=refund.pk, address=ADDRESS)


@pytest.mark.parametrize("transaction_id", ["", "12345", "with space", "x" * 201, "ümläut"])
def test_sent_needs_a_transaction_id(addressed, transaction_id):
    with pytest.raises(DecisionRefused, match="transaction id"):
        refunds.mark_sent(addressed, actor="ada", transaction_id=transaction_id)
    assert now(addressed) == "requested"


def test_sent_needs_an_address():
    refund = refund_of(money_in())
    with pytest.raises(DecisionRefused, match="not given an address"):
        refunds.mark_sent(refund, actor="ada", transaction_id=TXID)


def test_two_who_sent_the_same_refund_are_told(addressed):
    refunds.mark_sent(addressed, actor="ada", transaction_id=TXID)
    refunds.mark_sent(addressed, actor="ada", transaction_id=f" {TXID} ")
    with pytest.raises(DecisionRefused, match="sent twice"):
        refunds.mark_sent(addressed, actor="bob", transaction_id=TXID[:-1] + "3")
    addressed.refresh_from_db()
    assert (addressed.status, addressed.transaction_id, addressed.sent_at is None) == ("sent", TXID, False)
    assert timeline(addressed.order).count(("refund", "requested", "sent")) == 1
    assert story(addressed.order)[-1] == ("refund", "The refund was sent.", "ada")


def test_done_before_sent_is_refused(addressed):
    with pytest.raises(DecisionRefused, match="cannot become “done”"):
        refunds.mark_done(addressed, actor="ada")
    assert now(addressed) == "requested"


def test_the_order_is_refunded_with_its_last_refund():
    order = make_order(status="held")
    payments = [make_payment(order, **HALF), money_in(order)]
    refund_of(payments[0])
    for refund in order.refunds.all():
        assert now(order) == "refund_due"
        refunds.set_refund_address(order=order, refund_id=refund.pk, address=ADDRESS)
        refunds.mark_sent(refund, actor="ada", transaction_id=TXID)
        refunds.mark_done(refund, actor="ada")
        with pytest.raises(DecisionRefused, match="cannot become “done”"):
            refunds.mark_done(refund, actor="ada")
    assert (now(order), [now(payment) for payment in payments]) == ("refunded", ["refunded", "refunded"])
    assert set(order.refunds.values_list("status", flat=True)) == {"done"}
    assert story(order)[-3:] == [
        ("refund", "The refund has arrived.", "ada"),
        ("payment", "The money of this payment went back.", "ada"),
        ("order", "Your money was sent back.", "ada"),
    ]
    assert not Alert.objects.filter(status="open").exists()


def test_a_refund_without_a_payment_or_of_an_odd_one_is_done_all_the_same(addressed):
    Payment.objects.filter(pk=addressed.payment_id).update(status="waiting")
    by_hand = Refund.objects.create(order=addressed.order, amount=1, currency="btc", address=ADDRESS, reason="by hand")
    for refund in (addressed, by_hand):
        refunds.mark_sent(refund, actor="ada", transaction_id=TXID)
        refunds.mark_done(refund, actor="ada")
    assert now(addressed.order) == "refunded"


def test_coins_that_the_provider_sent_back_are_not_sent_again(world):
    world.choose("btc")
    world.deliver(world.says(0, "finished", paid=1))
    world.refund(0)
    world.give_addresses()
    world.deliver(world.says(0, "refunded"))
    assert world.refunds() == ("sent 0.00043087 btc",)
    assert not Alert.objects.filter(kind="refund_to_send", status="open").exists()
    with pytest.raises(DecisionRefused, match="sent twice"):
        refunds.mark_sent(Refund.objects.get(), actor="ada", transaction_id=TXID)
    world.finish_refunds()
    assert (world.refunds(), world.order_now()) == (("done 0.00043087 btc",), "refunded")
