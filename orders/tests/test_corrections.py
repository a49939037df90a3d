"""What staff mend: a mistyped address, a mail that has to leave once more, a hold of an order that is not paid."""

import pytest

from bitloot.core.decisions import DecisionRefused
from orders import decisions
from orders.access import make_token, open_order
from orders.alerts import raise_alert
from orders.exceptions import LinkReplaced
from orders.models import Alert, Email
from orders.tests.factories import make_email, make_order, make_paid_order, timeline

pytestmark = pytest.mark.django_db
REASON = {"actor": "kim", "reason": "The customer asked."}


def correct(order, email="Right@Example.org"):
    decisions.correct_email(order, email=email, **REASON)


def test_a_corrected_address_ends_old_links_and_both_addresses_get_a_mail():
    order = make_order(email="wrong@example.org")
    token = make_token(order, "mail")
    failed = make_email(order=order, status="failed", next_attempt_at=None)
    raise_alert("mail_failed", failed, "It failed.")
    correct(order)
    order.refresh_from_db()
    assert [order.email, order.link_generation] == ["Right@example.org", 2]
    with pytest.raises(LinkReplaced):
        open_order(order.pk, token)
    mails = set(order.emails.filter(status="queued").values_list("kind", "to"))
    assert mails == {
        ("order_received", "Right@example.org"),
        ("address_corrected", "Right@example.org"),
        ("address_replaced", "wrong@example.org"),
    }
    assert Alert.objects.get().status == "closed"
    assert [event.kind for event in order.events.filter(actor="kim")] == ["mail", "staff"]


@pytest.mark.parametrize("email", ["wrong@example.org", " WRONG@example.org", "no address"])
def test_the_same_address_and_one_that_is_none_are_refused(email):
    order = make_order(email="wrong@example.org")
    with pytest.raises(DecisionRefused):
        correct(order, email)
    order.refresh_from_db()
    assert [order.email, order.link_generation] == ["wrong@example.org", 1]


def test_an_expensive_paid_order_takes_a_second_member_of_staff(settings):
    settings.APPROVAL_LIMIT = 20
    assert decisions.correction_takes_two(make_paid_order(), {}) is True
    assert decisions.correction_takes_two(make_order(), {}) is False
    settings.APPROVAL_LIMIT = 100
    assert decisions.correction_takes_two(make_paid_order(), {}) is False


@pytest.mark.parametrize("status", ["sent", "failed"])
def test_a_mail_is_sent_again_once(status):
    mail = make_email(status=status, next_attempt_at=None, attempts=7, crashes=3, error="No.")
    raise_alert("mail_failed", mail, "It failed.")
    decisions.send_again(mail, actor="kim")
    with pytest.raises(DecisionRefused):
        decisions.send_again(mail, actor="kim")
    mail.refresh_from_db()
    assert [mail.status, mail.attempts, mail.crashes, mail.error] == ["queued", 0, 0, ""]
    assert mail in Email.objects.due()
    assert Alert.objects.get().status == "closed"


@pytest.mark.parametrize("before", ["pending", "underpaid"])
def test_the_hold_of_an_order_that_is_not_paid_can_be_undone(before):
    order = make_order(status=before, expires_at="2020-01-01T00:00:00Z")
    decisions.hold(order, **REASON)
    order.refresh_from_db()
    decisions.release(order, **REASON)
    order.refresh_from_db()
    assert [order.status, order.reason] == [before, ""]
    assert order.expires_at > order.created_at
    assert Alert.objects.get().status == "closed"
    assert timeline(order)[-2][2] == before


def test_an_order_whose_only_payment_was_ended_in_review_can_be_cancelled():
    order = make_order()
    order.events.create(kind="payment", from_status="creating", to_status="review", message="Mismatch.")
    assert "Decide about that payment" in decisions.objection_to_cancelling(order)
    order.events.create(kind="payment", from_status="review", to_status="cancelled", message="Ended.")
    assert decisions.objection_to_cancelling(order) is None
    assert decisions.objection_to_giving_back(order) is not None
