"""Links to sealed keys, and handing out what opens them."""

from datetime import UTC, datetime, timedelta

import pytest
import requests

from orders.models import Alert
from storage import services
from storage.exceptions import KeyBelongsElsewhere, KeyShredded, KeyUnreadable
from storage.models import Key, KeyDeliveryLog
from storage.objects import ObjectMissing
from storage.tests.factories import OPENER, SERIAL, claim, end_retention, make_item, make_key, opened

pytestmark = pytest.mark.django_db


def test_a_link_to_r2_opens_without_us_and_ends_in_time(r2, settings):
    settings.SIGNED_URL_TTL_SECONDS = 600
    key = make_key()
    ciphertext = key.ciphertext
    services.upload(claim(key))
    key.refresh_from_db()
    link = services.download_url(key)
    assert requests.get(link.url, timeout=60).content == ciphertext
    assert "X-Amz-Expires=600" in link.url
    assert abs(link.expires_at - datetime.now(UTC) - timedelta(seconds=600)) < timedelta(seconds=5)
    assert link.url not in repr(link)


def test_what_only_r2_holds_is_served_by_us_to_a_browser_that_cannot_reach_it(client, r2, settings):
    key = make_key()
    ciphertext = bytes(key.ciphertext)
    services.upload(claim(key))
    key.refresh_from_db()
    assert key.ciphertext is None
    link = services.fallback_url(key)
    assert link.url.startswith(f"{settings.SITE_URL}/objects/")
    assert client.get(link.url.removeprefix(settings.SITE_URL)).content == ciphertext


def test_a_link_of_ours_names_site_object_and_end(settings):
    settings.SITE_URL = "https://shop.example"
    key = make_key()
    link = services.download_url(key)
    expires = int(link.expires_at.timestamp())
    assert link.url.startswith(f"https://shop.example/objects/{key.object_name}?expires={expires}&signature=")


def test_a_destroyed_key_has_no_link():
    key = make_key()
    services.shred(key, reason="refunded")
    with pytest.raises(KeyShredded):
        services.download_url(key)


def test_an_unknown_or_destroyed_name_leads_nowhere():
    key = make_key()
    services.shred(key, reason="refunded")
    for name in (key.object_name, "unknown"):
        with pytest.raises(ObjectMissing):
            services.read_ciphertext(name)


def test_a_link_made_before_the_upload_still_leads_to_the_key(stub):
    key = make_key()
    ciphertext = key.ciphertext
    services.upload(claim(key))
    assert services.read_ciphertext(key.object_name) == ciphertext


def test_a_changed_object_is_not_handed_out(stub):
    key = make_key()
    services.upload(claim(key))
    stub.fail("GET", "flip a bit")
    with pytest.raises(KeyUnreadable, match="was changed"):
        services.read_ciphertext(key.object_name)
    assert Alert.objects.get().kind == "key_integrity"


def test_a_lost_object_is_reported(stub):
    key = make_key()
    services.upload(claim(key))
    stub.objects.clear()
    with pytest.raises(KeyUnreadable, match="is lost"):
        services.read_ciphertext(key.object_name)
    assert "gone from the store" in Alert.objects.get().message


def test_a_store_that_is_away_is_no_lost_key(stub):
    key = make_key()
    services.upload(claim(key))
    stub.fail("GET", "503", "503")
    with pytest.raises(KeyUnreadable, match="503"):
        services.read_ciphertext(key.object_name)
    assert not Alert.objects.exists()


def test_reveal_hands_out_what_a_browser_needs():
    key = make_key()
    (material,) = services.reveal(order=key.item.order, keys=[key], by=OPENER)
    assert (material.key.pk, material.algorithm) == (key.pk, "A256GCM")
    assert opened(material, bytes(key.ciphertext)) == SERIAL
    assert not {"=", "+", "/"} & set(material.data_key + material.nonce + material.aad)


def test_reveal_keeps_the_order_it_was_asked_in():
    item = make_item()
    keys = [make_key(item, b"key %d" % number) for number in range(4)]
    materials = services.reveal(order=item.order, keys=keys[::-1], by=OPENER)
    assert [material.key.pk for material in materials] == [key.pk for key in keys[::-1]]
    assert [opened(m, bytes(m.key.ciphertext)) for m in materials] == [b"key 3", b"key 2", b"key 1", b"key 0"]


def test_reveal_counts_each_access_and_keeps_the_first_view():
    key = make_key()
    services.reveal(order=key.item.order, keys=[key], by=OPENER)
    first = Key.objects.get().viewed_at
    assert first is not None
    services.reveal(order=key.item.order, keys=[key], by=OPENER)
    log = KeyDeliveryLog.objects.get()
    assert (log.status, log.times_accessed) == ("handed_out", 2)
    assert log.last_accessed_at >= first
    assert Key.objects.get().viewed_at == first


def test_reveal_hides_the_data_key_from_a_repr():
    key = make_key()
    (material,) = services.reveal(order=key.item.order, keys=[key], by=OPENER)
    assert material.data_key not in repr(material)


def test_reveal_of_another_orders_key_is_refused():
    mine, theirs = make_key(), make_key()
    with pytest.raises(KeyBelongsElsewhere):
        services.reveal(order=mine.item.order, keys=[mine, theirs], by=OPENER)
    assert set(KeyDeliveryLog.objects.values_list("times_accessed", flat=True)) == {0}


def test_reveal_of_a_destroyed_key_says_so():
    item = make_item()
    kept, gone = make_key(item), make_key(item)
    services.shred(gone, reason="returned")
    with pytest.raises(KeyShredded):
        services.reveal(order=item.order, keys=[kept, gone], by=OPENER)
    assert KeyDeliveryLog.objects.get(key=kept).times_accessed == 0


def test_reveal_ends_with_the_retention_even_before_the_sweep():
    key = make_key()
    end_retention(key)
    with pytest.raises(KeyShredded, match="retention"):
        services.reveal(order=key.item.order, keys=[key], by=OPENER)
    with pytest.raises(KeyShredded):
        services.ready_keys(key.item.order)


@pytest.mark.parametrize("change", [{"wrapped_data_key": b"x" * 40}, {"master_key_id": "00000000"}])
def test_reveal_of_a_key_we_cannot_open_tells_staff_and_counts_nothing(change):
    key = make_key()
    Key.objects.filter(pk=key.pk).update(**change)
    with pytest.raises(KeyUnreadable):
        services.reveal(order=key.item.order, keys=[key], by=OPENER)
    alert = Alert.objects.get()
    assert (alert.kind, alert.order) == ("key_integrity", key.item.order)
    assert "KEY_ENCRYPTION_SECRET" in alert.message
    assert KeyDeliveryLog.objects.get().times_accessed == 0


def test_reveal_takes_as_many_queries_for_three_keys_as_for_one(django_assert_num_queries):
    item = make_item()
    keys = [make_key(item) for _ in range(3)]
    services.reveal(order=item.order, keys=keys, by=OPENER)  # the first time owes a mail, and notes when it was
    for batch in (keys[:1], keys):
        with django_assert_num_queries(7):
            services.reveal(order=item.order, keys=batch, by=OPENER)


def test_ready_keys_are_those_that_open_oldest_first(django_assert_num_queries):
    item = make_item()
    keys = [make_key(item) for _ in range(3)]
    make_key()
    services.shred(keys[1], reason="returned")
    with django_assert_num_queries(1):
        assert services.ready_keys(item.order) == [keys[0], keys[2]]


def test_an_order_without_keys_has_none_ready():
    assert services.ready_keys(make_item().order) == []
