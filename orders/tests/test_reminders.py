"""Alerts that stay open are sent again, and quiet hours hold back what is not urgent: seen at a real receiver."""

from datetime import timedelta

import pytest
from django.conf import settings
from django.core import mail as outbox
from django.db.models.functions import Now
from django.utils import timezone

from bitloot.environment import quiet_hours
from orders.alerts import close_alert, raise_alert
from orders.choices import AlertKind
from orders.models import Alert, Email, Notification
from orders.tasks import drain_mails, drain_notifications, remind
from orders.tests.factories import make_order, make_product
from orders.tests.test_notifications import receiver  # noqa: F401

pytestmark = [pytest.mark.django_db, pytest.mark.once, pytest.mark.usefixtures("receiver")]
HOUR = timedelta(hours=1)


def hours(begin, end):
    """Quiet hours that begin and end that many hours from now."""
    now = timezone.now()
    return quiet_hours(f"{now + begin * HOUR:%H:%M}-{now + end * HOUR:%H:%M}")


def later(alert, **fields):
    """Let the time come at which the alert is told of next."""
    Alert.objects.filter(pk=alert.pk).update(notify_at=Now(), **fields)
    told = remind()
    alert.refresh_from_db()
    return told


def pause(alert):
    alert.refresh_from_db()
    return round((alert.notify_at - timezone.now()) / HOUR)


def messages(receiver):  # noqa: F811
    drain_notifications()
    return [posted["message"].partition("\n")[0] for _, posted in receiver.posted]


def test_an_open_alert_is_sent_again_after_growing_pauses(receiver):  # noqa: F811
    alert = raise_alert("order_held", "order 1", "Decide about it.")
    pauses = [pause(alert)]
    for _ in range(7):
        assert later(alert) == 1
        pauses.append(pause(alert))
    assert pauses == [4, 8, 16, 32, 64, 128, 168, 168]
    assert len(messages(receiver)) == Notification.objects.filter(status="sent").count() == 8
    since = f"Still open since {alert.opened_at:%d %B %Y, %H:%M} UTC."
    first, second = (posted for _, posted in receiver.posted[:2])
    assert ("Still open" in first["message"], since in second["message"]) == (False, True)
    assert (second["title"].endswith("Order held (still open)"), remind()) == (True, 0)


def test_an_urgent_alert_is_sent_again_at_least_daily():
    alert = raise_alert("supplier_down", "kinguin.example", "It is away.")
    for _ in range(5):
        later(alert)
    assert pause(alert) == 24


def test_subjects_say_what_it_is_about_and_nothing_of_the_customer():
    product, order = make_product(title="Salt & Stone"), make_order()
    raise_alert(AlertKind.PRODUCT_GONE, product, "Kinguin does not list it any more.")
    raise_alert(AlertKind.PAYMENTS_DOWN, "NOWPayments", "It is away.")
    raise_alert(AlertKind.ORDER_HELD, order, "Decide about it.", order=order)
    drain_mails()
    assert {message.subject for message in outbox.outbox if message.to == ["kim@shop.example"]} == {
        f"{settings.STORE_NAME}: Product gone at the supplier – Salt & Stone",
        f"{settings.STORE_NAME}: Payment provider down – NOWPayments",
        f"{settings.STORE_NAME}: Order held – {order.items.get().title}, order {order.pk}",
    }


def test_mails_say_that_it_is_still_open():
    alert = raise_alert("order_held", "order 1", "Decide about it.")
    later(alert)
    drain_mails()
    *_, first, again = [message for message in outbox.outbox if message.to == ["kim@shop.example"]]
    assert ["Still open" in message.subject for message in (first, again)] == [False, True]
    assert "Still open since " in again.body
    assert "another one if it is still open at " in first.body


def test_what_happens_again_is_counted_and_not_sent(receiver):  # noqa: F811
    for _ in range(5):
        alert = raise_alert("order_held", "order 1", "Decide about it.")
    assert (alert.times, remind(), len(messages(receiver))) == (5, 0, 1)


def test_a_closed_alert_is_not_sent_again(receiver):  # noqa: F811
    alert = raise_alert("order_held", "order 1", "Decide about it.")
    drain_notifications()
    drain_mails()
    later(alert)
    close_alert("order_held", "order 1")  # after the reminder was owed, before it was sent
    drain_notifications()
    drain_mails()
    assert len(receiver.posted) == 1
    assert list(Notification.objects.order_by("pk").values_list("status", flat=True)) == ["sent", "overtaken"]
    assert Email.objects.filter(status="overtaken").count() == 2
    assert later(alert) == 0


def test_reminders_can_be_switched_off(settings):
    settings.ALERT_REPEAT_HOURS = 0
    alert = raise_alert("order_held", "order 1", "Decide about it.")
    assert alert.notify_at is None


def test_quiet_hours_hold_back_what_is_not_urgent(receiver, settings):  # noqa: F811
    settings.ALERT_QUIET_HOURS = hours(-1, 2)
    held, gone = (raise_alert("order_held", f"order {number}", f"Decide about {number}.") for number in (1, 2))
    raise_alert("supplier_down", "kinguin.example", "It is away.")
    assert (messages(receiver), Email.objects.filter(alert=held).exists()) == (["It is away."], False)
    assert (pause(held), remind()) == (2, 0)
    close_alert("order_held", "order 2")
    assert (later(held), len(messages(receiver))) == (0, 1)  # due, but still quiet
    settings.ALERT_QUIET_HOURS = hours(-3, -1)
    assert [later(held), later(gone)] == [1, 0]
    assert messages(receiver) == ["It is away.", "Decide about 1."]
    held.refresh_from_db()
    assert (held.notices, "Still open" in receiver.posted[-1][1]["message"]) == (1, False)


def test_two_sweeps_owe_one_notice():
    alert = raise_alert("order_held", "order 1", "Decide about it.")
    Alert.objects.filter(pk=alert.pk).update(notify_at=Now())
    stale = Alert.objects.get(pk=alert.pk)
    assert remind() == 1
    from orders.notifications import _tell

    assert (_tell(stale), Notification.objects.count()) == (False, 2)


def test_every_kind_says_whether_it_is_urgent():
    urgent = {kind for kind in AlertKind if kind.is_urgent}
    assert AlertKind.WORK_LATE in urgent
    assert AlertKind.MAIL_FAILED not in urgent
