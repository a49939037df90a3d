import pytest
from django.db.models.functions import Now

from orders.models import Alert
from storage.downloads import report_download
from storage.exceptions import KeyBelongsElsewhere
from storage.models import Key, KeyDeliveryLog
from storage.services import reveal
from storage.tests.factories import OPENER, make_item, make_key

pytestmark = pytest.mark.django_db


def handed_out(**fields):
    key = make_key()
    reveal(order=key.item.order, keys=[key], by=OPENER)
    Key.objects.filter(pk=key.pk).update(**fields)
    return key


def report(key, result):
    report_download(order=key.item.order, key_id=key.pk, result=result)
    log = KeyDeliveryLog.objects.get(key=key)
    return log.status, list(Alert.objects.order_by("pk").values_list("kind", "status"))


IN_STORE = {"status": "stored", "ciphertext": None}
OPEN, CLOSED = [("browser_download", "open")], [("browser_download", "closed")]


@pytest.mark.usefixtures("stub")
def test_trouble_with_the_store_is_one_alert_which_a_download_closes():
    first, second = handed_out(**IN_STORE), handed_out(**IN_STORE)
    assert KeyDeliveryLog.objects.get(key=first).status == "handed_out"
    assert report(first, "opened_from_shop") == ("opened", OPEN)
    assert report(second, "opened_from_shop") == ("opened", OPEN)
    assert Alert.objects.get().times == 2
    assert report(second, "opened") == ("opened", CLOSED)


@pytest.mark.usefixtures("stub")
def test_one_key_has_staff_mailed_once_an_hour():
    key = handed_out(**IN_STORE)
    report(key, "opened_from_shop")
    report(key, "opened")
    assert report(key, "opened_from_shop")[1] == CLOSED
    KeyDeliveryLog.objects.update(trouble_at="2020-01-01T00:00:00Z")
    assert report(key, "opened_from_shop")[1] == [*CLOSED, *OPEN]


def test_a_key_that_our_database_serves_says_nothing_about_the_store():
    assert report(handed_out(), "opened_from_shop") == ("opened", [])


def test_a_key_that_does_not_open_at_all_is_an_alert_until_it_does():
    key = handed_out()
    assert report(key, "not_opened") == ("handed_out", [("key_not_opened", "open")])
    assert report(key, "opened") == ("opened", [("key_not_opened", "closed")])


def test_what_was_opened_stays_opened_when_it_is_handed_out_again():
    key = handed_out()
    report(key, "opened")
    reveal(order=key.item.order, keys=[key], by=OPENER)
    log = KeyDeliveryLog.objects.get()
    assert [log.status, log.times_accessed, log.opened_at is None] == ["opened", 2, False]


def test_only_a_key_that_was_handed_out_to_this_order_is_reported():
    key, other = make_key(), make_item().order
    for order in (key.item.order, other):
        with pytest.raises(KeyBelongsElsewhere):
            report_download(order=order, key_id=key.pk, result="opened")
    assert KeyDeliveryLog.objects.filter(opened_at__lte=Now()).count() == 0
